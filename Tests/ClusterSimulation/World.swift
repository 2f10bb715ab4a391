// SPDX-License-Identifier: Apache-2.0
import Consensus
import TestSupport

/// One life of a simulated cluster: members with disks and clocks of their own, a network that does what networks do, clients
/// that write and read, an operator who changes members; first with faults, then without. A seed tells all of it.
public final class World {
    /// What came of a life.
    public struct Outcome: Sendable {
        /// What went wrong, if anything did.
        public var violation: String?
        /// How often things happened that a life is to have.
        public var counts: [String: Int]
    }

    enum Event {
        case tick(NodeID, life: Int)
        case deliver(Message)
        /// To one that has got the address of another.
        case misdeliver(Message, NodeID)
        case diskDone(NodeID, life: Int)
        case request(NodeID, Request)
        case answer(Answer)
        case clientTimeout(Int, attempt: UInt64)
        case clientBegins(Int)
        case fault
        case heal
        case restart(NodeID)
        /// A member that stopped by itself starts again.
        case repair(NodeID, life: Int)
        case operate
        case endOfFaults
        case check
        case end
    }

    // Times are microseconds.
    static let tick: UInt64 = 10_000
    static let faultyTime: UInt64 = 6_000_000
    static let quietTime: UInt64 = 6_000_000

    var now: UInt64 = 0
    var events = EventQueue<Event>()
    var nodes: [NodeID: SimulatedNode] = [:]
    var clients: [SimulatedClient] = []
    var nextNodeID: UInt64 = 1

    // Draws of one kind do not shift those of another.
    var networkRandom: SeededRandom
    var diskRandom: SeededRandom
    var faultRandom: SeededRandom
    var clientRandom: SeededRandom
    let seed: UInt64
    let options: RaftOptions

    /// What a message meets on its way.
    private var dropRate: Double
    private var duplicateRate: Double
    private var meanDelay: UInt64
    var cuts: Set<Cut> = []
    /// One life in two: faults come one upon the other, most of them where the leader is.
    let isStormy: Bool
    /// One piece of a disk's work in so many takes long.
    private let slowDiskRate: Int
    struct Cut: Hashable {
        var from: NodeID
        var to: NodeID
    }
    var isFaulty = true
    /// The member that lost its disk, if one did: it never comes back, and is removed.
    var wiped: NodeID?
    var isOver = false

    var invariants = Invariants()
    var counts: [String: Int] = [:]
    /// Receives a line for what happens, when somebody listens.
    let say: ((String) -> Void)?

    /// A life of a seed.
    ///
    /// - Parameters:
    ///   - faults: bugs that are put into the members.
    ///   - say: receives a line for each thing that happens.
    public init(seed: UInt64, faults: Set<Fault> = [], say: ((String) -> Void)? = nil) {
        self.seed = seed
        self.say = say
        var root = SeededRandom(seed: seed)
        networkRandom = SeededRandom(seed: root.next())
        diskRandom = SeededRandom(seed: root.next())
        faultRandom = SeededRandom(seed: root.next())
        clientRandom = SeededRandom(seed: root.next())
        var options = RaftOptions()
        options.electionTicks = 10
        options.heartbeatTicks = 2
        // Bounds are small, so that what happens at them happens often.
        options.trailingEntries = UInt64.random(in: 0...12, using: &root)
        options.appendBytes = [1, 100, 400, 4000].randomElement(using: &root) ?? 400
        options.inflightMessages = Int.random(in: 1...8, using: &root)
        options.inflightBytes = [200, 2000, 1 << 20].randomElement(using: &root) ?? 2000
        options.chunkBytes = Int.random(in: 20...200, using: &root)
        options.promotionLag = UInt64.random(in: 0...4, using: &root)
        options.promotionTicks = Int.random(in: 1...10, using: &root)
        options.faults = faults
        self.options = options
        isStormy = Bool.random(using: &root)
        slowDiskRate = [3, 10, 50].randomElement(using: &root) ?? 10
        let isLossy = Bool.random(using: &root)
        dropRate = isLossy ? Double.random(in: 0...0.2, using: &root) : 0
        duplicateRate = isLossy ? Double.random(in: 0...0.1, using: &root) : 0
        meanDelay = UInt64.random(in: 200...8_000, using: &root)

        let count = [1, 2, 3, 3, 3, 4, 5, 5].randomElement(using: &root) ?? 3
        let ids = (1...UInt64(count)).map(NodeID.init)
        nextNodeID = UInt64(count) + 1
        let first = Entry(term: 1, index: 1, content: .members(Members(voters: ids)))
        for id in ids {
            let disk = SimulatedDisk(
                hard: HardState(term: 1), base: SnapshotInfo(position: .zero, members: Members()), entries: [first])
            addNode(id, disk)
        }
        invariants.committed = [first]
        invariants.committedIn = [1]
        for number in 0..<Int.random(in: 1...4, using: &root) {
            clients.append(SimulatedClient(number: number))
            schedule(.clientBegins(number), in: UInt64(number) * 1000)
        }
        schedule(.fault, in: 100_000)
        schedule(.operate, in: 300_000)
        schedule(.endOfFaults, in: World.faultyTime)
    }

