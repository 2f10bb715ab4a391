// SPDX-License-Identifier: Apache-2.0
import FlowState
import Gossip
import Simulation
import Synchronization
import Testing
import Wire

private let bridge = Simulation.Tag(bits: 0x1234)
private let second: UInt64 = 1_000_000_000

/// Who joined multicast groups, as hosts tell each other.
@Suite struct GroupRowTests {
    private let group = IPAddress(IPv4Address(bits: 0xef01_0101))

    private func member(_ port: UInt64) -> GroupMember {
        GroupMember(group: group, .ipv4, vlan: 0, bridge: bridge, port: Simulation.Tag(bits: port))
    }

    private func learn(_ hosts: Hosts, _ host: Int, _ port: UInt64, _ seconds: UInt32) {
        var told = ToldEntries()
        _ = hosts.hosts[host].table.learn(.member(member(port), seconds: seconds), now: hosts.now, told: &told)
        hosts.hosts[host].replication.tell(told, first: [], now: hosts.now)
    }

    private func known(_ hosts: Hosts) -> [Set<UInt64>] {
        hosts.hosts.map { Set($0.table.members(of: group, vlan: 0, bridge: bridge).map(\.port.bits)) }
    }

    private func pass(_ hosts: Hosts, _ seconds: UInt64) -> Set<Simulation.Tag> {
        hosts.clock.withLock { $0 += seconds * second }
        hosts.run(for: 10_000_000)
        return hosts.hosts.reduce(into: []) { $0.formUnion($1.table.expire(now: hosts.now)) }
    }

    @Test func `members are known on all hosts, and forgotten when they say it no more`() throws {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        learn(hosts, 0, 7, GroupTimes.membership)
        learn(hosts, 1, 8, GroupTimes.membership)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [[7, 8], [7, 8], [7, 8]] && hosts.isEqual())
        #expect(hosts.hosts[2].table.members(of: group, vlan: 1, bridge: bridge).isEmpty)
        for _ in 0..<3 {
            _ = pass(hosts, 125)
            learn(hosts, 0, 7, GroupTimes.membership)
            hosts.run(for: 10_000_000)
        }
        #expect(known(hosts) == [[7], [7], [7]])
        #expect(pass(hosts, 300).contains(member(7).tag))
        #expect(known(hosts) == [[], [], []])
    }

    @Test func `who leaves is a member for a moment, and a host that missed it does not bring it back`() throws {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        learn(hosts, 0, 7, GroupTimes.membership)
        hosts.run(for: 10_000_000)
        hosts.isLost.withLock { $0 = { _, to in to == PeerID(3) } }
        learn(hosts, 0, 7, GroupTimes.left)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [[7], [7], [7]])
        #expect(pass(hosts, 3).contains(member(7).tag))
        #expect(known(hosts) == [[], [], [7]])
        hosts.isLost.withLock { $0 = { _, _ in false } }
        hosts.run(for: 5 * second)
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(known(hosts) == [[], [], []])
        // It comes back when it says so.
        learn(hosts, 1, 7, GroupTimes.membership)
        hosts.run(for: 10_000_000)
        #expect(known(hosts) == [[7], [7], [7]])
    }

    @Test func `one port can't fill the table`() throws {
        let hosts = Hosts(1)
        var told = ToldEntries()
        var refused = 0
        for number in 0..<1000 {
            let member = GroupMember(
                group: IPAddress(IPv4Address(bits: 0xef01_0000 | UInt32(number))), .ipv4, vlan: 0, bridge: bridge,
                port: Simulation.Tag(bits: 7))
            let outcome = hosts.hosts[0].table.learn(
                .member(member, seconds: GroupTimes.membership), now: hosts.now, told: &told)
            if outcome == .refused { refused += 1 }
        }
        #expect(refused == 1000 - StateLimits.groupsPerPort)
        learn(hosts, 0, 8, GroupTimes.membership)
        #expect(known(hosts).first?.contains(8) == true)
    }
}
