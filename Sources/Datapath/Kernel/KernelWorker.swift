// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Netlink
import Synchronization
import Wire

/// Bounds of the kernel engine.
enum KernelLimits {
    /// Upcalls read in one go.
    static let batch = 64
    /// Upcalls taken in before they are served: what a port has beyond its share of them is dropped.
    static let window = 256
    /// Upcalls of one port in a window while other ports have some.
    static let perPort = 64
    /// Windows served before wake-ups and time have their turn.
    static let roundsBetweenPolls = 16
    /// Bytes of one upcall: 64 KiB of packet and its attributes.
    static let upcallSize = 68 << 10
    /// Receive buffer of an upcall socket, bytes.
    static let receiveBuffer: Int32 = 4 << 20
    /// Bytes of requests that are sent at once.
    static let sendBuffer = 96 << 10
}

/// One upcall thread of the kernel engine: it reads upcalls, lets its handler decide, and sends what was decided in as
/// few system calls as it can.
final class KernelWorker: DatapathThread, @unchecked Sendable {  // only atomics and `wakeup` leave its thread
    let wakeup: Descriptor
    let isStopping = Atomic<Bool>(false)
    /// Times the upcall socket overflowed.
    let overflows = Atomic<UInt64>(0)
    /// Upcalls over their port's share.
    let unfair = Atomic<UInt64>(0)
    /// Requests that the kernel refused.
    let refused = Atomic<UInt64>(0)
    /// Flows that the kernel did not take, since their packets are another's that is there.
    let overlapping = Atomic<UInt64>(0)
    /// Times that the kernel had no room for what it refused.
    let unheard = Atomic<UInt64>(0)
    /// The last refusal in words.
    let lastRefusal = Mutex("")
    /// Upcalls read.
    let upcalls = Atomic<UInt64>(0)

    let upcallSocket: NetlinkSocket
    private let requestSocket: NetlinkSocket
    private let control: KernelControl
    private let families: KernelControl.Families
    private var datapath: Int32 = 0
    var handler: (any UpcallHandler)?

    private var requests: MessageBuffer
    private let memory: UnsafeMutableRawPointer
    private let messages: UnsafeMutablePointer<cl_message>
    private let pieces: UnsafeMutablePointer<iovec>

    init() throws {
        wakeup = Descriptor(try SystemError.check(cl_eventfd(), "create an event descriptor"))
        upcallSocket = try NetlinkSocket(protocol: 16)
        upcallSocket.setReceiveBuffer(KernelLimits.receiveBuffer)
        requestSocket = try NetlinkSocket(protocol: 16)
        requestSocket.setSendBuffer(Int32(KernelLimits.sendBuffer) * 4)
        control = try KernelControl()
        families = control.families
        requests = MessageBuffer(capacity: KernelLimits.sendBuffer)
        let size = KernelLimits.upcallSize
        memory = .allocate(byteCount: KernelLimits.window * size, alignment: 64)
        messages = .allocate(capacity: KernelLimits.window)
        pieces = .allocate(capacity: KernelLimits.window)
        for index in 0..<KernelLimits.window {
            (pieces + index).initialize(to: iovec(iov_base: memory + index * size, iov_len: size))
            (messages + index).initialize(
                to: cl_message(
                    name: nil, name_length: 0, iov: pieces + index, iov_count: 1, control: nil, control_length: 0,
                    flags: 0, padding: 0, length: 0))
        }
    }

    deinit {
        requests.free()
        memory.deallocate()
        messages.deallocate()
        pieces.deallocate()
    }

    func attach(to datapath: Int32) {
        self.datapath = datapath
        control.attach(to: datapath)
    }

    // MARK: - The loop

    func run() {
        var nextTick: UInt64 = 0
        while !isStopping.load(ordering: .relaxed) {
            var polls = [
                pollfd(fd: upcallSocket.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wakeup.number, events: Int16(POLLIN), revents: 0),
            ]
            poll(&polls, 2, UpcallHandlerTiming.tickMilliseconds)
            let isWoken = polls[1].revents != 0
            if isWoken { cl_eventfd_drain(wakeup.number) }
            // What came meanwhile needs no waiting for.
            var rounds = 0
            while polls[0].revents != 0, rounds < KernelLimits.roundsBetweenPolls, serve() { rounds += 1 }
            let now = cl_monotonic_ns()
            if isWoken || now >= nextTick {
                nextTick = now + UInt64(UpcallHandlerTiming.tickMilliseconds) * 1_000_000
                handler?.wake(self)
                send()
                drainRefusals()
            }
        }
    }

