// SPDX-License-Identifier: Apache-2.0
import Consensus

/// How a replica is.
public struct ReplicaStatus: Sendable {
    /// Who it is.
    public var id: NodeID
    /// Its role, term and leader.
    public var agreement: Status
    /// The last entry of its log.
    public var last: LogPosition
    /// Entries up to here are committed, as far as it knows.
    public var commit: LogIndex
    /// The last entry that its state has.
    public var applied: LogIndex
    /// The first entry that its log still has.
    public var first: LogIndex
    /// The members in force.
    public var members: Members
    /// What a leader knows of the others.
    public var peers: [Peer]
    /// Median and 99th percentile of the latest writes to the log, milliseconds.
    public var writeLatency: (median: Double, p99: Double)?
    /// Seconds since a leader was heard of; `nil` when one is there now.
    public var leaderlessSeconds: Double?
    /// What the transport counts.
    public var counters: TransportCounters
    /// The latest refusals of connections.
    public var refusals: [String]
    /// What an operator should look at.
    public var alarms: [String]
    /// Sums of the state at some entries.
    public var digests: [(index: LogIndex, digest: StateDigest)]
    /// Why it takes no part any more.
    public var stopped: String?

    /// What a leader knows of another member, and how this node reaches it.
    public struct Peer: Sendable {
        /// Who.
        public var id: NodeID
        /// How far its log is the same; `nil` when this node does not lead.
        public var match: LogIndex?
        /// Seconds since it was heard; `nil` when this node does not lead.
        public var silenceSeconds: Double?
        /// How replication goes, in words.
        public var replication: String?
        /// Whether a connection to it is open.
        public var isConnected: Bool
        /// Why not.
        public var problem: String?
    }
}
