// SPDX-License-Identifier: Apache-2.0

/// How a node's flow state and that of the others agree.
public struct ReplicationAnswer: Codable, Sendable {
    /// The channels with another node.
    public struct Peer: Codable, Sendable {
        /// Its name.
        public var name: String
        /// Seconds since it was heard; `nil`: never.
        public var heardSeconds: Double?
        /// Changes that were not sent to it yet.
        public var backlog: UInt64
        /// Datagrams that it did not acknowledge yet.
        public var unacknowledged: UInt64
        /// Datagrams of it that are missing now.
        public var missing: UInt64
        /// Datagrams with changes that were sent to it, and that came from it.
        public var sent: UInt64
        /// Datagrams with changes that came from it.
        public var received: UInt64
        /// Datagrams that it asked for again.
        public var resent: UInt64
        /// Times that it was asked for what was missing.
        public var asked: UInt64
        /// Times that tables were compared with it because it was away or something did not come.
        public var compared: UInt64

        /// Made by the node.
        public init(
            name: String, heardSeconds: Double?, backlog: UInt64, unacknowledged: UInt64, missing: UInt64, sent: UInt64,
            received: UInt64, resent: UInt64, asked: UInt64, compared: UInt64
        ) {
            self.name = name
            self.heardSeconds = heardSeconds
            self.backlog = backlog
            self.unacknowledged = unacknowledged
            self.missing = missing
            self.sent = sent
            self.received = received
            self.resent = resent
            self.asked = asked
            self.compared = compared
        }
    }
    /// Rows of a kind that everybody is to know.
    public struct Kind: Codable, Sendable {
        /// As in `connection`.
        public var kind: String
        /// Rows by the node where they began.
        public var origins: [String: Int]
        /// Sums of the rows by bucket, hexadecimal: equal where nodes know the same.
        public var sums: [String]

        /// Made by the node.
        public init(kind: String, origins: [String: Int], sums: [String]) {
            self.kind = kind
            self.origins = origins
            self.sums = sums
        }
    }
    /// A secret that what nodes tell each other is sealed by.
    public struct Secret: Codable, Sendable {
        /// Its number.
        public var number: UInt8
        /// `installed`, `active` or `retiring`.
        public var state: String
        /// SHA-256 of it.
        public var fingerprint: String
        /// Whether the node has it.
        public var isHere: Bool

        /// Made by the node.
        public init(number: UInt8, state: String, fingerprint: String, isHere: Bool) {
            self.number = number
            self.state = state
            self.fingerprint = fingerprint
            self.isHere = isHere
        }
    }

    /// The channels.
    public var peers: [Peer]
    /// Rows by kind.
    public var kinds: [Kind]
    /// Secrets.
    public var secrets: [Secret]
    /// What is counted, by name, in order.
    public var counters: [[String]]
    /// Why the journal is not written; `nil` when it is.
    public var journalProblem: String?

    /// Made by the node.
    public init(
        peers: [Peer], kinds: [Kind], secrets: [Secret], counters: [[String]], journalProblem: String?
    ) {
        self.peers = peers
        self.kinds = kinds
        self.secrets = secrets
        self.counters = counters
        self.journalProblem = journalProblem
    }
}
