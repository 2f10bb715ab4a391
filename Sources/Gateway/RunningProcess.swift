// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// The name of the program that a process runs; `nil`: there is none, or it has ended and nobody asked how.
func nameOfProcess(_ pid: Int32) -> String? {
    guard let text = shortText(of: "/proc/\(pid)/stat"), let start = text.firstIndex(of: "("),
        let end = text.lastIndex(of: ")"), start < end
    else { return nil }
    // "42 (a name) S ...": a name may have anything in it.
    let state = text[text.index(after: end)...].split(separator: " ").first
    return state == "Z" || state == "X" ? nil : String(text[text.index(after: start)..<end])
}

/// A short text, without the end of its last line; `nil` where there is none.
///
/// - Parameter most: bytes that are read, at least.
func shortText(of file: String, atMost most: Int = 4096) -> String? {
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

/// What a process was started with; empty where that is not known.
func commandOfProcess(_ pid: Int32) -> [String] {
    (shortText(of: "/proc/\(pid)/cmdline", atMost: 65_536) ?? "").split(separator: "\0").map(String.init)
}

/// The numbers of all processes.
var processes: [Int32] {
    guard let directory = opendir("/proc") else { return [] }
    defer { closedir(directory) }
    var list: [Int32] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if let pid = Int32(name) { list.append(pid) }
    }
    return list
}

/// Waits until daemons ended that an earlier run of a node left, and whose last words are being carried; kills them when that takes
/// too long.
///
/// - Parameter files: what the names of their files begin with.
func awaitEnd(ofDaemonsOf files: [String]) {
    func left() -> [Int32] {
        processes.filter { pid in
            guard let name = nameOfProcess(pid), name == "bird" || FRRPlace.program(name) != nil else { return false }
            return commandOfProcess(pid).contains { word in files.contains { word.hasPrefix($0) } }
        }
    }
    for _ in 0..<300 {
        if left().isEmpty { return }
        usleep(10_000)
    }
    for pid in left() { kill(pid, SIGKILL) }
}
