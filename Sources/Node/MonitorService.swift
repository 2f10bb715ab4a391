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
        /// Routers that can't be checked from here, and when that is tried again.
        var problems: [DevicePath: Trouble] = [:]
        var budgets: [String: CheckBudget] = [:]
        /// Whether something waits until it is known that this is still the host to check from.
        var isWaiting = false
    }
    /// What did not go, and when it is tried again.
    private struct Trouble {
        var reason: String
        var pause: Duration
        var due: ContinuousClock.Instant

        /// The next time comes later than the one before.
        init(_ reason: String, after last: Trouble?, longest: Duration) {
            self.reason = reason
            pause = last.map { min($0.pause * 2, longest) } ?? MonitorService.interval
            due = .now + pause
        }
    }
    private let running = Mutex(Running())
    /// How long a router may not answer before the way to it is made anew, nanoseconds.
    private static let patience: UInt64 = 10_000_000_000
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
            running.problems = running.problems.filter { wanted[$0.key] != nil }
            let tenants = Set(wanted.keys.map(\.tenant))
            running.budgets = running.budgets.filter { tenants.contains($0.key) }
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
            problems.first.map { "members behind router \($0.key) can't be checked from here: \($0.value.reason)" })
    }

    private func monitor(of router: DevicePath, mayBegin: Bool) -> RouterMonitor? {
        if let known = running.withLock({ $0.monitors[router] }) { return known }
        guard mayBegin else { return nil }
        let (budget, trouble) = running.withLock { running in
            let budget = running.budgets[router.tenant] ?? CheckBudget()
            running.budgets[router.tenant] = budget
            return (budget, running.problems[router])
        }
        if let trouble, trouble.due > .now { return nil }
        do {
            let monitor = try RouterMonitor(
                router, budget: budget,
                known: { [node] in
                    node.agent.state.health(of: $0.member.identity, pool: .balance($0.pool, router: router))
                },
                report: { [self] in note($0, $1, isNews: $2, router) })
            // It is told its pools, whatever was told one before it.
            running.withLock { ($0.monitors[router], $0.pools[router]) = (monitor, nil) }
            return monitor
        } catch {
            // What an earlier run had goes with it, a moment later.
            running.withLock {
                $0.problems[router] = Trouble("\(error)", after: trouble, longest: .seconds(30))
            }
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
        var refused: [PortPath: Trouble] = [:]
        while !Task.isCancelled {
            try? await Task.sleep(for: MonitorService.interval)
            renew()
            guard node.replica.agreement.role == .leader else {
                if last != nil { node.replica.alarm("monitor-ports", nil) }
                (last, refused) = (nil, [:])
                continue
            }
            let state = node.replica.state
            let present = present(state)
            let isDue = refused.values.contains { $0.due <= .now }
            if let last, last.revision == state.topology.revision, last.present == present, !isDue { continue }
            let changes = state.topology.monitorChanges(present: present)
            refused = refused.filter { changes[$0.key] != nil }
            let due = changes.filter { refused[$0.key].map { $0.due <= .now } ?? true }
            var isWhole = await submit(due.map { $0 }) == nil
            // What is wrong with one router keeps no other from its checks.
            if !isWhole, due.count > 0 {
                isWhole = true
                for change in due {
                    guard let reason = await submit([change]) else { continue }
                    if reason.isFinal {
                        refused[change.key] = Trouble(reason.text, after: refused[change.key], longest: .seconds(60))
                    } else {
                        isWhole = false
                    }
                }
            }
            for path in due.keys where refused[path].map({ $0.due <= .now }) ?? false { refused[path] = nil }
            let first = refused.min { $0.key < $1.key }
            node.replica.alarm(
                "monitor-ports",
                first.map { "members behind router \($0.key.device) are not checked: \($0.value.reason)" })
            last = isWhole ? (state.topology.revision, present) : nil
        }
    }

    /// Has ports changed; returns why not, and whether that will not be otherwise by itself.
    private func submit(_ changes: [(key: PortPath, value: Port?)]) async -> (text: String, isFinal: Bool)? {
        if changes.isEmpty { return nil }
        let operations = changes.sorted { $0.key < $1.key }.map { path, port -> Transaction.Operation in
            port.map { .put(.port($0)) } ?? .delete(.port(path), cascade: false)
        }
        do {
            switch try await node.replica.submit(operations) {
            case .done:
                for case (let path, .exterior(let host, _)?) in changes.map({ ($0.key, $0.value?.attachment) }) {
                    node.say("members behind router \(path.device) are checked from \(host)")
                }
                return nil
            case .failed(_, let problems):
                return (problems.first.map { "\($0.object) \($0.reason)" } ?? "it was refused", true)
            }
        } catch { return ("\(error)", false) }
    }

    /// Tries again what could not be opened, and ends what is not heard any more.
    private func renew() {
        let isDue = running.withLock { running in
            for (router, monitor) in running.monitors where monitor.silence > MonitorService.patience {
                monitor.close()
                (running.monitors[router], running.pools[router]) = (nil, nil)
                running.problems[router] = Trouble(
                    "the router does not answer", after: running.problems[router], longest: .seconds(30))
            }
            // It is well when the router is heard.
            let well = running.problems.keys.filter { running.monitors[$0]?.isHeard ?? false }
            for router in well { running.problems[router] = nil }
            return running.isWaiting || !well.isEmpty
                || running.problems.contains { $0.value.due <= .now && running.monitors[$0.key] == nil }
        }
        if isDue { follow() }
    }

    /// Hosts that answer: by what is said of them, and by the tunnels to them.
    private func present(_ state: ClusterState) -> Set<String> {
        let down = node.agent.reach().dead
        var present: Set<String> = [node.name]
        for record in state.nodes.values where record.id != node.replica.id && !down.contains(record.name) {
            let heard = node.flowState.membership.withLock { $0.state(of: PeerID(record.id.value))?.state }
            if let heard, heard <= .suspect { present.insert(record.name) }
        }
        return present
    }
}
