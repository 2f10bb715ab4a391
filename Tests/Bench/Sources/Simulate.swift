// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CCount
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
    }

    private func measure(
        _ name: String, _ drawing: String, port: String, to: String, destination: String, known: Bool = false
    ) throws {
        let topology = try draw(drawing)
        guard let from = PortPath(port), let next = PortPath(to), let own = topology.ports[from],
            let far = topology.ports[next],
            let target = IPAddress(destination), let source = own.addresses.first?.address
        else { throw ValidationError("the drawing has no such ports") }
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
    }
}

/// Every neighbor is known: what is measured is the way, not the asking.
private final class KnownNeighbors: FlowStateView {
    func port(of mac: MACAddress, vlan: UInt16, bridge: Simulation.Tag) -> Simulation.Tag? { nil }
    func neighbor(_ address: IPAddress, port: Simulation.Tag) -> NeighborState {
        .at(MACAddress(bits: 0x0e00_0000_0301))
    }
}
