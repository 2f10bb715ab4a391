// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import NIOCore
import NIOPosix
import Synchronization
import TLS
import Topology
import Wire

/// A member of the cluster for real: ``Raft`` with disks, clock and network.
///
/// The agreement and the connections of the members live on one event loop, which never waits for anything; the log, the
/// state and snapshots each have a thread of their own. So heartbeats go out whatever the disks do.
public final class Replica: @unchecked Sendable {  // what varies is touched on `loop` only, or has a lock
    /// What a replica is to be.
    public struct Configuration: Sendable {
        /// Where its files are.
        public var directory: String
        /// Who it is.
        public var identity: PeerIdentity
        /// Where it listens for other nodes.
        public var listen: (host: String, port: Int)
        /// Where other nodes reach it, as `address:port`.
        public var address: String
        /// Version of the program.
        public var program: String
        /// Certificates to begin with.
        public var credentials: PeerCredentials
        /// Nodes to ask before the state names any.
        public var peers: [NodeID: (host: String, port: Int)] = [:]
        /// What the founder of a cluster does first.
        public var bootstrap: [Transaction.Operation] = []
        /// Bounds and times of the agreement; a tick is 10 ms.
        public var options = RaftOptions()

        /// A replica.
        public init(
            directory: String, identity: PeerIdentity, listen: (host: String, port: Int), address: String,
            program: String, credentials: PeerCredentials
        ) {
            self.directory = directory
            self.identity = identity
            self.listen = listen
            self.address = address
            self.program = program
            self.credentials = credentials
        }
    }

    static let tick = TimeAmount.milliseconds(10)
    /// Ticks between two writes of the state's database.
    static let flushTicks = 20
    let configuration: Configuration
    let group: MultiThreadedEventLoopGroup
    let loop: any EventLoop
    let transport: PeerTransport
    let log: LogKeeper
    let keeper: StateKeeper
    let snapshots: SnapshotKeeper
    let say: @Sendable (String) -> Void
    /// This start's number.
    public let epoch: UInt64

    // On the loop.
    var raft: Raft
    /// Begins at random, so that no answer to an earlier run is taken for one to this.
    var nextNumber = Cryptography.randomID() >> 16
    var batch: [(bytes: [UInt8], origin: Origin)] = []
    var isBatching = false
    var proposed: [UInt64: [Origin]] = [:]
    var submissions: [UInt64: Submission] = [:]
    var barriers: [UInt64: Barrier] = [:]
    var waitingBarriers: [Barrier] = []
    var transfers: [UInt64: EventLoopPromise<Void>] = [:]
    var readable: [(index: LogIndex, barrier: Barrier)] = []
    var stopReason: String?
    var leaderSeen = NIODeadline.now()
    var isBootstrapping = false
    private var ticks = 0
    var alarms: [String: String] = [:]
    /// Nodes that are to vote, as of the last change of the cluster.
    var voters: Set<NodeID> = []
    /// How to reach hosts of whose addresses some can't be reached.
    private var detours: [String: Detour] = [:]
    private var ticker: RepeatedTask?
    private var announced: Status?

    // Everywhere.
    let serials = Mutex(Serials())
    /// Who waits for the answers to this node's changes, by serial.
    let answers = Mutex<[UInt64: AnswerSlot]>([:])
    let observers = Mutex<[@Sendable ([Applied]) -> Void]>([])
    private let leadership = Mutex<Status>(Status(role: .follower, term: 0, leader: nil))

    /// Who waits for a proposal.
    enum Origin: Sendable {
        /// A submission of this node, by serial.
        case local(UInt64)
        /// Another node's, by its number.
        case remote(NodeID, UInt64)
    }

    /// Serial numbers of this run's changes.
    struct Serials: Sendable {
        /// Names of the sessions of this run, the one in use last: one that was forgotten is followed by another.
        var clients = [Cryptography.randomID()]
        /// Whether the state is known to have the session. Until then each change may be its first.
        var isKnown = false
        var next: UInt64 = 1
        /// Those that have no answer yet, ascending.
        var outstanding: [UInt64] = []
    }

    /// Opens the files of a member.
    public init(_ configuration: Configuration, say: @escaping @Sendable (String) -> Void) throws {
        self.configuration = configuration
        self.say = say
        let log = try LogStore(path: configuration.directory + "/log.db", owner: configuration.identity)
        var contents = try log.load()
        let store = try StateStore(path: configuration.directory + "/state.db")
        var state = try store.load()
        try Replica.reconcile(&contents, log, state)
        // Those of the founder stand in no entry.
        if state.applied == contents.base.position { state.members = contents.base.members }
        epoch = try log.beginEpoch()
        let run = Cryptography.randomID()
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        loop = group.next()
        raft = Raft(
            id: configuration.identity.node, hard: contents.hard, snapshot: contents.base, entries: contents.entries,
            applied: state.applied.index, options: configuration.options, seed: Cryptography.randomID())
        transport = PeerTransport(
            loop: loop, own: configuration.identity, epoch: epoch, run: run, program: configuration.program,
            credentials: configuration.credentials, say: say)
        transport.ownAddress = configuration.address
        self.log = try LogKeeper(log)
        keeper = try StateKeeper(store: store, state: state)
        snapshots = try SnapshotKeeper(directory: configuration.directory)
    }

