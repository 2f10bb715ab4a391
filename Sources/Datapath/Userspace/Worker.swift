// SPDX-License-Identifier: Apache-2.0
import CLinux
import Linux
import Synchronization
import Wire

/// A frame that a worker has in hand.
struct FrameInHand {
    var start: UnsafeMutableRawPointer
    var count: Int
    /// Bytes before `start` that may be written.
    var headroom: Int
    var offload: Offload
    var layout: PacketLayout
    var key: FlowKey
    /// Layer 3 bytes, see ``layer3Length(_:frameLength:offload:)``.
    var length: Int
    /// Whether a send queue points to the bytes: then they must be sent before they change.
    var isQueued = false

    var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: start, count: count) }
}

/// What a worker knows of a port.
struct WorkerPort {
    var descriptor: Int32 = -1
    var encapsulation = SendQueue.Encapsulation.none
    /// UDP port of a VXLAN port.
    var udpPort: UInt16 = 0
    /// Local address of a tunnel port, host order.
    var local: UInt32 = 0
    /// Of a collector, where copies go, under which key or session, and how many went.
    var remote: UInt32 = 0
    var id: UInt32 = 0
    var sequence: UInt32 = 0
    var queue: UnsafeMutablePointer<SendQueue>?
    /// Where the kernel puts what comes in: of a packet socket, in the worker that reads it.
    var ring: UnsafeMutablePointer<cl_ring>?
    var isDirty = false
    var receivedPackets: UInt64 = 0
    var receivedBytes: UInt64 = 0
    var sentPackets: UInt64 = 0
    var sentBytes: UInt64 = 0
    var sendErrors: UInt64 = 0
    var receiveDrops: UInt64 = 0
    /// Whether this worker reads it; all of them send.
    var isRead = false
}

/// One packet thread of the userspace engine: it reads its ports, looks frames up, acts, and asks its handler about what
/// no flow holds. All of its state is its own; other threads leave tasks in its mailbox.
final class Worker: DatapathThread, @unchecked Sendable {  // only mailbox, wakeup and flags leave its thread
    let mailbox = Mutex<[@Sendable (Worker) -> Void]>([])
    let wakeup: Descriptor
    let isStopping = Atomic<Bool>(false)

    /// Whether the kernel lets a datagram say which queue it waits in.
    private let takesPriority = UserspaceDatapath.takesPriority
    private let epoll: Descriptor
    let table = FlowTable()
    let ports: UnsafeMutablePointer<WorkerPort>
    /// By number; the same of all workers.
    var meters: [MeterBucket?] = []
    /// The last number by chance, for what is sampled.
    private var chance = UInt64.random(in: .min ... .max)
    private var dirtyPorts: [UInt32] = []
    private let receiver: Receiver
    /// Where segments are cut; as many as a send queue holds.
    private var scratch: UnsafeMutableRawPointer
    private var scratchUsed = 0
    /// Bytes of each segment there; grows with what comes.
    private var scratchSize = 2304
    var handler: (any UpcallHandler)?
    private var current: UnsafeMutablePointer<FrameInHand>?
    private var nestedUpcalls = 0
    private var now: UInt64 = 0
    var hits: UInt64 = 0
    var misses: UInt64 = 0
    var malformed: UInt64 = 0

    private static let wakeupData = UInt64.max
    /// A wait for packets that took longer was a sleep.
    private static let sleepNanoseconds: UInt64 = 5000

    init() throws(SystemError) {
        epoll = Descriptor(try SystemError.check(cl_epoll_create(), "create an epoll descriptor"))
        wakeup = Descriptor(try SystemError.check(cl_eventfd(), "create an event descriptor"))
        ports = .allocate(capacity: UserspaceLimits.ports)
        ports.initialize(repeating: WorkerPort(), count: UserspaceLimits.ports)
        scratch = .allocate(byteCount: SendQueue.capacity * scratchSize, alignment: 64)
        receiver = Receiver()
        try SystemError.check(cl_epoll_add(epoll.number, wakeup.number, Worker.wakeupData), "watch for wake-ups")
    }

