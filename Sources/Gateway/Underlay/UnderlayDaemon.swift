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
        /// Why it does not run, and why it can't be told what is so now.
        var problem: String?
        var fault: String?
        /// What of its configuration is left out, and by which cards peers are reached.
        var trouble: String?
        var cards: [IPAddress: BirdPeers.Place] = [:]
        /// Whether the daemon does what is written.
        var isTold = false
        var since = SteadyTimes()
    }
    private let plan: UnderlayPlan
    private let place: UnderlayPlace
    private let say: @Sendable (String) -> Void
    private let state = Mutex(State())
    private let alarm: Alarm
    private let thread = Mutex<NamedThread?>(nil)

    /// How often it is looked whether cards have other addresses, nanoseconds.
    private static let glance: UInt64 = 1_000_000_000
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
        // The kernel has routes of one that was there before.
        let isRecovering = access(place.bird.configuration, F_OK) == 0
        try place.addAddresses(plan.loopbacks)
        // Flows are shared by what tells them apart, ports included.
        if plan.speaker.maxPaths > 1 {
            for family in ["ipv4", "ipv6"] { setSysctl("net/\(family)/fib_multipath_hash_policy", "1") }
        }
        try write(UnderlayPlace.cards(plan.peers, known: [:]))
        if place.runs {
            tell()
        } else {
            try place.start(isRecovering: isRecovering)
            state.withLock { $0.isTold = true }
        }
        // Others were told of what the host was reached at before until now.
        try place.removeAddresses(except: plan.loopbacks)
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
        let told = try? place.control.peers(plan.peers)
        return state.withLock { state in
            var peers = told ?? plan.peers.map { PeerStatus($0) }
            for at in peers.indices where state.cards[plan.peers[at].address] == nil {
                peers[at].problem = "no card has an address in its network"
            }
            state.since.steady(&peers)
            return Status(
                peers: peers, isRunning: state.isRunning, failures: state.failures,
                announced: plan.loopbacks.map { Prefix($0, length: $0.family.width) },
                problem: state.problem ?? state.fault ?? (told == nil ? "the daemon does not answer" : state.trouble))
        }
    }

    /// Ends what an earlier run left, and takes the host's addresses back; nothing happens where there is nothing.
    public static func end(directory: String, say: (String) -> Void) {
        guard access(directory, F_OK) == 0, let place = try? UnderlayPlace(directory) else { return }
        say("underlay: the daemon of an earlier run ends, since this one was not told of an underlay")
        place.end()
    }

    // MARK: - Configuration

    /// Writes what the daemon is to do. A card that has lost its address just now may have it again: the daemon tells by itself.
    private func write(_ cards: [IPAddress: BirdPeers.Place]) throws {
        let known = state.withLock { $0.cards.merging(cards) { $1 } }
        let trouble = try place.bird.write(plan.snippet) { [place, plan] in
            UnderlayConfiguration(plan: plan, files: place.files, cards: known, snippet: $0).text
        }
        let isNew = state.withLock { state in
            defer { (state.trouble, state.cards, state.isTold) = (trouble, known, false) }
            return state.trouble != trouble
        }
        if isNew, let trouble { say("underlay: \(trouble)") }
    }

    /// Has the daemon do what is written; one that can't be told now is told later.
    private func tell() {
        do {
            let kept = try place.control.configure()
            state.withLock { state in
                state.isTold = true
                state.trouble = kept ?? state.trouble
            }
        } catch {}
    }

    /// Brings the daemon up to date with the host's cards.
    private func follow() {
        let known = state.withLock { $0.cards }
        do {
            let cards = try UnderlayPlace.cards(plan.peers, known: known)
            if cards.contains(where: { known[$0.key] != $0.value }) { try write(cards) }
            state.withLock { $0.fault = nil }
        } catch { return note("\(error)", \.fault) }
        if state.withLock({ !$0.isTold }) { tell() }
    }

    private func note(_ problem: String, _ kind: WritableKeyPath<State, String?>) {
        let isNew = state.withLock { state in
            defer { state[keyPath: kind] = problem }
            return state[keyPath: kind] != problem
        }
        if isNew { say("underlay: \(problem)") }
    }

    // MARK: - The thread

    private func watch() {
        var pause = Self.pauses.lowerBound
        var due: UInt64 = 0
        var began = monotonicNanoseconds()
        while !state.withLock({ $0.isEnding }) {
            if place.runs {
                state.withLock { ($0.isRunning, $0.problem) = (true, nil) }
                follow()
                // Without a descriptor of the process it is seen a little later that it ended.
                let process = place.process
                let until = monotonicNanoseconds() + (process == nil ? Self.glance / 10 : Self.glance)
                alarm.wait(until: until, or: process?.number ?? -1)
                continue
            }
            let hasEnded = state.withLock { state in
                defer { state.isRunning = false }
                if state.isRunning { state.failures += 1 }
                return state.isRunning
            }
            if hasEnded {
                say("the routing daemon of the host ended, and is started again")
                let now = monotonicNanoseconds()
                pause = now - began > Self.wellAfter ? Self.pauses.lowerBound : min(pause * 2, Self.pauses.upperBound)
                due = now + pause
            }
            alarm.wait(until: due)
            if monotonicNanoseconds() < due { continue }
            do {
                try write(UnderlayPlace.cards(plan.peers, known: state.withLock { $0.cards }))
                try place.start(isRecovering: true)
                began = monotonicNanoseconds()
                state.withLock { ($0.isRunning, $0.problem, $0.isTold) = (true, nil, true) }
            } catch {
                note("\(error)", \.problem)
                pause = min(pause * 2, Self.pauses.upperBound)
                due = monotonicNanoseconds() + pause
            }
        }
    }
}
