// SPDX-License-Identifier: Apache-2.0

/// Lets through up to a number of events a second, a tenth of a second's worth at once.
struct RateLimit {
    private let perSecond: UInt64
    private var tokens: UInt64
    private var last: UInt64 = 0

    init(perSecond: Int) {
        self.perSecond = UInt64(perSecond)
        tokens = 0
    }

    mutating func take(now: UInt64) -> Bool {
        // In millionths of an event.
        let burst = perSecond * 100_000
        let elapsed = last == 0 ? 1_000_000_000 : min(now &- last, 1_000_000_000)
        last = now
        tokens = min(burst, tokens + elapsed / 1000 * perSecond)
        guard tokens >= 1_000_000 else { return false }
        tokens -= 1_000_000
        return true
    }
}
