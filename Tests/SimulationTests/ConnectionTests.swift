// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// A table behind a reference: expectations copy what they look at.
private final class Table {
    private var table: ConnectionTable
    init(seed: UInt64, limit: Int) { table = ConnectionTable(seed: seed, limit: limit) }

    @discardableResult
    func note(_ tuple: ConnectionTuple, zone: Simulation.Tag, flags: UInt16 = 0, now: UInt64) -> Bool {
        table.note(tuple, zone: zone, flags: flags, now: now) == .new
    }
    func find(_ tuple: ConnectionTuple, zone: Simulation.Tag, flags: UInt16 = 0, now: UInt64) -> ConnectionMatch? {
        table.find(tuple, zone: zone, flags: flags, now: now)
    }
    func hasConnections(_ pair: ConnectionTuple, zone: Simulation.Tag) -> Bool {
        table.hasConnections(pair, zone: zone)
    }
    func expire(now: UInt64, looking count: Int) -> [Simulation.Tag] { table.expire(now: now, looking: count) }
    func expiry(_ tuple: ConnectionTuple, zone: Simulation.Tag) -> UInt64? {
        table.record(tuple, zone: zone).map { table.expiry($0) }
    }
    var count: Int { table.count }
    var refused: UInt64 { table.refused }
}

@Suite struct ConnectionTests {
    private let zone = Simulation.Tag(bits: 9)
    private let second: UInt64 = 1_000_000_000

    private func tuple(_ ipProtocol: UInt8, _ port: UInt16 = 4000) -> ConnectionTuple {
        ConnectionTuple(
            source: address("10.0.0.1"), destination: address("10.0.0.2"), sourcePort: port, destinationPort: 80,
            ipProtocol: ipProtocol)
    }

    @Test func `a connection is known from both sides, in its zone alone, and ends by the state that it is in`() {
        let table = Table(seed: 3, limit: 10)
        let tcp = tuple(IPProtocol.tcp)
        #expect(table.note(tcp, zone: zone, flags: 0x02, now: second))
        #expect(table.find(tcp, zone: zone, now: second) == ConnectionMatch(isReturn: false))
        #expect(table.find(tcp.reversed, zone: zone, now: second) == ConnectionMatch(isReturn: true))
        #expect(table.find(tcp, zone: Simulation.Tag(bits: 10), now: second) == nil)
        // Nobody answered: a minute. Answered: longer than hosts are silent.
        #expect(table.find(tcp, zone: zone, now: 62 * second) == nil)
        #expect(!table.note(tcp.reversed, zone: zone, flags: 0x12, now: 2 * second))
        #expect(table.find(tcp, zone: zone, now: 7300 * second) != nil)
        // A FIN shortens that, a reset more so, and what comes late keeps neither alive for long.
        table.note(tcp, zone: zone, flags: 0x11, now: 10 * second)
        #expect(table.find(tcp, zone: zone, now: 69 * second) != nil)
        #expect(table.find(tcp, zone: zone, now: 71 * second) == nil)
        table.note(tcp.reversed, zone: zone, flags: 0x04, now: 20 * second)
        #expect(table.find(tcp, zone: zone, now: 29 * second) != nil)
        #expect(table.find(tcp, zone: zone, now: 31 * second) == nil)
    }

    @Test
    func `a SYN on the ports of a connection that is over begins another, and on those of an open one it does not`() {
        let table = Table(seed: 3, limit: 10)
        let tcp = tuple(IPProtocol.tcp)
        table.note(tcp, zone: zone, flags: 0x02, now: second)
        table.note(tcp.reversed, zone: zone, flags: 0x12, now: second)
        #expect(table.find(tcp.reversed, zone: zone, flags: 0x02, now: second)?.isReturn == true)
        table.note(tcp, zone: zone, flags: 0x11, now: second)
        #expect(table.find(tcp.reversed, zone: zone, flags: 0x02, now: second) == nil)
        #expect(table.note(tcp.reversed, zone: zone, flags: 0x02, now: 2 * second))
        #expect(table.find(tcp, zone: zone, now: 2 * second)?.isReturn == true)
    }

