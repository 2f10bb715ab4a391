// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Simulation
import Synchronization
import Topology
import Wire

/// The routing daemon of one uplink on this host: configured, started, watched and started again; what it learns is reported, and
/// what it is to announce it is given. It goes with this object, and with the process.
public final class UplinkDaemon: Sendable {
    /// Takes destinations that the daemon knows otherwise than before.
    public typealias Report = @Sendable ([(prefix: Prefix, route: UplinkRoute)]) -> Void

    /// How it is.
    public struct Status: Sendable {
        /// The sessions.
        public var peers: [PeerStatus]
        /// Whether the daemon runs.
        public var isRunning: Bool
        /// How often it ended by itself.
        public var failures: Int
        /// Destinations that it leads to.
        public var routes: Int
        /// What it is given to announce.
        public var announced: [Prefix]
        /// What is wrong; `nil`: nothing.
        public var problem: String?
    }

    private struct State {
        var plan: UplinkPlan
        var announced: Set<Prefix> = []
        var hasCarrier = true
        var isEnding = false
        // Told by the thread.
        var isRunning = false
        var failures = 0
        var routes = 0
        var problem: String?
    }
    private let state: Mutex<State>
    private let alarm: Alarm
    private let ended = Reply<Bool>()
    private let files: String
    /// Destinations that were known before it began.
    private let before: Set<Prefix>
    private let report: Report
    private let say: @Sendable (String) -> Void
    /// The uplink.
    public let path: PortPath

    /// The pauses before it is started again, nanoseconds: the first, and the longest.
    private static let pauses: ClosedRange<UInt64> = 100_000_000...10_000_000_000
    /// How long it has to run to be taken for well, nanoseconds.
    private static let wellAfter: UInt64 = 10_000_000_000
    /// How long what one that ended left behind stands, nanoseconds.
    private static let grace: UInt64 = 10_000_000_000
    /// How often everything is looked at again, nanoseconds.
    private static let interval: UInt64 = 30_000_000_000

