// SPDX-License-Identifier: Apache-2.0
import ClusterSimulation
import FlowState
import Glibc
import Linux
import Simulation
import Wire

/// What a cluster far larger than those that Selvage is made for costs: hosts tell each other of connections in a simulation,
/// and one table really holds a million of them.
struct Scale {
    var hosts: Int
    var rate: Double
    var seconds: Double
    var loss: Double
    var connections: Int

    private static let zone = Tag(bits: 5)

    private func tuple(_ number: Int) -> ConnectionTuple {
        ConnectionTuple(
            source: IPAddress(IPv4Address(bits: 0x0a00_0000 | UInt32(number >> 14))),
            destination: IPAddress(IPv4Address(bits: 0xc633_6401)), sourcePort: UInt16(1024 + number & 0x3fff),
            destinationPort: 443, ipProtocol: IPProtocol.tcp)
    }

    private func learn(_ number: Int, _ table: StateTable) {
        var told = ToldEntries()
        let now = monotonicNanoseconds()
        let tuple = tuple(number)
        _ = table.learn(.connection(tuple, zone: Scale.zone, flags: 2), now: now, told: &told)
        _ = table.learn(.connection(tuple.reversed, zone: Scale.zone, flags: 0x12), now: now, told: &told)
    }

    /// Bytes of memory that the process has.
    private func resident() -> Double {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 200)
        guard fgets(&line, 200, file) != nil else { return 0 }
        let fields = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? (Double(fields[1]) ?? 0) * 4096 : 0
    }

    private func tell(_ name: String, _ value: Double, _ unit: String) {
        let digits = value >= 100 ? value.rounded() : (value * 1000).rounded() / 1000
        print("  \(name): \(digits) \(unit)")
    }

    func run() throws {
        let one = StateTable()
        learn(0, one)
        let rowBytes = one.allRows(now: monotonicNanoseconds()).count
        let before = resident()
        let world = ScaleWorld(
            .init(hosts: hosts, rate: rate, seconds: seconds, loss: loss, rowBytes: rowBytes), seed: 1)
        let channels = resident() - before
        let figures = world.run()
        print("\(hosts) hosts, \(figures.connections) connections in \(seconds) s, \(loss * 100) % of datagrams lost:")
        tell("a row", Double(rowBytes), "bytes")
        tell("channels, each host", channels / Double(hosts) / 1e6, "MB")
        tell("idle, out", figures.idleBytes * 8 / 1e6, "Mbit/s a host")
        tell("out", figures.bytesOut * 8 / 1e6, "Mbit/s a host")
        tell("datagrams out", figures.datagramsOut, "a second and host")
        tell("datagrams out, of the busiest host", figures.mostOut, "a second")
        tell("datagrams in", figures.datagramsIn, "a second and host")
        func at(_ list: [UInt64], _ part: Double) -> Double {
            list.isEmpty ? 0 : Double(list[min(list.count - 1, Int(Double(list.count) * part))]) / 1e6
        }
        tell("known to the host of the answer, median", at(figures.pushed, 0.5), "ms")
        tell("known to the host of the answer, 99.9 %", at(figures.pushed, 0.999), "ms")
        tell("known to all, median", at(figures.known, 0.5), "ms")
        tell("known to all, last", at(figures.known, 1), "ms")
        tell("not known to all without comparing", Double(figures.unknown), "connections")
        tell("comparisons asked for", Double(figures.compared), "")
        try table()
        if figures.unknown > 0 { throw Failed() }
    }

    struct Failed: Error {}

    /// A table of so many connections, and a host that joins and gets them all.
    private func table() throws {
        let before = resident()
        let table = StateTable()
        table.set(RowStamps(origin: 1, offset: UInt64(time(nil)) * 1_000_000_000 &- monotonicNanoseconds()))
        for number in 0..<connections { learn(number, table) }
        print("\(connections) connections, known to a host (measured):")
        tell("memory", (resident() - before) / 1e6, "MB")
        var began = monotonicNanoseconds()
        let bytes = table.allRows(now: began)
        tell("to write all", Double(monotonicNanoseconds() - began) / 1e9, "s")
        tell("bytes", Double(bytes.count) / 1e6, "MB")
        let other = StateTable()
        began = monotonicNanoseconds()
        var news: Set<Tag> = []
        try other.merge(bytes, now: began, &news)
        tell("to take all", Double(monotonicNanoseconds() - began) / 1e9, "s")
        guard other.connectionCount.count == connections else { throw Failed() }
    }
}
