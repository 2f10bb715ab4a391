// SPDX-License-Identifier: Apache-2.0
import FlowState
import Gossip
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

private let zone = Simulation.Tag(bits: 0x77)
private let second: UInt64 = 1_000_000_000

private func ip(_ number: UInt32) -> IPAddress { IPAddress(IPv4Address(bits: number)) }

private func tcp(_ port: UInt16, to destination: UInt32 = 0x0a00_0002) -> ConnectionTuple {
    ConnectionTuple(
        source: ip(0x0a00_0001), destination: ip(destination), sourcePort: port, destinationPort: 80,
        ipProtocol: IPProtocol.tcp)
}

private func masquerade(_ port: UInt16, as translated: UInt16) -> TranslationUse {
    let original = tcp(port, to: 0x0808_0808)
    var reply = original.reversed
    (reply.destination, reply.destinationPort) = (ip(0xc000_0201), translated)
    return TranslationUse(zone: zone, original: original, reply: reply, isNew: false, isReturn: false)
}

@Suite struct ReplicationTests {
    @Test func `a connection is where its answer may come in before anybody else hears of it`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        hosts.learn(0, .connection(tcp(1), zone: zone, flags: 0x02), first: [1])
        hosts.deliver()
        #expect(hosts.connection(1, tcp(1).reversed, zone: zone) == ConnectionMatch(isReturn: true))
        #expect(hosts.hosts[1].news.tags.withLock { $0 } == [.connection(tcp(1), zone: zone)])
        hosts.run(for: 50_000_000)
        #expect(hosts.connection(2, tcp(1), zone: zone) == nil, "nobody answered: a flood is not told to all")
        // The answer comes in by the other host, and makes it everybody's.
        hosts.learn(1, .connection(tcp(1).reversed, zone: zone, flags: 0x12))
        hosts.run(for: 5_000_000)
        #expect(hosts.connection(2, tcp(1), zone: zone) == ConnectionMatch(isReturn: false))
        #expect(hosts.isEqual())
    }

    @Test func `translations, stations and neighbors are told, and what is lost comes again`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        var random = SeededRandom(seed: SeededRandom.seed)
        let losses = (0..<4000).map { _ in Int.random(in: 0..<20, using: &random) == 0 }
        let counter = Counter()
        hosts.isLost.withLock { $0 = { _, _ in losses[counter.next() % losses.count] } }
        for port in UInt16(1)...200 {
            hosts.learn(0, .translation(masquerade(port, as: port + 5000), flags: 0x02), first: [1])
            var back = masquerade(port, as: port + 5000)
            back.isReturn = true
            hosts.learn(0, .translation(back, flags: 0x12))
            hosts.learn(1, .mac(MACAddress(bits: UInt64(port)), vlan: 0, bridge: zone, port: Simulation.Tag(bits: 4)))
            hosts.learn(2, .neighbor(ip(UInt32(port)), mac: MACAddress(bits: 9), port: Simulation.Tag(bits: 5)))
            hosts.run(for: 300_000)
        }
        hosts.run(for: 300_000_000)
        #expect(hosts.isEqual(), "seed \(SeededRandom.seed)")
        for host in 0..<3 {
            let table = hosts.hosts[host].table
            #expect(table.translationCount.count == 200)
            #expect(table.translation(masquerade(7, as: 5007).reply, zone: zone)?.side == .reply)
            #expect(table.port(of: MACAddress(bits: 7), vlan: 0, bridge: zone) == Simulation.Tag(bits: 4))
            #expect(table.neighbor(ip(7), port: Simulation.Tag(bits: 5)) == .at(MACAddress(bits: 9)))
        }
    }

    private final class Counter: Sendable {
        private let value = Mutex(0)
        func next() -> Int {
            value.withLock { value in
                value += 1
                return value
            }
        }
    }

    @Test func `the later of two that say otherwise stands everywhere`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        let station = MACAddress(bits: 0x0e00_0000_0001)
        hosts.learn(0, .mac(station, vlan: 0, bridge: zone, port: Simulation.Tag(bits: 1)))
        hosts.run(for: 10_000_000)
        hosts.learn(1, .mac(station, vlan: 0, bridge: zone, port: Simulation.Tag(bits: 2)))
        hosts.run(for: 10_000_000)
        for host in hosts.hosts {
            #expect(host.table.port(of: station, vlan: 0, bridge: zone) == Simulation.Tag(bits: 2))
        }
        // Two hosts that do not hear each other both give a port; when they do, one of them stands.
        hosts.isLost.withLock { $0 = { _, _ in true } }
        for (host, port) in [(0, UInt16(1)), (1, 2)] {
            var use = masquerade(port, as: 6000)
            hosts.learn(host, .translation(use, flags: 0x02))
            use.isReturn = true
            hosts.learn(host, .translation(use, flags: 0x12))
            hosts.run(for: 5_000_000)
        }
        hosts.isLost.withLock { $0 = { _, _ in false } }
        hosts.run(for: 2 * second)
        #expect(hosts.isEqual())
        for host in hosts.hosts {
            #expect(
                host.table.translation(masquerade(1, as: 6000).reply, zone: zone)?.original.sourcePort == 2)
        }
    }

    @Test func `hosts that were apart are equal after they compared, whoever asks`() throws {
        let hosts = Hosts(2)
        for port in UInt16(1)...3000 {
            let host = Int(port % 2)
            hosts.learn(host, .connection(tcp(port), zone: zone, flags: 0x02))
            hosts.learn(host, .connection(tcp(port).reversed, zone: zone, flags: 0x12))
        }
        #expect(!hosts.isEqual())
        #expect(try hosts.compare(0, 1))
        #expect(hosts.isEqual())
        #expect(hosts.hosts[0].table.connectionCount.count == 3000)
        #expect(try !hosts.compare(1, 0))
        // What changed in the last moment is on its way, and is no difference.
        hosts.learn(0, .connection(tcp(9000), zone: zone, flags: 0x02))
        hosts.learn(0, .connection(tcp(9000).reversed, zone: zone, flags: 0x12))
        #expect(try !hosts.compare(0, 1, isFull: false))
        hosts.clock.withLock { $0 += second }
        #expect(try hosts.compare(0, 1, isFull: false))
        #expect(hosts.isEqual())
    }

    @Test func `what has ended does not come back by another host's memory`() throws {
        let hosts = Hosts(2)
        let udp = ConnectionTuple(
            source: ip(1), destination: ip(2), sourcePort: 1, destinationPort: 2, ipProtocol: IPProtocol.udp)
        hosts.learn(0, .connection(udp, zone: zone, flags: 0))
        hosts.learn(0, .connection(udp.reversed, zone: zone, flags: 0))
        _ = try hosts.compare(1, 0)
        #expect(hosts.connection(1, udp, zone: zone) != nil)
        // The host that hears of it now and then holds it longer.
        hosts.clock.withLock { $0 += 181 * second }
        _ = hosts.hosts[0].table.expire(now: hosts.now)
        #expect(hosts.hosts[0].table.connectionCount.count == 0)
        hosts.clock.withLock { $0 += 43 * second }
        #expect(hosts.hosts[1].table.connectionCount.count == 1)
        _ = try hosts.compare(0, 1)
        #expect(hosts.hosts[0].table.connectionCount.count == 0)
    }

    @Test func `what begins is later than all that was heard of, whatever the clocks say`() {
        // The first host's clock is a quarter of an hour ahead, and only the second hears of what it begins.
        let hosts = Hosts(3)
        hosts.hosts[0].table.set(RowStamps(origin: 1, offset: 1_700_000_900_000_000_000))
        hosts.run(for: 20_000_000)
        hosts.learn(0, .connection(tcp(1), zone: zone, flags: 0x02), first: [1])
        hosts.learn(0, .translation(masquerade(1, as: 7000), flags: 0x02), first: [1])
        hosts.run(for: 20_000_000)
        #expect(hosts.hosts[2].table.connectionCount.count == 0)
        // The same begins at the third, which was told nothing, and is answered by the second.
        hosts.learn(2, .connection(tcp(1), zone: zone, flags: 0x02), first: [1])
        hosts.learn(2, .translation(masquerade(1, as: 8000), flags: 0x02), first: [1])
        hosts.run(for: 5_000_000)
        var back = masquerade(1, as: 8000)
        back.isReturn = true
        hosts.learn(1, .connection(tcp(1).reversed, zone: zone, flags: 0x12))
        hosts.learn(1, .translation(back, flags: 0x12))
        hosts.run(for: 20_000_000)
        for host in hosts.hosts {
            #expect(host.table.connections(limit: 9) { _ in true }.map(\.stamp.origin) == [3])
            #expect(host.table.translations(limit: 9) { _ in true }.map(\.reply.destinationPort) == [8000])
        }
        #expect(hosts.isEqual())
    }

    @Test func `a port whose connection gave way is not given away at once`() throws {
        let hosts = Hosts(2)
        let key = TranslationPorts.Key(zone: zone, address: ip(0xc000_0201))
        let now = hosts.now
        hosts.hosts[0].table.withPorts { $0.set(key, [100], now: now) }
        let tuple = masquerade(1, as: 0).original
        let range = try #require(PortRange("6400-6463"))
        func choice(_ tuple: ConnectionTuple) -> SourceChoice {
            hosts.hosts[0].table.source(
                for: SourceWish(
                    zone: zone, tuple: tuple, first: ip(0xc000_0201), count: 1, ports: range))
        }
        guard case .found(_, let port) = choice(tuple) else {
            Issue.record("no port")
            return
        }
        hosts.learn(0, .translation(masquerade(1, as: port), flags: 0x02))
        // The machine moved, and began again by the other host, which has other ports.
        hosts.clock.withLock { $0 += second }
        hosts.learn(1, .translation(masquerade(1, as: 9000), flags: 0x02))
        try hosts.tell(1, to: [0])
        #expect(hosts.hosts[0].table.translation(tuple, zone: zone)?.reply.destinationPort == 9000)
        // Whoever did not hear of that sends the answer to the first port to this machine.
        for other in UInt16(2)...64 {
            guard case .found(_, let another) = choice(masquerade(other, as: 0).original) else { continue }
            #expect(another != port)
            hosts.learn(0, .translation(masquerade(other, as: another), flags: 0x02))
        }
        // After twice the time that it could be remembered for it is free again.
        hosts.clock.withLock { $0 += 130 * second }
        for _ in 0..<4 { _ = hosts.hosts[0].table.expire(now: hosts.now) }
        guard case .found = choice(masquerade(99, as: 0).original) else {
            Issue.record("no port is free")
            return
        }
        let translations = hosts.hosts[0].table.translationCount.count
        #expect(translations == 0)
    }

    @Test func `a packet that waits for its connection is answered by whoever knows it`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        hosts.learn(0, .connection(tcp(1), zone: zone, flags: 0x02))
        hosts.learn(0, .translation(masquerade(2, as: 7000), flags: 0x02))
        let keys =
            FlowReplication.key(ofConnection: tcp(1).reversed, zone: zone)
            + FlowReplication.key(ofTranslation: masquerade(2, as: 7000).reply, zone: zone)
        let tags: Set<Simulation.Tag> = [
            .connection(tcp(1), zone: zone), .translation(masquerade(2, as: 7000).reply, zone: zone),
        ]
        hosts.hosts[2].replication.want(keys, tags, from: [hosts.hosts[0].id, hosts.hosts[1].id], now: hosts.now)
        hosts.deliver()
        hosts.deliver()
        #expect(hosts.connection(2, tcp(1).reversed, zone: zone) == ConnectionMatch(isReturn: true))
        #expect(hosts.hosts[2].table.translation(masquerade(2, as: 7000).reply, zone: zone) != nil)
    }

    @Test func `who asked for a connection in vain is known for a second, until it begins`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        let (asker, other) = (hosts.hosts[2], hosts.hosts[1].id)
        let reply = masquerade(2, as: 7000).reply
        let keys =
            FlowReplication.key(ofConnection: tcp(1).reversed, zone: zone)
            + FlowReplication.key(ofTranslation: reply, zone: zone)
        let tags: Set<Simulation.Tag> = [.connection(tcp(1), zone: zone), .translation(reply, zone: zone)]
        asker.replication.want(keys, tags, from: [hosts.hosts[0].id, other], now: hosts.now)
        hosts.deliver()
        let knows = hosts.hosts[0].replication
        #expect(knows.askers(of: [.connection(tcp(3), zone: zone)], now: hosts.now) == [])
        // The connection begins in the other direction than it was asked for in.
        #expect(knows.askers(of: [.connection(tcp(1), zone: zone)], now: hosts.now) == [asker.id])
        #expect(knows.askers(of: [.connection(tcp(1), zone: zone)], now: hosts.now) == [], "it was told")
        let begun = Learned.translation(masquerade(2, as: 7000), flags: 0x02)
        #expect(knows.askers(of: Set(begun.tags), now: hosts.now + 2 * second) == [])
        asker.replication.want(keys, tags, from: [hosts.hosts[0].id, other], now: hosts.now)
        hosts.deliver()
        #expect(knows.askers(of: Set(begun.tags), now: hosts.now + second / 2) == [asker.id])
    }

    @Test func `what all others say that they don't know nobody waits for, and who is away is not waited for`() {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        let asker = hosts.hosts[2]
        let others = [hosts.hosts[0].id, hosts.hosts[1].id]
        let keys = FlowReplication.key(ofConnection: tcp(1), zone: zone)
        let tags: Set<Simulation.Tag> = [.connection(tcp(1), zone: zone)]
        func ask() -> Bool {
            asker.news.unknown.withLock { $0 = [] }
            asker.replication.want(keys, tags, from: others, now: hosts.now)
            hosts.deliver()
            hosts.deliver()
            return asker.news.unknown.withLock { $0 } == tags
        }
        #expect(!ask(), "who has just begun does not know what it does not know")
        hosts.hosts[0].replication.setCaughtUp()
        #expect(!ask(), "the other one may know")
        hosts.hosts[1].replication.setCaughtUp()
        #expect(ask())
        // A word that is lost is asked for again.
        hosts.isLost.withLock { $0 = { from, _ in from == others[1] } }
        #expect(!ask())
        hosts.isLost.withLock { $0 = { _, _ in false } }
        hosts.run(for: 6_000_000)
        #expect(asker.news.unknown.withLock { $0 } == tags)
        hosts.isLost.withLock { $0 = { from, _ in from == others[1] } }
        hosts.run(for: 3 * second)
        #expect(ask(), "one that was not heard for seconds is not there")
        // One that knows tells, and then there is nothing that nobody knows.
        hosts.isLost.withLock { $0 = { _, _ in false } }
        hosts.run(for: 20_000_000)
        hosts.learn(0, .connection(tcp(1), zone: zone, flags: 0x02))
        #expect(!ask())
        #expect(hosts.connection(2, tcp(1), zone: zone) != nil)
    }

    @Test func `in whichever order rows come, the same stands`() throws {
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<60 {
            let hosts = Hosts(3)
            var lifetimes = ConnectionLifetimes()
            lifetimes.tcpOpening = 2 * second
            for host in hosts.hosts {
                host.table.set(connections: [:], translations: [:], lifetimes: [zone: lifetimes])
            }
            hosts.run(for: 20_000_000)
            // Nothing arrives by itself; what was sent is delivered in any order, some of it twice, to all.
            var sent: [(PeerID, [UInt8])] = []
            for _ in 0..<40 {
                let host = Int.random(in: 0..<3, using: &random)
                let port = UInt16.random(in: 1...4, using: &random)
                let flags = [0x02, 0x12, 0x10, 0x11, 0x04].randomElement(using: &random) ?? 0x10
                let tuple = Bool.random(using: &random) ? tcp(port) : tcp(port).reversed
                hosts.learn(host, .connection(tuple, zone: zone, flags: UInt16(flags)))
                hosts.learn(
                    host,
                    .mac(
                        MACAddress(bits: UInt64(port)), vlan: 0, bridge: zone, port: Simulation.Tag(bits: UInt64(host)))
                )
                hosts.clock.withLock { $0 += UInt64.random(in: 0...3_000_000, using: &random) }
                for peer in hosts.hosts where peer.id != hosts.hosts[host].id {
                    sent.append((peer.id, hosts.hosts[host].table.allRows(now: hosts.now)))
                }
            }
            for host in hosts.hosts { sent.append((host.id, host.table.allRows(now: hosts.now))) }
            sent += sent.shuffled(using: &random).prefix(20)
            for (to, rows) in sent.shuffled(using: &random) {
                var news: Set<Simulation.Tag> = []
                guard let host = hosts.hosts.first(where: { $0.id == to }) else { continue }
                try host.table.merge(rows, now: hosts.now, &news)
            }
            // What began anew, and nobody answered, hides what was before as long as somebody may answer. Then all are equal,
            // whichever two compare first.
            hosts.clock.withLock { $0 += 3 * second }
            for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
            for _ in 0..<3 {
                for (asker, other) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)].shuffled(using: &random) {
                    try hosts.compare(asker, other)
                }
            }
            #expect(hosts.isEqual(), "seed \(SeededRandom.seed)")
        }
    }

    @Test func `no bytes from a wire are a trap`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        hosts.learn(0, .connection(tcp(1), zone: zone, flags: 0x02), first: [1])
        hosts.learn(0, .translation(masquerade(1, as: 2), flags: 0x02), first: [1])
        hosts.learn(0, .mac(MACAddress(bits: 1), vlan: 0, bridge: zone, port: zone), first: [1])
        let samples =
            hosts.hosts[0].wire.queue.withLock { $0.map(\.bytes) }
            + [
                hosts.hosts[0].table.question(isFull: true, now: hosts.now),
                hosts.hosts[0].table.allRows(now: hosts.now),
            ]
        for _ in 0..<20_000 {
            var bytes = samples.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0..<4, using: &random) where !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0...bytes.count, using: &random)) }
            hosts.hosts[1].replication.receive(bytes, from: hosts.hosts[0].id, now: hosts.now)
            _ = try? hosts.hosts[1].table.answer(
                bytes, from: UInt64.random(in: 0...UInt64.max, using: &random), now: hosts.now)
            _ = try? StateTable.read(answer: bytes)
            var news: Set<Simulation.Tag> = []
            try? hosts.hosts[1].table.merge(bytes, now: hosts.now, &news)
        }
    }
}
