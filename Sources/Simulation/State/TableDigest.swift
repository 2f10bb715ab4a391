// SPDX-License-Identifier: Apache-2.0
import Wire

/// Sums of a table's rows, so that two hosts find out what they know differently without telling it all: a sum for each of
/// some buckets that rows fall into by their keys, and how many rows each host began.
///
/// A bucket remembers when it changed last: what changed just now differs because it is on its way.
public struct TableDigest: Sendable {
    /// Buckets of a table.
    public static let buckets = 1024

    /// Sums by bucket.
    public private(set) var sums = [UInt64](repeating: 0, count: buckets)
    /// When each changed last.
    public private(set) var changed = [UInt64](repeating: 0, count: buckets)
    /// Rows and their sum by the number of the host where they began.
    public private(set) var origins: [UInt16: (count: Int, sum: UInt64)] = [:]

    /// No rows.
    public init() {}

    /// The bucket of a key.
    @inline(__always)
    public static func bucket(_ key: UInt64) -> Int { Int(truncatingIfNeeded: key >> 32) & (buckets - 1) }

    /// A row comes.
    @inline(__always)
    public mutating func add(key: UInt64, value: UInt64, origin: UInt16, _ now: UInt64) {
        toggle(key, value, origin, 1, now)
    }

    /// A row goes, or is about to say something else.
    @inline(__always)
    public mutating func remove(key: UInt64, value: UInt64, origin: UInt16, _ now: UInt64) {
        toggle(key, value, origin, -1, now)
    }

    private mutating func toggle(_ key: UInt64, _ value: UInt64, _ origin: UInt16, _ count: Int, _ now: UInt64) {
        let sum = mix(key, value ^ 0x6c62_272e_07bb_0142)
        let bucket = TableDigest.bucket(key)
        sums[bucket] ^= sum
        changed[bucket] = now
        let known = origins[origin] ?? (0, 0)
        origins[origin] = known.count + count == 0 ? nil : (known.count + count, known.sum ^ sum)
    }
}

extension TableDigest {
    /// The key of a connection: the same on every host, for both directions.
    public static func key(_ tuple: ConnectionTuple, _ zone: Tag) -> UInt64 {
        mix(tuple.hash(0x5e1f_a6e0_0000_0001), zone.bits)
    }

    mutating func add(_ record: ConnectionTable.Record, _ now: UInt64) {
        guard record.life.isShared else { return }
        add(key: TableDigest.key(record.tuple, record.zone), value: value(record), origin: record.stamp.origin, now)
    }

    mutating func remove(_ record: ConnectionTable.Record, _ now: UInt64) {
        guard record.life.isShared else { return }
        remove(key: TableDigest.key(record.tuple, record.zone), value: value(record), origin: record.stamp.origin, now)
    }

    private func value(_ record: ConnectionTable.Record) -> UInt64 {
        mix(record.stamp.bits ^ record.tuple.directedHash(1), UInt64(record.life.milestones) | 1 << 32)
    }

    mutating func add(_ record: TranslationTable.Record, _ now: UInt64) {
        guard record.life.isShared else { return }
        add(key: TableDigest.key(record.original, record.zone), value: value(record), origin: record.stamp.origin, now)
    }

    mutating func remove(_ record: TranslationTable.Record, _ now: UInt64) {
        guard record.life.isShared else { return }
        remove(
            key: TableDigest.key(record.original, record.zone), value: value(record), origin: record.stamp.origin, now)
    }

    private func value(_ record: TranslationTable.Record) -> UInt64 {
        let sides = mix(record.original.directedHash(1), record.reply.directedHash(2))
        return mix(record.stamp.bits ^ sides, UInt64(record.life.milestones) | 1 << 32)
    }
}
