// SPDX-License-Identifier: Apache-2.0
import Datapath
import FlowState
import Gossip
import Linux
import Netlink
import Simulation
import Synchronization
import Topology
import Wire

/// The forwarding engine of one host: it binds virtual ports to interfaces, gives the packet threads each new topology,
/// and answers what tools ask.
///
/// Its methods block for as long as a datapath call takes; call them from a thread of their own, never from a packet
/// thread.
public final class Agent: Sendable {
    /// The host's name in the topology.
    public let host: String
    /// The engine below.
    public let datapath: any Datapath
    /// What packets taught.
    public let state: StateTable
    /// Makes records of flows, for those who are told of them.
    public let recorder = FlowRecorder()

    struct Control {
        var topology = Topology()
        var fabric: Fabric
        var threads: [PacketThread] = []
        var numbers: [PortPath: PortNumber] = [:]
        var interfaces: [PortPath: String] = [:]
        var problems: [PortPath: String] = [:]
        /// Ports that went to another host, and until when what comes in by their interfaces here is taken: the others learn
        /// of it one after another.
        var lingering: [PortPath: UInt64] = [:]
        var tunnels: [TunnelEnd: PortNumber] = [:]
        var tunnelProblem: String?
        var meters: [MeterUse: Meter] = [:]
        var staleMeters: [MeterNumber] = []
        var meterProblem: String?
        /// Queues of ports that are promised something, by number, and those that were made; `nil` where it is not known what is
        /// there, as at first, after a failure, and when interfaces change.
        var queues: [PortPath: UInt16] = [:]
        var queuesMade: UnderlayQueues??
        var queueProblem: String?
        var collectors: [Mirror.Target: (specification: PortSpecification, number: PortNumber)] = [:]
        var collectorProblem: String?
        var hasInherited = false
        /// Routers that translate, and their addresses that sources are likely to become.
        var translators: [DevicePath: Set<TranslationPorts.Key>] = [:]
        /// What the packet threads were given last.
        var epoch: Epoch?
        /// The routers of uplinks, both by tag: routes are learned by them.
        var uplinks: [Tag: Tag] = [:]
        /// Tells other hosts what packets teach, and which node a host is.
        var replication: FlowReplication?
        var peers: [String: PeerID] = [:]
    }

    let control: Mutex<Control>
    let routeWorker: SerialThread
    private let prober: PathProber
    private let announcer: Announcer
    private let logRule: @Sendable (RuleLog) -> Void
    private let askName: @Sendable (NameQuestion) -> Void
    private let onPortsWanted: @Sendable () -> Void

    /// An engine that knows an empty topology.
    ///
    /// - Parameters:
    ///   - logRule: takes the lines that rules ask for; called on packet threads.
    ///   - askName: takes names that machines ask for and others know; called on packet threads. See ``deliver(_:to:)``.
    ///   - onPortsWanted: called when ``takePortDemand()`` has something to tell; on packet threads.
    ///   - onDetours: called when ``reach()`` has something else to say of ways to hosts with several; on any thread.
    ///   - say: takes what operators are to know.
    /// - Throws: ``SystemError`` when there is no descriptor left.
    public init(
        host: String, datapath: any Datapath, logRule: @escaping @Sendable (RuleLog) -> Void = { _ in },
        askName: @escaping @Sendable (NameQuestion) -> Void = { _ in },
        onPortsWanted: @escaping @Sendable () -> Void = {}, onDetours: @escaping @Sendable () -> Void = {},
        say: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        self.host = host
        self.onPortsWanted = onPortsWanted
        state = StateTable(onPortsWanted: onPortsWanted)
        self.logRule = logRule
        self.askName = askName
        self.datapath = datapath
        routeWorker = try SerialThread("sel-routes")
        control = Mutex(Control(fabric: Fabric(Topology(), localHost: host)))
        let announcer = Announcer(datapath: datapath)
        self.announcer = announcer
        prober = try PathProber(
            send: { announcer.tellFirst(.probe($0)) },
            changed: { [state] news in
                if news.isLatest { state.setUnreachable(Set(news.dead.map(Tag.host))) }
                let tags = news.changed.map { Tag.path(host: .host($0)) } + news.rerouted.map(Tag.host)
                announcer.broadcast(.invalidate(Set(tags)))
                for line in news.lines { say(line) }
                if news.hasDetours { onDetours() }
            })
    }

