// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Consensus
import Datapath
import Gateway
import Linux
import NIOCore
import Names
import Netlink
import Store
import Synchronization
import TLS
import Topology
import Wire

/// How a node is to run.
public struct NodeConfiguration: Sendable {
    /// Which engine carries packets.
    public enum DatapathChoice: String, Sendable, CaseIterable {
        /// The kernel's where it answers, packet sockets otherwise.
        case auto
        /// The kernel's, or fail.
        case kernel
        /// Packet sockets.
        case userspace
    }

    /// Where the node's files are.
    public var directory: NodeDirectory
    /// Where tools find the node.
    public var socket: String
    /// Which engine.
    public var datapath = DatapathChoice.auto
    /// Packet threads of the userspace engine.
    public var threads = 1
    /// How the host itself is reached, where the node sees to that.
    public var underlay: UnderlayPlan?
    /// How long certificates hold that this node signs, seconds.
    public var certificateLifetime = Founding.certificateLifetime

    /// A node of a directory.
    public init(directory: NodeDirectory, socket: String) {
        self.directory = directory
        self.socket = socket
    }
}

/// One node: the agreement, the forwarding engine that follows it, and the API that both are asked by.
public final class Node: Sendable {
    let configuration: NodeConfiguration
    let identity: NodeDirectory.Identity
    let agent: Agent
    let follower: Follower
    let certificates: Certificates
    /// Fetches ports; set at once when the node is made, since it needs the node.
    private let leaser: Late<PortLeaser>
    /// Connects flow state with that of the other nodes; set at once as well.
    private let stateService: Late<StateService>
    /// Checks members of pools; set at once as well.
    private let monitorService: Late<MonitorService>
    private let serviceWatch: Late<ServiceWatch>
    private let vxlanService: Late<VXLANService>
    func carriesNoMore(_ path: PortPath) { vxlanService.value?.carriesNoMore(path) }
    /// How the host speaks EVPN; `nil`: it does not. Asks a daemon.
    func evpn() -> EVPNGateway.Status? { vxlanService.value?.evpn() }
    /// Runs the daemons of uplinks; set at once as well.
    let gatewayService: Late<GatewayService>
    let flowExporter: Late<FlowExporter>
    private let names: NameForwarder
    /// Routes for the host itself.
    let underlay: UnderlayDaemon?
    var flowState: StateService {
        // `init` sets it or throws, and nobody has the node before.
        guard let service = stateService.value else { preconditionFailure("a node has flow state from its beginning") }
        return service
    }
    /// The agreement.
    public let replica: Replica
    let started = monotonicNanoseconds()
    let say: @Sendable (String) -> Void
    private let server = Mutex<APIServer?>(nil)
    private let tasks = Mutex<[Task<Void, Never>]>([])

    /// The node's name.
    public var name: String { identity.name }

    /// Opens the files and the datapath.
    ///
    /// - Parameter say: receives lines for the log.
    public init(_ configuration: NodeConfiguration, say: @escaping @Sendable (String) -> Void) throws {
        self.configuration = configuration
        self.say = say
        identity = try configuration.directory.identity()
        if let unfinished = configuration.directory.unfinished {
            throw NodeError(
                "\(configuration.directory.path): a start would come amid something unfinished (\(unfinished))",
                "run selvage cluster recover here again, to its end")
        }
        certificates = try Certificates(
            configuration.directory, identity, lifetime: configuration.certificateLifetime)
        replica = try Replica(
            try Node.replicaConfiguration(configuration, identity, certificates), say: say)
        // The directory is nobody else's from here on; what is listened at, and sent from, may be an address that comes now.
        let files = configuration.directory.underlay
        if let plan = configuration.underlay {
            Node.compare(plan, identity, say)
            underlay = try UnderlayDaemon(plan, directory: files, say: say)
        } else {
            underlay = nil
            UnderlayDaemon.end(directory: files, say: say)
        }
        let leaser = Late<PortLeaser>()
        self.leaser = leaser
        let states = Late<StateService>()
        stateService = states
        monitorService = Late<MonitorService>()
        serviceWatch = Late<ServiceWatch>()
        vxlanService = Late<VXLANService>()
        gatewayService = Late<GatewayService>()
        flowExporter = Late<FlowExporter>()
        let rules = RuleLogger(identity.name, try SerialThread("sel-rules"), say)
        let forwarder = Late<NameForwarder>()
        let agent = try Agent(
            host: identity.name, datapath: try Node.openDatapath(configuration, say), logRule: { rules.write($0) },
            askName: { forwarder.value?.ask($0) }, onPortsWanted: { leaser.value?.notice() },
            onDetours: { states.value?.followDetours() }, say: say)
        self.agent = agent
        names = NameForwarder(deliver: { [agent] in agent.deliver($0, to: $1) })
        forwarder.value = names
        follower = try Follower(agent)
        leaser.value = PortLeaser(self)
        stateService.value = try StateService(self, identity, configuration.directory, agent)
        monitorService.value = try MonitorService(self)
        serviceWatch.value = ServiceWatch(self)
        vxlanService.value = try VXLANService(self)
        gatewayService.value = try GatewayService(self)
        flowExporter.value = FlowExporter(self)
    }

