// SPDX-License-Identifier: Apache-2.0
import Gossip
import TestSupport
import Testing
import Wire

/// Nodes that tell each other of rows over a network that loses, delays and repeats, all of it from a seed.
private struct Room {
    struct Node {
        var id: PeerID
        var life: UInt64 = 1
        var replicator: Replicator
        /// Value and log entry of each row by its writer and key.
        var own: [UInt64: (value: UInt64, entry: UInt64)] = [:]
        var rows: [PeerID: [UInt64: UInt64]] = [:]
    }
    enum Content {
        case rows(UInt64, [(UInt64, UInt64)])
        case frame(GossipFrame)
    }
    struct Datagram {
        var from: PeerID
        var life: UInt64
        var to: PeerID
        var content: Content
    }

    var nodes: [Node] = []
    var now: UInt64 = 1
    var sky: [(at: UInt64, datagram: Datagram)] = []
    var random: SeededRandom
    var loss = 0.0
    /// Who does not reach whom.
    var cuts: Set<[PeerID]> = []
    var compared = 0
    var datagrams = 0
    /// Datagrams with rows that were lost.
    var lost = 0
    let options: ReplicatorOptions

    init(count: Int, seed: UInt64, options: ReplicatorOptions = ReplicatorOptions()) {
        random = SeededRandom(seed: seed)
        self.options = options
        let ids = (1...UInt64(count)).map { PeerID($0) }
        for id in ids {
            var node = Node(id: id, replicator: Replicator(options: options))
            node.replicator.setPeers(Set(ids).subtracting([id]))
            nodes.append(node)
        }
    }

    mutating func write(_ node: Int, key: UInt64, value: UInt64, isShared: Bool = true) {
        let entry = nodes[node].replicator.append(key, isShared: isShared)
        nodes[node].own[key] = (value, entry)
        nodes[node].rows[nodes[node].id, default: [:]][key] = value
    }

    mutating func push(_ node: Int, key: UInt64, to other: Int) {
        guard let entry = nodes[node].own[key]?.entry,
            let number = nodes[node].replicator.push(entry..<entry + 1, to: nodes[other].id, now: now)
        else { return }
        act(node, .rows(to: nodes[other].id, number: number, entry..<entry + 1, isPush: true))
    }

    mutating func act(_ node: Int, _ effect: Replicator.Effect) {
        switch effect {
        case .rows(let to, let number, let entries, let isPush):
            var rows: [(UInt64, UInt64)] = []
            for entry in entries where isPush || nodes[node].replicator.isShared(entry) {
                // A row that changed since then is sent with its later entry.
                guard let key = nodes[node].replicator.handle(entry), let row = nodes[node].own[key], row.entry == entry
                else { continue }
                rows.append((key, row.value))
            }
            send(node, to, .rows(number, rows))
        case .frame(let to, let frame): send(node, to, .frame(frame))
        case .compare(let peer):
            compared += 1
            guard let other = nodes.firstIndex(where: { $0.id == peer }) else { return }
            // Comparing is reliable; what it brings is what the other has now.
            if cuts.contains([peer, nodes[node].id]) { return }
            for (writer, rows) in nodes[other].rows {
                for (key, value) in rows where value > nodes[node].rows[writer]?[key] ?? 0 {
                    nodes[node].rows[writer, default: [:]][key] = value
                }
            }
        }
    }

    private mutating func send(_ node: Int, _ to: PeerID, _ content: Content) {
        datagrams += 1
        if case .frame(let frame) = content {
            var out = ByteWriter()
            frame.encode(into: &out)
            #expect((try? GossipFrame.decode(out.bytes)) == [frame])
        }
        if cuts.contains([nodes[node].id, to]) { return }
        for _ in 0..<(Double.random(in: 0..<1, using: &random) < 0.02 ? 2 : 1) {
            if Double.random(in: 0..<1, using: &random) < loss {
                lost += 1
                continue
            }
            let delay = UInt64.random(in: 100_000...400_000, using: &random)
            sky.append((now + delay, Datagram(from: nodes[node].id, life: nodes[node].life, to: to, content: content)))
        }
    }

    /// A node loses everything, and runs again.
    mutating func restart(_ node: Int) {
        let id = nodes[node].id
        let others = Set(nodes.map(\.id)).subtracting([id])
        var fresh = Node(id: id, life: nodes[node].life + 1, replicator: Replicator(options: options))
        fresh.replicator.setPeers(others)
        // Its own rows come back from its disk, and are told to nobody anew.
        fresh.rows[id] = nodes[node].rows[id]
        nodes[node] = fresh
        for other in nodes.indices where other != node { nodes[other].replicator.began(id) }
    }

