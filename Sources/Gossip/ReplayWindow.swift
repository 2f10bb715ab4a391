// SPDX-License-Identifier: Apache-2.0

/// Tells datagrams that came before from those that did not, by their counter (RFC 4303 section 3.4.3).
public struct ReplayWindow: Sendable {
    /// How far back counters are remembered; what is older is taken for a replay. Packet threads send side by side, and a
    /// path may reorder more.
    public static let size: UInt64 = 4096

    /// The highest counter seen, plus one.
    private var end: UInt64 = 0
    /// One word more than the window has, since it seldom begins with a word.
    private var seen = [UInt64](repeating: 0, count: Int(size / 64) + 1)

    /// Nothing was seen.
    public init() {}

    /// Whether a counter would be taken: to be asked before the datagram is known to be genuine.
    public func accepts(_ counter: UInt64) -> Bool {
        if counter >= end { return counter != .max }
        guard end - counter <= ReplayWindow.size else { return false }
        return seen[Int(counter / 64 % UInt64(seen.count))] & 1 << (counter % 64) == 0
    }

    /// Takes note of the counter of a genuine datagram; false when it came before.
    public mutating func take(_ counter: UInt64) -> Bool {
        guard accepts(counter) else { return false }
        if counter >= end {
            // Words that the window moves into are of counters long past.
            let first = end / 64 + (end % 64 == 0 ? 0 : 1)
            let last = counter / 64
            if last >= first {
                if last - first >= UInt64(seen.count) {
                    for place in seen.indices { seen[place] = 0 }
                } else {
                    for word in first...last { seen[Int(word % UInt64(seen.count))] = 0 }
                }
            }
            end = counter + 1
        }
        seen[Int(counter / 64 % UInt64(seen.count))] |= 1 << (counter % 64)
        return true
    }
}
