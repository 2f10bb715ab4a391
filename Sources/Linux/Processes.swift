// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A process of this host, by what the kernel tells of it (proc(5)).
public struct RunningProcess: Sendable {
    /// Its number; a later process may have the same.
    public let pid: Int32

    /// The process of a number.
    public init(_ pid: Int32) { self.pid = pid }

    /// All of them.
    public static var all: [RunningProcess] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var list: [RunningProcess] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let pid = Int32(name) { list.append(RunningProcess(pid)) }
        }
        return list
    }

    /// The name of the program that it runs, 15 bytes at most; `nil`: there is no such process, or it has ended and nobody asked how.
    public var name: String? {
        guard let text = shortText(of: "/proc/\(pid)/stat"), let start = text.firstIndex(of: "("),
            let end = text.lastIndex(of: ")"), start < end
        else { return nil }
        // "42 (a name) S ...": a name may have anything in it.
        let state = text[text.index(after: end)...].split(separator: " ").first
        return state == "Z" || state == "X" ? nil : String(text[text.index(after: start)..<end])
    }

    /// What it was started with; empty where that is not known.
    public var command: [String] {
        (shortText(of: "/proc/\(pid)/cmdline", atMost: 65_536) ?? "").split(separator: "\0").map(String.init)
    }

    /// Whether it is in the same namespace as this thread; false where that is not known.
    ///
    /// - Parameter kind: as in `/proc/PID/ns`: `net`, `mnt`.
    public func shares(_ kind: String) -> Bool {
        guard let own = targetOfLink("/proc/thread-self/ns/\(kind)") else { return false }
        return targetOfLink("/proc/\(pid)/ns/\(kind)") == own
    }
}

/// A short text, without the end of its last line; `nil` where there is none.
///
/// - Parameter most: bytes that are read, at least.
public func shortText(of file: String, atMost most: Int = 4096) -> String? {
    let number = open(file, O_RDONLY | O_CLOEXEC)
    if number < 0 { return nil }
    let descriptor = Descriptor(number)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while bytes.count < most, case let count = read(descriptor.number, &buffer, buffer.count), count > 0 {
        bytes += buffer[..<count]
    }
    var text = String(decoding: bytes, as: UTF8.self)
    while text.last?.isNewline == true { text.removeLast() }
    return text
}
