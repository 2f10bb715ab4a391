// SPDX-License-Identifier: Apache-2.0
import Gossip
import Synchronization

/// The entries of the log that one packet made.
public struct ToldEntries: Sendable {
    /// From the first to the last; others may lie between them.
    public private(set) var range: Range<UInt64>?

    /// None.
    public init() {}

    mutating func add(_ entry: UInt64) {
        range = range.map { min($0.lowerBound, entry)..<max($0.upperBound, entry + 1) } ?? entry..<entry + 1
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
