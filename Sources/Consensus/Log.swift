// SPDX-License-Identifier: Apache-2.0

/// The log after its last snapshot, in memory. What is durable of it the core tracks; entries before ``first`` are in the
/// snapshot.
struct Log: Sendable {
    /// What came before the first entry.
    private(set) var base: SnapshotInfo
    private var entries: [Entry] = []
    /// Places of the entries that change members, in order.
    private var memberIndexes: [LogIndex] = []
    /// Members of entries that were taken back; see ``Fault/keepsTakenBackMembers``.
    private var stale: Members?

    init(base: SnapshotInfo, entries: [Entry]) {
        self.base = base
        append(entries)
    }

    var first: LogIndex { base.position.index + 1 }
    var last: LogPosition { entries.last?.position ?? base.position }
    var lastIndex: LogIndex { last.index }

    /// The term of a place; `nil` where the log does not know it.
    func term(at index: LogIndex) -> Term? {
        if index == base.position.index { return base.position.term }
        guard index >= first, index <= lastIndex else { return nil }
        return entries[Int(index - first)].term
    }

    subscript(_ index: LogIndex) -> Entry { entries[Int(index - first)] }

    /// Entries from a place on, at least one and as many more as stay within a number of bytes.
    func slice(from index: LogIndex, bytes: Int) -> [Entry] {
        guard index >= first, index <= lastIndex else { return [] }
        var size = 0
        var end = Int(index - first)
        let start = end
        while end < entries.count {
            size += entries[end].size
            if size > bytes, end > start { break }
            end += 1
        }
        return Array(entries[start..<end])
    }

    func slice(_ range: ClosedRange<LogIndex>) -> ArraySlice<Entry> {
        entries[Int(range.lowerBound - first)...Int(range.upperBound - first)]
    }

    /// The last place that may go when so many bytes of entries up to another are to stay; the base's when all may stay.
    func index(keeping bytes: Int, upTo end: LogIndex) -> LogIndex {
        var size = 0
        var at = min(end, lastIndex)
        while at >= first {
            size += self[at].size
            if size > bytes { return at }
            at -= 1
        }
        return base.position.index
    }

    mutating func append(_ more: [Entry]) {
        for entry in more {
            precondition(entry.index == lastIndex + 1, "a log has no holes")
            if case .members = entry.content {
                memberIndexes.append(entry.index)
                stale = nil
            }
            entries.append(entry)
        }
    }

    /// Takes back the entries from a place on.
    mutating func truncate(from index: LogIndex, keepsMembers: Bool = false) {
        guard index <= lastIndex else { return }
        if keepsMembers { stale = members }
        entries.removeLast(Int(lastIndex - index + 1))
        memberIndexes.removeAll { $0 >= index }
    }

    /// Forgets the entries up to a place.
    mutating func compact(to info: SnapshotInfo) {
        guard info.position.index > base.position.index else { return }
        entries.removeFirst(min(entries.count, Int(info.position.index - base.position.index)))
        memberIndexes.removeAll { $0 <= info.position.index }
        base = info
    }

    /// Begins anew behind a snapshot.
    mutating func restart(from info: SnapshotInfo) {
        entries.removeAll()
        memberIndexes.removeAll()
        base = info
        stale = nil
    }

    // MARK: - Members

    /// The members in force: those of the last entry that says so, committed or not.
    var members: Members { stale ?? memberIndexes.last.map { members(at: $0) } ?? base.members }
    /// Where they are from.
    var membersIndex: LogIndex { memberIndexes.last ?? base.position.index }

    /// The members as of a place.
    func members(upTo index: LogIndex) -> Members {
        memberIndexes.last { $0 <= index }.map { members(at: $0) } ?? base.members
    }

    /// Whether a member voted in any configuration that may be in force, for all that is known: the one at a committed place
    /// and those after it.
    func mayVote(_ id: NodeID, since commit: LogIndex) -> Bool {
        members(upTo: commit).isVoter(id) || memberIndexes.contains { $0 > commit && members(at: $0).isVoter(id) }
    }

    /// `memberIndexes` names places of such entries only: it is kept with every entry that comes and goes.
    private func members(at index: LogIndex) -> Members {
        guard case .members(let members) = self[index].content else { preconditionFailure("no members at \(index)") }
        return members
    }

    /// The last place at or before `index` whose term is at most `term`: where a log that differs may begin to agree.
    func lastPlace(upTo index: LogIndex, term: Term) -> LogPosition {
        var at = min(index, lastIndex)
        while at > base.position.index, let have = self.term(at: at), have > term { at -= 1 }
        return LogPosition(term: self.term(at: at) ?? 0, index: at)
    }
}
