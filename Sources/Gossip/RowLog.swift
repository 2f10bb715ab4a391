// SPDX-License-Identifier: Apache-2.0

/// What one node has to tell, in the order in which it came: for each entry where the row is, not what it says. A row that
/// changed again has a later entry, and is sent as it is then.
///
/// It keeps the latest entries; who has missed older ones is brought up to date by comparing tables.
struct RowLog: Sendable {
    /// Where a row is; `nil` where nothing is to be sent any more.
    private var handles: [UInt64] = []
    /// A bit a place: whether the row is for everybody, or only for those it was pushed to.
    private var shared: [Bool] = []
    private let limit: Int
    /// The number of the first entry that is kept.
    private(set) var first: UInt64 = 1
    /// The number of the next entry.
    private(set) var end: UInt64 = 1

    init(limit: Int) {
        precondition(limit & (limit - 1) == 0, "a power of two")
        self.limit = limit
    }

    @inline(__always)
    private func place(_ number: UInt64) -> Int { Int(truncatingIfNeeded: number) & (limit - 1) }

    mutating func append(_ handle: UInt64, isShared: Bool) -> UInt64 {
        let number = end
        let place = place(number)
        // It grows as it is used; until it is full places are numbers.
        while handles.count <= place {
            handles.append(0)
            shared.append(false)
        }
        handles[place] = handle
        shared[place] = isShared
        end += 1
        if end - first > UInt64(limit) { first = end - UInt64(limit) }
        return number
    }

    func handle(_ number: UInt64) -> UInt64? { number >= first && number < end ? handles[place(number)] : nil }
    func isShared(_ number: UInt64) -> Bool { number >= first && number < end && shared[place(number)] }
}
