// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@Suite struct QuotaTests {
    private final class Table {
        private var table = ConnectionTable(seed: 3, limit: 64)
        private var next: UInt32 = 1
        init(_ standard: ConnectionBounds, _ byTenant: [Simulation.Tag: ConnectionBounds] = [:]) {
            table.setBounds(standard, byTenant: byTenant)
        }
        /// Begins connections at a port of a tenant until one is refused; how many there were.
        func fill(_ tenant: String, _ port: UInt64, upTo most: Int) -> Int {
            for count in 0..<most {
                next += 1
                let tuple = ConnectionTuple(
                    source: IPAddress(IPv4Address(bits: next)), destination: IPAddress(IPv4Address(bits: 1)),
                    sourcePort: 1,
                    destinationPort: 2, ipProtocol: 17)
                let owner = ConnectionOwner(port: Simulation.Tag(bits: port), tenant: .tenant(tenant))
                if table.note(tuple, zone: Simulation.Tag(bits: 1), owner: owner, now: 1) == .refused { return count }
            }
            return most
        }
        func expireAll() { while !table.expire(now: 1_000_000_000_000, looking: 100).isEmpty {} }
        var count: Int { table.count }
        func counts(_ tenant: String) -> Int { table.countsByTenant.counts[.tenant(tenant)] ?? 0 }
        func refused(_ tenant: String) -> UInt64 { table.countsByTenant.refused[.tenant(tenant)] ?? 0 }
    }

    @Test func `a port and a tenant have what they may have and no more, and what ends is given back`() {
        let table = Table(
            ConnectionBounds(perPort: 10, perTenant: 15),
            [.tenant("small"): ConnectionBounds(perPort: 3, perTenant: 5)])
        #expect(table.fill("a", 1, upTo: 20) == 10)
        #expect(table.fill("a", 2, upTo: 20) == 5)
        #expect(table.fill("a", 3, upTo: 20) == 0)
        #expect(table.refused("a") == 3 && table.counts("a") == 15)
        #expect(table.fill("small", 4, upTo: 20) == 3)
        #expect(table.fill("small", 5, upTo: 20) == 2)
        #expect(table.fill("b", 6, upTo: 7) == 7, "others are untouched")
        table.expireAll()
        #expect(table.count == 0 && table.counts("a") == 0)
        #expect(table.fill("a", 1, upTo: 20) == 10)
    }

    @Test func `when nearly all room is taken, what is left is for those who have less than their share`() {
        let table = Table(ConnectionBounds(perPort: 1000, perTenant: 1000))
        #expect(table.fill("flood", 1, upTo: 500) < 64)
        #expect(table.count == 64 - 64 / 8)
        #expect(table.fill("good", 2, upTo: 4) == 4)
        #expect(table.fill("flood", 3, upTo: 1) == 0)
        #expect(table.fill("good", 2, upTo: 500) == 4, "until there is none")
        #expect(table.count == 64)
    }

    @Test func `connections in a zone live as long as its tenant's settings say`() {
        var settings = TenantSettings(name: "t")
        settings.lifetimes = [.udp: 5, .unanswered: 2]
        var table = ConnectionTable(seed: 1, limit: 10)
        let (own, other) = (Simulation.Tag(bits: 1), Simulation.Tag(bits: 2))
        table.lifetimesByZone = [own: ConnectionLifetimes(settings)]
        let tuple = ConnectionTuple(
            source: IPAddress(IPv4Address(bits: 7)), destination: IPAddress(IPv4Address(bits: 1)), sourcePort: 1,
            destinationPort: 2, ipProtocol: 17)
        let second: UInt64 = 1_000_000_000
        for zone in [own, other] { table.note(tuple, zone: zone, now: second) }
        let early = [own, other].map { table.find(tuple, zone: $0, now: 4 * second) != nil }
        #expect(early == [false, true])
        for zone in [own, other] {
            table.note(tuple, zone: zone, now: 5 * second)
            table.note(tuple.reversed, zone: zone, now: 5 * second)
        }
        let late = [own, other].map { table.find(tuple, zone: $0, now: 11 * second) != nil }
        #expect(late == [false, true])
    }
}
