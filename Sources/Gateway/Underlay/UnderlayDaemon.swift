// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Synchronization
import Topology
import Wire

/// The routing daemon of the host itself: it makes the host's own addresses known, and others' reached. It outlives the node, which
/// finds it again: what the kernel forwards without a node is to find its way, and a node that begins anew the other ones.
public final class UnderlayDaemon: Sendable {
    /// How it is.
    public struct Status: Sendable {
        /// The sessions.
        public var peers: [PeerStatus]
        /// Whether the daemon runs.
        public var isRunning: Bool
        /// How often it ended by itself since this process began.
        public var failures: Int
        /// What others are told of.
        public var announced: [Prefix]
        /// What is wrong; `nil`: nothing.
        public var problem: String?
    }

    private struct State {
        var isEnding = false
        var isRunning = true
        var failures = 0
        var problem: String?
        /// What is wrong with what was said of it.
        var trouble: String?
        var since = SteadyTimes()
    }
    private let plan: UnderlayPlan
    private let place: UnderlayPlace
    private let say: @Sendable (String) -> Void
    private let state: Mutex<State>
    private let alarm: Alarm
    private let thread = Mutex<NamedThread?>(nil)

    /// The pauses before it is started again, nanoseconds: the first, sooner than neighbors miss it, and the longest.
    private static let pauses: ClosedRange<UInt64> = 10_000_000...10_000_000_000
    /// How long it has to run to be taken for well, nanoseconds.
    private static let wellAfter: UInt64 = 5_000_000_000

    /// Gives the host its addresses and starts the daemon, or has one that runs do what is wanted now.
    ///
    /// - Parameters:
    ///   - directory: where its files are to be; there may be those of an earlier one.
    ///   - say: takes what operators are to know.
    /// - Throws: ``SystemError`` or why the daemon can't run.
    public init(_ plan: UnderlayPlan, directory: String, say: @escaping @Sendable (String) -> Void) throws {
        self.plan = plan
        self.say = say
        place = try UnderlayPlace(directory)
        alarm = try Alarm()
        try place.setAddresses(plan.loopbacks)
        // Flows are shared by what tells them apart, ports included.
        if plan.speaker.maxPaths > 1 {
            for family in ["ipv4", "ipv6"] { setSysctl("net/\(family)/fib_multipath_hash_policy", "1") }
        }
        let problem = try place.bird.write(plan.snippet) { [place] in
            UnderlayConfiguration(plan: plan, files: place.files, own: UnderlayPlace.own, snippet: $0).text
        }
        state = Mutex(State(problem: problem, trouble: problem))
        if let problem { say("underlay: \(problem)") }
        if place.runs {
            if let problem = try place.control.configure() { state.withLock { $0.problem = problem } }
        } else {
            try place.start(isRecovering: false)
        }
        let watching = try NamedThread("sel-underlay") { [self] in watch() }
        thread.withLock { $0 = watching }
    }

    /// Lets the daemon be: it goes on, and nobody starts it again.
    public func close() {
        state.withLock { $0.isEnding = true }
        alarm.ring()
        thread.withLock { thread in
            defer { thread = nil }
            return thread
        }?.join()
    }

    /// How it is; asks the daemon.
    public func status() -> Status {
        var peers = plan.peers.map { PeerStatus($0) }
        if let told = try? place.control.peers(plan.peers) { peers = told }
        return state.withLock { state in
            state.since.steady(&peers)
            return Status(
                peers: peers, isRunning: state.isRunning, failures: state.failures,
                announced: plan.loopbacks.map { Prefix($0, length: $0.family.width) }, problem: state.problem)
        }
    }

    /// Ends what an earlier run left, and takes the host's addresses back; nothing happens where there is nothing.
    public static func end(directory: String, say: (String) -> Void) {
        guard access(directory, F_OK) == 0, let place = try? UnderlayPlace(directory) else { return }
        say("underlay: the daemon of an earlier run ends, since this one was not told of an underlay")
        place.end()
    }

    // MARK: - The thread

    private func watch() {
        var pause = Self.pauses.lowerBound
        var due: UInt64 = 0
        while !state.withLock({ $0.isEnding }) {
            if let process = place.process {
                state.withLock { $0.isRunning = true }
                let began = monotonicNanoseconds()
                alarm.wait(until: .max, or: process.number)
                if state.withLock({ $0.isEnding }) { return }
                if place.runs { continue }
                say("the routing daemon of the host ended, and is started again")
                state.withLock { state in
                    state.isRunning = false
                    state.failures += 1
                }
                let now = monotonicNanoseconds()
                pause = now - began > Self.wellAfter ? Self.pauses.lowerBound : min(pause * 2, Self.pauses.upperBound)
                due = now + pause
            }
            alarm.wait(until: due)
            if state.withLock({ $0.isEnding }) || monotonicNanoseconds() < due { continue }
            do {
                try place.start(isRecovering: true)
                state.withLock { $0.problem = $0.trouble }
            } catch {
                let words = "\(error)"
                let isNew = state.withLock { state in
                    defer { state.problem = words }
                    return state.problem != words
                }
                if isNew { say("underlay: \(words)") }
                pause = min(pause * 2, Self.pauses.upperBound)
                due = monotonicNanoseconds() + pause
            }
        }
    }
}