    /// The state may be of a snapshot that the log does not know of yet: the last run ended between the two.
    private static func reconcile(
        _ contents: inout LogStore.Contents, _ log: LogStore, _ state: ClusterState
    ) throws(StoreError) {
        let last = contents.entries.last?.position ?? contents.base.position
        if state.applied.index > last.index {
            let info = SnapshotInfo(position: state.applied, members: state.members)
            try log.install(info)
            contents.base = info
            contents.entries = []
            return
        }
        guard state.applied.index >= contents.base.position.index else {
            throw .mismatch(
                "the state ends at entry \(state.applied.index), the log begins at \(contents.base.position.index + 1)")
        }
        let term =
            state.applied.index == contents.base.position.index
            ? contents.base.position.term
            : contents.entries[Int(state.applied.index - contents.base.position.index - 1)].term
        if term == state.applied.term { return }
        // A state holds what is committed, and came by a snapshot here; what the log has instead never was.
        guard state.applied.term > term else {
            throw .mismatch(
                "entry \(state.applied.index) is of term \(state.applied.term) in the state and \(term) in the log")
        }
        let info = SnapshotInfo(position: state.applied, members: state.members)
        try log.install(info)
        contents.base = info
        contents.entries = []
    }

    /// Starts to listen and to take part.
    public func start() async throws {
        keeper.connect(
            .init(
                done: { [self] applied in
                    for observer in observers.withLock({ $0 }) { observer(applied) }
                    answerAtOnce(applied)
                    loop.execute { [self] in self.applied(applied) }
                },
                durable: { [self] index in loop.execute { [self] in step(.compact(index)) } },
                failed: { [self] reason in halt(reason) }))
        transport.onMessage = { [unowned self] message in step(.receive(message)) }
        transport.onProposal = { [unowned self] node, number, bytes in enqueue(remote: bytes, node, number) }
        transport.onRefusal = { [unowned self] number, refusal in refused([.local(number)], refusal) }
        transport.onLost = { [unowned self] node in step(.lost(node)) }
        transport.onConnected = { [unowned self] _ in retrySubmissions() }
        try await loop.submit { [self] in
            follow(keeper.state)
            return transport.listen(host: configuration.listen.host, port: configuration.listen.port)
        }
        .flatMap { $0 }.map { (_: any Channel) in }.get()
        try await loop.submit { [self] in
            ticker = loop.scheduleRepeatedTask(initialDelay: Replica.tick, delay: Replica.tick) { [weak self] _ in
                self?.tick()
            }
        }
        .get()
    }

    /// Takes no part any more: who waits for something hears so, and who asks from now on. To be followed by ``stop()``, when
    /// nobody asks any more.
    public func retire() async {
        try? await loop.submit { [self] in
            ticker?.cancel()
            if stopReason == nil { stopReason = "the node stops" }
            failWaiting(.stopped("the node stops"))
            transport.stop()
        }
        .get()
    }

    /// Ends, in order.
    public func stop() async {
        await retire()
        log.finish()
        keeper.finish()
        snapshots.stop()
        try? await group.shutdownGracefully()
    }

    // MARK: - What can be asked from everywhere

    /// The latest state that this node has applied.
    public var state: ClusterState { keeper.state }
    /// The latest changes.
    public var history: History { keeper.history }
    /// Role, term and leader.
    public var agreement: Status { leadership.withLock { $0 } }
    /// Who this is.
    public var id: NodeID { configuration.identity.node }

    /// Calls `body` with what was applied, in order, on the thread of the state: it must not wait. Nothing was applied where
    /// the whole state became another one.
    public func observe(_ body: @escaping @Sendable ([Applied]) -> Void) {
        observers.withLock { $0.append(body) }
    }

    /// The latest start of each node that was met.
    public var starts: [NodeID: UInt64] { transport.starts.withLock { $0 } }

    /// Calls `body` when a node was met that runs another time than was known; it must not wait.
    public func onStart(_ body: @escaping @Sendable () -> Void) {
        loop.execute { [self] in transport.onStart = body }
    }

    /// Answers questions of other nodes.
    public func answer(_ body: @escaping @Sendable (NodeID, UInt8, [UInt8]) async throws -> [UInt8]) async throws {
        try await loop.submit { [self] in transport.onRequest = body }.get()
    }

    /// Asks another node.
    public func request(_ id: NodeID, method: UInt8, _ bytes: [UInt8], timeout: TimeAmount) async throws -> [UInt8] {
        try await loop.flatSubmit { [self] in transport.request(id, method: method, bytes, timeout: timeout) }.get()
    }

