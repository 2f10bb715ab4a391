// SPDX-License-Identifier: Apache-2.0
import FlowState
import Gossip
import Simulation
import Synchronization
import TestSupport
import Testing
import Wire

private let uplink = Simulation.Tag(bits: 0x77)
private let second: UInt64 = 1_000_000_000

/// What daemons of uplinks learn, as hosts tell each other.
@Suite struct RouteRowTests {
    private func key(_ number: UInt32, _ length: Int = 24) -> RouteKey {
        RouteKey(
            Prefix(IPAddress(IPv4Address(bits: 0x0a00_0000 | number << 8)).masked(length), length: length), port: uplink
        )
    }

    private let first = UplinkRoute(gateways: [IPAddress(IPv4Address(bits: 0x6440_0101))], metric: 7)
    private let other = UplinkRoute(
        gateways: [
            IPAddress(IPv4Address(bits: 0x6440_0105)), IPAddress(high: 0xfe80 << 48, low: 1, family: .ipv6),
        ], metric: 3)

    private func learn(_ hosts: Hosts, _ host: Int, _ key: RouteKey, _ route: UplinkRoute) {
        var told = ToldEntries()
        _ = hosts.hosts[host].table.learn(key, route, now: hosts.now, told: &told)
        hosts.hosts[host].replication.tell(told, first: [], now: hosts.now)
    }

    private func pass(_ hosts: Hosts, _ seconds: UInt64) {
        hosts.clock.withLock { $0 += seconds * second }
        hosts.run(for: 10_000_000)
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
    }

    @Test func `all hosts know what one learned, and hear of each change`() throws {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        learn(hosts, 0, key(1), first)
        learn(hosts, 0, key(2), other)
        hosts.run(for: 10_000_000)
        for host in hosts.hosts {
            #expect(host.table.route(key(1)) == first && host.table.route(key(2)) == other)
            #expect(host.table.takeRouteNews() == [key(1), key(2)])
            #expect(host.table.takeRouteNews().isEmpty)
        }
        learn(hosts, 0, key(1), other)
        learn(hosts, 0, key(2), .withdrawn)
        learn(hosts, 0, key(3), first)
        learn(hosts, 0, key(3), first)
        hosts.run(for: 10_000_000)
        for host in hosts.hosts {
            #expect(host.table.route(key(1)) == other && host.table.route(key(2)) == UplinkRoute.withdrawn)
            #expect(host.table.takeRouteNews() == [key(1), key(2), key(3)])
        }
        #expect(hosts.isEqual())
    }

    @Test
    func `a route that is told again lives on, one that is not is forgotten, and who missed its end brings none back`()
        throws
    {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        for number in 1...3 as ClosedRange<UInt32> { learn(hosts, 0, key(number), first) }
        hosts.run(for: 10_000_000)
        hosts.isLost.withLock { $0 = { _, to in to == PeerID(3) } }
        learn(hosts, 0, key(1), .withdrawn)
        hosts.run(for: 10_000_000)
        hosts.isLost.withLock { $0 = { _, _ in false } }
        for _ in 0..<15 {
            pass(hosts, 300)
            learn(hosts, 0, key(2), first)
            hosts.run(for: 10_000_000)
        }
        for host in hosts.hosts {
            #expect(host.table.route(key(1))?.gateways.isEmpty ?? true)
            #expect(host.table.route(key(2)) == first)
            #expect(host.table.route(key(3)) == nil)
        }
    }

    @Test func `what bytes say of routes is read or refused, whatever they are`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let hosts = Hosts(1)
        for number in 0..<20 as Range<UInt32> {
            learn(hosts, 0, key(number, Int(number)), number % 3 == 0 ? .withdrawn : number % 2 == 0 ? first : other)
        }
        let rows = hosts.hosts[0].table.allRows(now: hosts.now)
        for _ in 0..<3000 {
            var bytes = rows
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let table = StateTable()
            var news: Set<Simulation.Tag> = []
            try? table.merge(bytes, now: hosts.now, &news)
            for (key, route) in table.allRoutes {
                #expect(key.prefix.address.masked(key.prefix.length) == key.prefix.address, "seed \(seed)")
                #expect(route.gateways.count <= UplinkRoute.mostGateways, "seed \(seed)")
            }
        }
        let table = StateTable()
        var news: Set<Simulation.Tag> = []
        try table.merge(rows, now: hosts.now, &news)
        #expect(Set(table.allRoutes.map(\.key)) == Set((0..<20 as Range<UInt32>).map { key($0, Int($0)) }))
    }
}