    deinit {
        for index in 0..<UserspaceLimits.ports { freeMemory(of: ports[index]) }
        ports.deallocate()
        scratch.deallocate()
    }

    // MARK: - Ports

    /// Adds a port whose frames leave by the sockets `senders`.
    func addPort(
        _ number: PortNumber, _ port: WorkerPort, senders: [Int32], reads: Bool
    ) throws(SystemError) {
        var port = port
        let queue = UnsafeMutablePointer<SendQueue>.allocate(capacity: 1)
        queue.initialize(to: SendQueue(senders: senders))
        port.queue = queue
        port.isRead = reads
        ports[Int(number.value)] = port
        if reads {
            try SystemError.check(
                cl_epoll_add(epoll.number, port.descriptor, UInt64(number.value)), "watch port \(number)")
        }
    }

    func removePort(_ number: PortNumber) {
        let port = ports[Int(number.value)]
        if port.descriptor >= 0 { _ = cl_epoll_remove(epoll.number, port.descriptor) }
        freeMemory(of: port)
        dirtyPorts.removeAll { $0 == number.value }
        ports[Int(number.value)] = WorkerPort()
    }

    /// Asks the kernel what it dropped for want of room.
    func countDrops(_ number: PortNumber) {
        let port = ports + Int(number.value)
        guard port.pointee.isRead else { return }
        let isPacket = port.pointee.encapsulation == .none
        let drops = UInt64(cl_socket_drops(port.pointee.descriptor, isPacket ? 1 : 0))
        port.pointee.receiveDrops = isPacket ? port.pointee.receiveDrops &+ drops : drops
    }

    private func freeMemory(of port: WorkerPort) {
        if let queue = port.queue {
            queue.pointee.free()
            queue.deallocate()
        }
        if let ring = port.ring {
            cl_ring_close(ring)
            ring.deallocate()
        }
    }

    // MARK: - The loop

    func run() {
        var data = [UInt64](repeating: 0, count: 64)
        var events = [UInt32](repeating: 0, count: 64)
        var active: [UInt32] = []
        var nextTick: UInt64 = 0
        cl_run_soon()
        var locality = Locality()
        var (wakes, packets) = (0, 0)
        now = cl_monotonic_ns()
        while !isStopping.load(ordering: .relaxed) {
            let isIdle = active.isEmpty
            let idleSince = now
            let ready = cl_epoll_wait(
                epoll.number, &data, &events, 64,
                active.isEmpty ? (locality.wantsQuiet ? 1 : UpcallHandlerTiming.tickMilliseconds) : 0)
            if ready == 0, locality.wantsQuiet { locality.moveInQuiet() }
            var isWoken = false
            for index in 0..<max(0, Int(ready)) {
                if data[index] == Worker.wakeupData {
                    cl_eventfd_drain(wakeup.number)
                    isWoken = true
                } else if !active.contains(UInt32(data[index])) {
                    active.append(UInt32(data[index]))
                }
            }
            if isWoken { takeMail() }
            var round = 0
            while !active.isEmpty, round < UserspaceLimits.roundsBetweenPolls {
                round += 1
                now = cl_monotonic_ns()
                if isIdle, round == 1, now &- idleSince > Worker.sleepNanoseconds { wakes += 1 }
                active.removeAll { port in
                    let count = receive(port)
                    packets += count
                    return count < UserspaceLimits.burst
                }
            }
            if !active.isEmpty, locality.isHeld { locality.letGo() }
            now = cl_monotonic_ns()
            if now >= nextTick {
                locality.tick(wakes: wakes, packets: packets, now: now)
                (wakes, packets) = (0, 0)
            }
            if isWoken || now >= nextTick {
                nextTick = now + UInt64(UpcallHandlerTiming.tickMilliseconds) * 1_000_000
                handler?.wake(self)
                table.reorder()
                flush()
            }
        }
    }

