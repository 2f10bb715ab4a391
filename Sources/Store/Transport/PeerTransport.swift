// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import NIOPosix
import Synchronization
import TLS
import Wire

/// What the transport counts.
public struct TransportCounters: Sendable, Equatable {
    /// Frames that were dropped because too much waited already.
    public var dropped: UInt64 = 0
    /// Connections that were refused, whatever for.
    public var refused: UInt64 = 0
    /// Connections that were turned away because there were too many.
    public var turnedAway: UInt64 = 0
    /// Messages that could not be read.
    public var malformed: UInt64 = 0
}

/// Carries messages between nodes. Everything here happens on one event loop, that of the replica.
final class PeerTransport: @unchecked Sendable {  // what varies is touched on `loop` only
    let loop: any EventLoop
    let own: PeerIdentity
    let epoch: UInt64
    let run: UInt64
    let program: String
    /// Where we listen, for others.
    var ownAddress = ""
    var credentials: PeerCredentials
    var counters = TransportCounters()
    let say: @Sendable (String) -> Void

    /// Where nodes are.
    private var addresses: [NodeID: (host: String, port: Int)] = [:]
    /// Other addresses of some, and addresses that can't be reached just now.
    private var detours: [NodeID: String] = [:]
    private var down: [NodeID: Set<String>] = [:]
    /// Where nodes say that they are, for those that nothing else is known of.
    private var claimed: [NodeID: (host: String, port: Int)] = [:]
    private var names: [NodeID: String] = [:]
    private var removed: Set<NodeID> = []
    private var links: [NodeID: PeerLink] = [:]
    private var toFlush: [PeerLink] = []
    private var isFlushing = false
    private var isStopped = false
    private var listener: (any Channel)?
    private var inbound: [ObjectIdentifier: InboundPeer] = [:]
    private var strangers: [String: Int] = [:]
    private var strangerCount = 0
    private var connections = 0
    private var epochs: [NodeID: UInt64] = [:]
    /// The latest start that was met of each node.
    private var known: [NodeID: (epoch: UInt64, run: UInt64)] = [:]
    /// The same, for other threads.
    let starts = Mutex<[NodeID: UInt64]>([:])
    var onStart: (@Sendable () -> Void)?
    private var random = SystemRandomNumberGenerator()
    /// Begins at random, so that no answer to an earlier run is taken for one to this.
    private var nextRequest = Cryptography.randomID() >> 16
    private var requests: [UInt64: (to: NodeID, promise: EventLoopPromise<[UInt8]>, timer: Scheduled<Void>)] = [:]
    /// The last refusals of others, newest last, for whoever looks for a reason.
    private(set) var recentRefusals: [String] = []

    // What comes goes here.
    var onMessage: ((Message) -> Void)?
    var onProposal: ((NodeID, UInt64, [UInt8]) -> Void)?
    var onRefusal: ((UInt64, Refusal) -> Void)?
    var onConnected: ((NodeID) -> Void)?
    var onLost: ((NodeID) -> Void)?
    var onRequest: (@Sendable (NodeID, UInt8, [UInt8]) async throws -> [UInt8])?

    init(
        loop: any EventLoop, own: PeerIdentity, epoch: UInt64, run: UInt64, program: String,
        credentials: PeerCredentials, say: @escaping @Sendable (String) -> Void
    ) {
        self.loop = loop
        self.own = own
        self.epoch = epoch
        self.run = run
        self.program = program
        self.credentials = credentials
        self.say = say
    }

    // MARK: - Who is where

    /// What is known of the nodes of the cluster.
    ///
    /// - Parameters:
    ///   - detours: other addresses of nodes that can't be reached at theirs just now.
    ///   - down: addresses of nodes that can't be reached just now: what was connected there is connected anew, and nothing else is.
    ///   - epochs: the latest start of each node that the cluster agreed on.
    func update(
        addresses: [NodeID: (host: String, port: Int)], detours: [NodeID: String],
        down: [NodeID: Set<String>], names: [NodeID: String], removed: Set<NodeID>, epochs: [NodeID: UInt64]
    ) {
        self.epochs = epochs
        for (id, address) in addresses {
            guard let old = self.addresses[id], old != address else { continue }
            links.removeValue(forKey: id)?.close()
        }
        self.addresses = addresses
        self.detours = detours
        for (id, hosts) in down { links[id]?.leave(hosts.subtracting(self.down[id] ?? [])) }
        self.down = down
        self.names = names
        let gone = removed.subtracting(self.removed)
        self.removed = removed
        for id in gone {
            links.removeValue(forKey: id)?.close()
            known[id] = nil
            for peer in inbound.values where peer.hello?.from == id { peer.close() }
        }
    }

