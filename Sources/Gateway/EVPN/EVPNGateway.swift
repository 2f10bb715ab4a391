// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Synchronization
import Topology
import Wire

/// A host that speaks EVPN by FRRouting (RFC 7432, 8365, 9136): where stations are that others have, and what is behind this host, is
/// told and learned, for networks of bridges and of routers. It goes with this object, and with the process.
public final class EVPNGateway: Sendable {
    /// How it is.
    public struct Status: Sendable {
        /// The sessions.
        public var peers: [PeerStatus]
        /// Whether the daemons run.
        public var isRunning: Bool
        /// How often some ended by themselves.
        public var failures: Int
        /// What is wrong; `nil`: nothing.
        public var problem: String?
    }

    private struct State {
        var plan: EVPNPlan
        var isEnding = false
        var isRunning = false
        var failures = 0
        var problem: String?
        var since = SteadyTimes()
        /// Interfaces of networks whose stations are elsewhere now.
        var left: Set<String> = []
    }
    private let state: Mutex<State>
    private let alarm: Alarm
    private let ended = Reply<Bool>()
    private let files: String
    private let say: @Sendable (String) -> Void

    /// Starts it.
    ///
    /// - Parameters:
    ///   - directory: where its files are to be.
    ///   - say: takes what operators are to know.
    public init(_ plan: EVPNPlan, directory: String, say: @escaping @Sendable (String) -> Void) throws {
        state = Mutex(State(plan: plan))
        alarm = try Alarm()
        files = "\(directory)/evpn"
        self.say = say
        if mkdir(directory, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make \(directory)") }
        // What it starts ends with the thread.
        _ = try NamedThread("sel-evpn") { [self] in
            run()
            ended.put(true)
        }
    }

    /// Changes what it does.
    public func set(_ plan: EVPNPlan) {
        state.withLock { $0.plan = plan }
        alarm.ring()
    }

    /// Others reach the stations of a network by another host now: none are told of by this one until they are heard again.
    ///
    /// - Parameter interface: the network's, on the host.
    public func forgetStations(at interface: String) {
        state.withLock { _ = $0.left.insert(interface) }
        alarm.ring()
    }

    /// Ends it, and waits for that.
    public func close() {
        state.withLock { $0.isEnding = true }
        alarm.ring()
        _ = ended.take()
    }

    /// How it is now: asks the daemon, a few seconds at most.
    public func status() -> Status {
        let (plan, isRunning, failures, problem) = state.withLock { ($0.plan, $0.isRunning, $0.failures, $0.problem) }
        let peers = plan.peers.map { BGPPeer(IPAddress($0.address), system: $0.system) }
        var status = Status(
            peers: peers.map { PeerStatus($0) }, isRunning: isRunning, failures: failures, problem: problem)
        guard isRunning else { return status }
        do {
            let terminal = FRRTerminal(path: EVPNRun.terminal(files))
            var list = FRRAnswers.peers(try terminal.say("show bgp neighbors json"), peers)
            state.withLock { $0.since.steady(&list) }
            status.peers = list
        } catch { status.problem = problem ?? "the daemon does not answer: \(error)" }
        return status
    }

    private func run() {
        var run = EVPNRun(files: files)
        while let plan = state.withLock({ $0.isEnding ? nil : $0.plan }) {
            let left = state.withLock { state in
                defer { state.left = [] }
                return state.left
            }
            if !left.isEmpty { run.forgetStations(at: left) }
            run.step(plan)
            let isNew = state.withLock { state in
                defer { (state.isRunning, state.failures, state.problem) = (run.isRunning, run.failures, run.problem) }
                return state.problem != run.problem
            }
            if isNew, let problem = run.problem { say("EVPN: \(problem)") }
            // Those that end are seen soon, though nobody tells of it.
            alarm.wait(until: monotonicNanoseconds() + 100_000_000)
        }
        run.end()
    }
}
