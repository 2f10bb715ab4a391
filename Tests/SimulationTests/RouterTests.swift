import Synchronization
// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Topology
import Wire

@testable import Simulation

@Suite struct RouterTests {
    @Test(arguments: ["127.0.0.1", "0.1.2.3", "::1", "::"])
    func `no packet is forwarded to an address that none may have`(_ destination: String) throws {
        let host = try Host(Drawings.routers)
        let verdict = host.send(host.ping("t/a/vm", to: destination, via: "t/gw/a"), at: "t/a/vm")
        #expect(verdict.drop == .martianDestination)
        #expect(verdict.packets.isEmpty)
    }

    @Test func `a route that comes back takes its flows back`() throws {
        func topology(_ isUp: Bool) throws -> Topology {
            try draw(
                """
                hosts: { h1: { address: 192.0.2.1 } }
                tenants:
                  t:
                    bridges:
                      a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 } } }
                      p: { ports: { x: { host: h1, interface: x, mac: "0e:00:00:00:02:01", address: 10.0.2.1/24 } } }
                      q: { ports: { y: { host: h1, interface: y, mac: "0e:00:00:00:03:01", address: 10.0.3.1/24 } } }
                    routers:
                      gw:
                        links:
                          - { bridge: a, address: 10.0.1.254/24, mac: "0e:00:00:00:aa:01" }
                          - { bridge: p, address: 10.0.2.254/24, enabled: \(isUp) }
                          - { bridge: q, address: 10.0.3.254/24 }
                        routes:
                          - { to: 0.0.0.0/0, via: 10.0.2.1, weight: 1 }
                          - { to: 0.0.0.0/0, via: 10.0.3.1, weight: 10 }
                """)
        }
        let down = Host(topology: try topology(false), state: TableState())
        let up = Host(topology: try topology(true), state: TableState())
        let packet = down.ping("t/a/vm", to: "8.8.8.8", via: "t/gw/a")
        let backup = down.send(packet, at: "t/a/vm")
        #expect(down.outputs(backup) == ["t/q/y"])
        #expect(up.outputs(up.send(packet, at: "t/a/vm")) == ["t/p/x"])
        let tags = TopologyDifference(from: down.fabric.topology, to: up.fabric.topology).tags(
            from: down.fabric.topology, to: up.fabric.topology)
        #expect(!tags.isDisjoint(with: backup.tags))
    }

    @Test func `a packet crosses a router to a declared neighbor, rewritten`() throws {
        let host = try Host(Drawings.routers)
        let verdict = host.send(host.ping("t/a/vm", to: "10.0.2.22", via: "t/gw/a"), at: "t/a/vm")
        #expect(host.outputs(verdict) == ["h2 t/b/db"])
        let header = try #require(verdict.headers.last)
        #expect(header.key.etherSource == host.mac("t/gw/b"))
        #expect(header.key.etherDestination == host.mac("t/b/db"))
        #expect(header.key.ipTTL == 63)
        #expect(header.written.includes(.etherSource) && header.written.includes(.ipTTL))
        #expect(!verdict.mask.includes(.sourcePort))
    }

    @Test func `three routers in one simulation, each takes one from the TTL`() throws {
        let host = try Host(Drawings.routers)
        let verdict = host.send(host.ping("t/a/vm", to: "10.3.0.5", via: "t/gw/a"), at: "t/a/vm")
        #expect(host.outputs(verdict) == ["h3 u/c/server"])
        #expect(verdict.headers.last?.key.ipTTL == 61)
        let six = host.send(host.ping("t/a/vm", to: "fd00:2::22", via: "t/gw/a"), at: "t/a/vm")
        #expect(host.outputs(six) == ["h2 t/b/db"])
        #expect(six.headers.last?.key.ipTTL == 63)
    }

