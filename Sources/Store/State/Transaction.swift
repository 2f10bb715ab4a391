// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology
import Wire

/// A change of the cluster's state: all of it, or nothing. What the log agrees on.
public struct Transaction: Sendable, Equatable {
    /// The latest format of commands that this version understands. What earlier versions understand is written as they did; the
    /// rest is proposed only when all nodes understand it (``ClusterState/allUnderstand(_:)``).
    public static let format: UInt8 = 2
    /// The format that secrets for flow state came with.
    public static let stateKeysFormat: UInt8 = 2
    private static let firstFormat: UInt8 = 1
    private var format: UInt8 { operations.contains(where: \.isOfSecondFormat) ? 2 : Transaction.firstFormat }

    /// Who asks, so that what is asked twice is done once.
    public var session: SessionID
    /// The time that it was asked at, seconds of the Unix epoch. Tokens end by it, on all nodes alike.
    public var time: Int64
    /// What must hold.
    public var preconditions: [Precondition]
    /// What to do, in order.
    public var operations: [Operation]

    /// A change.
    public init(
        session: SessionID = SessionID(client: 0, serial: 0, floor: 0), time: Int64, preconditions: [Precondition] = [],
        operations: [Operation]
    ) {
        self.session = session
        self.time = time
        self.preconditions = preconditions
        self.operations = operations
    }

    /// Names an attempt for ever: whoever tries again says the same.
    public struct SessionID: Sendable, Hashable {
        /// The client; 0 has no session, and takes its chances.
        public var client: UInt64
        /// Counts what the client asks, from 1.
        public var serial: UInt64
        /// The client has the answers to everything below.
        public var floor: UInt64

        /// A name.
        public init(client: UInt64, serial: UInt64, floor: UInt64) {
            self.client = client
            self.serial = serial
            self.floor = floor
        }
    }

    /// Something that must hold for a change to be made.
    public enum Precondition: Sendable, Equatable {
        /// The object was last changed at this revision; 0: there is no such object.
        case revision(ObjectKey, UInt64)
        /// Nothing of the topology changed since this revision.
        case topology(UInt64)
    }

    /// One thing to do.
    public enum Operation: Sendable, Equatable {
        /// Makes an object, or replaces the one of its name. A tunnel key of 0 is filled in.
        case put(TopologyObject)
        /// Takes an object away; with `cascade` also what can't be without it.
        case delete(ObjectKey, cascade: Bool)
        /// Says which cluster this is.
        case setCluster(ClusterRecord)
        /// Takes a node in on the word of a token, with its host.
        case join(token: String, secretHash: [UInt8], NodeRecord, Host?)
        /// Makes a node, or says what is known of one; what one that is there is to be stays.
        case putNode(NodeRecord)
        /// Says what a node is to be.
        case setRole(NodeID, NodeRecord.Role)
        /// Takes a node out for ever.
        case removeNode(NodeID)
        /// Makes a token.
        case putToken(JoinToken)
        /// Takes a token back.
        case deleteToken(String)
        /// Makes or replaces an authority.
        case putAuthority(AuthorityRecord)
        /// Takes an authority away.
        case deleteAuthority(String)
        /// Makes or replaces a key for the API.
        case putKey(AccessKey)
        /// Takes one away.
        case deleteKey(String)
        /// Gives a node so many blocks of a pool that has these; fewer when there are not as many, and none at all is a
        /// failure.
        case lease(pool: String, blocks: Range<UInt32>, count: UInt32, NodeID)
        /// Makes or replaces a secret for flow state.
        case putStateKey(StateKeyRecord)
        /// Takes one away.
        case deleteStateKey(UInt8)
        /// Takes blocks back.
        case release(pool: String, [UInt32], NodeID)
    }
}

/// What became of a transaction.
public enum Outcome: Sendable, Equatable {
    /// Done; the revision is that of the topology after it.
    case done(UInt64)
    /// Nothing was changed.
    case failed(Failure, [Problem])

    /// Why nothing was changed.
    public enum Failure: UInt8, Sendable {
        /// A precondition does not hold.
        case conflict = 1
        /// What would come out is wrong.
        case invalid = 2
        /// There is no such thing.
        case notFound = 3
        /// Something forbids it.
        case refused = 4
        /// The session is too old: whether it was done is not known.
        case sessionExpired = 5
    }
}

// MARK: - Bytes

extension Transaction {
    /// As bytes of a command.
    public func encode() -> [UInt8] {
        var out = ByteWriter()
        out.number(format)
        out.number(session.client)
        out.count(session.serial)
        out.count(session.floor)
        out.number(UInt64(bitPattern: time))
        out.list(preconditions) { out, condition in
            switch condition {
            case .revision(let key, let revision):
                out.number(UInt8(1))
                key.encode(&out)
                out.count(revision)
            case .topology(let revision):
                out.number(UInt8(2))
                out.count(revision)
            }
        }
        out.list(operations) { $1.encode(&$0) }
        return out.bytes
    }

