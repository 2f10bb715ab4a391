// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import Wire

/// What nodes say to each other: a length of four bytes, a kind, and what the kind has.
enum Frame: Sendable {
    /// Who I am, before anything else.
    case hello(Hello)
    /// Whether the other side takes me.
    case welcome(Welcome)
    /// A message of the agreement.
    case message([UInt8])
    /// A command for the leader; the number is the sender's.
    case proposal(number: UInt64, [UInt8])
    /// The leader did not take it.
    case refusal(number: UInt64, Refusal)
    /// A question to the node itself.
    case request(number: UInt64, method: UInt8, [UInt8])
    /// Its answer.
    case response(number: UInt64, isFailure: Bool, [UInt8])
    /// Are you there?
    case ping
    /// I am.
    case pong
    /// Something that a later version says; it is passed over.
    case unknown(UInt8)

    /// Who opens a connection, and what for.
    struct Hello: Sendable, Equatable {
        static let version: UInt8 = 1
        /// The cluster that the sender is of.
        var cluster: String
        /// The sender.
        var from: NodeID
        /// Whom it wants to speak to.
        var to: NodeID
        /// Counts the sender's starts.
        var epoch: UInt64
        /// Tells one run of the sender from every other.
        var run: UInt64
        /// Which of the connections between two nodes this is.
        var lane: Lane
        /// Version of the sender's program.
        var program: String
        /// Where the sender listens, as `address:port`: a node that has just joined knows nobody's address yet.
        var address: String
    }

    /// Two connections lead to each node, so that what is urgent never waits behind what is large.
    enum Lane: UInt8, Sendable, CaseIterable {
        /// Heartbeats, votes, reads.
        case urgent = 0
        /// Entries, snapshots, proposals, questions.
        case bulk = 1
    }

    /// The answer to a hello.
    struct Welcome: Sendable, Equatable {
        /// Empty when the sender is taken; why not otherwise.
        var refusal: String
    }

    func encode(into buffer: inout ByteBuffer) {
        var out = ByteWriter()
        switch self {
        case .hello(let hello):
            out.number(UInt8(1))
            out.number(Hello.version)
            out.text(hello.cluster)
            out.number(hello.from.value)
            out.number(hello.to.value)
            out.count(hello.epoch)
            out.number(hello.run)
            out.number(hello.lane.rawValue)
            out.text(hello.program)
            out.text(hello.address)
        case .welcome(let welcome):
            out.number(UInt8(2))
            out.text(welcome.refusal)
        case .message(let bytes):
            out.number(UInt8(3))
            out.raw(bytes)
        case .proposal(let number, let bytes):
            out.number(UInt8(4))
            out.number(number)
            out.raw(bytes)
        case .refusal(let number, let refusal):
            out.number(UInt8(5))
            out.number(number)
            let (code, leader) = refusal.code
            out.number(code)
            out.number(leader)
        case .request(let number, let method, let bytes):
            out.number(UInt8(6))
            out.number(number)
            out.number(method)
            out.raw(bytes)
        case .response(let number, let isFailure, let bytes):
            out.number(UInt8(7))
            out.number(number)
            out.flag(isFailure)
            out.raw(bytes)
        case .ping: out.number(UInt8(8))
        case .pong: out.number(UInt8(9))
        case .unknown(let code): out.number(code)
        }
        buffer.writeInteger(UInt32(out.bytes.count))
        buffer.writeBytes(out.bytes)
    }

    init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        switch try reader.number(UInt8.self) {
        case 1:
            let version: UInt8 = try reader.number()
            guard version == Hello.version else {
                throw MalformedBytes("a hello of version \(version); this version speaks \(Hello.version)")
            }
            let cluster = try reader.text()
            let (from, to) = (NodeID(try reader.number()), NodeID(try reader.number()))
            let (epoch, run) = (try reader.longCount(), try reader.number(UInt64.self))
            guard let lane = Lane(rawValue: try reader.number()) else { throw MalformedBytes("a lane of no kind") }
            self = .hello(
                Hello(
                    cluster: cluster, from: from, to: to, epoch: epoch, run: run, lane: lane,
                    program: try reader.text(), address: try reader.text()))
            // A later version may say more.
            return
        case 2:
            self = .welcome(Welcome(refusal: try reader.text()))
            return
        case 3: self = .message(try reader.raw(reader.left))
        case 4: self = .proposal(number: try reader.number(), try reader.raw(reader.left))
        case 5:
            let number: UInt64 = try reader.number()
            self = .refusal(number: number, try Refusal(code: try reader.number(), leader: try reader.number()))
        case 6:
            self = .request(
                number: try reader.number(), method: try reader.number(), try reader.raw(reader.left))
        case 7:
            self = .response(
                number: try reader.number(), isFailure: try reader.flag(), try reader.raw(reader.left))
        case 8: self = .ping
        case 9: self = .pong
        case let code:
            self = .unknown(code)
            return
        }
        try reader.finish()
    }
}

extension Refusal {
    fileprivate var code: (UInt8, UInt64) {
        switch self {
        case .notLeader(let leader): (1, leader?.value ?? 0)
        case .busy: (2, 0)
        case .transferring: (3, 0)
        case .changing: (4, 0)
        case .noVoters: (5, 0)
        case .notVoter: (6, 0)
        case .stopped: (7, 0)
        case .unreadable: (8, 0)
        case .forbidden: (9, 0)
        }
    }

    fileprivate init(code: UInt8, leader: UInt64) throws(MalformedBytes) {
        switch code {
        case 1: self = .notLeader(leader == 0 ? nil : NodeID(leader))
        case 2: self = .busy
        case 3: self = .transferring
        case 4: self = .changing
        case 5: self = .noVoters
        case 6: self = .notVoter
        case 7: self = .stopped
        case 8: self = .unreadable
        case 9: self = .forbidden
        default: throw MalformedBytes("a refusal of no kind")
        }
    }
}

/// Cuts what comes into frames. What is longer than allowed, or none, ends the connection.
final class FrameDecoder: ByteToMessageDecoder {
    typealias InboundOut = Frame

    private var limit = StoreLimits.helloBytes

    /// The two sides know each other: larger frames may come.
    func trust() { limit = StoreLimits.frameBytes }

    func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return .needMoreData }
        guard length > 0, length <= limit else { throw MalformedBytes("a frame of \(length) bytes") }
        guard buffer.readableBytes >= 4 + Int(length) else { return .needMoreData }
        buffer.moveReaderIndex(forwardBy: 4)
        guard let bytes = buffer.readBytes(length: Int(length)) else { return .needMoreData }
        context.fireChannelRead(wrapInboundOut(try Frame(decoding: bytes)))
        return .continue
    }

    func decodeLast(context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool) throws -> DecodingState {
        try decode(context: context, buffer: &buffer)
    }
}
