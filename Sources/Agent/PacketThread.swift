// SPDX-License-Identifier: Apache-2.0
import Datapath
import Linux
import Simulation
import Synchronization
import Topology
import Wire

/// Counters of a packet thread, by what was done or why not.
public struct AgentCounters: Sendable, Equatable {
    /// Packets simulated.
    public var simulated: UInt64 = 0
    /// Flows installed.
    public var installed: UInt64 = 0
    /// Flows that were replaced in place because the topology or the state changed.
    public var replaced: UInt64 = 0
    /// Flows that went for want of use.
    public var expired: UInt64 = 0
    /// Packets that were parked.
    public var parked: UInt64 = 0
    /// Packets that found no room to wait.
    public var parkingFull: UInt64 = 0
    /// Flows that found no room.
    public var tableFull: UInt64 = 0
    /// ICMP errors and answers over their rate.
    public var rateLimited: UInt64 = 0
    /// Packets of ports that are not bound.
    public var unbound: UInt64 = 0
    /// Packets dropped, by reason.
    public var drops: [DropReason: UInt64] = [:]

    /// All zeros.
    public init() {}

    /// Adds another thread's.
    public mutating func add(_ other: AgentCounters) {
        simulated += other.simulated
        installed += other.installed
        replaced += other.replaced
        expired += other.expired
        parked += other.parked
        parkingFull += other.parkingFull
        tableFull += other.tableFull
        rateLimited += other.rateLimited
        unbound += other.unbound
        drops.merge(other.drops, uniquingKeysWith: +)
    }
}

/// The forwarding engine's half on one packet thread: it decides what no flow holds, installs what it decided, and decides
/// again what changed. Everything but the mailbox belongs to the packet thread.
final class PacketThread: UpcallHandler, @unchecked Sendable {
    // @unchecked: only `mailbox` is touched by other threads.

    /// What other threads ask of this one.
    enum Message: Sendable {
        /// Work with this from now on; the flows with these tags may be wrong.
        case epoch(Epoch, changed: Set<Tag>)
        /// The flows with these tags may be wrong.
        case invalidate(Set<Tag>)
        /// Flows that an earlier run left: keep those that are still right, remove the others.
        case inherit([InheritedFlow])
        /// Tell what is installed.
        case report(Reply<[FlowReport]>)
        /// Tell the counters.
        case count(Reply<AgentCounters>)
    }

    let mailbox = Mutex<[Message]>([])

    private let index: Int
    private let installsStanding: Bool
    private let state: LocalState
    /// Tells all threads of this host that something was learned.
    private let announce: @Sendable (Set<Tag>) -> Void

    private var epoch: Epoch
    private var simulator: Simulator
    private var flows = FlowIndex()
    private var standing: Set<FlowID> = []
    private var lot = ParkingLot()
    private var counters = AgentCounters()
    private var errorBudget: [PortIndex: RateLimit] = [:]
    private var answerBudget: [PortIndex: RateLimit] = [:]
    private var nextExpiry: UInt64 = 0
    private var now: UInt64 = 0

    /// - Parameter installsStanding: whether this thread installs what may arrive by tunnel; one thread does where flows
    ///   are shared, every thread where each has its own.
    init(
        index: Int, epoch: Epoch, state: LocalState, installsStanding: Bool,
        announce: @escaping @Sendable (Set<Tag>) -> Void
    ) {
        self.index = index
        self.epoch = epoch
        self.state = state
        self.installsStanding = installsStanding
        self.announce = announce
        simulator = Simulator(fabric: epoch.fabric, state: state)
    }

    func post(_ message: Message) { mailbox.withLock { $0.append(message) } }

    // MARK: - Upcalls

    func upcall(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) {
        now = monotonicNanoseconds()
        switch epoch.ingress(packet.key.inPort) {
        case .exterior(let port): decide(packet, at: port, thread)
        case .tunnel: arrive(packet, thread)
        case nil: counters.unbound &+= 1
        }
    }

    private func decide(_ packet: borrowing UpcallPacket, at port: PortIndex, _ thread: any DatapathThread) {
        counters.simulated &+= 1
        simulator.simulate(
            SimulatedPacket(
                key: packet.key, layout: packet.layout, bytes: UnsafeRawBufferPointer(packet.bytes).bytes,
                length: packet.length),
            at: port)
        if simulator.verdict.wait != nil {
            park(packet.owned(), .ingress(epoch.fabric.tag(port)))
            settle(thread, generation: 0)
            return
        }
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        if simulator.verdict.isCacheable {
            install(Flow(key: packet.key, mask: mask, actions: actions), sample: packet.key, thread)
        }
        count(simulator.verdict)
        // A packet that is too long for the flow's own check goes out as it is: it may be fragmented.
        thread.execute(withoutCheck(actions), on: packet)
        settle(thread, generation: 0)
    }

