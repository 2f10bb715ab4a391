// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Simulation
import Topology
import Wire

/// What the thread of an uplink's daemon does and knows: a life of the namespace after the other, and in each lives of the daemon.
struct UplinkRun {
    /// What is wanted of it.
    struct Orders {
        var plan: UplinkPlan
        var announced: Set<Prefix>
        var hasCarrier: Bool
        var mtu: UInt32?
    }

    private let path: PortPath
    private let files: String
    private let known: UplinkDaemon.Known
    private let report: UplinkDaemon.Report
    private let say: @Sendable (String) -> Void

    private var namespace: DaemonNamespace?
    private var log: Descriptor?
    private var daemon: any RoutingDaemon
    var isRunning: Bool { daemon.isRunning }
    private(set) var routes = NamespaceRoutes()
    private(set) var failures = 0
    /// What is wrong.
    var problem: String?
    private var announced: Set<Prefix> = []
    private var hasCarrier = true
    private var mtu: UInt32?
    /// The plan that the configuration is of; `nil`: of none. And when it is tried again.
    private var configured: UplinkPlan?
    private var configures: UInt64 = 0
    private var isRecovering = false
    private var began: UInt64 = 0
    private var pause = UplinkRun.pauses.lowerBound
    private var due: UInt64 = 0
    /// When what one that ended left behind goes.
    private var stale: UInt64?
    private var lookAgain: UInt64 = 0
    /// When it is told again what is so, and that all else is not.
    private var renews: UInt64

    /// The pauses before the daemon is started again, nanoseconds: the first, and the longest.
    static let pauses: ClosedRange<UInt64> = 100_000_000...10_000_000_000
    /// How long it has to run to be taken for well, nanoseconds.
    private static let wellAfter: UInt64 = 5_000_000_000
    /// How long what one that ended left behind stands, nanoseconds.
    private static let grace: UInt64 = 10_000_000_000
    /// How often all is looked at again, and told again before others forget it, nanoseconds.
    private static let renewal: UInt64 = 300_000_000_000
    /// The pause before a daemon that did not take its configuration is asked again, nanoseconds.
    private static let again: UInt64 = 200_000_000
    /// The longest log, bytes.
    private static let longestLog = 4 << 20

    init(
        _ plan: UplinkPlan, files: String, saysFarewell: Bool, known: @escaping UplinkDaemon.Known,
        report: @escaping UplinkDaemon.Report, say: @escaping @Sendable (String) -> Void
    ) {
        path = plan.path
        // Another interface is another one's.
        let farewell = Farewell(uplink: plan.interface, daemon: plan.path.daemonInterface)
        daemon = plan.makeDaemon(files: files, farewell: saysFarewell ? farewell : nil)
        self.files = files
        self.known = known
        self.report = report
        self.say = say
        renews = monotonicNanoseconds() + Self.grace
    }

    // MARK: - Lives