    // MARK: - Running

    /// Lives it.
    public func live() -> Outcome {
        while !isOver, invariants.violation == nil, let (time, event) = events.take() {
            now = time
            handle(event)
        }
        if invariants.violation == nil { checkHistories() }
        return Outcome(violation: invariants.violation, counts: counts)
    }

    func schedule(_ event: Event, in delay: UInt64) { events.add(event, at: now + delay) }

    func count(_ name: String) { counts[name, default: 0] += 1 }

    func note(_ text: @autoclosure () -> String) { say?("\(now / 1000) ms  \(text())") }

    private func handle(_ event: Event) {
        switch event {
        case .tick(let id, let life):
            guard let node = nodes[id], node.life == life, node.raft != nil else { return }
            schedule(event, in: node.tickLength)
            if node.pausedUntil > now { return }
            node.step(.tick, self)
        case .deliver(let message):
            guard let node = nodes[message.to], node.raft != nil else { return }
            if node.pausedUntil > now { return events.add(event, at: node.pausedUntil) }
            node.step(.receive(message), self)
        case .misdeliver(let message, let id):
            guard let node = nodes[id], node.raft != nil, node.pausedUntil <= now else { return }
            count("message to the wrong member")
            node.step(.receive(message), self)
        case .diskDone(let id, let life):
            guard let node = nodes[id], node.life == life, node.raft != nil else { return }
            if node.pausedUntil > now { return events.add(event, at: node.pausedUntil) }
            node.diskDone(self)
        case .request(let id, let request):
            guard let node = nodes[id], node.raft != nil else { return }
            if node.pausedUntil > now { return events.add(event, at: node.pausedUntil) }
            node.serve(request, self)
        case .answer(let answer): clients[answer.client].take(answer, self)
        case .clientTimeout(let client, let attempt): clients[client].timeOut(attempt, self)
        case .clientBegins(let client): clients[client].begin(self)
        case .fault: if isFaulty { makeFault() }
        case .heal:
            cuts.removeAll()
            note("the network heals")
        case .restart(let id): restart(id)
        case .repair(let id, let life):
            guard let node = nodes[id], node.life == life else { return }
            crash(node)
            restart(id)
        case .operate: operate()
        case .endOfFaults: endFaults()
        case .check: checkProgress()
        case .end: isOver = true
        }
    }

    // MARK: - Members

    func addNode(_ id: NodeID, _ disk: SimulatedDisk) {
        let node = SimulatedNode(id: id, disk: disk)
        nodes[id] = node
        restart(id)
    }

    func restart(_ id: NodeID) {
        guard let node = nodes[id], node.raft == nil else { return }
        // A store whose log is gone does not start: who forgot its votes must not vote again under the same id.
        guard id != wiped else { return }
        node.start(self, seed: faultRandom.next())
        // Clocks run a little fast or slow.
        node.tickLength = World.tick * UInt64.random(in: 900...1100, using: &faultRandom) / 1000
        note("\(id) starts with \(node.disk.entries.count) entries behind \(node.disk.base.position.index)")
        schedule(.tick(id, life: node.life), in: UInt64.random(in: 0..<World.tick, using: &faultRandom))
    }

    func crash(_ node: SimulatedNode) {
        guard node.raft != nil else { return }
        count("crash")
        note("\(node.id) crashes")
        let survivors = Bool.random(using: &diskRandom) ? 0 : Int.random(in: 0...2, using: &diskRandom)
        node.crash(survivors: survivors)
    }

