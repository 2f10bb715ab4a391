// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// The property on which everything that is installed rests: two packets that one flow holds simulate to one verdict.
@Suite struct SoundnessTests {
    /// What a verdict does to a packet, apart from bits that it passes through untouched.
    private struct Effect: Equatable {
        var outputs: [String]
        var isCacheable: Bool
        var waits: Bool
    }

    private func effect(_ verdict: Verdict, _ key: FlowKey, _ host: Host) -> Effect {
        let names = host.outputs(verdict)
        let outputs = zip(names, verdict.outputs).map { name, output in
            let header = verdict.headers[Int(output.header)]
            var text = "\(name)"
            for word in 0..<FlowKey.wordCount where header.written.bits.words[word] != 0 {
                text += " \(word):\(header.written.bits.words[word] & header.key.words[word])"
            }
            let tags = (header.key.vlanTCI, header.key.vlanTPID, header.key.innerVLANTCI)
            if tags != (key.vlanTCI, key.vlanTPID, key.innerVLANTCI) {
                text += " vlan \(header.key.vlanTCI & 0x1fff)"
            }
            return text
        }
        return Effect(outputs: outputs, isCacheable: verdict.isCacheable, waits: verdict.wait != nil)
    }

    private func randomFrame(_ host: Host, _ ports: [PortPath], _ random: inout SeededRandom) -> [UInt8] {
        let stations = host.fabric.topology.ports.values.sorted { $0.path < $1.path }
        let macs =
            stations.map(\.mac) + [
                .broadcast, MACAddress(bits: 0x3333_0000_0001), MACAddress(bits: 0x0e99),
            ]
        let known = stations.flatMap(\.addresses).map(\.address)
        let literals = [
            "10.9.8.1", "10.10.1.1", "10.3.200.1", "8.8.8.8", "224.0.0.5", "169.254.1.1", "0.0.0.0", "10.0.2.99",
            "10.0.2.255", "fd00:2::99", "fe80::1", "ff02::1", "::1",
        ].map(address)
        let source = (known + literals).randomElement(using: &random) ?? literals[0]
        let targets = (known + literals).filter { $0.family == source.family }
        let destination = targets.randomElement(using: &random) ?? source
        let etherSource = macs.filter { !$0.isGroup }.randomElement(using: &random) ?? .zero
        let etherDestination = macs.randomElement(using: &random) ?? .zero
        let ttls: [UInt8] = [1, 2, 64, 255]
        let ttl = ttls.randomElement(using: &random) ?? 64
        let port = UInt16.random(in: 0...3, using: &random)
        var frame: [UInt8]
        switch Int.random(in: 0...4, using: &random) {
        case 0:
            frame = Frame.tcp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: port, destinationPort: 80, ttl: ttl)
        case 1, 2:
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: port, destinationPort: 53, ttl: ttl, data: [])
        case 3:
            frame = Frame.icmp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                type: UInt8.random(in: 128...137, using: &random), code: 0, data: [UInt8](repeating: 0, count: 24),
                ttl: ttl)
        default:
            frame = Frame.ethernet(
                from: etherSource, to: etherDestination, type: 0x0900, payload: [UInt8](repeating: 0, count: 46))
        }
        if Bool.random(using: &random) {
            frame = Frame.tagged(frame, vlan: UInt16([0, 10, 20, 30].randomElement(using: &random) ?? 0))
        }
        return frame
    }

    @Test(arguments: [Drawings.bridge, Drawings.routers, Drawings.vlans])
    func `two packets that one flow holds get one verdict`(_ drawing: String) throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let host = try Host(drawing)
        let ports = host.fabric.topology.ports.values.filter { port in
            if case .exterior("h1", _) = port.attachment { return true }
            return false
        }.map(\.path).sorted()
        // Some of what may be learned is.
        for _ in 0..<20 {
            let verdict = host.send(randomFrame(host, ports, &random), at: ports[0].description)
            for learned in verdict.learned where Bool.random(using: &random) { host.state.learn(learned) }
        }
        var cacheable = 0
        for round in 0..<4000 {
            let frame = randomFrame(host, ports, &random)
            let path = try #require(ports.randomElement(using: &random))
            let index = try #require(host.fabric.port(path))
            let key = parse(frame)
            let verdict = host.decide(key, at: index)
            guard verdict.isCacheable else { continue }
            cacheable += 1
            let first = effect(verdict, key, host)
            // What no kernel flow can leave open counts as read: the EtherType, and whether there is a tag.
            var mask = verdict.mask
            mask.include(.etherType)
            mask.bits.words[8] |= UInt64(0x1000) << 48
            mask.bits.words[9] |= 0x1000_ffff
            for _ in 0..<4 {
                var other = key
                let sibling = parse(randomFrame(host, ports, &random))
                for word in 7..<16 {
                    let noise = Bool.random(using: &random) ? sibling.words[word] : random.next()
                    other.words[word] = key.words[word] & mask.bits.words[word] | noise & ~mask.bits.words[word]
                }
                // No IPv4 packet has bits past its 32.
                if key.etherType != EtherType.ipv6 {
                    other.ipSourceWords = (other.words[11] & ~0xffff_ffff, 0)
                    other.ipDestinationWords = (other.words[13] & ~0xffff_ffff, 0)
                }
                let second = effect(host.decide(other, at: index), other, host)
                #expect(
                    first == second,
                    "seed \(seed) round \(round) at \(path)\n\(mask.describe(key))\n\(mask.describe(other))")
            }
        }
        #expect(cacheable > 300, "too few verdicts could be installed: \(cacheable)")
    }

    @Test func `a flow that a change concerns has a tag of the change`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let before = try Host(Drawings.routers)
        let names = before.fabric.topology.ports.keys.sorted()
        for round in 0..<60 {
            // One random change.
            var topology = before.fabric.topology
            let path = try #require(names.randomElement(using: &random))
            switch Int.random(in: 0...4, using: &random) {
            case 0: topology.ports[path]?.isEnabled = false
            case 1: topology.ports[path]?.mac = MACAddress(bits: 0x0e77_0000_0000 | random.next() & 0xffff)
            case 2: topology.routers[DevicePath(tenant: "t", name: "gw")]?.routes.removeLast()
            case 3: topology.hosts["h2"]?.tunnelAddresses["default"] = address("192.0.2.77")
            default: topology.ports[path]?.tunnelKey = 0x5555
            }
            let tags = TopologyDifference(from: before.fabric.topology, to: topology).tags(
                from: before.fabric.topology, to: topology)
            let after = Fabric(topology, localHost: "h1")
            let port = try #require(PortPath("t/a/vm"))
            for _ in 0..<200 {
                let frame = randomFrame(before, names, &random)
                let key = parse(frame)
                let old = before.decide(key, at: before.port("t/a/vm"))
                guard old.isCacheable else { continue }
                var simulator = Simulator(fabric: after, state: before.state)
                var layout = PacketLayout()
                layout.networkLength = 20
                simulator.simulate(
                    SimulatedPacket(key: key, layout: layout, bytes: RawSpan(), length: 0),
                    at: try #require(after.port(port)))
                let new = simulator.verdict
                let isSame =
                    old.outputs == new.outputs && old.isCacheable == new.isCacheable && old.mask == new.mask
                    && zip(old.headers, new.headers).allSatisfy { $0.key == $1.key && $0.written == $1.written }
                if !isSame {
                    #expect(
                        !tags.isDisjoint(with: old.tags),
                        "seed \(seed) round \(round) \(path) \(old.mask.describe(key))")
                }
            }
        }
    }
}
