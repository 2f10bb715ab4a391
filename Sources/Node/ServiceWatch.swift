// SPDX-License-Identifier: Apache-2.0
import Agent
import Consensus
import FlowState
import Gossip
import HashTreeCollections
import Linux
import Netlink
import Simulation
import Store
import Synchronization
import Topology

/// Tells all hosts whether the machines that traffic goes through, and the networks outside that several ports lead to, are there,
/// as far as this host sees: that their interfaces are here, are up and have a carrier. That a host is not there the others see by
/// themselves.
final class ServiceWatch: Sendable {
    /// The thread that follows interfaces outlives it.
    private weak let node: Node?
    /// When what is down was told last, monotonic nanoseconds.
    private let told = Mutex<[PortPath: UInt64]>([:])

    private let hasRetired = Mutex(false)
    /// Since when interfaces of segments have a carrier that had none, monotonic nanoseconds.
    private let wellSince = Mutex<[PortPath: UInt64]>([:])

    private static let interval = Duration.seconds(1)
    /// A port that is well again stands by so long while another one carries, as its switch may not forward yet, nanoseconds (RFC
    /// 7432 section 8.5 has as much).
    private static let settling: UInt64 = 3_000_000_000
    /// What is not told again is forgotten (``StateLimits/healthLifetimeNanoseconds``).
    private static let renewal: UInt64 = 15_000_000_000
    /// `IFF_UP` and `IFF_LOWER_UP`.
    private static let running: UInt32 = 1 | 1 << 16

    init(_ node: Node) { self.node = node }

    func run() async {
        while !Task.isCancelled {
            look()
            try? await Task.sleep(for: ServiceWatch.interval)
        }
    }

    /// Tells that ports of segments here carry no more: this host stops.
    func retire() {
        guard let node else { return }
        hasRetired.withLock { $0 = true }
        let topology = node.agent.topology
        let carrying = node.agent.carryingPorts()
        let leaving = topology.ports.shared.filter { path in
            guard case .exterior(node.agent.host, _)? = topology.ports[path]?.attachment else { return false }
            // Where nobody takes over, what the kernel forwards goes on.
            return carrying[path].map { $0.count > 1 } ?? true
        }
        told.withLock { told in
            for path in leaving.sorted() { note(path, isUp: false, node, &told) }
        }
        node.agent.close(leaving)
    }

    /// Looks at the interfaces of this host that services are behind.
    func look() {
        guard let node, !hasRetired.withLock({ $0 }) else { return }
        let topology = node.agent.topology
        var local: [PortPath: String] = [:]
        for services in topology.ports.served.values {
            for path in services.flatMap(\.ports) {
                if case .exterior(node.agent.host, let interface)? = topology.ports[path]?.attachment {
                    local[path] = interface
                }
            }
        }
        for path in topology.ports.shared {
            if case .exterior(node.agent.host, let interface)? = topology.ports[path]?.attachment {
                local[path] = interface
            }
        }
        told.withLock { told in
            for path in told.keys where local[path] == nil {
                guard case .exterior(let host, _)? = topology.ports[path]?.attachment,
                    !node.agent.canReach(host: host)
                else {
                    told[path] = nil
                    continue
                }
            }
            if local.isEmpty {
                node.replica.alarm("services", nil)
                return
            }
            guard let links = try? RouteNetlink().links() else { return }
            let flags = Dictionary(links.map { ($0.name, $0.flags) }, uniquingKeysWith: { a, _ in a })
            var trouble: String?
            for (path, interface) in local.sorted(by: { $0.key < $1.key }) {
                var problem = ServiceWatch.problem(interface, flags[interface])
                if problem == nil, topology.ports.shared.contains(path) { problem = node.agent.problem(of: path) }
                if problem == nil, !isReady(path, node) { continue }
                note(path, isUp: problem == nil, node, &told)
                if problem != nil { wellSince.withLock { $0[path] = nil } }
                if let problem, trouble == nil { trouble = "nothing goes through \(path): \(problem)" }
            }
            node.replica.alarm("services", trouble)
            noteLost(topology, node, &told)
        }
    }

    /// Tells of ports of other hosts in whose place one here carries that they are down while their hosts do not answer: a host that
    /// is there again is to say itself that they are well, and when.
    private func noteLost(_ topology: Topology, _ node: Node, _ told: inout [PortPath: UInt64]) {
        // Who is cut off knows nothing of others.
        guard node.replica.agreement.leader != nil, node.agent.tunnels().contains(where: { $0.state == .up }) else {
            return
        }
        for path in node.agent.carryingPorts().keys {
            for other in topology.members(ofSegmentAt: path) {
                guard case .exterior(let host, _) = other.attachment, host != node.agent.host,
                    !node.agent.canReach(host: host)
                else { continue }
                note(other.path, isUp: false, node, &told)
            }
        }
    }

    /// Whether a port whose interface is well may carry, if it is in a segment.
    private func isReady(_ path: PortPath, _ node: Node) -> Bool {
        guard node.agent.topology.ports.shared.contains(path),
            node.agent.state.health(of: Simulation.Tag.serviceMember, pool: .port(path))?.isUp == false
        else {
            wellSince.withLock { $0[path] = nil }
            return true
        }
        let now = monotonicNanoseconds()
        let since = wellSince.withLock { wellSince in
            wellSince[path] = wellSince[path] ?? now
            return wellSince[path] ?? now
        }
        return now - since >= Self.settling || !node.agent.isCarried(segmentOf: path)
    }

    private static func problem(_ interface: String, _ flags: UInt32?) -> String? {
        guard let flags else { return "interface \(interface) does not exist" }
        if flags & 1 == 0 { return "interface \(interface) is down" }
        return flags & running == running ? nil : "interface \(interface) has no carrier"
    }

    private func note(_ path: PortPath, isUp: Bool, _ node: Node, _ told: inout [PortPath: UInt64]) {
        let port = Simulation.Tag.port(path)
        let known = node.agent.state.health(of: Simulation.Tag.serviceMember, pool: port)
        let now = monotonicNanoseconds()
        let isNews = (known?.isUp ?? true) != isUp
        if isUp {
            told[path] = nil
            guard isNews else { return }
        } else if !isNews, let last = told[path], now &- last < ServiceWatch.renewal {
            return
        }
        if !isUp { told[path] = now }
        var entries = ToldEntries()
        let since = isNews ? wallMilliseconds() : known?.since ?? wallMilliseconds()
        let health = MemberHealth(isUp: isUp, isUp ? .answered : .down, since: since)
        _ = node.agent.state.note(
            health, of: Simulation.Tag.serviceMember, pool: port, now: now, told: &entries)
        // Flows are made anew everywhere before more packets are lost.
        node.flowState.replication.tell(entries, first: isNews ? node.flowState.peers : [], now: now)
        guard isNews else { return }
        node.agent.stateChanged([.service(at: port)])
        let what = node.agent.topology.ports.shared.contains(path) ? "network outside" : "service"
        node.say("the \(what) at \(path) is \(isUp ? "up" : "down")")
    }
}
