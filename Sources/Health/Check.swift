// SPDX-License-Identifier: Apache-2.0
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Simulation
import TLS
import Topology
import Wire

/// Asks members, on an event loop whose thread is in the network where they are.
struct Check {
    let loop: any EventLoop
    let monitor: HealthMonitor
    /// For HTTPS: whatever certificate a member shows is good.
    let tls: TLSContext

    private var timeout: TimeAmount { .milliseconds(Int64(monitor.timeout)) }

    /// Asks a member; never fails. Nothing comes of it where this host could not ask.
    func ask(_ address: IPAddress, port: UInt16) -> EventLoopFuture<CheckResult?> {
        guard monitor.kind == .udp else { return ask(monitor.kind, address, port: port) }
        // Silence is good, if it is not that of a machine that is not there: errors that tell so come too late, or not at all.
        return ask(.udp, address, port: port).and(ask(.ping, address, port: port)).map { datagram, echo in
            datagram?.finding == .silent ? echo : datagram
        }
    }

    private func ask(_ kind: HealthMonitor.Kind, _ address: IPAddress, port: UInt16) -> EventLoopFuture<CheckResult?> {
        let promise = loop.makePromise(of: CheckResult?.self)
        let answer = Answer(promise)
        let timer = loop.scheduleTask(in: timeout) { answer.put(CheckResult(.silent)) }
        let channel: EventLoopFuture<any Channel>
        do {
            let target = try SocketAddress(ipAddress: address.description, port: Int(port))
            switch kind {
            case .tcp, .http, .https: channel = stream(target, address, answer)
            case .udp: channel = datagram(target, answer)
            case .ping: channel = echo(address, answer)
            }
        } catch { channel = loop.makeFailedFuture(error) }
        channel.whenFailure { answer.put(Check.result(of: $0)) }
        return promise.futureResult.always { _ in
            timer.cancel()
            channel.whenSuccess { $0.close(mode: .all, promise: nil) }
        }
    }

    private func stream(
        _ target: SocketAddress, _ address: IPAddress, _ answer: Answer
    ) -> EventLoopFuture<any Channel> {
        let (monitor, tls) = (monitor, tls)
        return ClientBootstrap(group: loop).connectTimeout(timeout).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                guard monitor.isHTTP else { return try channel.pipeline.syncOperations.addHandler(Ending(answer)) }
                let pipeline = channel.pipeline.syncOperations
                if monitor.kind == .https {
                    try pipeline.addHandler(
                        TLSHandler(tls, .client, handshakeTimeout: .milliseconds(Int64(monitor.timeout))))
                }
                try pipeline.addHTTPClientHandlers()
                let name = monitor.host ?? (address.family == .ipv6 ? "[\(address)]" : address.description)
                try pipeline.addHandler(Request(answer, monitor, host: name))
            }
        }
        .connect(to: target)
        .always { result in
            if case .success = result, monitor.kind == .tcp { answer.put(CheckResult(.answered)) }
        }
    }

    private func datagram(_ target: SocketAddress, _ answer: Answer) -> EventLoopFuture<any Channel> {
        DatagramBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Listener(answer, isAnswer: { _ in true }))
                }
            }
            .connect(to: target)
            .map { channel in
                channel.writeAndFlush(ByteBuffer(bytes: [0]), promise: nil)
                return channel
            }
    }

    private func echo(_ address: IPAddress, _ answer: Answer) -> EventLoopFuture<any Channel> {
        let isV6 = address.family == .ipv6
        let number = UInt16.random(in: 1...UInt16.max)
        // Type, code, checksum, identifier, sequence (RFC 792, RFC 4443); the kernel sums those of ICMPv6.
        var request: [UInt8] = [isV6 ? 128 : 8, 0, 0, 0, UInt8(number >> 8), UInt8(number & 0xff), 0, 1]
        if !isV6 {
            let sum = request.withUnsafeBytes { InternetChecksum.of($0) }
            request.withUnsafeMutableBytes { $0.storeBytes(of: sum.bigEndian, toByteOffset: 2, as: UInt16.self) }
        }
        let bytes = request
        let (target, socket): (SocketAddress, Int32)
        do {
            target = try SocketAddress(ipAddress: address.description, port: 0)
            socket = try Check.rawSocket(target, isV6: isV6)
        } catch { return loop.makeFailedFuture(error) }
        return DatagramBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Listener(
                            answer,
                            isAnswer: { data in
                                // Sockets of IPv4 tell the header ahead of it.
                                let at = isV6 ? 0 : Int(data.first ?? 0) & 0x0f * 4
                                guard data.count >= at + 8 else { return false }
                                let reply = data[(data.startIndex + at)...].prefix(6)
                                return Array(reply.prefix(1)) == [isV6 ? 129 : 0]
                                    && Array(reply.suffix(2)) == Array(bytes[4..<6])
                            }))
                }
            }
            .withBoundSocket(socket)
            .map { channel in
                let envelope = AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: bytes))
                channel.writeAndFlush(envelope, promise: nil)
                return channel
            }
    }

    /// A socket of ICMP that gets what comes from one address only. SwiftNIO's own way to one sets options that raw sockets of
    /// IPv6 do not have.
    private static func rawSocket(_ target: SocketAddress, isV6: Bool) throws(IOError) -> Int32 {
        let number = socket(
            isV6 ? AF_INET6 : AF_INET, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue),
            Int32(isV6 ? IPProtocol.icmpv6 : IPProtocol.icmp))
        if number < 0 { throw IOError(errnoCode: errno, reason: "open a socket of ICMP") }
        let result = target.withSockAddr { address, size in connect(number, address, socklen_t(size)) }
        if result < 0 {
            let code = errno
            close(number)
            throw IOError(errnoCode: code, reason: "connect a socket of ICMP")
        }
        return number
    }

    /// What an error says of a member; `nil`: nothing, for it is this host's own.
    static func result(of error: any Error) -> CheckResult? {
        if let error = error as? NIOConnectionError {
            if let first = error.connectionErrors.first { return result(of: first.error) }
            return CheckResult(.silent)
        }
        if error is TLSError { return CheckResult(.noTLS) }
        if error is HTTPParserError { return CheckResult(.noHTTP) }
        switch (error as? IOError)?.errnoCode {
        case ECONNREFUSED, EPROTO: return CheckResult(.refused)
        case ECONNRESET, EPIPE: return CheckResult(.closed)
        case EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL, EADDRINUSE, EAGAIN, EPERM: return nil
        case EHOSTUNREACH, ENETUNREACH, EACCES: return CheckResult(.unreachable)
        default: return CheckResult(.silent)
        }
    }
}

