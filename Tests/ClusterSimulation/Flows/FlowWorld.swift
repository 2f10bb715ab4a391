// SPDX-License-Identifier: Apache-2.0
import Agent
import Datapath
import FlowState
import Gossip
import Simulation
import Synchronization
import TestSupport
import Topology
import Wire

/// One life of a cluster that carries connections: the real tables, channels, membership, simulation and packet threads of
/// every host on a clock, a network and datapaths that a seed makes up. Machines open connections through a router that
/// translates, and what they talk to answers by another host; meanwhile hosts are cut off, restarted, and machines move.
///
/// It is a life the same each time where hashing is (`SWIFT_DETERMINISTIC_HASHING`), as `selvage-sim` sees to.
public final class FlowWorld {
    /// Bugs to put in, each of which a life must find.
    public enum Bug: String, Sendable, CaseIterable {
        /// Hosts never compare tables.
        case neverCompares
        /// What other hosts tell changes no flow and no waiting packet.
        case newsIsIgnored
        /// A node gives ports of its last life to connections of this one.
        case portsRestNot
        /// Two hosts may translate to the same ports.
        case portsTwice
        /// A node begins with what is in no journal and is told nothing of before.
        case beginsEmpty
        /// What a journal holds is as young as when it was written, whenever it is read.
        case journalKeepsAge
    }

    indirect enum Event {
        case datagram(from: Int, to: Int, lives: (from: Int, to: Int), bytes: [UInt8])
        case tunnel(to: Int, TunnelHeader, [UInt8])
        case frame(PortPath, host: Int, [UInt8])
        case wake(Int, life: Int)
        case step(Int, life: Int)
        case tick(Int, life: Int)
        case ports(Int, life: Int)
        case meet(Int, Int)
        case ask(from: Int, to: Int, question: [UInt8], cursor: UInt64, isFull: Bool)
        case answer(from: Int, to: Int, question: [UInt8], cursor: UInt64, bytes: [UInt8], isFull: Bool)
        case offer(to: Int, [UInt8])
        case keepJournal(Int, life: Int)
        case adopt(Int, Topology)
        case talk(Int)
        case open
        case fault
        case heal(FlowFaults.Wound)
    }

    let seed: UInt64
    let bugs: Set<Bug>
    var random: SeededRandom
    let say: (String) -> Void
    let clock = Clock()
    var events = EventQueue<Event>()
    var hosts: [FlowHost] = []
    var topology: Topology
    var faults = FlowFaults()
    var machines: FlowMachines
    /// What the cluster has agreed on: who may translate to which ports.
    private var leases: [Int: [UInt32]] = [:]
    private var nextBlock: UInt32 = 64
    /// What a node's last lives had.
    private var resting: [Int: [UInt32]] = [:]
    var violation: String?
    /// A client's port whose connections are told of.
    public var watched: (client: Int, port: UInt16)?
    var lastSeen: [Int: [String]] = [:]
    /// Whether anything ever went wrong.
    private(set) var isHurt = false
    /// What happened, by what.
    public private(set) var counts: [String: Int] = [:]

    final class Clock: Sendable {
        private let time = Mutex<UInt64>(1_000_000_000)
        var now: UInt64 {
            get { time.withLock { $0 } }
            set { time.withLock { $0 = newValue } }
        }
    }
    var now: UInt64 { clock.now }
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    /// A cluster that a seed draws.
    ///
    /// - Parameter hosts: how many; `nil` lets the seed say.
    public init(seed: UInt64, hosts count: Int? = nil, bugs: Set<Bug> = [], say: @escaping (String) -> Void = { _ in })
    {
        self.seed = seed
        self.bugs = bugs
        self.say = say
        random = SeededRandom(seed: seed)
        let drawn = Int.random(in: 3...7, using: &random)
        let hostCount = count ?? drawn
        machines = FlowMachines(count: Int.random(in: 2...6, using: &random), hosts: hostCount)
        topology = (try? draw(machines.drawing(hosts: hostCount))) ?? Topology()
        TunnelKeys.assign(&topology)
        for number in 1...hostCount { hosts.append(FlowHost(number, topology)) }
        for host in hosts {
            let index = host.number - 1
            host.datapath.onOutput = { [unowned self] port, frame in
                guard let path = host.path(port) else { return }
                events.add(.frame(path, host: index, frame), at: now + delay(10...60))
            }
            host.datapath.onTunnel = { [unowned self] header, frame in
                guard let other = hosts.firstIndex(where: { $0.address == header.destination }),
                    faults.lets(index, other, &random)
                else { return }
                events.add(.tunnel(to: other, header, frame), at: now + delay(40...400))
            }
        }
    }

