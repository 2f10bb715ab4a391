// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Clients and the servers that a router sends them to, in one network.
@Suite struct HairpinTests {
    /// Five machines on one bridge and on two hosts, three of them behind virtual addresses and one behind a forwarded port.
    static let drawing = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              a:
                ports:
                  one: { host: h1, interface: a1, mac: "0e:00:00:00:0a:01", address: [10.0.1.11/24, "fd00:1::11/64"] }
                  two: { host: h1, interface: a2, mac: "0e:00:00:00:0a:02", address: [10.0.1.12/24, "fd00:1::12/64"] }
                  three: { host: h2, interface: a3, mac: "0e:00:00:00:0a:03", address: [10.0.1.13/24, "fd00:1::13/64"] }
                  four: { host: h1, interface: a4, mac: "0e:00:00:00:0a:04", address: [10.0.1.14/24, "fd00:1::14/64"] }
                  five: { host: h2, interface: a5, mac: "0e:00:00:00:0a:05", address: [10.0.1.15/24, "fd00:1::15/64"] }
              other: {}
            pools:
              web: { members: [{ address: 10.0.1.11, port: 3 }, { address: 10.0.1.12, port: 3 }, { address: 10.0.1.13, port: 53 }] }
              six: { members: [{ address: "fd00:1::12", port: 3 }, { address: "fd00:1::13", port: 53 }] }
            routers:
              gw:
                links: [{ bridge: a, address: [10.0.1.1/24, "fd00:1::1/64"] }, { bridge: other, address: 10.0.2.1/24 }]
                vips:
                  - { id: tcp, address: 10.0.1.100, port: 80, pool: web }
                  - { id: udp, address: 10.0.1.100, protocol: udp, port: 53, pool: web }
                  - { id: six, address: "fd00:1::100", protocol: udp, port: 53, pool: six }
                nat: [{ id: ssh, action: dnat 10.0.1.14 port 22, destination: 10.0.1.100, protocol: tcp, destinationPort: 2222 }]
        """

    /// The drawing with one member and more written into it.
    private func host(_ replaced: (String, String)...) throws -> Host {
        var text = HairpinTests.drawing
        for (from, to) in replaced {
            #expect(text.contains(from))
            text = text.replacing(from, with: to)
        }
        let host = Host(topology: try draw(text), state: TableState())
        host.state.lease("t/gw", address("10.0.1.1"), [32, 33])
        return host
    }

    private let oneMember = (
        "web: { members: [{ address: 10.0.1.11, port: 3 }, { address: 10.0.1.12, port: 3 }, { address: 10.0.1.13, port: 53 }] }",
        "web: { members: [{ address: 10.0.1.12, port: 3 }] }"
    )

    /// What a machine sends to the virtual address, or to what else is said.
    private func ask(
        _ host: Host, _ from: (String, String), _ port: UInt16, _ to: (String, UInt16), _ ip: UInt8 = IPProtocol.tcp,
        via: String = "t/gw/a"
    ) -> Carried {
        host.carry(host.packet(ip, from.0, from.1, port, to.0, to.1, via: via), at: from.0)
    }

    /// What a machine answers, to whoever is there by the name that it was asked by.
    private func reply(_ host: Host, _ asked: Carried, from place: String, to client: String, flags: UInt8 = 0x12)
        -> Carried
    {
        let key = asked.key
        let frame = host.packet(
            key.ipProtocol, place, "\(key.ipDestination)", key.destinationPort, "\(key.ipSource)", key.sourcePort,
            via: client, flags: flags)
        return host.carry(frame, at: place)
    }

    private let one = ("t/a/one", "10.0.1.11")

    /// Whether a server sees its client by the client's own address, and by a port that nobody begins a connection from.
    private func isSeen(_ asked: Carried, as client: String) -> Bool {
        asked.key.ipSource == address(client) && (1024..<32_768).contains(asked.key.sourcePort)
    }

    @Test func `a server sees the address of its neighbor, whom it answers by the address that was asked`() throws {
        let host = try host(oneMember)
        let out = ask(host, one, 40_000, ("10.0.1.100", 80))
        #expect(out.place == "t/a/two" && isSeen(out, as: "10.0.1.11") && out.key.destinationPort == 3, "\(out.talk)")
        let back = reply(host, out, from: "t/a/two", to: "t/a/one")
        #expect(back.place == "t/a/one")
        #expect(back.talk == "10.0.1.100:80 > 10.0.1.11:40000")
        #expect(back.key.etherSource == host.mac("t/gw/a") && back.key.etherDestination == host.mac("t/a/one"))
        #expect(checksumFaults(back.frame) == [])
        #expect(back.verdict.trace.contains { $0.text.contains("between neighbors: taken to the router") })
        // What follows goes the same ways.
        #expect(ask(host, one, 40_000, ("10.0.1.100", 80)).talk == out.talk)
        let later = reply(host, out, from: "t/a/two", to: "t/a/one", flags: 0x18)
        #expect(later.talk == "10.0.1.100:80 > 10.0.1.11:40000" && later.verdict.isCacheable)
    }

    @Test func `IPv6 and forwarded ports as well`() throws {
        let host = try host(("{ address: \"fd00:1::12\", port: 3 }, ", ""))
        let six = Host(topology: host.fabric.topology, state: host.state, host: "h2")
        let out = ask(host, ("t/a/one", "fd00:1::11"), 40_000, ("fd00:1::100", 53), IPProtocol.udp)
        #expect(out.key.ipDestination == address("fd00:1::13") && isSeen(out, as: "fd00:1::11"), "\(out.talk)")
        let back = reply(six, out, from: "t/a/three", to: "t/a/one")
        #expect(back.talk == "[fd00:1::100]:53 > [fd00:1::11]:40000")
        let ssh = ask(host, one, 40_001, ("10.0.1.100", 2222))
        #expect(ssh.place == "t/a/four" && isSeen(ssh, as: "10.0.1.11") && ssh.key.destinationPort == 22)
        #expect(reply(host, ssh, from: "t/a/four", to: "t/a/one").talk == "10.0.1.100:2222 > 10.0.1.11:40001")
    }

    @Test func `a neighbor that asks the server itself, from the same port, is told apart`() throws {
        let host = try host(oneMember)
        let asked = ask(host, one, 40_000, ("10.0.1.100", 80))
        let direct = ask(host, one, 40_000, ("10.0.1.12", 3), via: "t/a/two")
        #expect(direct.talk == "10.0.1.11:40000 > 10.0.1.12:3" && direct.key.etherSource == host.mac("t/a/one"))
        #expect(direct.verdict.translations.isEmpty && direct.verdict.isCacheable, "nobody takes note of it")
        #expect(reply(host, asked, from: "t/a/two", to: "t/a/one").talk == "10.0.1.100:80 > 10.0.1.11:40000")
        let answer = reply(host, direct, from: "t/a/two", to: "t/a/one")
        #expect(answer.talk == "10.0.1.12:3 > 10.0.1.11:40000")
        #expect(answer.key.etherSource == host.mac("t/a/two"), "no router was on the way back")
    }

    @Test func `two routers that redirect to one server both get their answers`() throws {
        let host = try host(
            oneMember,
            (
                "routers:\n",
                """
                routers:
                      gx:
                        links: [{ bridge: a, address: 10.0.1.2/24 }]
                        vips: [{ id: x, address: 10.0.1.101, port: 80, pool: web }]