    private func takeMail() {
        let tasks = mailbox.withLock { tasks in
            let all = tasks
            tasks.removeAll()
            return all
        }
        for task in tasks { task(self) }
    }

    /// Reads a burst from a port; returns how many frames came. Fewer than a burst: there is nothing more to read now.
    private func receive(_ number: UInt32) -> Int {
        let port = ports[Int(number)]
        guard port.descriptor >= 0 else { return 0 }
        let count = receiver.receive(port)
        guard count > 0 else { return 0 }
        var bytes = 0
        for index in 0..<count {
            bytes += receiver.forEachFrame(in: index, port) { frame in
                frame.key.inPort = number
                process(&frame)
            }
        }
        ports[Int(number)].receivedPackets &+= UInt64(count)
        ports[Int(number)].receivedBytes &+= UInt64(bytes)
        flush()
        receiver.release(port, count)
        return count
    }

    @inline(__always)
    private func process(_ frame: inout FrameInHand) {
        if let flow = table.lookup(frame.key, hash: frame.key.fold) {
            hits &+= 1
            flow.pointee.packets &+= 1
            flow.pointee.bytes &+= UInt64(frame.count)
            flow.pointee.used = now
            flow.pointee.tcpFlags |= frame.key.tcpFlags
            let only = flow.pointee.program.onlyOutput
            if only >= 0 {
                output(UInt32(only), &frame, tunnel: nil, length: .max)
            } else {
                run(flow.pointee.program, &frame)
            }
        } else {
            misses &+= 1
            upcall(&frame, cookie: 0)
        }
    }

    private func upcall(_ frame: inout FrameInHand, cookie: UInt64) {
        guard nestedUpcalls < UserspaceLimits.nestedUpcalls, let handler else { return }
        nestedUpcalls += 1
        let outer = current
        withUnsafeMutablePointer(to: &frame) { pointer in
            current = pointer
            handler.upcall(
                UpcallPacket(
                    cookie: cookie, key: pointer.pointee.key, layout: pointer.pointee.layout,
                    bytes: pointer.pointee.bytes, offload: pointer.pointee.offload, length: pointer.pointee.length),
                self)
        }
        current = outer
        nestedUpcalls -= 1
    }

    // MARK: - Actions

    private struct Tunnel {
        var id: UInt32
        var destination: UInt32
        var tos: UInt8
        var priority: UInt32 = 0
    }

    func run(_ shared: Program, _ frame: inout FrameInHand) {
        // Packets that it hands up may replace the flow that it belongs to.
        let program = shared.share()
        defer { program.free() }
        var tunnel: Tunnel?
        var length = Int.max
        var at = 0
        while true {
            let instruction = program.instructions[at]
            at += 1
            switch instruction.code {
            case .end: return
            case .output:
                output(instruction.port, &frame, tunnel: tunnel, length: length)
                length = .max
            case .truncate: length = Int(instruction.a)
            case .userspace: upcall(&frame, cookie: instruction.a)
            case .setTunnel:
                tunnel = Tunnel(
                    id: instruction.port, destination: UInt32(truncatingIfNeeded: instruction.a >> 32),
                    tos: UInt8(truncatingIfNeeded: instruction.c >> 8),
                    priority: takesPriority ? UInt32(truncatingIfNeeded: instruction.c >> 32) : 0)
            case .jumpUnlessMetered:
                let meter = Int(instruction.port)
                if meter < meters.count, let bucket = meters[meter], !bucket.passes(bytes: frame.count, now: now) {
                    at = Int(instruction.a)
                }
            case .jumpUnlessSampled:
                chance = mix(chance &+ 0x9e37_79b9_7f4a_7c15, 0x5a3b_1e00_0000_0029)
                if chance >> 32 > instruction.b { at = Int(instruction.a) }
            case .jumpIfLonger:
                if frame.length > Int(instruction.b) { at = Int(instruction.a) }
            default:
                if frame.isQueued { flush() }
                frame.isQueued = false
                rewrite(instruction, &frame)
            }
        }
    }

