// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CLinux
import FlowState
import Foundation
import Gossip
import Linux
import Simulation
import Synchronization
import Wire

/// One origin and two peers, each with its table, its sealed datagrams over the loopback and its thread, as nodes have them.
private final class BenchNode: Sendable {
    let id: PeerID
    let number: UInt16
    let table = StateTable()
    let port: StatePort
    let replication: FlowReplication
    let heard: Heard
    private let thread = Mutex<NamedThread?>(nil)

    /// When connections became known: nanoseconds by source port.
    final class Heard: Sendable {
        let times = Mutex<[Simulation.Tag: UInt64]>([:])
        let isCounting = Atomic<Bool>(false)
    }

    init(_ index: Int) throws {
        id = PeerID(UInt64(index + 1))
        number = UInt16(21_700 + index)
        port = try StatePort(own: id, epoch: 1, cluster: "bench", port: number)
        try port.setSecrets([1: [UInt8](repeating: 7, count: 32)], active: 1)
        table.set(
            RowStamps(
                origin: UInt16(index), offset: UInt64(wallSeconds()) * 1_000_000_000 &- monotonicNanoseconds()))
        let heard = Heard()
        self.heard = heard
        replication = FlowReplication(
            table, over: port,
            onNews: { tags in
                guard heard.isCounting.load(ordering: .relaxed) else { return }
                let now = monotonicNanoseconds()
                heard.times.withLock { times in for tag in tags where times[tag] == nil { times[tag] = now } }
            }, onCompare: { _ in }, onPending: { [port] in port.wake() })
    }

    func start(with others: [BenchNode]) throws {
        port.setPeers(
            Dictionary(
                uniqueKeysWithValues: others.map { ($0.id, .init(host: "127.0.0.1", port: Int($0.number), epoch: 1)) }))
        replication.setPeers(Set(others.map(\.id)))
        let started = try NamedThread("state-\(id.value)") { [port, replication] in
            port.run(receive: { replication.receive($0, from: $1, now: $2) }, step: { replication.step(now: $0) })
        }
        thread.withLock { $0 = started }
    }

    func stop() {
        port.stop()
        thread.withLock { $0 }?.join()
    }
}

