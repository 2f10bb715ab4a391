// SPDX-License-Identifier: Apache-2.0
import CLinux
import Datapath
import Glibc
import Linux
import Netlink
import Synchronization
import Testing
import Wire

/// The engines that the suite runs against here: packet sockets wherever namespaces can be made, the kernel's module where
/// it answers. `SELVAGE_ENGINE=kernel` wants that one and fails without it, for the kernel lane.
enum Engines {
    static let all: [DatapathKind] = {
        if let wanted = getenv("SELVAGE_ENGINE"), let kind = DatapathKind(rawValue: String(cString: wanted)) {
            return [kind]
        }
        guard getuid() == 0 else { return [] }
        return KernelDatapath.isAvailable ? [.userspace, .kernel] : [.userspace]
    }()
}

/// A datapath with three cables in a network namespace of its own; the test holds the far ends.
final class Bench {
    let datapath: any Datapath
    let numbers: [PortNumber]
    private let ends: [Descriptor]
    private let handler: RecordingHandler
    static let deadlineNanoseconds: UInt64 = 5_000_000_000

    /// Runs a test on a thread in a fresh namespace.
    static func run(_ kind: DatapathKind, _ body: @escaping @Sendable (Bench) throws -> Void) throws {
        let reply = Reply<Result<Void, any Error>>()
        let thread = try NamedThread("bench") {
            reply.put(
                Result {
                    try SystemError.check(cl_unshare_network(), "make a network namespace")
                    let bench = try Bench(kind)
                    defer { try? bench.datapath.destroy() }
                    try body(bench)
                })
        }
        let result = reply.take()
        thread.join()
        try result.get()
    }

    private init(_ kind: DatapathKind) throws {
        let route = try RouteNetlink()
        try route.setUp("lo")
        let handler = RecordingHandler()
        self.handler = handler
        datapath = kind == .kernel ? try KernelDatapath(name: "seltest") : try UserspaceDatapath(threads: 1)
        var isFirst = true
        try datapath.start { _ in
            // One handler serves: the tests send little, and the kernel may ask on any thread.
            defer { isFirst = false }
            return isFirst ? handler : ForwardingHandler(handler)
        }
        var numbers: [PortNumber] = []
        var ends: [Descriptor] = []
        let here = Descriptor(try SystemError.check(cl_open_path("/proc/thread-self/ns/net"), "open the namespace"))
        for index in 0..<3 {
            try route.addVeth("p\(index)", mtu: 1500, peer: "q\(index)", peerNamespace: here.number)
            try route.setUp("p\(index)")
            try route.setUp("q\(index)")
            numbers.append(try datapath.addPort(.interface("p\(index)")))
            ends.append(
                Descriptor(
                    try SystemError.check(
                        cl_packet_socket(cl_interface_index("q\(index)"), 1 << 20), "open the far end of p\(index)")))
        }
        self.numbers = numbers
        self.ends = ends
    }

    /// Lets larger frames through all cables.
    func setMTU(_ mtu: Int) throws {
        let route = try RouteNetlink()
        for index in 0..<3 {
            try route.setMTU("p\(index)", mtu)
            try route.setMTU("q\(index)", mtu)
        }
    }

    /// Sends a frame into a port.
    func send(_ frame: [UInt8], into port: Int) throws {
        let bytes = [UInt8](repeating: 0, count: 10) + frame
        let sent = bytes.withUnsafeBytes { Glibc.send(ends[port].number, $0.baseAddress, $0.count, 0) }
        if sent < 0 { throw SystemError(errno, "send into port \(port)") }
    }

    /// The next frame out of a port that passes a filter; what the kernel itself chats is passed over.
    func receive(
        from port: Int, _ note: String = "", within nanoseconds: UInt64 = Bench.deadlineNanoseconds,
        where isWanted: ([UInt8]) -> Bool = { _ in true }
    ) throws -> [UInt8] {
        let deadline = monotonicNanoseconds() + nanoseconds
        while monotonicNanoseconds() < deadline {
            guard waitReadable(ends[port].number, timeoutMilliseconds: 100) else { continue }
            guard let frame = readFrame(ends[port].number) else { continue }
            if Bench.isChatter(frame) || !isWanted(frame) { continue }
            return frame
        }
        let statistics = try datapath.statistics()
        throw Silence(
            description:
                "nothing came out of port \(port) \(note); refused \(statistics.refused): \(statistics.lastRefusal)")
    }

