// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// A fabric that was made of the one before is the one that would have been made anew.
@Suite struct FabricTests {
    /// Everything that simulating a frame does, in words, by names.
    private func story(_ frame: [UInt8], at path: PortPath, _ host: Host) -> [String] {
        let verdict = host.send(frame, at: path.description)
        return verdict.trace.map { "\($0.stage) \($0.object): \($0.text)" } + host.outputs(verdict)
            + ["\(verdict.drop.map { "\($0)" } ?? "-") \(verdict.mask.describe(parse(frame)))"]
            + verdict.packets.map { "\(host.fabric.path($0.port)) \($0.frame)" }
            + (verdict.tags + verdict.ownTags).map { "\($0.bits)" }.sorted()
    }

    @Test(arguments: [Drawings.routers, Drawings.vlans])
    func `a patched fabric forwards as one that is made anew`(_ drawing: String) throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var changes = TopologyChanges()
        var topology = try draw(drawing)
        let group = PortGroup(path: DevicePath(tenant: "t", name: "k0"), isStateful: true)
        topology.portGroups[group.path] = group
        for port in Array(topology.ports.values) { topology.ports[port.path]?.groups = ["k0"] }
        let state = TableState()
        var fabric = Fabric(topology, localHost: "h1")
        var patched = 0
        let drawn = fabric.localPorts.map { fabric.standIns(of: $0).map(fabric.name) }
        #expect(
            !drawn.isEmpty && drawn.allSatisfy { Set($0).contains("h1") }, "ports of one group stand in for each other")
        for round in 0..<150 {
            let next = changes.next(topology, &random)
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
                let same = try #require(other.fabric.port(port.path))
                let (here, there) = (fabric.standIns(of: index), other.fabric.standIns(of: same))
                #expect(
                    Set(here.map(fabric.name)) == Set(there.map(other.fabric.name)), "seed \(seed) at \(port.path)")
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
        #expect(patched > 50, "seed \(seed): hardly a fabric was patched: \(patched)")
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