    /// Reads what is there, up to a window, and serves it; false when there was nothing.
    private func serve() -> Bool {
        var count = 0
        while count < KernelLimits.window {
            let wanted = min(KernelLimits.batch, KernelLimits.window - count)
            let got = Int(cl_receive(upcallSocket.descriptor, messages + count, UInt32(wanted)))
            if got == -Int(ENOBUFS) {
                overflows.add(1, ordering: .relaxed)
                continue
            }
            guard got > 0 else { break }
            count += got
            if got < wanted { break }
        }
        guard count > 0 else { return false }
        upcalls.add(UInt64(count), ordering: .relaxed)
        serve(count)
        send()
        return true
    }

    /// Serves a window of upcalls in order of arrival. While several ports have some, none gets more than its share: what
    /// a flooding port has beyond it is dropped here, where it costs next to nothing.
    private func serve(_ count: Int) {
        var perPort: [UInt32: Int] = [:]
        var parsed: [(key: FlowKey, cookie: UInt64, packet: UnsafeMutableRawBufferPointer)] = []
        parsed.reserveCapacity(count)
        for index in 0..<count {
            guard let upcall = parse(index) else { continue }
            parsed.append(upcall)
            perPort[upcall.key.inPort, default: 0] += 1
        }
        let isShared = perPort.count > 1
        var served: [UInt32: Int] = [:]
        for upcall in parsed {
            if isShared {
                let before = served[upcall.key.inPort, default: 0]
                served[upcall.key.inPort] = before + 1
                if before >= KernelLimits.perPort {
                    unfair.add(1, ordering: .relaxed)
                    continue
                }
            }
            decide(upcall.key, upcall.cookie, upcall.packet)
        }
    }

    private func parse(_ index: Int) -> (key: FlowKey, cookie: UInt64, packet: UnsafeMutableRawBufferPointer)? {
        let length = Int(messages[index].length)
        let start = memory + index * KernelLimits.upcallSize
        // Netlink header 16, generic header 4, ovs header 4.
        guard length >= 24 else { return nil }
        let type = start.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        guard type == families.packet else { return nil }
        var key: FlowKey?
        var packet: UnsafeMutableRawBufferPointer?
        var cookie: UInt64 = 0
        let attributes = UnsafeRawBufferPointer(start: start + 24, count: length - 24)
        NetlinkReader.forEachAttribute(attributes) { type, value in
            switch type {
            case 1: packet = UnsafeMutableRawBufferPointer(mutating: value)
            case 2: key = KeyCodec.decode(value)
            case 4: cookie = value.number() ?? 0
            default: break
            }
        }
        guard let key, let packet else { return nil }
        return (key, cookie, packet)
    }

    private func decide(_ kernelKey: FlowKey, _ cookie: UInt64, _ packet: UnsafeMutableRawBufferPointer) {
        // The layers are found here; the fields that the kernel says are its own parsing of the same bytes.
        var layout = PacketLayout()
        _ = FlowKey(parsing: UnsafeRawBufferPointer(packet).bytes, layout: &layout)
        handler?.upcall(
            UpcallPacket(
                cookie: cookie, key: kernelKey, layout: layout, bytes: packet, offload: Offload(),
                length: layer3Length(layout, frameLength: packet.count, offload: Offload())),
            self)
    }

    // MARK: - Requests

    /// What is asked of the kernel, as the sequence number of the request.
    private enum Request: UInt32, CustomStringConvertible {
        case new = 1
        case set = 2
        case remove = 3
        case execute = 4

        var description: String {
            switch self {
            case .new: "install a flow"
            case .set: "give a flow new actions"
            case .remove: "remove a flow"
            case .execute: "send a packet"
            }
        }
    }

    private func send() {
        guard requests.count > 0 else { return }
        let result = Glibc.send(requestSocket.descriptor, requests.base, requests.count, 0)
        if result < 0 { refused.add(1, ordering: .relaxed) }
        requests.reset()
    }

