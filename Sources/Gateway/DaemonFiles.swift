// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// Writes a file that only we, and daemons of the same user, read.
func writeFile(_ text: String, to file: String, mode: mode_t = 0o600) throws {
    let descriptor = Glibc.open(file, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode)
    if descriptor < 0 { throw SystemError(errno, "write \(file)") }
    defer { Glibc.close(descriptor) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { throw SystemError(errno, "write \(file)") }
        bytes = bytes.dropFirst(count)
    }
}

/// What is added to the nice value of routing daemons: they do little, and who of them speaks BFD has a fraction of a second for
/// it, whatever a host's machines compute. As much as Open vSwitch's own daemon has by default.
let routingNiceness: Int32 = -10

/// A program that ends by itself, soon.
enum ShortProgram {
    /// How long one may take, nanoseconds.
    private static let patience: UInt64 = 10_000_000_000

    /// Runs it; how it ended, and its words.
    ///
    /// - Parameters:
    ///   - output: a file for its words.
    ///   - niceness: what is added to its nice value, and to what stays of it.
    static func run(
        _ program: String, _ arguments: [String], output: String, niceness: Int32 = 0
    ) throws -> (status: Int32, words: String) {
        let words = open(output, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0o600)
        if words < 0 { throw SystemError(errno, "write \(output)") }
        let descriptor = Descriptor(words)
        let pid = try Spawn(
            program: program, arguments: arguments, output: descriptor.number, error: descriptor.number,
            niceness: niceness
        )
        .start()
        var status: Int32 = 0
        let deadline = monotonicNanoseconds() + patience
        while cl_wait(pid, 1, &status) == 0 {
            if monotonicNanoseconds() > deadline {
                Glibc.kill(pid, SIGKILL)
                _ = cl_wait(pid, 0, &status)
                throw GatewayError("\(program) does not come to an end")
            }
            usleep(2000)
        }
        var buffer = [UInt8](repeating: 0, count: 16_384)
        let count = pread(descriptor.number, &buffer, buffer.count, 0)
        return (status, String(decoding: buffer.prefix(max(0, count)), as: UTF8.self))
    }
}

extension Descriptor {
    /// Connects a stream socket to one of this host.
    ///
    /// - Parameter patienceSeconds: how long anything that follows may take.
    func connect(toLocal path: String, patienceSeconds: Int) throws {
        var patience = timeval(tv_sec: patienceSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw SystemError(ENAMETOOLONG, "reach the daemon at \(path)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result < 0 { throw SystemError(errno, "reach the daemon at \(path)") }
    }
}