    private func rewrite(_ instruction: Program.Instruction, _ frame: inout FrameInHand) {
        let rewriter = FrameRewriter(
            frame.bytes, layout: frame.layout, partialChecksum: frame.offload.hasPartialChecksum)
        switch instruction.code {
        case .setEthernet:
            var value = FlowKey()
            var mask = FlowKey()
            value.etherSource = MACAddress(bits: instruction.a)
            mask.etherSource = MACAddress(bits: instruction.b)
            value.etherDestination = MACAddress(bits: instruction.c)
            mask.etherDestination = MACAddress(bits: instruction.d)
            rewriter.setEthernet(value, mask)
        case .setIPv4:
            if let fields = instruction.fields { rewriter.setIPv4(fields.pointee.value, fields.pointee.mask) }
        case .setIPv6:
            if let fields = instruction.fields { rewriter.setIPv6(fields.pointee.value, fields.pointee.mask) }
        case .setPorts:
            if let fields = instruction.fields {
                rewriter.setPorts(
                    fields.pointee.value, fields.pointee.mask, ipProtocol: UInt8(truncatingIfNeeded: instruction.a))
            }
        case .pushVLAN:
            guard frame.headroom >= 4, frame.count >= 14 else { return }
            frame.insertTag(
                tpid: UInt16(truncatingIfNeeded: instruction.a), tci: UInt16(truncatingIfNeeded: instruction.b))
        case .popVLAN: frame.removeTag()
        default: break
        }
    }

    private func output(_ number: UInt32, _ frame: inout FrameInHand, tunnel: Tunnel?, length: Int) {
        guard number < UInt32(UserspaceLimits.ports) else { return }
        let port = ports + Int(number)
        guard port.pointee.descriptor >= 0, let queue = port.pointee.queue else { return }
        if port.pointee.encapsulation == .none {
            if queue.pointee.isFull { flush(number) }
            // What is cut off can't be made whole any more: nothing is left to be done to the rest.
            let isWhole = length >= frame.count
            queue.pointee.add(
                frame.start, min(frame.count, length), isWhole ? frame.offload : Offload(),
                // Other copies of the frame have another head.
                headroom: isWhole ? frame.headroom : 0)
            frame.isQueued = true
        } else if port.pointee.encapsulation.isCollector {
            encapsulate(
                number, port, &frame, Tunnel(id: port.pointee.id, destination: port.pointee.remote, tos: 0), length)
        } else {
            guard let tunnel else { return }
            encapsulate(number, port, &frame, tunnel, length)
        }
        if !port.pointee.isDirty {
            port.pointee.isDirty = true
            dirtyPorts.append(number)
        }
    }