    /// Uses other certificates from now on, for connections to come.
    public func use(_ credentials: PeerCredentials) {
        loop.execute { [self] in transport.credentials = credentials }
    }

    /// Raises an alarm that ``status()`` shows, or ends it.
    public func alarm(_ name: String, _ text: String?) {
        loop.execute { [self] in
            if let text, alarms[name] != text { say("alarm: \(text)") }
            alarms[name] = text
        }
    }

    /// How this replica is.
    public func status() async throws -> ReplicaStatus {
        let nodes = Set(keeper.state.nodes.keys)
        return try await loop.submit { [self] in
            let second = 100.0
            let others = nodes.union(raft.members.all).subtracting([raft.id]).sorted()
            return ReplicaStatus(
                id: raft.id, agreement: raft.status, last: raft.last, commit: raft.commit,
                applied: keeper.applied, first: raft.base.position.index + 1, members: raft.members,
                peers: others.map { id in
                    let known = raft.status.role == .leader ? raft.peer(id) : nil
                    return .init(
                        id: id, match: known?.match, silenceSeconds: known.map { Double($0.silence) / second },
                        replication: raft.status.role == .leader ? raft.replication(to: id) : nil,
                        isConnected: transport.isConnected(id), problem: transport.problem(of: id))
                },
                writeLatency: log.latency,
                leaderlessSeconds: raft.status.leader == nil
                    ? Double((NIODeadline.now() - leaderSeen).nanoseconds) / 1e9 : nil,
                counters: transport.counters, refusals: transport.recentRefusals,
                alarms: alarms.sorted { $0.key < $1.key }.map(\.value), digests: keeper.knownDigests,
                stopped: stopReason)
        }
        .get()
    }

    // MARK: - The step

    func step(_ input: Input) {
        guard stopReason == nil else { return }
        var effects: [Effect] = []
        raft.step(input, &effects)
        for effect in effects { perform(effect) }
    }

    private func tick() {
        step(.tick)
        if raft.status.leader != nil { leaderSeen = .now() }
        tickSubmissions()
        reconcileMembers()
        ticks &+= 1
        if ticks % Replica.flushTicks == 0 { keeper.flushLater() }
    }

    /// The node must not go on taking part: what it would say might not be true.
    func halt(_ reason: String) {
        loop.execute { [self] in
            guard stopReason == nil else { return }
            step(.halt(reason))
        }
    }

    func stopped(_ reason: String) {
        stopReason = reason
        say("this node takes no part in the cluster any more: \(reason)")
        alarms["stopped"] = "this node takes no part in the cluster any more: \(reason)"
        failWaiting(.stopped(reason))
    }

    func changed(_ status: Status) {
        leadership.withLock { $0 = status }
        if status.leader != announced?.leader || status.role != announced?.role {
            switch status.role {
            case .leader: say("leads, term \(status.term)")
            case .follower:
                say(status.leader.map { "follows \(transport.name(of: $0)), term \(status.term)" } ?? "has no leader")
            default: break
            }
            announced = status
        }
        if status.leader != nil { retrySubmissions() }
    }

    private func applied(_ applied: [Applied]) {
        if applied.contains(where: \.changesCluster) { follow(keeper.state) }
        for one in applied {
            guard let session = one.session, let outcome = one.outcome, isOwn(session.client) else { continue }
            answered(session, outcome)
        }
        if let last = applied.last { answerBarriers(last.position.index) }
    }

    /// Says which addresses of hosts can't be reached just now, and which can: links to the others are made anew there.
    public func setDetours(_ detours: [String: Detour]) {
        loop.execute { [self] in
            guard detours != self.detours else { return }
            self.detours = detours
            follow(keeper.state)
        }
    }

    /// Makes what the transport knows of the nodes what the state says.
    func follow(_ state: ClusterState) {
        var addresses = configuration.peers
        var around: [NodeID: String] = [:]
        var down: [NodeID: Set<String>] = [:]
        var names: [NodeID: String] = [:]
        for node in state.nodes.values {
            names[node.id] = node.name
            guard let address = splitAddress(node.peerAddress) else { continue }
            addresses[node.id] = address
            if let detour = detours[node.name] { down[node.id] = Set(detour.down.map(\.description)) }
            if let host = detours[node.name]?.replacing(address.host), host != address.host { around[node.id] = host }
        }
        addresses[raft.id] = nil
        voters = Set(state.nodes.values.filter { $0.role == .voter }.map(\.id))
        // Who is removed stays within reach until the members say so, too: its vote may be needed for that.
        transport.update(
            addresses: addresses, detours: around, down: down, names: names,
            removed: Set(state.removed.keys).subtracting(raft.members.all),
            epochs: state.nodes.mapValues(\.epoch))
    }
}

/// `host:port`, `[v6]:port`.
public func splitAddress(_ text: String) -> (host: String, port: Int)? {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
        return nil
    }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
        host = host.dropFirst().dropLast()
    } else if host.contains(":") {
        return nil
    }
    return host.isEmpty ? nil : (String(host), Int(port))
}
