// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Bounds of a simulation.
public enum SimulationLimits {
    /// Ports that one packet may enter before it is called a loop. A path through three routers and four bridges
    /// enters twelve; nobody draws eight times that on purpose.
    public static let portsEntered = 96
    /// Ports that all copies of one packet may enter together.
    public static let portsEnteredByAll = 8192
    /// Bytes of the offending IPv4 packet that an ICMP error quotes at most, so that the error has 576 (RFC 1812 4.3.2.3).
    public static let quotedIPv4 = 576 - 28
    /// The same for ICMPv6: the error fits the minimum MTU (RFC 4443 section 2.4).
    public static let quotedIPv6 = 1280 - 48
}

/// A packet as the simulation sees it.
public struct SimulatedPacket: ~Escapable {
    /// The parsed fields.
    public let key: FlowKey
    /// Where the layers are in ``bytes``.
    public let layout: PacketLayout
    /// The frame; may be empty when a flow is decided again from its key alone.
    public let bytes: RawSpan
    /// Layer 3 bytes; for a packet that the sender left to be segmented, those of its largest segment.
    public let length: Int

    /// A packet of parsed fields and bytes.
    @_lifetime(copy bytes)
    public init(key: FlowKey, layout: PacketLayout, bytes: RawSpan, length: Int) {
        self.key = key
        self.layout = layout
        self.bytes = bytes
        self.length = length
    }
}

/// Takes a packet through the virtual devices: bridges, routers and the links between them, all on the host where the
/// packet came in. Pure: what it knows it is given, what it decides it returns in ``verdict``.
///
/// A simulator is reused packet after packet and allocates nothing on the way of one that is just forwarded. It belongs
/// to one thread.
///
/// Its methods are `mutating` even where they change nothing: the compiler hands a value to a method that only reads it as
/// a copy of all its 1.4 KB, and one to a method that may change it as its address.
public struct Simulator: ~Copyable {
    /// The result of the last simulation; overwritten by the next.
    public internal(set) var verdict = Verdict()
    /// Whether ``Verdict/trace`` is written.
    public var isTracing = false

    let fabric: Fabric
    let state: any FlowStateView

    // The packet in hand. `key` is its header as rewritten so far.
    var original = FlowKey()
    var key = FlowKey()
    var written = FlowMask()
    var headerIndex: Int32 = 0
    var layout = PacketLayout()
    var length = 0
    /// By this copy, and by all.
    var portsEntered = 0
    var portsEnteredByAll = 0
    /// The port by which the packet entered the last router that forwards it: errors further on leave by it.
    var lastRouterPort: Int32 = -1
    /// The exterior port where the packet came in; -1 for a packet that a device made.
    var ingressPort: Int32 = -1
    /// What the packet quotes, when it is an ICMP error.
    var quoted: ConnectionTuple?
    /// Routes that were left out because what they send does not seem to arrive; -1 while none is left out.
    var leftOut = 0
    /// The identifier that the packet has, or the one that it quotes, of an ICMP query.
    var queryID: UInt16?
    /// What the router in hand translates.
    var translating = TranslationProgress()
    /// The header and the identifier as the last router got them: what errors quote and answer.
    var arrivalKey = FlowKey()
    var arrivalID: UInt16?
    /// What the packet in hand answers, when a device made it.
    var answered: [ConnectionUse] = []
    /// Devices that the packet went through, by tag.
    let traversed: UnsafeMutablePointer<UInt64>
    var traversedCount = 0
    /// Mirrors that told of the packet on its way to a service already.
    var recorded: [Int32] = []
    /// Room for the bits of chains, as a stack.
    let scratch: UnsafeMutablePointer<UInt64>
    var scratchTop = 0
    /// Set while several copies of the packet are under way: then no copy may end in an error message.
    /// Whether what is simulated is what a bridge itself says to a machine.
    var isService = false
    var isFlooding = false

    /// A simulator of one snapshot.
    public init(fabric: Fabric, state: any FlowStateView) {
        self.fabric = fabric
        self.state = state
        traversed = .allocate(capacity: SimulationLimits.portsEntered + 1)
        scratch = .allocate(
            capacity: max(1, fabric.tables.policy.words, fabric.tables.mirrors.words, fabric.tables.hops.words)
                * (Chain.depth + 1))
        verdict.outputs.reserveCapacity(64)
        verdict.headers.reserveCapacity(8)
        verdict.tags.reserveCapacity(64)
    }

