// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// A fabric that was made of the one before is the one that would have been made anew.
@Suite struct FabricTests {
    /// A topology with a few things changed, valid as the one before was.
    private func changed(_ old: Topology, _ serial: inout UInt32, _ random: inout SeededRandom) -> Topology {
        while true {
            var topology = old
            for _ in 0..<Int.random(in: 1...3, using: &random) { change(&topology, &serial, &random) }
            if topology != old, topology.problems().isEmpty { return topology }
        }
    }

    private func change(_ topology: inout Topology, _ serial: inout UInt32, _ random: inout SeededRandom) {
        serial += 1
        let ports = topology.ports.keys.sorted()
        let bridges = topology.bridges.keys.sorted()
        let routers = topology.routers.keys.sorted()
        guard let path = ports.randomElement(using: &random), let bridge = bridges.randomElement(using: &random),
            let router = routers.randomElement(using: &random)
        else { return }
        func key() -> UInt32 { 0x10_0000 + serial }
        func link(_ a: (DevicePath, Port.Kind), _ b: (DevicePath, Port.Kind)) {
            var one = Port(path: PortPath(device: a.0, name: "l\(serial)"), kind: a.1)
            var two = Port(path: PortPath(device: b.0, name: "m\(serial)"), kind: b.1)
            (one.attachment, two.attachment) = (.peer(two.path), .peer(one.path))
            (one.tunnelKey, two.tunnelKey) = (key(), 0x20_0000 + serial)
            if a.1 == .router { one.addresses = [subnet(serial)] }
            if a.1 == .bridge, Bool.random(using: &random) {
                one.vlan = [.access(20), .trunk(allowed: nil, native: 0)].randomElement(using: &random) ?? .access(0)
            }
            (topology.ports[one.path], topology.ports[two.path]) = (one, two)
        }
        switch Int.random(in: 0...12, using: &random) {
        case 0: topology.ports[path]?.isEnabled.toggle()
        case 1: topology.ports[path]?.mac = MACAddress(bits: 0x0e77_0000_0000 | UInt64(serial))
        case 2, 3:
            var port = Port(path: PortPath(device: bridge, name: "p\(serial)"), kind: .bridge)
            let host = ["h1", "h2"].randomElement(using: &random) ?? ""
            port.attachment = .exterior(host: host, interface: "i\(serial)")
            port.addresses = [subnet(serial)]
            port.tunnelKey = key()
            let allowed: Set<UInt16> = [10, 20, UInt16.random(in: 1...4000, using: &random)]
            port.vlan =
                [.access(0), .access(10), .trunk(allowed: allowed, native: nil), .trunk(allowed: nil, native: 30)]
                .randomElement(using: &random) ?? .access(0)
            topology.ports[port.path] = port
        case 4: link((router, .router), (bridge, .bridge))
        case 5: link((bridge, .bridge), (bridges.randomElement(using: &random) ?? bridge, .bridge))
        case 6 where ports.count > 8:
            if case .peer(let other)? = topology.ports[path]?.attachment { topology.ports[other] = nil }
            topology.ports[path] = nil
        case 7:
            var new = Bridge(path: DevicePath(tenant: "t", name: "b\(serial)"))
            new.floodKey = key()
            topology.bridges[new.path] = new
        case 8 where bridges.count > 3:
            for port in topology.ports(of: bridge) {
                if case .peer(let other) = port.attachment { topology.ports[other] = nil }
                topology.ports[port.path] = nil
            }
            topology.bridges[bridge] = nil
        case 9:
            let new = Router(path: DevicePath(tenant: "t", name: "r\(serial)"))
            topology.routers[new.path] = new
        case 10:
            if topology.ports[path]?.addresses.popLast() == nil { topology.ports[path]?.addresses = [subnet(serial)] }
        case 11:
            topology.routers[router]?.routes.append(Route(destination: subnet(serial).network, nextHop: .blackhole))
        default:
            guard case .exterior? = topology.ports[path]?.attachment else { return }
            let host = ["h1", "h2"].randomElement(using: &random) ?? ""
            topology.ports[path]?.attachment = .exterior(host: host, interface: "i\(serial)")
        }
    }

    private func subnet(_ serial: UInt32) -> InterfaceAddress {
        InterfaceAddress(IPAddress(IPv4Address(bits: 0x0a80_0001 | (serial & 0x3fff) << 8)), length: 24)
    }

