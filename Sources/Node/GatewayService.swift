// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Consensus
import Datapath
import FlowState
import Gateway
import Gossip
import Linux
import Netlink
import Simulation
import Store
import Synchronization
import Topology
import Wire

/// The uplinks of this host: their daemons run as the topology says, what they learn is told to all hosts, and what they
/// announce follows from what this host leads to.
final class GatewayService: Sendable {
    /// The thread that follows interfaces outlives it.
    private weak let node: Node?
    private let worker: SerialThread
    /// Asks daemons, which may take their time.
    private let asker: SerialThread
    private struct Running {
        var daemons: [PortPath: UplinkDaemon] = [:]
        var plans: [PortPath: UplinkPlan] = [:]
        var problems: [PortPath: String] = [:]
        /// Since when this host is cut off from the others, and from the agreement; monotonic nanoseconds.
        var cutOff: UInt64?
        var leaderless: UInt64?
        /// Since when it is not cut off, and whether that was so for a while already.
        var well: UInt64?
        var hasBeenWell = false
        var hasStopped = false
        /// Uplinks of this host that no daemon is to run for.
        var idle: Set<PortPath> = []
    }
    private let running = Mutex(Running())

    private static let interval = Duration.milliseconds(50)
    /// How long all has to be well before it is announced that it is, nanoseconds: hosts learn one after another who is there.
    private static let settling: UInt64 = 500_000_000
    /// How often it is looked for routes by uplinks that have no daemon.
    private static let idleInterval = Duration.seconds(5)
    /// Routes that are told at once.
    private static let toldAtOnce = 256

    init(_ node: Node) throws {
        self.node = node
        worker = try SerialThread("sel-gateway")
        asker = try SerialThread("sel-uplinks")
    }

    // MARK: - Daemons

    /// The topology may be another one.
    func follow() {
        worker.add { [self] in
            if let node { update(node.replica.state.topology, node) }
        }
    }

    /// Ends all daemons, and waits for that.
    func stop() {
        worker.add { [self] in
            let all = running.withLock { running in
                running.hasStopped = true
                defer { running.daemons = [:] }
                return running.daemons
            }
            for (path, daemon) in all {
                daemon.close()
                // The others are not to send here until they see that nobody is.
                withdraw(path)
            }
        }
        worker.finish()
    }

    /// To be called when nobody asks any more.
    func end() { asker.finish() }

    private func update(_ topology: Topology, _ node: Node) {
        if running.withLock({ $0.hasStopped }) { return }
        var wanted: [PortPath: UplinkPlan] = [:]
        var idle: Set<PortPath> = []
        for path in topology.ports.uplinks {
            guard let port = topology.ports[path], case .exterior(node.name, let interface) = port.attachment else {
                continue
            }
            if interfaceExists(interface), let plan = UplinkPlan(port, topology) {
                wanted[path] = plan
            } else {
                idle.insert(path)
            }
        }
        let gone = running.withLock { running in
            let gone = running.daemons.filter { path, _ in
                guard let plan = wanted[path], let old = running.plans[path] else { return true }
                return !plan.isSameNamespace(as: old)
            }
            for path in gone.keys { (running.daemons[path], running.plans[path]) = (nil, nil) }
            running.problems = running.problems.filter { wanted[$0.key] != nil }
            return gone
        }
        for (path, daemon) in gone {
            daemon.close()
            // On another host, its daemon says what is so from then on.
            if case .exterior(let host, _)? = topology.ports[path]?.attachment, host != node.name { continue }
            if wanted[path] == nil { withdraw(path) }
        }
        let uplinks = idle
        running.withLock { $0.idle = uplinks }
        for (path, plan) in wanted {
            if let daemon = running.withLock({ $0.daemons[path] }) {
                if running.withLock({ $0.plans[path] }) != plan { daemon.set(plan) }
                running.withLock { $0.plans[path] = plan }
            } else {
                start(plan, node)
            }
        }
        announce(topology, node)
        tellProblems(node)
    }