    mutating func run(for nanoseconds: UInt64) {
        let end = now + nanoseconds
        while now < end {
            now += 100_000
            let due = sky.filter { $0.at <= now }
            sky.removeAll { $0.at <= now }
            for (_, datagram) in due {
                guard let to = nodes.firstIndex(where: { $0.id == datagram.to }),
                    let from = nodes.first(where: { $0.id == datagram.from }), from.life == datagram.life
                else { continue }
                switch datagram.content {
                case .rows(let number, let rows):
                    guard nodes[to].replicator.received(number: number, from: datagram.from, now: now) else { continue }
                    for (key, value) in rows where value > nodes[to].rows[datagram.from]?[key] ?? 0 {
                        nodes[to].rows[datagram.from, default: [:]][key] = value
                    }
                case .frame(let frame):
                    for effect in nodes[to].replicator.received(frame, from: datagram.from, now: now) {
                        act(to, effect)
                    }
                }
            }
            for node in nodes.indices {
                for effect in nodes[node].replicator.tick(now: now) { act(node, effect) }
                #expect(nodes[node].replicator.nextDue > now)
                if now % 1_000_000 < 100_000, nodes[node].replicator.isPending(now: now) {
                    for effect in nodes[node].replicator.flush(now: now) { act(node, effect) }
                }
            }
        }
    }

    func isEqual(_ rows: [PeerID: [UInt64: UInt64]]) -> Bool { nodes.allSatisfy { $0.rows == rows } }
}

@Suite struct ReplicatorTests {
    @Test func everyRowReachesEverybodyThroughLossWithoutComparing() {
        var room = Room(count: 4, seed: SeededRandom.seed)
        room.run(for: 20_000_000)
        let before = room.compared
        room.loss = 0.05
        for step in 1...400 as ClosedRange<UInt64> {
            room.write(Int(step % 4), key: step % 37, value: step)
            room.run(for: 200_000)
        }
        room.run(for: 400_000_000)
        #expect(room.lost > 0)
        #expect(room.isEqual(room.nodes[0].rows), "seed \(SeededRandom.seed)")
        #expect(room.nodes[0].rows.values.reduce(0) { $0 + $1.count } == 4 * 37, "seed \(SeededRandom.seed)")
        #expect(room.compared == before, "seed \(SeededRandom.seed): what was lost was asked for")
    }

    @Test func aRowThatIsPushedIsThereBeforeTheOthersHearOfIt() {
        var room = Room(count: 3, seed: SeededRandom.seed)
        room.run(for: 20_000_000)
        room.write(0, key: 1, value: 7, isShared: false)
        room.push(0, key: 1, to: 1)
        room.run(for: 500_000)
        #expect(room.nodes[1].rows[PeerID(1)] == [1: 7])
        room.run(for: 100_000_000)
        #expect(room.nodes[2].rows[PeerID(1)] == nil, "it is not for everybody")
        room.write(0, key: 1, value: 8)
        room.run(for: 10_000_000)
        #expect(room.nodes[2].rows[PeerID(1)] == [1: 8])
    }

    @Test func aLostPushIsAskedForWithinMilliseconds() {
        var room = Room(count: 2, seed: SeededRandom.seed)
        room.run(for: 20_000_000)
        room.write(0, key: 1, value: 7, isShared: false)
        room.loss = 1
        room.push(0, key: 1, to: 1)
        room.loss = 0
        room.run(for: 8_000_000)
        #expect(room.nodes[1].rows[PeerID(1)] == [1: 7], "seed \(SeededRandom.seed)")
    }

    @Test func whoIsAwayForLongComparesAndNoQueueGrows() {
        var options = ReplicatorOptions()
        options.entries = 256
        var room = Room(count: 3, seed: SeededRandom.seed, options: options)
        room.run(for: 20_000_000)
        room.cuts = [[PeerID(1), PeerID(3)], [PeerID(3), PeerID(1)]]
        for step in 1...2000 as ClosedRange<UInt64> {
            room.write(0, key: step, value: step)
            if step % 10 == 0 { room.run(for: 2_000_000) }
        }
        room.run(for: 4_000_000_000)
        #expect(room.nodes[1].rows[PeerID(1)]?.count == 2000)
        let status = room.nodes[0].replicator.status(of: PeerID(3))
        #expect(status.map { $0.sent - $0.acknowledged } ?? .max <= 2000)
        let before = room.compared
        room.cuts = []
        room.run(for: 2_000_000_000)
        #expect(room.compared > before)
        #expect(room.isEqual(room.nodes[0].rows), "seed \(SeededRandom.seed)")
    }