/// What replicating and journaling flow state costs.
struct StateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "state")
    @Option(help: "Connections of a burst.") var count = 200_000
    @Option(help: "Seconds at ten thousand new connections a second.") var seconds = 3
    @Option var rounds = 3

    private static let zone = Simulation.Tag(bits: 5)

    private func tuple(_ number: Int) -> ConnectionTuple {
        ConnectionTuple(
            source: IPAddress(IPv4Address(bits: 0x0a00_0000 | UInt32(number >> 14))),
            destination: IPAddress(IPv4Address(bits: 0xc633_6401)), sourcePort: UInt16(1024 + number & 0x3fff),
            destinationPort: 443, ipProtocol: IPProtocol.tcp)
    }

    private func tell(_ name: String, _ value: Double, _ unit: String) {
        print("{\"name\": \"\(name)\", \"value\": \(value), \"unit\": \"\(unit)\", \"allocations\": 0}")
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func wait(_ seconds: Double, _ condition: () -> Bool) throws {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while !condition() {
            guard monotonicNanoseconds() < end else { throw ValidationError("it did not come in \(seconds) s") }
            usleep(500)
        }
    }

    private func nodes() throws -> [BenchNode] {
        let nodes = try (0..<3).map { try BenchNode($0) }
        for node in nodes { try node.start(with: nodes.filter { $0 !== node }) }
        try wait(5) {
            nodes.allSatisfy { node in
                nodes.allSatisfy { $0 === node || node.replication.status(of: $0.id)?.heard != nil }
            }
        }
        return nodes
    }

    mutating func run() throws {
        var rates: [Double] = []
        for _ in 0..<rounds { rates.append(try rate()) }
        tell("state.rate", median(rates), "connections/s")
        try steady()
        try journal()
    }

    /// How many connections a second two peers hear of, as fast as one origin can tell.
    private func rate() throws -> Double {
        let nodes = try nodes()
        defer { for node in nodes { node.stop() } }
        let origin = nodes[0]
        let began = monotonicNanoseconds()
        for number in 0..<count {
            var told = ToldEntries()
            let now = monotonicNanoseconds()
            let tuple = tuple(number)
            _ = origin.table.learn(.connection(tuple, zone: StateCommand.zone, flags: 2), now: now, told: &told)
            _ = origin.table.learn(
                .connection(tuple.reversed, zone: StateCommand.zone, flags: 0x12), now: now, told: &told)
            origin.replication.tell(told, first: [], now: now)
            // Faster than anybody can hear it only means that tables are compared.
            while number % 1000 == 0,
                nodes[1...].contains(where: { origin.replication.status(of: $0.id)?.backlog ?? 0 > 100_000 })
            { usleep(200) }
        }
        try wait(30) { nodes.allSatisfy { $0.table.connectionCount.count == count } }
        return Double(count) / (Double(monotonicNanoseconds() - began) / 1e9)
    }

    /// CPU seconds of a thread by its name.
    private func cpu(_ name: String) -> Double {
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
        var ticks = 0
        for task in tasks {
            guard let text = try? String(contentsOfFile: "/proc/self/task/\(task)/stat", encoding: .utf8),
                text.contains("(\(name))"), let end = text.lastIndex(of: ")")
            else { continue }
            let fields = text[text.index(after: end)...].split(separator: " ")
            ticks += (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
        }
        return Double(ticks) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// CPU seconds of this thread.
    private func threadSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Opens ten thousand connections a second and answers each a millisecond later.
    ///
    /// - Returns: when each was opened, how long it took, and the CPU that `open` and `answer` took of this thread, seconds.
    private func pace(
        _ total: Int, open: (ConnectionTuple, UInt64) -> Void, answer: (ConnectionTuple, UInt64) -> Void
    ) -> (sent: [Simulation.Tag: UInt64], took: Double, busy: Double) {
        var sent: [Simulation.Tag: UInt64] = [:]
        sent.reserveCapacity(total)
        var busy = 0.0
        let began = monotonicNanoseconds()
        var (number, answered) = (0, 0)
        while answered < total {
            let due = min(total, Int(Double(monotonicNanoseconds() - began) / 1e9 * 10_000))
            let old = min(number, max(0, due - 10))
            let before = threadSeconds()
            while number < due {
                let tuple = tuple(number)
                let at = monotonicNanoseconds()
                sent[.connection(tuple, zone: StateCommand.zone)] = at
                open(tuple, at)
                number += 1
            }
            while answered < old || number == total && answered < total {
                answer(tuple(answered).reversed, monotonicNanoseconds())
                answered += 1
            }
            busy += threadSeconds() - before
            usleep(100)
        }
        return (sent, Double(monotonicNanoseconds() - began) / 1e9, busy)
    }

    private func learn(_ tuple: ConnectionTuple, _ flags: UInt16, _ at: UInt64, _ table: StateTable) -> ToldEntries {
        var told = ToldEntries()
        _ = table.learn(.connection(tuple, zone: StateCommand.zone, flags: flags), now: at, told: &told)
        return told
    }

    /// Ten thousand new connections a second: each is pushed to the host of its answer, answered, and told to all.
    private func steady() throws {
        let total = 10_000 * seconds
        // What the same costs a node that tells nobody, which knows its connections all the same.
        let table = StateTable()
        let alone = pace(
            total, open: { _ = learn($0, 2, $1, table) }, answer: { _ = learn($0, 0x12, $1, table) })
        let nodes = try nodes()
        defer { for node in nodes { node.stop() } }
        let (origin, egress) = (nodes[0], nodes[1])
        egress.heard.isCounting.store(true, ordering: .relaxed)
        let bytesBefore = origin.replication.counters
        let sealedBefore = origin.port.counters.sent
        let threads = nodes.map { "state-\($0.id.value)" }
        let cpuBefore = threads.map(cpu)
        let (sent, took, busy) = pace(
            total,
            open: { origin.replication.tell(learn($0, 2, $1, origin.table), first: [egress.id], now: $1) },
            answer: { origin.replication.tell(learn($0, 0x12, $1, origin.table), first: [], now: $1) })
        try wait(10) { nodes.allSatisfy { $0.table.connectionCount.count == total } }
        let cpu = zip(threads.map(cpu), cpuBefore).map { $0 - $1 }
        let times = egress.heard.times.withLock { $0 }
        let delays = sent.compactMap { tag, at in times[tag].map { Double($0 - at) / 1e6 } }.sorted()
        tell("state.delay.p50", delays[delays.count / 2], "ms")
        tell("state.delay.p99", delays[delays.count * 99 / 100], "ms")
        // The origin's share is what telling takes on the threads of its packets, too.
        let telling = max(0, busy - alone.busy)
        tell("state.cpu", 100 * max(cpu[0] + telling, cpu[1], cpu[2]) / took, "% of a core")
        let told = origin.replication.counters
        // Header of the datagram and tag, UDP and IPv4, Ethernet.
        let overhead = UInt64(22 + 16 + 28 + 14)
        let bytes = told.bytes - bytesBefore.bytes + (origin.port.counters.sent - sealedBefore) * overhead
        tell("state.wire", Double(bytes) / Double(total) / 2, "bytes")
    }

    /// Rows that the journal takes a second, and how long it takes to know them again.
    private func journal() throws {
        let directory = NSTemporaryDirectory() + "state-bench-\(ProcessInfo.processInfo.processIdentifier)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let path = directory + "/flowstate.db"
        let rows = 500_000
        let source = StateTable()
        source.set(RowStamps(origin: 1, offset: UInt64(wallSeconds()) * 1_000_000_000 &- monotonicNanoseconds()))
        for number in 0..<rows {
            var told = ToldEntries()
            let now = monotonicNanoseconds()
            for (tuple, flags) in [(tuple(number), UInt16(2)), (tuple(number).reversed, 0x12)] {
                _ = source.learn(.connection(tuple, zone: StateCommand.zone, flags: flags), now: now, told: &told)
            }
        }
        let table = StateTable()
        let keeper = try JournalKeeper(table, path: path, say: { _ in })
        let bytes = source.allRows(now: monotonicNanoseconds())
        var news: Set<Simulation.Tag> = []
        let began = monotonicNanoseconds()
        try table.merge(bytes, now: began, &news)
        try wait(60) { keeper.status.written >= rows }
        tell("journal.rows", Double(rows) / (Double(monotonicNanoseconds() - began) / 1e9), "rows/s")
        keeper.stop()
        var seconds: [Double] = []
        for _ in 0..<rounds {
            let again = StateTable()
            let began = monotonicNanoseconds()
            let keeper = try JournalKeeper(again, path: path, say: { _ in })
            seconds.append(Double(monotonicNanoseconds() - began) / 1e9)
            keeper.stop()
            guard again.connectionCount.count == rows else { throw ValidationError("rows are missing") }
        }
        tell("journal.restart", median(seconds), "s")
    }
}
