// SPDX-License-Identifier: Apache-2.0
import Consensus
import TestSupport
import Testing

@testable import Store

@Suite struct MessageCodecTests {
    private static let info = SnapshotInfo(
        position: LogPosition(term: 3, index: 1 << 62),
        members: Members([.init(NodeID(1), .voter), .init(NodeID(2), .learner)], outgoing: [NodeID(.max)]))
    private static let bodies: [Message.Body] = [
        .preVote(last: LogPosition(term: 1, index: 2)), .preVoteAnswer(granted: true), .preVoteAnswer(granted: false),
        .vote(last: LogPosition(term: 1, index: 2), isForced: true), .voteAnswer(granted: false),
        .append(
            previous: LogPosition(term: 1, index: 2),
            entries: [
                Entry(term: 1, index: 3, content: .nothing), Entry(term: 2, index: 4, content: .command([1, 2, 3])),
                Entry(term: 2, index: 5, content: .members(info.members)),
                Entry(term: 2, index: 6, content: .command([])),
            ], commit: 9),
        .append(previous: .zero, entries: [], commit: 0), .appended(7),
        .refused(previous: 9, hint: LogPosition(term: 4, index: 5)), .heartbeat(commit: 5, round: 6),
        .heartbeatAnswer(round: .max), .chunk(info, offset: 77, data: [9, 8, 7], isLast: true),
        .chunk(info, offset: 0, data: [], isLast: false), .chunkAnswer(info.position, next: 4), .read(3),
        .readAnswer(3, 8), .readAnswer(3, nil), .campaign,
    ]

    private func message(_ body: Message.Body) -> Message {
        Message(from: NodeID(0xabcd), to: NodeID(.max), term: 42, body: body)
    }

    @Test func `a message is read as it was sent, and not when it is cut off or has bytes behind its end`() throws {
        for body in Self.bodies {
            let bytes = MessageCodec.encode(message(body))
            #expect(try MessageCodec.decode(bytes) == message(body))
            for length in 0..<bytes.count {
                #expect(throws: StoreError.self) { try MessageCodec.decode(Array(bytes[..<length])) }
            }
            #expect(throws: StoreError.self) { try MessageCodec.decode(bytes + [0]) }
        }
    }

    @Test func `no bytes trap the reader`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var read = 0
        for _ in 0..<20_000 {
            var bytes = MessageCodec.encode(message(Self.bodies.randomElement(using: &random) ?? .campaign))
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if (try? MessageCodec.decode(bytes)) != nil { read += 1 }
        }
        #expect(read > 0, "seed \(seed)")
    }

    @Test func `what this version wrote is read for ever`() throws {
        // Taken down when version 1 was made.
        let fixture: [UInt8] =
            [1, 5] + [0, 0, 0, 0, 0, 0, 0, 1] + [0, 0, 0, 0, 0, 0, 0, 2] + [0, 0, 0, 0, 0, 0, 0, 3]
            + [0, 0, 0, 0, 0, 0, 0, 2] + [0, 0, 0, 0, 0, 0, 0, 4] + [0, 0, 0, 0, 0, 0, 0, 4] + [0, 0, 0, 1]
            + [0, 0, 0, 0, 0, 0, 0, 3] + [1] + [0, 0, 0, 2] + [0xca, 0xfe]
        let expected = Message(
            from: NodeID(1), to: NodeID(2), term: 3,
            body: .append(
                previous: LogPosition(term: 2, index: 4),
                entries: [Entry(term: 3, index: 5, content: .command([0xca, 0xfe]))], commit: 4))
        #expect(try MessageCodec.decode(fixture) == expected)
        #expect(MessageCodec.encode(expected) == fixture)
    }
}
