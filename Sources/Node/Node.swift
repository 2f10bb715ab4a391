// SPDX-License-Identifier: Apache-2.0
import Agent
import Datapath
import Glibc
import Linux
import Manifest
import Netlink
import Simulation
import Synchronization
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

    /// Name of this host in the topology.
    public var host: String
    /// The manifest to begin with.
    public var manifest: String
    /// Where tools find the node.
    public var socket: String
    /// Which engine.
    public var datapath = DatapathChoice.auto
    /// Packet threads of the userspace engine.
    public var threads = 1

    /// A node of a host.
    public init(host: String, manifest: String, socket: String) {
        self.host = host
        self.manifest = manifest
        self.socket = socket
    }
}

/// Why a node does not start.
public struct NodeError: Error, Sendable, CustomStringConvertible {
    /// What is wrong, and beneath it what to do.
    public let description: String

    init(_ reason: String, _ remedy: String) { description = "\(reason)\n    \(remedy)" }
}

/// One node: it opens the datapath, puts the manifest in force, follows interfaces and answers tools.
public final class Node: Sendable {
    private let configuration: NodeConfiguration
    private let agent: Agent
    private let started = monotonicNanoseconds()
    private let server = Mutex<ControlServer<NodeRequest, NodeResponse>?>(nil)

    /// Opens the datapath.
    ///
    /// - Parameter say: receives lines for the log.
    public init(_ configuration: NodeConfiguration, say: (String) -> Void) throws {
        self.configuration = configuration
        let datapath = try Node.openDatapath(configuration, say)
        agent = Agent(host: configuration.host, datapath: datapath)
    }

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

    /// Starts everything; returns when the node is ready to forward.
    public func start() throws {
        let manifest = try ManifestReader.read(path: configuration.manifest)
        // A typing error here would be a host that forwards nothing.
        guard manifest.topology.hosts[configuration.host] != nil else {
            let known = manifest.topology.hosts.keys.sorted().joined(separator: ", ")
            throw NodeError(
                "\(configuration.manifest): has no host \(configuration.host)",
                known.isEmpty ? "list the hosts there: hosts: { h1: { address: 192.0.2.1 } }" : "there are \(known)")
        }
        try agent.start()
        var topology = manifest.topology
        topology.revision = 1
        agent.apply(topology)
        try followInterfaces()
        let server = try ControlServer<NodeRequest, NodeResponse>(path: configuration.socket) { [self] request in
            answer(request)
        }
        self.server.withLock { $0 = server }
    }

    /// Reads the manifest again; returns what is wrong with it, if anything is: then nothing changed.
    public func reload() -> String? {
        if case .failure(let reason) = apply(configuration.manifest) { return reason }
        return nil
    }

    /// Stops forwarding in userspace; a kernel datapath goes on.
    public func stop() {
        server.withLock { $0?.stop() }
        agent.stop()
    }

    /// Bindings follow interfaces that come and go.
    private func followInterfaces() throws {
        let monitor = try LinkMonitor()
        _ = try NamedThread("sel-links") { [agent] in
            while true {
                waitReadable(monitor.descriptor)
                guard let events = try? monitor.events() else { return }
                var gone: Set<String> = []
                for event in events {
                    if case .gone(let link) = event { gone.insert(link.name) }
                }
                agent.interfacesChanged(gone: gone)
            }
        }
        // What came between reading the manifest and listening.
        agent.interfacesChanged()
    }

    // MARK: - Answers

    private func answer(_ request: NodeRequest) -> NodeResponse {
        switch request {
        case .status: return .status(status())
        case .flows: return .flows(flows())
        case .datapath: return datapath()
        case .topology:
            let topology = agent.topology
            return .topology(TopologyAnswer(revision: topology.revision, lines: tree(topology)))
        case .trace(let port, let packet): return Tracer(agent: agent).trace(port: port, packet: packet)
        case .apply(let file): return apply(file)
        }
    }

    private func apply(_ file: String) -> NodeResponse {
        let current = agent.topology
        do {
            var topology = try ManifestReader.read(path: file).topology
            topology.revision = current.revision + 1
            agent.apply(topology)
            return .done
        } catch {
            return .failure("\(error) Nothing was changed.")
        }
    }

    private func status() -> StatusAnswer {
        StatusAnswer(
            host: configuration.host, revision: agent.topology.revision, datapath: agent.datapath.kind.rawValue,
            processID: getpid(), uptimeSeconds: Double(monotonicNanoseconds() - started) / 1e9,
            ports: agent.bindings().map {
                .init(
                    port: $0.port.description, interface: $0.interface, isBound: $0.number != nil, problem: $0.problem)
            },
            problems: [agent.tunnelProblem].compactMap(\.self))
    }

    private func flows() -> [FlowAnswer] {
        let names = portNames()
        return agent.flows().map { flow in
            FlowAnswer(
                match: flow.mask.describe(flow.key).map { [$0.field, $0.value] }, ingress: flow.ingress,
                actions: describe(flow.actions) { names[$0.value] ?? "port \($0)" }, packets: flow.statistics.packets,
                bytes: flow.statistics.bytes, ageSeconds: Double(flow.ageNanoseconds) / 1e9,
                idleSeconds: flow.idleNanoseconds.map { Double($0) / 1e9 }, isStanding: flow.isStanding)
        }
        .sorted { ($0.ingress, $1.packets) < ($1.ingress, $0.packets) }
    }

    private func portNames() -> [UInt32: String] {
        let ports = (try? agent.ports()) ?? []
        return Dictionary(
            ports.map { ($0.status.number.value, $0.bound?.description ?? describe($0.status.specification)) },
            uniquingKeysWith: { a, _ in a })
    }

    private func datapath() -> NodeResponse {
        do {
            let ports = try agent.ports()
            let statistics = try agent.datapath.statistics()
            let counters = agent.counters()
            let rows: [(String, UInt64)] = [
                ("flow hits", statistics.hits), ("flow misses", statistics.misses), ("upcalls lost", statistics.lost),
                ("upcall overflows", statistics.overflows), ("malformed", statistics.malformed),
                ("refused", statistics.refused), ("not learned, full", agent.state.refused),
                ("flows", statistics.flows), ("masks", statistics.masks), ("simulated", counters.simulated),
                ("installed", counters.installed), ("replaced", counters.replaced), ("expired", counters.expired),
                ("parked", counters.parked), ("parking full", counters.parkingFull),
                ("flow table full", counters.tableFull), ("rate limited", counters.rateLimited),
                ("told later", counters.untold), ("messages of strangers", counters.strangers),
                ("from unbound ports", counters.unbound),
            ]
            return .datapath(
                DatapathAnswer(
                    kind: agent.datapath.kind.rawValue,
                    ports: ports.map {
                        .init(
                            number: $0.status.number.value, name: describe($0.status.specification),
                            bound: $0.bound?.description, receivedPackets: $0.status.receivedPackets,
                            receivedBytes: $0.status.receivedBytes, sentPackets: $0.status.sentPackets,
                            sentBytes: $0.status.sentBytes, sendErrors: $0.status.sendErrors,
                            receiveDrops: $0.status.receiveDrops, warning: $0.status.warning)
                    },
                    counters: rows.map { [$0.0, String($0.1)] }
                        + (statistics.lastRefusal.isEmpty ? [] : [["last refusal", statistics.lastRefusal]]),
                    drops: counters.drops.sorted { $0.value > $1.value }.map { [$0.key.rawValue, String($0.value)] }))
        } catch {
            return .failure("\(error)")
        }
    }
}