    deinit {
        traversed.deallocate()
        scratch.deallocate()
    }

    /// Where the packet in hand came into the virtual network; `nil` for one that a device made.
    public var ingress: PortIndex? { ingressPort < 0 ? nil : PortIndex(ingressPort) }

    /// Simulates a packet that came in at an exterior port of this host.
    public mutating func simulate(_ packet: borrowing SimulatedPacket, at port: PortIndex) {
        begin(packet)
        ingressPort = port.value
        verdict.mask.include(.inPort)
        verdict.mask.include(.etherType)
        if isTracing { note("in", Int(port.value), "on host \(fabric.localHost)") }
        enter(port.value, packet)
        finish()
    }

    /// Simulates a packet that a device made and sends out of one of its ports.
    ///
    /// - Parameters:
    ///   - isRouted: whether its router sends it where its routes say, see ``GeneratedPacket/isRouted``.
    ///   - answers: see ``GeneratedPacket/answers``.
    ///   - isService: see ``GeneratedPacket/isService``.
    public mutating func simulateGenerated(
        _ packet: borrowing SimulatedPacket, leaving port: PortIndex, isRouted: Bool = false,
        answers: [ConnectionUse] = [], isService: Bool = false
    ) {
        begin(packet)
        answered = answers
        self.isService = isService
        defer { self.isService = false }
        verdict.isCacheable = false
        if !isRouted || !originate(port.value, packet) { leave(port.value, from: -1, packet) }
        finish()
    }

    /// Makes the verdict that of a packet which came from nowhere: dropped, and no flow.
    public mutating func simulateNothing() {
        verdict.reset()
        verdict.isCacheable = false
        verdict.drop = .unplugged
    }

    /// Makes the verdict that of a packet whose connection can't begin, for want of room unless said: dropped, and no flow.
    public mutating func refuse(_ reason: DropReason = .noRoom) {
        verdict.reset()
        verdict.isCacheable = false
        verdict.drop = reason
    }

    mutating func begin(_ packet: borrowing SimulatedPacket) {
        verdict.reset()
        original = packet.key
        key = packet.key
        written = FlowMask()
        headerIndex = 0
        layout = packet.layout
        length = packet.length
        portsEntered = 0
        portsEnteredByAll = 0
        quoted = nil
        queryID = nil
        translating.view = -1
        if !answered.isEmpty { answered = [] }
        if key.ipProtocol == IPProtocol.icmp || key.ipProtocol == IPProtocol.icmpv6,
            key.ipFragment != FragmentKind.later
        {
            readQuery(packet)
        }
        traversedCount = 0
        if !recorded.isEmpty { recorded.removeAll() }
        lastRouterPort = -1
        ingressPort = -1
        isFlooding = false
        verdict.headers.append(Verdict.Header(key: key, written: written))
    }

    /// Tags among which some are there twice, likely.
    private static let manyTags = 128

    mutating func finish() {
        // What many ports decide together is named once.
        if verdict.tags.count > Simulator.manyTags { verdict.tags = Array(Set(verdict.tags)) }
        if !verdict.outputs.isEmpty {
            verdict.drop = nil
        } else if verdict.drop == nil, verdict.wait == nil {
            verdict.drop = .consumed
        }
        if verdict.connections.isEmpty, verdict.translations.isEmpty { return }
        for index in verdict.packets.indices where verdict.packets[index].kind != .request {
            verdict.packets[index].answers = verdict.connections
        }
        // What is stopped begins nothing, and keeps nothing alive.
        let goesOn = verdict.wait == nil && (verdict.drop == nil || verdict.drop == .consumed)
        if goesOn {
            for use in verdict.connections {
                verdict.learned.append(.connection(use.tuple, zone: use.zone, flags: original.tcpFlags))
            }
            for use in verdict.translations {
                verdict.learned.append(.translation(use, flags: original.tcpFlags))
            }
        } else {
            verdict.connections.removeAll(keepingCapacity: true)
            verdict.translations.removeAll(keepingCapacity: true)
            verdict.learned.removeAll { if case .fragment = $0 { true } else { false } }
        }
    }