    /// Requests are not acknowledged, but what the kernel refuses it says.
    private func drainRefusals() {
        var more = true
        while more {
            more = false
            let isWhole = try? requestSocket.receive { reader in
                more = true
                guard reader.type == 2, let code = reader.payload.number(Int32.self), code != 0 else { return }
                let request = Request(rawValue: reader.sequence)
                if code == -ENOENT {
                    switch request {
                    // A flow that another thread or an earlier change removed, or that is not there yet.
                    case .set, .remove: return
                    // One whose packets another one holds by now (`ovs_flow_cmd_new`).
                    case .new:
                        overlapping.add(1, ordering: .relaxed)
                        return
                    case .execute, nil: break
                    }
                }
                refused.add(1, ordering: .relaxed)
                let what = request?.description ?? "do what was asked"
                lastRefusal.withLock { $0 = SystemError(code, what).description + reader.reason }
            }
            guard let isWhole else { return }
            if !isWhole {
                unheard.add(1, ordering: .relaxed)
                more = true
            }
        }
    }

    private func room(for bytes: Int) {
        if requests.hasRoom(for: bytes) { return }
        send()
        drainRefusals()
    }

    private func begin(_ request: Request, _ family: UInt16, _ command: UInt8) {
        requests.begin(
            family: family, command: command, version: 1, flags: 1, datapath: datapath, sequence: request.rawValue)
    }

    private func finish(_ request: Request) {
        if requests.end() { return }
        refused.add(1, ordering: .relaxed)
        lastRefusal.withLock { $0 = "\(request): more than a netlink message holds" }
    }

    func install(_ flow: borrowing Flow) {
        // The kernel compares the key of a NEW for a flow that is there, unmasked, with what it stored, masked
        // (net/openvswitch/flow_table.c). They differ where the EtherType is left open, since the key is taken for that of a
        // frame with a length field then, and where a tunnel's addresses are: the flow would go on as it was. SET finds it by
        // its identifier alone.
        if flow.mask.bits.etherType == 0 || flow.mask.bits.tunnelID != 0 { request(.set, flow) }
        request(.new, flow)
    }

    private func request(_ request: Request, _ flow: borrowing Flow) {
        room(for: 1024 + flow.actions.count * 256)
        begin(request, families.flow, (request == .set ? OVS.FlowCommand.set : .new).rawValue)
        requests.attribute(9, (flow.id.high, flow.id.low))
        // A mask that has the tunnel's key means it, also where that is 0.
        let isTunnel = flow.mask.bits.tunnelID != 0
        let key = requests.beginNest(1)
        KeyCodec.encode(flow.key, shape: flow.key, isMask: false, isTunnel: isTunnel, into: &requests)
        requests.endNest(key)
        let mask = requests.beginNest(7)
        KeyCodec.encode(flow.mask.bits, shape: flow.key, isMask: true, isTunnel: isTunnel, into: &requests)
        requests.endNest(mask)
        let actions = requests.beginNest(2)
        ActionCodec.encode(flow.actions, upcallPort: upcallSocket.portID, into: &requests)
        requests.endNest(actions)
        finish(request)
    }

    func remove(_ id: FlowID) {
        room(for: 64)
        begin(.remove, families.flow, OVS.FlowCommand.delete.rawValue)
        requests.attribute(9, (id.high, id.low))
        finish(.remove)
    }

    func execute(_ actions: [Action], on packet: borrowing UpcallPacket) {
        execute(actions, packet.key, UnsafeRawBufferPointer(packet.bytes))
    }

    func execute(_ actions: [Action], on packet: OwnedPacket) {
        packet.bytes.withUnsafeBytes { execute(actions, packet.key, $0) }
    }

    private func execute(_ actions: [Action], _ key: FlowKey, _ packet: UnsafeRawBufferPointer) {
        // A packet that goes nowhere needs no telling, and one that is larger than a netlink attribute cannot be told.
        guard !actions.isEmpty, (14..<65_500).contains(packet.count) else { return }
        room(for: packet.count + 512 + actions.count * 256)
        begin(.execute, families.packet, 3)
        requests.attribute(1, bytes: packet)
        let nest = requests.beginNest(2)
        requests.attribute(OVS.Key.inPort, key.inPort)
        requests.endNest(nest)
        let list = requests.beginNest(3)
        ActionCodec.encode(actions, upcallPort: upcallSocket.portID, into: &requests)
        requests.endNest(list)
        finish(.execute)
    }

    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void) {
        send()
        try? control.forEachFlow(body)
    }
}