    private func arrive(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) {
        let key = UInt32(truncatingIfNeeded: packet.key.tunnelID)
        if key == ReservedKeys.state {
            if let learned = StateMessage.decode(UnsafeRawBufferPointer(packet.bytes)), state.learn(learned, now: now) {
                announce([learned.tag])
            }
            return
        }
        counters.simulated &+= 1
        simulator.simulateArrival(
            SimulatedPacket(
                key: packet.key, layout: packet.layout, bytes: UnsafeRawBufferPointer(packet.bytes).bytes,
                length: packet.length),
            key: key)
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        install(Flow(key: packet.key, mask: mask, actions: actions), sample: packet.key, thread)
        count(simulator.verdict)
        thread.execute(actions, on: packet)
    }

    private func withoutCheck(_ actions: [Action]) -> [Action] {
        if case .checkLength(_, _, let fits)? = actions.first { return fits }
        return actions
    }

    private func install(
        _ decided: Flow, sample: FlowKey, _ thread: any DatapathThread, isStanding: Bool = false
    ) {
        guard simulator.verdict.tags.count <= AgentLimits.tagsPerFlow,
            flows.count < AgentLimits.flowsPerThread || isStanding
        else {
            counters.tableFull &+= 1
            return
        }
        var flow = decided
        flows.put(&flow, sample: sample, now: now, isStanding: isStanding, tags: simulator.verdict.tags)
        thread.install(flow)
        counters.installed &+= 1
    }

    private func count(_ verdict: borrowing Verdict) {
        if let reason = verdict.drop { counters.drops[reason, default: 0] &+= 1 }
    }

    private func park(_ packet: OwnedPacket, _ origin: ParkingLot.Parked.Origin) {
        guard let query = simulator.verdict.wait else { return }
        let parked = lot.park(
            .init(packet: packet, origin: origin),
            for: .init(address: query.address, port: epoch.fabric.tag(query.port)), now: now)
        if parked.accepted { counters.parked &+= 1 } else { counters.parkingFull &+= 1 }
    }

    /// Carries out what a verdict asks for besides the packet itself: state, and packets that devices send.
    private func settle(_ thread: any DatapathThread, generation: Int) {
        var news: Set<Tag> = []
        for learned in simulator.verdict.learned where state.learn(learned, now: now) {
            news.insert(learned.tag)
            tell(learned, thread)
        }
        let packets = simulator.verdict.packets
        for generated in packets where isWithinRate(generated) {
            send(
                generated.frame, leaving: generated.port, isRouted: generated.isRouted, thread,
                generation: generation + 1)
        }
        if !news.isEmpty { announce(news) }
    }

    private func isWithinRate(_ packet: GeneratedPacket) -> Bool {
        let isWithin: Bool
        switch packet.kind {
        case .request: return true
        case .error:
            isWithin = errorBudget[packet.port, default: RateLimit(perSecond: AgentLimits.errorsPerSecond)].take(
                now: now)
        case .answer:
            isWithin = answerBudget[packet.port, default: RateLimit(perSecond: AgentLimits.answersPerSecond)].take(
                now: now)
        }
        if !isWithin { counters.rateLimited &+= 1 }
        return isWithin
    }

    /// Sends a frame that a device made out of one of its ports.
    private func send(
        _ frame: [UInt8], leaving port: PortIndex, isRouted: Bool = false, _ thread: any DatapathThread, generation: Int
    ) {
        guard generation <= AgentLimits.generations else { return }
        simulateGenerated(frame, leaving: port, isRouted)
        if simulator.verdict.wait != nil {
            park(OwnedPacket(bytes: frame), .leaving(epoch.fabric.tag(port), isRouted: isRouted))
        } else {
            let (actions, _) = ActionBuilder.actions(of: simulator.verdict, epoch)
            thread.execute(withoutCheck(actions), on: OwnedPacket(bytes: frame))
        }
        settle(thread, generation: generation)
    }

