// SPDX-License-Identifier: Apache-2.0
import Agent
import Glibc
import Linux
import Store
import Synchronization
import Topology

/// Puts each topology that the store comes to in force. Revisions that come while one is put in force are taken together, and
/// in a storm of changes the follower rests between them, unless somebody waits: packets and the agreement need the
/// processors, too.
final class Follower: Sendable {
    private let agent: Agent
    private let thread: SerialThread
    private struct Progress {
        var applied: UInt64 = 0
        var isQueued = false
        var waiters: [(revision: UInt64, continuation: CheckedContinuation<Bool, Never>, number: UInt64)] = []
        var next: UInt64 = 0
    }
    private let progress = Mutex(Progress())
    private static let shortestRest: UInt64 = 5_000_000
    private static let longestRest: UInt64 = 50_000_000
    // Touched by jobs of `thread` only.
    private nonisolated(unsafe) var lastEnd: UInt64 = 0  // of `thread`
    private nonisolated(unsafe) var lastDuration: UInt64 = 0  // of `thread`
    // Whether a task waits until it is time to look again.
    private nonisolated(unsafe) var hasLingering = false  // of `thread`

    init(_ agent: Agent) throws(SystemError) {
        self.agent = agent
        thread = try SerialThread("sel-follow")
    }

    /// The revision that is in force, flows included.
    var applied: UInt64 { progress.withLock { $0.applied } }

    /// Puts a topology in force, now.
    func begin(_ state: ClusterState) {
        agent.apply(state.topology)
        progress.withLock { $0.applied = state.topology.revision }
    }

    /// There is a new topology; `latest` gives the newest when its turn comes.
    func follow(_ latest: @escaping @Sendable () -> ClusterState) {
        let isFirst = progress.withLock { progress in
            defer { progress.isQueued = true }
            return !progress.isQueued
        }
        guard isFirst else { return }
        thread.add { [self] in
            if isStorm { rest() }
            progress.withLock { $0.isQueued = false }
            let began = monotonicNanoseconds()
            let topology = latest().topology
            agent.apply(topology)
            lastEnd = monotonicNanoseconds()
            lastDuration = lastEnd - began
            let ready = progress.withLock { progress in
                progress.applied = topology.revision
                let ready = progress.waiters.filter { $0.revision <= topology.revision }
                progress.waiters.removeAll { $0.revision <= topology.revision }
                return ready
            }
            for waiter in ready { waiter.continuation.resume(returning: true) }
            if !hasLingering { endLingering() }
        }
    }

    /// Has the agent let go of interfaces whose ports went, when it is time.
    private func endLingering() {
        let due = agent.endLingering()
        hasLingering = due != nil
        guard let due else { return }
        Task { [self] in
            let now = monotonicNanoseconds()
            try? await Task.sleep(for: .nanoseconds(due > now ? due - now : 0))
            thread.add { [self] in endLingering() }
        }
    }

    /// Whether the last topology was put in force just now.
    private var isStorm: Bool { lastEnd != 0 && monotonicNanoseconds() - lastEnd < Follower.longestRest }

    /// Rests three times as long as the last one took, in small steps: somebody may begin to wait.
    private func rest() {
        let until = lastEnd + max(min(3 * lastDuration, Follower.longestRest), Follower.shortestRest)
        while monotonicNanoseconds() < until, progress.withLock({ $0.waiters.isEmpty }) { usleep(500) }
    }

    /// Waits until a revision is in force; false when the time is over.
    func wait(for revision: UInt64, seconds: Double) async -> Bool {
        let timeout = Mutex<Task<Void, Never>?>(nil)
        defer { timeout.withLock { $0?.cancel() } }
        return await withCheckedContinuation { continuation in
            let number: UInt64? = progress.withLock { progress in
                if progress.applied >= revision { return nil }
                progress.next += 1
                progress.waiters.append((revision, continuation, progress.next))
                return progress.next
            }
            guard let number else { return continuation.resume(returning: true) }
            let task = Task { [self] in
                try? await Task.sleep(for: .seconds(seconds))
                let late = progress.withLock { progress in
                    let at = progress.waiters.firstIndex { $0.number == number }
                    return at.map { progress.waiters.remove(at: $0) }
                }
                late?.continuation.resume(returning: false)
            }
            timeout.withLock { $0 = task }
        }
    }
}
