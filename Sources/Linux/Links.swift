// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Where a symbolic link points; `nil` when that can't be read.
public func targetOfLink(_ path: String) -> String? {
    var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink(path, &bytes, bytes.count)
    return count < 0 ? nil : String(decoding: bytes.prefix(count).lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A path from the root, without links and dots.
public func realPath(_ path: String) throws(SystemError) -> String {
    guard let real = realpath(path, nil) else { throw SystemError(errno, "find \(path)") }
    defer { free(real) }
    return String(cString: real)
}