    /// Starts the packet threads.
    public func start() throws {
        try control.withLock { [announcer, prober] control in
            let epoch = Epoch(
                fabric: control.fabric, bound: [:], tunnelPorts: [:], avoided: prober.avoided)
            var threads: [PacketThread] = []
            try datapath.start { index in
                let thread = PacketThread(
                    index: index, epoch: epoch, state: state, prober: prober,
                    installsStanding: index == 0 || !datapath.sharesFlows, installsReturns: datapath.sharesFlows,
                    broadcast: { announcer.broadcast($0) },
                    logRule: logRule, askName: askName)
                threads.append(thread)
                return thread
            }
            control.threads = threads
            announcer.threads.withLock { $0 = threads }
        }
        followRoutes()
        _ = try NamedThread("sel-paths") { [prober] in prober.run() }
    }

    /// Sets who tells the other hosts what packets teach, and which node each host is.
    public func setReplication(_ replication: FlowReplication, peers: [String: PeerID]) {
        control.withLock { control in
            guard control.replication !== replication || control.peers != peers else { return }
            control.replication = replication
            control.peers = peers
            _ = publish(&control, changed: [])
        }
    }

    /// Has decided again what was decided without what these tags name.
    public func stateChanged(_ tags: Set<Tag>) {
        announcer.broadcast(.invalidate(tags))
    }

    /// All other hosts have said that they know nothing with these tags: packets that wait for it wait no longer.
    public func stateUnknown(_ tags: Set<Tag>) { announcer.broadcast(.unknown(tags)) }

    /// Gives a machine the answer to its question.
    public func deliver(_ answer: [UInt8], to question: NameQuestion) {
        announcer.tellFirst(.deliver(question.frame(answer), port: question.port))
    }

    /// Sends frames out of a port that is bound here, as what the bridge itself says.
    func deliver(_ frames: [[UInt8]], by port: Tag) { announcer.tellFirst(.deliverAll(frames, port: port)) }

    /// Ends what comes and goes by ports here: this host stops, and others carry from now on.
    public func close(_ ports: Set<PortPath>) {
        let numbers = control.withLock { control in ports.compactMap { control.numbers[$0] } }
        for number in numbers { try? datapath.removePort(number) }
    }

    /// Why a port of this host is not bound, where it is to be; `nil`: it is.
    public func problem(of path: PortPath) -> String? { control.withLock { $0.problems[path] } }

    /// Tells the other hosts that this one stops, and ends the packet threads.
    public func stop() {
        state.onRouteNews(nil)
        routeWorker.finish()
        prober.stop()
        datapath.stop()
    }

    /// The topology that is in force.
    public var topology: Topology { control.withLock { $0.topology } }

    /// Puts a topology in force: binds, unbinds, and has every flow that it concerns decided again.
    ///
    /// The topology must have no ``Topology/problems()``. Returns when all packet threads forward by it: their flows are
    /// decided again, and the datapath was told.
    public func apply(_ topology: Topology) {
        let adopted = control.withLock { control in
            let difference = TopologyDifference(from: control.topology, to: topology)
            var tags = difference.tags(from: control.topology, to: topology)
            // How this host sends to the others is a matter of its own addresses, too.
            if difference.hosts.contains(host) { tags.formUnion(topology.hosts.keys.map(Tag.host)) }
            control.topology = topology
            control.fabric = Fabric(topology, after: control.fabric, difference)
            tags.formUnion(followUplinks(&control))
            if reconcileTunnels(&control) { tags.formUnion(topology.hosts.keys.map(Tag.host)) }
            let bindings = control.hasInherited ? difference.ports.union(control.problems.keys) : allBindings(control)
            let (unbound, coming) = releaseBindings(&control, bindings, gone: [])
            tags.formUnion(unbound.map(Tag.port))
            applySettings(control.topology, difference)
            // To open an interface takes a while: what comes for its port meanwhile is held.
            if !coming.isEmpty, control.hasInherited {
                _ = publish(&control, changed: tags)
                tags.removeAll()
            }
            tags.formUnion(openBindings(&control, coming).map(Tag.port))
            // Only a host that has ports needs others to translate to.
            findTranslators(&control, difference)
            let adopted = publish(&control, changed: tags)
            if !control.hasInherited {
                control.hasInherited = true
                inherit(control)
            }
            return adopted
        }
        for reply in adopted { _ = reply.take() }
    }