    /// Where to try to reach a node: by the detour first, where there is one, and every other time at its own address, since what stops
    /// probes need not stop us.
    func address(of id: NodeID, attempt: Int) -> (host: String, port: Int)? {
        guard let own = addresses[id] ?? claimed[id] else { return nil }
        guard attempt % 2 == 0, let detour = detours[id] else { return own }
        return (detour, own.port)
    }
    func name(of id: NodeID) -> String { names[id] ?? "node \(id)" }
    func isConnected(_ id: NodeID) -> Bool { links[id]?.isConnected ?? false }
    func problem(of id: NodeID) -> String? { links[id]?.problem }

    func hello(to id: NodeID, _ lane: Frame.Lane) -> Frame {
        .hello(
            Frame.Hello(
                cluster: own.cluster, from: own.node, to: id, epoch: epoch, run: run, lane: lane, program: program,
                address: ownAddress))
    }

    // MARK: - Out

    func encode(_ frame: Frame) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: 256)
        frame.encode(into: &buffer)
        return buffer
    }

    private func link(_ id: NodeID) -> PeerLink {
        if let link = links[id] { return link }
        let link = PeerLink(id, self)
        links[id] = link
        return link
    }

    func send(_ message: Message) {
        guard !removed.contains(message.to) else { return }
        let lane: Frame.Lane
        switch message.body {
        case .append, .chunk: lane = .bulk
        default: lane = .urgent
        }
        link(message.to).send(.message(MessageCodec.encode(message)), lane)
    }

    func send(_ frame: Frame, to id: NodeID, _ lane: Frame.Lane) { link(id).send(frame, lane) }

    /// Writes are flushed once, when everything at hand is done.
    func flushLater(_ link: PeerLink) {
        toFlush.append(link)
        guard !isFlushing else { return }
        isFlushing = true
        loop.execute { [self] in
            isFlushing = false
            let links = toFlush
            toFlush.removeAll(keepingCapacity: true)
            for link in links { link.flush() }
        }
    }

    /// Waits longer after each failure, each node for a time of its own: what failed together must not return together.
    func backoff(_ failures: Int) -> TimeAmount {
        // Half a second at most: whoever was cut off is to be told at once what it missed.
        let bound = min(50 << min(failures - 1, 4), 500)
        return .milliseconds(Int64.random(in: Int64(bound / 2)...Int64(bound), using: &random))
    }

    func connected(_ id: NodeID) {
        say("connected to \(name(of: id))")
        onConnected?(id)
    }

    func disconnected(_ id: NodeID, wasReady: Bool, _ reason: String) {
        failQuestions(to: id, reason)
    }

    /// Questions to a node that were on their way are answered no more.
    func failQuestions(to id: NodeID, _ reason: String) {
        for (number, request) in requests where request.to == id {
            requests[number] = nil
            request.timer.cancel()
            request.promise.fail(StoreRefusal.unreachable(name(of: id), reason))
        }
    }

    // MARK: - Questions

    /// Asks a node something.
    func request(
        _ id: NodeID, method: UInt8, _ bytes: [UInt8], timeout: TimeAmount
    ) -> EventLoopFuture<[UInt8]> {
        let promise = loop.makePromise(of: [UInt8].self)
        if isStopped {
            promise.fail(StoreRefusal.stopped("the node stops"))
            return promise.futureResult
        }
        guard requests.count < StoreLimits.requests else {
            promise.fail(StoreRefusal.busy)
            return promise.futureResult
        }
        let number = nextRequest
        nextRequest += 1
        let timer = loop.scheduleTask(in: timeout) { [self] in
            requests[number] = nil
            promise.fail(
                StoreRefusal.unreachable(name(of: id), problem(of: id) ?? "it did not answer in time"))
        }
        requests[number] = (id, promise, timer)
        // Not before heartbeats and votes: neither side bounds what a question or its answer holds.
        send(.request(number: number, method: method, bytes), to: id, .bulk)
        return promise.futureResult
    }

    private func answer(_ number: UInt64, _ method: UInt8, _ bytes: [UInt8], to id: NodeID) {
        guard let onRequest else { return }
        let promise = loop.makePromise(of: [UInt8].self)
        promise.completeWithTask { try await onRequest(id, method, bytes) }
        promise.futureResult.whenComplete { [self] result in
            switch result {
            case .success(let answer) where answer.count <= StoreLimits.responseBytes:
                send(.response(number: number, isFailure: false, answer), to: id, .bulk)
            case .success(let answer):
                let text =
                    "the answer has \(answer.count) bytes, \(StoreLimits.responseBytes) at most: ask the node itself"
                send(.response(number: number, isFailure: true, Array(text.utf8)), to: id, .bulk)
            case .failure(let error):
                send(.response(number: number, isFailure: true, Array("\(error)".utf8)), to: id, .bulk)
            }
        }
    }

    // MARK: - In

    func received(_ frame: Frame, from id: NodeID) {
        switch frame {
        case .message(let bytes):
            do throws(StoreError) {
                let message = try MessageCodec.decode(bytes)
                // Nobody speaks for another.
                guard message.from == id, message.to == own.node else {
                    counters.malformed += 1
                    return
                }
                onMessage?(message)
            } catch {
                counters.malformed += 1
                say("a message of \(name(of: id)) can't be read: \(error)")
            }
        case .proposal(let number, let bytes): onProposal?(id, number, bytes)
        case .refusal(let number, let refusal): onRefusal?(number, refusal)
        case .request(let number, let method, let bytes): answer(number, method, bytes, to: id)
        case .response(let number, let isFailure, let bytes):
            guard let request = requests[number], request.to == id else { return }
            requests[number] = nil
            request.timer.cancel()
            if isFailure {
                request.promise.fail(StoreRefusal.remote(name(of: id), String(decoding: bytes, as: UTF8.self)))
            } else {
                request.promise.succeed(bytes)
            }
        case .hello, .welcome, .ping, .pong, .unknown: break
        }
    }

    /// Only pings come over connections that we opened; those the link answers itself.
    func receivedOnLink(_ frame: Frame, from id: NodeID) {}

    // MARK: - Listening

    /// What is not acknowledged for so long ends a connection (tcp(7), TCP_USER_TIMEOUT, milliseconds): after a partition
    /// the kernel would wait about as long as it lasted before it sent again.
    static let userTimeout: (ChannelOptions.Types.SocketOption, Int) = (
        .init(level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT)), 3000
    )

    func listen(host: String, port: Int) -> EventLoopFuture<any Channel> {
        ServerBootstrap(group: loop).serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(PeerTransport.userTimeout.0, value: PeerTransport.userTimeout.1)
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture { try self.greet(channel) }
            }
            .bind(host: host, port: port)
            .map { [self] channel in
                listener = channel
                return channel
            }
    }

    private func greet(_ channel: any Channel) throws {
        let source = channel.remoteAddress?.ipAddress ?? "?"
        guard connections < StoreLimits.inboundConnections, strangerCount < StoreLimits.strangers,
            strangers[source, default: 0] < StoreLimits.strangersOfOneAddress
        else {
            counters.turnedAway += 1
            throw StoreRefusal.busy
        }
        connections += 1
        strangerCount += 1
        strangers[source, default: 0] += 1
        let decoder = FrameDecoder()
        let peer = InboundPeer(self, decoder, source: source)
        inbound[ObjectIdentifier(peer)] = peer
        let bound = NIOLoopBound(peer, eventLoop: loop)
        channel.closeFuture.whenComplete { [self] _ in
            connections -= 1
            forgetStranger(bound.value, source)
        }
        sources[ObjectIdentifier(peer)] = source
        try channel.pipeline.syncOperations.addHandlers([
            TLSHandler(credentials.server, .server, handshakeTimeout: StoreLimits.helloTimeout),
            ByteToMessageHandler(decoder), peer,
        ])
    }

    /// Sources of connections that have not said who they are.
    private var sources: [ObjectIdentifier: String] = [:]

    private func forgetStranger(_ peer: InboundPeer, _ source: String) {
        guard sources.removeValue(forKey: ObjectIdentifier(peer)) != nil else { return }
        strangerCount -= 1
        strangers[source, default: 1] -= 1
        if strangers[source] == 0 { strangers[source] = nil }
    }

    /// Whether a node is taken; the answer is a reason why not, or `nil`.
    func admit(_ hello: Frame.Hello, _ identity: PeerIdentity, _ answer: @escaping (String?) -> Void) {
        if hello.cluster != own.cluster || identity.cluster != own.cluster {
            return answer("wrong cluster: you are of \(hello.cluster), this is \(own.cluster)")
        }
        if hello.from != identity.node {
            return answer("you say that you are node \(hello.from), your certificate says \(identity.node)")
        }
        if hello.to != own.node {
            return answer("you want node \(hello.to), this is \(own.node)")
        }
        if hello.from == own.node {
            return answer("copied id: you have the id of this node, \(own.node); wipe your directory and join")
        }
        if removed.contains(hello.from) {
            return answer(
                "revoked: node \(hello.from) was removed from this cluster; wipe its directory and join as a new node")
        }
        if let agreed = epochs[hello.from], hello.epoch < agreed {
            return answer(
                "restored disk: node \(hello.from) has run with start \(agreed) already, you say \(hello.epoch); wipe your directory and join as a new node"
            )
        }
        guard let before = known[hello.from], before.run != hello.run else {
            meet(hello)
            return answer(nil)
        }
        if hello.epoch <= before.epoch {
            return answer(
                "copied id or restored disk: node \(hello.from) has run with start \(before.epoch) already, you say \(hello.epoch); wipe your directory and join as a new node"
            )
        }
        // A later start: the earlier one must be over, or there are two nodes of one id.
        guard let old = inbound.values.first(where: { $0.hello?.run == before.run && $0.hello?.from == hello.from })
        else {
            meet(hello)
            return answer(nil)
        }
        old.probe { [self] isAlive in
            if isAlive {
                return answer(
                    "copied id: node \(hello.from) is running and connected already; wipe this copy's directory and let it join as a new node"
                )
            }
            old.close()
            meet(hello)
            answer(nil)
        }
    }

    private func meet(_ hello: Frame.Hello) {
        known[hello.from] = (hello.epoch, hello.run)
        let isNews = starts.withLock { $0.updateValue(hello.epoch, forKey: hello.from) != hello.epoch }
        if isNews { onStart?() }
    }

    func accepted(_ peer: InboundPeer) {
        if let source = sources[ObjectIdentifier(peer)] { forgetStranger(peer, source) }
        guard let hello = peer.hello else { return }
        // What it had before was cut, on a way that does not work: its end may never be heard.
        for old in inbound.values
        where old !== peer && old.hello?.from == hello.from && old.hello?.run == hello.run
            && old.hello?.lane == hello.lane
        {
            old.supersede()
        }
        if let address = splitAddress(hello.address) { claimed[hello.from] = address }
        links[hello.from]?.encourage()
    }

    func refused(source: String, node: NodeID?, _ reason: String) {
        counters.refused += 1
        let who = node.map { "\(name(of: $0)) at \(source)" } ?? source
        let line = "refused \(who): \(reason)"
        // The same again and again is said once.
        if recentRefusals.last != line {
            say(line)
            recentRefusals.append(line)
            if recentRefusals.count > 20 { recentRefusals.removeFirst() }
        }
    }

    func ended(_ peer: InboundPeer, wasKnown: Bool) {
        inbound[ObjectIdentifier(peer)] = nil
        // One lane's end is enough: a node that lives opens it again at once, and is heard.
        if wasKnown, let hello = peer.hello, hello.lane == .urgent { onLost?(hello.from) }
    }

    func stop() {
        isStopped = true
        listener?.close(promise: nil)
        for link in links.values { link.close() }
        for peer in inbound.values { peer.close() }
        for request in requests.values {
            request.timer.cancel()
            request.promise.fail(StoreRefusal.stopped("the node stops"))
        }
        requests.removeAll()
    }
}
