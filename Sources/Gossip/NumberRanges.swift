// SPDX-License-Identifier: Apache-2.0

/// Numbers that are missing, as ranges in order. There are few of them: what is lost is lost in runs.
public struct NumberRanges: Sendable, Equatable {
    /// The ranges, ascending, neither touching nor overlapping.
    public private(set) var ranges: [Range<UInt64>] = []

    /// No numbers.
    public init() {}

    /// Whether there are none.
    public var isEmpty: Bool { ranges.isEmpty }
    /// How many numbers there are.
    public var count: UInt64 { ranges.reduce(0) { $0 &+ ($1.upperBound - $1.lowerBound) } }

    /// Adds numbers that are above all that are there.
    public mutating func append(_ range: Range<UInt64>) {
        if range.isEmpty { return }
        precondition(range.lowerBound >= ranges.last?.upperBound ?? 0, "ranges are added in order")
        if let last = ranges.last, last.upperBound == range.lowerBound {
            ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
        } else {
            ranges.append(range)
        }
    }

    /// Where a number is.
    private func place(of number: UInt64) -> Int? {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound <= number { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].contains(number) ? low : nil
    }

    /// Takes a number out; whether it was there.
    public mutating func remove(_ number: UInt64) -> Bool {
        guard let place = place(of: number) else { return false }
        let range = ranges[place]
        let halves = [range.lowerBound..<number, number + 1..<range.upperBound].filter { !$0.isEmpty }
        ranges.replaceSubrange(place...place, with: halves)
        return true
    }

    /// Takes out all numbers up to one; whether there were any.
    public mutating func remove(upTo end: UInt64) -> Bool {
        guard let first = ranges.first, first.lowerBound < end else { return false }
        while let range = ranges.first, range.lowerBound < end {
            ranges.removeFirst()
            if range.upperBound > end { ranges.insert(end..<range.upperBound, at: 0) }
        }
        return true
    }
}
