// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Linux
import Synchronization

/// Answers tools on a Unix socket: one line of JSON in, one line out, then the connection ends. The HTTP interface will
/// stand beside it.
public final class ControlServer<Request: Decodable & Sendable, Response: Encodable & Sendable>: Sendable {
    private let descriptor: Descriptor
    private let path: String

    /// Listens at a path and answers each request on a thread of its own, one at a time.
    ///
    /// - Parameter answer: may block.
    public init(path: String, _ answer: @escaping @Sendable (Request) -> Response) throws {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | LinuxConstant.closeOnExec, 0)
        if number < 0 { throw SystemError(errno, "make a socket") }
        let descriptor = Descriptor(number)
        unlink(path)
        var address = try UnixAddress(path)
        let bound = withUnsafePointer(to: &address.storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if bound < 0 { throw SystemError(errno, "listen at \(path)") }
        // Whoever may write to the socket may change the network.
        chmod(path, 0o600)
        if listen(number, 16) < 0 { throw SystemError(errno, "listen at \(path)") }
        self.descriptor = descriptor
        self.path = path
        _ = try NamedThread("sel-control") { [descriptor] in
            ControlServer.serve(descriptor, answer)
        }
    }

    /// Stops listening.
    public func stop() {
        shutdown(descriptor.number, Int32(SHUT_RDWR))
        unlink(path)
    }

    private static func serve(_ descriptor: Descriptor, _ answer: @Sendable (Request) -> Response) {
        while true {
            let number = accept(descriptor.number, nil, nil)
            if number < 0 {
                if errno == EINTR || errno == ECONNABORTED { continue }
                return
            }
            let connection = Descriptor(number)
            // A tool that says nothing must not hold the next one.
            var patience = timeval(tv_sec: 5, tv_usec: 0)
            setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            guard let line = ControlWire.readLine(connection),
                let request = try? JSONDecoder().decode(Request.self, from: line)
            else { continue }
            if let data = try? JSONEncoder().encode(answer(request)) { ControlWire.write(data, connection) }
        }
    }
}

/// Asks a ``ControlServer``.
public enum ControlClient {
    /// Sends a request and waits for the answer.
    ///
    /// - Parameter timeoutSeconds: for the whole answer.
    public static func ask<Request: Encodable, Response: Decodable>(
        _ request: Request, at path: String, timeoutSeconds: Int = 10, as type: Response.Type = Response.self
    ) throws -> Response {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | LinuxConstant.closeOnExec, 0)
        if number < 0 { throw SystemError(errno, "make a socket") }
        let connection = Descriptor(number)
        var patience = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = try UnixAddress(path)
        let connected = withUnsafePointer(to: &address.storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if connected < 0 { throw SystemError(errno, "reach \(path)") }
        ControlWire.write(try JSONEncoder().encode(request), connection)
        guard let line = ControlWire.readLine(connection) else {
            throw SystemError(ETIMEDOUT, "get an answer from \(path)")
        }
        return try JSONDecoder().decode(Response.self, from: line)
    }
}

private struct UnixAddress {
    var storage = sockaddr_un()

    init(_ path: String) throws(SystemError) {
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: storage.sun_path) else {
            throw SystemError(ENAMETOOLONG, "use \(path) for a socket")
        }
        storage.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &storage.sun_path) { $0.copyBytes(from: bytes) }
    }
}

enum ControlWire {
    /// Longest line, bytes.
    static let limit = 64 << 20

    static func readLine(_ connection: Descriptor) -> Data? {
        var data = Data()
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while data.count < limit {
            let count = recv(connection.number, &buffer, buffer.count, 0)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return nil }
            data.append(contentsOf: buffer[..<count])
            if buffer[count - 1] == 10 { return data }
        }
        return nil
    }

    static func write(_ data: Data, _ connection: Descriptor) {
        let bytes = Array(data) + [10]
        var at = 0
        while at < bytes.count {
            let count = bytes.withUnsafeBytes {
                send(
                    connection.number, $0.baseAddress?.advanced(by: at), bytes.count - at, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return }
            at += count
        }
    }
}
