// SPDX-License-Identifier: Apache-2.0
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Simulation

/// Routes that daemons of uplinks learn, beside those that are drawn.
@Suite struct LearnedRouteTests {
    private static func randomPrefix(_ random: inout SeededRandom) -> Prefix {
        let isV6 = Bool.random(using: &random)
        // Few bits vary, so that prefixes hold each other often.
        let high = UInt64.random(in: 0..<64, using: &random) << (isV6 ? 44 : 50) | 0x0a << 56
        let length = Int.random(in: 0...(isV6 ? 64 : 32), using: &random)
        return Prefix(IPAddress(high: high, low: 0, family: isV6 ? .ipv6 : .ipv4).masked(length), length: length)
    }

    @Test func `the longest prefix is found, and so many bits are told that decide`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for round in 0..<60 {
            var model: [Prefix: Int32] = [:]
            var tries = [AddressFamily.ipv4: PrefixTrie(), .ipv6: PrefixTrie()]
            // A copy stays what it was.
            var before: (model: [Prefix: Int32], tries: [AddressFamily: PrefixTrie])?
            // Dense ones have jumps.
            for step in 0..<(round % 6 == 0 ? 3000 : 120) {
                let prefix = Self.randomPrefix(&random)
                if Int.random(in: 0..<3, using: &random) == 0 {
                    let gone = Bool.random(using: &random) ? model.keys.min() ?? prefix : prefix
                    model[gone] = nil
                    tries[gone.family]?.remove(gone)
                } else {
                    model[prefix] = Int32(step)
                    tries[prefix.family]?.set(prefix, Int32(step))
                }
                if step == 60 || step == 1500 { before = (model, tries) }
            }
            if round % 6 == 0 { #expect(tries.values.allSatisfy { $0.jumpCount > 0 }, "seed \(seed)") }
            let all =
                tries.map { (model, $0, $1) } + (before.map { (model, tries) in tries.map { (model, $0, $1) } } ?? [])
            for (model, family, trie) in all {
                let own = model.filter { $0.key.family == family }
                #expect(trie.count == own.count, "seed \(seed)")
                for (prefix, value) in own where trie[prefix] != value { Issue.record("\(prefix), seed \(seed)") }
                func best(_ address: IPAddress, below length: Int = .max) -> (key: Prefix, value: Int32)? {
                    own.filter { $0.key.contains(address) && $0.key.length < length }.max {
                        $0.key.length < $1.key.length
                    }
                }
                for _ in 0..<100 {
                    let address = IPAddress(
                        high: 0x0a << 56 | UInt64.random(in: 0..<64, using: &random) << (family == .ipv6 ? 44 : 50)
                            | random.next() & 0xff_ffff << 32, low: family == .ipv6 ? random.next() : 0, family: family)
                    let match = trie.lookup(address)
                    #expect(match.value == best(address)?.value ?? -1, "seed \(seed) \(address)")
                    #expect(match.length == best(address)?.key.length ?? -1, "seed \(seed) \(address)")
                    if match.length > 0 {
                        let shorter = trie.lookup(address, shorterThan: match.length)
                        #expect(shorter.value == best(address, below: match.length)?.value ?? -1, "seed \(seed)")
                    }
                    // Whatever has these bits in common has the same answer.
                    let kept = prefixMask(match.bits)
                    let other = IPAddress(
                        high: address.high & kept.high
                            | random.next() & ~kept.high & (family == .ipv4 ? 0xffff_ffff << 32 : ~0),
                        low: family == .ipv6 ? address.low & kept.low | random.next() & ~kept.low : 0, family: family)
                    #expect(best(other)?.value == best(address)?.value, "seed \(seed) \(address) \(other)")
                }
            }
        }
    }

