// SPDX-License-Identifier: Apache-2.0

/// What one member sends another.
public struct Message: Hashable, Sendable {
    /// The sender.
    public var from: NodeID
    /// Whom it is for.
    public var to: NodeID
    /// The sender's term; of a question before an election and its answer the term that the election would have.
    public var term: Term
    /// What it says.
    public var body: Body

    /// A message.
    public init(from: NodeID, to: NodeID, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.term = term
        self.body = body
    }

    /// What a message says.
    public enum Body: Hashable, Sendable {
        /// Would you vote for me? Nothing is remembered.
        case preVote(last: LogPosition)
        /// The answer.
        case preVoteAnswer(granted: Bool)
        /// Vote for me. `isForced` when the leader itself asked for the election.
        case vote(last: LogPosition, isForced: Bool)
        /// The answer.
        case voteAnswer(granted: Bool)
        /// Entries that follow `previous`.
        case append(previous: LogPosition, entries: [Entry], commit: LogIndex)
        /// The log is durable and the same as the leader's up to here.
        case appended(LogIndex)
        /// The log has no such entry as `previous`; `hint` is the last that may be the same.
        case refused(previous: LogIndex, hint: LogPosition)
        /// I lead. `round` numbers heartbeats for reads.
        case heartbeat(commit: LogIndex, round: UInt64)
        /// You do.
        case heartbeatAnswer(round: UInt64)
        /// A piece of a snapshot, from `offset`; an empty piece asks how far the receiver is.
        case chunk(SnapshotInfo, offset: UInt64, data: [UInt8], isLast: Bool)
        /// How far the receiver is with it.
        case chunkAnswer(LogPosition, next: UInt64)
        /// A reader asks for an index that its read must wait for.
        case read(UInt64)
        /// The answer; `nil` when the one who was asked does not lead.
        case readAnswer(UInt64, LogIndex?)
        /// Begin an election now: you are to lead.
        case campaign
    }
}
