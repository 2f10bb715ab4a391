// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Topology

/// Asks a running BIRD by its control socket.
struct BirdControl {
    /// Path of the socket.
    let path: String
    private static let patienceSeconds = 2

    /// Says a command; the lines of the answer without their codes, and the code of the last one.
    func say(_ command: String) throws -> (code: Int, lines: [String]) {
        let socket = Descriptor(Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        if socket.number < 0 { throw SystemError(errno, "make a socket") }
        try socket.connect(toLocal: path, patienceSeconds: Self.patienceSeconds)
        var reader = BirdReplyReader()
        _ = try receive(socket.number, &reader)
        let line = Array("\(command)\n".utf8)
        guard write(socket.number, line, line.count) == line.count else { throw SystemError(errno, "ask the daemon") }
        return try receive(socket.number, &reader)
    }

    /// Has it read its configuration; why it keeps the one that it has, `nil`: it does not.
    ///
    /// - Throws: ``DaemonBusy`` when it has just begun, or is about to end.
    func configure() throws -> String? {
        guard let answer = try? say("configure") else { throw DaemonBusy() }
        return answer.code >= 8000 ? "the daemon keeps its configuration: \(answer.lines.last ?? "")" : nil
    }

    /// How its sessions are.
    func peers(_ peers: [BGPPeer]) throws -> [PeerStatus] {
        var list = PeerStatus.read(try say("show protocols all").lines, peers)
        PeerStatus.read(liveness: (try? say("show bfd sessions").lines) ?? [], into: &list)
        return list
    }

    private func receive(_ socket: Int32, _ reader: inout BirdReplyReader) throws -> (code: Int, lines: [String]) {
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            if let reply = reader.next() { return reply }
            let count = read(socket, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { throw SystemError(count == 0 ? ECONNRESET : errno, "hear the daemon") }
            reader.append(buffer[..<count])
        }
    }
}

/// Puts BIRD's answers together: each line has a code of four digits, then `-` when more follow and a blank in the last one; a
/// line that begins with a blank has the code of the one before.
struct BirdReplyReader {
    private var bytes: [UInt8] = []
    private var lines: [String] = []

    mutating func append(_ more: some Sequence<UInt8>) { bytes += more }

    /// The next whole answer, if it has come.
    mutating func next() -> (code: Int, lines: [String])? {
        var at = 0
        defer { bytes.removeFirst(at) }
        while let end = bytes[at...].firstIndex(of: 10) {
            let line = String(decoding: bytes[at..<end], as: UTF8.self)
            at = end + 1
            if line.hasPrefix(" ") || line.hasPrefix("+") {
                lines.append(String(line.dropFirst()))
                continue
            }
            lines.append(String(line.dropFirst(5)))
            guard let code = Int(line.prefix(4)), line.dropFirst(4).first != "-" else { continue }
            defer { lines = [] }
            return (code, lines)
        }
        return nil
    }
}
