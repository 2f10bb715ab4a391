// SPDX-License-Identifier: Apache-2.0
import Foundation
import Gossip
import Linux
import SQLite
import Simulation
import Synchronization
import Testing
import Wire

@testable import FlowState

private let zone = Simulation.Tag(bits: 0x77)

private func tcp(_ number: Int) -> ConnectionTuple {
    ConnectionTuple(
        source: IPAddress(IPv4Address(bits: 0x0a00_0000 + UInt32(number >> 14))),
        destination: IPAddress(IPv4Address(bits: 0xcb00_7105)),
        sourcePort: UInt16(1024 + number & 0x3fff), destinationPort: 443, ipProtocol: IPProtocol.tcp)
}

@Suite(.serialized) struct JournalTests {
    private let directory = NSTemporaryDirectory() + "journal-\(UUID().uuidString)"
    private var path: String { directory + "/flowstate.db" }

    init() throws { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) }

    private func table() -> StateTable {
        let table = StateTable()
        table.set(RowStamps(origin: 1, offset: UInt64(wallSeconds()) * 1_000_000_000 &- monotonicNanoseconds()))
        return table
    }

    /// A connection that was answered.
    private func connect(_ table: StateTable, _ number: Int) {
        var told = ToldEntries()
        let now = monotonicNanoseconds()
        _ = table.learn(.connection(tcp(number), zone: zone, flags: 0x02), now: now, told: &told)
        _ = table.learn(.connection(tcp(number).reversed, zone: zone, flags: 0x12), now: now, told: &told)
    }

    private func until(_ condition: () -> Bool) -> Bool {
        let deadline = monotonicNanoseconds() + 20_000_000_000
        while monotonicNanoseconds() < deadline {
            if condition() { return true }
            usleep(10_000)
        }
        return false
    }

    @Test func `what a node knew it knows when it is started again, whoever told it`() throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let first = table()
        let keeper = try JournalKeeper(first, path: path, say: { _ in })
        for number in 0..<500 { connect(first, number) }
        // And some that another host told.
        let other = table()
        for number in 500..<600 { connect(other, number) }
        var news: Set<Simulation.Tag> = []
        try first.merge(other.allRows(now: monotonicNanoseconds()), now: monotonicNanoseconds(), &news)
        var told = ToldEntries()
        _ = first.learn(
            .neighbor(IPAddress(IPv6Address(high: 5, low: 6)), mac: MACAddress(bits: 9), port: zone),
            now: monotonicNanoseconds(), told: &told)
        // Nobody says goodbye: what was written a moment ago is there.
        #expect(until { keeper.status.written >= 601 })
        let second = table()
        let again = try JournalKeeper(second, path: path + "", say: { _ in })
        #expect(again.status.loaded >= 601)
        #expect(second.connectionCount.count == 600)
        #expect(second.connection(tcp(3).reversed, zone: zone, flags: 0x10) == ConnectionMatch(isReturn: true))
        #expect(second.connection(tcp(599), zone: zone, flags: 0x10) == ConnectionMatch(isReturn: false))
        #expect(
            second.neighbor(IPAddress(IPv6Address(high: 5, low: 6)), port: zone) == .at(MACAddress(bits: 9)))
        #expect(second.sums == first.sums)
        keeper.stop()
        again.stop()
    }

    @Test func `a file that is no journal is set aside with a message, and a new one begun`() throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try Data([UInt8](repeating: 0x5a, count: 8192)).write(to: URL(filePath: path))
        let said = Mutex<[String]>([])
        let table = table()
        let keeper = try JournalKeeper(table, path: path, say: { line in said.withLock { $0.append(line) } })
        #expect(said.withLock { $0.contains { $0.contains("set aside as") } })
        connect(table, 1)
        #expect(until { keeper.status.written == 1 })
        keeper.stop()
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        #expect(names.contains { $0.hasSuffix(".corrupt") })
    }

    @Test func `old buckets go, and what still is so in them stays`() throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let table = table()
        let now = monotonicNanoseconds()
        let journal = try Journal(path: path, now: now)
        try journal.begin(Journal.Clock(boot: "b", offset: 0), now: now)
        func write(_ numbers: Range<Int>) throws {
            for number in numbers { connect(table, number) }
            var bytes: [UInt8] = []
            var ends: [Int] = []
            table.rows(of: 1..<table.head + 1, now: now, into: &bytes, &ends)
            try journal.write(bytes, ends, at: 5)
        }
        try write(0..<100)
        var time = now
        for round in 1...8 {
            time += Journal.bucketNanoseconds + 1
            try write(100 * round..<100 * round + 1)
            try journal.turn(now: time, uptime: 5) { table.renew($0, before: $1, now: now, into: &$2) }
        }
        // The file, as anybody reads it.
        let database = try Database(path: path)
        var tables = 0
        try database.prepare("SELECT count(*) FROM sqlite_schema WHERE name GLOB 'bucket_*'").forEachRow {
            tables = Int($0.integer(0))
            return true
        }
        #expect(tables == Journal.buckets + 1)
        var lines: Set<String> = []
        try database.prepare("SELECT kind, protocol, source, sourcePort, destination, destinationPort FROM rows")
            .forEachRow {
                row in
                lines.insert((0..<6).map { row.text($0) }.joined(separator: " "))
                return true
            }
        #expect(lines.count == 108)
        #expect(lines.contains("connection 6 10.0.0.0 1031 203.0.113.5 443"))
    }
}
