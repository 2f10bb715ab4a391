// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// Small files that must be there whole, or not at all.
public enum Files {
    /// Reads a file; `nil` when there is none.
    public static func read(_ path: String) throws(SystemError) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        if file < 0 {
            if errno == ENOENT { return nil }
            throw SystemError(errno, "read \(path)")
        }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw SystemError(errno, "read \(path)") }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }

    /// Reads a part of a file; shorter at its end.
    public static func read(_ path: String, from offset: UInt64, count: Int) throws(SystemError) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        if file < 0 { throw SystemError(errno, "read \(path)") }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: count)
        var at = 0
        while at < count {
            let result = bytes.withUnsafeMutableBytes {
                pread(file, $0.baseAddress?.advanced(by: at), count - at, off_t(offset) + off_t(at))
            }
            if result < 0, errno == EINTR { continue }
            if result < 0 { throw SystemError(errno, "read \(path)") }
            if result == 0 { break }
            at += result
        }
        return Array(bytes[..<at])
    }

    /// Writes a part of a file, which is made if there is none. Not durable until ``sync(_:)``.
    public static func write(_ bytes: [UInt8], to path: String, at offset: UInt64) throws(SystemError) {
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        if file < 0 { throw SystemError(errno, "write \(path)") }
        defer { close(file) }
        try writeAll(bytes, file, at: offset, path)
    }

    /// The bytes of a file, or 0.
    public static func size(_ path: String) -> UInt64 {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_size) : 0
    }

    /// Puts a file in place: readers see the old one or the new one, and after a power cut one of them is there.
    ///
    /// - Parameter mode: permissions; nobody else may read it unless said.
    public static func replace(_ path: String, _ bytes: [UInt8], mode: mode_t = 0o600) throws(SystemError) {
        let temporary = path + ".new"
        let file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        if file < 0 { throw SystemError(errno, "write \(temporary)") }
        do throws(SystemError) {
            try writeAll(bytes, file, at: 0, temporary)
            if fsync(file) < 0 { throw SystemError(errno, "write \(temporary)") }
            close(file)
        } catch {
            close(file)
            unlink(temporary)
            throw error
        }
        try rename(temporary, to: path)
    }

    /// Gives a file that is durable another name, durably.
    public static func rename(_ path: String, to other: String) throws(SystemError) {
        if Glibc.rename(path, other) < 0 { throw SystemError(errno, "put \(other) in place") }
        let end = other.lastIndex(of: "/")
        let directory = end.map { String(other[..<$0]) } ?? "."
        let handle = open(directory.isEmpty ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if handle < 0 { throw SystemError(errno, "put \(other) in place") }
        defer { close(handle) }
        if fsync(handle) < 0 { throw SystemError(errno, "put \(other) in place") }
    }

    /// Makes what was written to a file durable.
    public static func sync(_ path: String) throws(SystemError) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        if file < 0 { throw SystemError(errno, "write \(path)") }
        defer { close(file) }
        if fsync(file) < 0 { throw SystemError(errno, "write \(path)") }
    }

    /// Removes a file, if it is there.
    public static func remove(_ path: String) { unlink(path) }

    /// Makes a directory that nobody else may look into, if it is not there.
    public static func makeDirectory(_ path: String) throws(SystemError) {
        if mkdir(path, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make the directory \(path)") }
    }

    private static func writeAll(_ bytes: [UInt8], _ file: Int32, at offset: UInt64, _ path: String) throws(SystemError)
    {
        var at = 0
        while at < bytes.count {
            let result = bytes.withUnsafeBytes {
                pwrite(file, $0.baseAddress?.advanced(by: at), bytes.count - at, off_t(offset) + off_t(at))
            }
            if result < 0, errno == EINTR { continue }
            if result < 0 { throw SystemError(errno, "write \(path)") }
            at += result
        }
    }
}
