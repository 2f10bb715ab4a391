// SPDX-License-Identifier: Apache-2.0

/// One operation of a client on a register, with the time from asking to the answer.
public struct Operation: Sendable, Hashable {
    /// What was done.
    public enum Kind: Sendable, Hashable {
        /// Wrote a value that nobody else ever writes.
        case write(UInt64)
        /// Read a value; 0 before the first write.
        case read(UInt64)
    }
    /// What.
    public var kind: Kind
    /// When it was asked for.
    public var begin: UInt64
    /// When the answer came; `.max` when none did, so that it may have happened at any later time, or never.
    public var end: UInt64

    /// An operation.
    public init(kind: Kind, begin: UInt64, end: UInt64) {
        self.kind = kind
        self.begin = begin
        self.end = end
    }
}

/// Whether a history of one register can be told as one operation after the other, each somewhere between its asking and its
/// answer (Wing and Gong, with the memory of Lowe).
public func isLinearizable(_ history: [Operation]) -> Bool {
    // A read without an answer says nothing.
    let operations = history.filter { operation in
        if case .read = operation.kind { return operation.end != .max }
        return true
    }.sorted { ($0.begin, $0.end) < ($1.begin, $1.end) }
    var seen: Set<[UInt64]> = []
    let words = (operations.count + 63) / 64
    var done = [UInt64](repeating: 0, count: words)
    var remaining = operations.count { $0.end != .max }

    func search(_ value: UInt64, _ from: Int) -> Bool {
        if remaining == 0 { return true }
        // An operation may come next if none that is not done ended before it began.
        var deadline = UInt64.max
        for index in from..<operations.count where done[index / 64] >> UInt64(index % 64) & 1 == 0 {
            if operations[index].begin > deadline { break }
            deadline = min(deadline, operations[index].end)
        }
        for index in from..<operations.count where done[index / 64] >> UInt64(index % 64) & 1 == 0 {
            let operation = operations[index]
            if operation.begin > deadline { break }
            let next: UInt64
            switch operation.kind {
            case .write(let written): next = written
            case .read(let read):
                if read != value { continue }
                next = value
            }
            done[index / 64] |= 1 << UInt64(index % 64)
            if seen.insert(done + [next]).inserted {
                if operation.end != .max { remaining -= 1 }
                var first = from
                while first < operations.count, done[first / 64] >> UInt64(first % 64) & 1 == 1 { first += 1 }
                if search(next, first) { return true }
                if operation.end != .max { remaining += 1 }
            }
            done[index / 64] &= ~(1 << UInt64(index % 64))
        }
        return false
    }
    return search(0, 0)
}
