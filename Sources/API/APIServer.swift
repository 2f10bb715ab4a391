// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Store
import Synchronization
import TLS

/// Serves the HTTP API twice: on a Unix socket for this machine's operators, and over TLS for everybody else.
public final class APIServer: Sendable {
    /// Connections that are served at once; others wait until the kernel's queue is full, then are refused.
    public static let connectionLimit = 1024
    private let node: any NodeInterface
    private let group: MultiThreadedEventLoopGroup
    private let tls: Mutex<TLSContext>
    private let identities = ConnectionIdentities()
    private let endpoints: [Endpoint]
    private let tasks = Mutex<[Task<Void, Never>]>([])

    /// A server of a node.
    public init(_ node: any NodeInterface, tls: TLSContext) {
        self.node = node
        self.tls = Mutex(tls)
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        endpoints = APIServer.endpoints(of: node)
    }

    /// Uses another certificate from now on.
    public func use(_ context: TLSContext) { tls.withLock { $0 = context } }

    /// Starts to serve; returns when it can be reached.
    public func start(socket: String, host: String, port: Int) async throws {
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let quiet = logger
        let http = HTTP1Channel.Configuration(
            idleTimeout: .seconds(60),
            httpDecoderConfiguration: .init(
                maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))
        let local = APIResponder(endpoints) { _, _ in Caller(name: "the local operator", role: .operator) }
        try await run("the Unix socket \(socket)") { [group] ready in
            Application(
                responder: local, server: .http1(configuration: http),
                configuration: .init(
                    address: .unixDomainSocket(path: socket),
                    availableConnectionsDelegate: MaximumAvailableConnections(APIServer.connectionLimit, logger: quiet)),
                onServerRunning: ready, eventLoopGroupProvider: .shared(group), logger: quiet)
        }
        let remote = APIResponder(endpoints) { [self] request, channel in try identify(request, channel) }
        try await run("\(host):\(port)") { [self] ready in
            Application(
                responder: remote,
                server: HTTPServerBuilder { [self] responder in
                    TLSChannel(
                        HTTP1Channel(responder: responder, configuration: http), identities: identities,
                        context: { [self] in tls.withLock { $0 } })
                },
                configuration: .init(
                    address: .hostname(host, port: port),
                    availableConnectionsDelegate: MaximumAvailableConnections(APIServer.connectionLimit, logger: quiet)),
                onServerRunning: ready, eventLoopGroupProvider: .shared(group), logger: quiet)
        }
    }

    private func run(
        _ place: String,
        _ make: @Sendable (@escaping @Sendable (any Channel) async -> Void) -> Application<APIResponder>
    ) async throws {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: Void.self)
        let application = make { _ in
            continuation.yield()
            continuation.finish()
        }
        let task = Task {
            do {
                try await application.run()
                continuation.finish()
            } catch { continuation.finish(throwing: error) }
        }
        tasks.withLock { $0.append(task) }
        do { for try await _ in stream { return } } catch {
            throw APIError(500, "listen", "Can't listen", "cannot listen on \(place): \(error)")
        }
    }

    /// Stops serving.
    public func stop() async {
        let tasks = tasks.withLock { $0 }
        for task in tasks { task.cancel() }
        // What the servers let go of still needs the group.
        for task in tasks { _ = await task.value }
        try? await group.shutdownGracefully()
    }

    /// Who is behind a request: a client certificate, or a key.
    private func identify(_ request: Request, _ channel: any Channel) throws -> Caller {
        let state = node.replica.state
        if let header = request.headers[.authorization] {
            let parts = header.split(separator: " ")
            guard parts.count == 2, parts[0].lowercased() == "bearer",
                let caller = AccessKeys.caller(String(parts[1]), state)
            else {
                throw APIError(401, "unauthorized", "Who are you?", "the key is none of this cluster, or it has ended")
            }
            return caller
        }
        guard let certificate = identities.find(channel) else { return Caller(name: "you", role: nil) }
        if let peer = PeerIdentity(certificate) {
            // A node that was removed keeps its certificate, but nothing else.
            let isMember = peer.cluster == state.cluster?.id && state.nodes[peer.node] != nil
            // Nodes ask each other how they are; what they change they do as members.
            return Caller(name: "node \(peer.node)", role: isMember ? .viewer : nil)
        }
        guard let client = ClientIdentity(certificate), client.cluster == state.cluster?.id else {
            return Caller(name: "you", role: nil)
        }
        return Caller(name: client.name, role: client.role)
    }
}