    func count(_ what: String, _ number: Int = 1) { counts[what, default: 0] += number }
    func delay(_ microseconds: ClosedRange<UInt64>) -> UInt64 { UInt64.random(in: microseconds, using: &random) * 1000 }
    func fail(_ what: String) {
        if violation == nil { violation = "at \(now / FlowWorld.millisecond) ms: \(what)" }
    }

    // MARK: - A life

    /// Lives it to its end.
    ///
    /// - Returns: what was violated, if anything was.
    public func live() -> String? {
        for host in 0..<hosts.count { start(host) }
        run(for: FlowWorld.second / 2)
        events.add(.open, at: now)
        run(for: 2 * FlowWorld.second)
        // Whatever may go wrong does.
        faults.isOn = true
        isHurt = true
        events.add(.fault, at: now)
        run(for: UInt64.random(in: 10...40, using: &random) * FlowWorld.second)
        // Then all is well again: what was not lost by right goes on.
        healAll()
        run(for: 6 * FlowWorld.second)
        machines.isLastPhase(now)
        run(for: 8 * FlowWorld.second)
        if let unanswered = machines.unanswered(now) {
            tell(unanswered)
            let one = machines.connections[unanswered]
            let since = (one.askedSince ?? 0) / FlowWorld.millisecond
            fail("connection \(unanswered) of client \(one.client) (\(one.phase)) is not answered since \(since) ms")
        }
        // When nobody says anything any more all know the same, and forget it.
        machines.isQuiet = true
        run(for: 4 * FlowWorld.second)
        if let difference = difference() { fail(difference) }
        for host in hosts { if let young = younger(host) { fail(young) } }
        let stale = hosts.map(staleFlows)
        run(for: 2 * FlowWorld.second)
        for (host, before) in zip(hosts, stale) {
            if let flow = staleFlows(host).intersection(before).sorted().first {
                fail("\(host.name) forwards by \(flow)")
            }
        }
        run(for: 3 * FlowWorld.longest)
        for host in hosts {
            guard let table = host.node?.table else { continue }
            let left = table.connectionCount.count + table.translationCount.count
            if left > 0 { fail("\(host.name) knows \(left) connections after their time") }
        }
        count("connections", machines.opened)
        count("exchanges", machines.exchanges)
        return violation
    }

    /// How long a connection is known after its last packet, at most.
    static let longest = 40 * second

    private var lifetimes: [Simulation.Tag: ConnectionLifetimes] {
        var lifetimes = ConnectionLifetimes()
        lifetimes.tcpEstablished = FlowWorld.longest
        lifetimes.tcpOpening = 20 * FlowWorld.second
        lifetimes.tcpClosing = 10 * FlowWorld.second
        lifetimes.tcpClosed = 5 * FlowWorld.second
        return Dictionary(uniqueKeysWithValues: topology.routers.keys.map { (.router($0), lifetimes) })
    }

    func run(for time: UInt64) {
        let end = now + time
        while violation == nil, let next = events.take() {
            if next.time > end {
                events.add(next.event, at: next.time)
                break
            }
            clock.now = max(now, next.time)
            perform(next.event)
            look(after: next.event)
        }
        clock.now = max(now, end)
    }