    /// Puts in force what a topology says of how long connections are known and how many there may be: before what an earlier
    /// run knew is read.
    public func applySettings(of topology: Topology) {
        applySettings(topology, TopologyDifference(from: Topology(), to: topology))
    }

    /// Puts in force what operators set for tenants.
    private func applySettings(_ topology: Topology, _ difference: TopologyDifference) {
        let hasLifetimes = topology.settings.values.contains { !$0.lifetimes.isEmpty }
        guard
            !difference.settings.isEmpty || hasLifetimes && !(difference.bridges.isEmpty && difference.routers.isEmpty)
        else { return }
        var connections: [Tag: ConnectionBounds] = [:]
        var translations: [Tag: ConnectionBounds] = [:]
        var lifetimes: [Tag: ConnectionLifetimes] = [:]
        for settings in topology.settings.values {
            func bounds(
                _ standard: ConnectionBounds, _ tenant: TenantSettings.Limit, _ port: TenantSettings.Limit
            ) -> ConnectionBounds {
                ConnectionBounds(
                    perPort: settings.limits[port].map(Int.init) ?? standard.perPort,
                    perTenant: settings.limits[tenant].map(Int.init) ?? standard.perTenant)
            }
            let tenant = Tag.tenant(settings.name)
            connections[tenant] = bounds(StateLimits.connectionBounds, .connections, .connectionsPerPort)
            translations[tenant] = bounds(StateLimits.translationBounds, .translations, .translationsPerPort)
            guard !settings.lifetimes.isEmpty else { continue }
            let own = ConnectionLifetimes(settings)
            for path in topology.bridges.keys where path.tenant == settings.name { lifetimes[.bridge(path)] = own }
            for path in topology.routers.keys where path.tenant == settings.name { lifetimes[.router(path)] = own }
        }
        state.set(connections: connections, translations: translations, lifetimes: lifetimes)
    }

    /// Notes which routers translate, and wants ports for those that packets of this host may come to.
    private func findTranslators(_ control: inout Control, _ difference: TopologyDifference) {
        let topology = control.topology
        for path in difference.routers.union(difference.ports.map(\.device)) {
            guard let router = topology.routers[path], !router.translation.isEmpty else {
                control.translators[path] = nil
                continue
            }
            control.translators[path] = Agent.likelyAddresses(of: router, in: topology)
        }
        guard !control.numbers.isEmpty else { return }
        let likely = control.translators.values.reduce(into: Set<TranslationPorts.Key>()) { $0.formUnion($1) }
        if likely.isEmpty { return }
        let isWanting = state.withPorts { ports in
            for key in likely { ports.prepare(key) }
            return ports.isWanting
        }
        if isWanting { onPortsWanted() }
    }

    /// Routers that translate, by tag, and the topology.
    var translators: (names: [Tag: DevicePath], topology: Topology) {
        control.withLock { control in
            (
                Dictionary(control.translators.keys.map { (Tag.router($0), $0) }, uniquingKeysWith: { a, _ in a }),
                control.topology
            )
        }
    }

    /// Addresses that sources of this host's packets are likely to become.
    var neededAddresses: Set<TranslationPorts.Key> {
        control.withLock { control in
            control.numbers.isEmpty ? [] : control.translators.values.reduce(into: []) { $0.formUnion($1) }
        }
    }

