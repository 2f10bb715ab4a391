// SPDX-License-Identifier: Apache-2.0

/// The cluster as one node sees it.
public struct ClusterAnswer: Codable, Sendable {
    /// Its id.
    public var cluster: String
    /// Its name.
    public var name: String
    /// The node that answers.
    public var node: String
    /// The leader's name.
    public var leader: String?
    /// The term of the agreement.
    public var term: UInt64
    /// The last entry of this node's log.
    public var lastIndex: UInt64
    /// The first entry that the log still has.
    public var firstIndex: UInt64
    /// Entries up to here are agreed on.
    public var commitIndex: UInt64
    /// The last entry that is in this node's state.
    public var appliedIndex: UInt64
    /// The revision of the topology.
    public var revision: UInt64
    /// The sum of this node's state.
    public var digest: String
    /// Whether voters are changing.
    public var isChanging: Bool
    /// How many voters may fail before the cluster can't agree on anything.
    public var failureTolerance: Int
    /// Median of the latest writes to the log, milliseconds.
    public var writeMedianMilliseconds: Double?
    /// Their 99th percentile.
    public var writeP99Milliseconds: Double?
    /// Seconds since a leader was heard of, when there is none.
    public var leaderlessSeconds: Double?
    /// Frames to other nodes that were dropped because too much waited.
    public var droppedFrames: UInt64
    /// Connections that were refused or turned away.
    public var refusedConnections: UInt64
    /// Why connections were refused lately.
    public var refusals: [String]
    /// What an operator should look at.
    public var alarms: [String]
    /// The nodes, by name.
    public var nodes: [NodeAnswer]

    /// Made by the node.
    public init(
        cluster: String, name: String, node: String, leader: String?, term: UInt64, lastIndex: UInt64,
        firstIndex: UInt64, commitIndex: UInt64, appliedIndex: UInt64, revision: UInt64, digest: String,
        isChanging: Bool, failureTolerance: Int, writeMedianMilliseconds: Double?, writeP99Milliseconds: Double?,
        leaderlessSeconds: Double?, droppedFrames: UInt64, refusedConnections: UInt64, refusals: [String],
        alarms: [String], nodes: [NodeAnswer]
    ) {
        self.cluster = cluster
        self.name = name
        self.node = node
        self.leader = leader
        self.term = term
        self.lastIndex = lastIndex
        self.firstIndex = firstIndex
        self.commitIndex = commitIndex
        self.appliedIndex = appliedIndex
        self.revision = revision
        self.digest = digest
        self.isChanging = isChanging
        self.failureTolerance = failureTolerance
        self.writeMedianMilliseconds = writeMedianMilliseconds
        self.writeP99Milliseconds = writeP99Milliseconds
        self.leaderlessSeconds = leaderlessSeconds
        self.droppedFrames = droppedFrames
        self.refusedConnections = refusedConnections
        self.refusals = refusals
        self.alarms = alarms
        self.nodes = nodes
    }
}

/// A node of the cluster.
public struct NodeAnswer: Codable, Sendable {
    /// Its name.
    public var name: String
    /// Its id.
    public var id: String
    /// What it is in the agreement: `voter`, `learner`, `joining`, `leaving`, or `none` when it is not in it yet.
    public var role: String
    /// What it is to be: `voter` or `learner`.
    public var wanted: String
    /// Whether it leads.
    public var isLeader: Bool
    /// `up`, `down`, or `unknown` where the node that answers can't tell.
    public var status: String
    /// Where other nodes reach it.
    public var peerAddress: String
    /// Where clients reach it.
    public var apiAddress: String
    /// Version of its program.
    public var version: String
    /// How far its log is the leader's, if the leader answers.
    public var matchIndex: UInt64?
    /// Seconds since the leader heard of it, if the leader answers.
    public var lastContactSeconds: Double?
    /// How replication to it goes, if the leader answers.
    public var replication: String?
    /// Why the node that answers does not reach it.
    public var problem: String?
    /// When its certificate ends, RFC 3339.
    public var certificateExpires: String
    /// How the node that answers hears it by gossip: `alive`, `suspect`, `dead` or `left`; nothing of itself.
    public var gossip: String?
    /// Seconds since that is so.
    public var gossipSeconds: Double?

    /// Made by the node.
    public init(
        name: String, id: String, role: String, wanted: String, isLeader: Bool, status: String, peerAddress: String,
        apiAddress: String, version: String, matchIndex: UInt64?, lastContactSeconds: Double?, replication: String?,
        problem: String?, certificateExpires: String
    ) {
        self.name = name
        self.id = id
        self.role = role
        self.wanted = wanted
        self.isLeader = isLeader
        self.status = status
        self.peerAddress = peerAddress
        self.apiAddress = apiAddress
        self.version = version
        self.matchIndex = matchIndex
        self.lastContactSeconds = lastContactSeconds
        self.replication = replication
        self.problem = problem
        self.certificateExpires = certificateExpires
    }
}

/// A token is wanted.
public struct TokenRequest: Codable, Sendable {
    /// Seconds until it ends, 60 to 604,800; an hour unless said.
    public var seconds: Int?
    /// What the node becomes: `voter`, `learner`; a voter while there are few, unless said.
    public var role: String?

    /// What is wanted.
    public init(seconds: Int?, role: String?) {
        self.seconds = seconds
        self.role = role
    }
}

