// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// How two nodes find out what they know differently, and bring each other up to date, by questions and answers over a
/// connection that loses nothing.
///
/// One asks with the sums of its buckets; the other answers with its rows of the buckets that differ, a part at a time. The
/// first takes them in and offers its own rows of those buckets. What changed in the last moments differs because it is on
/// its way, and is left out unless everything is to be compared.
extension StateTable {
    /// The sums of this host's tables, as a question.
    ///
    /// - Parameter isFull: whether what changed just now is compared, too.
    public func question(isFull: Bool, now: UInt64) -> [UInt8] {
        var out = ByteWriter()
        out.flag(isFull)
        for kind in RowKind.allCases {
            let digest = table(kind).digest
            out.number(kind.rawValue)
            var entries: [(UInt16, UInt64?)] = []
            for bucket in digest.sums.indices {
                if !isFull, now < digest.changed[bucket] &+ StateLimits.settledNanoseconds {
                    entries.append((UInt16(bucket), nil))
                } else if digest.sums[bucket] != 0 {
                    entries.append((UInt16(bucket), digest.sums[bucket]))
                }
            }
            out.list(entries) { out, entry in
                out.number(entry.0)
                out.flag(entry.1 != nil)
                if let sum = entry.1 { out.number(sum) }
            }
        }
        return out.bytes
    }

    /// Buckets that differ from a question's, by kind.
    private func differing(
        from question: inout ByteReader, _ isFull: Bool, now: UInt64
    ) throws(MalformedBytes) -> [(RowKind, [Bool])] {
        var result: [(RowKind, [Bool])] = []
        // A host of another version has other kinds.
        while !question.isAtEnd {
            let number: UInt8 = try question.number()
            var theirs = [UInt64?](repeating: 0, count: TableDigest.buckets)
            let entries = try question.list { reader throws(MalformedBytes) -> (UInt16, UInt64?) in
                let bucket: UInt16 = try reader.number()
                return (bucket, try reader.flag() ? try reader.number(UInt64.self) : nil)
            }
            for (bucket, sum) in entries {
                guard bucket < TableDigest.buckets else { throw MalformedBytes("bucket \(bucket)") }
                theirs[Int(bucket)] = sum
            }
            guard let kind = RowKind(rawValue: number) else { continue }
            let digest = table(kind).digest
            var buckets = [Bool](repeating: false, count: TableDigest.buckets)
            for bucket in buckets.indices {
                guard let their = theirs[bucket], their != digest.sums[bucket],
                    isFull || now >= digest.changed[bucket] &+ StateLimits.settledNanoseconds
                else { continue }
                buckets[bucket] = true
            }
            result.append((kind, buckets))
        }
        return result
    }

    /// Answers a question: which buckets differ, this host's rows in them from a place on, and where to go on.
    ///
    /// - Parameter cursor: 0 to begin; otherwise what the last answer said.
    public func answer(_ question: [UInt8], from cursor: UInt64, now: UInt64) throws(MalformedBytes) -> [UInt8] {
        var reader = ByteReader(question)
        let isFull = try reader.flag()
        let differing = try differing(from: &reader, isFull, now: now)
        var out = ByteWriter()
        // Which buckets: the asker offers its own rows of them.
        out.list(differing) { out, part in
            out.number(part.0.rawValue)
            out.list(part.1.indices.filter { part.1[$0] }) { out, bucket in out.number(UInt16(bucket)) }
        }
        let (rows, next) = rows(of: differing, from: cursor, now: now)
        out.number(next)
        out.data(rows)
        return out.bytes
    }

    /// Rows of some buckets from a place on; where to go on, 0 at the end.
    private func rows(
        of parts: [(RowKind, [Bool])], from cursor: UInt64, now: UInt64
    ) -> (rows: [UInt8], next: UInt64) {
        var out = ByteWriter()
        let first = UInt8(truncatingIfNeeded: cursor >> 32)
        for (kind, buckets) in parts where kind.rawValue >= first && buckets.contains(true) {
            let place = kind.rawValue == first ? Int32(truncatingIfNeeded: UInt32(truncatingIfNeeded: cursor)) : 0
            let next = table(kind).encode(
                buckets: buckets, all: false, from: place, bytes: StateLimits.answerBytes, now: now, into: &out)
            if let next { return (out.bytes, UInt64(kind.rawValue) << 32 | UInt64(UInt32(bitPattern: next))) }
        }
        return (out.bytes, 0)
    }

    /// What an answer says: rows to take in, where to go on (0: nowhere), and which buckets this host's rows are wanted of.
    public struct Answer: Sendable {
        /// Rows of the other host.
        public var rows: [UInt8]
        /// Where to go on; 0 at the end.
        public var next: UInt64
        /// Buckets by kind.
        var buckets: [(RowKind, [Bool])]
        /// Whether nothing differs.
        public var isEqual: Bool { !buckets.contains { $0.1.contains(true) } }
    }

    /// Reads an answer.
    public static func read(answer bytes: [UInt8]) throws(MalformedBytes) -> Answer {
        var reader = ByteReader(bytes)
        let parts = try reader.list { reader throws(MalformedBytes) -> (RowKind, [Bool])? in
            let kind = RowKind(rawValue: try reader.number())
            var buckets = [Bool](repeating: false, count: TableDigest.buckets)
            for bucket in try reader.list({ reader throws(MalformedBytes) in try reader.number(UInt16.self) }) {
                guard bucket < TableDigest.buckets else { throw MalformedBytes("bucket \(bucket)") }
                buckets[Int(bucket)] = true
            }
            return kind.map { ($0, buckets) }
        }
        let next: UInt64 = try reader.number()
        return Answer(rows: try reader.data(), next: next, buckets: parts.compactMap(\.self))
    }

    /// This host's rows of the buckets that an answer names, in parts that each are told as one.
    public func offers(for answer: Answer, now: UInt64) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        var cursor: UInt64 = 0
        repeat {
            let (rows, next) = rows(of: answer.buckets, from: cursor, now: now)
            if !rows.isEmpty { parts.append(rows) }
            cursor = next
        } while cursor != 0
        return parts
    }
}