    @Test func `flows are shared among routes of equal cost, one flow stays on one, a lower weight takes all`() throws {
        let host = try Host(Drawings.routers)
        var through: [Simulation.Tag: Int] = [:]
        let one = Simulation.Tag.router(DevicePath(tenant: "u", name: "one"))
        let two = Simulation.Tag.router(DevicePath(tenant: "u", name: "two"))
        for port in 0..<400 {
            let frame = Frame.udp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("10.3.0.5"), sourcePort: UInt16(10_000 + port), destinationPort: 53, data: [])
            let verdict = host.send(frame, at: "t/a/vm")
            let again = host.send(frame, at: "t/a/vm")
            #expect(verdict.tags == again.tags)
            #expect(verdict.mask.includes(.sourcePort) && verdict.mask.includes(.ipProtocol))
            for router in [one, two] where verdict.tags.contains(router) { through[router, default: 0] += 1 }
        }
        #expect((120...280).contains(through[one] ?? 0), "\(through)")
        #expect((through[one] ?? 0) + (through[two] ?? 0) == 400)
        let heavy = host.send(host.ping("t/a/vm", to: "10.3.200.1", via: "t/gw/a"), at: "t/a/vm")
        #expect(heavy.tags.contains(one) && !heavy.tags.contains(two))
    }

    /// A router with uplinks of its own on three hosts: two of equal cost, and one that costs more.
    private func uplinks() throws -> Host {
        var topology = try draw(
            """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 }, h4: { address: 192.0.2.4 } }
            tenants:
              t:
                bridges:
                  a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 } } }
                routers: { gw: { links: [{ bridge: a, address: 10.0.1.254/24, mac: "0e:00:00:00:aa:01" }] } }
            """)
        let gateway = DevicePath(tenant: "t", name: "gw")
        for (number, (host, weight)) in [("h2", 100), ("h3", 100), ("h4", 200)].enumerated() {
            var port = Port(path: PortPath(device: gateway, name: "up\(number)"), kind: .router)
            port.attachment = .exterior(host: host, interface: "eth1")
            port.addresses = [InterfaceAddress(address("203.0.\(number).2"), length: 30)]
            topology.ports[port.path] = port
            topology.routers[gateway]?.routes.append(
                Route(
                    destination: parsedPrefix("0.0.0.0/0"), weight: UInt16(weight),
                    nextHop: .gateway(address("203.0.\(number).1"), port: port.path)))
        }
        TunnelKeys.assign(&topology)
        return Host(topology: topology, state: TableState())
    }

    @Test func `uplinks of hosts that do not answer are left out while others are left, and flows know that`() throws {
        let host = try uplinks()
        let tags = ["h2", "h3", "h4"].map { Simulation.Tag.host($0) }
        func chosen(without dead: [Int]) -> Set<String> {
            host.state.dead.withLock { $0 = Set(dead.map { tags[$0] }) }
            var ports: Set<String> = []
            for last in 1...60 {
                let verdict = host.send(host.ping("t/a/vm", to: "8.8.8.\(last)", via: "t/gw/a"), at: "t/a/vm")
                if let wait = verdict.wait { ports.insert(host.fabric.path(wait.port).name) }
                // Who was taken and who was left out may both become wrong.
                for tag in tags.prefix(2) { #expect(verdict.tags.contains(.path(host: tag))) }
                #expect(verdict.tags.contains(.path(host: tags[2])) == (dead.contains(0) && dead.contains(1)))
            }
            return ports
        }
        #expect(chosen(without: []) == ["up0", "up1"])
        #expect(chosen(without: [0]) == ["up1"])
        #expect(chosen(without: [1, 2]) == ["up0"])
        #expect(chosen(without: [0, 1]) == ["up2"], "the one that costs more")
        #expect(chosen(without: [0, 1, 2]) == ["up0", "up1"], "nothing is left: what looks dead is tried")
    }

    @Test func `routes are chosen by destination, then source, then weight, and the mask holds what decided`() throws {
        let host = try Host(Drawings.routers)
        #expect(host.send(host.ping("t/a/vm", to: "10.9.1.1", via: "t/gw/a"), at: "t/a/vm").drop == .blackhole)
        // 10.9.8.0/24 is for sources in 10.0.1.0/28: others fall back to the blackhole before it.
        let inside = host.send(host.ping("t/a/vm", to: "10.9.8.1", via: "t/gw/a"), at: "t/a/vm")
        #expect(inside.drop != .blackhole)
        let outside = host.send(host.ping("t/a/vm", to: "10.9.8.1", via: "t/gw/a", source: "10.0.1.200"), at: "t/a/vm")
        #expect(outside.drop == .blackhole)
        #expect(outside.mask.bits.words[11] >> 32 & 0xff != 0)
        let rejected = host.send(host.ping("t/a/vm", to: "10.10.1.1", via: "t/gw/a"), at: "t/a/vm")
        #expect(rejected.drop == .rejected)
        let error = parse(try #require(rejected.packets.first).frame)
        #expect(error.sourcePort == 3 && error.destinationPort == 13)
    }

    @Test func `a TTL that runs out is told by the router where it does`() throws {
        let host = try Host(Drawings.routers)
        for (ttl, router) in [(UInt8(1), "10.0.1.1"), (2, "100.64.0.1")] {
            let verdict = host.send(host.ping("t/a/vm", to: "10.3.0.5", via: "t/gw/a", ttl: ttl), at: "t/a/vm")
            #expect(verdict.drop == .ttlExceeded)
            let frame = try #require(verdict.packets.first).frame
            let error = parse(frame)
            #expect(error.ipSource == address(router))
            #expect(error.sourcePort == 11)
            // The quoted header says the TTL as that router saw it.
            #expect(frame[14 + 20 + 8 + 8] == 1)
            #expect(frame[42..<62].withUnsafeBytes { InternetChecksum.of($0) } == 0)
        }
        let six = host.send(host.ping("t/a/vm", to: "fd00:2::22", via: "t/gw/a", ttl: 1), at: "t/a/vm")
        #expect(parse(try #require(six.packets.first).frame).sourcePort == 3)
    }

    @Test func `a router answers at its own addresses, also the far ones`() throws {
        let host = try Host(Drawings.routers)
        for target in ["10.0.1.1", "10.0.2.1", "100.64.0.1", "fd00:1::1", "fd00:64::1"] {
            let verdict = host.send(host.ping("t/a/vm", to: target, via: "t/gw/a"), at: "t/a/vm")
            let reply = parse(try #require(verdict.packets.first, "\(target): \(verdict.trace)").frame)
            #expect(reply.ipSource == address(target))
            #expect(reply.sourcePort == (target.contains(":") ? 129 : 0))
            #expect(!verdict.isCacheable)
        }
        let udp = host.send(
            Frame.udp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("10.0.1.1"), sourcePort: 1, destinationPort: 33_434, data: []), at: "t/a/vm")
        let error = parse(try #require(udp.packets.first).frame)
        #expect(error.sourcePort == 3 && error.destinationPort == 3)
        let tcp = host.send(
            Frame.tcp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("10.0.1.1"), sourcePort: 1, destinationPort: 22), at: "t/a/vm")
        #expect(parse(try #require(tcp.packets.first).frame).tcpFlags == 0x14)
    }

    @Test func `silence is kept where the RFCs want it`() throws {
        let host = try Host(Drawings.routers)
        func quiet(_ frame: [UInt8], _ note: Comment) { #expect(host.send(frame, at: "t/a/vm").packets.isEmpty, note) }
        // An error about an error.
        quiet(
            Frame.icmp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("10.10.0.1"), type: 3, code: 1, data: [UInt8](repeating: 0, count: 28)),
            "ICMP error")
        // A later fragment.
        var fragment = host.ping("t/a/vm", to: "10.10.0.1", via: "t/gw/a")
        fragment[21] = 1
        quiet(fragment, "later fragment")
        // Sent to a group, or from no one in particular.
        var group = host.ping("t/a/vm", to: "10.10.0.1", via: "t/gw/a")
        for index in 0..<6 { group[index] = 0xff }
        quiet(group, "link broadcast")
        quiet(host.ping("t/a/vm", to: "10.10.0.1", via: "t/gw/a", source: "127.0.0.1"), "loopback source")
        quiet(host.ping("t/a/vm", to: "10.10.0.1", via: "t/gw/a", source: "224.0.0.1"), "multicast source")
        quiet(host.ping("t/a/vm", to: "239.1.1.1", via: "t/gw/a"), "multicast destination")
        quiet(host.ping("t/a/vm", to: "10.0.2.255", via: "t/gw/a"), "directed broadcast")
        quiet(host.ping("t/a/vm", to: "169.254.1.1", via: "t/gw/a"), "link-local")
    }

    @Test func `an unknown neighbor is asked for, and the packet says whom it waits for`() throws {
        let host = try Host(Drawings.routers)
        let verdict = host.send(host.ping("t/a/vm", to: "10.0.2.99", via: "t/gw/a"), at: "t/a/vm")
        let query = try #require(verdict.wait)
        #expect(host.fabric.path(query.port).description == "t/gw/b")
        let request = parse(try #require(verdict.packets.first).frame)
        #expect(request.ipDestination == address("10.0.2.99"))
        #expect(request.ipSource == address("10.0.2.1"))
        #expect(!verdict.isCacheable)
        // The answer teaches the router; then the packet goes.
        let stranger = MACAddress(bits: 0x0e00_0000_0099)
        let reply = Frame.arp(
            operation: 2, sender: (stranger, try #require(address("10.0.2.99").v4)),
            target: (host.mac("t/gw/b"), try #require(address("10.0.2.1").v4)))
        let taught = host.send(reply, at: "t/b/near")
        let tag = Simulation.Tag.neighbor(address("10.0.2.99"), port: host.fabric.tag(host.port("t/gw/b")))
        #expect(taught.learned.contains { $0.tag == tag })
        for learned in taught.learned { host.state.learn(learned) }
        let goes = host.send(host.ping("t/a/vm", to: "10.0.2.99", via: "t/gw/a"), at: "t/a/vm")
        #expect(host.outputs(goes) == ["t/b/near"])
        #expect(goes.tags.contains(tag))
    }

    @Test func `a neighbor that does not answer is unreachable, in so many words`() throws {
        let host = try Host(Drawings.routers)
        host.state.set(.unreachable, address("10.0.2.99"), port: host.fabric.tag(host.port("t/gw/b")))
        let verdict = host.send(host.ping("t/a/vm", to: "10.0.2.99", via: "t/gw/a"), at: "t/a/vm")
        #expect(verdict.drop == .neighborUnreachable)
        let error = parse(try #require(verdict.packets.first).frame)
        #expect(error.sourcePort == 3 && error.destinationPort == 1)
    }

    @Test func `routers that send packets in a circle end it by TTL or by the loop guard, and answer once`() throws {
        let host = try Host(
            """
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              t:
                bridges: { b: { ports: { vm: { host: h1, interface: vm, address: 10.1.0.2/24 } } } }
                routers:
                  a:
                    links: [{ bridge: b, address: 10.1.0.1/24 }, { router: c, address: 10.0.0.1/30, peer: 10.0.0.2/30 }]
                    routes: [{ to: 0.0.0.0/0, via: 10.0.0.2 }]
                  c:
                    routes: [{ to: 0.0.0.0/0, via: 10.0.0.1 }]
            """)
        let short = host.send(host.ping("t/b/vm", to: "8.8.8.8", via: "t/a/b", ttl: 20), at: "t/b/vm")
        #expect(short.drop == .ttlExceeded)
        #expect(short.packets.count == 1)
        let long = host.send(host.ping("t/b/vm", to: "8.8.8.8", via: "t/a/b", ttl: 255), at: "t/b/vm")
        #expect(long.drop == .loop)
        #expect(long.outputs.isEmpty)
    }

    @Test func `the routing trie agrees with a search through all routes, and its bits decide`() throws {
        var random = SeededRandom(seed: SeededRandom.seed)
        for family in [AddressFamily.ipv4, .ipv6] {
            var table = RoutingTable()
            var entries: [(prefix: Prefix, route: RouteRecord)] = []
            func randomAddress() -> IPAddress {
                // Few distinct bits, so that prefixes nest.
                let high = random.next() & 0xf000_f0f0_f0f0_f0f0
                return family == .ipv4
                    ? IPAddress(high: high & 0xffff_ffff_0000_0000, low: 0, family: .ipv4)
                    : IPAddress(high: high, low: random.next() & 0xf0f0, family: .ipv6)
            }
            for index in 0..<300 {
                let prefix = Prefix(randomAddress(), length: Int.random(in: 0...family.width, using: &random))
                let zero = IPAddress(high: 0, low: 0, family: family)
                entries.append(
                    (
                        prefix,
                        RouteRecord(
                            action: .forward, sourceLength: 0, weight: 0, port: Int32(index), source: zero,
                            gateway: zero,
                            identity: UInt64(index))
                    ))
            }
            let root = table.add(entries, family: family)
            for _ in 0..<3000 {
                let destination = randomAddress()
                let match = table.lookup(destination, root: root, width: family.width)
                let best = entries.filter { $0.prefix.contains(destination) }.map(\.prefix.length).max()
                #expect(match.routes.isEmpty == (best == nil), "seed \(SeededRandom.seed)")
                if let best { #expect(match.prefixLength == best, "seed \(SeededRandom.seed)") }
                // Any address that agrees in the bits that decided gets the same answer.
                let mask = prefixMask(match.bits)
                let noise = family == .ipv4 ? random.next() & 0xffff_ffff_0000_0000 : random.next()
                let low = family == .ipv4 ? 0 : destination.low & mask.low | random.next() & ~mask.low
                let other = IPAddress(high: destination.high & mask.high | noise & ~mask.high, low: low, family: family)
                let same = table.lookup(other, root: root, width: family.width)
                #expect(
                    same.routes == match.routes, "seed \(SeededRandom.seed) \(destination) \(other) bits \(match.bits)")
            }
        }
    }

    @Test(arguments: [false, true])
    func `a router goes by what is announced of a neighbor that it asked for, and learns nothing else of it`(isV6: Bool)
        throws
    {
        let host = Host(
            topology: try draw(
                Drawings.threeNetworks.replacing(
                    "    routers:\n",
                    with: """
                            routers:
                              gw: { links: [{ bridge: a, address: [10.0.1.1/24, "fd00:1::1/64"] }, { bridge: b, address: 10.0.2.1/24 }] }

                        """)), state: TableState())
        let shared = address(isV6 ? "fd00:1::100" : "10.0.1.100")
        let mac = MACAddress(bits: 0x0e11)
        let port = Simulation.Tag.port(try #require(PortPath("t/gw/a")))
        func announce(tagged: Bool = false) {
            var frame: [UInt8]
            if let v6 = shared.v6 {
                frame = Frame.neighborAdvertisement(
                    target: v6, mac: mac, etherDestination: .multicast(for: .allNodes), destination: .allNodes,
                    solicited: false, isRouter: false)
            } else {
                let own = shared.v4 ?? IPv4Address(bits: 0)
                frame = Frame.arp(operation: 1, sender: (mac, own), target: (.zero, own), etherDestination: .broadcast)
            }
            if tagged { frame = Frame.tagged(frame, vlan: 7) }
            let verdict = host.send(frame, at: "t/a/one")
            for learned in verdict.learned { host.state.learn(learned) }
            #expect(tagged || !verdict.isCacheable)
        }
        announce()
        #expect(host.state.neighbor(shared, port: port) == .unknown)
        for known in [NeighborState.at(MACAddress(bits: 0x0e22)), .unreachable] {
            host.state.set(known, shared, port: port)
            announce()
            #expect(host.state.neighbor(shared, port: port) == .at(mac))
        }
        // Behind a tag it is nobody's word: guards do not look there.
        host.state.set(.at(MACAddress(bits: 0x0e22)), shared, port: port)
        announce(tagged: true)
        #expect(host.state.neighbor(shared, port: port) == .at(MACAddress(bits: 0x0e22)))
    }
}
