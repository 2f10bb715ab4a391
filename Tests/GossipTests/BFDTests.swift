// SPDX-License-Identifier: Apache-2.0
import Gossip
import TestSupport
import Testing
import Wire

private let millisecond: UInt64 = 1_000_000
private let second: UInt64 = 1_000_000_000

/// Two hosts and the way between them, over a network that a seed makes up.
private struct Way {
    var ends: [PathMonitor<Int>]
    var now: UInt64 = 1
    var sky: [(at: UInt64, to: Int, packet: BFDPacket)] = []
    var random: SeededRandom
    var loss = 0.0
    /// Longest time on the way.
    var delay = 2 * millisecond
    /// Ends that what is sent to is lost.
    var deaf: Set<Int> = []
    var changes: [(at: UInt64, end: Int, state: PathState)] = []
    /// When packets went, by end.
    var departures: [[UInt64]] = [[], []]

    init(seed: UInt64, _ options: [BFDOptions] = [BFDOptions(), BFDOptions()]) {
        random = SeededRandom(seed: seed)
        ends = []
        for option in options { ends.append(PathMonitor(options: option, seed: random.next())) }
        for end in 0...1 { ends[end].setPaths([7], now: now) }
    }

    mutating func restart(_ end: Int) {
        ends[end] = PathMonitor(seed: random.next())
        ends[end].setPaths([7], now: now)
    }

    mutating func act(_ end: Int, _ effects: [PathMonitor<Int>.Effect]) {
        for effect in effects {
            switch effect {
            case .changed(_, let state): changes.append((now, end, state))
            case .send(_, let packet):
                departures[end].append(now)
                #expect((try? BFDPacket(reading: packet.bytes)) == packet)
                if deaf.contains(1 - end) || Double.random(in: 0..<1, using: &random) < loss { continue }
                sky.append((now + UInt64.random(in: 1...delay, using: &random), 1 - end, packet))
            }
        }
    }

    mutating func run(for time: UInt64) {
        let until = now + time
        while true {
            let arrival = sky.indices.min { sky[$0].at < sky[$1].at }
            let due = min(max(now, min(ends[0].nextDue, ends[1].nextDue)), arrival.map { sky[$0].at } ?? .max)
            if due > until { break }
            now = max(now, due)
            if let arrival, sky[arrival].at <= now {
                let one = sky.remove(at: arrival)
                act(one.to, ends[one.to].receive(one.packet, on: 7, now: now))
            }
            for end in 0...1 where ends[end].nextDue <= now { act(end, ends[end].tick(now: now)) }
        }
        now = until
    }

    var states: [PathState] { ends.map { $0.statuses[0].state } }
}

@Suite struct BFDTests {
    @Test func `a way comes up at once and a dead one is known within 300 milliseconds, by both ends`() {
        for round in 0..<50 as Range<UInt64> {
            var way = Way(seed: SeededRandom.seed &+ round)
            way.run(for: 1500 * millisecond)
            #expect(way.states == [.up, .up], "seed \(SeededRandom.seed &+ round)")
            way.run(for: UInt64.random(in: 0...second, using: &way.random))
            way.changes = []
            let died = way.now
            way.deaf = round % 3 == 0 ? [0] : round % 3 == 1 ? [1] : [0, 1]
            way.run(for: second)
            #expect(way.states == [.down, .down], "seed \(SeededRandom.seed &+ round)")
            #expect(way.changes.count == 2 && way.changes.allSatisfy { $0.at - died < 300 * millisecond })
            way.deaf = []
            way.run(for: 3 * second)
            #expect(way.states == [.up, .up], "seed \(SeededRandom.seed &+ round)")
        }
    }

    @Test func `one in fifty packets may be lost`() {
        var way = Way(seed: SeededRandom.seed)
        way.run(for: 2 * second)
        way.loss = 0.02
        way.changes = []
        way.run(for: 600 * second)
        // Three in a row are lost once in 125,000.
        #expect(way.changes.count <= 8, "seed \(SeededRandom.seed)")
        way.loss = 0
        way.run(for: 3 * second)
        #expect(way.states == [.up, .up], "seed \(SeededRandom.seed)")
    }

