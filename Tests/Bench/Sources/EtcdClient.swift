// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc
import Linux

/// The peer's figures: puts to etcd over gRPC, each client waiting for one answer before it asks again. The client knows just
/// enough of HTTP/2 (RFC 9113) for that, so that it takes little of the processors that it shares with what it measures.
struct EtcdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "etcd", abstract: "Acknowledged puts a second of an etcd member.")

    @Option(help: "The member's client port on 127.0.0.1.") var port: UInt16
    @Option(help: "How many clients, over at most four connections.") var clients = 1
    @Option(help: "Seconds.") var seconds = 3.0
    @Option(help: "End this process first and tell how long it takes until the member acknowledges a put.") var kill:
        Int32?

    func run() throws {
        var ends = try (0..<min(4, clients)).map { _ in try EtcdConnection(port: port) }
        if let kill { return try failOver(kill, &ends) }
        var number: UInt64 = 0
        for client in 0..<clients {
            number += 1
            ends[client % ends.count].put(number)
        }
        // What the first tenth of the time brings does not count.
        let begin = monotonicNanoseconds() + UInt64(seconds * 1e8)
        let end = begin + UInt64(seconds * 1e9)
        var times: [UInt64] = []
        var failures = 0
        while monotonicNanoseconds() < end {
            for index in try readable(ends, until: end) {
                for answer in try ends[index].read() {
                    let now = monotonicNanoseconds()
                    if now >= begin {
                        if answer.isAcknowledged { times.append(now - answer.began) } else { failures += 1 }
                    }
                    number += 1
                    ends[index].put(number)
                }
                try ends[index].flush()
            }
        }
        times.sort()
        func at(_ share: Int) -> Double { times.isEmpty ? 0 : Double(times[(times.count - 1) * share / 100]) / 1e6 }
        print(
            "{\"clients\": \(clients), \"writes_per_s\": \(Int(Double(times.count) / seconds)), \"p50_ms\": \(at(50)), \"p99_ms\": \(at(99)), \"failures\": \(failures)}"
        )
    }

    /// Puts come every 10 ms: one that came while there was no leader is answered late, with an error.
    private func failOver(_ process: Int32, _ ends: inout [EtcdConnection]) throws {
        let began = monotonicNanoseconds()
        _ = Glibc.kill(process, SIGKILL)
        for number in 1... {
            guard monotonicNanoseconds() < began + 30_000_000_000 else { break }
            ends[0].put(UInt64(number))
            try ends[0].flush()
            let next = monotonicNanoseconds() + 10_000_000
            while monotonicNanoseconds() < next {
                guard try !readable(ends, until: next).isEmpty else { continue }
                let answers = try ends[0].read()
                try ends[0].flush()
                if answers.contains(where: \.isAcknowledged) {
                    return print("{\"failover_s\": \(Double(monotonicNanoseconds() - began) / 1e9)}")
                }
            }
        }
        throw ValidationError("no put was acknowledged")
    }

    private func readable(_ ends: [EtcdConnection], until deadline: UInt64) throws -> [Int] {
        var polled = ends.map { pollfd(fd: $0.socket, events: Int16(POLLIN), revents: 0) }
        let left = max(0, Int64(bitPattern: deadline &- monotonicNanoseconds()) / 1_000_000 + 1)
        _ = poll(&polled, nfds_t(polled.count), Int32(min(left, 1000)))
        return polled.indices.filter { polled[$0].revents != 0 }
    }
}

/// One HTTP/2 connection to etcd.
struct EtcdConnection {
    struct Answer {
        var began: UInt64
        var isAcknowledged: Bool
    }
    private enum Kind {
        static let (data, headers, reset, settings, ping, goAway, window):
            (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 1, 3, 4, 6, 7, 8)
    }

    let socket: Int32
    private var input: [UInt8] = []
    private var output: [UInt8] = []
    private var stream: UInt32 = 1
    /// When each stream that is open began, and whether a message came on it.
    private var open: [UInt32: Answer] = [:]
    /// Bytes that the other side still takes, of all streams together.
    private var window = 65_535
    private var waiting: [(message: [UInt8], began: UInt64)] = []

