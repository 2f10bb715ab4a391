// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import TLS

/// One connection that another node opened: who it is comes first, then frames for us.
final class InboundPeer: ChannelInboundHandler {
    typealias InboundIn = Frame

    private unowned let transport: PeerTransport
    private let decoder: FrameDecoder
    private let source: String
    private var identity: PeerIdentity?
    private var isKnown = false
    private var isSuperseded = false
    private var timer: Scheduled<Void>?
    private(set) var context: ChannelHandlerContext?
    private(set) var hello: Frame.Hello?
    /// Who waits to hear whether this connection lives.
    private var probes: [(Bool) -> Void] = []

    init(_ transport: PeerTransport, _ decoder: FrameDecoder, source: String) {
        self.transport = transport
        self.decoder = decoder
        self.source = source
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? TLSEstablished else { return context.fireUserInboundEventTriggered(event) }
        guard let identity = event.peer.flatMap({ PeerIdentity($0) }) else {
            return end(context, "its certificate names no node")
        }
        self.identity = identity
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: StoreLimits.helloTimeout) {
            let (handler, context) = bound.value
            if !handler.isKnown { handler.end(context, "it did not say who it is") }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        if isKnown, let hello {
            switch frame {
            case .pong: answerProbes(true)
            case .hello, .welcome, .ping: end(context, "it does not speak as a node does")
            default: transport.received(frame, from: hello.from)
            }
            return
        }
        guard self.hello == nil, case .hello(let hello) = frame, let identity else {
            return end(context, "it did not say who it is")
        }
        self.hello = hello
        transport.admit(hello, identity) { [self] refusal in
            guard self.context != nil else { return }
            var buffer = context.channel.allocator.buffer(capacity: 256)
            Frame.welcome(.init(refusal: refusal ?? "")).encode(into: &buffer)
            context.writeAndFlush(NIOAny(buffer), promise: nil)
            if let refusal { return end(context, refusal) }
            isKnown = true
            timer?.cancel()
            decoder.trust()
            transport.accepted(self)
        }
    }

    /// Asks whether the other side is still there.
    func probe(_ answer: @escaping (Bool) -> Void) {
        guard let context else { return answer(false) }
        probes.append(answer)
        guard probes.count == 1 else { return }
        var buffer = context.channel.allocator.buffer(capacity: 8)
        Frame.ping.encode(into: &buffer)
        context.writeAndFlush(NIOAny(buffer), promise: nil)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: .seconds(1)) { bound.value.answerProbes(false) }
    }

    private func answerProbes(_ isAlive: Bool) {
        let waiting = probes
        probes.removeAll()
        for answer in waiting { answer(isAlive) }
    }

    func close() { context?.close(promise: nil) }

    /// Ends it because the node has another one in its place: the node is not lost.
    func supersede() {
        isSuperseded = true
        close()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { end(context, "\(error)") }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        answerProbes(false)
        transport.ended(self, wasKnown: isKnown && !isSuperseded)
    }

    private func end(_ context: ChannelHandlerContext, _ reason: String) {
        transport.refused(source: source, node: hello?.from, reason)
        context.close(promise: nil)
    }
}
