// SPDX-License-Identifier: Apache-2.0
import Agent
import Consensus
import FlowState
import Gossip
import Linux
import Simulation
import Store
import Synchronization
import TLS
import Topology
import Wire

/// Connects this node's flow state with that of the others: who they are and where, by what is sealed, and what is compared.
final class StateService: Sendable {
    unowned let node: Node
    let port: StatePort
    let keys: StateKeys
    let replication: FlowReplication
    /// Who is there, as datagrams tell. It changes nothing in the agreement.
    let membership: Mutex<Membership>
    private let comparing: AsyncStream<(peer: PeerID, isFull: Bool)>
    private let toCompare: AsyncStream<(peer: PeerID, isFull: Bool)>.Continuation
    private struct Progress {
        var peers: [PeerID: StatePort.Peer] = [:]
        var secrets: [UInt8: StateKeyRecord] = [:]
        /// Whether secrets are being brought to where they belong.
        var isKeeping = false
        /// Nodes that everything is to be compared with, until that was done.
        var owed: Set<PeerID> = []
        /// Nodes that tables are being compared with.
        var comparing: Set<PeerID> = []
        var compared: UInt64 = 0
        var differed: UInt64 = 0
        /// How long it took to compare, where it was done.
        var took = DurationCounts()
    }
    private let progress = Mutex(Progress())
    private let worker: SerialThread
    let journal = Mutex<JournalKeeper?>(nil)
    /// How long an answer may take, seconds: who was cut off is to be asked again soon.
    private static let patience: Int64 = 1
    /// How often tables are compared with some other node.
    private static let rounds = Duration.seconds(1)
    /// When a node that found nobody to compare with goes on without.
    private static let alone = Duration.seconds(10)

