// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// Tells that the handshake of a channel is over and what the other side showed.
public struct TLSEstablished: Sendable {
    /// The other side's certificate, if it showed one.
    public let peer: Certificate?
}

/// TLS in a channel of SwiftNIO: encrypts what goes out, decrypts what comes in, and closes the channel on whatever is not
/// as it should be. What is written before the handshake is over waits for it.
public final class TLSHandler: ChannelDuplexHandler {
    /// Bytes of the wire.
    public typealias InboundIn = ByteBuffer
    /// Bytes of the application.
    public typealias InboundOut = ByteBuffer
    /// Bytes of the application.
    public typealias OutboundIn = ByteBuffer
    /// Bytes of the wire.
    public typealias OutboundOut = ByteBuffer

    private static let readSize = 16 << 10
    private let session: TLSSession
    private let deadline: TimeAmount
    private var isEstablished = false
    private var isOver = false
    private var waiting: [(data: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    private var timer: Scheduled<Void>?

    /// A handler for one channel.
    ///
    /// - Parameters:
    ///   - host: the name that the server's certificate must be for; see ``TLSSession``.
    ///   - handshakeTimeout: how long the other side may take for its part of the handshake.
    public init(
        _ context: TLSContext, _ role: TLSSession.Role, host: String? = nil, handshakeTimeout: TimeAmount = .seconds(5)
    ) throws(TLSError) {
        session = try TLSSession(context, role, host: host)
        deadline = handshakeTimeout
    }

    /// Begins where the channel is open already.
    public func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { begin(context) }
    }

    /// Begins.
    public func channelActive(context: ChannelHandlerContext) {
        begin(context)
        context.fireChannelActive()
    }

    private func begin(_ context: ChannelHandlerContext) {
        guard timer == nil, !isOver else { return }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: deadline) {
            let (handler, context) = bound.value
            if !handler.isEstablished { handler.fail(.timedOut, context) }
        }
        proceed(context)
    }

    /// Decrypts.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return }
        do throws(TLSError) {
            let bytes = unwrapInboundIn(data)
            var failure: TLSError?
            bytes.withUnsafeReadableBytes { raw in
                do throws(TLSError) { try session.receive(raw) } catch { failure = error }
            }
            if let failure { throw failure }
        } catch { return fail(error, context) }
        proceed(context)
    }

    private func proceed(_ context: ChannelHandlerContext) {
        do throws(TLSError) {
            if !isEstablished {
                let isDone = try session.handshake()
                send(context)
                guard isDone else { return }
                isEstablished = true
                timer?.cancel()
                context.fireUserInboundEventTriggered(TLSEstablished(peer: session.peer))
                for (data, promise) in waiting { try encrypt(data, promise, context) }
                waiting.removeAll()
                context.flush()
            }
            while !isOver {
                var buffer = context.channel.allocator.buffer(capacity: TLSHandler.readSize)
                var count: Int?
                var failure: TLSError?
                _ = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: TLSHandler.readSize) { raw in
                    do throws(TLSError) { count = try session.read(into: raw) } catch { failure = error }
                    return count ?? 0
                }
                if let failure { throw failure }
                guard count != nil else { break }
                context.fireChannelRead(wrapInboundOut(buffer))
            }
            send(context)
        } catch { fail(error, context) }
    }

    /// Sends what the session has for the wire.
    private func send(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>? = nil) {
        let count = session.pendingBytes
        guard count > 0 else {
            promise?.succeed()
            return
        }
        var buffer = context.channel.allocator.buffer(capacity: count)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { session.drain(into: $0) }
        context.write(wrapOutboundOut(buffer), promise: promise)
        if promise == nil { context.flush() }
    }

    /// Encrypts.
    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let bytes = unwrapOutboundIn(data)
        guard !isOver else {
            promise?.fail(TLSError.closed)
            return
        }
        guard isEstablished else { return waiting.append((bytes, promise)) }
        do throws(TLSError) { try encrypt(bytes, promise, context) } catch {
            promise?.fail(error)
            fail(error, context)
        }
    }

    private func encrypt(
        _ bytes: ByteBuffer, _ promise: EventLoopPromise<Void>?, _ context: ChannelHandlerContext
    ) throws(TLSError) {
        var failure: TLSError?
        bytes.withUnsafeReadableBytes { raw in
            do throws(TLSError) { try session.write(raw) } catch { failure = error }
        }
        if let failure { throw failure }
        let count = session.pendingBytes
        var buffer = context.channel.allocator.buffer(capacity: count)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { session.drain(into: $0) }
        context.write(wrapOutboundOut(buffer), promise: promise)
    }

    /// Says goodbye, then closes.
    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .all, isEstablished, !isOver else { return context.close(mode: mode, promise: promise) }
        end()
        session.close()
        send(context)
        context.close(mode: .all, promise: promise)
    }

    /// The connection is gone.
    public func channelInactive(context: ChannelHandlerContext) {
        if !isEstablished, !isOver { context.fireErrorCaught(TLSError.closed) }
        end()
        context.fireChannelInactive()
    }

    /// Nobody will ask any more.
    public func handlerRemoved(context: ChannelHandlerContext) { end() }

    private func end() {
        isOver = true
        timer?.cancel()
        for (_, promise) in waiting { promise?.fail(TLSError.closed) }
        waiting.removeAll()
    }

    private func fail(_ error: TLSError, _ context: ChannelHandlerContext) {
        guard !isOver else { return }
        // The alert that says why.
        send(context)
        end()
        if error != .closed { context.fireErrorCaught(error) }
        context.close(mode: .all, promise: nil)
    }
}