    private func start(_ plan: UplinkPlan, _ node: Node) {
        let path = plan.path
        let port = Simulation.Tag.port(path)
        do {
            let daemon = try UplinkDaemon(
                plan, directory: node.configuration.directory.path + "/uplinks",
                // The kernel's engine carries on without a node.
                saysFarewell: node.agent.datapath.kind == .userspace,
                known: { [weak self] in self?.known(port) ?? [:] },
                report: { [weak self] in self?.report($0, port) }, say: node.say)
            running.withLock { running in
                (running.daemons[path], running.plans[path]) = (daemon, plan)
                running.problems[path] = nil
            }
            look()
        } catch {
            running.withLock { $0.problems[path] = "\(error)" }
        }
    }

    private func tellProblems(_ node: Node) {
        let problem = running.withLock { $0.problems }.min { $0.key < $1.key }
        node.replica.alarm("uplinks", problem.map { "uplink \($0.key) has no daemon: \($0.value)" })
    }

    /// Interfaces may have come, gone, or have a carrier or none any more.
    func look() {
        guard let node, let links = try? RouteNetlink().links() else { return }
        let flags = Dictionary(links.map { ($0.name, $0.flags) }, uniquingKeysWith: { a, _ in a })
        let mtus = Dictionary(links.map { ($0.name, $0.mtu) }, uniquingKeysWith: { a, _ in a })
        let (daemons, plans) = running.withLock { ($0.daemons, $0.plans) }
        for (path, daemon) in daemons {
            guard let plan = plans[path] else { continue }
            // `IFF_UP` and `IFF_LOWER_UP`.
            let running: UInt32 = 1 | 1 << 16
            daemon.setLink(
                hasCarrier: (flags[plan.interface] ?? 0) & running == running, mtu: mtus[plan.interface])
        }
        let uplinks = node.replica.state.topology.ports.uplinks
        let isMissing = uplinks.contains { path in
            guard daemons[path] == nil,
                case .exterior(node.name, let interface)? = node.replica.state.topology.ports[path]?.attachment
            else { return false }
            return flags[interface] != nil
        }
        if isMissing { follow() }
    }

    // MARK: - Routes

    private func report(_ changes: [(prefix: Prefix, route: UplinkRoute)], _ port: Simulation.Tag) {
        guard let node else { return }
        for start in stride(from: 0, to: changes.count, by: Self.toldAtOnce) {
            var told = ToldEntries()
            let now = monotonicNanoseconds()
            for (prefix, route) in changes[start..<min(changes.count, start + Self.toldAtOnce)] {
                _ = node.agent.state.learn(RouteKey(prefix, port: port), route, now: now, told: &told)
            }
            // A few are news that all wait for; many go their way with everything else.
            let isFew = changes.count <= Self.toldAtOnce
            node.flowState.replication.tell(told, first: isFew ? node.flowState.peers : [], now: now)
        }
    }

    /// Destinations that are taken to be reached by an uplink, and how.
    private func known(_ port: Simulation.Tag) -> [Prefix: UplinkRoute] {
        guard let node else { return [:] }
        return Dictionary(
            node.agent.state.allRoutes.lazy.filter { $0.key.port == port && !$0.route.gateways.isEmpty }
                .map { ($0.key.prefix, $0.route) },
            uniquingKeysWith: { a, _ in a })
    }

    private func withdraw(_ path: PortPath) {
        let port = Simulation.Tag.port(path)
        let all = known(port)
        if !all.isEmpty { report(all.map { ($0.key, .withdrawn) }, port) }
    }

    // MARK: - Announcing

