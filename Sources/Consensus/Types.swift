// SPDX-License-Identifier: Apache-2.0

/// Names a member for its whole life: 64 random bits, never given twice. A node with a wiped disk is another member.
public struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The bits; 0 names nobody.
    public let value: UInt64

    /// An id of its bits.
    public init(_ value: UInt64) { self.value = value }

    /// In order of bits: the order in which everything that goes over members goes over them, on every node alike.
    public static func < (a: NodeID, b: NodeID) -> Bool { a.value < b.value }

    /// Hexadecimal.
    public var description: String { String(value, radix: 16) }
}

/// Counts elections; 0 before the first.
public typealias Term = UInt64
/// A place in the log; the first entry has 1.
public typealias LogIndex = UInt64

/// Where a log ends, or any other place in it.
public struct LogPosition: Hashable, Sendable, Comparable {
    /// Term of the entry there.
    public var term: Term
    /// Its index.
    public var index: LogIndex

    /// A place.
    public init(term: Term, index: LogIndex) {
        self.term = term
        self.index = index
    }

    /// Which of two logs is more up to date (Raft, section 5.4.1).
    public static func < (a: LogPosition, b: LogPosition) -> Bool { (a.term, a.index) < (b.term, b.index) }

    /// Before the first entry.
    public static let zero = LogPosition(term: 0, index: 0)
}

/// One entry of the log.
public struct Entry: Hashable, Sendable {
    /// What it holds.
    public enum Content: Hashable, Sendable {
        /// Nothing: what a new leader begins its term with.
        case nothing
        /// A command of the state machine, opaque here.
        case command([UInt8])
        /// The members from here on.
        case members(Members)
    }
    /// Term of the leader that made it.
    public var term: Term
    /// Its place.
    public var index: LogIndex
    /// What it holds.
    public var content: Content

    /// An entry.
    public init(term: Term, index: LogIndex, content: Content) {
        self.term = term
        self.index = index
        self.content = content
    }

    /// About what it takes on the wire and on disk, bytes.
    public var size: Int {
        switch content {
        case .nothing: 32
        case .command(let bytes): 32 + bytes.count
        case .members(let members): 32 + 16 * (members.list.count + members.outgoing.count)
        }
    }

    /// Where it is.
    public var position: LogPosition { LogPosition(term: term, index: index) }
}

/// What a member must never forget besides its log.
public struct HardState: Hashable, Sendable {
    /// The latest term that it knows.
    public var term: Term
    /// Whom it voted for in that term.
    public var vote: NodeID?

    /// A state; a new member's unless said.
    public init(term: Term = 0, vote: NodeID? = nil) {
        self.term = term
        self.vote = vote
    }
}

/// What a snapshot stands for; the bytes are the state machine's.
public struct SnapshotInfo: Hashable, Sendable {
    /// The last entry that is in it.
    public var position: LogPosition
    /// The members as of that entry.
    public var members: Members

    /// A description.
    public init(position: LogPosition, members: Members) {
        self.position = position
        self.members = members
    }
}

/// Bounds and times. A tick is whatever the driver makes it; 10 ms is meant.
public struct RaftOptions: Sendable {
    /// Ticks without a leader before an election begins; each time between one and two of it, at random.
    public var electionTicks = 100
    /// Ticks between heartbeats.
    public var heartbeatTicks = 10
    /// Bytes of entries in one message; one entry may be more.
    public var appendBytes = 256 << 10
    /// Messages with entries that are under way to one member.
    public var inflightMessages = 64
    /// Bytes of entries that are under way to one member.
    public var inflightBytes = 4 << 20
    /// Bytes of entries that a leader holds uncommitted; past it proposals are refused.
    public var uncommittedBytes = 64 << 20
    /// Bytes of a snapshot in one message.
    public var chunkBytes = 256 << 10
    /// Entries that are kept before a snapshot, for members that lag a little.
    public var trailingEntries: UInt64 = 5000
    /// Bytes of them; fewer entries are kept where they are large.
    public var trailingBytes = 64 << 20
    /// How far behind a member that joins may be to become a voter, entries.
    public var promotionLag: UInt64 = 64
    /// How long it must have been so, ticks.
    public var promotionTicks = 50
    /// What a fault in this list does is put in, so that tests can show that they find it.
    public var faults: Set<Fault> = []

    /// The defaults.
    public init() {}
}
