// SPDX-License-Identifier: Apache-2.0
import Consensus
import HashTreeCollections
import Topology
import Wire

/// Everything that the cluster agrees on, as of one entry of the log. A value: whoever holds one sees it unchanged. The same
/// entries make the same state on every node; ``digest`` tells whether they did.
///
/// Readers hold a value while the next one is made: what grows with the number of ports is kept in trees that share what did
/// not change, or in dictionaries by device.
public struct ClusterState: Sendable {
    /// The last entry that is in it.
    public internal(set) var applied = LogPosition.zero
    /// The members as of that entry.
    public internal(set) var members = Members()
    /// Which cluster this is; `nil` before its first entry.
    public internal(set) var cluster: ClusterRecord?
    /// What tenants and operators drew. Its revision is the entry that changed it last.
    public internal(set) var topology = Topology()
    /// When each object was made and last changed, with its share of the digest.
    var versions = TreeDictionary<ObjectKey, Stamp>()
    /// Nodes by id.
    public internal(set) var nodes: [NodeID: NodeRecord] = [:]
    /// Nodes that were removed.
    public internal(set) var removed: [NodeID: RemovedNode] = [:]
    /// Tokens by id.
    public internal(set) var tokens: [String: JoinToken] = [:]
    /// Secrets for flow state by number.
    public internal(set) var stateKeys: [UInt8: StateKeyRecord] = [:]
    /// Authorities by fingerprint.
    public internal(set) var authorities: [String: AuthorityRecord] = [:]
    /// Keys of the API by name.
    public internal(set) var keys: [String: AccessKey] = [:]
    /// Leases by pool.
    public internal(set) var leases: [String: [Lease]] = [:]
    /// Answers that clients may still ask for.
    var sessions = SessionTable()
    /// Where the search for the next tunnel key begins. Keys are used again as late as possible: frames under way to a port
    /// that is gone must not reach another.
    var nextTunnelKey = TunnelKeys.first
    var takenTunnelKeys = TreeSet<UInt32>()
    /// A sum over all rows: two nodes that applied the same entry have the same.
    public internal(set) var digest = StateDigest()

    /// Nothing.
    public init() {}

    /// When an object was made and last changed.
    public struct Version: Sendable, Hashable {
        /// The revision that made it.
        public var created: UInt64
        /// The revision that changed it last.
        public var modified: UInt64

        /// A version.
        public init(created: UInt64, modified: UInt64) {
            self.created = created
            self.modified = modified
        }
    }

    /// When an object was made and last changed; `nil` when there is none.
    public func version(of key: ObjectKey) -> Version? { versions[key]?.version }

    /// A version, and the hash of the object's row.
    struct Stamp: Sendable, Hashable {
        var version: Version
        var hash: StateDigest
    }

    /// Whether all nodes say that they understand commands of a format.
    public func allUnderstand(_ format: UInt8) -> Bool { nodes.values.allSatisfy { $0.format >= format } }
    /// The authority that signs.
    public var activeAuthority: AuthorityRecord? { authorities.values.first { $0.state == .active } }

    /// A node by its name.
    public func node(named name: String) -> NodeRecord? { nodes.values.first { $0.name == name } }
}

/// An order-independent sum of hashes: rows may be added and taken away one by one.
public struct StateDigest: Sendable, Hashable, CustomStringConvertible {
    /// How sums are taken. Those of different versions say nothing about each other.
    public static let version: UInt8 = 1

    private var a: UInt64 = 0
    private var b: UInt64 = 0

    /// The sum of one row.
    init(of row: [UInt8], named key: RowKey) {
        var hasher = DigestHasher()
        key.feed(&hasher)
        hasher.add(row.span.bytes)
        (a, b) = (hasher.a, hasher.b)
    }

    init() {}

    mutating func add(_ other: StateDigest) {
        a &+= other.a
        b &+= other.b
    }

    mutating func subtract(_ other: StateDigest) {
        a &-= other.a
        b &-= other.b
    }

    /// 32 hexadecimal digits.
    public var description: String {
        func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return digits(a) + digits(b)
    }
}

/// Two sums over words that differ in their multipliers; against faults, not against enemies. The same on every machine.
struct DigestHasher {
    private(set) var a: UInt64 = 0xcbf2_9ce4_8422_2325
    private(set) var b: UInt64 = 0x9e37_79b9_7f4a_7c15

    mutating func add(_ word: UInt64) {
        a = (a ^ word) &* 0x9fb2_1c65_1e98_df25
        a ^= a >> 32
        b = (b &+ word) &* 0xff51_afd7_ed55_8ccd
        b ^= b >> 29
    }

    mutating func add(_ bytes: RawSpan) {
        add(UInt64(bytes.byteCount))
        var at = 0
        while at + 8 <= bytes.byteCount {
            add(UInt64(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: at, as: UInt64.self)))
            at += 8
        }
        var rest: UInt64 = 0
        while at < bytes.byteCount {
            rest = rest << 8 | UInt64(bytes.unsafeLoad(fromByteOffset: at, as: UInt8.self))
            at += 1
        }
        add(rest)
    }

    mutating func add(_ text: String) { add(text.utf8Span.span.bytes) }
}

/// What clients were answered, until they say that they know it.
struct SessionTable: Sendable {
    struct Session: Sendable, Equatable {
        /// Below it the client has all answers.
        var floor: UInt64
        /// Answers by serial, ascending.
        var answers: [(serial: UInt64, outcome: Outcome)]
        /// The entry that used it last.
        var used: LogIndex

        static func == (a: Session, b: Session) -> Bool {
            a.floor == b.floor && a.used == b.used
                && a.answers.elementsEqual(b.answers) { $0.serial == $1.serial && $0.outcome == $1.outcome }
        }

        /// Where an answer is, or would be.
        func place(of serial: UInt64) -> Int {
            var low = 0
            var high = answers.count
            while low < high {
                let middle = (low + high) / 2
                if answers[middle].serial < serial { low = middle + 1 } else { high = middle }
            }
            return low
        }
    }

    /// Sessions that are kept; the one that was used longest ago goes first.
    static let limit = 1024
    var clients: [UInt64: Session] = [:]

    enum Finding {
        case new
        case answered(Outcome)
        case expired
    }

    func find(_ id: Transaction.SessionID) -> Finding {
        guard id.client != 0 else { return .new }
        guard let session = clients[id.client] else {
            // Only a client's first word makes a session: one that was forgotten must not do things again.
            return id.floor <= 1 ? .new : .expired
        }
        let at = session.place(of: id.serial)
        if at < session.answers.count, session.answers[at].serial == id.serial {
            return .answered(session.answers[at].outcome)
        }
        return id.serial < session.floor ? .expired : .new
    }

    /// An answer that is kept, or was.
    func answer(_ client: UInt64, _ serial: UInt64) -> Outcome? {
        guard let session = clients[client] else { return nil }
        let at = session.place(of: serial)
        return at < session.answers.count && session.answers[at].serial == serial ? session.answers[at].outcome : nil
    }
}