    private func perform(_ event: Event) {
        switch event {
        case .datagram(let from, let to, let lives, let bytes):
            // What is sealed for another start can't be read.
            guard let node = hosts[to].node, hosts[to].life == lives.to, node.lives[hosts[from].id] == lives.from else {
                return
            }
            node.replication.receive(bytes, from: hosts[from].id, now: now)
            settle(to)
        case .tunnel(let to, let header, let frame):
            hosts[to].datapath.now = now
            hosts[to].datapath.process(frame, port: MemoryDatapath.tunnelPort, tunnel: header)
            settle(to)
        case .frame(let path, let host, let frame): receive(frame, at: path, from: host)
        case .wake(let host, let life):
            guard let node = alive(host, life) else { return }
            node.thread.wake(hosts[host].datapath)
            settle(host)
        case .step(let host, let life):
            guard let node = alive(host, life) else { return }
            let due = node.replication.step(now: now)
            if due < .max { events.add(.step(host, life: life), at: max(due, now + 20_000)) }
            settle(host)
        case .tick(let host, let life): tick(host, life)
        case .ports(let host, let life):
            guard let node = alive(host, life) else { return }
            lease(host, node)
        case .meet(let a, let b): meet(a, b)
        case .ask, .answer, .offer: compare(event)
        case .keepJournal(let host, let life):
            guard let node = alive(host, life) else { return }
            hosts[host].journal = (node.table.allRows(now: now), now)
            events.add(.keepJournal(host, life: life), at: now + delay(100_000...900_000))
        case .adopt(let host, let next): adopt(host, next)
        case .talk(let connection): talk(connection)
        case .open: open()
        case .fault: hurt()
        case .heal(let wound): heal(wound)
        }
    }

    func alive(_ host: Int, _ life: Int) -> FlowNode? { hosts[host].life == life ? hosts[host].node : nil }

    /// Does what a node's parts have asked for.
    func settle(_ host: Int) {
        guard let node = hosts[host].node else { return }
        let life = hosts[host].life
        for (peer, bytes) in node.notes.datagrams.withLock({ take(&$0) }) {
            let other = Int(peer.value) - 1
            guard let known = node.lives[peer], faults.lets(host, other, &random) else { continue }
            count("datagrams")
            count("bytes", bytes.count)
            events.add(
                .datagram(from: host, to: other, lives: (life, known), bytes: bytes), at: now + delay(40...400))
        }
        let messages = node.notes.messages.withLock { take(&$0) }
        for message in messages {
            if bugs.contains(.newsIsIgnored), case .invalidate = message { continue }
            node.thread.post(message)
        }
        if !messages.isEmpty { events.add(.wake(host, life: life), at: now + delay(5...200)) }
        if node.notes.isPending.withLock({ take(&$0) }) { events.add(.step(host, life: life), at: now + delay(5...50)) }
        if node.notes.wantsPorts.withLock({ take(&$0) }) {
            events.add(.ports(host, life: life), at: now + delay(1000...20_000))
        }
        for peer in node.notes.toCompare.withLock({ take(&$0) }) where !node.owed.contains(peer) {
            node.owed.append(peer)
            ask(host, peer, isFull: true)
        }
        for (peer, message) in node.notes.members.withLock({ take(&$0) }) {
            act(host, node.membership.receive(message, from: peer, now: now))
        }
    }

    private func take<Element>(_ list: inout [Element]) -> [Element] {
        defer { list = [] }
        return list
    }

    private func take(_ flag: inout Bool) -> Bool {
        defer { flag = false }
        return flag
    }

    private func act(_ host: Int, _ effects: [Membership.Effect]) {
        guard let node = hosts[host].node else { return }
        for effect in effects {
            switch effect {
            case .send(let peer, let message): node.replication.send(message, to: peer)
            case .askByStream(let peer):
                if isConnected(host, Int(peer.value) - 1) { node.membership.streamAnswered(peer, now: now) }
            case .changed: count("membership changes")
            }
        }
        if !effects.isEmpty { settle(host) }
    }

    private func tick(_ host: Int, _ life: Int) {
        guard let node = alive(host, life) else { return }
        events.add(.tick(host, life: life), at: now + 100 * FlowWorld.millisecond)
        // Whoever finds nobody goes on alone.
        if now > node.began + 10 * FlowWorld.second { node.replication.setCaughtUp() }
        node.thread.wake(hosts[host].datapath)
        act(host, node.membership.tick(now: now))
        // About once a second, as a node does.
        if Int.random(in: 0..<10, using: &random) == 0 {
            for peer in node.owed { ask(host, peer, isFull: true) }
            let other = Int.random(in: 0..<hosts.count, using: &random)
            if other != host { ask(host, hosts[other].id, isFull: false) }
        }
        settle(host)
    }