    mutating func begin(_ plan: UplinkPlan) throws {
        let number = Glibc.open(files + ".log", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        if number < 0 { throw SystemError(errno, "open \(files).log") }
        log = Descriptor(number)
        // What one before it told may have changed since it ended, and nobody says so: neighbors tell the new one what is, and not what
        // is no more.
        let left = known()
        let doubts = left.map { ($0.key, $0.value.doubtful) }
        if !doubts.isEmpty { report(doubts) }
        // What one says last that an earlier run of the node left goes by an interface of the same name, and its files are the same.
        EarlierDaemons.awaitEnd([files + ".", FRRPlace(files: files).directory + "/"])
        namespace = try DaemonNamespace(plan)
        (announced, hasCarrier, mtu, configured, stale) = ([], true, nil, nil, nil)
        routes = NamespaceRoutes()
        // It stands until this one had its time.
        renews = min(renews, monotonicNanoseconds() + Self.grace)
        (lookAgain, configures, due) = (0, 0, 0)
        // Neighbors are asked to keep what they know of one that was there a moment ago.
        isRecovering = !left.isEmpty
    }

    mutating func end() {
        daemon.stop()
        namespace?.close()
        namespace = nil
        routes = NamespaceRoutes()
    }

    func removeFiles() { daemon.removeFiles() }

    mutating func step(_ orders: Orders) throws {
        guard let namespace else { return }
        var now = monotonicNanoseconds()
        if let status = daemon.ended() { died(status, now) }
        if let wanted = orders.mtu, wanted != mtu {
            try namespace.setMTU(Int(wanted))
            mtu = wanted
        }
        if orders.hasCarrier != hasCarrier {
            try namespace.setCarrier(orders.hasCarrier)
            hasCarrier = orders.hasCarrier
            say("uplink \(path) has \(hasCarrier ? "a carrier again" : "no carrier")")
        }
        try tellAnnounced(orders.announced, namespace)
        if configured != orders.plan, now >= configures { try configure(orders.plan, now) }
        now = monotonicNanoseconds()
        if !daemon.isRunning, configured != nil, now >= due {
            let trouble = try daemon.start(
                in: namespace.namespace, isRecovering: isRecovering, log: log?.number ?? -1)
            if let trouble { problem = trouble }
            now = monotonicNanoseconds()
            began = now
        }
        if daemon.isRunning, now - began > Self.wellAfter { (pause, stale) = (Self.pauses.lowerBound, nil) }
        if let stale, now >= stale {
            // Nobody answers for what is in the namespace any more.
            throw GatewayError("the daemon ends again and again: its words are in \(files).log")
        }
        try follow(namespace, now)
        if now >= renews { settle() }
    }

    private mutating func died(_ status: Int32, _ now: UInt64) {
        isRecovering = true
        failures += 1
        due = now + pause
        pause = min(pause * 2, Self.pauses.upperBound)
        stale = stale ?? now + Self.grace
        say("the routing daemon of \(path) ended with status \(status), and is started again")
    }

    /// Waits until there is something to do.
    func wait(_ alarm: Alarm) {
        let now = monotonicNanoseconds()
        // One that ends is seen soon, though nobody tells of it.
        var until = min(lookAgain, renews, now + 100_000_000)
        if !daemon.isRunning { until = min(until, max(due, now + 1_000_000)) }
        alarm.wait(until: until, or: namespace?.routes.descriptor ?? -1)
    }

    // MARK: - Configuration

    /// Writes the configuration, and has a daemon that runs read it.
    private mutating func configure(_ plan: UplinkPlan, _ now: UInt64) throws {
        do { problem = try daemon.configure(plan) } catch is DaemonBusy {
            configures = now + Self.again
            return
        }
        configured = plan
    }

    private mutating func tellAnnounced(_ wanted: Set<Prefix>, _ namespace: DaemonNamespace) throws {
        for prefix in announced.subtracting(wanted).sorted() {
            try namespace.setAnnounced(prefix, false)
            announced.remove(prefix)
        }
        for prefix in wanted.subtracting(announced).sorted() {
            try namespace.setAnnounced(prefix, true)
            announced.insert(prefix)
        }
    }

    // MARK: - Routes

    /// Reports what the daemon put into the kernel's table, or took out of it.
    private mutating func follow(_ namespace: DaemonNamespace, _ now: UInt64) throws {
        var events: [RouteMonitor.Event] = []
        while case let more = try namespace.routes.events(), !more.isEmpty { events += more }
        if events.contains(.lost) { lookAgain = 0 }
        let isWhole = now >= lookAgain
        guard let repriced = daemon.followCosts(isUrgent: isWhole || !events.isEmpty, now: now) else {
            // What they cost is not known yet: all is looked at when it is.
            lookAgain = now + Self.again
            return
        }
        if isWhole {
            routes.replace(try namespace.routes.all().compactMap(message))
            lookAgain = now + Self.renewal
            var status = stat()
            if let log, fstat(log.number, &status) == 0, status.st_size > Self.longestLog { ftruncate(log.number, 0) }
        } else {
            for event in events {
                switch event {
                case .present(let route): if let one = message(route) { routes.add(one) }
                case .gone(let route): if let one = message(route) { routes.remove(one) }
                case .lost: break
                }
            }
        }
        for prefix in repriced { if let cost = daemon.cost(of: prefix) { routes.set(cost: cost, of: prefix) } }
        let changed = routes.takeChanges()
        if !changed.isEmpty { report(changed.map { ($0, routes[$0]) }) }
    }

    /// Tells all that is so, once it is time, and that nothing else is: whoever told otherwise meanwhile is wrong.
    mutating func settle() {
        let now = monotonicNanoseconds()
        guard now >= renews else { return }
        renews = now + Self.renewal
        let all = routes.prefixes.map { ($0, routes[$0]) }
        let gone = known().keys.filter { routes[$0].gateways.isEmpty }.map { ($0, UplinkRoute.withdrawn) }
        if !all.isEmpty || !gone.isEmpty { report(all + gone) }
    }

    /// Whether it is one of the main table that a daemon put there: what follows from addresses the router knows itself.
    private static func isLearned(_ route: RouteMonitor.Route) -> Bool {
        // RTPROT_KERNEL and below, RTPROT_RA.
        route.table == 254 && route.owner > 2 && route.owner != 9 && route.owner != DaemonNamespace.owner
    }

    private func message(_ route: RouteMonitor.Route) -> NamespaceRoutes.Message? {
        guard Self.isLearned(route) else { return nil }
        // RTPROT_BGP.
        let apart = route.owner == 186 ? daemon.cost(of: route.prefix) : nil
        return NamespaceRoutes.Message(
            prefix: route.prefix, metric: route.metric, cost: apart ?? route.note ?? Routing.unknownCost,
            gateways: route.gateways, isPricedApart: apart != nil)
    }
}