                """
            ))
        for port in UInt16(40_000)..<40_200 {
            let first = ask(host, one, port, ("10.0.1.100", 80))
            let second = ask(host, one, port, ("10.0.1.101", 80), via: "t/gx/a")
            #expect(isSeen(first, as: "10.0.1.11") && isSeen(second, as: "10.0.1.11"), "\(first.talk), \(second.talk)")
            #expect(reply(host, second, from: "t/a/two", to: "t/a/one").talk == "10.0.1.101:80 > 10.0.1.11:\(port)")
            #expect(reply(host, first, from: "t/a/two", to: "t/a/one").talk == "10.0.1.100:80 > 10.0.1.11:\(port)")
        }
    }

    @Test func `what a router that is switched off was to translate does not go past it`() throws {
        let host = try host(oneMember)
        let out = ask(host, one, 40_000, ("10.0.1.100", 80))
        var topology = host.fabric.topology
        topology.routers[DevicePath(tenant: "t", name: "gw")]?.isEnabled = false
        let off = Host(topology: topology, state: host.state)
        #expect(reply(off, out, from: "t/a/two", to: "t/a/one").drop == .routerDisabled)
    }

    @Test func `a router has no say between neighbors on somebody else's bridge`() throws {
        let theirs = """
            tenants:
              u:
                pools: { theirs: { members: [{ address: 10.0.1.15, port: 53 }] } }
                routers:
                  r:
                    links: [{ bridge: t/a, address: 10.0.1.3/24 }]
                    vips: [{ id: x, address: 10.0.1.102, protocol: udp, port: 53, pool: theirs }]

