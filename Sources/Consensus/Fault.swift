// SPDX-License-Identifier: Apache-2.0

/// Bugs that real implementations had. Put in, each must be found by the simulation of whole clusters: that is how we know
/// that it would find them in what we write. No node ever runs with one.
public enum Fault: String, Hashable, Sendable, CaseIterable {
    /// Those that a life meets too seldom; each has a test of its own that plays its scene.
    public static let seldom: Set<Fault> = [
        .commitsOldTerms, .countsOwnVoteBeforeWriting, .keepsTakenBackMembers, .resignsTooSoon,
    ]

    /// Commits entries of earlier terms by counting (the figure 8 of the Raft paper).
    case commitsOldTerms
    /// Grants votes without comparing logs.
    case votesForShorterLogs
    /// Forgets whom it voted for when it restarts, because the vote is not written before it is sent.
    case votesBeforeWriting
    /// Counts its own vote before it is durable: the only voter leads a term, forgets it, and leads it again.
    case countsOwnVoteBeforeWriting
    /// Acknowledges entries before they are durable.
    case acknowledgesBeforeWriting
    /// Counts itself towards a quorum after it was removed.
    case countsItselfWhenRemoved
    /// Takes the acknowledgement of a write for entries of a later term at the same place.
    case mistakesOldWrites
    /// A leader that starts answers reads before it has committed in its own term.
    case readsBeforeFirstCommit
    /// Answers reads without asking whether it still leads.
    case readsWithoutAsking
    /// Needs only the new majority while two are needed.
    case forgetsOldMajority
    /// Deletes entries after those of a late, shorter message, though they agree.
    case truncatesWhatAgrees
    /// Keeps a configuration whose entry was taken back.
    case keepsTakenBackMembers
    /// Takes a positive answer to the question before an election for a vote.
    case countsPreVotes
    /// The end of a transfer of leadership leaves proposals refused for ever.
    case neverEndsTransfer
    /// A member whose log has been compacted away is never sent a snapshot.
    case neverSendsSnapshot
    /// Bytes under way to a member that restarts are counted for ever.
    case leaksInflight
    /// A member whose log says that it was removed does not stand for election, though that is not committed.
    case resignsTooSoon
    /// Never leaves a joint configuration that an earlier leader entered.
    case staysJoint
    /// Heartbeats tell members of commits past the part of their logs that is known to be the leader's.
    case commitsPastMatch
}