    // MARK: - Network and disks

    func send(_ message: Message) {
        if cuts.contains(Cut(from: message.from, to: message.to)) { return count("cut message") }
        if isFaulty, Double.random(in: 0..<1, using: &networkRandom) < dropRate { return count("lost message") }
        schedule(.deliver(message), in: delay())
        if isFaulty, Int.random(in: 0..<400, using: &networkRandom) == 0,
            let other = nodes.keys.sorted().randomElement(using: &networkRandom)
        {
            schedule(.misdeliver(message, other), in: delay())
        }
        if isFaulty, Double.random(in: 0..<1, using: &networkRandom) < duplicateRate {
            schedule(.deliver(message), in: delay())
        }
    }

    /// Mostly about the mean, now and then much more: messages overtake each other.
    func delay() -> UInt64 {
        let base = UInt64.random(in: meanDelay / 2...meanDelay * 3 / 2, using: &networkRandom)
        if isFaulty, Int.random(in: 0..<50, using: &networkRandom) == 0 {
            return base + UInt64.random(in: 0...300_000, using: &networkRandom)
        }
        return base
    }

    func startDisk(_ node: SimulatedNode) {
        var time = UInt64.random(in: 100...4_000, using: &diskRandom)
        if isFaulty, Int.random(in: 0..<slowDiskRate, using: &diskRandom) == 0 {
            time += UInt64.random(in: 0...400_000, using: &diskRandom)
        }
        schedule(.diskDone(node.id, life: node.life), in: time)
    }

    // MARK: - The end

    private func endFaults() {
        isFaulty = false
        cuts.removeAll()
        note("the faults end")
        for node in nodes.values.sorted(by: { $0.id < $1.id }) {
            node.pausedUntil = 0
            if node.raft?.status.role == .stopped { node.crash(survivors: 0) }
            restart(node.id)
        }
        for client in clients.indices { clients[client].quietSince = now }
        schedule(.check, in: World.quietTime)
    }

    /// Without faults everything must come to rest: a leader, one configuration, all members the same, clients served.
    private func checkProgress() {
        for node in nodes.values.sorted(by: { $0.id < $1.id }) {
            note(
                "\(node.id): \(node.raft.map { "\($0.status), commit \($0.commit), last \($0.last), base \($0.base.position.index), \($0.members.list.map { "\($0.id) \($0.role)" }) \($0.members.outgoing)" } ?? "down"), applied \(node.applied)"
            )
            for peer in node.raft?.members.all ?? [] {
                if let text = node.raft?.replication(to: peer) { note("    to \(peer): \(text)") }
            }
        }
        for client in clients where !client.wasServed {
            return invariants.fail("client \(client.number) was not served after the faults had ended")
        }
        let leaders = nodes.values.filter { $0.raft?.status.role == .leader }
        guard let leader = leaders.max(by: { ($0.raft?.status.term ?? 0) < ($1.raft?.status.term ?? 0) }),
            let raft = leader.raft
        else { return invariants.fail("no leader after the faults had ended") }
        if raft.members.isJoint { return invariants.fail("the configuration is still joint") }
        if raft.members.list.contains(where: { $0.role == .joining }) {
            return invariants.fail("a member is still joining: \(raft.members.list)")
        }
        if raft.commit != raft.last.index { return invariants.fail("the leader's log is not committed") }
        if raft.inflightBytes != 0 { return invariants.fail("\(raft.inflightBytes) bytes are still under way") }
        for id in raft.members.all where id != wiped {
            guard let node = nodes[id], let other = node.raft else { return invariants.fail("\(id) does not run") }
            if node.applied != raft.commit {
                return invariants.fail(
                    "\(id) has applied \(node.applied) of \(raft.commit), role \(other.status.role)")
            }
            if node.registers != leader.registers { return invariants.fail("\(id) has another state than the leader") }
        }
        isOver = true
    }

    private func checkHistories() {
        for key in 0..<SimulatedClient.keys {
            var history: [Operation] = []
            for client in clients { history += client.history(of: key) }
            if !isLinearizable(history) {
                return invariants.fail("the history of register \(key) is not linearizable: \(history)")
            }
        }
    }
}