    /// A router with an uplink on each of two hosts, one with two, and a network behind it.
    static let drawing = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
        tenants:
          t:
            bridges:
              a:
                ports:
                  vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: [10.0.1.11/24, "fd00:1::11/64"] }
                  far: { host: h3, interface: far, mac: "0e:00:00:00:01:02", address: [10.0.1.12/24, "fd00:1::12/64"] }
            routers:
              gw:
                bgp: { as: 65001, announce: [203.0.113.0/24] }
                links: [{ bridge: a, address: [10.0.1.1/24, "fd00:1::1/64"] }]
                ports:
                  one:
                    host: h1
                    interface: eth1
                    address: [100.64.1.2/30, "2001:db8:1::2/64"]
                    peers: [{ address: 100.64.1.1, as: 65100 }, { address: "2001:db8:1::1", as: 65100 }]
                  two: { host: h2, interface: eth1, address: [100.64.2.2/30, "2001:db8:2::2/64"], peers: [{ address: 100.64.2.1, as: 65100 }] }
                  three: { host: h2, interface: eth2, address: 100.64.3.2/30, peers: [{ address: 100.64.3.1, as: 65200 }] }
                routes: [{ to: 198.51.100.0/24, type: blackhole }]
                nat: [{ source: 10.0.1.0/24, outPort: gw/one, action: masquerade }]
        """
    private static let router = Simulation.Tag.router(DevicePath(tenant: "t", name: "gw"))

    private static func port(_ name: String) -> PortPath {
        PortPath(device: DevicePath(tenant: "t", name: "gw"), name: name)
    }

    private static func learned(_ list: [(String, String, [String], UInt32)]) -> LearnedRoutes {
        var learned = LearnedRoutes()
        for (prefix, port, gateways, metric) in list {
            _ = learned.set(
                parsedPrefix(prefix), port: .port(Self.port(port)), router: router,
                UplinkRoute(gateways: gateways.map(address), metric: metric))
        }
        return learned
    }

    /// Some of each kind.
    static var someRoutes: LearnedRoutes {
        learned([
            ("0.0.0.0/0", "two", ["100.64.2.1"], 10), ("8.8.0.0/16", "two", ["100.64.2.1"], 10),
            ("8.8.0.0/16", "one", ["100.64.1.1"], 10), ("10.9.8.0/24", "one", ["100.64.1.1"], 10),
            ("10.8.0.0/13", "three", ["100.64.3.1"], 10), ("::/0", "one", ["2001:db8:1::1"], 10),
        ])
    }

    private static func host(
        _ routes: [(String, String, [String], UInt32)], on name: String = "h1", _ state: TableState = TableState(),
        near: Bool = false
    ) throws -> Host {
        var topology = try draw(drawing)
        topology.routers[DevicePath(tenant: "t", name: "gw")]?.bgp?.prefersNear = near
        for (port, gateway, mac) in [
            ("one", "100.64.1.1", 0x11), ("two", "100.64.2.1", 0x21), ("three", "100.64.3.1", 0x31),
            ("one", "2001:db8:1::1", 0x11),
        ] {
            state.learn(.neighbor(address(gateway), mac: MACAddress(bits: UInt64(mac)), port: .port(Self.port(port))))
        }
        for port in [32, 33] as [UInt32] { state.lease("t/gw", address("100.64.1.2"), [port]) }
        return Host(Fabric(topology, localHost: name, learned: learned(routes)), state)
    }

    private func send(_ host: Host, _ destination: String, port: UInt16 = 1) -> Verdict {
        let mac = host.fabric.topology.ports(of: DevicePath(tenant: "t", name: "gw")).first { $0.path.name == "a" }?.mac
        let isV6 = address(destination).family == .ipv6
        return host.send(
            Frame.udp(
                etherSource: host.mac("t/a/vm"), etherDestination: mac ?? .zero,
                source: address(isV6 ? "fd00:1::11" : "10.0.1.11"), destination: address(destination),
                sourcePort: port, destinationPort: 9, data: []), at: "t/a/vm")
    }

    @Test func `the longest prefix decides, whether drawn or learned, and of equal ones the drawn`() throws {
        let host = try Self.host([
            ("0.0.0.0/0", "two", ["100.64.2.1"], 10), ("198.51.100.128/25", "two", ["100.64.2.1"], 10),
            ("198.51.100.0/24", "two", ["100.64.2.1"], 10), ("10.0.1.0/24", "two", ["100.64.2.1"], 0),
        ])
        #expect(host.outputs(send(host, "8.8.8.8")) == ["h2 t/gw/two"])
        #expect(send(host, "198.51.100.7").drop == .blackhole)
        #expect(host.outputs(send(host, "198.51.100.200")) == ["h2 t/gw/two"])
        #expect(host.outputs(send(host, "10.0.1.12")) == ["h3 t/a/far"])
        #expect(send(try Self.host([]), "8.8.8.8").drop == .noRoute)
    }

    @Test func `the least metric wins, equal ones share flows, and each host shares alike`() throws {
        let two = [
            ("0.0.0.0/0", "two", ["100.64.2.1"], UInt32(10)), ("0.0.0.0/0", "three", ["100.64.3.1"], 10),
            ("0.0.0.0/0", "one", ["100.64.1.1"], 11),
        ]
        let host = try Self.host(two)
        var counts: [String: Int] = [:]
        for port in 1...400 as ClosedRange<UInt16> {
            for way in host.outputs(send(host, "8.8.8.8", port: port)) { counts[way, default: 0] += 1 }
        }
        #expect(Set(counts.keys) == ["h2 t/gw/two", "h2 t/gw/three"])
        #expect((counts["h2 t/gw/two"] ?? 0) > 130 && (counts["h2 t/gw/three"] ?? 0) > 130, "\(counts)")
        let verdict = send(host, "8.8.8.8")
        #expect(verdict.mask.includes(.sourcePort) && verdict.mask.includes(.destinationPort))
    }

    @Test func `a host with an uplink of its own sends by that where it is to, unless another costs less`() throws {
        let equal = [("0.0.0.0/0", "two", ["100.64.2.1"], UInt32(10)), ("0.0.0.0/0", "one", ["100.64.1.1"], 10)]
        let host = try Self.host(equal, near: true)
        let other = try Self.host([equal[0], (equal[1].0, equal[1].1, equal[1].2, 20)], near: true)
        for port in 1...40 as ClosedRange<UInt16> {
            #expect(host.outputs(send(host, "8.8.8.8", port: port)) == ["t/gw/one"])
            #expect(other.outputs(send(other, "8.8.8.8", port: port)) == ["h2 t/gw/two"])
        }
    }

    @Test func `a way by a host where nothing arrives is left out, as long as there is another`() throws {
        let state = TableState()
        let host = try Self.host(
            [("0.0.0.0/0", "two", ["100.64.2.1"], 10), ("0.0.0.0/0", "one", ["100.64.1.1"], 20)], state)
        let before = send(host, "8.8.8.8")
        #expect(host.outputs(before) == ["h2 t/gw/two"])
        #expect(before.tags.contains(.path(host: .host("h2"))))
        state.dead.withLock { $0 = [.host("h2")] }
        #expect(host.outputs(send(host, "8.8.8.8")) == ["t/gw/one"])
    }

    @Test func `a way that nobody answers for just now is gone by where there is no other`() throws {
        let route = UplinkRoute(gateways: [address("100.64.2.1")], metric: 10)
        #expect(route.doubtful.gateways == route.gateways)
        for other in [10, 1 << 31] as [UInt32] {
            let host = try Self.host([
                ("0.0.0.0/0", "two", ["100.64.2.1"], route.doubtful.metric),
                ("0.0.0.0/0", "one", ["100.64.1.1"], other),
            ])
            #expect(host.outputs(send(host, "8.8.8.8")) == ["t/gw/one"])
        }
        let alone = try Self.host([("0.0.0.0/0", "two", ["100.64.2.1"], route.doubtful.metric)])
        #expect(alone.outputs(send(alone, "8.8.8.8")) == ["h2 t/gw/two"])
    }

    @Test func `a flow has a tag of the routes that it was decided by, or without`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let places = ["8.8.8.8", "8.8.4.4", "9.9.9.9", "2001:db8:77::1", "2001:db8:78::1", "8.9.1.1"]
        let prefixes = [
            "0.0.0.0/0", "8.0.0.0/8", "8.8.0.0/16", "8.8.8.0/24", "8.8.8.8/32", "9.0.0.0/8", "::/0", "2001:db8:77::/48",
            "2001:db8::/32", "8.9.0.0/17",
        ]
        var concerned = 0
        for round in 0..<300 {
            func routes() -> [(String, String, [String], UInt32)] {
                prefixes.compactMap { prefix in
                    guard Int.random(in: 0..<3, using: &random) == 0 else { return nil }
                    let isV6 = prefix.contains("::")
                    return (prefix, "one", [isV6 ? "2001:db8:1::1" : "100.64.1.1"], 1)
                }
            }
            let (first, second) = (routes(), routes())
            let (old, new) = (try Self.host(first), try Self.host(second))
            var tags: Set<Simulation.Tag> = []
            for change in Set(first.map(\.0)).symmetricDifference(second.map(\.0)) {
                tags.formUnion(LearnedRoutes.tags(of: parsedPrefix(change), router: Self.router))
            }
            for place in places {
                let (before, after) = (send(old, place), send(new, place))
                if old.outputs(before) == new.outputs(after), before.drop == after.drop { continue }
                concerned += 1
                #expect(!tags.isDisjoint(with: before.tags), "seed \(seed) round \(round) \(place)")
            }
        }
        #expect(concerned > 100)
    }

    // MARK: - Daemons

    private func outside(
        _ host: Host, _ protocolNumber: UInt8, _ source: String, _ destination: String,
        _ ports: (UInt16, UInt16) = (0, 0)
    ) -> Verdict {
        let (from, to) = (address(source), address(destination))
        let mac = host.mac("t/gw/one")
        let stranger = MACAddress(bits: 0x0200_0000_0011)
        let frame: [UInt8] =
            switch protocolNumber {
            case IPProtocol.tcp:
                Frame.tcp(
                    etherSource: stranger, etherDestination: mac, source: from, destination: to, sourcePort: ports.0,
                    destinationPort: ports.1, ttl: destination.hasPrefix("100.64.") ? 1 : 64)
            case IPProtocol.udp:
                Frame.udp(
                    etherSource: stranger, etherDestination: mac, source: from, destination: to, sourcePort: ports.0,
                    destinationPort: ports.1, ttl: 255, data: [])
            default:
                Frame.icmp(
                    etherSource: stranger, etherDestination: mac, source: from, destination: to,
                    type: UInt8(ports.0), code: 0, rest: 7, data: [1, 2, 3, 4], ttl: 64)
            }
        return host.send(frame, at: "t/gw/one")
    }

    @Test func `BGP, BFD and ping for an uplink go to its daemon as they came, and nothing else does`() throws {
        let host = try Self.host([])
        let daemon = ["t/gw/one%daemon"]
        for (number, ports) in [
            (IPProtocol.tcp, (5000, 179)), (IPProtocol.tcp, (179, 5000)), (IPProtocol.udp, (5000, 3784)),
            (IPProtocol.udp, (5000, 4784)), (IPProtocol.icmp, (8, 0)), (IPProtocol.icmp, (0, 0)),
        ] as [(UInt8, (UInt16, UInt16))] {
            let verdict = outside(host, number, "100.64.1.1", "100.64.1.2", ports)
            #expect(host.outputs(verdict) == daemon, "\(number) \(ports)")
            #expect(verdict.headers.allSatisfy { $0.written == FlowMask() })
        }
        // Not what a peer is not asked by: a machine may have gone out by the port's address.
        #expect(host.outputs(outside(host, IPProtocol.tcp, "100.64.1.9", "100.64.1.2", (179, 5000))).isEmpty)
        #expect(host.outputs(outside(host, IPProtocol.tcp, "100.64.1.1", "100.64.1.2", (5000, 22))).isEmpty)
        #expect(host.outputs(outside(host, IPProtocol.tcp, "100.64.1.1", "10.0.1.11", (5000, 179))) == ["t/a/vm"])
        let own = outside(host, IPProtocol.tcp, "2001:db8:1::1", "2001:db8:1::2", (5000, 179))
        #expect(host.outputs(own) == daemon)
        // What is not there goes nowhere: port two is elsewhere.
        let elsewhere = try Self.host([], on: "h3")
        #expect(
            host.fabric.port(Self.port("one").daemon) != nil && elsewhere.fabric.port(Self.port("two").daemon) != nil)
    }

    @Test func `an answer to a machine that went out by the uplink's address is the machine's`() throws {
        let host = try Self.host([("0.0.0.0/0", "one", ["100.64.1.1"], 1)])
        let sent = send(host, "8.8.8.8", port: 40000)
        #expect(host.outputs(sent) == ["t/gw/one"])
        for learned in sent.learned { host.state.learn(learned) }
        let port = try #require(sent.headers.last?.key.sourcePort)
        let back = outside(host, IPProtocol.udp, "8.8.8.8", "100.64.1.2", (9, port))
        #expect(host.outputs(back) == ["t/a/vm"])
    }

    @Test func `a machine inside does not reach a daemon, nor does a neighbor of a tenant's`() throws {
        let host = try Self.host([])
        let mac = host.mac("t/gw/a")
        let frame = Frame.tcp(
            etherSource: host.mac("t/a/vm"), etherDestination: mac, source: address("10.0.1.11"),
            destination: address("100.64.1.2"), sourcePort: 5000, destinationPort: 179, ttl: 64)
        let verdict = host.send(frame, at: "t/a/vm")
        #expect(host.outputs(verdict).isEmpty)
        #expect(verdict.drop == .consumed)
    }

    @Test func `what a daemon sends leaves by its uplink, in the uplink's name only`() throws {
        let host = try Self.host([])
        let index = try #require(host.fabric.port(Self.port("one").daemon))
        let mine = Frame.arp(
            operation: 1, sender: (host.mac("t/gw/one"), IPv4Address(bits: 0x6440_0102)),
            target: (.zero, IPv4Address(bits: 0x6440_0101)),
            etherDestination: .broadcast)
        #expect(host.outputs(host.decide(parse(mine), at: index)) == ["t/gw/one"])
        let forged = Frame.arp(
            operation: 1, sender: (host.mac("t/a/vm"), IPv4Address(bits: 0x6440_0102)),
            target: (.zero, IPv4Address(bits: 0x6440_0101)),
            etherDestination: .broadcast)
        #expect(host.decide(parse(forged), at: index).drop == .spoofedMAC)
    }

    @Test func `answers to a daemon's ARP are told both it and the router; questions the router answers`() throws {
        let host = try Self.host([])
        let (own, other) = (IPv4Address(bits: 0x6440_0102), IPv4Address(bits: 0x6440_0101))
        let peer = MACAddress(bits: 0x0200_0000_0011)
        let answer = host.send(
            Frame.arp(
                operation: 2, sender: (peer, other), target: (host.mac("t/gw/one"), own),
                etherDestination: host.mac("t/gw/one")), at: "t/gw/one")
        #expect(host.outputs(answer) == ["t/gw/one%daemon"])
        #expect(answer.learned.contains(.neighbor(IPAddress(other), mac: peer, port: .port(Self.port("one")))))
        let question = host.send(
            Frame.arp(operation: 1, sender: (peer, other), target: (.zero, own), etherDestination: .broadcast),
            at: "t/gw/one")
        #expect(host.outputs(question).isEmpty && question.packets.count == 1)
    }

    @Test func `a fabric that is patched knows daemons as one that is made anew`() throws {
        var topology = try draw(Self.drawing)
        let first = Fabric(topology, localHost: "h1")
        let path = Self.port("one")
        let port = topology.ports[path]
        for change in 0..<3 {
            let before = topology
            switch change {
            case 0: topology.ports[path] = nil
            case 1: topology.ports[path] = port
            default: topology.ports[path]?.uplink = nil
            }
            let patched = Fabric(topology, after: first, TopologyDifference(from: before, to: topology))
            #expect((patched.port(path.daemon) != nil) == (change == 1))
            #expect((Fabric(topology, localHost: "h1").port(path.daemon) != nil) == (change == 1))
        }
    }
}
