// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CCount
import FlowState
import Linux
import Simulation
import TestSupport
import Topology
import Wire

/// What the first packet of a connection costs that a router sends to a member of a pool: with eight members behind one virtual
/// address, and with 500 behind each of 200.
extension SimulateCommand {
    private static let drawing = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            bridges:
              a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:00:01", address: 10.0.1.11/16 } } }
              out: { ports: { up: { host: h1, interface: up, mac: "0e:00:00:00:00:02", address: 203.0.113.254/24 } } }
            routers:
              edge:
                links: [{ bridge: a, address: 10.0.0.1/16 }, { bridge: out, address: 203.0.113.1/24 }]
        """

    func balanced() throws {
        for algorithm in Pool.Algorithm.allCases {
            let few = try balanced(algorithm, members: 8, addresses: 1)
            let many = try balanced(algorithm, members: 500, addresses: 200)
            let name = "balance.\(algorithm.rawValue)"
            print("{\"name\": \"\(name).8x1\", \"value\": \(few), \"unit\": \"us\", \"allocations\": 0}")
            print("{\"name\": \"\(name).500x200\", \"value\": \(many), \"unit\": \"us\", \"allocations\": 0}")
            print("{\"name\": \"\(name).ratio\", \"value\": \(many / few), \"unit\": \"x\", \"allocations\": 0}")
        }
    }

    /// Microseconds for one first packet, what is kept of it included.
    private func balanced(_ algorithm: Pool.Algorithm, members: Int, addresses: Int) throws -> Double {
        var topology = try draw(SimulateCommand.drawing)
        guard let router = DevicePath("t/edge"), let path = PortPath("t/out/up"), let own = topology.ports[path],
            let gateway = PortPath("t/edge/out").flatMap({ topology.ports[$0] })
        else { throw ValidationError("the drawing has no such ports") }
        // One machine has the addresses of all members: what is measured is the choice, not the asking for neighbors.
        let count = 60_000
        var virtual: [VirtualAddress] = []
        for number in 0..<addresses {
            var pool = Pool(path: DevicePath(tenant: "t", name: "p\(number)"))
            pool.algorithm = algorithm
            for member in 0..<members {
                pool.members.append(
                    PoolMember(IPAddress(IPv4Address(bits: 0x0a00_0200 + UInt32(member))), port: UInt16(8000 + number)))
            }
            topology.pools[pool.path] = pool
            virtual.append(
                VirtualAddress(
                    id: "v\(number)", IPAddress(IPv4Address(bits: 0xc633_6400 + UInt32(number))),
                    ports: [PortRange(80, 80)], pool: pool.path.name))
        }
        topology.routers[router]?.translation.virtual = virtual
        let fabric = Fabric(topology, localHost: "h1")
        guard let index = fabric.port(path) else { throw ValidationError("the port is not in the fabric") }
        let inner = Simulation.Tag.port(PortPath(device: router, name: "a"))
        var all: [Double] = []
        for _ in 0..<rounds {
            let state = StateTable()
            var unused = ToldEntries()
            for member in 0..<members {
                let address = IPAddress(IPv4Address(bits: 0x0a00_0200 + UInt32(member)))
                _ = state.learn(
                    .neighbor(address, mac: MACAddress(bits: 0x0e00_0000_0001), port: inner), now: 1, told: &unused)
            }
            var frame = Frame.tcp(
                etherSource: own.mac, etherDestination: gateway.mac, source: IPAddress(IPv4Address(bits: 0xcb00_7163)),
                destination: IPAddress(IPv4Address(bits: 0xc633_6400)), sourcePort: 1, destinationPort: 80)
            var simulator = Simulator(fabric: fabric, state: state)
            let owner = fabric.owner(of: index)
            let began = monotonicNanoseconds()
            for number in 0..<count {
                let port = UInt16(1024 + number)
                (frame[34], frame[35]) = (UInt8(port >> 8), UInt8(port & 0xff))
                frame[33] = UInt8(number % addresses)
                frame.withUnsafeBytes { bytes in
                    var layout = PacketLayout()
                    let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                    simulator.simulate(
                        SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                        at: index)
                }
                guard simulator.verdict.outputs.count == 1 else {
                    throw ValidationError("balance: packet \(number) \(simulator.verdict.drop?.rawValue ?? "waits")")
                }
                var told = ToldEntries()
                for learned in simulator.verdict.learned {
                    _ = state.learn(learned, owner: owner, now: 1, told: &told)
                }
            }
            all.append(Double(monotonicNanoseconds() - began) / Double(count) / 1000)
        }
        return all.sorted()[rounds / 2]
    }
}