    private func encapsulate(
        _ number: UInt32, _ port: UnsafeMutablePointer<WorkerPort>, _ frame: inout FrameInHand, _ tunnel: Tunnel,
        _ length: Int
    ) {
        guard let queue = port.pointee.queue else { return }
        // Between two hosts an underlay shares flows among its ways, and cards among their queues, by source ports
        // (RFC 7348, section 5).
        let entropy = port.pointee.encapsulation == .vxlan ? frame.key.flowEntropy : 0
        func add(_ start: UnsafeMutableRawPointer, _ count: Int) {
            if queue.pointee.isFull { flush(number) }
            queue.pointee.add(
                start, min(count, length), port.pointee.encapsulation, id: tunnel.id,
                destination: tunnel.destination, port: port.pointee.udpPort, tos: tunnel.tos,
                priority: tunnel.priority, sequence: port.pointee.sequence, isCut: count > length, entropy: entropy)
            if port.pointee.encapsulation.isCollector { port.pointee.sequence &+= 1 }
        }
        if frame.offload.segmentation & 0x7f == 0 {
            if frame.offload.hasPartialChecksum {
                if frame.isQueued { flush() }
                guard Segmenter.completeChecksum(frame.bytes, &frame.offload) else {
                    malformed &+= 1
                    return
                }
            }
            add(frame.start, frame.count)
            frame.isQueued = true
            return
        }
        makeScratch(
            for: min(frame.count, Int(frame.offload.headerLength) + Int(frame.offload.segmentSize)))
        let segments = Segmenter.segmentCount(frame.bytes, frame.offload)
        let isV6 = frame.key.etherType == EtherType.ipv6
        for index in 0..<segments {
            if scratchUsed == SendQueue.capacity || queue.pointee.isFull { flush() }
            let out = UnsafeMutableRawBufferPointer(
                start: scratch + scratchUsed * scratchSize, count: scratchSize)
            let count = Segmenter.segment(
                frame.bytes, layout: frame.layout, isV6: isV6, frame.offload, index: index, into: out)
            guard count > 0, let start = out.baseAddress else {
                malformed &+= 1
                return
            }
            scratchUsed += 1
            add(start, count)
            if !port.pointee.isDirty {
                port.pointee.isDirty = true
                dirtyPorts.append(number)
            }
        }
    }

    /// Makes room for larger segments, as on an underlay that takes jumbo frames.
    private func makeScratch(for size: Int) {
        guard size > scratchSize else { return }
        flush()
        scratch.deallocate()
        scratchSize = (size + 63) / 64 * 64
        scratch = .allocate(byteCount: SendQueue.capacity * scratchSize, alignment: 64)
    }

    private func flush() {
        while let number = dirtyPorts.popLast() {
            ports[Int(number)].isDirty = false
            flush(number)
        }
        scratchUsed = 0
    }

    private func flush(_ number: UInt32) {
        let port = ports + Int(number)
        guard let queue = port.pointee.queue, queue.pointee.count > 0 else { return }
        let (sent, bytes, failed) = queue.pointee.flush()
        port.pointee.sentPackets &+= UInt64(sent)
        port.pointee.sentBytes &+= UInt64(bytes)
        port.pointee.sendErrors &+= UInt64(failed)
    }

    // MARK: - DatapathThread

    func install(_ flow: borrowing Flow) { table.install(flow) }
    func remove(_ id: FlowID) { table.remove(id) }

    func execute(_ actions: [Action], on packet: borrowing UpcallPacket) {
        guard let current else { return }
        execute(actions, &current.pointee)
    }

    func execute(_ actions: [Action], on packet: OwnedPacket) {
        let size = UserspaceLimits.headroom + packet.bytes.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size + 16, alignment: 16)
        defer { memory.deallocate() }
        let start = memory + UserspaceLimits.headroom
        packet.bytes.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { start.copyMemory(from: base, byteCount: bytes.count) }
        }
        var layout = PacketLayout()
        let bytes = UnsafeRawBufferPointer(start: start, count: packet.bytes.count)
        var key = FlowKey(parsing: bytes.bytes, layout: &layout)
        for word in 0..<7 { key.words[word] = packet.key.words[word] }
        var frame = FrameInHand(
            start: start, count: bytes.count, headroom: UserspaceLimits.headroom, offload: packet.offload,
            layout: layout, key: key,
            length: layer3Length(layout, frameLength: bytes.count, offload: packet.offload))
        execute(actions, &frame)
        // The bytes are freed on return.
        flush()
    }

    private func execute(_ actions: [Action], _ frame: inout FrameInHand) {
        if actions.isEmpty { return }
        let program = Program(actions)
        run(program, &frame)
        program.free()
    }

    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void) {
        table.forEach { flow in
            var statistics = FlowStatistics()
            statistics.packets = flow.pointee.packets
            statistics.bytes = flow.pointee.bytes
            statistics.usedNanoseconds = flow.pointee.used
            statistics.tcpFlags = flow.pointee.tcpFlags
            body(flow.pointee.id, statistics)
        }
    }
}
