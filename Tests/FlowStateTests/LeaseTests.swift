// SPDX-License-Identifier: Apache-2.0
import FlowState
import Foundation
import Linux
import Simulation
import Synchronization
import Testing
import Wire

private let bridge = Simulation.Tag(bits: 0x1234)
private let port = Simulation.Tag(bits: 0x77)
private let second: UInt64 = 1_000_000_000

private func address(_ number: UInt32) -> IPAddress { IPAddress(IPv4Address(bits: 0x0a01_0000 + number)) }

private func lease(_ number: UInt32, _ client: UInt64, _ seconds: UInt32 = 120, at port: Simulation.Tag = port)
    -> Learned
{
    .lease(address(number), bridge: bridge, port: port, Lease(client: client, seconds: seconds))
}

/// Addresses that bridges give, as hosts tell each other of them.
@Suite struct LeaseTests {
    @Test func `a lease is known on all hosts until it ends, and what is given back is free everywhere`() throws {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        #expect(hosts.learn(0, lease(1, 5)) == .news)
        hosts.learn(0, lease(2, 6))
        hosts.run(for: 10_000_000)
        func known(_ number: UInt32) -> [UInt64?] {
            hosts.hosts.map { $0.table.lease(of: address(number), bridge: bridge)?.client }
        }
        #expect(known(1) == [5, 5, 5] && known(2) == [6, 6, 6] && hosts.isEqual())
        // Given back at another host than where it was given.
        hosts.learn(2, lease(1, 0, 1))
        hosts.run(for: 10_000_000)
        hosts.clock.withLock { $0 += 2 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(known(1) == [nil, nil, nil] && known(2) == [6, 6, 6])
        // Renewed at one, it goes on at all.
        hosts.clock.withLock { $0 += 100 * second }
        hosts.learn(1, lease(2, 6))
        hosts.run(for: 10_000_000)
        hosts.clock.withLock { $0 += 100 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(known(2) == [6, 6, 6])
        hosts.clock.withLock { $0 += 40 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(known(2) == [nil, nil, nil])
    }

    @Test func `what was leased at a port is found by it, until that ends or goes to another`() throws {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        let other = Simulation.Tag(bits: 0x78)
        func found(_ place: Simulation.Tag) -> [IPAddress?] {
            hosts.hosts.map { $0.table.leasedAddress(at: place, family: .ipv4) }
        }
        hosts.learn(0, lease(1, 5))
        hosts.run(for: 10_000_000)
        #expect(found(port) == [address(1), address(1)] && found(other) == [nil, nil])
        #expect(hosts.hosts[1].table.port(leasing: address(1), bridge: bridge) == port)
        #expect(hosts.hosts[1].table.leasedAddress(at: port, family: .ipv6) == nil)
        // Its machine asks at another port, and gives back there.
        hosts.clock.withLock { $0 += second }
        hosts.learn(1, lease(1, 5, at: other))
        hosts.run(for: 10_000_000)
        #expect(found(port) == [nil, nil] && found(other) == [address(1), address(1)])
        hosts.clock.withLock { $0 += second }
        hosts.learn(0, lease(1, 0, 1, at: other))
        hosts.run(for: 10_000_000)
        #expect(found(other) == [nil, nil])
        #expect(hosts.hosts.map { $0.table.port(leasing: address(1), bridge: bridge) } == [nil, nil])
    }

    @Test func `one port does not take all, and others get theirs`() {
        let table = StateTable()
        func learn(_ number: UInt32, _ port: Simulation.Tag) -> LearnOutcome {
            var told = ToldEntries()
            return table.learn(lease(number, UInt64(number) + 1, at: port), now: 1, told: &told)
        }
        let most = UInt32(StateLimits.leasesPerPort)
        for number in 0..<most { #expect(learn(number, port) == .news) }
        #expect(learn(most, port) == .refused)
        #expect(learn(most, Simulation.Tag(bits: 9)) == .news)
    }

    @Test func `leases are known again after a restart, and listed`() throws {
        let after = try afterRestart(rows: 3) { table in
            for number in UInt32(1)...3 {
                var told = ToldEntries()
                _ = table.learn(lease(number, UInt64(number)), now: monotonicNanoseconds(), told: &told)
            }
        }
        let list = after.givenAddresses.sorted { $0.address < $1.address }
        #expect(list.map(\.lease.client) == [1, 2, 3] && list.allSatisfy { $0.port == port && $0.bridge == bridge })
        #expect(list.allSatisfy { $0.ends > monotonicNanoseconds() + 100 * second })
    }
}