            """
        let host = try host(("tenants:\n", theirs))
        let frame = host.packet(IPProtocol.udp, "t/a/four", "10.0.1.15", 53, "10.0.1.11", 2000, via: "t/a/one")
        let out = host.carry(frame, at: "t/a/four")
        #expect(out.talk == "10.0.1.15:53 > 10.0.1.11:2000" && out.verdict.missed.isEmpty)
        #expect(!out.verdict.mask.includes(.sourcePort))
    }

    @Test func `what has nothing to do with servers keeps its wide flows`() throws {
        let host = try host()
        // From a server as a client, to one by its own name, and what a server says to where nobody was redirected from.
        for (from, source, to, port) in [
            (one, UInt16(40_000), "10.0.1.14", UInt16(5432)), (("t/a/four", "10.0.1.14"), 40_000, "10.0.1.12", 3),
            (one, 3, "10.0.1.14", 40_000),
        ] {
            let out = ask(host, from, source, (to, port), via: to == "10.0.1.12" ? "t/a/two" : "t/a/four")
            #expect(out.verdict.outputs.count == 1 && out.verdict.isCacheable && out.verdict.missed.isEmpty)
            #expect(out.verdict.translations.isEmpty && !out.verdict.beginsConnection)
            var half = FlowKey()
            half.destinationPort = 0x7fff
            #expect(out.verdict.mask.bits.destinationPort & half.destinationPort == 0, "\(out.verdict.mask)")
        }
        let bystander = ask(host, ("t/a/four", "10.0.1.14"), 40_000, ("10.0.1.15", 80), via: "t/a/five")
        #expect(bystander.verdict.mask.bits.destinationPort == 0)
    }

    @Test func `an error of the server quotes what was asked`() throws {
        let host = try host(oneMember)
        let out = ask(host, one, 40000, ("10.0.1.100", 53), IPProtocol.udp)
        #expect(out.place == "t/a/two")
        let quoted = Array(out.frame[14...])
        let error = Frame.icmp(
            etherSource: host.mac("t/a/two"), etherDestination: host.mac("t/a/one"), source: address("10.0.1.12"),
            destination: address("10.0.1.11"), type: 3, code: 3, data: quoted)
        let back = host.carry(error, at: "t/a/two")
        #expect(back.place == "t/a/one" && back.talk == "10.0.1.100 > 10.0.1.11")
        #expect(checksumFaults(back.frame) == [])
        let inner = try #require(back.frame.count >= 14 + 28 + 8 ? Array(back.frame[(14 + 28)...]) : nil)
        #expect(Array(inner[12..<20]) == [10, 0, 1, 11, 10, 0, 1, 100], "the addresses of the packet that was sent")
        #expect(Array(inner[20..<24]) == [0x9c, 0x40, 0, 53], "and its ports")
    }

    @Test(arguments: [
        // Another way between both, and two networks.
        ("other: {}", "other: {}\n      far: { links: [{ bridge: a }] }"),
        ("10.0.1.1/24, \"fd00:1::1/64\"] }, {", "10.0.1.1/28, 10.0.1.65/26, \"fd00:1::1/64\"] }, {"),
    ])
    func `where the answer might go another way, the server sees the router`(from: String, to: String) throws {
        let host = try host(oneMember, (from, to))
        let client = from == "other: {}" ? one : ("t/a/four", "10.0.1.70")
        if let path = PortPath("t/gw/a") {
            host.state.set(.at(host.mac("t/a/four")), address("10.0.1.70"), port: .port(path))
        }
        let out = ask(host, client, 40000, ("10.0.1.100", 80))
        #expect(out.place == "t/a/two" && out.key.ipSource == address("10.0.1.1"), "\(out.talk)")
        let back = reply(host, out, from: "t/a/two", to: "t/gw/a")
        #expect(back.talk == "10.0.1.100:80 > \(client.1):40000")
    }

    @Test func `a server behind the port of its client sees the router`() throws {
        let host = try host(
            ("members: [{ address: 10.0.1.11, port: 3 }, ", "members: [{ address: 10.0.1.77, port: 3, weight: 100 }, "),
            ("{ address: 10.0.1.12, port: 3 }, { address: 10.0.1.13, port: 53 }", "")
        )
        let (inner, path) = (MACAddress(bits: 0x0e00_0000_0a77), try #require(PortPath("t/gw/a")))
        host.state.set(.at(inner), address("10.0.1.77"), port: .port(path))
        // It was heard behind the port of the first, then behind that of the fourth.
        for (place, seen) in [("t/a/one", "10.0.1.1"), ("t/a/four", "10.0.1.11")] {
            let hello = Frame.ethernet(
                from: inner, to: .broadcast, type: 0x0900, payload: [UInt8](repeating: 0, count: 46))
            _ = host.carry(hello, at: place)
            let out = ask(host, one, place == "t/a/one" ? 40000 : 40001, ("10.0.1.100", 80))
            #expect(out.place == place && out.key.ipSource == address(seen), "\(out.talk)")
        }
    }

    @Test func `the first address of servers among neighbors has what they said decided again`() throws {
        let new = try draw(HairpinTests.drawing)
        var old = new
        let gateway = DevicePath(tenant: "t", name: "gw")
        old.routers[gateway]?.translation = Translation()
        var empty = new
        empty.pools[DevicePath(tenant: "t", name: "web")]?.members = []
        empty.pools[DevicePath(tenant: "t", name: "six")]?.members = []
        empty.routers[gateway]?.translation.rules = []
        for before in [old, empty] {
            let host = Host(topology: before, state: TableState())
            let spoken = host.carry(
                host.packet(IPProtocol.tcp, "t/a/two", "10.0.1.12", 3, "10.0.1.11", 40000, via: "t/a/one"),
                at: "t/a/two"
            )
            #expect(spoken.place == "t/a/one" && spoken.verdict.isCacheable)
            let difference = TopologyDifference(from: before, to: new)
            #expect(!difference.tags(from: before, to: new).isDisjoint(with: spoken.verdict.tags))
            // Tables that are patched know as much as new ones.
            let patched = Host(Fabric(new, after: host.fabric, difference), TableState())
            let out = ask(patched, one, 40000, ("10.0.1.100", 2222))
            #expect(reply(patched, out, from: "t/a/four", to: "t/a/one").talk == "10.0.1.100:2222 > 10.0.1.11:40000")
        }
    }

    /// Everybody asks everybody, by every name, from few ports: each hears back from what it asked, and each server sees who
    /// asked.
    @Test func `random neighbors hear from what they asked, whoever asked what before`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let topology = try draw(HairpinTests.drawing)
        let state = TableState()
        let hosts = ["h1", "h2"].map { Host(topology: topology, state: state, host: $0) }
        state.lease("t/gw", address("10.0.1.1"), Array(32...40))
        let machines = ["one", "two", "three", "four", "five"].map { "t/a/\($0)" }
        func here(_ place: String) -> Host {
            hosts[["t/a/three", "t/a/five"].contains(place) ? 1 : 0]
        }
        func own(_ place: String, _ family: AddressFamily) -> IPAddress {
            let index = (machines.firstIndex(of: place) ?? 0) + 11
            return address(family == .ipv4 ? "10.0.1.\(index)" : "fd00:1::\(index)")
        }
        let targets: [(String, UInt16, UInt8)] = [
            ("10.0.1.100", 80, 6), ("10.0.1.100", 53, 17), ("fd00:1::100", 53, 17), ("10.0.1.100", 2222, 6),
            ("10.0.1.11", 3, 6), ("10.0.1.12", 3, 6), ("10.0.1.13", 53, 6), ("10.0.1.12", 3, 17), ("10.0.1.13", 53, 17),
            ("fd00:1::12", 3, 17), ("fd00:1::13", 53, 17), ("10.0.1.14", 22, 6), ("10.0.1.15", 80, 6),
        ]
        var met = 0
        // What each server takes a connection for must be one: by client, port and server.
        var seen: [String: String] = [:]
        var names: [String: String] = [:]
        for round in 0..<1500 {
            let client = machines.randomElement(using: &random) ?? ""
            let (asked, port, ip) = targets.randomElement(using: &random) ?? targets[0]
            let target = address(asked)
            let me = own(client, target.family)
            if target == me { continue }
            let from = UInt16.random(in: 40000...40003, using: &random)
            let peer = machines.first { own($0, target.family) == target }
            let what = "seed \(seed) round \(round): \(client) \(me):\(from) asks \(asked):\(port) by \(ip)"
            let out = here(client).carry(
                here(client).packet(ip, client, "\(me)", from, asked, port, via: peer ?? "t/gw/a"), at: client)
            if out.drop == .portsExhausted { continue }
            // Who is sent to itself sees the router, there is no other way.
            let place = try #require(machines.first { own($0, target.family) == out.key.ipDestination }, "\(what)")
            if place != client { #expect(out.key.ipSource == me, "\(what): the server sees \(out.talk)") }
            if peer != nil { #expect(out.key.sourcePort == from, "\(what): nobody has a say in it") }
            #expect(out.key.etherDestination == here(client).mac(place), "\(what)")
            let tuple = "\(ip) \(out.talk)"
            let name = "\(client):\(from) \(asked):\(port)"
            #expect(seen[tuple, default: name] == name, "\(what), and is taken for \(seen[tuple] ?? "") as \(tuple)")
            seen[tuple] = name
            let answer = here(place).packet(
                ip, place, "\(out.key.ipDestination)", out.key.destinationPort, "\(out.key.ipSource)",
                out.key.sourcePort, via: place == client ? "t/gw/a" : client, flags: 0x12)
            let back = here(place).carry(answer, at: place)
            #expect(back.key.ipSource == target && back.key.sourcePort == port, "\(what), hears \(back.talk)")
            #expect(back.key.ipDestination == me && back.key.destinationPort == from, "\(what), hears \(back.talk)")
            #expect(back.key.etherDestination == here(client).mac(client), "\(what)")
            // The same machine is asked from the same port, by another name.
            let other = "\(ip) \(client):\(from) \(place)"
            if let name = names[other], name != asked { met += 1 }
            names[other] = asked
        }
        #expect(met > 20, "seed \(seed): hardly two met at one port: \(met)")
    }
}
