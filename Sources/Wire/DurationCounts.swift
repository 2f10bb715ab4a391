// SPDX-License-Identifier: Apache-2.0

/// How long something took, counted by how long: what a histogram is made of.
public struct DurationCounts: Sendable, Equatable {
    /// Upper ends of the classes, nanoseconds; what took longer than the last is in one more.
    public static let bounds: [UInt64] = [
        100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000,
        250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
    ]

    /// How many there are of each class, those over the last end at the end.
    public private(set) var counts = [UInt64](repeating: 0, count: DurationCounts.bounds.count + 1)
    /// All together, nanoseconds.
    public private(set) var sum: UInt64 = 0

    /// None.
    public init() {}

    /// How many there are.
    public var count: UInt64 { counts.reduce(0, &+) }

    /// Counts one, or several that took as long.
    ///
    /// - Parameter nanoseconds: how long it took.
    public mutating func add(_ nanoseconds: UInt64, times: UInt64 = 1) {
        let place = DurationCounts.bounds.firstIndex { nanoseconds <= $0 } ?? DurationCounts.bounds.count
        counts[place] &+= times
        sum &+= nanoseconds &* times
    }

    /// Adds what somebody else counted.
    public mutating func add(_ other: DurationCounts) {
        for place in counts.indices { counts[place] &+= other.counts[place] }
        sum &+= other.sum
    }
}
