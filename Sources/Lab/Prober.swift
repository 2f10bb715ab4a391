// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Manifest
import Synchronization
import Wire

/// Tries to reach an address from inside a namespace: echo, TCP or UDP, with sockets as any program has them.
struct Prober: Sendable {
    /// How long one try waits for an answer.
    static let tryMilliseconds: Int32 = 400

    let source: NetworkNamespace
    let target: NetworkNamespace?
    let address: IPAddress
    let probe: Expectation.Probe
    /// The port that the target listens on, where that is another than the one that is asked.
    var listening: UInt16?
    /// The address that the target must see.
    var seenAs: IPAddress?

    /// The target saw another address.
    struct Stranger: Error {
        var seen: IPAddress
    }

    /// Tries until it works or the time is over; the round trip in milliseconds, or `nil`.
    func run(patienceMilliseconds: UInt64) throws -> Double? {
        let listener = try listen()
        defer { listener?.stop() }
        return try source.inside { [self] in
            let deadline = monotonicNanoseconds() + patienceMilliseconds * 1_000_000
            var sequence: UInt16 = 0
            repeat {
                sequence += 1
                let began = monotonicNanoseconds()
                if try once(sequence) {
                    let took = Double(monotonicNanoseconds() - began) / 1e6
                    guard let seenAs, let listener else { return took }
                    let seen = listener.nextPeer()
                    if let seen, seen != seenAs { throw Stranger(seen: seen) }
                    return seen == nil ? nil : took
                }
                // A refusal comes at once: give the other side a moment before the next try.
                let elapsed = (monotonicNanoseconds() - began) / 1_000_000
                if elapsed < 50 { usleep(UInt32(50 - elapsed) * 1000) }
            } while monotonicNanoseconds() < deadline
            return nil
        }
    }

    private func once(_ sequence: UInt16) throws -> Bool {
        switch probe {
        case .icmp: try echo(sequence)
        case .tcp(let port): try connect(port)
        case .udp(let port): try exchange(port)
        }
    }

    private var family: Int32 { address.family == .ipv4 ? AF_INET : AF_INET6 }

    private func open(_ type: Int32, _ number: Int32) throws -> Descriptor {
        let number = socket(family, type | LinuxConstant.closeOnExec | LinuxConstant.nonBlocking, number)
        if number < 0 { throw SystemError(errno, "open a socket") }
        let socket = Descriptor(number)
        if address.isMulticast { setGroupInterface(socket.number, address.family) }
        return socket
    }

    private func echo(_ sequence: UInt16) throws -> Bool {
        let isV6 = address.family == .ipv6
        let socket = try open(Int32(SOCK_RAW.rawValue), isV6 ? 58 : 1)
        let identifier = UInt16.random(in: 1...UInt16.max)
        var message: [UInt8] = [isV6 ? 128 : 8, 0, 0, 0]
        for value in [identifier, sequence] { message += [UInt8(value >> 8), UInt8(value & 0xff)] }
        message += [UInt8](repeating: 0x5e, count: 32)
        // The kernel fills in the checksum of ICMPv6; that of ICMP is ours.
        if !isV6 {
            let sum = message.withUnsafeBytes { InternetChecksum.of($0) }
            message[2] = UInt8(sum >> 8)
            message[3] = UInt8(sum & 0xff)
        }
        guard send(message, socket, port: 0) else { return false }
        let deadline = monotonicNanoseconds() + UInt64(Prober.tryMilliseconds) * 1_000_000
        var buffer = [UInt8](repeating: 0, count: 2048)
        while true {
            let now = monotonicNanoseconds()
            guard now < deadline,
                waitReadable(socket.number, timeoutMilliseconds: Int32((deadline - now) / 1_000_000) + 1)
            else { return false }
            let count = recv(socket.number, &buffer, buffer.count, 0)
            let offset = isV6 ? 0 : Int(buffer[0] & 15) * 4
            guard count >= offset + 8 else { continue }
            let wanted: [UInt8] = [isV6 ? 129 : 0, 0]
            if Array(buffer[offset..<offset + 2]) == wanted,
                Array(buffer[offset + 4..<offset + 8]) == Array(message[4..<8])
            {
                return true
            }
        }
    }