/// The first answer counts.
private final class Answer: Sendable {
    private let promise: EventLoopPromise<CheckResult?>
    private let isGiven: NIOLoopBoundBox<Bool>

    init(_ promise: EventLoopPromise<CheckResult?>) {
        self.promise = promise
        isGiven = NIOLoopBoundBox(false, eventLoop: promise.futureResult.eventLoop)
    }

    /// Of the loop.
    func put(_ result: CheckResult?) {
        if isGiven.value { return }
        isGiven.value = true
        promise.succeed(result)
    }
}

/// Tells why a connection failed.
private final class Ending: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let answer: Answer
    init(_ answer: Answer) { self.answer = answer }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        answer.put(Check.result(of: error))
        context.close(promise: nil)
    }
}

/// Waits for a datagram, or an error.
private final class Listener: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    private let answer: Answer
    private let isAnswer: (ByteBufferView) -> Bool
    init(_ answer: Answer, isAnswer: @escaping (ByteBufferView) -> Bool) {
        self.answer = answer
        self.isAnswer = isAnswer
    }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isAnswer(unwrapInboundIn(data).data.readableBytesView) { answer.put(CheckResult(.answered)) }
    }
    func channelInactive(context: ChannelHandlerContext) {
        answer.put(CheckResult(.silent))
        context.fireChannelInactive()
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        answer.put(Check.result(of: error))
        context.close(promise: nil)
    }
}

/// Asks by HTTP, once.
private final class Request: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart
    private let answer: Answer
    private let monitor: HealthMonitor
    private let host: String

    init(_ answer: Answer, _ monitor: HealthMonitor, host: String) {
        self.answer = answer
        self.monitor = monitor
        self.host = host
    }

    func channelActive(context: ChannelHandlerContext) {
        let headers = HTTPHeaders([
            ("Host", host), ("User-Agent", "selvage-monitor"), ("Accept", "*/*"), ("Connection", "close"),
        ])
        let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: monitor.path, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data) else { return }
        let status = UInt16(head.status.code)
        let isGood = monitor.statuses.contains { $0.contains(status) }
        answer.put(CheckResult(isGood ? .answered : .status, detail: status))
        // What follows is of no interest.
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        answer.put(Check.result(of: error))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        answer.put(CheckResult(.closed))
        context.fireChannelInactive()
    }
}
