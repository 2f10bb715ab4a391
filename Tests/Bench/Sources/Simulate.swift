// SPDX-License-Identifier: Apache-2.0
import Agent
import ArgumentParser
import CCount
import FlowState
import Foundation
import Linux
import Manifest
import Simulation
import TestSupport
import Topology
import Wire

/// Nanoseconds and allocations of one simulation, over packets of many flows.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "simulate")
    @Option var rounds = 7
    @Flag(help: "Only connections' first packets.") var statefulOnly = false
    @Flag(help: "Only learned routes: memory is that of a process that did nothing before.") var routesOnly = false

    mutating func run() throws {
        if statefulOnly { return try stateful() }
        if routesOnly { return try routes() }
        try measure("simulate.bridge", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3")
        try measure(
            "simulate.routers", Drawings.routers, port: "t/a/vm", to: "t/gw/a", destination: "10.3.200.1", known: true)
        let few = try measure(
            "rules.10", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3", rules: 10)
        let many = try measure(
            "rules.1000", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3", rules: 1000)
        print("{\"name\": \"rules.ratio\", \"value\": \(many / few), \"unit\": \"x\", \"allocations\": 0}")
        connections()
        try stateful()
        try balanced()
        try routes()
    }

    /// Memory of a million connections, as the process has it.
    private func connections() {
        func resident() -> Int {
            let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
            return (Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0) * 4096
        }
        let before = resident()
        let count = 1_000_000
        var table = ConnectionTable(seed: 1, limit: 1 << 20)
        let began = monotonicNanoseconds()
        for number in 0..<count {
            let tuple = ConnectionTuple(
                source: IPAddress(IPv4Address(bits: 0x0a00_0000 | UInt32(number & 0xffff))),
                destination: IPAddress(IPv4Address(bits: 0xc633_6401)), sourcePort: UInt16(1024 + number >> 16),
                destinationPort: 443, ipProtocol: IPProtocol.tcp)
            table.note(tuple, zone: Simulation.Tag(bits: 5), flags: 2, now: 1)
        }
        let took = monotonicNanoseconds() - began
        let bytes = Double(resident() - before) / Double(table.count)
        print("{\"name\": \"state.bytes\", \"value\": \(bytes), \"unit\": \"bytes\", \"allocations\": 0}")
        print(
            "{\"name\": \"state.note\", \"value\": \(Double(took) / Double(count) / 1000), \"unit\": \"us\", \"allocations\": 0}"
        )
    }

    /// A chain that nothing but its last rule lets pass, asking for addresses and ports of all sorts.
    private func chain(_ count: Int) -> Chain {
        var chain = Chain(path: DevicePath(tenant: "t", name: "c"))
        for number in 0..<count - 1 {
            var condition = Condition()
            condition.ipProtocol = Match(number % 3 == 0 ? IPProtocol.tcp : IPProtocol.udp)
            let network = IPAddress(IPv4Address(bits: 0x0a00_0000 | UInt32(number) << 12))
            if number % 2 == 0 { condition.sources = Match([Prefix(network, length: number % 5 == 0 ? 16 : 20)]) }
            let port = UInt16(1 + number * 37 % 60_000)
            condition.destinationPorts = Match([PortRange(port == 53 ? 54 : port, port == 53 ? 54 : port)])
            chain.rules.append(Rule(id: "\(number)", condition: condition, action: .drop))
        }
        chain.rules.append(Rule(id: "last", action: .accept))
        return chain
    }

    @discardableResult
    private func measure(
        _ name: String, _ drawing: String, port: String, to: String, destination: String, known: Bool = false,
        rules: Int = 0
    ) throws -> Double {
        var topology = try draw(drawing)
        guard let from = PortPath(port), let next = PortPath(to), let own = topology.ports[from],
            let far = topology.ports[next],
            let target = IPAddress(destination), let source = own.addresses.first?.address
        else { throw ValidationError("the drawing has no such ports") }
        if rules > 0 {
            let chain = chain(rules)
            topology.chains[chain.path] = chain
            topology.ports[from]?.filters.inbound = "c"
        }
        let fabric = Fabric(topology, localHost: "h1")
        let state = KnownNeighbors()
        guard let index = fabric.port(from) else { throw ValidationError("the port is not in the fabric") }
        let frames = (0..<256).map { number in
            Frame.udp(
                etherSource: own.mac, etherDestination: far.mac, source: source, destination: target,
                sourcePort: UInt16(1000 + number), destinationPort: 53, data: [UInt8](repeating: 0, count: 18))
        }
        var simulator = Simulator(fabric: fabric, state: state)
        var times: [Double] = []
        var allocations: Double = 0
        var outputs = 0
        let count = 200_000
        for _ in 0..<rounds {
            let before = cc_allocations()
            let began = monotonicNanoseconds()
            for number in 0..<count {
                frames[number & 255].withUnsafeBytes { bytes in
                    var layout = PacketLayout()
                    let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                    simulator.simulate(
                        SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                        at: index)
                    outputs += simulator.verdict.outputs.count
                }
            }
            times.append(Double(monotonicNanoseconds() - began) / Double(count))
            allocations = Double(cc_allocations() - before) / Double(count)
        }
        guard outputs == rounds * count else { throw ValidationError("\(name): the packets did not go through") }
        times.sort()
        print(
            "{\"name\": \"\(name)\", \"value\": \(times[times.count / 2] / 1000), \"unit\": \"us\", \"allocations\": \(allocations)}"
        )
        return times[times.count / 2]
    }
}

extension SimulateCommand {
    /// Two routers, both of which filter by state, and the outer one translates sources.
    private static let stateful = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            chains:
              f:
                - { state: [established, related], action: accept }
                - { protocol: tcp, destinationPort: [80, 443], state: new, action: accept }
                - { action: drop }
            bridges:
              a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:00:01", address: 10.0.1.11/16 } } }
              out: { ports: { up: { host: h1, interface: up, mac: "0e:00:00:00:00:02", address: 203.0.113.254/24 } } }
            routers:
              gw:
                inbound: f
                links: [{ bridge: a, address: 10.0.0.1/16 }, { router: edge, address: 100.64.0.2/30, peer: 100.64.0.1/30 }]
                routes: [{ to: 0.0.0.0/0, via: 100.64.0.1 }]
              edge:
                outbound: f
                links: [{ bridge: out, address: 203.0.113.1/24 }]
                routes: [{ to: 0.0.0.0/0, via: 203.0.113.254 }, { to: 10.0.0.0/16, via: 100.64.0.2 }]
                nat: [{ outPort: edge/out, action: snat 203.0.113.5 }]
        """

    /// First packets of connections, each of which is kept before the next comes.
    private func stateful() throws {
        let topology = try draw(SimulateCommand.stateful)
        let fabric = Fabric(topology, localHost: "h1")
        guard let path = PortPath("t/a/vm"), let own = topology.ports[path], let index = fabric.port(path),
            let gateway = PortPath("t/gw/a").flatMap({ topology.ports[$0] }), let edge = DevicePath("t/edge"),
            let address = IPAddress("203.0.113.5")
        else { throw ValidationError("the drawing has no such ports") }
        let count = 100_000
        var all: [Double] = []
        var allocations: Double = 0
        for _ in 0..<rounds {
            let state = StateTable()
            let blocks = Array(PortBlock.blocks(of: .translation))
            state.withPorts { $0.set(TranslationPorts.Key(zone: .router(edge), address: address), blocks, now: 1) }
            var frame = Frame.tcp(
                etherSource: own.mac, etherDestination: gateway.mac, source: IPAddress(IPv4Address(bits: 0x0a00_010b)),
                destination: IPAddress(IPv4Address(bits: 0xc633_6401)), sourcePort: 1, destinationPort: 443)
            var simulator = Simulator(fabric: fabric, state: state)
            let owner = fabric.owner(of: index)
            let before = cc_allocations()
            let began = monotonicNanoseconds()
            for number in 0..<count {
                (frame[34], frame[35]) = (UInt8(number >> 8 & 0x3f | 0x40), UInt8(number & 0xff))
                (frame[28], frame[29], frame[33]) = (UInt8(number >> 14 & 0xff), 11, UInt8(1 + number >> 13 & 0xff))
                frame.withUnsafeBytes { bytes in
                    var layout = PacketLayout()
                    let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                    simulator.simulate(
                        SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                        at: index)
                }
                guard simulator.verdict.outputs.count == 1 else {
                    throw ValidationError(
                        "simulate.stateful: packet \(number) \(simulator.verdict.drop?.rawValue ?? "")")
                }
                var told = ToldEntries()
                for learned in simulator.verdict.learned {
                    _ = state.learn(learned, owner: owner, now: 1, told: &told)
                }
            }
            all.append(Double(monotonicNanoseconds() - began) / Double(count) / 1000)
            allocations = Double(cc_allocations() - before) / Double(count)
        }
        let middle = rounds / 2
        print(
            "{\"name\": \"simulate.stateful\", \"value\": \(all.sorted()[middle]), \"unit\": \"us\", \"allocations\": \(allocations)}"
        )
    }
}

/// Every neighbor is known: what is measured is the way, not the asking.
private final class KnownNeighbors: FlowStateView {
    func port(of mac: MACAddress, vlan: UInt16, bridge: Simulation.Tag) -> Simulation.Tag? { nil }
    func neighbor(_ address: IPAddress, port: Simulation.Tag) -> NeighborState {
        .at(MACAddress(bits: 0x0e00_0000_0301))
    }
}