    @Test func `packets go at the interval less up to a quarter, and once a second while nobody answers`() {
        var way = Way(seed: SeededRandom.seed)
        way.run(for: 2 * second)
        way.departures = [[], []]
        way.run(for: 60 * second)
        for times in way.departures {
            let gaps = zip(times.dropFirst(), times).map { $0 - $1 }
            #expect(gaps.allSatisfy { $0 <= 80 * millisecond && $0 >= 60 * millisecond }, "seed \(SeededRandom.seed)")
            #expect(Set(gaps).count > 10, "ends do not come to send in step")
        }
        way.deaf = [0, 1]
        way.run(for: 2 * second)
        way.departures = [[], []]
        way.run(for: 60 * second)
        for times in way.departures { #expect((60...81).contains(times.count)) }
    }

    @Test func `an end that begins anew is up again at once, though it was never seen to be down`() {
        for round in 0..<20 as Range<UInt64> {
            var way = Way(seed: SeededRandom.seed &+ round)
            way.run(for: 3 * second)
            way.restart(1)
            way.run(for: 100 * millisecond)
            #expect(way.states == [.up, .up], "seed \(SeededRandom.seed &+ round)")
        }
    }

    @Test func `who stops says so: the way may work still, for a while`() {
        var way = Way(seed: SeededRandom.seed)
        way.run(for: 3 * second)
        way.act(1, way.ends[1].stop(now: way.now))
        way.run(for: 10 * millisecond)
        way.deaf = [0, 1]
        way.run(for: 29 * second)
        #expect(way.states[0] == .unknown)
        way.run(for: 2 * second)
        #expect(way.states[0] == .down)
    }

    @Test func `a way that never worked is doubted for three seconds`() {
        var way = Way(seed: SeededRandom.seed)
        way.deaf = [0, 1]
        way.run(for: 2900 * millisecond)
        #expect(way.states == [.unknown, .unknown])
        way.run(for: 200 * millisecond)
        #expect(way.states == [.down, .down])
    }

    @Test func `ends of unlike intervals agree on the slower one`() {
        var slow = BFDOptions()
        slow.interval = 300 * millisecond
        slow.multiplier = 5
        var way = Way(seed: SeededRandom.seed, [BFDOptions(), slow])
        way.run(for: 3 * second)
        #expect(way.states == [.up, .up])
        #expect(way.ends[0].statuses[0].detectionTime == 1500 * millisecond)
        #expect(way.ends[1].statuses[0].detectionTime == 900 * millisecond)
        way.departures = [[], []]
        way.run(for: 30 * second)
        #expect(way.departures.allSatisfy { (99...135).contains($0.count) }, "seed \(SeededRandom.seed)")
        #expect(way.states == [.up, .up])
    }

    @Test func `packets of other sessions, and what is no packet, change nothing`() {
        var way = Way(seed: SeededRandom.seed)
        way.run(for: 3 * second)
        var stranger = BFDPacket()
        (stranger.own, stranger.yours, stranger.state) = (5, 6, .down)
        #expect(way.ends[0].receive(stranger, on: 7, now: way.now).isEmpty)
        stranger.yours = 0
        #expect(way.ends[0].receive(stranger, on: 8, now: way.now).isEmpty)
        #expect(way.states == [.up, .up])
        // The rules of RFC 5880 section 6.8.6, one by one.
        stranger.yours = 6
        let good = stranger.bytes
        #expect((try? BFDPacket(reading: good)) == stranger)
        for (place, value) in [(0, 0x40), (1, 0x44), (1, 0x41), (2, 0), (3, 23), (3, 25)] as [(Int, UInt8)] {
            var bad = good
            bad[place] = value
            #expect(throws: MalformedBytes.self, "byte \(place) is \(value)") { try BFDPacket(reading: bad) }
        }
        var unnamed = stranger
        unnamed.own = 0
        #expect(throws: MalformedBytes.self) { try BFDPacket(reading: unnamed.bytes) }
        (unnamed.own, unnamed.yours, unnamed.state) = (1, 0, .up)
        #expect(throws: MalformedBytes.self) { try BFDPacket(reading: unnamed.bytes) }
        for length in 0..<24 { #expect((try? BFDPacket(reading: Array(good.prefix(length)))) == nil) }
        for _ in 0..<100_000 {
            let bytes = (0..<Int.random(in: 0...40, using: &way.random)).map { _ in
                UInt8.random(in: 0...255, using: &way.random)
            }
            guard let packet = try? BFDPacket(reading: bytes) else { continue }
            _ = way.ends[0].receive(packet, on: 7, now: way.now)
        }
        way.run(for: 3 * second)
        #expect(way.states == [.up, .up], "seed \(SeededRandom.seed)")
    }
}