    /// Says what can hardly be meant of addresses.
    private static func compare(_ plan: UnderlayPlan, _ identity: NodeDirectory.Identity, _ say: (String) -> Void) {
        guard let text = identity.tunnelAddress, let address = IPAddress(text), !plan.loopbacks.contains(address) else {
            return
        }
        say(
            "underlay: the address of tunnels, \(address), is none of those that the file says: routers do not hear of it"
        )
    }

    /// Where to listen so that an address is reached: everywhere, by IPv6 as well where the address is one of it.
    private static func listening(for host: String) -> String { IPAddress(host)?.family == .ipv6 ? "::" : "0.0.0.0" }

    private static func replicaConfiguration(
        _ configuration: NodeConfiguration, _ identity: NodeDirectory.Identity, _ certificates: Certificates
    ) throws -> Replica.Configuration {
        guard let address = splitAddress(identity.peerAddress) else {
            throw NodeError("\(identity.peerAddress): not an address with a port", "correct node.json")
        }
        var result = Replica.Configuration(
            directory: configuration.directory.path, identity: identity.peer,
            listen: (listening(for: address.host), address.port),
            address: identity.peerAddress, program: Founding.version, credentials: try certificates.peerCredentials())
        for (text, peer) in identity.peers {
            if let id = UInt64(text, radix: 16), let address = splitAddress(peer) {
                result.peers[NodeID(id)] = address
            }
        }
        if identity.isFounder { result.bootstrap = try bootstrap(configuration.directory, identity, certificates) }
        return result
    }

    /// What the founder of a cluster has it agree on first.
    private static func bootstrap(
        _ directory: NodeDirectory, _ identity: NodeDirectory.Identity, _ certificates: Certificates
    ) throws -> [Transaction.Operation] {
        var operations: [Transaction.Operation] = [
            .setCluster(ClusterRecord(id: identity.cluster, name: identity.clusterName)),
            .put(.zone(TunnelZone(name: "default", encapsulation: .gre))),
            .put(.host(Topology().host(identity.name, at: identity.tunnelAddress))),
        ]
        var node = NodeRecord(
            id: identity.id, name: identity.name, role: .voter, peerAddress: identity.peerAddress,
            apiAddress: identity.apiAddress, version: Founding.version, joined: wallSeconds())
        node.certificate = certificates.record
        operations.append(.putNode(node))
        for certificate in try directory.authorities() {
            operations.append(
                .putAuthority(
                    AuthorityRecord(
                        fingerprint: hexadecimal(certificate.fingerprint), certificate: try certificate.pem(),
                        state: .active, notAfter: certificate.notAfter)))
        }
        return operations
    }

    /// The host of a node.
    private static func openDatapath(_ configuration: NodeConfiguration, _ say: (String) -> Void) throws -> any Datapath
    {
        if configuration.datapath != .userspace {
            do {
                return try KernelDatapath(name: Node.datapathName)
            } catch let error as SystemError {
                if configuration.datapath == .kernel { throw error }
                say("using the userspace datapath: \(error)")
            }
        }
        return try UserspaceDatapath(threads: configuration.threads)
    }