    @Test func aNodeThatBeginsAnewHasEverythingAgain() {
        var room = Room(count: 3, seed: SeededRandom.seed)
        room.run(for: 20_000_000)
        for step in 1...100 as ClosedRange<UInt64> {
            room.write(Int(step % 3), key: step, value: step)
            room.run(for: 300_000)
            if step == 50 { room.restart(1) }
        }
        room.run(for: 1_500_000_000)
        #expect(room.isEqual(room.nodes[0].rows), "seed \(SeededRandom.seed)")
    }

    @Test func quietNodesSayLittle() {
        var room = Room(count: 8, seed: SeededRandom.seed)
        room.run(for: 2_000_000_000)
        let before = room.datagrams
        room.run(for: 10_000_000_000)
        // One word a second to each peer.
        #expect(room.datagrams - before <= 8 * 7 * 11)
    }

    @Test func lossCutsAndRestartsEndInEqualTables() {
        for round in 0..<8 as Range<UInt64> {
            let seed = SeededRandom.seed &+ round
            var options = ReplicatorOptions()
            options.entries = 512
            var room = Room(count: 3, seed: seed, options: options)
            room.run(for: 20_000_000)
            for step in 1...300 as ClosedRange<UInt64> {
                let node = Int.random(in: 0..<3, using: &room.random)
                switch Int.random(in: 0..<100, using: &room.random) {
                case 0: room.restart(node)
                case 1: room.loss = Double.random(in: 0...0.3, using: &room.random)
                case 2: room.cuts.insert([PeerID(UInt64(node + 1)), PeerID(UInt64((node + 1) % 3 + 1))])
                case 3: room.cuts = []
                case 4: room.run(for: 3_500_000_000)
                default:
                    room.write(node, key: UInt64.random(in: 0..<50, using: &room.random), value: step)
                    if step % 3 == 0 { room.push(node, key: step % 50, to: (node + 1) % 3) }
                }
                room.run(for: 300_000)
            }
            (room.loss, room.cuts) = (0, [])
            room.run(for: 3_000_000_000)
            // What was never told because its writer restarted first comes by comparing, which here only channels ask for.
            for node in room.nodes.indices {
                for other in room.nodes.indices where other != node { room.act(node, .compare(room.nodes[other].id)) }
            }
            #expect(room.isEqual(room.nodes[0].rows), "SELVAGE_SEED=\(seed)")
        }
    }
}

@Suite struct ReplayWindowTests {
    @Test func eachCounterIsTakenOnceHoweverTheyCome() {
        var random = SeededRandom(seed: SeededRandom.seed)
        var window = ReplayWindow()
        var taken: Set<UInt64> = []
        var highest: UInt64 = 0
        for _ in 0..<200_000 {
            let back = UInt64.random(in: 0..<6000, using: &random)
            let ahead =
                UInt64.random(in: 0..<100, using: &random) == 0 ? UInt64.random(in: 1...9000, using: &random) : 1
            let counter = Bool.random(using: &random) ? highest + ahead : highest - min(highest, back)
            let isOld = counter + ReplayWindow.size <= highest
            let isTaken = window.take(counter)
            #expect(isTaken == (!isOld && !taken.contains(counter)), "seed \(SeededRandom.seed), counter \(counter)")
            if isTaken { taken.insert(counter) }
            highest = max(highest, isTaken ? counter : highest)
        }
        let isLast = window.take(.max)
        #expect(!isLast)
    }
}

@Suite struct NumberRangesTests {
    @Test func rangesAreTheSetOfTheirNumbers() {
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<200 {
            var ranges = NumberRanges()
            var model: Set<UInt64> = []
            var end: UInt64 = 0
            for _ in 0..<60 {
                switch Int.random(in: 0..<5, using: &random) {
                case 0, 1:
                    let first = end + UInt64.random(in: 0..<4, using: &random)
                    end = first + UInt64.random(in: 0..<6, using: &random)
                    ranges.append(first..<end)
                    model.formUnion(first..<end)
                case 2, 3:
                    let number = UInt64.random(in: 0...end, using: &random)
                    let isThere = ranges.remove(number)
                    #expect(isThere == (model.remove(number) != nil))
                default:
                    let limit = UInt64.random(in: 0...end, using: &random) / 2
                    let isSome = ranges.remove(upTo: limit)
                    #expect(isSome == model.contains { $0 < limit })
                    model = model.filter { $0 >= limit }
                }
                #expect(Set(ranges.ranges.joined()) == model, "seed \(SeededRandom.seed)")
                #expect(zip(ranges.ranges, ranges.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
            }
        }
    }
}
