// SPDX-License-Identifier: Apache-2.0
import FlowState
import Foundation
import Linux
import Simulation
import Synchronization
import Testing
import Wire

private let zone = Simulation.Tag(bits: 0x77)
private let pool = Simulation.Tag(bits: 0x1234)
private let second: UInt64 = 1_000_000_000

private func address(_ text: String) -> IPAddress { IPAddress(text) ?? IPAddress(high: 0, low: 0, family: .ipv4) }

/// A client's connection to a member of a pool that begins.
private func balanced(
    _ client: String, _ port: UInt16, member: UInt64, seconds: UInt32 = 60, isNew: Bool = true
) -> Learned {
    let isV6 = client.contains(":")
    let original = ConnectionTuple(
        source: address(client), destination: address(isV6 ? "2001:db8::10" : "203.0.113.10"), sourcePort: port,
        destinationPort: 80, ipProtocol: IPProtocol.tcp)
    var reply = original.reversed
    (reply.source, reply.sourcePort) = (address(isV6 ? "fd00::11" : "10.0.1.11"), 8080)
    var use = TranslationUse(zone: zone, original: original, reply: reply, isNew: isNew, isReturn: false)
    if isNew {
        use.balance = BalanceChoice(pool: pool, member: member, client: address(client), seconds: seconds)
    }
    return .translation(use, flags: 2)
}

/// Clients of pools and the members that they come back to.
@Suite struct AffinityTests {
    @Test(arguments: ["198.51.100.7", "2001:db8::7"])
    func `a client comes back to its member at every host, for the pool's time after its last new connection`(
        client: String
    ) throws {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        #expect(hosts.learn(0, balanced(client, 1, member: 5)) == .news)
        hosts.run(for: 10_000_000)
        #expect(hosts.hosts[1].table.member(of: address(client), pool: pool) == 5)
        #expect(hosts.hosts[1].table.member(of: address("198.51.100.8"), pool: pool) == nil)
        #expect(hosts.isEqual())
        // The other host's packet renews it, and tells.
        hosts.clock.withLock { $0 += 50 * second }
        hosts.learn(1, balanced(client, 2, member: 5))
        hosts.run(for: 10_000_000)
        hosts.clock.withLock { $0 += 20 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(hosts.hosts.map { $0.table.member(of: address(client), pool: pool) } == [5, 5])
        // Whatever follows, packets of connections that are known do not.
        hosts.learn(0, balanced(client, 2, member: 5, isNew: false))
        hosts.clock.withLock { $0 += 49 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(hosts.hosts.map { $0.table.member(of: address(client), pool: pool) } == [nil, nil])
    }

    @Test func `near the end of their time rows are the same everywhere, though not all hosts know of their last use`()
        throws
    {
        let hosts = Hosts(3)
        hosts.run(for: 20_000_000)
        hosts.learn(0, balanced("198.51.100.7", 1, member: 5, seconds: 80))
        hosts.run(for: 10_000_000)
        // So soon after, nobody is told of it.
        hosts.clock.withLock { $0 += 9 * second }
        hosts.learn(0, balanced("198.51.100.7", 2, member: 5, seconds: 80))
        hosts.run(for: 10_000_000)
        var left: [Int] = []
        for _ in 0..<90 {
            hosts.clock.withLock { $0 += second }
            for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
            #expect(hosts.isEqual(), "\(left.count) s after")
            left.append(
                hosts.hosts.count { $0.table.member(of: address("198.51.100.7"), pool: pool) != nil })
        }
        // The host that saw it keeps it to the end of its time.
        #expect(left[78] == 3 && left.last == 0)
    }

    @Test func `the member that was chosen last stands, wherever it was`() throws {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        hosts.learn(0, balanced("198.51.100.7", 1, member: 5))
        hosts.run(for: 10_000_000)
        hosts.learn(1, balanced("198.51.100.7", 2, member: 6))
        hosts.run(for: 10_000_000)
        #expect(hosts.hosts.map { $0.table.member(of: address("198.51.100.7"), pool: pool) } == [6, 6])
        #expect(hosts.isEqual())
    }

    @Test func `turns are taken by connections that begin, and by nothing else`() {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        let table = hosts.hosts[0].table
        let first = table.turn(of: pool)
        hosts.learn(0, balanced("198.51.100.7", 1, member: 5, seconds: 0))
        hosts.learn(0, balanced("198.51.100.7", 1, member: 5, seconds: 0))
        hosts.learn(0, balanced("198.51.100.7", 1, member: 5, isNew: false))
        #expect(table.turn(of: pool) == first + 1)
        #expect(table.member(of: address("198.51.100.7"), pool: pool) == nil)
        #expect(table.turn(of: pool) != hosts.hosts[1].table.turn(of: pool), "hosts begin at places of their own")
    }

    @Test func `connections are counted where they are sent, on every host, until they end`() {
        let hosts = Hosts(2)
        hosts.run(for: 20_000_000)
        func counts() -> [Int] {
            hosts.hosts.map {
                $0.table.connections(to: address("10.0.1.11"), port: 8080, ipProtocol: IPProtocol.tcp, zone: zone)
            }
        }
        for port in UInt16(1)...5 {
            hosts.learn(0, balanced("198.51.100.7", port, member: 5))
            guard case .translation(var back, _) = balanced("198.51.100.7", port, member: 5, isNew: false) else {
                return
            }
            back.isReturn = true
            hosts.learn(0, .translation(back, flags: 0x12))
        }
        hosts.run(for: 10_000_000)
        #expect(counts() == [5, 5])
        hosts.clock.withLock { $0 += 100_000 * second }
        for host in hosts.hosts { _ = host.table.expire(now: hosts.now) }
        #expect(counts() == [0, 0])
    }

    @Test func `clients are known again after a restart`() throws {
        let directory = NSTemporaryDirectory() + "affinity-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func table() -> StateTable {
            let table = StateTable()
            let offset = UInt64(wallSeconds()) * second &- monotonicNanoseconds()
            table.set(RowStamps(origin: 1, offset: offset))
            return table
        }
        let clients = ["198.51.100.7", "2001:db8::7", "198.51.100.9"]
        let before = table()
        let keeper = try JournalKeeper(before, path: directory + "/flowstate.db", say: { _ in })
        for (number, client) in clients.enumerated() {
            var told = ToldEntries()
            _ = before.learn(
                balanced(client, 1, member: UInt64(number)), now: monotonicNanoseconds(), told: &told)
        }
        // A connection that nobody answered is not told to all; its client is.
        let deadline = monotonicNanoseconds() + 5 * second
        while keeper.status.written < 3, monotonicNanoseconds() < deadline { usleep(1000) }
        keeper.stop()
        let after = table()
        let again = try JournalKeeper(after, path: directory + "/flowstate.db", say: { _ in })
        again.stop()
        for (number, client) in clients.enumerated() {
            #expect(after.member(of: address(client), pool: pool) == UInt64(number), "\(client)")
        }
    }
}