    private func simulateGenerated(_ frame: [UInt8], leaving port: PortIndex, _ isRouted: Bool) {
        counters.simulated &+= 1
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            let length = layout.networkLength > 0 ? layout.networkLength : bytes.count - Int(layout.network)
            simulator.simulateGenerated(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: length), leaving: port,
                isRouted: isRouted)
        }
    }

    /// Tells the other hosts what was learned here.
    private func tell(_ learned: Learned, _ thread: any DatapathThread) {
        let packet = OwnedPacket(bytes: StateMessage.encode(learned))
        for tunnel in epoch.allTunnels {
            thread.execute(
                [
                    .setTunnel(
                        TunnelHeader(id: ReservedKeys.state, source: tunnel.local, destination: tunnel.remote)),
                    .output(tunnel.port),
                ], on: packet)
        }
    }

    // MARK: - Changes and time

    func wake(_ thread: any DatapathThread) {
        now = monotonicNanoseconds()
        let messages = mailbox.withLock { messages in
            let all = messages
            messages.removeAll()
            return all
        }
        for message in messages {
            switch message {
            case .epoch(let epoch, let changed): adopt(epoch, changed, thread)
            case .invalidate(let tags):
                decideAgain(flows.flows(with: tags), thread)
                resume(lot.take(tags), thread)
            case .inherit(let inherited): inherit(inherited, thread)
            case .report(let reply): reply.put(report(thread))
            case .count(let reply): reply.put(counters)
            }
        }
        for due in lot.due(now: now) {
            switch due {
            case .ask(let query): ask(query, thread)
            case .unreachable(let query, let packets):
                state.markUnreachable(query.address, port: query.port, now: now)
                announce([.neighbor(query.address, port: query.port)])
                resume(packets, thread)
            }
        }
        if now >= nextExpiry {
            // Reading the counters of many flows takes its time: the more there are, the less often.
            nextExpiry = now &+ max(AgentLimits.expiryIntervalNanoseconds, UInt64(flows.count) * 20_000)
            expire(thread)
            if index == 0 {
                let forgotten = state.expire(now: now)
                if !forgotten.isEmpty { announce(forgotten) }
            }
        }
    }

    private func adopt(_ epoch: Epoch, _ changed: Set<Tag>, _ thread: any DatapathThread) {
        self.epoch = epoch
        simulator = Simulator(fabric: epoch.fabric, state: state)
        errorBudget.removeAll()
        answerBudget.removeAll()
        decideAgain(flows.flows(with: changed), thread)
        if installsStanding { installStanding(thread) }
        resume(lot.takeAll(), thread)
    }

    /// Installs what may arrive by tunnel before it does, and removes what may no longer.
    private func installStanding(_ thread: any DatapathThread) {
        var wanted: Set<FlowID> = []
        for number in epoch.tunnelPorts {
            for arrival in epoch.fabric.arrivals + [(key: ReservedKeys.state, vlan: 0)] {
                var key = FlowKey()
                key.inPort = number.value
                key.tunnelID = UInt64(arrival.key)
                if arrival.vlan != 0 {
                    key.vlanTCI = arrival.vlan == Fabric.anyTag ? 0x1000 : 0x1000 | arrival.vlan
                    key.vlanTPID = EtherType.vlan
                }
                let flow = standingFlow(key)
                wanted.insert(flow.id)
                install(flow, sample: key, thread, isStanding: true)
            }
        }
        for id in standing.subtracting(wanted) {
            thread.remove(id)
            flows.remove(id)
        }
        standing = wanted
    }

    private func standingFlow(_ key: FlowKey) -> Flow {
        if key.tunnelID == UInt64(ReservedKeys.state) {
            var mask = FlowMask()
            mask.include(.inPort)
            mask.include(.tunnelID)
            return Flow(key: key, mask: mask, actions: [.userspace(cookie: ActionCookies.state)])
        }
        resimulate(key)
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        return Flow(key: key, mask: mask, actions: actions)
    }

    /// Simulates from a key alone, as when a flow is decided again.
    private func resimulate(_ key: FlowKey) {
        var layout = PacketLayout()
        layout.networkLength = 20
        let packet = SimulatedPacket(key: key, layout: layout, bytes: RawSpan(), length: 0)
        switch epoch.ingress(key.inPort) {
        case .exterior(let port): simulator.simulate(packet, at: port)
        case .tunnel: simulator.simulateArrival(packet, key: UInt32(truncatingIfNeeded: key.tunnelID))
        case nil: simulator.simulateNothing()
        }
    }

    /// Decides flows again: what is still right stays as it is, what changed is replaced in place, what can be no flow any
    /// more goes.
    private func decideAgain(_ ids: [FlowID], _ thread: any DatapathThread) {
        for id in ids {
            guard let slot = flows.find(id) else { continue }
            let record = flows[slot]
            if record.isStanding, record.sample.tunnelID == UInt64(ReservedKeys.state) { continue }
            guard epoch.ingress(record.sample.inPort) != nil else {
                thread.remove(id)
                flows.remove(id)
                continue
            }
            counters.simulated &+= 1
            resimulate(record.sample)
            if simulator.verdict.wait != nil {
                // The flow goes on as it is until the neighbor answers, or does not.
                settle(thread, generation: 0)
                continue
            }
            guard simulator.verdict.isCacheable || record.isStanding else {
                thread.remove(id)
                flows.remove(id)
                continue
            }
            let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
            var flow = Flow(key: record.sample, mask: mask, actions: actions)
            if flow.id != id {
                thread.remove(id)
                flows.remove(id)
                counters.replaced &+= 1
                install(flow, sample: record.sample, thread, isStanding: record.isStanding)
            } else {
                if flow.actions != record.actions {
                    counters.replaced &+= 1
                    thread.install(flow)
                }
                flows.put(
                    &flow, sample: record.sample, now: now, isStanding: record.isStanding, tags: simulator.verdict.tags)
            }
        }
    }

    /// Decides flows of an earlier run again, from their keys. What comes out the same is installed over itself, which
    /// leaves no gap; the rest goes.
    private func inherit(_ inherited: [InheritedFlow], _ thread: any DatapathThread) {
        for old in inherited {
            guard let id = old.id, flows.find(id) == nil else { continue }
            if epoch.ingress(old.key.inPort) != nil {
                resimulate(old.key)
                if simulator.verdict.isCacheable, simulator.verdict.wait == nil {
                    let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
                    let flow = Flow(key: old.key, mask: mask, actions: actions)
                    if flow.id == id {
                        install(flow, sample: old.key, thread)
                        flows.setStatistics(old.statistics, of: id)
                        continue
                    }
                }
            }
            thread.remove(id)
        }
    }

    private func resume(_ packets: [ParkingLot.Parked], _ thread: any DatapathThread) {
        for parked in packets {
            switch parked.origin {
            case .leaving(let tag, let isRouted):
                guard let port = epoch.fabric.port(tag) else { continue }
                send(parked.packet.bytes, leaving: port, isRouted: isRouted, thread, generation: 1)
            case .ingress(let tag):
                guard let port = epoch.fabric.port(tag) else { continue }
                resume(parked.packet, at: port, tag, thread)
            }
        }
    }

    private func resume(_ packet: OwnedPacket, at port: PortIndex, _ tag: Tag, _ thread: any DatapathThread) {
        counters.simulated &+= 1
        var key = packet.key
        packet.bytes.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            key = FlowKey(parsing: bytes.bytes, layout: &layout)
            for word in 0..<7 { key.words[word] = packet.key.words[word] }
            simulator.simulate(
                SimulatedPacket(
                    key: key, layout: layout, bytes: bytes.bytes,
                    length: layer3Length(layout, frameLength: bytes.count, offload: packet.offload)),
                at: port)
        }
        if simulator.verdict.wait != nil {
            park(packet, .ingress(tag))
        } else {
            let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
            if simulator.verdict.isCacheable {
                install(Flow(key: key, mask: mask, actions: actions), sample: key, thread)
            }
            count(simulator.verdict)
            thread.execute(withoutCheck(actions), on: packet)
        }
        settle(thread, generation: 0)
    }

    private func ask(_ query: ParkingLot.Query, _ thread: any DatapathThread) {
        guard let port = epoch.fabric.port(query.port),
            let frame = epoch.fabric.request(for: query.address, from: port)
        else { return }
        send(frame, leaving: port, thread, generation: 1)
    }

    private func expire(_ thread: any DatapathThread) {
        thread.forEachFlow { id, statistics in flows.setStatistics(statistics, of: id) }
        var idle: [FlowID] = []
        flows.forEach { record in
            let used = max(record.installed, record.statistics.usedNanoseconds)
            if !record.isStanding, now > used &+ AgentLimits.idleNanoseconds { idle.append(record.id) }
        }
        for id in idle {
            thread.remove(id)
            flows.remove(id)
            counters.expired &+= 1
        }
    }

    private func report(_ thread: any DatapathThread) -> [FlowReport] {
        thread.forEachFlow { id, statistics in flows.setStatistics(statistics, of: id) }
        var list: [FlowReport] = []
        flows.forEach { record in
            let record = copy record
            list.append(FlowReport(record, mask: flows.mask(of: record), epoch: epoch, now: now))
        }
        return list
    }
}

/// Lets through up to a number of events a second, a tenth of a second's worth at once.
struct RateLimit {
    private let perSecond: UInt64
    private var tokens: UInt64
    private var last: UInt64 = 0

    init(perSecond: Int) {
        self.perSecond = UInt64(perSecond)
        tokens = 0
    }

    mutating func take(now: UInt64) -> Bool {
        // In millionths of an event.
        let burst = perSecond * 100_000
        let elapsed = last == 0 ? 1_000_000_000 : min(now &- last, 1_000_000_000)
        last = now
        tokens = min(burst, tokens + elapsed / 1000 * perSecond)
        guard tokens >= 1_000_000 else { return false }
        tokens -= 1_000_000
        return true
    }
}