    @Test func `what is over is forgotten, with the tags of all that rested on it, and makes room`() {
        let table = Table(seed: 5, limit: 3)
        for port in UInt16(1)...3 { #expect(table.note(tuple(IPProtocol.udp, port), zone: zone, now: second)) }
        #expect(!table.note(tuple(IPProtocol.udp, 4), zone: zone, now: second))
        #expect(table.refused == 1)
        #expect(table.hasConnections(tuple(IPProtocol.udp, 9).pair, zone: zone))
        table.note(tuple(IPProtocol.udp, 2).reversed, zone: zone, now: second)
        let first = table.expire(now: 32 * second, looking: 100)
        let over = [1, 3].map { Simulation.Tag.connection(tuple(IPProtocol.udp, $0), zone: zone) }
        #expect(Set(first) == Set(over))
        #expect(table.count == 1)
        let last = table.expire(now: 200 * second, looking: 100)
        #expect(last.contains(.connection(tuple(IPProtocol.udp, 2).pair, zone: zone)))
        #expect(!table.hasConnections(tuple(IPProtocol.udp, 2).pair.reversed, zone: zone))
        #expect(table.note(tuple(IPProtocol.udp, 4), zone: zone, now: 200 * second))
    }

    @Test func `a table agrees with a dictionary through any number of packets`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        let table = Table(seed: random.next(), limit: 300)
        var model: [ConnectionTuple: UInt64] = [:]
        var now = second
        for round in 0..<20_000 {
            now += UInt64.random(in: 0...second / 20, using: &random)
            var packet = tuple(IPProtocol.udp, UInt16.random(in: 1...400, using: &random))
            if Bool.random(using: &random) { packet = packet.reversed }
            let known = model[packet] ?? model[packet.reversed]
            let isAlive = known.map { now < $0 } ?? false
            #expect((table.find(packet, zone: zone, now: now) != nil) == isAlive, "seed \(SeededRandom.seed) \(round)")
            // What has no room is not noted; the model only follows.
            table.note(packet, zone: zone, now: now)
            guard let end = table.expiry(packet, zone: zone) else { continue }
            model[packet.reversed] = nil
            model[packet] = end
            if round % 50 == 0 {
                _ = table.expire(now: now, looking: 1000)
                for (key, end) in model where end <= now { model[key] = nil }
                #expect(table.count == model.count, "seed \(SeededRandom.seed) \(round)")
            }
        }
    }

    /// A machine whose port lets out what it begins, and in only what belongs to that.
    private static let guarded = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            chains:
              out: [{ state: [new, established, related], action: accept }, { action: drop }]
              in: [{ state: [established, related], action: accept }, { action: drop }]
              strict: [{ protocol: tcp, destinationPort: 81, action: reject }]
            bridges:
              a:
                subnet: 10.0.1.0/24
                ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24, inbound: out, outbound: in } }
              b:
                subnet: 10.0.2.0/24
                ports: { db: { host: h1, interface: db, mac: "0e:00:00:00:02:01", address: 10.0.2.21/24, outbound: strict } }
            routers: { gw: { links: [{ bridge: a, mac: "0e:00:00:00:aa:01" }, { bridge: b, mac: "0e:00:00:00:bb:01" }] } }
        """

    private func learn(_ verdict: Verdict, _ host: Host) {
        for learned in verdict.learned { host.state.learn(learned) }
    }

    private func udp(_ host: Host, back: Bool = false, ttl: UInt8 = 64) -> [UInt8] {
        let (vm, db) = (address("10.0.1.11"), address("10.0.2.21"))
        return Frame.udp(
            etherSource: host.mac(back ? "t/b/db" : "t/a/vm"), etherDestination: host.mac(back ? "t/gw/b" : "t/gw/a"),
            source: back ? db : vm, destination: back ? vm : db, sourcePort: back ? 53 : 4000,
            destinationPort: back ? 4000 : 53, ttl: ttl, data: [1])
    }

    @Test func `an answer comes in behind its question, and not before`() throws {
        let host = try Host(Self.guarded)
        #expect(host.send(udp(host, back: true), at: "t/b/db").drop == .filtered)
        let question = host.send(udp(host), at: "t/a/vm")
        #expect(host.outputs(question) == ["t/b/db"])
        #expect(question.beginsConnection)
        learn(question, host)
        let answer = host.send(udp(host, back: true), at: "t/b/db")
        #expect(host.outputs(answer) == ["t/a/vm"])
        #expect(answer.isCacheable && !answer.beginsConnection)
        #expect(!host.send(udp(host), at: "t/a/vm").beginsConnection)
    }

    @Test func `what a router says of a packet that it stopped reaches the sender through its filter`() throws {
        let host = try Host(Self.guarded)
        let stopped = host.send(udp(host, ttl: 1), at: "t/a/vm")
        #expect(stopped.drop == .ttlExceeded)
        #expect(stopped.learned.allSatisfy { if case .connection = $0 { false } else { true } })
        let error = try #require(stopped.packets.first)
        var simulator = Simulator(fabric: host.fabric, state: host.state)
        func send(_ answers: [ConnectionUse]) {
            error.frame.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                simulator.simulateGenerated(
                    SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                    leaving: error.port, isRouted: error.isRouted, answers: answers)
            }
        }
        send(error.answers)
        #expect(host.outputs(simulator.verdict) == ["t/a/vm"])
        send([])
        #expect(simulator.verdict.drop == .filtered)
    }

    @Test func `a rejected connection is reset in the name of whom it was for`() throws {
        let host = try Host(Self.guarded)
        let verdict = host.send(
            Frame.tcp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("10.0.2.21"), sourcePort: 4000, destinationPort: 81, sequence: 7), at: "t/a/vm")
        #expect(verdict.drop == .filterRejected)
        let reset = parse(try #require(verdict.packets.first).frame)
        #expect(reset.tcpFlags == 0x14)
        #expect(reset.ipSource == address("10.0.2.21") && reset.ipDestination == address("10.0.1.11"))
        #expect(reset.sourcePort == 81 && reset.destinationPort == 4000)
    }
}
