// SPDX-License-Identifier: Apache-2.0
import Consensus
import Glibc
import NIOCore
import NIOPosix
import TLS

/// Why a connection did not come about, in words.
public func connectionFailure(_ error: any Error) -> String {
    var cause = error
    if let error = error as? NIOConnectionError, let first = error.connectionErrors.first { cause = first.error }
    if let error = cause as? IOError { return String(cString: strerror(error.errnoCode)) }
    return "\(cause)"
}

/// The way to another node: one connection in each lane, opened when there is something to say, opened again when it broke.
/// Touched on the transport's loop only.
final class PeerLink {
    let id: NodeID
    private unowned let transport: PeerTransport
    private var lanes: [Lane]
    /// Why the last attempt failed.
    private(set) var problem: String?

    private struct Lane {
        var channel: (any Channel)?
        /// Where it leads.
        var host = ""
        var isReady = false
        var isConnecting = false
        /// Frames that wait for the connection.
        var queue: [ByteBuffer] = []
        var queuedBytes = 0
        /// Attempts that failed, one after the other.
        var failures = 0
        var retry: Scheduled<Void>?
        /// Counts connections, so that news of an old one is known as such.
        var generation = 0
        var needsFlush = false
    }

    init(_ id: NodeID, _ transport: PeerTransport) {
        self.id = id
        self.transport = transport
        lanes = Frame.Lane.allCases.map { _ in Lane() }
    }

    /// Whether the urgent lane is open.
    var isConnected: Bool { lanes[0].isReady }

    func send(_ frame: Frame, _ lane: Frame.Lane) {
        let index = Int(lane.rawValue)
        let buffer = transport.encode(frame)
        guard lanes[index].queuedBytes + buffer.readableBytes <= StoreLimits.queuedBytes else {
            transport.counters.dropped += 1
            return
        }
        if lanes[index].isReady, let channel = lanes[index].channel {
            let count = buffer.readableBytes
            lanes[index].queuedBytes += count
            let link = NIOLoopBound(self, eventLoop: transport.loop)
            channel.write(buffer).whenComplete { _ in link.value.lanes[index].queuedBytes -= count }
            if !lanes[index].needsFlush {
                lanes[index].needsFlush = true
                transport.flushLater(self)
            }
            return
        }
        lanes[index].queue.append(buffer)
        lanes[index].queuedBytes += buffer.readableBytes
        connect(index)
    }

    func flush() {
        for index in lanes.indices where lanes[index].needsFlush {
            lanes[index].needsFlush = false
            lanes[index].channel?.flush()
        }
    }

    /// The node showed signs of life: no waiting before the next attempt.
    func encourage() {
        for index in lanes.indices where lanes[index].retry != nil {
            lanes[index].retry?.cancel()
            lanes[index].retry = nil
            lanes[index].failures = 0
            if !lanes[index].queue.isEmpty { connect(index) }
        }
    }

