// SPDX-License-Identifier: Apache-2.0
import Linux
import NIOCore
import NIOPosix
import Simulation
import Wire

/// Asks other servers for names that machines want to know, from this host, and remembers what they say.
public final class NameForwarder: Sendable {
    /// Gives an answer to whoever asked.
    public typealias Deliver = @Sendable (_ answer: [UInt8], _ question: NameQuestion) -> Void

    /// Of the loop.
    private struct State {
        var cache = AnswerCache()
        /// Machines that wait, by tenant and by what was asked.
        var waiting: [Tag: [AnswerCache.Key: [NameQuestion]]] = [:]
        var count = 0
        var swept: UInt64 = 0
    }
    private let group: MultiThreadedEventLoopGroup
    private let loop: any EventLoop
    private let state: NIOLoopBoundBox<State>
    private let deliver: Deliver

    /// Questions that are asked at once: of all, and of one tenant.
    private static let (most, perTenant) = (1024, 128)
    /// Machines that wait for the same answer.
    private static let waiters = 64
    /// How long a server may take.
    private static let timeout = TimeAmount.milliseconds(1200)
    /// How often all servers are asked.
    private static let rounds = 2

    /// A forwarder that knows nothing yet.
    public init(deliver: @escaping Deliver) {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        loop = group.next()
        state = NIOLoopBoundBox.makeBoxSendingValue(State(), eventLoop: loop)
        self.deliver = deliver
    }

    /// Ends it.
    public func stop() { group.shutdownGracefully { _ in } }

    /// Answers a question, now or when the answer comes. From any thread; what is too much is left to be asked again.
    public func ask(_ question: NameQuestion) {
        loop.execute { [self] in
            let now = monotonicNanoseconds() / 1_000_000_000
            if now >= state.value.swept + 60 {
                state.value.swept = now
                state.value.cache.expire(now: now)
            }
            if let known = state.value.cache.answer(to: question, now: now) { return deliver(known, question) }
            let key = AnswerCache.Key(question)
            if let count = state.value.waiting[question.tenant]?[key]?.count {
                if count < NameForwarder.waiters { state.value.waiting[question.tenant]?[key]?.append(question) }
                return
            }
            guard state.value.count < NameForwarder.most,
                state.value.waiting[question.tenant]?.count ?? 0 < NameForwarder.perTenant
            else { return }
            state.value.count += 1
            state.value.waiting[question.tenant, default: [:]][key] = [question]
            attempt(0, question, last: nil)
        }
    }

    /// Asks the next server.
    private func attempt(_ number: Int, _ question: NameQuestion, last: DNSReply?) {
        guard number < question.resolvers.count * NameForwarder.rounds else { return finish(question, last) }
        // Nobody else can know port and number.
        var query = question.query
        query.id = UInt16.random(in: 0...UInt16.max)
        let asked = query
        let promise = loop.makePromise(of: DNSReply?.self)
        let answer = Answer(asked, promise)
        let timer = loop.scheduleTask(in: NameForwarder.timeout) { answer.put(nil) }
        let channel: EventLoopFuture<any Channel>
        do {
            let target = try SocketAddress(
                ipAddress: question.resolvers[number % question.resolvers.count].description,
                port: Int(DNSQuery.port))
            channel = DatagramBootstrap(group: loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(answer.handler)
                    }
                }
                .connect(to: target)
            channel.whenSuccess { channel in
                let bytes = asked.encoded(size: asked.size == nil ? nil : UInt16(DNSQuery.longest))
                channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
            }
            channel.whenFailure { _ in answer.put(nil) }
        } catch {
            timer.cancel()
            promise.succeed(nil)
            return attempt(number + 1, question, last: last)
        }
        promise.futureResult.whenSuccess { [self] reply in
            timer.cancel()
            channel.whenSuccess { $0.close(mode: .all, promise: nil) }
            // One that does not want to, or can't, is no answer as long as there are others.
            if let reply, [0, DNSQuery.Code.noName.rawValue].contains(UInt16(reply.code)) {
                finish(question, reply)
            } else {
                attempt(number + 1, question, last: reply ?? last)
            }
        }
    }

    private func finish(_ question: NameQuestion, _ reply: DNSReply?) {
        let key = AnswerCache.Key(question)
        let waiting = state.value.waiting[question.tenant]?.removeValue(forKey: key) ?? []
        if state.value.waiting[question.tenant]?.isEmpty == true { state.value.waiting[question.tenant] = nil }
        state.value.count -= 1
        if let reply {
            state.value.cache.note(reply, to: question, now: monotonicNanoseconds() / 1_000_000_000)
        }
        for one in waiting {
            deliver(reply?.aged(0, for: one.query) ?? one.query.answer(code: .failure, isOwn: false), one)
        }
    }
}

/// The first answer counts. Of one loop.
private final class Answer: Sendable {
    private let query: DNSQuery
    private let promise: EventLoopPromise<DNSReply?>
    private let isGiven: NIOLoopBoundBox<Bool>

    init(_ query: DNSQuery, _ promise: EventLoopPromise<DNSReply?>) {
        self.query = query
        self.promise = promise
        isGiven = NIOLoopBoundBox(false, eventLoop: promise.futureResult.eventLoop)
    }

    func put(_ reply: DNSReply?) {
        if isGiven.value { return }
        isGiven.value = true
        promise.succeed(reply)
    }

    /// Takes what comes: what is no answer to the question is somebody else's, and goes by.
    func read(_ bytes: [UInt8]) {
        if let reply = DNSReply(bytes, to: query) { put(reply) }
    }

    var handler: Listener { Listener(self) }

    final class Listener: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let answer: Answer
        init(_ answer: Answer) { self.answer = answer }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            answer.read(Array(unwrapInboundIn(data).data.readableBytesView))
        }
        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            answer.put(nil)
            context.close(promise: nil)
        }
        func channelInactive(context: ChannelHandlerContext) {
            answer.put(nil)
            context.fireChannelInactive()
        }
    }
}