    // MARK: - Ports

    /// The packet comes into a device by one of its ports.
    mutating func enter(_ index: Int32, _ packet: borrowing SimulatedPacket) {
        let port = fabric.ports[Int(index)]
        verdict.tags.append(port.tag)
        portsEntered += 1
        portsEnteredByAll += 1
        guard portsEntered <= SimulationLimits.portsEntered, portsEnteredByAll <= SimulationLimits.portsEnteredByAll
        else { return drop(.loop, at: index) }
        guard port.isEnabled else { return drop(.portDisabled, at: index) }
        if port.isDaemon { return sendForDaemon(index, port) }
        // Nobody is answered by a port that stands by, and nothing of it is copied.
        if port.isShared, index == ingressPort, isTurnedAway(index, port) { return }
        let device = port.isRouter ? fabric.routers[Int(port.device)].tag : fabric.bridges[Int(port.device)].tag
        traversed[traversedCount] = device.bits
        traversedCount += 1
        if port.isRouter { (arrivalKey, arrivalID) = (key, queryID) }
        // What is stopped at the port depends on its bridge, too, which may give addresses ahead of all that stops it.
        if !port.isRouter { verdict.tags.append(device) }
        let isBack = port.isService && index == ingressPort && fabric.tables.hops.returns[index] != nil
        if isBack {
            if !fabric.tables.mirrors.isEmpty { mirrorArrival(index, port, isDetour: true) }
            if comesBack(index, packet) { return }
        }
        if port.sends >= 0 {
            noteGroups(port)
            guard passesGuard(port, at: index, packet) else { return }
        }
        if !fabric.tables.mirrors.isEmpty, !isBack { mirrorArrival(index, port) }
        if !fabric.tables.services.isEmpty, !port.isRouter, index == ingressPort, answerService(index, port, packet) {
            return
        }
        if port.companion >= 0, index == ingressPort, reachesDaemon(index, port) { return }
        if port.dscp < 64 { mark(port.dscp, index) }
        if port.isServed, goesThroughService(index, port, isSent: true, from: index, packet) { return }
        enterBehindServices(index, port, device, packet)
    }

    /// The same behind the services that the port's traffic goes through.
    mutating func enterBehindServices(
        _ index: Int32, _ port: PortRecord, _ device: Tag, _ packet: borrowing SimulatedPacket
    ) {
        let place = FilterPlace(inPort: index, outPort: -1, device: device)
        if port.sends >= 0 {
            guard passes(port.sends, place, at: index, packet) else { return }
        }
        guard passes(port.inbound, place, at: index, packet) else { return }
        if port.isRouter {
            routerInput(index, port, packet)
        } else {
            bridgeInput(index, port, packet)
        }
    }

    /// The packet goes out of a device by one of its ports, VLAN tags already as the port wants them.
    ///
    /// - Parameter from: the port by which it came into the device; -1 for what the device made.
    mutating func leave(_ index: Int32, from: Int32, _ packet: borrowing SimulatedPacket) {
        let port = fabric.ports[Int(index)]
        verdict.tags.append(port.tag)
        guard port.isEnabled else { return drop(.portDisabled, at: index) }
        // What the bridge itself says goes there by one port only, too.
        guard carries(index, port) else { return drop(.standby, at: index) }
        if port.isService, !isForService(index, port) {
            return drop(.serviceUnknown, at: index)
        }
        if port.outbound >= 0, !isService {
            let device = port.isRouter ? fabric.routers[Int(port.device)].tag : fabric.bridges[Int(port.device)].tag
            let place = FilterPlace(inPort: from, outPort: index, device: device)
            guard passes(port.outbound, place, at: index, packet) else { return }
        }
        if port.gets >= 0, !isService {
            let place = FilterPlace(inPort: from, outPort: index, device: fabric.bridges[Int(port.device)].tag)
            noteGroups(port)
            guard passes(port.gets, place, at: index, packet) else { return }
        }
        if !fabric.tables.mirrors.isEmpty, port.attachment != .none { mirrorDeparture(index, from: from, port) }
        if port.isServed, !isService, goesThroughService(index, port, isSent: false, from: from, packet) { return }
        leaveBehindServices(index, port, packet)
    }

