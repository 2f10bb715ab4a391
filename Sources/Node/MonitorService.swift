// SPDX-License-Identifier: Apache-2.0
import Agent
import Consensus
import FlowState
import Gossip
import Health
import Linux
import Simulation
import Store
import Synchronization
import Topology
import Wire

/// Checks members of pools: on each node those of the routers whose port for that is here; and where this node leads, it says
/// where those ports are.
final class MonitorService: Sendable {
    private unowned let node: Node
    private let worker: SerialThread
    private struct Running {
        var monitors: [DevicePath: RouterMonitor] = [:]
        var pools: [DevicePath: [Pool]] = [:]
        var problems: [DevicePath: String] = [:]
        /// Whether something waits until it is known that this is still the host to check from.
        var isWaiting = false
    }
    private let running = Mutex(Running())
    /// How often a leader looks whether the hosts that check are there.
    private static let interval = Duration.milliseconds(200)

    init(_ node: Node) throws {
        self.node = node
        worker = try SerialThread("sel-monitors")
    }

    // MARK: - Checking

    /// The topology may be another one.
    func follow() { worker.add { [self] in update(node.replica.state.topology) } }

    func stop() {
        worker.add { [self] in
            let all = running.withLock { running in
                defer { running.monitors = [:] }
                return running.monitors.values.map { $0 }
            }
            for monitor in all { monitor.close() }
        }
        worker.finish()
    }

    private func update(_ topology: Topology) {
        var wanted: [DevicePath: [Pool]] = [:]
        for paths in topology.ports.bound(to: node.name).values {
            for path in paths where path.isMonitor {
                guard let router = topology.routers[path.device], topology.ports[path]?.isMonitor == true else {
                    continue
                }
                wanted[router.path] = topology.monitored(by: router)
            }
        }
        let gone = running.withLock { running in
            let gone = running.monitors.filter { wanted[$0.key] == nil }
            for router in gone.keys { (running.monitors[router], running.pools[router]) = (nil, nil) }
            for router in running.problems.keys where wanted[router] == nil { running.problems[router] = nil }
            return gone.values.map { $0 }
        }
        for monitor in gone { monitor.close() }
        // Who begins may know what was so when it ended: another host may check by now.
        let mayBegin = node.replica.agreement.leader != nil
        running.withLock { running in
            running.isWaiting = !mayBegin && wanted.keys.contains { running.monitors[$0] == nil }
        }
        for (router, pools) in wanted {
            guard let monitor = monitor(of: router, mayBegin: mayBegin) else { continue }
            let isNew = running.withLock { running in
                defer { running.pools[router] = pools }
                return running.pools[router] != pools
            }
            if isNew { monitor.set(pools) }
        }
        let problems = running.withLock { $0.problems }.sorted { $0.key < $1.key }
        node.replica.alarm(
            "monitors",
            problems.first.map { "members behind router \($0.key) can't be checked from here: \($0.value)" })
    }

    private func monitor(of router: DevicePath, mayBegin: Bool) -> RouterMonitor? {
        if let known = running.withLock({ $0.monitors[router] }) { return known }
        guard mayBegin else { return nil }
        do {
            let monitor = try RouterMonitor(
                router,
                known: { [node] in
                    node.agent.state.health(of: $0.member.identity, pool: .balance($0.pool, router: router))
                },
                report: { [self] in note($0, $1, isNews: $2, router) })
            running.withLock { running in
                running.monitors[router] = monitor
                running.problems[router] = nil
            }
            return monitor
        } catch {
            // What an earlier run had goes with it, a moment later.
            running.withLock { $0.problems[router] = "\(error)" }
            return nil
        }
    }

    private func note(_ target: RouterMonitor.Target, _ health: MemberHealth, isNews: Bool, _ router: DevicePath) {
        var told = ToldEntries()
        let now = monotonicNanoseconds()
        let pool = Simulation.Tag.balance(target.pool, router: router)
        _ = node.agent.state.note(health, of: target.member.identity, pool: pool, now: now, told: &told)
        // It waits for nothing else: new connections everywhere go by it.
        node.flowState.replication.tell(told, first: isNews ? node.flowState.peers : [], now: now)
        if isNews {
            node.say(
                "member \(target.member.name) of pool \(target.pool) is \(health.isUp ? "up" : "down"), "
                    + "seen from \(router): \(health.reason)")
        }
    }

    // MARK: - Leading

    /// Sees to it that routers' members are checked, by hosts that are there.
    func run() async {
        var last: (revision: UInt64, present: Set<String>)?
        while !Task.isCancelled {
            try? await Task.sleep(for: MonitorService.interval)
            // What could not be opened is tried again.
            if running.withLock({ !$0.problems.isEmpty || $0.isWaiting }) { follow() }
            guard node.replica.agreement.role == .leader else {
                last = nil
                continue
            }
            let state = node.replica.state
            let present = present(state)
            if let last, last.revision == state.topology.revision, last.present == present { continue }
            let (put, delete) = state.topology.monitorChanges(present: present)
            if !put.isEmpty || !delete.isEmpty {
                let operations =
                    delete.map { Transaction.Operation.delete(.port($0), cascade: false) }
                    + put.map { .put(.port($0)) }
                // Somebody may have changed it meanwhile: it is looked at again.
                guard case .done? = try? await node.replica.submit(operations) else { continue }
                for port in put {
                    if case .exterior(let host, _) = port.attachment {
                        node.say("members behind router \(port.path.device) are checked from \(host)")
                    }
                }
            }
            last = (state.topology.revision, present)
        }
    }

    /// Hosts that answer: by what is said of them, and by the tunnels to them.
    private func present(_ state: ClusterState) -> Set<String> {
        var down: Set<String> = []
        for tunnel in node.agent.tunnels() where tunnel.state == .down { down.insert(tunnel.host) }
        var present: Set<String> = [node.name]
        for record in state.nodes.values where record.id != node.replica.id && !down.contains(record.name) {
            let heard = node.flowState.membership.withLock { $0.state(of: PeerID(record.id.value))?.state }
            if let heard, heard <= .suspect { present.insert(record.name) }
        }
        return present
    }
}
