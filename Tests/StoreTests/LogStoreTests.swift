// SPDX-License-Identifier: Apache-2.0
import Consensus
import Foundation
import SQLite
import TestSupport
import Testing
import Wire

@testable import Store

@Suite struct LogStoreTests {
    private let scratch: Scratch
    private var directory: String { scratch.path }

    init() throws { scratch = try Scratch() }

    private var path: String { directory + "/log.db" }

    private func entry(_ index: UInt64, _ term: UInt64, _ text: String = "x") -> Entry {
        Entry(term: term, index: index, content: .command(Array(text.utf8)))
    }

    @Test func `what was written is there again, and nothing else`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var hard = HardState()
        var base = SnapshotInfo(position: .zero, members: Members())
        var entries: [Entry] = []
        for round in 0..<30 {
            let store = try LogStore(path: path)
            let contents = try store.load()
            #expect(
                contents.hard == hard && contents.base == base && contents.entries == entries, "seed \(seed) \(round)")
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                switch Int.random(in: 0...5, using: &random) {
                case 0:
                    hard = HardState(term: hard.term + 1, vote: Bool.random(using: &random) ? NodeID(.max) : nil)
                    try store.write(Write(number: 1, hard: hard))
                case 1 where entries.count > 2:
                    // Forgets the beginning.
                    let count = Int.random(in: 1..<entries.count, using: &random)
                    base = SnapshotInfo(
                        position: entries[count - 1].position, members: Members(voters: [NodeID(1), NodeID(2)]))
                    entries.removeFirst(count)
                    try store.discard(base)
                case 2 where Int.random(in: 0..<8, using: &random) == 0:
                    base = SnapshotInfo(
                        position: LogPosition(term: hard.term, index: base.position.index + 100),
                        members: Members([.init(NodeID(7), .joining)], outgoing: [NodeID(3)]))
                    entries = []
                    try store.install(base)
                default:
                    // Takes back some of the end and appends.
                    entries.removeLast(Int.random(in: 0...min(3, entries.count), using: &random))
                    let first = base.position.index + UInt64(entries.count) + 1
                    let more = (0..<UInt64.random(in: 1...5, using: &random)).map { offset in
                        entry(first + offset, hard.term, String(repeating: "ab", count: Int(offset)))
                    }
                    entries += more
                    try store.write(Write(number: 1, entries: more))
                }
            }
        }
    }

    @Test func `a damaged, a lost and an exchanged entry are found, and none is dropped`() throws {
        for damage in [
            "UPDATE log SET data = x'00' WHERE idx = 3", "DELETE FROM log WHERE idx = 3",
            "UPDATE log SET term = 7 WHERE idx = 3",
            "UPDATE log SET idx = -1 WHERE idx = 3; UPDATE log SET idx = 3 WHERE idx = 4; UPDATE log SET idx = 4 WHERE idx = -1",
        ] {
            try? FileManager.default.removeItem(atPath: path)
            do {
                let store = try LogStore(path: path)
                _ = try store.load()
                try store.write(Write(number: 1, entries: (1...5).map { entry($0, 1, "e\($0)") }))
            }
            do { try Database(path: path).run(damage) }
            let store = try LogStore(path: path)
            do {
                _ = try store.load()
                Issue.record("\(damage) was not found")
            } catch let error {
                guard case .corrupt(_, index: 3, _) = error else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
    }

    @Test func `a write that would leave a hole is refused`() throws {
        let store = try LogStore(path: path)
        try store.write(Write(number: 1, entries: [entry(1, 1), entry(2, 1)]))
        #expect(throws: StoreError.self) { try store.write(Write(number: 2, entries: [entry(4, 1)])) }
        try store.discard(SnapshotInfo(position: LogPosition(term: 1, index: 1), members: Members()))
        #expect(throws: StoreError.self) { try store.write(Write(number: 3, entries: [entry(1, 2)])) }
        #expect(try store.load().entries == [entry(2, 1)])
    }

    @Test func `a second node on the same directory is turned away`() throws {
        let first = try LogStore(path: path)
        try first.write(Write(number: 1, hard: HardState(term: 1)))
        #expect(throws: StoreError.inUse(path)) { try LogStore(path: path) }
    }

    @Test func `a file of a later version is left alone`() throws {
        do { _ = try LogStore(path: path) }
        do { try Database(path: path).run("PRAGMA user_version=9") }
        #expect(throws: StoreError.version(path, found: 9, known: 1)) { try LogStore(path: path) }
    }

    @Test func `an entry of a later version stops the reader`() throws {
        #expect(throws: StoreError.unknownKind(99)) { try EntryCodec.decode(kind: 99, []) }
        let members = Members(
            [.init(NodeID(5), .voter), .init(NodeID(9), .joining)], outgoing: [NodeID(2), NodeID(3)])
        let bytes = EntryCodec.encode(members)
        #expect(try EntryCodec.decodeMembers(bytes) == members)
        for length in 0..<bytes.count {
            #expect(throws: (any Error).self) { try EntryCodec.decodeMembers(Array(bytes[..<length])) }
        }
    }

    @Test func `the checksum is Castagnoli's`() {
        var crc = CRC32C()
        crc.add("123456789".utf8)
        #expect(crc.value == 0xe306_9283)
    }
}
