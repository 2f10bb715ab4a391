// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CLinux
import Glibc
import Linux
import Synchronization
import Wire

/// New TCP connections a second from one namespace to a server in another: each is opened, answered and reset.
struct ConnectionsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "connections")
    @Option var from: String
    @Option var to: String
    @Option var destination: String
    @Option var port: UInt16 = 8080
    @Option var seconds = 2.0
    @Option(help: "Connections that are being opened at a time.") var window = 32

    mutating func run() throws {
        let isDone = Done()
        let (to, port) = (to, port)
        let listening = Reply<Bool>()
        let server = try NamedThread("server") { ConnectionsCommand.serve(to, port, isDone, listening) }
        guard listening.take() else { throw ValidationError("can't listen in \(to)") }
        let result = Reply<Int>()
        let (from, destination, seconds, window) = (from, destination, seconds, window)
        let client = try NamedThread("client") {
            result.put(ConnectionsCommand.connect(from, destination, port, seconds, window))
        }
        let opened = result.take()
        client.join()
        isDone.value.store(true, ordering: .relaxed)
        server.join()
        guard opened >= 0 else { throw ValidationError("can't connect from \(from)") }
        print("\(Double(opened) / seconds)")
    }

    private final class Done: Sendable { let value = Atomic<Bool>(false) }

    private static func enter(_ path: String) -> Bool {
        guard let number = try? SystemError.check(cl_open_path(path), "open") else { return false }
        let descriptor = Descriptor(number)
        return cl_enter(descriptor.number) == 0
    }

    private static func address(_ text: String, _ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, text, &address.sin_addr)
        return address
    }

    /// Closes with a reset: nothing lingers.
    private static func reset(_ socket: Int32) {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        close(socket)
    }

    private static func serve(_ path: String, _ port: UInt16, _ done: Done, _ listening: Reply<Bool>) {
        guard enter(path) else { return listening.put(false) }
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | 0o4000, 0)
        var one: Int32 = 1
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        var own = address("0.0.0.0", port)
        let bound = withUnsafePointer(to: &own) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        listening.put(bound == 0 && listen(socket, 4096) == 0)
        // Whoever closes first keeps the ports for a while: that is to be nobody, so the client resets and we wait for it.
        var polls = [pollfd(fd: socket, events: Int16(POLLIN), revents: 0)]
        while !done.value.load(ordering: .relaxed) {
            guard poll(&polls, nfds_t(polls.count), 50) > 0 else { continue }
            for index in polls.indices.dropFirst().reversed() where polls[index].revents != 0 {
                close(polls[index].fd)
                polls.swapAt(index, polls.count - 1)
                polls.removeLast()
            }
            guard polls[0].revents != 0 else { continue }
            while true {
                let connection = accept(socket, nil, nil)
                if connection < 0 { break }
                polls.append(pollfd(fd: connection, events: Int16(POLLIN), revents: 0))
            }
        }
        for one in polls { close(one.fd) }
    }

    private static func connect(
        _ path: String, _ destination: String, _ port: UInt16, _ seconds: Double, _ window: Int
    ) -> Int {
        guard enter(path) else { return -1 }
        let target = address(destination, port)
        var polls: [pollfd] = []
        var began: [UInt64] = []
        var opened = 0
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while true {
            let now = monotonicNanoseconds()
            if now >= end { break }
            while polls.count < window {
                let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | 0o4000, 0)
                guard socket >= 0 else { break }
                var other = target
                _ = withUnsafePointer(to: &other) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                    }
                }
                polls.append(pollfd(fd: socket, events: Int16(POLLOUT), revents: 0))
                began.append(now)
            }
            poll(&polls, nfds_t(polls.count), 5)
            for index in polls.indices.reversed() {
                let isLate = now > began[index] + 500_000_000
                guard polls[index].revents != 0 || isLate else { continue }
                if polls[index].revents & Int16(POLLERR | POLLHUP) == 0, !isLate { opened += 1 }
                reset(polls[index].fd)
                polls.swapAt(index, polls.count - 1)
                polls.removeLast()
                began.swapAt(index, began.count - 1)
                began.removeLast()
            }
        }
        for one in polls { reset(one.fd) }
        return opened
    }
}