    /// Starts a daemon.
    ///
    /// - Parameters:
    ///   - directory: where its files are to be.
    ///   - before: destinations that an earlier one led to: what this one does not know after a while is reported as gone.
    ///   - report: called on a thread of the daemon's.
    ///   - say: takes what operators are to know.
    public init(
        _ plan: UplinkPlan, directory: String, before: Set<Prefix> = [], report: @escaping Report,
        say: @escaping @Sendable (String) -> Void
    ) throws {
        path = plan.path
        state = Mutex(State(plan: plan))
        alarm = try Alarm()
        files = "\(directory)/\(plan.path.daemonInterface)"
        self.before = before
        self.report = report
        self.say = say
        if mkdir(directory, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make \(directory)") }
        // What it starts ends with the thread.
        _ = try NamedThread("sel-uplink") { [self] in
            run()
            ended.put(true)
        }
    }

    /// Changes what it does, its addresses and interface apart.
    public func set(_ plan: UplinkPlan) {
        state.withLock { $0.plan = plan }
        alarm.ring()
    }

    /// Sets what it announces.
    public func announce(_ prefixes: Set<Prefix>) {
        let isNew = state.withLock { state in
            defer { state.announced = prefixes }
            return state.announced != prefixes
        }
        if isNew { alarm.ring() }
    }

    /// Says whether the uplink's interface has a carrier: to the daemon its own has one or none as well.
    public func setCarrier(_ isThere: Bool) {
        let isNew = state.withLock { state in
            defer { state.hasCarrier = isThere }
            return state.hasCarrier != isThere
        }
        if isNew { alarm.ring() }
    }

    /// Ends it, and waits for that.
    public func close() {
        state.withLock { $0.isEnding = true }
        alarm.ring()
        _ = ended.take()
    }

    /// How it is now; asks the daemon.
    public func status() -> Status {
        let now = state.withLock { $0 }
        var status = Status(
            peers: now.plan.uplink.peers.map { PeerStatus($0) }, isRunning: now.isRunning, failures: now.failures,
            routes: now.routes, announced: now.announced.sorted(), problem: now.problem)
        guard now.isRunning else { return status }
        let control = BirdControl(path: socket)
        do {
            status.peers = PeerStatus.read(try control.say("show protocols all").lines, now.plan.uplink.peers)
            PeerStatus.read(liveness: (try? control.say("show bfd sessions").lines) ?? [], into: &status.peers)
        } catch {
            status.problem = status.problem ?? "the daemon does not answer: \(error)"
        }
        return status
    }

    private var socket: String { files + ".ctl" }
    private var configuration: String { files + ".conf" }

    // MARK: - The thread

    /// What the thread knows.
    private struct Run {
        var namespace: DaemonNamespace
        var process: BirdProcess?
        var routes = NamespaceRoutes()
        var announced: Set<Prefix> = []
        /// The plan that the configuration is of; `nil`: of none.
        var configured: UplinkPlan?
        var log: Descriptor
        var began: UInt64 = 0
        var pause = UplinkDaemon.pauses.lowerBound
        var due: UInt64 = 0
        /// When what one that ended left behind goes.
        var stale: UInt64?
        var lookAgain: UInt64 = 0
        var hasEnded = false
        var hasCarrier = true
        /// What was known before, until it is known of each whether it still is so, and when that is.
        var before: Set<Prefix>
        var settles: UInt64
    }

    private func run() {
        while let wanted = state.withLock({ $0.isEnding ? nil : $0.plan }) {
            do {
                var run = try begin(wanted)
                defer { run.namespace.close() }
                tell(problem: nil)
                while !state.withLock({ $0.isEnding }) { try step(&run) }
                run.process?.stop()
                state.withLock { $0.isRunning = false }
            } catch {
                state.withLock { $0.isRunning = false }
                tell(problem: "\(error)")
                alarm.wait(until: monotonicNanoseconds() + Self.pauses.upperBound / 4)
            }
        }
    }

    private func begin(_ plan: UplinkPlan) throws -> Run {
        let log = Glibc.open(files + ".log", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        if log < 0 { throw SystemError(errno, "open \(files).log") }
        var run = Run(
            namespace: try DaemonNamespace(plan), log: Descriptor(log), before: before,
            settles: monotonicNanoseconds() + Self.grace)
        run.hasEnded = !before.isEmpty
        run.routes.replace(try messages(run.namespace.routes.all()))
        return run
    }

    private func step(_ run: inout Run) throws {
        let (plan, announced, hasCarrier) = state.withLock { ($0.plan, $0.announced, $0.hasCarrier) }
        if hasCarrier != run.hasCarrier {
            try run.namespace.setCarrier(hasCarrier)
            run.hasCarrier = hasCarrier
            say("uplink \(path) has \(hasCarrier ? "a carrier again" : "no carrier")")
        }
        try tellAnnounced(announced, &run)
        if run.configured != plan { try configure(plan, &run) }
        let now = monotonicNanoseconds()
        if let process = run.process, let status = process.end {
            run.process = nil
            run.hasEnded = true
            run.due = now + run.pause
            run.pause = min(run.pause * 2, Self.pauses.upperBound)
            run.stale = now + Self.grace
            state.withLock { state in
                state.isRunning = false
                state.failures += 1
            }
            say("the routing daemon of \(path) ended with status \(status), and is started again")
        }
        if run.process == nil, run.configured != nil, now >= run.due { try start(&run, now) }
        if run.process != nil, now - run.began > Self.wellAfter { run.pause = Self.pauses.lowerBound }
        try follow(&run, now)
        wait(run, now)
    }

    private func start(_ run: inout Run, _ now: UInt64) throws {
        run.process = try BirdProcess.start(
            configuration, socket: socket, in: run.namespace.namespace, isRecovering: run.hasEnded,
            log: run.log.number)
        run.began = now
        run.stale = nil
        state.withLock { $0.isRunning = true }
    }

    /// Writes the configuration, and has a daemon that runs read it.
    private func configure(_ plan: UplinkPlan, _ run: inout Run) throws {
        let candidate = files + ".new"
        var problem: String?
        var snippet: String?
        if let text = plan.uplink.snippet {
            try write(text, to: files + ".snippet")
            snippet = files + ".snippet"
        }
        try write(BirdConfiguration(plan, snippet: snippet).text, to: candidate)
        if let reason = BirdProcess.check(candidate) {
            problem = reason.replacing(files + ".snippet", with: "snippet").replacing(candidate, with: "configuration")
            // What is ours goes on without what is not a configuration.
            if snippet != nil {
                problem = problem.map { "the snippet is left out: \($0)" }
                try write(BirdConfiguration(plan, snippet: nil).text, to: candidate)
            }
            if snippet == nil || BirdProcess.check(candidate) != nil {
                throw GatewayError("the daemon can't be configured: \(problem ?? reason)")
            }
        }
        guard rename(candidate, configuration) == 0 else { throw SystemError(errno, "write \(configuration)") }
        if run.process != nil {
            let answer = try BirdControl(path: socket).say("configure")
            if answer.code >= 8000 { problem = "the daemon keeps its configuration: \(answer.lines.last ?? "")" }
        }
        run.configured = plan
        tell(problem: problem)
    }

    private func tell(problem: String?) {
        let isNew = state.withLock { state in
            defer { state.problem = problem }
            return state.problem != problem
        }
        if isNew, let problem { say("uplink \(path): \(problem)") }
    }

    private func tellAnnounced(_ wanted: Set<Prefix>, _ run: inout Run) throws {
        for prefix in run.announced.subtracting(wanted).sorted() {
            try run.namespace.setAnnounced(prefix, false)
            run.announced.remove(prefix)
        }
        for prefix in wanted.subtracting(run.announced).sorted() {
            try run.namespace.setAnnounced(prefix, true)
            run.announced.insert(prefix)
        }
    }

    // MARK: - Routes

    /// Reports what the daemon put into the kernel's table, or took out of it.
    private func follow(_ run: inout Run, _ now: UInt64) throws {
        while case let events = try run.namespace.routes.events(), !events.isEmpty {
            for event in events {
                switch event {
                case .present(let route): for one in messages([route]) { run.routes.add(one) }
                case .gone(let route): for one in messages([route]) { run.routes.remove(one) }
                case .lost: run.lookAgain = 0
                }
            }
        }
        if now >= run.lookAgain {
            run.routes.replace(messages(try run.namespace.routes.all()))
            run.lookAgain = now + Self.interval
        }
        if let stale = run.stale, now >= stale, run.process == nil {
            // Nobody answers for them any more.
            run.routes.replace([])
            run.stale = nil
        }
        var changed = run.routes.takeChanges()
        if now >= run.settles, !run.before.isEmpty {
            changed.formUnion(run.before.filter { run.routes[$0].gateways.isEmpty })
            run.before = []
        }
        if changed.isEmpty { return }
        state.withLock { $0.routes = run.routes.count }
        report(changed.map { ($0, run.routes[$0]) })
    }

    /// Those of the main table that somebody put there: what follows from addresses the router knows itself.
    private func messages(_ routes: [RouteMonitor.Route]) -> [NamespaceRoutes.Message] {
        routes.compactMap { route in
            let isOwn = route.owner <= 2 || route.owner == 9  // RTPROT_KERNEL and below, RTPROT_RA
            guard route.table == 254, !isOwn else { return nil }
            return NamespaceRoutes.Message(prefix: route.prefix, metric: route.metric, gateways: route.gateways)
        }
    }

    private func wait(_ run: Run, _ now: UInt64) {
        var due = min(run.lookAgain, now + 1_000_000_000)
        // One that ends is seen soon, though nobody tells of it.
        due = min(due, now + 100_000_000)
        if run.process == nil { due = min(due, max(run.due, now + 1_000_000)) }
        alarm.wait(until: due, or: run.namespace.routes.descriptor)
    }

    private func write(_ text: String, to file: String) throws {
        let descriptor = Glibc.open(file, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o600)
        if descriptor < 0 { throw SystemError(errno, "write \(file)") }
        defer { Glibc.close(descriptor) }
        let bytes = Array(text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
            throw SystemError(errno, "write \(file)")
        }
    }
}
