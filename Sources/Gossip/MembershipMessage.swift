// SPDX-License-Identifier: Apache-2.0
import Wire

/// How a member is, as one of the others sees it. The order is that in which one overrides the other at the same incarnation.
public enum MemberState: UInt8, Sendable, Comparable, CaseIterable {
    /// It answers.
    case alive = 1
    /// It did not answer somebody, and may still say that it lives.
    case suspect = 2
    /// It did not say so in time.
    case dead = 3
    /// It said that it goes.
    case left = 4

    /// By what overrides what.
    public static func < (a: MemberState, b: MemberState) -> Bool { a.rawValue < b.rawValue }

    /// As in `alive`.
    public var word: String {
        switch self {
        case .alive: "alive"
        case .suspect: "suspect"
        case .dead: "dead"
        case .left: "left"
        }
    }
}

/// What is said of a member. A later start overrides an earlier one, a later incarnation an earlier one of the same start.
public struct MemberUpdate: Sendable, Equatable {
    /// Of whom.
    public var id: PeerID
    /// Its start.
    public var epoch: UInt64
    /// Counts how often it said that it lives although others doubted it.
    public var incarnation: UInt64
    /// How it is.
    public var state: MemberState
    /// Who says so, where it is suspected: each voice counts once.
    public var from: PeerID
    /// What it says of itself, at most ``MembershipMessage/metadataBytes``.
    public var metadata: [UInt8]

    /// Something that is said.
    public init(
        id: PeerID, epoch: UInt64, incarnation: UInt64, state: MemberState, from: PeerID, metadata: [UInt8] = []
    ) {
        self.id = id
        self.epoch = epoch
        self.incarnation = incarnation
        self.state = state
        self.from = from
        self.metadata = metadata
    }

    /// Whether this overrides what was known.
    func overrides(_ known: MemberUpdate) -> Bool {
        (epoch, incarnation, state.rawValue) > (known.epoch, known.incarnation, known.state.rawValue)
    }
}

/// What members say to each other: a question whether somebody lives, or an answer, and news along with it.
public struct MembershipMessage: Sendable, Equatable {
    /// The question or the answer.
    public enum Kind: Sendable, Equatable {
        /// Are you there?
        case ping
        /// I am; or, of a question that was passed on: it is.
        case ack
        /// Ask this one whether it is there, and tell me.
        case pingFor(PeerID)
        /// I asked it for you, and it has not answered: you hear that I am there myself.
        case noAnswer
    }
    /// Updates in one message.
    public static let updatesAtMost = 12
    /// Bytes of a member's metadata.
    public static let metadataBytes = 64

    /// What it is.
    public var kind: Kind
    /// The question's number.
    public var number: UInt64
    /// News.
    public var updates: [MemberUpdate]

    /// A message.
    public init(_ kind: Kind, number: UInt64, updates: [MemberUpdate] = []) {
        self.kind = kind
        self.number = number
        self.updates = updates
    }

    func encode(into out: inout ByteWriter) {
        switch kind {
        case .ping: out.number(UInt8(1))
        case .ack: out.number(UInt8(2))
        case .pingFor(let target):
            out.number(UInt8(3))
            out.number(target.value)
        case .noAnswer: out.number(UInt8(4))
        }
        out.count(number)
        out.list(Array(updates.prefix(MembershipMessage.updatesAtMost))) { out, update in
            out.number(update.id.value)
            out.count(update.epoch)
            out.count(update.incarnation)
            out.number(update.state.rawValue)
            out.number(update.from.value)
            out.data(Array(update.metadata.prefix(MembershipMessage.metadataBytes)))
        }
    }

    init(reading reader: inout ByteReader) throws(MalformedBytes) {
        switch try reader.number(UInt8.self) {
        case 1: kind = .ping
        case 2: kind = .ack
        case 3: kind = .pingFor(PeerID(try reader.number()))
        case 4: kind = .noAnswer
        default: throw MalformedBytes("a word of membership of no known kind")
        }
        number = try reader.longCount()
        updates = try reader.list { reader throws(MalformedBytes) in
            let id = PeerID(try reader.number())
            let epoch = try reader.longCount()
            let incarnation = try reader.longCount()
            guard let state = MemberState(rawValue: try reader.number()) else {
                throw MalformedBytes("a member in no known state")
            }
            let from = PeerID(try reader.number())
            let metadata = try reader.data()
            guard metadata.count <= MembershipMessage.metadataBytes else {
                throw MalformedBytes("too much is said of a member")
            }
            return MemberUpdate(
                id: id, epoch: epoch, incarnation: incarnation, state: state, from: from, metadata: metadata)
        }
        guard updates.count <= MembershipMessage.updatesAtMost else { throw MalformedBytes("too much news at once") }
    }
}