    /// Takes over what an earlier run left in the datapath: flows that are still right stay, ports that are no longer
    /// wanted go.
    private func inherit(_ control: borrowing Control) {
        let wanted = Set(control.numbers.values).union(control.tunnels.values)
        for port in (try? datapath.ports()) ?? [] where !wanted.contains(port.number) {
            try? datapath.removePort(port.number)
        }
        if let inherited = try? datapath.inheritedFlows(), !inherited.isEmpty {
            control.threads.first?.post(.inherit(inherited))
            datapath.wake()
        }
    }

    /// Tells that interfaces or addresses came or went, so that ports and tunnels bound to them follow.
    ///
    /// - Parameter gone: names of interfaces that went, even if one of the same name is there again.
    public func interfacesChanged(gone: Set<String> = []) {
        control.withLock { control in
            var changed = Set(reconcileBindings(&control, allBindings(control), gone: gone).map(Tag.port))
            // The address of a tunnel may have come with an interface.
            if control.tunnelProblem != nil, reconcileTunnels(&control) {
                changed.formUnion(control.topology.hosts.keys.map(Tag.host))
            }
            // So may the interface that has queues, or somebody else's have gone.
            if !control.queues.isEmpty {
                control.queuesMade = nil
                changed.formUnion(reconcileQueues(&control))
            }
            if !changed.isEmpty { _ = publish(&control, changed: changed) }
        }
    }

    /// Opens and closes tunnel ports; true when one came or went.
    private func reconcileTunnels(_ control: inout Control) -> Bool {
        let before = control.tunnels
        var wanted: [TunnelEnd: PortSpecification] = [:]
        for (zone, address) in control.topology.hosts[host]?.tunnelAddresses ?? [:] {
            guard let encapsulation = control.topology.zones[zone]?.encapsulation, let local = address.v4 else {
                continue
            }
            wanted[TunnelEnd(encapsulation: encapsulation, local: address)] =
                switch encapsulation {
                case .gre: .gre(local: local)
                case .vxlan: .vxlan(local: local, port: VXLAN.port)
                }
        }
        control.tunnelProblem = nil
        for (end, specification) in wanted.sorted(by: { $0.key < $1.key }) where control.tunnels[end] == nil {
            do {
                control.tunnels[end] = try datapath.addPort(specification)
            } catch {
                control.tunnelProblem = "\(error)"
            }
        }
        for (end, number) in control.tunnels where wanted[end] == nil {
            control.tunnels[end] = nil
            // The kernel has one port for all ends of a kind.
            if !control.tunnels.values.contains(number) { try? datapath.removePort(number) }
        }
        return control.tunnels != before
    }

    /// Gives the packet threads what is in force; each answers when it forwards by it.
    func publish(_ control: inout Control, changed: Set<Tag>) -> [Reply<Bool>] {
        let changed = changed.union(reconcileMeters(&control)).union(reconcileQueues(&control))
            .union(reconcileCollectors(&control))
        let epoch = Epoch(
            fabric: control.fabric, bound: control.numbers, tunnelPorts: control.tunnels,
            avoided: prober.avoided, meters: control.meters.mapValues(\.number), queues: control.queues,
            collectors: control.collectors.mapValues(\.number),
            replication: control.replication, recorder: recorder, peers: control.peers,
            after: control.epoch)
        control.epoch = epoch
        prober.setPaths(control.topology, host: host, ports: control.tunnels)
        let replies = control.threads.map { thread in
            let reply = Reply<Bool>()
            thread.post(.epoch(epoch, changed: changed, adopted: reply))
            return reply
        }
        datapath.wake()
        return replies
    }

    // MARK: - Reports

    /// All flows of all threads.
    public func flows() -> [FlowReport] {
        ask { PacketThread.Message.report($0) }.flatMap(\.self)
    }

