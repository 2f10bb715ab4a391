// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import Store
import TLS

/// Asks a node over HTTP: on its Unix socket, or over TLS. A connection for each request.
public struct APIClient: Sendable {
    /// Where the node is.
    public enum Target: Sendable {
        /// Its Unix socket.
        case socket(String)
        /// Its address; `name` is what its certificate must be for, where that is checked.
        case tls(host: String, port: Int, TLSContext, name: String?)
    }

    /// What was answered.
    public struct Response: Sendable {
        /// The HTTP status.
        public var status: Int
        /// Header fields by lower-case name.
        public var headers: [String: String]
        /// The body.
        public var body: [UInt8]

        /// An answer.
        public init(status: Int, headers: [String: String], body: [UInt8]) {
            self.status = status
            self.headers = headers
            self.body = body
        }
    }

    private let target: Target
    private let key: String?
    private let timeout: TimeAmount

    /// A client.
    ///
    /// - Parameters:
    ///   - key: goes behind `Authorization: Bearer`.
    ///   - timeoutSeconds: how long the other side may say nothing.
    public init(_ target: Target, key: String? = nil, timeoutSeconds: Int64 = 30) {
        self.target = target
        self.key = key
        timeout = .seconds(timeoutSeconds)
    }

    /// Asks, and waits for the whole answer.
    public func send(
        _ method: String, _ path: String, query: [(String, String)] = [], headers: [(String, String)] = [],
        body: [UInt8] = [], type: String = "application/json"
    ) async throws -> Response {
        var response = Response(status: 0, headers: [:], body: [])
        for try await part in stream(method, path, query: query, headers: headers, body: body, type: type) {
            switch part {
            case .head(let status, let headers):
                response.status = status
                response.headers = headers
            case .body(let bytes): response.body += bytes
            }
        }
        guard response.status != 0 else { throw ClientError("the node ended the connection without an answer") }
        return response
    }

    /// A piece of an answer.
    public enum Part: Sendable {
        /// Status and header fields.
        case head(Int, [String: String])
        /// Some of the body.
        case body([UInt8])
    }

    /// Asks, and hands on the answer as it comes.
    public func stream(
        _ method: String, _ path: String, query: [(String, String)] = [], headers: [(String, String)] = [],
        body: [UInt8] = [], type: String = "application/json"
    ) -> AsyncThrowingStream<Part, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: Part.self)
        var uri = path
        for (index, (name, value)) in query.enumerated() {
            uri += (index == 0 ? "?" : "&") + percentEncoded(name) + "=" + percentEncoded(value)
        }
        var head = HTTPRequestHead(version: .http1_1, method: .init(rawValue: method), uri: uri)
        head.headers.add(name: "Host", value: host)
        head.headers.add(name: "Connection", value: "close")
        if let key { head.headers.add(name: "Authorization", value: "Bearer \(key)") }
        for (name, value) in headers { head.headers.add(name: name, value: value) }
        if !body.isEmpty {
            head.headers.add(name: "Content-Type", value: type)
            head.headers.add(name: "Content-Length", value: "\(body.count)")
        } else if method == "POST" || method == "PUT" {
            head.headers.add(name: "Content-Length", value: "0")
        }
        let request = head
        connect(continuation).whenComplete { result in
            switch result {
            case .failure(let error): continuation.finish(throwing: ClientError(describing: error, target))
            case .success(let channel):
                continuation.onTermination = { _ in channel.close(promise: nil) }
                channel.write(HTTPClientRequestPart.head(request), promise: nil)
                if !body.isEmpty {
                    channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
                }
                channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
            }
        }
        return stream
    }

    private var host: String {
        switch target {
        case .socket: "localhost"
        case .tls(let host, let port, _, _): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        }
    }

    private func connect(_ continuation: AsyncThrowingStream<Part, any Error>.Continuation) -> EventLoopFuture<
        any Channel
    > {
        let timeout = timeout
        let target = target
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton).connectTimeout(.seconds(5))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if case .tls(_, _, let context, let name) = target {
                        try pipeline.addHandler(TLSHandler(context, .client, host: name))
                    }
                    try pipeline.addHandler(IdleStateHandler(readTimeout: timeout))
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(ResponseHandler(continuation))
                }
            }
        switch target {
        case .socket(let path): return bootstrap.connect(unixDomainSocketPath: path)
        case .tls(let host, let port, _, _): return bootstrap.connect(host: host, port: port)
        }
    }
}

/// Why a node could not be asked.
public struct ClientError: Error, Sendable, CustomStringConvertible {
    /// What happened, and beneath it what to do.
    public let description: String

    init(_ description: String) { self.description = description }

    init(describing error: any Error, _ target: APIClient.Target) {
        switch target {
        case .socket(let path):
            let reason = (error as? IOError).map { $0.errnoCode == 2 || $0.errnoCode == 111 } ?? false
            description =
                reason
                ? "no node answers at \(path)\n    start it (selvage node, or systemctl start selvage), or name another with --socket or --server"
                : "cannot reach \(path): \(connectionFailure(error))"
        case .tls(let host, let port, _, _):
            description = "cannot reach \(host):\(port): \(connectionFailure(error))"
        }
    }
}

private final class ResponseHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let continuation: AsyncThrowingStream<APIClient.Part, any Error>.Continuation
    private var isOver = false

    init(_ continuation: AsyncThrowingStream<APIClient.Part, any Error>.Continuation) {
        self.continuation = continuation
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            var headers: [String: String] = [:]
            for (name, value) in head.headers { headers[name.lowercased()] = value }
            continuation.yield(.head(Int(head.status.code), headers))
        case .body(let bytes): continuation.yield(.body(Array(bytes.readableBytesView)))
        case .end:
            finish(nil)
            context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            finish(ClientError("the node did not answer in time"))
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(ClientError("the node ended the connection before its answer was complete"))
    }

    private func finish(_ error: (any Error)?) {
        guard !isOver else { return }
        isOver = true
        if let error { continuation.finish(throwing: error) } else { continuation.finish() }
    }
}
