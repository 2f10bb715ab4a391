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
            var text = "\(name) \(output.destination)"
            for word in 0..<FlowKey.wordCount where header.written.bits.words[word] != 0 {
                text += " \(word):\(header.written.bits.words[word] & header.key.words[word])"
            }
            let tags = (header.key.vlanTCI, header.key.vlanTPID, header.key.innerVLANTCI)
            if tags != (key.vlanTCI, key.vlanTPID, key.innerVLANTCI) {
                text += " vlan \(header.key.vlanTCI & 0x1fff)"
            }
            return text
        }
        // Mirrors copy what it is at some point: so much of it as is written there.
        let copies = verdict.copies.map { copy in
            let header = verdict.headers[Int(copy.header)]
            let words = (0..<FlowKey.wordCount).map { header.written.bits.words[$0] & header.key.words[$0] }
            return "copy \(copy.mirror) \(copy.destination) \(words)"
        }
        return Effect(outputs: outputs + copies, isCacheable: verdict.isCacheable, waits: verdict.wait != nil)
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
            "10.0.2.255", "fd00:2::99", "fe80::1", "ff02::1", "::1", "203.0.113.10", "203.0.113.20", "203.0.113.5",
            "239.1.1.1",
            "232.1.1.1", "ff15::1",
        ].map(address)
        let source = (known + literals).randomElement(using: &random) ?? literals[0]
        let targets = (known + literals).filter { $0.family == source.family }
        let destination = targets.randomElement(using: &random) ?? source
        let etherSource = macs.filter { !$0.isGroup }.randomElement(using: &random) ?? .zero
        let etherDestination = macs.randomElement(using: &random) ?? .zero
        let ttls: [UInt8] = [1, 2, 64, 255]
        let ttl = ttls.randomElement(using: &random) ?? 64
        let port = ([0, 1, 2, 3, 67, 68, 179, 547] as [UInt16]).randomElement(using: &random) ?? 0
        let service = ([53, 53, 67, 179, 546, 3784] as [UInt16]).randomElement(using: &random) ?? 53
        var frame: [UInt8]
        switch Int.random(in: 0...5, using: &random) {
        case 5:
            let group = address(["239.1.1.1", "ff15::1"].randomElement(using: &random) ?? "")
            let own = group.family == source.family ? source : IPAddress(high: 0, low: 0, family: group.family)
            frame = Frame.groupReport(
                from: etherSource, own, group: group, isJoin: Bool.random(using: &random))
            if Bool.random(using: &random) {
                frame = Frame.groupQuery(from: etherSource, .ipv6, tenths: 10, interval: 125)
            }
        case 0:
            frame = Frame.tcp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: port, destinationPort: service == 179 ? 179 : 80, ttl: ttl)
        case 1, 2:
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: port, destinationPort: service, ttl: ttl, data: [])
        case 3:
            frame = Frame.icmp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                type: ([134, 137] + Array(UInt8(128)...137)).randomElement(using: &random) ?? 128, code: 0,
                data: [UInt8](repeating: 0, count: 24),
                ttl: ttl)
        default:
            frame = Frame.ethernet(
                from: etherSource, to: etherDestination, type: 0x0900, payload: [UInt8](repeating: 0, count: 46))
        }
        let ids: [UInt16] = [0, 10, 20, 30]
        for _ in 0..<([0, 0, 0, 1, 1, 2].randomElement(using: &random) ?? 0) {
            frame = Frame.tagged(frame, vlan: ids.randomElement(using: &random) ?? 0)
        }
        return frame
    }

    @Test(arguments: [
        Drawings.bridge, Drawings.routers, Drawings.vlans, Drawings.translating, SecurityGroupTests.drawing,
        Drawings.routers
            + "\n    mirrors: { m: { from: edge, to: gre 203.0.113.9 key 1, match: [{ protocol: udp, destinationPort: 53 }] } }",
        ServiceTests.served, HairpinTests.drawing, LearnedRouteTests.drawing,
        Drawings.vlans.replacing("  v:\n", with: "  v:\n        multicast: true\n"),
        Drawings.bridge.replacing("  b:\n", with: "  b:\n        multicast: true\n"),
    ])
    func `two packets that one flow holds get one verdict`(_ drawing: String) throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var host = try Host(drawing)
        if drawing == LearnedRouteTests.drawing {
            host = Host(Fabric(host.fabric, learned: LearnedRouteTests.someRoutes), host.state)
        }
        let ports = host.fabric.topology.ports.values.filter { port in
            if case .exterior("h1", _) = port.attachment { return true }
            return false
        }.map(\.path).sorted()
        for name in ["203.0.113.5", "203.0.113.6", "203.0.113.1"] { host.state.lease("t/gw", address(name), [32, 33]) }
        // Some of what may be learned is.
        for _ in 0..<200 {
            let place = ports.randomElement(using: &random) ?? ports[0]
            let verdict = host.send(randomFrame(host, ports, &random), at: place.description)
            for learned in verdict.learned where Bool.random(using: &random) { host.state.learn(learned) }
        }
        var cacheable = 0
        for round in 0..<4000 {
            let frame = randomFrame(host, ports, &random)
            let path = try #require(ports.randomElement(using: &random))
            let index = try #require(host.fabric.port(path))
            let key = parse(frame)
            let verdict = host.decide(key, at: index)
            guard verdict.isCacheable, !verdict.beginsConnection else { continue }
            cacheable += 1
            let first = effect(verdict, key, host)
            for _ in 0..<4 {
                let other = sibling(of: key, verdict.mask, parse(randomFrame(host, ports, &random)), &random)
                let second = effect(host.decide(other, at: index), other, host)
                #expect(
                    first == second,
                    "seed \(seed) round \(round) at \(path)\n\(verdict.mask.describe(key))\n\(verdict.mask.describe(other))"
                )
            }
        }
        #expect(cacheable > 300, "too few verdicts could be installed: \(cacheable)")
    }

    /// Another key that the flow of `key` and `mask` holds.
    private func sibling(
        of key: FlowKey, _ decided: FlowMask, _ stranger: FlowKey, _ random: inout SeededRandom
    ) -> FlowKey {
        // What no kernel flow can leave open counts as read: the EtherType, and whether there is a tag.
        var mask = decided
        mask.include(.etherType)
        mask.bits.words[8] |= UInt64(0x1000) << 48
        mask.bits.words[9] |= 0x1000_ffff
        var other = key
        for word in 7..<16 {
            let noise = Bool.random(using: &random) ? stranger.words[word] : random.next()
            other.words[word] = key.words[word] & mask.bits.words[word] | noise & ~mask.bits.words[word]
        }
        // No IPv4 packet has bits past its 32.
        if key.etherType != EtherType.ipv6 {
            other.ipSourceWords = (other.words[11] & ~0xffff_ffff, 0)
            other.ipDestinationWords = (other.words[13] & ~0xffff_ffff, 0)
        }
        return other
    }

    /// A packet from t/a/vm to somewhere past its gateway.
    private func routedFrame(_ host: Host, _ random: inout SeededRandom) -> [UInt8] {
        let places = [
            "10.0.2.21", "10.0.2.22", "10.3.0.5", "10.3.200.9", "10.3.7.7", "10.9.8.1", "10.10.1.1", "10.200.1.1",
            "8.8.8.8", "9.1.2.3", "9.77.1.1", "9.77.2.1", "10.77.1.1", "fd00:2::22", "fd00:9::1", "2001:db8::1",
            "2001:db8:5::1",
        ]
        let destination = address(places.randomElement(using: &random) ?? "")
        let source = address(destination.family == .ipv4 ? "10.0.1.11" : "fd00:1::11")
        return Frame.udp(
            etherSource: host.mac("t/a/vm"), etherDestination: MACAddress(bits: 0x0e00_0000_aa01), source: source,
            destination: destination, sourcePort: 1, destinationPort: 53, data: [])
    }

    /// A topology with one thing changed.
    private func changed(_ old: Topology, _ random: inout SeededRandom) throws -> (Topology, String) {
        var topology = old
        let path = try #require(old.ports.keys.sorted().randomElement(using: &random))
        let gateway = DevicePath(tenant: "t", name: "gw")
        func prefix() throws -> Prefix {
            let places = [
                "10.3.7.0/24", "10.0.0.0/8", "8.8.0.0/16", "10.200.0.0/16", "8.0.0.0/7", "9.77.0.0/16", "9.77.1.0/24",
                "2001:db8:5::/48", "fd00:9::/32", "::/0",
            ]
            return try Prefix(parsing: places.randomElement(using: &random) ?? "")
        }
        let kind = Int.random(in: 0...10, using: &random)
        switch kind {
        case 0: topology.ports[path]?.isEnabled = false
        case 1: topology.ports[path]?.mac = MACAddress(bits: 0x0e77_0000_0000 | random.next() & 0xffff)
        case 2: topology.routers[gateway]?.routes.removeLast()
        case 3: topology.hosts["h2"]?.tunnelAddresses["default"] = address("192.0.2.77")
        case 4: topology.ports[path]?.tunnelKey = 0x5555
        case 5: topology.routers[gateway]?.routes.append(Route(destination: try prefix(), nextHop: .blackhole))
        case 6: topology.routers[gateway]?.routes.insert(Route(destination: try prefix(), nextHop: .reject), at: 0)
        case 7:
            let index = Int.random(in: 0..<(topology.routers[gateway]?.routes.count ?? 1), using: &random)
            topology.routers[gateway]?.routes[index].weight = 7
        case 8:
            let places = ["8.8.8.8", "10.0.2.99", "10.0.1.99", "10.3.7.7"]
            let target = address(["10.0.2.21", "10.0.1.11", "10.0.2.22"].randomElement(using: &random) ?? "")
            let port = ["a", "b"].randomElement(using: &random)
            topology.routers[gateway]?.translation.floating = [
                FloatingAddress(address(places.randomElement(using: &random) ?? ""), target: target, port: port)
            ]
        case 9:
            var condition = Condition()
            condition.destinations = Match([try prefix()])
            // Between neighbors, the answers of one and the questions of the other.
            let forwarding: [TranslationRule.Action] = [
                .source(TranslationTarget(address("10.3.7.7"))),
                .destination(TranslationTarget(address("10.0.1.11"), ports: PortRange(1, 1))),
                .destination(TranslationTarget(address("10.0.1.12"), ports: PortRange(53, 53))),
            ]
            condition.ipProtocol = Match(IPProtocol.udp)
            topology.routers[gateway]?.translation.rules = [
                TranslationRule(
                    id: "1", condition: condition, action: forwarding.randomElement(using: &random) ?? .accept)
            ]
        default:
            guard topology.ports[path]?.kind == .router else { break }
            topology.ports[path]?.addresses.append(try InterfaceAddress(parsing: "10.77.0.1/16"))
        }
        return (topology, "\(kind) \(path)")
    }

    @Test func `a flow that a change concerns has a tag of the change`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        // The default routes lead to a machine, so that what they hold goes out by wide flows.
        var drawing = try draw(Drawings.routers)
        for (index, gateway) in ["10.0.2.22", "fd00:2::22"].enumerated() {
            drawing.routers[DevicePath(tenant: "t", name: "gw")]?.routes[index].nextHop = .gateway(
                address(gateway), port: nil)
        }
        let plain = Host(topology: drawing, state: TableState())
        let names = plain.fabric.topology.ports.keys.sorted()
        let port = try #require(PortPath("t/a/vm"))
        var concerned = 0
        for round in 0..<400 {
            // Some seeds draw changes that concern few flows: they draw more of them.
            if round >= 100, concerned > 100 { break }
            let (one, what) = try changed(plain.fabric.topology, &random)
            // Things come as well as go.
            let isReversed = Bool.random(using: &random)
            let (old, new) = isReversed ? (one, plain.fabric.topology) : (plain.fabric.topology, one)
            let tags = TopologyDifference(from: old, to: new).tags(from: old, to: new)
            let before = Host(topology: old, state: plain.state)
            let after = Host(topology: new, state: plain.state)
            guard let index = before.fabric.port(port), let later = after.fabric.port(port) else { continue }
            for _ in 0..<40 {
                let isRouted = Bool.random(using: &random)
                let key = parse(isRouted ? routedFrame(plain, &random) : randomFrame(plain, names, &random))
                let decided = before.decide(key, at: index)
                guard decided.isCacheable else { continue }
                let tagsOfFlow = Set(decided.tags)
                let effect = effect(decided, key, before)
                for _ in 0..<4 {
                    let stranger = isRouted ? routedFrame(plain, &random) : randomFrame(plain, names, &random)
                    let other = sibling(of: key, decided.mask, parse(stranger), &random)
                    let now = self.effect(after.decide(other, at: later), other, after)
                    if now == effect { continue }
                    concerned += 1
                    #expect(
                        !tags.isDisjoint(with: tagsOfFlow),
                        "seed \(seed) round \(round) \(what) reversed \(isReversed)\n\(decided.mask.describe(key))")
                }
            }
        }
        #expect(concerned > 100, "too few flows were concerned: \(concerned)")
    }
}