/// A token.
public struct TokenAnswer: Codable, Sendable {
    /// Names the token; no secret.
    public var id: String
    /// What the node that joins is given. Told once.
    public var token: String?
    /// When it ends, RFC 3339.
    public var expires: String
    /// `voter`, `learner` or `auto`.
    public var role: String
    /// The node that used it.
    public var usedBy: String?

    /// Made by the node.
    public init(id: String, token: String?, expires: String, role: String, usedBy: String?) {
        self.id = id
        self.token = token
        self.expires = expires
        self.role = role
        self.usedBy = usedBy
    }
}

/// A node wants to join.
public struct JoinRequest: Codable, Sendable {
    /// The token's id.
    public var token: String
    /// The token's secret, hexadecimal.
    public var secret: String
    /// The node's id, hexadecimal.
    public var node: String
    /// Its name.
    public var name: String
    /// Where other nodes reach it.
    public var peerAddress: String
    /// Where clients reach it.
    public var apiAddress: String
    /// Its address for tunnels in the zone `default`; none unless said.
    public var tunnelAddress: String?
    /// Version of its program.
    public var version: String
    /// A certificate request, PEM.
    public var certificateRequest: String

    /// What is wanted.
    public init(
        token: String, secret: String, node: String, name: String, peerAddress: String, apiAddress: String,
        tunnelAddress: String?, version: String, certificateRequest: String
    ) {
        self.token = token
        self.secret = secret
        self.node = node
        self.name = name
        self.peerAddress = peerAddress
        self.apiAddress = apiAddress
        self.tunnelAddress = tunnelAddress
        self.version = version
        self.certificateRequest = certificateRequest
    }
}

/// A node was taken in.
public struct JoinAnswer: Codable, Sendable {
    /// The cluster's id.
    public var cluster: String
    /// Its certificate, PEM.
    public var certificate: String
    /// The authorities that it is to trust, PEM.
    public var authorities: String
    /// What it becomes.
    public var role: String
    /// The nodes that it will talk to: id and peer address.
    public var peers: [String: String]

    /// Made by the node.
    public init(cluster: String, certificate: String, authorities: String, role: String, peers: [String: String]) {
        self.cluster = cluster
        self.certificate = certificate
        self.authorities = authorities
        self.role = role
        self.peers = peers
    }
}

/// The authorities of a cluster; no secret.
public struct AuthoritiesAnswer: Codable, Sendable {
    /// The cluster's id.
    public var cluster: String
    /// The authorities.
    public var authorities: [Authority]

    /// An authority.
    public struct Authority: Codable, Sendable {
        /// SHA-256 of its certificate, hexadecimal.
        public var fingerprint: String
        /// `trusted`, `active` or `retiring`.
        public var state: String
        /// When it ends, RFC 3339.
        public var expires: String
        /// Its certificate, PEM.
        public var certificate: String

        /// Made by the node.
        public init(fingerprint: String, state: String, expires: String, certificate: String) {
            self.fingerprint = fingerprint
            self.state = state
            self.expires = expires
            self.certificate = certificate
        }
    }

    /// Made by the node.
    public init(cluster: String, authorities: [Authority]) {
        self.cluster = cluster
        self.authorities = authorities
    }
}

/// A client's certificate is wanted.
public struct ClientCertificateRequest: Codable, Sendable {
    /// Whose it is.
    public var name: String
    /// `viewer`, `tenant:NAME` or `operator`.
    public var role: String
    /// Days until it ends, 1 to 825; 365 unless said.
    public var days: Int?
    /// A certificate request, PEM.
    public var certificateRequest: String

    /// What is wanted.
    public init(name: String, role: String, days: Int?, certificateRequest: String) {
        self.name = name
        self.role = role
        self.days = days
        self.certificateRequest = certificateRequest
    }
}

/// A client's certificate.
public struct ClientCertificateAnswer: Codable, Sendable {
    /// The certificate, PEM.
    public var certificate: String
    /// The authorities to trust, PEM.
    public var authorities: String

    /// Made by the node.
    public init(certificate: String, authorities: String) {
        self.certificate = certificate
        self.authorities = authorities
    }
}

/// A key for programs is wanted.
public struct KeyRequest: Codable, Sendable {
    /// Its name.
    public var name: String
    /// `viewer`, `tenant:NAME` or `operator`.
    public var role: String
    /// Days until it ends; never unless said.
    public var days: Int?

    /// What is wanted.
    public init(name: String, role: String, days: Int?) {
        self.name = name
        self.role = role
        self.days = days
    }
}

/// A key for programs.
public struct KeyAnswer: Codable, Sendable {
    /// Its name.
    public var name: String
    /// What it allows.
    public var role: String
    /// When it was made, RFC 3339.
    public var created: String
    /// When it ends, RFC 3339; none: never.
    public var expires: String?
    /// What goes behind `Authorization: Bearer`. Told once.
    public var key: String?

    /// Made by the node.
    public init(name: String, role: String, created: String, expires: String?, key: String?) {
        self.name = name
        self.role = role
        self.created = created
        self.expires = expires
        self.key = key
    }
}

/// Who has put a revision in force.
public struct WaitAnswer: Codable, Sendable, Equatable {
    /// The revision.
    public var revision: UInt64
    /// Nodes that forward by it, flows included.
    public var applied: [String]
    /// Nodes that are up and have not done so in time.
    public var lagging: [String]
    /// Nodes that can't be reached.
    public var unreachable: [String]

    /// Made by the node.
    public init(revision: UInt64, applied: [String], lagging: [String], unreachable: [String]) {
        self.revision = revision
        self.applied = applied
        self.lagging = lagging
        self.unreachable = unreachable
    }
}
