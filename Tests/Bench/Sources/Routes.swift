// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CCount
import FlowState
import Foundation
import Linux
import Simulation
import TestSupport
import Topology
import Wire

/// A full table: what 200,000 destinations that two uplinks learned cost in memory and time, and whether a lookup among them costs
/// what one among ten thousand does.
extension SimulateCommand {
    private static let uplinks = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 } } }
            routers:
              gw:
                bgp: { as: 65001 }
                links: [{ bridge: a, address: 10.0.1.1/24 }]
                ports:
                  one: { host: h1, interface: eth1, address: 100.64.1.2/30, peers: [{ address: 100.64.1.1, as: 65100 }] }
                  two: { host: h2, interface: eth1, address: 100.64.2.2/30, peers: [{ address: 100.64.2.1, as: 65200 }] }
        """

    /// Networks about as long as those of the Internet are.
    private func networks(_ count: Int) -> [Prefix] {
        var random = SeededRandom(seed: 20_261_129)
        let lengths = [24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 18, 16]
        var seen: Set<Prefix> = []
        var list: [Prefix] = []
        while list.count < count {
            let length = lengths.randomElement(using: &random) ?? 24
            let address = IPv4Address(bits: UInt32.random(in: 0x0b00_0000..<0xdf00_0000, using: &random))
            // Nothing is forwarded to hosts themselves, nor to links.
            if address.bits >> 24 == 127 || address.bits >> 24 == 169 { continue }
            let prefix = Prefix(IPAddress(address).masked(length), length: length)
            if seen.insert(prefix).inserted { list.append(prefix) }
        }
        return list
    }

    private func resident() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        return (Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0) * 4096
    }

    private func say(_ name: String, _ value: Double, _ unit: String) {
        print("{\"name\": \"\(name)\", \"value\": \(value), \"unit\": \"\(unit)\", \"allocations\": 0}")
    }

    func routes() throws {
        // The larger first: what it takes is not what the smaller one left.
        let many = try routes(200_000)
        let few = try routes(10_000)
        say("routes.10000.simulate", few, "us")
        say("routes.200000.simulate", many, "us")
        say("routes.ratio", many / few, "x")
        rows(200_000)
    }

    /// Microseconds for a packet that goes by one of so many routes.
    private func routes(_ count: Int) throws -> Double {
        let topology = try draw(SimulateCommand.uplinks)
        guard let router = DevicePath("t/gw"), let vm = PortPath("t/a/vm"), let own = topology.ports[vm],
            let gateway = topology.ports(of: router).first(where: { $0.path.name == "a" })
        else { throw ValidationError("the drawing has no such ports") }
        let networks = networks(count)
        let ways = [
            ("one", UplinkRoute(gateways: [IPAddress(IPv4Address(bits: 0x6440_0101))], metric: 1)),
            ("two", UplinkRoute(gateways: [IPAddress(IPv4Address(bits: 0x6440_0201))], metric: 1)),
        ].map { (Simulation.Tag.port(PortPath(device: router, name: $0.0)), $0.1) }
        let tag = Simulation.Tag.router(router)
        let before = resident()
        var began = monotonicNanoseconds()
        var learned = LearnedRoutes()
        for (port, route) in ways {
            for network in networks { _ = learned.set(network, port: port, router: tag, route) }
        }
        say("routes.\(count).learn", Double(monotonicNanoseconds() - began) / 1e9, "s")
        say("routes.\(count).memory", Double(resident() - before) / 1_048_576, "MiB")
        // One that comes and goes among them, and is in force each time.
        var fabric = Fabric(topology, localHost: "h1", learned: learned)
        var times: [UInt64] = []
        for number in 0..<200 {
            began = monotonicNanoseconds()
            var next = fabric.learned
            let network = networks[(number / 2) * 37 % networks.count]
            _ = next.set(network, port: ways[0].0, router: tag, number % 2 == 0 ? .withdrawn : ways[0].1)
            fabric = Fabric(fabric, learned: next)
            times.append(monotonicNanoseconds() - began)
        }
        say("routes.\(count).change", Double(times.sorted()[times.count / 2]) / 1000, "us")
        guard let index = fabric.port(vm) else { throw ValidationError("the port is not in the fabric") }
        let frames = (0..<4096).map { number in
            Frame.udp(
                etherSource: own.mac, etherDestination: gateway.mac, source: IPAddress(IPv4Address(bits: 0x0a00_010b)),
                destination: networks[number * 31 % networks.count].address, sourcePort: UInt16(1000 + number),
                destinationPort: 53, data: [UInt8](repeating: 0, count: 18))
        }
        var simulator = Simulator(fabric: fabric, state: RoutersThere())
        var rounds: [Double] = []
        for _ in 0..<max(3, self.rounds) {
            var outputs = 0
            began = monotonicNanoseconds()
            for number in 0..<100_000 {
                frames[number & 4095].withUnsafeBytes { bytes in
                    var layout = PacketLayout()
                    let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                    simulator.simulate(
                        SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                        at: index)
                    outputs += simulator.verdict.outputs.count
                }
            }
            rounds.append(Double(monotonicNanoseconds() - began) / 100_000)
            guard outputs == 100_000 else { throw ValidationError("the packets did not go through") }
        }
        return rounds.sorted()[rounds.count / 2] / 1000
    }

    /// What it takes to know so many destinations as rows.
    private func rows(_ count: Int) {
        let before = resident()
        let table = StateTable()
        let route = UplinkRoute(gateways: [IPAddress(IPv4Address(bits: 0x6440_0101))], metric: 1)
        let networks = networks(count)
        let began = monotonicNanoseconds()
        for network in networks {
            var told = ToldEntries()
            _ = table.learn(RouteKey(network, port: Simulation.Tag(bits: 7)), route, now: 1, told: &told)
        }
        say("routes.\(count).rows", Double(monotonicNanoseconds() - began) / 1e9, "s")
        say("routes.\(count).rows.memory", Double(resident() - before) / 1_048_576, "MiB")
    }
}

/// All neighbors are known.
private final class RoutersThere: FlowStateView {
    func port(of mac: MACAddress, vlan: UInt16, bridge: Simulation.Tag) -> Simulation.Tag? { nil }
    func neighbor(_ address: IPAddress, port: Simulation.Tag) -> NeighborState {
        .at(MACAddress(bits: 0x0e00_0000_0301))
    }
}