    private func connect(_ index: Int) {
        guard !lanes[index].isConnecting, lanes[index].retry == nil, !lanes[index].isReady else { return }
        guard let target = transport.address(of: id, attempt: lanes[index].failures) else {
            return fail(index, lanes[index].generation, "its address is not known")
        }
        lanes[index].isConnecting = true
        lanes[index].host = target.host
        lanes[index].generation += 1
        let generation = lanes[index].generation
        guard let lane = Frame.Lane(rawValue: UInt8(index)) else { return }
        let bound = NIOLoopBound(self, eventLoop: transport.loop)
        let credentials = transport.credentials
        let hello = transport.hello(to: id, lane)
        ClientBootstrap(group: transport.loop).connectTimeout(.milliseconds(700))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(PeerTransport.userTimeout.0, value: PeerTransport.userTimeout.1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let link = bound.value
                    let decoder = FrameDecoder()
                    try channel.pipeline.syncOperations.addHandlers([
                        TLSHandler(credentials.client, .client, handshakeTimeout: StoreLimits.helloTimeout),
                        ByteToMessageHandler(decoder),
                        LinkHandler(link, index, generation, hello, decoder),
                    ])
                }
            }
            .connect(host: target.host, port: target.port).whenComplete { result in
                let link = bound.value
                switch result {
                case .success(let channel):
                    if link.lanes[index].generation == generation {
                        link.lanes[index].channel = channel
                    } else {
                        channel.close(promise: nil)
                    }
                case .failure(let error): link.fail(index, generation, PeerLink.describe(error, target))
                }
            }
    }

    private static func describe(_ error: any Error, _ target: (host: String, port: Int)) -> String {
        "\(target.host):\(target.port): \(connectionFailure(error))"
    }

    /// The other side took us.
    fileprivate func welcomed(_ index: Int, _ generation: Int) {
        guard lanes[index].generation == generation, let channel = lanes[index].channel else { return }
        lanes[index].isConnecting = false
        lanes[index].isReady = true
        lanes[index].failures = 0
        problem = nil
        for buffer in lanes[index].queue {
            let count = buffer.readableBytes
            let link = NIOLoopBound(self, eventLoop: transport.loop)
            channel.write(buffer).whenComplete { _ in link.value.lanes[index].queuedBytes -= count }
        }
        lanes[index].queue.removeAll()
        channel.flush()
        if index == 0 { transport.connected(id) }
    }

    /// What came over a connection that we opened.
    fileprivate func received(_ frame: Frame) { transport.receivedOnLink(frame, from: id) }

    fileprivate func fail(_ index: Int, _ generation: Int, _ reason: String) {
        guard lanes[index].generation == generation else { return }
        let wasReady = lanes[index].isReady
        lanes[index].channel?.close(promise: nil)
        lanes[index].channel = nil
        lanes[index].isReady = false
        lanes[index].isConnecting = false
        lanes[index].generation += 1
        // What waited is stale by now; questions among it fail.
        for buffer in lanes[index].queue { lanes[index].queuedBytes -= buffer.readableBytes }
        lanes[index].queue.removeAll()
        if reason != problem { transport.say("to \(transport.name(of: id)): \(reason)") }
        problem = reason
        if index == 0 { transport.disconnected(id, wasReady: wasReady, reason) }
        if index == Int(Frame.Lane.bulk.rawValue) { transport.failQuestions(to: id, reason) }
        lanes[index].failures += 1
        let bound = NIOLoopBound(self, eventLoop: transport.loop)
        lanes[index].retry = transport.loop.scheduleTask(in: transport.backoff(lanes[index].failures)) {
            let link = bound.value
            link.lanes[index].retry = nil
            if !link.lanes[index].queue.isEmpty { link.connect(index) }
        }
    }

    /// These addresses can't be reached: lanes that lead there are opened anew, by another one, when there is something to say.
    func leave(_ hosts: Set<String>) {
        for index in lanes.indices where hosts.contains(lanes[index].host) {
            guard lanes[index].isReady || lanes[index].isConnecting else { continue }
            fail(index, lanes[index].generation, "\(lanes[index].host) can't be reached just now")
            lanes[index].retry?.cancel()
            lanes[index].retry = nil
            lanes[index].failures = 0
        }
    }

    func close() {
        for index in lanes.indices {
            lanes[index].generation += 1
            lanes[index].retry?.cancel()
            lanes[index].channel?.close(promise: nil)
            lanes[index].channel = nil
            lanes[index].isReady = false
            lanes[index].queue.removeAll()
        }
        transport.failQuestions(to: id, "the connection to it is made anew")
    }
}

/// One connection that we opened.
private final class LinkHandler: ChannelInboundHandler {
    typealias InboundIn = Frame

    private let link: PeerLink
    private let index: Int
    private let generation: Int
    private let hello: Frame
    private let decoder: FrameDecoder
    private var failure: String?
    private var isWelcome = false
    private var timer: Scheduled<Void>?

    init(_ link: PeerLink, _ index: Int, _ generation: Int, _ hello: Frame, _ decoder: FrameDecoder) {
        self.link = link
        self.index = index
        self.generation = generation
        self.hello = hello
        self.decoder = decoder
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? TLSEstablished else { return context.fireUserInboundEventTriggered(event) }
        guard let peer = event.peer.flatMap({ PeerIdentity($0) }) else {
            failure = "the other side is no node: its certificate names none"
            return context.close(promise: nil)
        }
        // Another node may have got the address of the one that is meant.
        guard peer.node == link.id else {
            failure = "node \(peer.node) answers there, not \(link.id): another node has got its address"
            return context.close(promise: nil)
        }
        var buffer = context.channel.allocator.buffer(capacity: 256)
        hello.encode(into: &buffer)
        context.writeAndFlush(NIOAny(buffer), promise: nil)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: StoreLimits.helloTimeout) {
            let (handler, context) = bound.value
            if !handler.isWelcome {
                handler.failure = "it does not answer"
                context.close(promise: nil)
            }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        if isWelcome {
            if case .ping = frame {
                var buffer = context.channel.allocator.buffer(capacity: 8)
                Frame.pong.encode(into: &buffer)
                context.writeAndFlush(NIOAny(buffer), promise: nil)
                return
            }
            return link.received(frame)
        }
        guard case .welcome(let welcome) = frame else {
            failure = "it does not speak as a node does"
            return context.close(promise: nil)
        }
        guard welcome.refusal.isEmpty else {
            failure = "it refuses this node: \(welcome.refusal)"
            return context.close(promise: nil)
        }
        isWelcome = true
        timer?.cancel()
        decoder.trust()
        // The channel may have become ready before the future of its opening is told.
        let bound = NIOLoopBound(link, eventLoop: context.eventLoop)
        let (index, generation) = (index, generation)
        context.eventLoop.execute { bound.value.welcomed(index, generation) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if failure == nil { failure = "\(error)" }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        link.fail(index, generation, failure ?? "the connection ended")
    }
}