    private func connect(_ port: UInt16) throws -> Bool {
        let socket = try open(Int32(SOCK_STREAM.rawValue), 0)
        let result = withAddress(port) { Glibc.connect(socket.number, $0, $1) }
        if result == 0 { return true }
        guard errno == EINPROGRESS else { return false }
        var poll = pollfd(fd: socket.number, events: Int16(POLLOUT), revents: 0)
        guard Glibc.poll(&poll, 1, Prober.tryMilliseconds) > 0 else { return false }
        var error: Int32 = 0
        var length = socklen_t(4)
        getsockopt(socket.number, SOL_SOCKET, SO_ERROR, &error, &length)
        return error == 0
    }

    private func exchange(_ port: UInt16) throws -> Bool {
        let socket = try open(Int32(SOCK_DGRAM.rawValue), 0)
        guard send([0x5e], socket, port: port) else { return false }
        guard waitReadable(socket.number, timeoutMilliseconds: Prober.tryMilliseconds) else { return false }
        var buffer = [UInt8](repeating: 0, count: 64)
        return recv(socket.number, &buffer, buffer.count, 0) > 0
    }

    private func send(_ bytes: [UInt8], _ socket: Descriptor, port: UInt16) -> Bool {
        bytes.withUnsafeBytes { bytes in
            withAddress(port) { sendto(socket.number, bytes.baseAddress, bytes.count, 0, $0, $1) } == bytes.count
        }
    }

    private func withAddress<Value>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        let bytes = socketAddress(address, port)
        return bytes.withUnsafeBytes { raw in
            raw.withMemoryRebound(to: sockaddr.self) { pointer in
                // The array is never empty, so there is a base address.
                body(pointer.baseAddress.unsafelyUnwrapped, socklen_t(bytes.count))
            }
        }
    }

    /// Something to answer in the target's namespace. A machine where a program listens already answers by itself.
    private func listen() throws -> Listener? {
        guard let target else { return nil }
        switch probe {
        case .icmp: return nil
        case .tcp(let port):
            return try Listener(in: target, of: address, port: listening ?? port, isTCP: true)
        case .udp(let port):
            return try Listener(in: target, of: address, port: listening ?? port, isTCP: false)
        }
    }
}

/// An address as it is on the wire.
private func octets(_ address: IPAddress) -> [UInt8] {
    (0..<address.family.width / 8).map { index in
        let half = index < 8 ? address.high : address.low
        return UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * (index & 7)))
    }
}

/// `struct sockaddr_in` or `sockaddr_in6` as bytes.
private func socketAddress(_ address: IPAddress, _ port: UInt16) -> [UInt8] {
    let family = UInt16(address.family == .ipv4 ? AF_INET : AF_INET6)
    var bytes: [UInt8] = []
    withUnsafeBytes(of: family) { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(port >> 8))
    bytes.append(UInt8(port & 0xff))
    if address.family == .ipv6 { bytes += [0, 0, 0, 0] }
    bytes += octets(address)
    bytes += [UInt8](repeating: 0, count: address.family == .ipv4 ? 8 : 4)
    return bytes
}

/// The interface of a lab's machine.
private var machineInterface: UInt32 { if_nametoindex("eth0") }

/// Joins a group at the machine's interface (`struct ip_mreqn`, `struct ipv6_mreq`); whether that worked.
private func join(_ group: IPAddress, _ socket: Int32) -> Bool {
    var request = octets(group)
    if group.family == .ipv4 { request += [0, 0, 0, 0] }
    withUnsafeBytes(of: machineInterface) { request.append(contentsOf: $0) }
    let isV4 = group.family == .ipv4
    // IP_ADD_MEMBERSHIP of linux/in.h, IPV6_ADD_MEMBERSHIP of linux/in6.h.
    return setsockopt(
        socket, isV4 ? 0 : LinuxConstant.ipv6Level, isV4 ? 35 : 20, request, socklen_t(request.count)) == 0
}

/// Has what is sent to groups leave by the machine's interface, whatever its routes say.
private func setGroupInterface(_ socket: Int32, _ family: AddressFamily) {
    var request: [UInt8] = family == .ipv4 ? [UInt8](repeating: 0, count: 8) : []
    withUnsafeBytes(of: machineInterface) { request.append(contentsOf: $0) }
    let isV4 = family == .ipv4
    // IP_MULTICAST_IF and IPV6_MULTICAST_IF.
    _ = setsockopt(socket, isV4 ? 0 : LinuxConstant.ipv6Level, isV4 ? 32 : 17, request, socklen_t(request.count))
}

