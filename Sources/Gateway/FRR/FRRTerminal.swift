// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// Asks a running daemon of FRRouting by its terminal's socket, as vtysh does: a command ends with a null byte, its answer with three
/// of them and a byte that says how it went.
struct FRRTerminal {
    /// Path of the socket.
    let path: String
    private static let patienceSeconds = 15

    /// Says a command; its answer.
    func say(_ command: String) throws -> [UInt8] {
        let socket = Descriptor(Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
        if socket.number < 0 { throw SystemError(errno, "make a socket") }
        try socket.connect(toLocal: path, patienceSeconds: Self.patienceSeconds)
        // Some of what is only looked at is for those who may change things.
        _ = try ask("enable", socket.number)
        return try ask(command, socket.number)
    }

    private func ask(_ command: String, _ socket: Int32) throws -> [UInt8] {
        let line = Array(command.utf8) + [0]
        guard write(socket, line, line.count) == line.count else { throw SystemError(errno, "ask the daemon") }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(socket, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { throw SystemError(count == 0 ? ECONNRESET : errno, "hear the daemon") }
            answer += buffer[..<count]
            guard answer.count >= 4, answer.suffix(4).prefix(3).allSatisfy({ $0 == 0 }) else { continue }
            let status = answer[answer.count - 1]
            answer.removeLast(4)
            guard status == 0 else {
                throw GatewayError(
                    "the daemon does not answer \"\(command)\": \(String(decoding: answer, as: UTF8.self))")
            }
            return answer
        }
    }
}