    init(port: UInt16) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        _ = try SystemError.check(result, "connect to 127.0.0.1:\(port)")
        var on: Int32 = 1
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        output += Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        // No table of headers, no push, streams as long as they like.
        frame(Kind.settings, 0, 0, [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff])
        frame(Kind.window, 0, 0, [0x7f, 0xfe, 0, 0])
        try flush()
    }

    private mutating func frame(_ kind: UInt8, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8]) {
        let size = payload.count
        output += [UInt8(size >> 16), UInt8(size >> 8 & 255), UInt8(size & 255), kind, flags]
        output += withUnsafeBytes(of: stream.bigEndian) { Array($0) }
        output += payload
    }

    /// Headers of a put: of the static table what is there, the rest in letters (RFC 7541).
    private static let head: [UInt8] = {
        func text(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
        return [0x83, 0x86, 0x04] + text("/etcdserverpb.KV/Put") + [0x01] + text("etcd") + [0x0f, 0x10]
            + text("application/grpc") + [0x00] + text("te") + text("trailers")
    }()

    /// Puts 256 bytes under one of 512 keys.
    mutating func put(_ number: UInt64) {
        let key = Array("bench/\(number % 512)".utf8)
        let value = [UInt8](repeating: UInt8(ascii: "v"), count: 256)
        let body = [0x0a, UInt8(key.count)] + key + [0x12, 0x80, 0x02] + value
        let message = [0, 0, 0, UInt8(body.count >> 8), UInt8(body.count & 255)] + body
        let now = monotonicNanoseconds()
        if window >= message.count, waiting.isEmpty { send(message, now) } else { waiting.append((message, now)) }
    }

    private mutating func send(_ message: [UInt8], _ began: UInt64) {
        window -= message.count
        frame(Kind.headers, 4, stream, EtcdConnection.head)
        frame(Kind.data, 1, stream, message)
        open[stream] = Answer(began: began, isAcknowledged: false)
        stream += 2
    }

    mutating func flush() throws {
        var sent = 0
        while sent < output.count {
            let count = output[sent...].withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            sent += Int(try SystemError.check(Int32(count), "send to etcd"))
        }
        output.removeAll(keepingCapacity: true)
    }

    /// Reads what came and returns the answers in it.
    mutating func read() throws -> [Answer] {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = recv(socket, &buffer, buffer.count, 0)
        guard count > 0 else { throw SystemError(count == 0 ? ECONNRESET : errno, "read from etcd") }
        input += buffer[..<count]
        var answers: [Answer] = []
        var at = 0
        while input.count - at >= 9 {
            let size = Int(input[at]) << 16 | Int(input[at + 1]) << 8 | Int(input[at + 2])
            guard input.count - at >= 9 + size else { break }
            let (kind, flags) = (input[at + 3], input[at + 4])
            let stream = input[(at + 5)..<(at + 9)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7fff_ffff
            let payload = input[(at + 9)..<(at + 9 + size)]
            at += 9 + size
            if kind == Kind.data, size > 5 { open[stream]?.isAcknowledged = true }
            if kind == Kind.reset || ((kind == Kind.data || kind == Kind.headers) && flags & 1 != 0) {
                if let answer = open.removeValue(forKey: stream) { answers.append(answer) }
            } else if kind == Kind.settings, flags & 1 == 0 {
                frame(Kind.settings, 1, 0, [])
            } else if kind == Kind.ping, flags & 1 == 0 {
                frame(Kind.ping, 1, 0, Array(payload))
            } else if kind == Kind.window, stream == 0 {
                window += Int(payload.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7fff_ffff)
                while let first = waiting.first, window >= first.message.count {
                    waiting.removeFirst()
                    send(first.message, first.began)
                }
            } else if kind == Kind.goAway {
                throw SystemError(ECONNRESET, "etcd says goodbye")
            }
        }
        input.removeFirst(at)
        return answers
    }
}