    /// The counters of all threads together.
    public func counters() -> AgentCounters {
        var sum = AgentCounters()
        for one in ask({ PacketThread.Message.count($0) }) { sum.add(one) }
        return sum
    }

    /// What rules matched on this host, by list and rule.
    public func rules() -> [RuleReport] {
        var sums: [RuleName: (packets: UInt64, bytes: UInt64)] = [:]
        for report in ask({ PacketThread.Message.rules($0) }).joined() {
            let before = sums[report.name] ?? (0, 0)
            sums[report.name] = (before.packets &+ report.packets, before.bytes &+ report.bytes)
        }
        return sums.map { RuleReport(name: $0.key, packets: $0.value.packets, bytes: $0.value.bytes) }
            .sorted { ($0.name.list, $0.name.rule) < ($1.name.list, $1.name.rule) }
    }

    /// The datapath's ports and what is bound to them.
    public func ports() throws -> [PortReport] {
        let bound = control.withLock { control in
            Dictionary(control.numbers.map { ($0.value, $0.key) }, uniquingKeysWith: { a, _ in a })
        }
        return try datapath.ports().map { PortReport(status: $0, bound: bound[$0.number]) }
    }

    /// The virtual ports of this host.
    public func bindings() -> [BindingReport] {
        control.withLock { control in
            control.topology.ports.bound(to: host).flatMap { interface, paths in
                paths.map { path in
                    BindingReport(
                        port: path, interface: interface, number: control.numbers[path],
                        problem: control.problems[path])
                }
            }
            .sorted { $0.port < $1.port }
        }
    }

    /// How the tunnels to the other hosts are, by host.
    public func tunnels() -> [TunnelReport] { prober.report().sorted { ($0.host, $0.remote) < ($1.host, $1.remote) } }

    /// Hosts that do not answer by any tunnel, and how to reach those of which only some do.
    public func reach() -> (dead: Set<String>, detours: [String: Detour]) { prober.reach() }

    /// Why tunnels do not work, if they do not.
    public var tunnelProblem: String? { control.withLock { $0.tunnelProblem } }

    /// Why limits of a port are not kept; `nil` when all are.
    public var meterProblem: String? { control.withLock { $0.meterProblem } }

    /// Why promises to machines are not kept; `nil` when all are.
    public var queueProblem: String? { control.withLock { $0.queueProblem } }

    /// Why copies of a mirror do not leave; `nil` when all do.
    public var collectorProblem: String? { control.withLock { $0.collectorProblem } }

    /// Simulates a packet as if it had come in at a port of this host, and tells each step. Nothing is sent.
    ///
    /// - Returns: `nil` when this topology has no such port.
    public func trace(_ frame: [UInt8], at path: PortPath) -> Verdict? {
        let fabric = control.withLock { $0.fabric }
        guard let port = fabric.port(path) else { return nil }
        var simulator = Simulator(fabric: fabric, state: state)
        simulator.isTracing = true
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            let length = layout.networkLength > 0 ? layout.networkLength : max(0, bytes.count - Int(layout.network))
            simulator.simulate(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: length), at: port)
        }
        return simulator.verdict
    }

    private func ask<Answer: Sendable>(_ message: (Reply<Answer>) -> PacketThread.Message) -> [Answer] {
        let threads = control.withLock { $0.threads }
        let replies = threads.map { thread in
            let reply = Reply<Answer>()
            thread.post(message(reply))
            return reply
        }
        datapath.wake()
        return replies.map { $0.take() }
    }
}

/// Gives all packet threads a message of one of them.
private final class Announcer: Sendable {
    let threads = Mutex<[PacketThread]>([])
    private let datapath: any Datapath

    init(datapath: any Datapath) { self.datapath = datapath }

    /// Gives a message to the first of the packet threads.
    func tellFirst(_ message: PacketThread.Message) {
        threads.withLock { $0.first }?.post(message)
        datapath.wake()
    }

    func broadcast(_ message: PacketThread.Message) {
        for thread in threads.withLock({ $0 }) { thread.post(message) }
        datapath.wake()
    }
}
