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

    /// Destinations that everybody takes to be reached by the uplink, and how.
    public typealias Known = @Sendable () -> [Prefix: UplinkRoute]

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
        var mtu: UInt32?
        var isEnding = false
        // Told by the thread.
        var isRunning = false
        var failures = 0
        var routes = 0
        var problem: String?
        var since = SteadyTimes()
        var orders: UplinkRun.Orders { .init(plan: plan, announced: announced, hasCarrier: hasCarrier, mtu: mtu) }
    }
    private let state: Mutex<State>
    private let alarm: Alarm
    private let ended = Reply<Bool>()
    private let files: String
    private let saysFarewell: Bool
    private let known: Known
    private let report: Report
    private let say: @Sendable (String) -> Void
    /// The uplink.
    public let path: PortPath

    /// Starts a daemon.
    ///
    /// - Parameters:
    ///   - directory: where its files are to be.
    ///   - saysFarewell: whether its neighbors are to hear of it when this process is killed (``Farewell``).
    ///   - known: an earlier one may have led there: that is reported as doubtful, and as gone where this one does not know it after
    ///     a while.
    ///   - report: called on a thread of the daemon's.
    ///   - say: takes what operators are to know.
    public init(
        _ plan: UplinkPlan, directory: String, saysFarewell: Bool = false, known: @escaping Known = { [:] },
        report: @escaping Report, say: @escaping @Sendable (String) -> Void
    ) throws {
        path = plan.path
        state = Mutex(State(plan: plan))
        alarm = try Alarm()
        if mkdir(directory, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make \(directory)") }
        files = "\(try realPath(directory))/\(plan.path.daemonInterface)"
        self.saysFarewell = saysFarewell
        self.known = known
        self.report = report
        self.say = say
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

    /// Says whether the uplink's interface has a carrier, and its MTU, `nil` where it is not there: to the daemon its own has the same.
    public func setLink(hasCarrier: Bool, mtu: UInt32?) {
        let isNew = state.withLock { state in
            let before = (state.hasCarrier, state.mtu)
            (state.hasCarrier, state.mtu) = (hasCarrier, mtu ?? state.mtu)
            return before != (state.hasCarrier, state.mtu)
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
        do { status.peers = try now.plan.peers(files: files) } catch {
            status.problem = status.problem ?? "the daemon does not answer: \(error)"
        }
        var peers = status.peers
        state.withLock { $0.since.steady(&peers) }
        status.peers = peers
        return status
    }

    // MARK: - The thread

    private func run() {
        guard let first = state.withLock({ $0.isEnding ? nil : $0.plan }) else { return }
        var run = UplinkRun(first, files: files, saysFarewell: saysFarewell, known: known, report: report, say: say)
        defer { run.removeFiles() }
        while let wanted = state.withLock({ $0.isEnding ? nil : $0.plan }) {
            do {
                try run.begin(wanted)
                while let orders = state.withLock({ $0.isEnding ? nil : $0.orders }) {
                    try run.step(orders)
                    tell(run)
                    run.wait(alarm)
                }
            } catch {
                run.problem = "\(error)"
                run.settle()
            }
            run.end()
            tell(run)
            if state.withLock({ $0.isEnding }) { return }
            alarm.wait(until: monotonicNanoseconds() + UplinkRun.pauses.upperBound / 4)
        }
    }

    private func tell(_ run: UplinkRun) {
        let isNew = state.withLock { state in
            defer {
                (state.isRunning, state.failures) = (run.isRunning, run.failures)
                (state.routes, state.problem) = (run.routes.count, run.problem)
            }
            return state.problem != run.problem
        }
        if isNew, let problem = run.problem { say("uplink \(path): \(problem)") }
    }
}
