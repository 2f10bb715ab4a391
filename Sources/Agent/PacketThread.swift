// SPDX-License-Identifier: Apache-2.0
import Datapath
import DequeModule
import FlowState
import Linux
import Simulation
import Synchronization
import Topology
import Wire

/// The forwarding engine's half on one packet thread: it decides what no flow holds, installs what it decided, and decides
/// again what changed. Everything but the mailbox belongs to the packet thread.
package final class PacketThread: UpcallHandler, @unchecked Sendable {  // only `mailbox` leaves its thread

    /// What other threads ask of this one.
    package enum Message: Sendable {
        /// Work with this from now on; the flows with these tags may be wrong.
        case epoch(Epoch, changed: Set<Tag>, adopted: Reply<Bool>? = nil)
        /// The flows with these tags may be wrong.
        case invalidate(Set<Tag>)
        /// All other hosts have said that they know nothing with these tags.
        case unknown(Set<Tag>)
        /// Something came by tunnel that no flow holds: whoever keeps the standing flows is to install one.
        case arrival(FlowKey)
        /// What will be forgotten unless it is still so.
        case confirm([Learned])
        /// Go on removing flows that nobody uses, for one of the threads.
        case removeIdle(thread: Int)
        /// Flows that an earlier run left: keep those that are still right, remove the others.
        case inherit([InheritedFlow])
        /// Tell what is installed.
        case report(Reply<[FlowReport]>)
        /// Tell the counters.
        case count(Reply<AgentCounters>)
        /// Tell what rules matched.
        case rules(Reply<[RuleReport]>)
        /// Send these.
        case probe([Probe])
        /// Give a machine the answer to its question, at the port where it asked.
        case deliver([UInt8], port: Tag)
        /// Send these frames out of a port of this host, as what its bridge says.
        case deliverAll([[UInt8]], port: Tag)
    }

    /// What a standing flow was installed for.
    struct Arrival: Hashable {
        var port: UInt32
        var tunnelKey: UInt64
        var vlanTCI: UInt16

        init(_ key: FlowKey) { (port, tunnelKey, vlanTCI) = (key.inPort, key.tunnelID, key.vlanTCI) }
    }

    let mailbox = Mutex<[Message]>([])

    let index: Int
    let installsStanding: Bool
    /// Whether flows of this thread serve packets of all ports.
    let installsReturns: Bool
    let state: StateTable
    /// Takes what other hosts send to see whether their tunnels work.
    let prober: PathProber?
    let clock: @Sendable () -> UInt64
    /// Gives all threads of this host a message.
    let broadcast: @Sendable (Message) -> Void

    var epoch: Epoch
    var simulator: Simulator
    var flows = FlowIndex()
    var standing: [Arrival: FlowID] = [:]
    var lot = ParkingLot()
    /// Flows of an earlier run that wait for a neighbor before they can be decided again; they go on meanwhile.
    var undecided: [Tag: [InheritedFlow]] = [:]
    /// Packets that wait for what another host knows.
    var waiting = WaitingRoom()
    /// Packets for ports that may be on their way here.
    var strays = StrayRoom()
    var wantBudget = RateLimit(perSecond: AgentLimits.wantsPerSecond)
    /// Flows that let nothing through because nobody knew their connection, and when that was decided.
    var provisional: [FlowID: UInt64] = [:]
    /// The same in the order of their times, with places of those that were decided again since.
    var provisionalQueue: Deque<(id: FlowID, decided: UInt64)> = []
    var counters = AgentCounters()
    var errorBudget: [PortIndex: RateLimit] = [:]
    var answerBudget: [PortIndex: RateLimit] = [:]
    /// Names that others are asked for, by port.
    var questionBudget: [Tag: RateLimit] = [:]
    /// Flows of connections, which their packets keep alive.
    var stateful: [FlowID: StatefulFlow] = [:]
    /// Lines that rules may write now.
    var logBudget: [RuleReference: RateLimit] = [:]
    /// Where they go.
    let logRule: @Sendable (RuleLog) -> Void
    /// Asks others for names; the answer comes with ``Message/deliver(_:port:)``.
    let askName: @Sendable (NameQuestion) -> Void
    /// What rules matched.
    var ruleCounts = RuleCounts()
    var nextExpiry: UInt64 = 0
    /// What machines were told of routers, and when they are told again.
    var advertised = AdvertisementSchedule()
    /// When machines are asked which groups they joined.
    var groupSchedule = GroupSchedule()
    /// Flows that carried nothing for a while, and are removed.
    var idle: [FlowID] = []
    var now: UInt64 = 0

    /// - Parameters:
    ///   - installsStanding: whether this thread installs what may arrive by tunnel; one thread does where flows are shared,
    ///     every thread where each has its own.
    ///   - installsReturns: whether flows are shared.
    ///   - clock: tells the time, monotonic nanoseconds.
    package init(
        index: Int, epoch: Epoch, state: StateTable, prober: PathProber? = nil, installsStanding: Bool,
        installsReturns: Bool = false, clock: @escaping @Sendable () -> UInt64 = monotonicNanoseconds,
        broadcast: @escaping @Sendable (Message) -> Void,
        logRule: @escaping @Sendable (RuleLog) -> Void = { _ in },
        askName: @escaping @Sendable (NameQuestion) -> Void = { _ in }
    ) {
        self.index = index
        self.epoch = epoch
        self.state = state
        self.prober = prober
        self.clock = clock
        self.installsStanding = installsStanding
        self.installsReturns = installsReturns
        self.broadcast = broadcast
        self.logRule = logRule
        self.askName = askName
        simulator = Simulator(fabric: epoch.fabric, state: state)
    }

    /// Tells all threads of this host that what they decided with these tags may be wrong now.
    func announce(_ tags: Set<Tag>) { broadcast(.invalidate(tags)) }

    package func post(_ message: Message) { mailbox.withLock { $0.append(message) } }

    // MARK: - Upcalls

    package func upcall(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) {
        if packet.cookie & 0xff == ActionCookies.sampled {
            epoch.recorder?.note(packet, now: wallMilliseconds())
            return
        }
        now = clock()
        switch epoch.ingress(packet.key.inPort) {
        case .exterior(let port): decide(packet, at: port, thread)
        case .tunnel(let encapsulation):
            if packet.key.tunnelID == UInt64(TunnelKeys.probe) {
                prober?.receive(packet, by: encapsulation)
            } else {
                arrive(packet, thread)
            }
        case nil: counters.unbound &+= 1
        }
    }

    private func simulate(_ packet: borrowing UpcallPacket, at port: PortIndex) {
        counters.simulated &+= 1
        simulator.simulate(
            SimulatedPacket(
                key: packet.key, layout: packet.layout, bytes: UnsafeRawBufferPointer(packet.bytes).bytes,
                length: packet.length),
            at: port)
    }

    func decide(_ packet: borrowing UpcallPacket, at port: PortIndex, _ thread: any DatapathThread) {
        // State before packet: the answer must not find a host that does not know yet what this packet taught.
        var attempts = 0
        repeat {
            simulate(packet, at: port)
            attempts += 1
            if attempts == 1, picksUp(packet.key) {
                let tag = epoch.fabric.tag(port)
                if mayWaitForState(tag) { return waitForState(packet.owned(), tag) }
                if !mayPickUp { simulator.refuse(.notCaughtUp) }
            } else if attempts == 1, lacksState, !simulator.verdict.outputs.isEmpty {
                // What it would teach as it is may be wrong.
                let tag = epoch.fabric.tag(port)
                if mayWaitForState(tag) { return waitForState(packet.owned(), tag) }
            }
            if givesAddress, !mayPickUp { simulator.refuse(.notCaughtUp) }
        } while !takeNote(thread, at: port) && attempts < AgentLimits.translationAttempts
        if simulator.verdict.wait != nil {
            park(packet.owned(), .ingress(epoch.fabric.tag(port)))
            sendGenerated(thread, generation: 0)
            return
        }
        if lacksState, simulator.verdict.outputs.isEmpty {
            let tag = epoch.fabric.tag(port)
            if mayWaitForState(tag) { return waitForState(packet.owned(), tag) }
        }
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        let begins = simulator.verdict.beginsConnection
        if simulator.verdict.isCacheable, !begins, !isOpening(packet.key) {
            install(Flow(key: packet.key, mask: mask, actions: actions), sample: packet.key, thread)
        }
        count(simulator.verdict, packet.key, packet.bytes.count, at: port)
        // A packet that is too long for the flow's own check goes out as it is: it may be fragmented.
        if let edit = simulator.verdict.edit {
            var edited = packet.owned()
            edit.apply(to: &edited.bytes)
            thread.execute(withoutCheck(actions), on: edited)
            sendGenerated(thread, generation: 0)
            return
        }
        let makesPackets = !simulator.verdict.packets.isEmpty
        if !begins || makesPackets {
            thread.execute(withoutCheck(actions), on: packet)
            sendGenerated(thread, generation: 0)
            if !begins { return }
        }
        // The flow is for the packets behind the first, whose connection is known. It is there before the packet goes: the
        // answer may come at once.
        var key = packet.key
        if key.ipProtocol == IPProtocol.tcp, key.tcpFlags & TCPFlags.ack == 0 {
            // What opens a connection is decided one by one; all segments behind it have ACK.
            key.tcpFlags = TCPFlags.ack
            counters.simulated &+= 1
            resimulate(key)
        } else {
            simulate(packet, at: port)
        }
        installKnown(key, thread)
        if installsReturns { installReturn(thread) }
        if !makesPackets { thread.execute(withoutCheck(actions), on: packet) }
    }

    /// Whether a packet of a connection opens or resets it: no other is like it.
    func isOpening(_ key: FlowKey) -> Bool {
        key.ipProtocol == IPProtocol.tcp && key.tcpFlags & TCPFlags.ack == 0
            && !(simulator.verdict.connections.isEmpty && simulator.verdict.translations.isEmpty)
    }

    /// Installs what the last simulation came to, if it is a flow of connections that are known.
    func installKnown(_ key: FlowKey, _ thread: any DatapathThread) {
        guard simulator.verdict.isCacheable, simulator.verdict.wait == nil, !simulator.verdict.beginsConnection else {
            return
        }
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        install(Flow(key: key, mask: mask, actions: actions), sample: key, thread)
    }

    func arrive(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread) {
        if holdsStray(packet) { return }
        let actions = decideArrival(
            SimulatedPacket(
                key: packet.key, layout: packet.layout, bytes: UnsafeRawBufferPointer(packet.bytes).bytes,
                length: packet.length), thread)
        thread.execute(actions, on: packet)
    }

    /// Decides a packet that came by tunnel, and installs what is decided.
    func decideArrival(_ packet: borrowing SimulatedPacket, _ thread: any DatapathThread) -> [Action] {
        counters.simulated &+= 1
        simulator.simulateArrival(packet, key: UInt32(truncatingIfNeeded: packet.key.tunnelID))
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        // Keys that nobody has would fill the table, and a thread that does not keep the standing flows would let them
        // expire.
        if simulator.verdict.drop != .unknownKey, simulator.verdict.isCacheable {
            if installsStanding {
                install(Flow(key: packet.key, mask: mask, actions: actions), sample: packet.key, thread)
            } else {
                broadcast(.arrival(packet.key))
            }
        }
        if let reason = simulator.verdict.drop { counters.drops[reason, default: 0] &+= 1 }
        return actions
    }

    func withoutCheck(_ actions: [Action]) -> [Action] {
        if case .checkLength(_, _, let fits)? = actions.first { return fits }
        return actions
    }

    func install(
        _ decided: Flow, sample: FlowKey, _ thread: any DatapathThread, isStanding: Bool = false
    ) {
        guard simulator.verdict.tags.count + simulator.verdict.ownTags.count <= AgentLimits.tagsPerFlow,
            flows.count < AgentLimits.flowsPerThread / 2 || isStanding || hasRoom(sample.inPort)
        else {
            counters.tableFull &+= 1
            return
        }
        var flow = decided
        flows.put(
            &flow, sample: sample, now: now, isStanding: isStanding, tags: simulator.verdict.tags,
            own: simulator.verdict.ownTags)
        thread.install(flow)
        if !simulator.verdict.rules.isEmpty {
            flows.setWay(ruleCounts.way(simulator.verdict.rules, epoch.fabric), of: flow.id)
        }
        counters.installed &+= 1
        noteConnections(of: flow.id)
        noteMissed(of: flow.id)
    }

    /// Whether a port may have one more flow now that many are taken.
    private func hasRoom(_ port: UInt32) -> Bool {
        flows.count < AgentLimits.flowsPerThread && flows.count(ofPort: port) < AgentLimits.flowsPerPort
    }

    func count(_ verdict: borrowing Verdict, _ key: FlowKey, _ length: Int, at port: PortIndex) {
        if !verdict.logs.isEmpty { log(verdict, key, at: port) }
        if !verdict.rules.isEmpty {
            ruleCounts.count(ruleCounts.way(verdict.rules, epoch.fabric), packets: 1, bytes: UInt64(length))
        }
        if let reason = verdict.drop { counters.drops[reason, default: 0] &+= 1 }
    }

    func park(_ packet: OwnedPacket, _ origin: ParkingLot.Parked.Origin) {
        guard let query = waitedFor else { return }
        let isParked = lot.park(.init(packet: packet, origin: origin), for: query, now: now)
        if isParked { counters.parked &+= 1 } else { counters.parkingFull &+= 1 }
    }

    /// The neighbor that the last simulation needs.
    var waitedFor: ParkingLot.Query? {
        simulator.verdict.wait.map { .init(address: $0.address, port: epoch.fabric.tag($0.port)) }
    }

    /// Keeps what the last simulation taught, and tells it.
    ///
    /// - Parameters:
    ///   - isPacket: whether a packet was simulated; otherwise it was a flow that packets went by before, of which only
    ///     connections are learned.
    ///   - port: where it came in.
    /// - Returns: whether the verdict stands. It does not when another packet got the port meanwhile that this one's source
    ///   was to become: it is to be simulated again.
    @discardableResult
    func takeNote(_ thread: any DatapathThread, isPacket: Bool = true, at port: PortIndex? = nil) -> Bool {
        if simulator.verdict.learned.isEmpty { return true }
        var news: Set<Tag> = []
        var stands = true
        var told = ToldEntries()
        // What comes back from a service is counted to who sent it.
        let owner = port.map { epoch.fabric.owner(of: simulator.ingress ?? $0) }
        for learned in simulator.verdict.learned {
            if !isPacket, !learned.isOfConnection { continue }
            switch state.learn(learned, owner: owner, now: now, told: &told) {
            case .news: news.formUnion(learned.tags)
            case .known: break
            case .conflict: stands = false
            case .refused:
                // Without a connection its answers could not come back, and an address that is not noted is given twice.
                if learned.isOfConnection { simulator.refuse() }
                if case .lease = learned { simulator.refuse() }
            }
        }
        tell(told, news: news)
        if !news.isEmpty { announce(news) }
        if !stands { simulator.refuse() }
        return stands
    }

    /// Sends the packets that the last simulation made.
    func sendGenerated(_ thread: any DatapathThread, generation: Int) {
        if let question = simulator.verdict.question {
            let budget = RateLimit(perSecond: AgentLimits.questionsPerSecond)
            if questionBudget[question.port, default: budget].take(now: now) {
                askName(question)
            } else {
                counters.rateLimited &+= 1
            }
        }
        if simulator.verdict.packets.isEmpty { return }
        let packets = simulator.verdict.packets
        let query = waitedFor
        for generated in packets where isWithinRate(generated, query) {
            send(
                generated.frame, leaving: generated.port, isRouted: generated.isRouted, answers: generated.answers,
                isService: generated.isService, thread, generation: generation + 1)
        }
    }

    func isWithinRate(_ packet: GeneratedPacket, _ query: ParkingLot.Query?) -> Bool {
        let isWithin: Bool
        switch packet.kind {
        case .request: return query.map { lot.shouldAsk($0) } ?? false
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
    func send(
        _ frame: [UInt8], leaving port: PortIndex, isRouted: Bool = false, answers: [ConnectionUse] = [],
        isService: Bool = false, _ thread: any DatapathThread, generation: Int
    ) {
        guard generation <= AgentLimits.generations else { return }
        var attempts = 0
        repeat {
            simulateGenerated(frame, leaving: port, isRouted, answers, isService)
            attempts += 1
        } while !takeNote(thread) && attempts < AgentLimits.translationAttempts
        if simulator.verdict.wait != nil {
            park(OwnedPacket(bytes: frame), .leaving(epoch.fabric.tag(port), isRouted: isRouted, answers: answers))
        } else {
            let (actions, _) = ActionBuilder.actions(of: simulator.verdict, epoch)
            var frame = frame
            simulator.verdict.edit?.apply(to: &frame)
            thread.execute(withoutCheck(actions), on: OwnedPacket(bytes: frame))
        }
        sendGenerated(thread, generation: generation)
    }

    func simulateGenerated(
        _ frame: [UInt8], leaving port: PortIndex, _ isRouted: Bool, _ answers: [ConnectionUse],
        _ isService: Bool = false
    ) {
        counters.simulated &+= 1
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            let length = layout.networkLength > 0 ? layout.networkLength : bytes.count - Int(layout.network)
            simulator.simulateGenerated(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: length), leaving: port,
                isRouted: isRouted, answers: answers, isService: isService)
        }
    }
}