    /// One frame with its VLAN tag in place, which the kernel keeps beside it.
    private func readFrame(_ descriptor: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 70_000)
        var control = [UInt64](repeating: 0, count: 8)
        return buffer.withUnsafeMutableBytes { bytes in
            control.withUnsafeMutableBytes { control in
                var piece = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
                return withUnsafeMutablePointer(to: &piece) { piece in
                    var message = cl_message()
                    message.iov = piece
                    message.iov_count = 1
                    message.control = control.baseAddress
                    message.control_length = control.count
                    guard cl_receive(descriptor, &message, 1) == 1, message.length > 10 else { return nil }
                    let frame = Array(bytes[10..<Int(message.length)])
                    let tag = cl_vlan_of(&message)
                    return tag < 0
                        ? frame
                        : Frame.tagged(
                            frame, vlan: UInt16(truncatingIfNeeded: tag), tpid: UInt16(truncatingIfNeeded: tag >> 16))
                }
            }
        }
    }

    struct Silence: Error, CustomStringConvertible { let description: String }

    /// Router solicitations, group joins and duplicate detection of the interfaces themselves.
    static func isChatter(_ frame: [UInt8]) -> Bool {
        frame.count >= 14 && frame[0] == 0x33 && frame[1] == 0x33 && frame[12] == 0x86 && frame[13] == 0xdd
    }

    /// Runs `body` on the packet thread and waits.
    func onThread(_ body: @escaping @Sendable (any DatapathThread) -> Void) {
        let reply = Reply<Bool>()
        handler.tasks.withLock {
            $0.append { thread in
                body(thread)
                // Reading the flows has what was asked before it done.
                thread.forEachFlow { _, _ in }
                reply.put(true)
            }
        }
        datapath.wake()
        _ = reply.take()
    }

    func install(_ flow: Flow) { onThread { $0.install(flow) } }

    /// What to do with packets that no flow holds, besides remembering them.
    func answer(_ body: @escaping @Sendable (borrowing UpcallPacket, any DatapathThread) -> Void) {
        handler.answer.withLock { $0 = body }
    }

    /// The next upcall that is not the kernel's own chatter.
    func upcall(_ note: String = "") throws -> RecordingHandler.Upcall {
        let deadline = monotonicNanoseconds() + Bench.deadlineNanoseconds
        while monotonicNanoseconds() < deadline {
            let next = handler.upcalls.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let next {
                if Bench.isChatter(next.bytes) { continue }
                return next
            }
            usleep(1000)
        }
        throw Silence(description: "no upcall came \(note)")
    }

    /// Upcalls that have come and were not taken.
    var pendingUpcalls: Int { handler.upcalls.withLock { $0.count { !Bench.isChatter($0.bytes) } } }

    /// The counters of a flow.
    func statistics(_ id: FlowID) -> FlowStatistics? {
        let reply = Reply<FlowStatistics?>()
        handler.tasks.withLock {
            $0.append { thread in
                var result: FlowStatistics?
                thread.forEachFlow { other, statistics in if other == id { result = statistics } }
                reply.put(result)
            }
        }
        datapath.wake()
        return reply.take()
    }
}

/// Remembers upcalls, and runs what tests want run on the packet thread.
final class RecordingHandler: UpcallHandler, Sendable {
    struct Upcall: Sendable {
        var key: FlowKey
        var bytes: [UInt8]
        var cookie: UInt64
        var length: Int
    }
    typealias Answer = @Sendable (borrowing UpcallPacket, any DatapathThread) -> Void

    let upcalls = Mutex<[Upcall]>([])
    let tasks = Mutex<[@Sendable (any DatapathThread) -> Void]>([])
    let answer = Mutex<Answer?>(nil)

    func upcall(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) {
        let upcall = Upcall(
            key: packet.key, bytes: [UInt8](UnsafeRawBufferPointer(packet.bytes)), cookie: packet.cookie,
            length: packet.length)
        upcalls.withLock { $0.append(upcall) }
        let body = answer.withLock { $0 }
        body?(packet, thread)
    }

    func wake(_ thread: any DatapathThread) {
        let all = tasks.withLock { tasks in
            defer { tasks.removeAll() }
            return tasks
        }
        for task in all { task(thread) }
    }
}

/// Hands upcalls of other threads to the one that records.
final class ForwardingHandler: UpcallHandler {
    private let target: RecordingHandler
    init(_ target: RecordingHandler) { self.target = target }
    func upcall(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) { target.upcall(packet, thread) }
    func wake(_ thread: any DatapathThread) {}
}

func parse(_ frame: [UInt8]) -> FlowKey {
    var layout = PacketLayout()
    return frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
}

/// The MAC of an interface of this namespace.
func interfaceMAC(_ name: String) -> MACAddress { MACAddress(bits: cl_interface_mac(name)) }