/// Accepts connections, or sends datagrams back, until it is stopped.
private final class Listener: Sendable {
    private let socket: Descriptor
    private let stopper: (Int32, Int32)
    private let thread: NamedThread
    private let peers: Peers

    /// Who was seen, in order.
    private final class Peers: Sendable {
        let list = Mutex<[IPAddress]>([])
    }

    /// Who was seen and not told yet; waits a moment for it, `nil` when nobody was.
    func nextPeer() -> IPAddress? {
        for _ in 0..<100 {
            let peer = peers.list.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let peer { return peer }
            usleep(2000)
        }
        return nil
    }

    /// - Parameter address: what is asked: of its family, and where it is a group, one that is joined.
    init?(in namespace: NetworkNamespace, of address: IPAddress, port: UInt16, isTCP: Bool) throws {
        let family = address.family
        let number = try namespace.inside { () -> Int32 in
            let type = Int32((isTCP ? SOCK_STREAM : SOCK_DGRAM).rawValue)
            let number = Glibc.socket(
                family == .ipv4 ? AF_INET : AF_INET6, type | LinuxConstant.closeOnExec | LinuxConstant.nonBlocking, 0)
            if number < 0 { throw SystemError(errno, "open a socket") }
            var one: Int32 = 1
            setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &one, 4)
            if family == .ipv6 { setsockopt(number, LinuxConstant.ipv6Level, LinuxConstant.ipv6Only, &one, 4) }
            let any = socketAddress(IPAddress(high: 0, low: 0, family: family), port)
            let bound = any.withUnsafeBytes { raw in
                raw.withMemoryRebound(to: sockaddr.self) { bind(number, $0.baseAddress, socklen_t(any.count)) }
            }
            if bound < 0 || (isTCP && Glibc.listen(number, 16) < 0) {
                let code = errno
                close(number)
                if code == EADDRINUSE { return -1 }
                throw SystemError(code, "listen on port \(port)")
            }
            if address.isMulticast, !join(address, number) {
                let code = errno
                close(number)
                throw SystemError(code, "join \(address)")
            }
            return number
        }
        if number < 0 { return nil }
        socket = Descriptor(number)
        var ends: [Int32] = [0, 0]
        if pipe(&ends) < 0 { throw SystemError(errno, "make a pipe") }
        stopper = (ends[0], ends[1])
        let peers = Peers()
        self.peers = peers
        thread = try NamedThread("sel-listener") { [number, readEnd = ends[0]] in
            Listener.serve(number, readEnd, isTCP, peers)
        }
    }

    func stop() {
        close(stopper.1)
        thread.join()
        close(stopper.0)
    }

    private static func serve(_ number: Int32, _ stop: Int32, _ isTCP: Bool, _ peers: Peers) {
        while true {
            var polls = [
                pollfd(fd: number, events: Int16(POLLIN), revents: 0),
                pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&polls, 2, -1) > 0, polls[1].revents == 0 else { return }
            var buffer = [UInt8](repeating: 0, count: 2048)
            var address = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            withUnsafeMutablePointer(to: &address) { storage in
                storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                    if isTCP {
                        let connection = accept(number, pointer, &length)
                        if connection >= 0 { close(connection) }
                    } else {
                        let count = recvfrom(number, &buffer, buffer.count, 0, pointer, &length)
                        if count >= 0 { _ = sendto(number, buffer, count, 0, pointer, length) }
                    }
                }
            }
            if let peer = read(address) { peers.list.withLock { $0.append(peer) } }
        }
    }
}

/// The address in a `struct sockaddr_in` or `sockaddr_in6`.
private func read(_ storage: sockaddr_storage) -> IPAddress? {
    withUnsafeBytes(of: storage) { bytes in
        func word(_ offset: Int) -> UInt64 {
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        switch Int32(storage.ss_family) {
        case AF_INET: return IPAddress(high: word(4) & 0xffff_ffff_0000_0000, low: 0, family: .ipv4)
        case AF_INET6: return IPAddress(high: word(8), low: word(16), family: .ipv6)
        default: return nil
        }
    }
}
