// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology
import Wire

/// The cluster itself.
public struct ClusterRecord: Sendable, Equatable {
    /// Names the cluster for ever: 32 hexadecimal digits, drawn when it was made.
    public var id: String
    /// What people call it.
    public var name: String

    /// A cluster.
    public init(id: String, name: String) {
        self.id = id
        self.name = name
    }
}

/// A node that belongs to the cluster.
public struct NodeRecord: Sendable, Equatable {
    /// What a node is to do in the agreement.
    public enum Role: UInt8, Sendable, CaseIterable {
        /// Votes.
        case voter = 1
        /// Only follows.
        case learner = 2

        /// `voter` or `learner`.
        public var word: String { self == .voter ? "voter" : "learner" }
    }

    /// Its id; it is a member of the agreement under the same.
    public var id: NodeID
    /// Its host's name.
    public var name: String
    /// What it is to be. What it is, the members of the log say.
    public var role: Role
    /// Where other nodes reach it, as `address:port`.
    public var peerAddress: String
    /// Where clients reach its HTTP API, as `address:port`.
    public var apiAddress: String
    /// Version of its program.
    public var version: String
    /// The latest format of commands that it understands.
    public var format: UInt8
    /// Counts its starts.
    public var epoch: UInt64
    /// When it joined, seconds of the Unix epoch.
    public var joined: Int64
    /// The certificate that it uses.
    public var certificate: CertificateRecord

    /// A node.
    public init(
        id: NodeID, name: String, role: Role, peerAddress: String, apiAddress: String, version: String,
        format: UInt8 = Transaction.format, epoch: UInt64 = 0, joined: Int64 = 0,
        certificate: CertificateRecord = CertificateRecord()
    ) {
        self.id = id
        self.name = name
        self.role = role
        self.peerAddress = peerAddress
        self.apiAddress = apiAddress
        self.version = version
        self.format = format
        self.epoch = epoch
        self.joined = joined
        self.certificate = certificate
    }
}

/// What is known of a node's certificate.
public struct CertificateRecord: Sendable, Equatable {
    /// Its serial number, hexadecimal.
    public var serial = ""
    /// Fingerprint of the authority that signed it, hexadecimal.
    public var authority = ""
    /// Until when it holds, seconds of the Unix epoch.
    public var notAfter: Int64 = 0

    /// Nothing is known.
    public init() {}

    /// What is known.
    public init(serial: String, authority: String, notAfter: Int64) {
        self.serial = serial
        self.authority = authority
        self.notAfter = notAfter
    }
}

/// A node that was removed: its id is never taken again.
public struct RemovedNode: Sendable, Equatable {
    /// Its id.
    public var id: NodeID
    /// The name that it had.
    public var name: String
    /// When it was removed, seconds of the Unix epoch.
    public var at: Int64
}

/// Lets one node join, once.
public struct JoinToken: Sendable, Equatable {
    /// Names the token; no secret.
    public var id: String
    /// SHA-256 of the secret.
    public var secretHash: [UInt8]
    /// When it ends, seconds of the Unix epoch.
    public var expires: Int64
    /// What the node becomes; `nil`: a voter while there are few.
    public var role: NodeRecord.Role?
    /// Who used it.
    public var usedBy: NodeID?

    /// A token that nobody used.
    public init(id: String, secretHash: [UInt8], expires: Int64, role: NodeRecord.Role?) {
        self.id = id
        self.secretHash = secretHash
        self.expires = expires
        self.role = role
    }
}

/// A certificate authority of the cluster. Its key is never here: voters keep it in files of their own.
public struct AuthorityRecord: Sendable, Equatable {
    /// What it is used for.
    public enum State: UInt8, Sendable {
        /// Its certificates are taken; it signs none yet.
        case trusted = 1
        /// It signs.
        case active = 2
        /// It signs no more; its certificates are taken until all nodes have others.
        case retiring = 3

        /// As in `active`.
        public var word: String {
            switch self {
            case .trusted: "trusted"
            case .active: "active"
            case .retiring: "retiring"
            }
        }
    }

    /// SHA-256 of its certificate, hexadecimal.
    public var fingerprint: String
    /// Its certificate as PEM.
    public var certificate: String
    /// What it is used for.
    public var state: State
    /// Until when it holds, seconds of the Unix epoch.
    public var notAfter: Int64

    /// An authority.
    public init(fingerprint: String, certificate: String, state: State, notAfter: Int64) {
        self.fingerprint = fingerprint
        self.certificate = certificate
        self.state = state
        self.notAfter = notAfter
    }
}

/// A secret by which nodes seal what they tell each other of flows. The secret itself is never here: nodes ask each other for
/// it, over connections that only members have.
public struct StateKeyRecord: Sendable, Equatable {
    /// What it is used for.
    public enum State: UInt8, Sendable {
        /// Nodes fetch it; nobody seals by it yet.
        case installed = 1
        /// Nodes seal by it.
        case active = 2
        /// It only opens what was sealed before.
        case retiring = 3

        /// As in `active`.
        public var word: String {
            switch self {
            case .installed: "installed"
            case .active: "active"
            case .retiring: "retiring"
            }
        }
    }

    /// Its number, which datagrams name; 1 to 255.
    public var number: UInt8
    /// SHA-256 of the secret, hexadecimal.
    public var fingerprint: String
    /// What it is used for.
    public var state: State
    /// Since when, seconds of the Unix epoch.
    public var since: Int64

    /// A secret.
    public init(number: UInt8, fingerprint: String, state: State, since: Int64) {
        self.number = number
        self.fingerprint = fingerprint
        self.state = state
        self.since = since
    }
}

/// A key with which a program uses the HTTP API.
public struct AccessKey: Sendable, Equatable {
    /// Its name.
    public var name: String
    /// What it allows.
    public var role: AccessRole
    /// SHA-256 of the secret.
    public var secretHash: [UInt8]
    /// When it was made, seconds of the Unix epoch.
    public var created: Int64
    /// When it ends; 0: never.
    public var expires: Int64

    /// A key.
    public init(name: String, role: AccessRole, secretHash: [UInt8], created: Int64, expires: Int64) {
        self.name = name
        self.role = role
        self.secretHash = secretHash
        self.created = created
        self.expires = expires
    }
}

/// What somebody may do.
public enum AccessRole: Sendable, Hashable, CustomStringConvertible {
    /// Sees everything.
    case viewer
    /// Sees and changes what belongs to one tenant.
    case tenant(String)
    /// Does everything.
    case `operator`

    /// As in `viewer`, `tenant:acme`, `operator`.
    public var description: String {
        switch self {
        case .viewer: "viewer"
        case .tenant(let name): "tenant:\(name)"
        case .operator: "operator"
        }
    }

    /// Reads `viewer`, `tenant:NAME` or `operator`.
    public init?(_ text: String) {
        switch text {
        case "viewer": self = .viewer
        case "operator": self = .operator
        default:
            guard text.hasPrefix("tenant:"), isValidName(text.dropFirst(7)) else { return nil }
            self = .tenant(String(text.dropFirst(7)))
        }
    }
}

/// Blocks of a pool, such as ranges of ports, that a node holds until it gives them back.
public struct Lease: Sendable, Equatable {
    /// Who holds them.
    public var owner: NodeID
    /// Their numbers, ascending.
    public var blocks: [UInt32]
}