    /// Everything that simulating a frame does, in words, by names.
    private func story(_ frame: [UInt8], at path: PortPath, _ host: Host) -> [String] {
        let verdict = host.send(frame, at: path.description)
        return verdict.trace.map { "\($0.stage) \($0.object): \($0.text)" } + host.outputs(verdict)
            + ["\(verdict.drop.map { "\($0)" } ?? "-") \(verdict.mask.describe(parse(frame)))"]
            + verdict.packets.map { "\(host.fabric.path($0.port)) \($0.frame)" }
            + verdict.tags.map { "\($0.bits)" }.sorted()
    }

    @Test(arguments: [Drawings.routers, Drawings.vlans])
    func `a patched fabric forwards as one that is made anew`(_ drawing: String) throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var serial: UInt32 = 0
        var topology = try draw(drawing)
        let state = TableState()
        var fabric = Fabric(topology, localHost: "h1")
        var patched = 0
        for round in 0..<150 {
            let next = changed(topology, &serial, &random)
            let difference = TopologyDifference(from: topology, to: next)
            let before = fabric
            fabric = Fabric(next, after: fabric, difference)
            if fabric.lineage == before.lineage { patched += 1 }
            topology = next
            let one = Host(fabric, state)
            let other = Host(topology: next, state: state)
            for key in before.topology.ports.values.map(\.tunnelKey) + before.topology.bridges.values.map(\.floodKey) {
                #expect(arrival(key, one) == arrival(key, other), "seed \(seed) round \(round) key \(key)")
            }
            #expect(arrivals(one) == arrivals(other), "seed \(seed) round \(round)")
            let ports = Array(next.ports.values).sorted { $0.path < $1.path }
            let exterior = ports.filter { if case .exterior = $0.attachment { true } else { false } }
            #expect(one.fabric.localPorts.map(one.fabric.path) == other.fabric.localPorts.map(other.fabric.path))
            for path in difference.ports where next.ports[path] == nil { #expect(fabric.port(path) == nil) }
            for port in ports {
                let index = try #require(fabric.port(port.path))
                #expect(fabric.path(index) == port.path)
                #expect(fabric.port(Tag.port(port.path)) == index)
            }
            for _ in 0..<60 {
                guard let from = exterior.randomElement(using: &random), let to = ports.randomElement(using: &random)
                else { continue }
                let source = from.addresses.first?.address ?? address("10.9.9.9")
                let target = to.addresses.first { $0.address.family == source.family }?.address ?? address("10.128.3.1")
                let gateway = ports.filter { $0.kind == .router }.randomElement(using: &random)?.mac ?? to.mac
                let mac = [to.mac, gateway, .broadcast].randomElement(using: &random) ?? to.mac
                let frame =
                    Int.random(in: 0...5, using: &random) == 0 && source.v4 != nil && target.v4 != nil
                    ? Frame.arp(
                        operation: 1, sender: (from.mac, source.v4 ?? .init(bits: 0)),
                        target: (.zero, target.v4 ?? .init(bits: 0)), etherDestination: .broadcast)
                    : Frame.udp(
                        etherSource: from.mac, etherDestination: mac, source: source,
                        destination: target.family == source.family ? target : source, sourcePort: 1,
                        destinationPort: 2, data: [])
                let tagged = Int.random(in: 0...3, using: &random) == 0 ? Frame.tagged(frame, vlan: 20) : frame
                let (a, b) = (story(tagged, at: from.path, one), story(tagged, at: from.path, other))
                #expect(a == b, "seed \(seed) round \(round) at \(from.path) to \(to.path)")
                if a != b { return }
            }
        }
        #expect(patched > 50, "hardly a fabric was patched: \(patched)")
    }

    private func arrival(_ key: UInt32, _ host: Host) -> [String] {
        var simulator = Simulator(fabric: host.fabric, state: host.state)
        var layout = PacketLayout()
        layout.networkLength = 20
        simulator.simulateArrival(
            SimulatedPacket(key: FlowKey(), layout: layout, bytes: RawSpan(), length: 0), key: key)
        return host.outputs(simulator.verdict) + ["\(simulator.verdict.drop.map { "\($0)" } ?? "-")"]
    }

    private func arrivals(_ host: Host) -> [String] {
        host.fabric.arrivals.map { "\($0.key) \($0.vlan)" }.sorted()
    }
}
