// SPDX-License-Identifier: Apache-2.0
import FlowState
import Foundation
import Linux
import Simulation
import Synchronization
import Testing
import Wire

private let pool = Simulation.Tag(bits: 0x1234)
private let second: UInt64 = 1_000_000_000

/// What checks of members came to, as hosts tell each other.
@Suite struct HealthRowTests {
    private let ill = MemberHealth(isUp: false, .refused, since: 1_700_000_000_000)
    private let well = MemberHealth(isUp: true, .answered, detail: 200, since: 1_700_000_005_000)

    private func note(_ hosts: Hosts, _ host: Int, _ health: MemberHealth, of member: UInt64 = 7) {
        var told = ToldEntries()
        _ = hosts.hosts[host].table.note(health, of: member, pool: pool, now: hosts.now, told: &told)
        hosts.hosts[host].replication.tell(told, first: [], now: hosts.now)
    }

    private func known(_ hosts: Hosts, of member: UInt64 = 7) -> [MemberHealth?] {
        hosts.hosts.map { $0.table.health(of: member, pool: pool) }
    }

    @Test func `what a check came to is known on all hosts, the last word stands, and it ends when nobody checks`()
        throws
    {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        note(hosts, 0, ill)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [ill, ill, ill] && known(hosts, of: 8) == [nil, nil, nil] && hosts.isEqual())
        // Another host checks from now on.
        hosts.clock.withLock { $0 += second }
        note(hosts, 1, well)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [well, well, well] && hosts.isEqual())
        // It is checked again and again, and stays what it is.
        for _ in 0..<10 {
            hosts.clock.withLock { $0 += 20 * second }
            note(hosts, 1, well)
            hosts.run(for: 10_000_000)
            for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        }
        #expect(known(hosts) == [well, well, well])
        hosts.clock.withLock { $0 += 70 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(known(hosts) == [nil, nil, nil])
    }

    @Test func `a host that missed the word learns it when tables are compared`() throws {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        hosts.isLost.withLock { $0 = { _, _ in true } }
        note(hosts, 0, ill)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [ill, nil])
        hosts.isLost.withLock { $0 = { _, _ in false } }
        try hosts.compare(1, 0)
        #expect(known(hosts) == [ill, ill])
    }

    @Test func `what was known is known after a restart`() throws {
        let after = try afterRestart(rows: 1) { table in
            var told = ToldEntries()
            _ = table.note(ill, of: 7, pool: pool, now: monotonicNanoseconds(), told: &told)
        }
        #expect(after.health(of: 7, pool: pool) == ill)
    }
}