    /// The same behind the services that the port's traffic goes through.
    mutating func leaveBehindServices(_ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket) {
        if port.mtu > 0 {
            let mtu = port.mtu - tagLength
            if length > Int(mtu) {
                return !isFlooding && answersTooBig(packet)
                    ? tooBig(mtu: Int(mtu), at: index, packet) : drop(.tooBig, at: index)
            }
            if !isFlooding { verdict.lengthLimit = verdict.lengthLimit == 0 ? mtu : min(verdict.lengthLimit, mtu) }
        }
        switch port.attachment {
        case .none: drop(.unplugged, at: index)
        case .peer: enter(port.peer, packet)
        case .local:
            if isTracing { note("out", Int(index), "here") }
            emit(.local(PortIndex(index)))
        case .remote: sendRemote(port.host, key: port.tunnelKey, from: index, packet)
        }
    }

    /// What a port's security groups say is a matter of all of them.
    mutating func noteGroups(_ port: PortRecord) {
        for offset in 0..<Int(port.groupCount) {
            verdict.tags.append(Tag(bits: fabric.tables.portGroups[Int(port.groupStart) + offset]))
        }
    }

    /// Sends through the tunnel to a host, or answers that the packet is too big for it.
    mutating func sendRemote(
        _ host: Int32, key tunnelKey: UInt32, from port: Int32, _ packet: borrowing SimulatedPacket
    ) {
        guard host >= 0 else { return drop(.noTunnel, at: port) }
        let record = fabric.hosts[Int(host)]
        verdict.tags.append(record.tag)
        guard record.isReachable else { return drop(.noTunnel, at: port) }
        let mtu = record.mtu - tagLength
        if !isFlooding {
            if length > Int(mtu), answersTooBig(packet) { return tooBig(mtu: Int(mtu), at: port, packet) }
            verdict.lengthLimit = verdict.lengthLimit == 0 ? mtu : min(verdict.lengthLimit, mtu)
        }
        if length > Int(mtu) {
            verdict.isCacheable = false
            if isTracing { note("out", Int(port), "\(length) bytes are more than \(mtu): fragmented on the way") }
        }
        if isTracing {
            let silence = state.canReach(record.tag) ? "" : ", which does not answer through its tunnel"
            let name = fabric.hostNames[Int(host)]
            note("out", Int(port), "on host \(name), by tunnel with key \(hexKey(tunnelKey))\(silence)")
        }
        emit(.remote(HostIndex(host), key: tunnelKey))
    }

    /// Bytes of the VLAN tags that go through the tunnel with the packet.
    private var tagLength: Int32 {
        mutating get {
            verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
            if !key.hasVLAN { return 0 }
            verdict.mask.include(.innerVLANTPID)
            return key.innerVLANTPID == 0 ? 4 : 8
        }
    }

    /// Adds an output with the header as it is now.
    mutating func emit(_ destination: Verdict.Destination) {
        verdict.outputs.append(Verdict.Output(destination: destination, header: headerNow()))
    }

    /// The header as it is now, among those of the verdict.
    mutating func headerNow() -> Int32 {
        if headerIndex < 0 {
            headerIndex = Int32(verdict.headers.count)
            verdict.headers.append(Verdict.Header(key: key, written: written))
        }
        return headerIndex
    }

    /// To be called after each change of `key`: the next output needs a header of its own.
    @inline(__always)
    mutating func headerChanged() { headerIndex = -1 }

    mutating func drop(_ reason: DropReason, at port: Int32) {
        if verdict.drop == nil || verdict.drop == .consumed { verdict.drop = reason }
        if isTracing { note("drop", Int(port), reason.rawValue) }
    }

    // MARK: - Trace

    /// Adds a trace line about a port; to be called only while tracing, since its text costs an allocation.
    mutating func note(_ stage: String, _ port: Int, _ text: String) {
        verdict.trace.append(TraceLine(stage: stage, object: fabric.portPaths[port].description, text: text))
    }

    /// Adds a trace line about a device; to be called only while tracing.
    mutating func noteDevice(_ stage: String, _ path: DevicePath, _ text: String) {
        verdict.trace.append(TraceLine(stage: stage, object: path.description, text: text))
    }
}

/// A tunnel key as tools print it.
public func hexKey(_ key: UInt32) -> String {
    let digits = String(key, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
}
