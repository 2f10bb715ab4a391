// SPDX-License-Identifier: Apache-2.0
import Gossip
import Synchronization

/// The entries of the log that one packet made, as ranges that hold them: other packets' entries may lie between them. A packet
/// makes few, and nothing is allocated for them.
public struct ToldEntries: Sendable {
    /// Entries that a range spans at most: what one datagram holds.
    static let longest: UInt64 = 12

    private var first: Range<UInt64> = 0..<0
    private var second: Range<UInt64> = 0..<0
    private var third: Range<UInt64> = 0..<0
    private var fourth: Range<UInt64> = 0..<0

    /// None.
    public init() {}

    /// Whether there are none.
    public var isEmpty: Bool { first.isEmpty }

    /// Has something done with each range, ascending.
    func forEachRange(_ body: (Range<UInt64>) -> Void) {
        if !first.isEmpty { body(first) }
        if !second.isEmpty { body(second) }
        if !third.isEmpty { body(third) }
        if !fourth.isEmpty { body(fourth) }
    }

    /// Adds an entry, which comes after the others. What is more than four ranges hold goes with everybody's.
    mutating func add(_ entry: UInt64) {
        if ToldEntries.add(entry, to: &first) || ToldEntries.add(entry, to: &second) { return }
        if ToldEntries.add(entry, to: &third) { return }
        _ = ToldEntries.add(entry, to: &fourth)
    }

    private static func add(_ entry: UInt64, to range: inout Range<UInt64>) -> Bool {
        if range.isEmpty {
            range = entry..<entry + 1
        } else if entry >= range.lowerBound, entry - range.lowerBound < longest {
            range = range.lowerBound..<max(range.upperBound, entry + 1)
        } else {
            return false
        }
        return true
    }
}

/// The log of what this host tells, and the channels to the others. Taken with a table's lock held, so that a row and its
/// entry are one; never the other way round.
final class Telling: Sendable {
    let replicator = Mutex(Replicator())

    /// Takes note that a row is to be told; its entry.
    func tell(_ handle: RowHandle, _ isShared: Bool, _ told: inout ToldEntries) -> UInt64 {
        let entry = replicator.withLock { $0.append(handle.bits, isShared: isShared) }
        told.add(entry)
        return entry
    }
}
