// SPDX-License-Identifier: Apache-2.0
import Gossip
import Synchronization

/// The entries of the log that one packet made.
public struct ToldEntries: Sendable {
    /// Their numbers, ascending; those of other packets may lie between them.
    private(set) var numbers: [UInt64] = []
    /// Whether there are none.
    public var isEmpty: Bool { numbers.isEmpty }

    /// None.
    public init() {}

    mutating func add(_ entry: UInt64) { numbers.append(entry) }

    /// Ranges that hold them all, none longer than so many.
    func ranges(atMost length: Int) -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        for number in numbers {
            if let last = ranges.last, number >= last.lowerBound, number - last.lowerBound < UInt64(length) {
                ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, number + 1)
            } else {
                ranges.append(number..<number + 1)
            }
        }
        return ranges
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