    /// Sees to it that what can't be reached by this host is not announced by it.
    func run() async {
        var last: [PortPath: Bool] = [:]
        var looked = ContinuousClock.now
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            guard let node else { return }
            // What others tell of an uplink that has no daemon here is of an earlier run.
            if ContinuousClock.now - looked > Self.idleInterval {
                looked = .now
                worker.add { [self] in for path in running.withLock({ $0.idle }) { withdraw(path) } }
            }
            if running.withLock({ $0.daemons.isEmpty }) { continue }
            let fit = assess(node)
            if fit != last { follow() }
            last = fit
        }
    }

    /// Looks at how this host is connected, and says of each uplink whether it is to announce.
    private func assess(_ node: Node) -> [PortPath: Bool] {
        let now = monotonicNanoseconds()
        let tunnels = node.agent.tunnels()
        let isCutOff = !tunnels.isEmpty && !tunnels.contains { $0.state == .up }
        let isLeaderless = node.replica.agreement.leader == nil
        let topology = node.replica.state.topology
        return running.withLock { running in
            running.cutOff = isCutOff ? running.cutOff ?? now : nil
            running.leaderless = isLeaderless ? running.leaderless ?? now : nil
            running.well = isCutOff ? nil : running.well ?? now
            if let well = running.well, now - well >= Self.settling { running.hasBeenWell = true }
            return Dictionary(
                uniqueKeysWithValues: running.daemons.keys.map { path in
                    (path, self.isFit(running, topology.routers[path.device]?.bgp, now: now))
                })
        }
    }

    private func isFit(_ running: Running, _ speaker: BGPSpeaker?, now: UInt64) -> Bool {
        guard let speaker else { return false }
        let (patience, leaderless) = (UInt64(speaker.patience) * 1_000_000, UInt64(speaker.leaderless) * 1_000_000)
        if let since = running.leaderless, now - since > leaderless { return false }
        // Who never was connected has nothing to be patient for.
        if let since = running.cutOff { return running.hasBeenWell && now - since < patience }
        return running.well.map { now - $0 >= Self.settling } ?? false
    }

    private func announce(_ topology: Topology, _ node: Node) {
        let now = monotonicNanoseconds()
        let (daemons, state) = running.withLock { ($0.daemons, $0) }
        var announced: [DevicePath: Set<Prefix>] = [:]
        for (path, daemon) in daemons {
            guard let router = topology.routers[path.device], let speaker = router.bgp else {
                daemon.announce([])
                continue
            }
            guard isFit(state, speaker, now: now) else {
                daemon.announce([])
                continue
            }
            let all = announced[router.path] ?? topology.announced(by: router, on: node.name)
            announced[router.path] = all
            daemon.announce(all)
        }
    }

    // MARK: - Reports

    /// How the uplinks of this host are.
    func uplinks() async -> [UplinkAnswer] {
        await withCheckedContinuation { continuation in
            asker.add { [self] in continuation.resume(returning: ask()) }
        }
    }

    private static func answer(_ peer: PeerStatus) -> UplinkAnswer.Peer {
        .init(
            address: peer.address, system: peer.system, state: peer.state,
            sinceMilliseconds: peer.since.map { UInt64(max(0, $0)) * 1000 }, received: peer.received,
            accepted: peer.accepted, announced: peer.announced, liveness: peer.liveness, problem: peer.problem)
    }

    private func ask() -> [UplinkAnswer] {
        let (daemons, problems) = running.withLock { ($0.daemons, $0.problems) }
        var list = daemons.map { path, daemon in
            let status = daemon.status()
            return UplinkAnswer(
                port: path.description, isRunning: status.isRunning, failures: status.failures, routes: status.routes,
                announced: status.announced.map(\.description), problem: status.problem,
                peers: status.peers.map(Self.answer))
        }
        list += problems.map {
            UplinkAnswer(
                port: $0.key.description, isRunning: false, failures: 0, routes: 0, announced: [], problem: $0.value,
                peers: [])
        }
        if let evpn = node?.evpn() {
            list.append(
                UplinkAnswer(
                    port: UplinkAnswer.evpn, isRunning: evpn.isRunning, failures: evpn.failures,
                    routes: evpn.peers.map(\.accepted).reduce(0, +), announced: [], problem: evpn.problem,
                    peers: evpn.peers.map(Self.answer)))
        }
        if let underlay = node?.underlay?.status() {
            list.append(
                UplinkAnswer(
                    port: UplinkAnswer.underlay, isRunning: underlay.isRunning, failures: underlay.failures,
                    routes: underlay.peers.map(\.accepted).reduce(0, +),
                    announced: underlay.announced.map(\.description), problem: underlay.problem,
                    peers: underlay.peers.map(Self.answer)))
        }
        return list.sorted { $0.port < $1.port }
    }
}

extension UplinkPlan {
    /// Whether its daemon can go on where that of another plan is.
    fileprivate func isSameNamespace(as other: UplinkPlan) -> Bool {
        mac == other.mac && addresses == other.addresses && interface == other.interface
            && uplink.daemon == other.uplink.daemon
    }
}