    /// Name of the kernel datapath and its internal interface.
    public static let datapathName = "selvage"

    /// Starts everything; returns when the node forwards by what it knows and can be asked.
    public func start() async throws {
        // Forwarding comes first: it needs nobody. It begins with what was known when the last run ended.
        let (leaser, monitors, gateway) = (leaser.value, monitorService.value, gatewayService.value)
        let vxlan = vxlanService.value
        agent.applySettings(of: replica.state.topology)
        leaser?.follow(replica.state)
        try flowState.load(configuration.directory)
        try agent.start()
        follower.begin(replica.state)
        try followInterfaces()
        replica.observe { [self] applied in
            // Without entries the whole state is another one.
            if applied.isEmpty || applied.contains(where: { !$0.objects.isEmpty }) {
                follower.follow { [self] in replica.state }
                monitors?.follow()
                gateway?.follow()
                vxlan?.follow()
            }
            if applied.isEmpty || applied.contains(where: \.changesLeases) { leaser?.follow(replica.state) }
            if applied.isEmpty || applied.contains(where: \.changesCluster) { flowState.followSoon() }
        }
        replica.onStart { [self] in flowState.followSoon() }
        try await replica.answer { [self] node, method, bytes in try await answer(node, method, bytes) }
        try await replica.start()
        try flowState.start()
        monitors?.follow()
        gateway?.follow()
        vxlan?.follow()
        let server = APIServer(self, tls: try certificates.apiContext())
        guard let address = splitAddress(identity.apiAddress) else {
            throw NodeError("\(identity.apiAddress): not an address with a port", "correct node.json")
        }
        try await server.start(
            socket: configuration.socket, host: Node.listening(for: address.host), port: address.port)
        self.server.withLock { $0 = server }
        let housekeeping = Housekeeping(self)
        tasks.withLock { tasks in
            tasks.append(Task { await housekeeping.run() })
            tasks.append(Task { [flowState] in await flowState.run() })
            if let monitors { tasks.append(Task { await monitors.run() }) }
            if let gateway { tasks.append(Task { await gateway.run() }) }
            if let exporter = flowExporter.value { tasks.append(Task { await exporter.run() }) }
            if let watch = serviceWatch.value { tasks.append(Task { await watch.run() }) }
            let segments = SegmentWatch(self)
            tasks.append(Task { await segments.run() })
            if let leaser {
                tasks.append(Task { await leaser.run() })
                tasks.append(Task { await leaser.returnIdle() })
            }
        }
    }

    /// Stops forwarding in userspace; a kernel datapath goes on.
    public func stop() async {
        let tasks = self.tasks.withLock { $0 }
        for task in tasks { task.cancel() }
        flowState.endComparing()
        // What this host does not forward any more nobody is to send here: that comes first.
        gatewayService.value?.stop()
        serviceWatch.value?.retire()
        let server = self.server.withLock { $0 }
        await server?.stop()
        await replica.retire()
        for task in tasks { _ = await task.value }
        await replica.stop()
        gatewayService.value?.end()
        vxlanService.value?.finish()
        monitorService.value?.stop()
        names.stop()
        flowState.stop()
        agent.stop()
        underlay?.close()
    }

    /// Other certificates are in force from now on.
    func useCertificates() throws {
        replica.use(try certificates.peerCredentials())
        let context = try certificates.apiContext()
        server.withLock { $0?.use(context) }
    }

    /// Bindings follow interfaces that come and go.
    private func followInterfaces() throws {
        let monitor = try LinkMonitor()
        _ = try NamedThread("sel-links") { [agent, serviceWatch, gatewayService, vxlanService] in
            while true {
                waitReadable(monitor.descriptor)
                guard let events = try? monitor.events() else { return }
                var gone: Set<String> = []
                for event in events {
                    if case .gone(let link) = event { gone.insert(link.name) }
                }
                agent.interfacesChanged(gone: gone)
                serviceWatch.value?.look()
                gatewayService.value?.look()
                vxlanService.value?.follow()
            }
        }
        // What came between reading the state and listening.
        agent.interfacesChanged()
    }
}
