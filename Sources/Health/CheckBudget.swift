// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// How many checks of one tenant's members a host makes: so many at once and so many a second, whatever its monitors ask for.
/// What is more comes later.
public final class CheckBudget: Sendable {
    private struct State {
        var running = 0
        var tokens = Double(CheckBudget.perSecond) / 10
        var last: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Checks at once.
    public static let atOnce = 512
    /// Checks a second.
    public static let perSecond = 2000

    /// A budget of which nothing is spent.
    public init() {}

    /// Takes leave for one check, which is given back with ``end()``.
    ///
    /// - Parameter now: nanoseconds of a clock that only goes on.
    /// - Returns: whether it may begin.
    public func begin(now: UInt64) -> Bool {
        state.withLock { state in
            let most = Double(CheckBudget.perSecond) / 10
            let passed = now > state.last ? Double(now - state.last) / 1e9 : 0
            state.tokens = min(most, state.tokens + passed * Double(CheckBudget.perSecond))
            state.last = max(state.last, now)
            guard state.running < CheckBudget.atOnce, state.tokens >= 1 else { return false }
            state.tokens -= 1
            state.running += 1
            return true
        }
    }

    /// A check is over.
    public func end() { state.withLock { $0.running -= 1 } }
}