/// Keys for programs: `selvage.NAME.SECRET`.
public enum AccessKeys {
    /// A key's text of its name and secret.
    public static func text(name: String, secret: [UInt8]) -> String { "selvage.\(name).\(hexadecimal(secret))" }

    static func caller(_ text: String, _ state: ClusterState) -> Caller? {
        guard text.hasPrefix("selvage."), let end = text.lastIndex(of: ".") else { return nil }
        let start = text.index(text.startIndex, offsetBy: 8)
        guard start < end else { return nil }
        let name = String(text[start..<end])
        guard let key = state.keys[name], let secret = bytes(hexadecimal: text[text.index(after: end)...]),
            Cryptography.areEqual(Cryptography.sha256(secret), key.secretHash),
            key.expires == 0 || key.expires > wallClock()
        else { return nil }
        return Caller(name: "key \(name)", role: key.role)
    }
}

/// What a client's certificate says: who, and what it may do.
public struct ClientIdentity: Sendable, Equatable {
    /// The cluster.
    public var cluster: String
    /// Whose it is.
    public var name: String
    /// What it allows.
    public var role: AccessRole

    /// A client of a cluster.
    public init(cluster: String, name: String, role: AccessRole) {
        self.cluster = cluster
        self.name = name
        self.role = role
    }

    /// As a URI in the certificate: `selvage://CLUSTER/client/NAME/ROLE`.
    public var uri: String { "selvage://\(cluster)/client/\(name)/\(role)" }

    init?(_ certificate: Certificate) {
        for uri in certificate.uris where uri.hasPrefix("selvage://") {
            let parts = uri.dropFirst(10).split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 4, parts[1] == "client", let role = AccessRole(String(parts[3])) else { continue }
            self.init(cluster: String(parts[0]), name: String(parts[2]), role: role)
            return
        }
        return nil
    }
}

/// Which certificate is behind which connection.
final class ConnectionIdentities: Sendable {
    private let known = Mutex<[ObjectIdentifier: Certificate]>([:])

    func note(_ channel: any Channel, _ certificate: Certificate) {
        known.withLock { $0[ObjectIdentifier(channel)] = certificate }
    }
    func forget(_ channel: any Channel) { _ = known.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) } }
    func find(_ channel: any Channel) -> Certificate? { known.withLock { $0[ObjectIdentifier(channel)] } }
}

/// HTTP behind our TLS.
struct TLSChannel<Base: ServerChildChannel>: ServerChildChannel {
    let base: Base
    let identities: ConnectionIdentities
    let context: @Sendable () -> TLSContext

    init(_ base: Base, identities: ConnectionIdentities, context: @escaping @Sendable () -> TLSContext) {
        self.base = base
        self.identities = identities
        self.context = context
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Base.Value> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandlers([
                TLSHandler(context(), .server), IdentityHandler(identities),
            ])
        }
        .flatMap { base.setup(channel: channel, logger: logger) }
    }

    func handle(value: Base.Value, logger: Logger) async { await base.handle(value: value, logger: logger) }
}

private final class IdentityHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let identities: ConnectionIdentities

    init(_ identities: ConnectionIdentities) { self.identities = identities }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSEstablished {
            if let peer = event.peer { identities.note(context.channel, peer) }
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { identities.forget(context.channel) }

    /// What is not TLS is nobody's fault here: the connection ends, and nothing is told above.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if !(error is TLSError) { context.fireErrorCaught(error) }
    }
}
