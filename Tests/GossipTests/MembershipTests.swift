// SPDX-License-Identifier: Apache-2.0
import Gossip
import TestSupport
import Testing
import Wire

/// Nodes that ask each other whether they are there, over a network that a seed makes up.
private struct Village {
    var nodes: [PeerID: Membership] = [:]
    var starts: [PeerID: UInt64] = [:]
    var now: UInt64 = 1
    var sky: [(at: UInt64, from: PeerID, to: PeerID, message: MembershipMessage)] = []
    var random: SeededRandom
    var loss = 0.0
    var down: Set<PeerID> = []
    var cuts: Set<[PeerID]> = []
    /// Nodes that take so long to read what came.
    var slow: [PeerID: UInt64] = [:]
    var changes: [(at: UInt64, by: PeerID, of: PeerID, state: MemberState)] = []
    var messages = 0
    /// How slow each took itself to be at most.
    var doubts: [PeerID: Int] = [:]

    init(_ count: Int, seed: UInt64) {
        random = SeededRandom(seed: seed)
        for number in 1...UInt64(count) { starts[PeerID(number)] = 1 }
        for id in starts.keys { begin(id) }
    }

    mutating func begin(_ id: PeerID) {
        var node = Membership(own: id, epoch: starts[id] ?? 1, metadata: [UInt8(id.value)], seed: random.next())
        node.setMembers(starts, now: now)
        nodes[id] = node
        down.remove(id)
    }

    mutating func restart(_ id: PeerID) {
        starts[id, default: 1] += 1
        begin(id)
        // The others learn of the start when it connects to them.
        for other in nodes.keys where other != id { nodes[other]?.setMembers(starts, now: now) }
    }

    mutating func act(_ id: PeerID, _ effects: [Membership.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let to, let message):
                messages += 1
                var out = ByteWriter()
                GossipFrame.membership(message).encode(into: &out)
                #expect((try? GossipFrame.decode(out.bytes)) == [.membership(message)])
                if Double.random(in: 0..<1, using: &random) < loss { continue }
                let delay = UInt64.random(in: 200_000...900_000, using: &random) + (slow[id] ?? 0) + (slow[to] ?? 0)
                sky.append((now + delay, id, to, message))
            case .askByStream(let target):
                if !down.contains(target), !cuts.contains([id, target]), !cuts.contains([target, id]),
                    (slow[target] ?? 0) < 400_000_000
                {
                    nodes[id]?.streamAnswered(target, now: now)
                }
            case .changed(let of, let state): changes.append((now, id, of, state))
            }
        }
    }

    mutating func run(for nanoseconds: UInt64) {
        let end = now + nanoseconds
        while now < end {
            now += 25_000_000
            let due = sky.filter { $0.at <= now }
            sky.removeAll { $0.at <= now }
            for one in due
            where !down.contains(one.to) && !down.contains(one.from) && !cuts.contains([one.from, one.to]) {
                if let effects = nodes[one.to]?.receive(one.message, from: one.from, now: now) { act(one.to, effects) }
            }
            for id in nodes.keys.sorted() where !down.contains(id) {
                if let effects = nodes[id]?.tick(now: now) { act(id, effects) }
                // Whoever drives it would not rest otherwise.
                #expect(nodes[id]?.nextDue ?? 0 > now)
                doubts[id] = max(doubts[id] ?? 0, nodes[id]?.health ?? 0)
            }
        }
    }

    func states(of id: PeerID) -> Set<MemberState> {
        Set(nodes.filter { $0.key != id && !down.contains($0.key) }.compactMap { $0.value.state(of: id)?.state })
    }
}

private let second: UInt64 = 1_000_000_000

@Suite struct MembershipTests {
    @Test func `who dies is suspected by all within seconds, and dead after the time to object`() {
        var village = Village(8, seed: SeededRandom.seed)
        village.run(for: 5 * second)
        village.changes = []
        village.down = [PeerID(3)]
        village.run(for: 12 * second)
        #expect(village.states(of: PeerID(3)).isSubset(of: [.suspect, .dead]), "seed \(SeededRandom.seed)")
        village.run(for: 30 * second)
        #expect(village.states(of: PeerID(3)) == [.dead], "seed \(SeededRandom.seed)")
        #expect(village.changes.allSatisfy { $0.of == PeerID(3) }, "nobody else was doubted, seed \(SeededRandom.seed)")
        // It is back under another start.
        village.restart(PeerID(3))
        village.run(for: 10 * second)
        #expect(village.states(of: PeerID(3)) == [.alive], "seed \(SeededRandom.seed)")
    }

    @Test func `loss of a fifth of all datagrams kills nobody`() {
        var village = Village(8, seed: SeededRandom.seed)
        village.loss = 0.2
        village.run(for: 120 * second)
        #expect(!village.changes.contains { $0.state == .dead }, "seed \(SeededRandom.seed)")
    }

    @Test func `a node that is cut off from one other is alive for all`() {
        var village = Village(6, seed: SeededRandom.seed)
        village.cuts = [[PeerID(1), PeerID(2)], [PeerID(2), PeerID(1)]]
        village.run(for: 60 * second)
        #expect(!village.changes.contains { $0.state == .dead }, "seed \(SeededRandom.seed)")
    }

    @Test func `a slow node doubts itself before it doubts the others`() {
        var village = Village(8, seed: SeededRandom.seed)
        village.slow = [PeerID(5): 700_000_000]
        village.run(for: 120 * second)
        let killed = village.changes.filter { $0.state == .dead && $0.of != PeerID(5) }
        #expect(killed.isEmpty, "seed \(SeededRandom.seed)")
        #expect(village.doubts[PeerID(5)] ?? 0 > 0)
    }

    @Test func `a split heals by itself, also when all took the others for dead`() {
        var village = Village(6, seed: SeededRandom.seed)
        village.run(for: 3 * second)
        let (left, right) = ((1...3).map { PeerID($0) }, (4...6).map { PeerID($0) })
        for a in left { for b in right { village.cuts.formUnion([[a, b], [b, a]]) } }
        village.run(for: 120 * second)
        #expect(
            left.allSatisfy { village.nodes[$0]?.state(of: PeerID(5))?.state == .dead }, "seed \(SeededRandom.seed)")
        village.cuts = []
        village.run(for: 60 * second)
        for id in village.nodes.keys { #expect(village.states(of: id) == [.alive], "seed \(SeededRandom.seed)") }
    }

    @Test func `who leaves says so, and is not asked any more`() {
        var village = Village(5, seed: SeededRandom.seed)
        village.run(for: 3 * second)
        if let effects = village.nodes[PeerID(2)]?.leave() { village.act(PeerID(2), effects) }
        village.run(for: 1 * second)
        village.down = [PeerID(2)]
        village.run(for: 30 * second)
        #expect(village.states(of: PeerID(2)) == [.left], "seed \(SeededRandom.seed)")
        #expect(!village.changes.contains { $0.of == PeerID(2) && $0.state == .suspect })
        #expect(village.nodes[PeerID(1)]?.state(of: PeerID(3))?.metadata == [3])
    }

    @Test func `sixty-four nodes cost two messages a node and second`() {
        var village = Village(64, seed: SeededRandom.seed)
        village.run(for: 10 * second)
        #expect(village.messages <= 64 * 11 * 2 + 64)
        #expect(village.changes.isEmpty)
    }
}
