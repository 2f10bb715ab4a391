// SPDX-License-Identifier: Apache-2.0
import FlowState
import Foundation
import Gossip
import Linux
import Simulation
import Synchronization
import Wire

/// Several hosts' tables in one room, with a network between them that tests lose datagrams of.
final class Hosts: Sendable {
    struct Datagram {
        var from: Int
        var to: PeerID
        var bytes: [UInt8]
    }
    final class Cable: StateTransport {
        let queue = Mutex<[(to: PeerID, bytes: [UInt8])]>([])
        func send(_ bytes: [UInt8], to peer: PeerID) { queue.withLock { $0.append((peer, bytes)) } }
    }
    struct Host: Sendable {
        let id: PeerID
        let table: StateTable
        let wire: Cable
        let replication: FlowReplication
        let news: Noted
    }
    final class Noted: Sendable {
        let tags = Mutex<Set<Simulation.Tag>>([])
        let compared = Mutex<[PeerID]>([])
        let unknown = Mutex<Set<Simulation.Tag>>([])
    }

    let hosts: [Host]
    let clock = Mutex<UInt64>(1_000_000_000)
    /// Whether a datagram is lost.
    let isLost = Mutex<@Sendable (PeerID, PeerID) -> Bool>({ _, _ in false })

    init(_ count: Int) {
        let ids = (1...UInt64(count)).map { PeerID($0) }
        hosts = ids.map { id in
            let table = StateTable()
            table.set(RowStamps(origin: UInt16(id.value), offset: 1_700_000_000_000_000_000))
            let (wire, noted) = (Cable(), Noted())
            return Host(
                id: id, table: table, wire: wire,
                replication: FlowReplication(
                    table, over: wire, onNews: { tags in noted.tags.withLock { $0.formUnion(tags) } },
                    onUnknown: { tags in noted.unknown.withLock { $0.formUnion(tags) } },
                    onCompare: { peer in noted.compared.withLock { $0.append(peer) } }), news: noted)
        }
        for host in hosts { host.replication.setPeers(Set(ids).subtracting([host.id])) }
    }

    var now: UInt64 { clock.withLock { $0 } }

    /// Time goes by, a tenth of a millisecond at a time.
    func run(for nanoseconds: UInt64) {
        let end = now + nanoseconds
        while now < end {
            clock.withLock { $0 += 100_000 }
            for host in hosts {
                _ = host.replication.step(now: now)
                deliver()
            }
        }
    }

    /// What was sent arrives.
    func deliver() {
        for host in hosts {
            let sent = host.wire.queue.withLock { queue in
                let all = queue
                queue.removeAll()
                return all
            }
            for (to, bytes) in sent where !isLost.withLock({ $0(host.id, to) }) {
                guard let other = hosts.first(where: { $0.id == to }) else { continue }
                other.replication.receive(bytes, from: host.id, now: now)
            }
        }
    }

    /// Two hosts compare what they know; whether anything differed.
    @discardableResult
    func compare(_ asker: Int, _ other: Int, isFull: Bool = true) throws -> Bool {
        let question = hosts[asker].table.question(isFull: isFull, now: now)
        var cursor: UInt64 = 0
        var differs = false
        repeat {
            let bytes = try hosts[other].table.answer(question, from: cursor, now: now)
            let answer = try StateTable.read(answer: bytes)
            var news: Set<Simulation.Tag> = []
            // Its own rows first: what it takes in would be offered back.
            for rows in hosts[asker].table.offers(for: answer, now: now) where cursor == 0 {
                try hosts[other].table.merge(rows, now: now, &news)
            }
            try hosts[asker].table.merge(answer.rows, now: now, &news)
            differs = differs || !answer.isEqual
            cursor = answer.next
        } while cursor != 0
        return differs
    }

    /// All that a host knows, what is for few included, comes to others.
    func tell(_ host: Int, to others: [Int]) throws {
        for other in others {
            var news: Set<Simulation.Tag> = []
            try hosts[other].table.merge(hosts[host].table.allRows(now: now), now: now, &news)
        }
    }

    func connection(_ host: Int, _ tuple: ConnectionTuple, zone: Simulation.Tag, flags: UInt16 = 0) -> ConnectionMatch?
    {
        hosts[host].table.connection(tuple, zone: zone, flags: flags)
    }

    /// A packet teaches a host something.
    @discardableResult
    func learn(_ host: Int, _ learned: Learned, first: [Int] = []) -> LearnOutcome {
        var told = ToldEntries()
        let outcome = hosts[host].table.learn(learned, now: now, told: &told)
        hosts[host].replication.tell(told, first: first.map { hosts[$0].id }, now: now)
        return outcome
    }

    /// What each host knows that everybody is to know.
    func isEqual() -> Bool {
        let sums = hosts.map(\.table.sums)
        return sums.allSatisfy { $0 == sums[0] }
    }
}

/// What a host knows again that stopped when its journal had so many rows.
func afterRestart(rows: UInt64, _ fill: (StateTable) -> Void) throws -> StateTable {
    let directory = NSTemporaryDirectory() + "rows-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    func table() -> StateTable {
        let table = StateTable()
        table.set(RowStamps(origin: 1, offset: UInt64(wallSeconds()) * 1_000_000_000 &- monotonicNanoseconds()))
        return table
    }
    let before = table()
    let keeper = try JournalKeeper(before, path: directory + "/flowstate.db", say: { _ in })
    fill(before)
    let deadline = monotonicNanoseconds() + 5_000_000_000
    while keeper.status.written < rows, monotonicNanoseconds() < deadline { usleep(1000) }
    keeper.stop()
    let after = table()
    try JournalKeeper(after, path: directory + "/flowstate.db", say: { _ in }).stop()
    return after
}
