// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CCount
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

    mutating func run() throws {
        try measure("simulate.bridge", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3")
        try measure(
            "simulate.routers", Drawings.routers, port: "t/a/vm", to: "t/gw/a", destination: "10.3.200.1", known: true)
        let few = try measure(
            "rules.10", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3", rules: 10)
        let many = try measure(
            "rules.1000", Drawings.bridge, port: "t/b/one", to: "t/b/far", destination: "10.0.1.3", rules: 1000)
        print("{\"name\": \"rules.ratio\", \"value\": \(many / few), \"unit\": \"x\", \"allocations\": 0}")
        connections()
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

/// Every neighbor is known: what is measured is the way, not the asking.
private final class KnownNeighbors: FlowStateView {
    func port(of mac: MACAddress, vlan: UInt16, bridge: Simulation.Tag) -> Simulation.Tag? { nil }
    func neighbor(_ address: IPAddress, port: Simulation.Tag) -> NeighborState {
        .at(MACAddress(bits: 0x0e00_0000_0301))
    }
}