    /// Reads a command.
    ///
    /// - Throws: ``MalformedBytes``, also for what only a later version knows.
    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let format: UInt8 = try reader.number()
        guard (Transaction.firstFormat...Transaction.format).contains(format) else {
            throw MalformedBytes("a command of format \(format); this version knows up to \(Transaction.format)")
        }
        session = SessionID(
            client: try reader.number(), serial: try reader.longCount(), floor: try reader.longCount())
        time = Int64(bitPattern: try reader.number())
        preconditions = try reader.list { reader throws(MalformedBytes) in
            switch try reader.number(UInt8.self) {
            case 1: return .revision(try ObjectKey(from: &reader), try reader.longCount())
            case 2: return .topology(try reader.longCount())
            case let code: throw MalformedBytes("a precondition of kind \(code), which a later version wrote")
            }
        }
        operations = try reader.list { reader throws(MalformedBytes) in try Operation(from: &reader) }
        try reader.finish()
    }
}

extension Transaction.Operation {
    fileprivate var isOfSecondFormat: Bool {
        switch self {
        case .putStateKey, .deleteStateKey: true
        default: false
        }
    }

    /// Whether only a node that votes may propose it.
    func needsVote(of node: NodeID) -> Bool {
        switch self {
        case .put, .delete: false
        case .putNode(let record): record.id != node
        case .lease(_, _, _, let owner), .release(_, _, let owner): owner != node
        default: true
        }
    }
}

extension Transaction.Operation {
    fileprivate func encode(_ out: inout ByteWriter) {
        switch self {
        case .put(let object):
            out.number(UInt8(1))
            object.encode(&out)
        case .delete(let key, let cascade):
            out.number(UInt8(2))
            key.encode(&out)
            out.flag(cascade)
        case .setCluster(let record):
            out.number(UInt8(3))
            out.cluster(record)
        case .join(let token, let secretHash, let node, let host):
            out.number(UInt8(4))
            out.text(token)
            out.data(secretHash)
            out.node(node)
            out.flag(host != nil)
            if let host { TopologyObject.host(host).encode(&out) }
        case .putNode(let node):
            out.number(UInt8(5))
            out.node(node)
        case .setRole(let id, let role):
            out.number(UInt8(15))
            out.number(id.value)
            out.number(role.rawValue)
        case .removeNode(let id):
            out.number(UInt8(6))
            out.number(id.value)
        case .putToken(let token):
            out.number(UInt8(7))
            out.token(token)
        case .deleteToken(let id):
            out.number(UInt8(8))
            out.text(id)
        case .putAuthority(let authority):
            out.number(UInt8(9))
            out.authority(authority)
        case .deleteAuthority(let fingerprint):
            out.number(UInt8(10))
            out.text(fingerprint)
        case .putKey(let key):
            out.number(UInt8(11))
            out.key(key)
        case .deleteKey(let name):
            out.number(UInt8(12))
            out.text(name)
        case .lease(let pool, let blocks, let count, let node):
            // Pools that begin at 0 are written as the first versions wrote all.
            out.number(UInt8(blocks.lowerBound == 0 ? 13 : 16))
            out.text(pool)
            if blocks.lowerBound != 0 { out.number(blocks.lowerBound) }
            out.number(blocks.upperBound)
            out.number(count)
            out.number(node.value)
        case .putStateKey(let key):
            out.number(UInt8(17))
            out.stateKey(key)
        case .deleteStateKey(let number):
            out.number(UInt8(18))
            out.number(number)
        case .release(let pool, let blocks, let node):
            out.number(UInt8(14))
            out.text(pool)
            out.list(blocks) { $0.number($1) }
            out.number(node.value)
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        switch try reader.number(UInt8.self) {
        case 1: self = .put(try TopologyObject(from: &reader))
        case 2: self = .delete(try ObjectKey(from: &reader), cascade: try reader.flag())
        case 3: self = .setCluster(try reader.cluster())
        case 4:
            let token = try reader.text()
            let hash = try reader.data()
            let node = try reader.node()
            var host: Host?
            if try reader.flag() {
                guard case .host(let record) = try TopologyObject(from: &reader) else {
                    throw MalformedBytes("something else where a host belongs")
                }
                host = record
            }
            self = .join(token: token, secretHash: hash, node, host)
        case 5: self = .putNode(try reader.node())
        case 6: self = .removeNode(NodeID(try reader.number()))
        case 7: self = .putToken(try reader.token())
        case 8: self = .deleteToken(try reader.text())
        case 9: self = .putAuthority(try reader.authority())
        case 10: self = .deleteAuthority(try reader.text())
        case 11: self = .putKey(try reader.key())
        case 12: self = .deleteKey(try reader.text())
        case 13:
            self = .lease(
                pool: try reader.text(), blocks: 0..<(try reader.number()), count: try reader.number(),
                NodeID(try reader.number()))
        case 16:
            let pool = try reader.text()
            let (first, end): (UInt32, UInt32) = (try reader.number(), try reader.number())
            guard first <= end else { throw MalformedBytes("blocks that end before they begin") }
            self = .lease(
                pool: pool, blocks: first..<end, count: try reader.number(), NodeID(try reader.number()))
        case 14:
            self = .release(
                pool: try reader.text(),
                try reader.list { reader throws(MalformedBytes) in try reader.number(UInt32.self) },
                NodeID(try reader.number()))
        case 15:
            let id = NodeID(try reader.number())
            guard let role = NodeRecord.Role(rawValue: try reader.number()) else {
                throw MalformedBytes("a role that a later version wrote")
            }
            self = .setRole(id, role)
        case 17: self = .putStateKey(try reader.stateKey())
        case 18: self = .deleteStateKey(try reader.number())
        case let code: throw MalformedBytes("an operation of kind \(code), which a later version wrote")
        }
    }
}