    init(_ node: Node, _ identity: NodeDirectory.Identity, _ directory: NodeDirectory, _ agent: Agent) throws {
        self.node = node
        guard let address = splitAddress(identity.peerAddress) else {
            throw NodeError("\(identity.peerAddress): not an address with a port", "correct node.json")
        }
        let own = PeerID(identity.id.value)
        port = try StatePort(
            own: own, epoch: node.replica.epoch, cluster: identity.cluster, port: UInt16(address.port))
        keys = try StateKeys(directory)
        worker = try SerialThread("sel-peers")
        let service = Late<StateService>()
        membership = Mutex(
            Membership(
                own: own, epoch: node.replica.epoch,
                metadata: Array(Founding.version.utf8.prefix(MembershipMessage.metadataBytes)),
                seed: Cryptography.randomID()))
        (comparing, toCompare) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(64))
        let now = monotonicNanoseconds()
        // The wall clock is asked once: what happens to it later changes nothing.
        agent.state.set(
            RowStamps(
                origin: StateService.number(of: own), offset: UInt64(max(0, wallSeconds())) * 1_000_000_000 &- now))
        replication = FlowReplication(
            agent.state, over: port, onNews: { agent.stateChanged($0) },
            onUnknown: { agent.stateUnknown($0) },
            onCompare: { [toCompare] in toCompare.yield(($0, true)) },
            onMembership: { service.value?.heard($1, from: $0) },
            onPending: { [port] in port.wake() })
        service.value = self
    }

    /// The number of a node in stamps. Two of one number would only be counted together.
    static func number(of peer: PeerID) -> UInt16 { UInt16(truncatingIfNeeded: mix(peer.value, 0x9e37_79b9_7f4a_7c15)) }

    /// Takes in what an earlier run wrote, and begins to write.
    func load(_ directory: NodeDirectory) throws {
        let keeper = try JournalKeeper(node.agent.state, path: directory.journalFile, say: node.say)
        journal.withLock { $0 = keeper }
    }

    func start() throws {
        _ = try NamedThread("sel-state") { [self] in
            port.run(
                receive: { replication.receive($0, from: $1, now: $2) },
                step: { now in
                    let (effects, due) = membership.withLock { ($0.tick(now: now), $0.nextDue) }
                    perform(effects)
                    return min(replication.step(now: now), due)
                })
        }
        followSoon()
    }

    private func heard(_ message: MembershipMessage, from peer: PeerID) {
        perform(membership.withLock { $0.receive(message, from: peer, now: monotonicNanoseconds()) })
    }

    private func perform(_ effects: [Membership.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let peer, let message): replication.send(message, to: peer)
            case .askByStream(let peer):
                Task { [self] in
                    guard (try? await node.ask(NodeID(peer.value), .hasStateSecret, seconds: 1)) != nil else { return }
                    membership.withLock { $0.streamAnswered(peer, now: monotonicNanoseconds()) }
                }
            case .changed(let peer, let state):
                let name = node.replica.state.nodes[NodeID(peer.value)]?.name ?? "node \(peer)"
                node.say("\(name) is \(state.word)")
            }
        }
    }

    func stop() {
        perform(membership.withLock { $0.leave() })
        port.stop()
        journal.withLock { $0 }?.stop()
    }

    func startRound() -> Bool {
        progress.withLock { progress in
            if progress.isKeeping { return false }
            progress.isKeeping = true
            return true
        }
    }

    func endRound() { progress.withLock { $0.isKeeping = false } }

    /// Makes what is known of the other nodes what the state says, on a thread of its own: names may have to be looked up.
    func followSoon() { worker.add { [self] in follow(node.replica.state) } }

    /// Ways to hosts with several are others: what nodes tell each other is to take those that work, too.
    func followDetours() {
        worker.add { [self] in
            node.replica.setDetours(node.agent.reach().detours)
            follow(node.replica.state)
        }
    }

    private func follow(_ state: ClusterState) {
        let detours = node.agent.reach().detours
        let starts = node.replica.starts
        var peers: [PeerID: StatePort.Peer] = [:]
        var names: [String: PeerID] = [:]
        for record in state.nodes.values where record.id != node.replica.id {
            guard let address = splitAddress(record.peerAddress) else { continue }
            let id = PeerID(record.id.value)
            peers[id] = StatePort.Peer(
                host: detours[record.name]?.replacing(address.host) ?? address.host, port: address.port,
                epoch: max(record.epoch, starts[record.id] ?? 0))
            names[record.name] = id
        }
        let (before, isOther) = progress.withLock { progress in
            let before = progress.peers
            progress.peers = peers
            let isOther = progress.secrets != state.stateKeys
            progress.secrets = state.stateKeys
            return (before, isOther)
        }
        if isOther {
            useSecrets(state)
            Task { [self] in try? await keepSecrets() }
        }
        port.setPeers(peers)
        if peers.isEmpty { replication.setCaughtUp() }
        guard before != peers else { return }
        membership.withLock { $0.setMembers(peers.mapValues(\.epoch), now: monotonicNanoseconds()) }
        if Set(before.keys) != Set(peers.keys) { replication.setPeers(Set(peers.keys)) }
        for (id, peer) in peers {
            if let old = before[id], old.epoch != peer.epoch { replication.began(id) }
        }
        node.agent.setReplication(replication, peers: names)
    }

    // MARK: - Comparing

    /// Compares tables: with whom it is asked for, and otherwise with some node each second.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { [self] in
                try? await Task.sleep(for: StateService.alone)
                replication.setCaughtUp()
            }
            group.addTask { [self] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: StateService.rounds)
                    // What could not be compared in full is tried again before anything else.
                    let owed = progress.withLock { $0.owed.filter($0.peers.keys.contains) }
                    for peer in owed { toCompare.yield((peer, true)) }
                    guard let peer = progress.withLock({ $0.peers.keys.randomElement() }), !owed.contains(peer) else {
                        continue
                    }
                    toCompare.yield((peer, false))
                }
            }
            for await (peer, isFull) in comparing {
                if Task.isCancelled { break }
                if isFull { progress.withLock { _ = $0.owed.insert(peer) } }
                // Each by itself: one that can't be reached must not hold up the others.
                group.addTask { [self] in
                    guard await compareAlone(with: peer, isFull: isFull), isFull else { return }
                    progress.withLock { _ = $0.owed.remove(peer) }
                }
            }
            group.cancelAll()
        }
    }

    /// Compares tables with a node unless that is under way; whether all of it was done.
    private func compareAlone(with peer: PeerID, isFull: Bool) async -> Bool {
        guard progress.withLock({ $0.comparing.insert(peer).inserted }) else { return false }
        defer { progress.withLock { _ = $0.comparing.remove(peer) } }
        return await compare(with: peer, isFull: isFull)
    }

    func endComparing() { toCompare.finish() }

    /// Compares tables with a node; whether all of it was done.
    private func compare(with peer: PeerID, isFull: Bool) async -> Bool {
        let id = NodeID(peer.value)
        let table = node.agent.state
        var cursor: UInt64 = 0
        var differs = false
        let began = monotonicNanoseconds()
        // One question for all parts: what the first brings changes buckets, and they would be left out of the next.
        let sums = table.question(isFull: isFull, now: monotonicNanoseconds())
        repeat {
            var question = ByteWriter()
            question.number(cursor)
            question.data(sums)
            guard let bytes = try? await node.ask(id, .compareState, question.bytes, seconds: StateService.patience),
                let answer = try? StateTable.read(answer: bytes)
            else { return false }
            if cursor == 0 {
                // Its own rows first: what it takes in would be offered back.
                for rows in table.offers(for: answer, now: monotonicNanoseconds()) {
                    _ = try? await node.ask(id, .offerState, rows, seconds: StateService.patience)
                }
            }
            take(answer.rows)
            differs = differs || !answer.isEqual
            cursor = answer.next
        } while cursor != 0
        progress.withLock { progress in
            progress.compared &+= 1
            if differs { progress.differed &+= 1 }
            progress.took.add(monotonicNanoseconds() - began)
        }
        if isFull { replication.setCaughtUp() }
        return true
    }

    private func take(_ rows: [UInt8]) {
        var news: Set<Simulation.Tag> = []
        try? node.agent.state.merge(rows, now: monotonicNanoseconds(), &news)
        if !news.isEmpty { node.agent.stateChanged(news) }
    }

    /// Answers a question for what differs.
    func answer(_ bytes: [UInt8]) throws -> [UInt8] {
        var reader = ByteReader(bytes)
        let cursor: UInt64 = try reader.number()
        return try node.agent.state.answer(try reader.data(), from: cursor, now: monotonicNanoseconds())
    }

    /// Takes in rows that another node offers.
    func take(offered rows: [UInt8]) { take(rows) }

    /// How often tables were compared, and how often they differed.
    var comparisons: (compared: UInt64, differed: UInt64) { progress.withLock { ($0.compared, $0.differed) } }
    /// How long that took.
    var comparingTime: DurationCounts { progress.withLock { $0.took } }
    /// The other nodes.
    var peers: [PeerID] { progress.withLock { Array($0.peers.keys) } }
}