    /// The cluster gives a host blocks of ports, if it is with the most of it.
    private func lease(_ host: Int, _ node: FlowNode) {
        let together = hosts.indices.filter { $0 == host || isConnected(host, $0) }
        guard together.count * 2 > hosts.count else {
            events.add(.ports(host, life: hosts[host].life), at: now + FlowWorld.second / 2)
            node.table.withPorts { ports in
                for (key, count, _) in ports.takeWanted() { ports.wantAgain(key, count) }
            }
            return
        }
        let wanted = node.table.withPorts { ports in ports.takeWanted().map(\.count) }
        guard let most = wanted.max() else { return }
        for _ in 0..<most {
            leases[host, default: []].append(
                bugs.contains(.portsTwice) ? 64 + UInt32(leases[host]?.count ?? 0) : nextBlock)
            nextBlock += 1
        }
        setPorts(host, node)
    }

    private func setPorts(_ host: Int, _ node: FlowNode) {
        let blocks = (leases[host] ?? []).filter { resting[host]?.contains($0) != true }.sorted()
        guard !blocks.isEmpty else { return }
        let (key, time) = (FlowMachines.pool, now)
        node.table.withPorts { $0.set(key, blocks, now: time) }
    }

    // MARK: - Starts

    func start(_ host: Int) {
        let one = hosts[host]
        one.life += 1
        let peers = Dictionary(uniqueKeysWithValues: hosts.map { ($0.name, $0.id) })
        one.topology = topology
        let node = FlowNode(
            one, topology: topology, peers: peers, clock: { [clock] in clock.now }, wall: one.wall,
            seed: random.next(), lifetimes: lifetimes)
        one.node = node
        one.datapath.now = now
        if let journal = one.journal, !bugs.contains(.beginsEmpty) {
            var news: Set<Simulation.Tag> = []
            var ends: [Int] = []
            let older = bugs.contains(.journalKeepsAge) ? 0 : now - journal.at
            try? node.table.read(journal.rows, older: older, now: now, &news, &ends)
            if let young = younger(one) { fail(young) }
        }
        // What its last life had rests, and it asks for others.
        if !bugs.contains(.portsRestNot) { resting[host] = leases[host] }
        setPorts(host, node)
        node.table.withPorts { $0.prepare(FlowMachines.pool) }
        events.add(.ports(host, life: one.life), at: now + delay(1000...20_000))
        one.datapath.handler = node.thread
        let inherited = one.datapath.inherited
        node.thread.wake(one.datapath)
        // Standing flows as of any topology, then what was there before.
        node.thread.post(
            .epoch(FlowNode.epoch(one, topology, node.replication, peers.filter { $0.value != one.id }), changed: []))
        if !inherited.isEmpty { node.thread.post(.inherit(inherited)) }
        node.thread.wake(one.datapath)
        events.add(.tick(host, life: one.life), at: now + delay(100...100_000))
        events.add(.keepJournal(host, life: one.life), at: now + delay(100_000...900_000))
        for other in hosts.indices where other != host {
            events.add(.meet(host, other), at: now + delay(2000...50_000))
        }
        count("starts")
        settle(host)
    }

    /// Two nodes connect, and learn which start of each other they have to do with.
    private func meet(_ a: Int, _ b: Int) {
        guard let one = hosts[a].node, let other = hosts[b].node, hosts[a].life != other.lives[hosts[a].id] else {
            return
        }
        guard isConnected(a, b) else { return events.add(.meet(a, b), at: now + 200 * FlowWorld.millisecond) }
        for (node, host) in [(one, b), (other, a)] {
            let before = node.lives[hosts[host].id]
            node.lives[hosts[host].id] = hosts[host].life
            if let before, before != hosts[host].life { node.replication.began(hosts[host].id) }
        }
        settle(a)
        settle(b)
    }

    func isConnected(_ a: Int, _ b: Int) -> Bool {
        a != b && hosts[a].node != nil && hosts[b].node != nil && !faults.cuts(a, b) && !faults.cuts(b, a)
    }

    private func adopt(_ host: Int, _ next: Topology) {
        guard let node = hosts[host].node else { return }
        let old = hosts[host].topology
        let tags = TopologyDifference(from: old, to: next).tags(from: old, to: next)
        hosts[host].topology = next
        let others = Dictionary(uniqueKeysWithValues: hosts.map { ($0.name, $0.id) }).filter {
            $0.value != hosts[host].id
        }
        node.thread.post(.epoch(FlowNode.epoch(hosts[host], next, node.replication, others), changed: tags))
        node.thread.wake(hosts[host].datapath)
        settle(host)
    }
}
