// SPDX-License-Identifier: Apache-2.0

/// What happens to a member: the whole world that ``Raft`` knows.
public enum Input: Sendable {
    /// One tick of time passed.
    case tick
    /// A message came.
    case receive(Message)
    /// The connection to a member broke, as when its process ends: if it led, it may be worth asking for an election soon.
    case lost(NodeID)
    /// Commands to add to the log, under a number by which they are answered.
    case propose([[UInt8]], number: UInt64)
    /// The members are to become these.
    case change([Members.Member], number: UInt64)
    /// An index that a linearizable read must wait for is wanted.
    case read(number: UInt64)
    /// Another voter is to lead.
    case transfer(to: NodeID, number: UInt64)
    /// The write of this number is durable, and with it all before it.
    case written(UInt64)
    /// The state machine has a snapshot of itself to send to a member.
    case opened(SnapshotInfo, to: NodeID)
    /// A piece of it.
    case chunk(to: NodeID, LogPosition, offset: UInt64, data: [UInt8], isLast: Bool)
    /// It can't be read any more; another has to be opened.
    case closed(to: NodeID)
    /// The snapshot that was received is in force, durably.
    case installed(SnapshotInfo)
    /// The state machine is durable up to here: entries before may go, but for those that laggards need.
    case compact(LogIndex)
    /// The disk failed: what was not acknowledged may be lost, what was must not be claimed again.
    case diskFailed
    /// The member can't go on, for the reason given: its state machine does not understand an entry, or its disk failed.
    case halt(String)
}

/// What a member has to do. In order; writes may be done while messages go out.
public enum Effect: Sendable {
    /// To be made durable, in order of number, then to be answered with ``Input/written(_:)``.
    case write(Write)
    /// To be sent, or lost.
    case send(Message)
    /// Committed and durable: for the state machine, each once and in order.
    case apply([Entry])
    /// Proposals or a change were taken into the log from this place on. Whether they get committed shows when they are
    /// applied; a place that is applied with another term shows that they were not.
    case accepted(number: UInt64, first: LogPosition)
    /// They were not.
    case refused(number: UInt64, Refusal)
    /// A read may be served as soon as this is applied.
    case readable(number: UInt64, LogIndex)
    /// A transfer of leadership ended; the role says how.
    case transferred(number: UInt64)
    /// The role, the term or the leader changed.
    case changed(Status)
    /// A snapshot for a member is wanted.
    case openSnapshot(to: NodeID)
    /// A piece of it is wanted.
    case readChunk(to: NodeID, LogPosition, offset: UInt64, limit: Int)
    /// The member needs no more of it.
    case closeSnapshot(to: NodeID)
    /// A piece of a snapshot came; what there was of another is worthless.
    case storeChunk(SnapshotInfo, offset: UInt64, data: [UInt8])
    /// The snapshot is whole: the log is to be emptied, the state replaced, durably.
    case install(SnapshotInfo)
    /// Entries up to the snapshot's place are not needed any more. Harmless when it is late.
    case discard(SnapshotInfo)
    /// The member must not go on: what it was told can't be, or its disk failed.
    case stop(String)
}

/// Something to make durable, whole or not at all.
public struct Write: Hashable, Sendable {
    /// Counts writes.
    public var number: UInt64
    /// The hard state, if it changed.
    public var hard: HardState?
    /// Entries; those that the log has from the first one's place on go.
    public var entries: [Entry]

    /// A write.
    public init(number: UInt64, hard: HardState? = nil, entries: [Entry] = []) {
        self.number = number
        self.hard = hard
        self.entries = entries
    }
}

/// Why something was refused.
public enum Refusal: Hashable, Sendable {
    /// Another member leads, or nobody known does.
    case notLeader(NodeID?)
    /// Too much is uncommitted.
    case busy
    /// The leader is handing over.
    case transferring
    /// The members are changing already, or the leader has not committed in its term yet.
    case changing
    /// There would be nobody to vote.
    case noVoters
    /// The one who is to lead does not vote, or leads already.
    case notVoter
    /// The member stopped.
    case stopped
    /// The leader's version does not understand the command.
    case unreadable
    /// Only a member that votes may propose it.
    case forbidden
}

/// What a member is to the outside.
public struct Status: Hashable, Sendable {
    /// What a member is in the election of a leader.
    public enum Role: String, Hashable, Sendable {
        /// Follows a leader, or waits for one.
        case follower
        /// Asks whether it would be elected.
        case preCandidate
        /// Stands for election.
        case candidate
        /// Leads.
        case leader
        /// Takes no part any more.
        case stopped
    }
    /// What it is.
    public var role: Role
    /// Its term.
    public var term: Term
    /// Who leads, as far as it knows.
    public var leader: NodeID?

    /// A status.
    public init(role: Role, term: Term, leader: NodeID?) {
        self.role = role
        self.term = term
        self.leader = leader
    }
}

/// A small generator with a seed (SplitMix64): elections draw their times from it, and a life can be lived again.
struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
