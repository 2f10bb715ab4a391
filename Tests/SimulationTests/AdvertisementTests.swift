// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// What machines are told of routers.
@Suite struct AdvertisementTests {
    private func drawn(_ advertised: String) throws -> Topology {
        let drawing = Drawings.threeNetworks.replacing("      a:\n", with: "      a:\n        ra: \(advertised)\n")
            .replacing(
                "    routers:\n",
                with: """
                        routers:
                          gw: { links: [{ bridge: a, address: [10.0.1.1/24, "fd00:1::1/64"] }, { bridge: b, address: 10.0.2.1/24 }] }

                    """)
        return try draw(drawing)
    }

    private func host(_ advertised: String) throws -> Host {
        Host(topology: try drawn(advertised), state: TableState())
    }

    private func ask(_ host: Host, from source: String, hops: UInt8 = 255, at name: String = "t/a/one") -> Verdict {
        let all = IPv6Address.allRouters
        return host.send(
            Frame.icmp(
                etherSource: host.mac(name), etherDestination: .multicast(for: all), source: address(source),
                destination: IPAddress(all), type: ICMPv6.routerSolicitation, code: 0, data: [], ttl: hops), at: name)
    }

    /// Options of an advertisement, behind Ethernet, IPv6 and its own head.
    private func options(_ frame: [UInt8]) -> [UInt8: [[UInt8]]] {
        var found: [UInt8: [[UInt8]]] = [:]
        var at = 14 + 40 + 16
        while at + 2 <= frame.count, frame[at + 1] > 0 {
            let end = at + Int(frame[at + 1]) * 8
            found[frame[at], default: []].append(Array(frame[(at + 2)..<end]))
            at = end
        }
        #expect(at == frame.count, "options end where the packet does")
        return found
    }

    @Test func `a machine that asks is told its network, its router, what fits and who knows names`() throws {
        let host = try host(
            "{ prefix: \"fd00:1::/64\", dns: [\"fd00:1::53\", \"fd00:1::54\"], search: example.com, mtu: 1400, lifetime: 7200 }"
        )
        let verdict = ask(host, from: "fe80::1")
        let out = try #require(host.answers(verdict).first)
        #expect(out.place == "t/a/one")
        let message = Array(out.frame[54...])
        var sum = InternetChecksum.pseudoHeader(
            source: out.key.ipSource, destination: out.key.ipDestination, ipProtocol: IPProtocol.icmpv6,
            length: message.count)
        message.withUnsafeBytes { sum.add($0) }
        #expect(sum.value == 0)
        let router = host.mac("t/gw/a")
        #expect(out.key.etherSource == router && out.key.etherDestination == host.mac("t/a/one"))
        #expect(out.key.ipSource == IPAddress(IPv6Address.linkLocal(for: router)))
        #expect(out.key.ipDestination == address("fe80::1") && out.key.ipTTL == 255)
        // Hop limit 64, neither managed nor other, half an hour.
        #expect(Array(out.frame[58..<62]) == [64, 0, 1800 >> 8, 1800 & 0xff])
        let said = options(out.frame)
        #expect(said[5] == [[0, 0, 0, 0, 1400 >> 8, 1400 & 0xff]])
        let prefix = try #require(said[3]?.first)
        #expect(Array(prefix.prefix(10)) == [64, 0xc0, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10])
        #expect(Array(prefix[14..<18]) == [0xfd, 0, 0, 1])
        #expect(said[25]?.first?.count == 6 + 32)
        #expect(
            said[31]?.first.map { Array($0[6..<19]) } == [7] + Array("example".utf8) + [3] + Array("com".utf8) + [0])
        #expect(said[31]?.first.map { ($0.count + 2) % 8 } == 0)
    }

    @Test func `one without an address yet is told as all are, and asks from afar are none`() throws {
        let host = try host("true".replacing("true", with: "{ prefix: \"fd00:1::/64\" }"))
        let out = try #require(host.answers(ask(host, from: "::")).first)
        #expect(out.key.ipDestination == IPAddress(IPv6Address.allNodes))
        #expect(out.key.etherDestination == .multicast(for: .allNodes))
        let far = ask(host, from: "fe80::1", hops: 64)
        #expect(far.packets.isEmpty && far.drop == .malformed)
        // Other bridges say nothing, and what is no question goes where it did.
        #expect(ask(host, from: "fe80::1", at: "t/b/web").packets.isEmpty)
        #expect(ask(host, from: "fe80::1").isCacheable == false)
    }

    @Test func `a network without a router, or whose router is not the way out, is told without one`() throws {
        let alone = try host("{ prefix: \"fd00:9::/64\" }")
        let out = try #require(alone.answers(ask(alone, from: "fe80::1")).first)
        #expect(Array(out.frame[60..<62]) == [0, 0] && out.key.etherSource != alone.mac("t/gw/a"))
        let inside = try host("{ prefix: \"fd00:1::/64\", router: \"false\" }")
        let quiet = try #require(inside.answers(ask(inside, from: "fe80::1")).first)
        #expect(Array(quiet.frame[60..<62]) == [0, 0] && quiet.key.etherSource == inside.mac("t/gw/a"))
        // Machines make themselves addresses of 64 bits only.
        let narrow = try host("{ prefix: \"fd00:1::/80\" }")
        let told = try #require(narrow.answers(ask(narrow, from: "fe80::1")).first)
        #expect(options(told.frame)[3]?.first?[1] == 0x80)
    }

    private let second: UInt64 = 1_000_000_000

    @Test func `each port of the host's bridges is told now and then, and nothing where nothing is said`() throws {
        let drawing = try drawn("{ prefix: \"fd00:1::/64\" }")
        let host = Host(topology: drawing, state: TableState())
        var schedule = AdvertisementSchedule()
        schedule.note(host.fabric, now: 0)
        #expect(schedule.due(host.fabric, now: 0).isEmpty)
        let told = schedule.due(host.fabric, now: second)
        #expect(told.map { host.fabric.path($0.port).description }.sorted() == ["t/a/one", "t/a/two"])
        #expect(told.first?.frames.count == 1)
        var times: [UInt64] = []
        for now in 2...3600 where !schedule.due(host.fabric, now: UInt64(now) * second).isEmpty {
            times.append(UInt64(now))
        }
        // Three times before what is known is over, and not all the time.
        #expect(zip([1] + times, times).allSatisfy { (300...600).contains($1 - $0) } && times.last! > 3000)
        let quiet = Host(topology: try draw(Drawings.threeNetworks), state: TableState())
        var other = AdvertisementSchedule()
        other.note(quiet.fabric, now: 0)
        #expect(other.next == .max)
    }

    @Test func `a change that says nothing else is not told, and many changes in a row are told once in three seconds`()
        throws
    {
        let drawing = try drawn("{ prefix: \"fd00:1::/64\" }")
        let host = Host(topology: drawing, state: TableState())
        var schedule = AdvertisementSchedule()
        schedule.note(host.fabric, now: 0)
        #expect(!schedule.due(host.fabric, now: second).isEmpty)
        let later = schedule.next
        var topology = drawing
        topology.bridges[try #require(DevicePath("t/b"))]?.isEnabled = false
        topology.ports[try #require(PortPath("t/a/two"))]?.isEnabled = true
        schedule.note(Host(topology: topology, state: TableState()).fabric, now: 2 * second)
        #expect(schedule.next == later)
        var count = 0
        for step in 0..<30 {
            let now = 2 * second + UInt64(step) * second / 10
            topology.bridges[try #require(DevicePath("t/a"))]?.advertised[0].mtu = 1300 + step
            let other = Host(topology: topology, state: TableState())
            schedule.note(other.fabric, now: now)
            if !schedule.due(other.fabric, now: now).isEmpty { count += 1 }
        }
        #expect(count == 1)
    }

    @Test func `what is so no more is taken back three times: networks, and routers that are gone or switched off`()
        throws
    {
        let drawing = try drawn("[{ prefix: \"fd00:1::/64\" }, { prefix: \"fd00:7::/64\" }]")
        let host = Host(topology: drawing, state: TableState())
        let bridge = try #require(DevicePath("t/a"))
        func told(_ change: (inout Topology) -> Void) -> [[[UInt8]]] {
            var schedule = AdvertisementSchedule()
            schedule.note(host.fabric, now: 0)
            _ = schedule.due(host.fabric, now: second)
            var topology = drawing
            change(&topology)
            let other = Host(topology: topology, state: TableState())
            schedule.note(other.fabric, now: 2 * second)
            return (3..<30).compactMap { schedule.due(other.fabric, now: $0 * second).first?.frames }
        }
        func prefixes(_ frame: [UInt8]) -> [String] {
            (options(frame)[3] ?? []).map { "\($0[17]):\($0[2..<6].allSatisfy { $0 == 0 } ? "gone" : "there")" }
        }
        func lifetime(_ frame: [UInt8]) -> Int { Int(frame[60]) << 8 | Int(frame[61]) }
        let one = told { $0.bridges[bridge]?.advertised.removeAll { $0.prefix.address == address("fd00:7::") } }
        #expect(one.map { $0.map(prefixes) } == Array(repeating: [["7:gone"], ["1:there"]], count: 3))
        #expect(one.joined().map(lifetime).suffix(2) == [0, 1800])
        // All of it.
        let all = told { $0.bridges[bridge]?.advertised = [] }
        #expect(all.count == 3 && all.allSatisfy { Set($0.flatMap(prefixes)) == ["1:gone", "7:gone"] })
        #expect(all.joined().allSatisfy { lifetime($0) == 0 })
        // A router that is switched off is no way out; its network stays one.
        let off = told { $0.routers[DevicePath("t/gw")!]?.isEnabled = false }
        #expect(off.count == 1 && off.joined().allSatisfy { lifetime($0) == 0 })
        #expect(Set(off.joined().flatMap(prefixes)) == ["1:there", "7:there"])
        var topology = drawing
        topology.routers[try #require(DevicePath("t/gw"))]?.isEnabled = false
        let asked = self.ask(Host(topology: topology, state: TableState()), from: "fe80::1")
        #expect(host.answers(asked).allSatisfy { lifetime($0.frame) == 0 })
    }

    @Test func `an advertisement fits the smallest packet that a link carries, whatever is said`() throws {
        let name = String(repeating: "a", count: 60)
        let drawing = try drawn("{ prefix: \"fd00:1::/64\" }")
        var topology = drawing
        let bridge = try #require(DevicePath("t/a"))
        topology.bridges[bridge]?.advertised = (0..<UInt64(AdvertisedPrefix.perBridge)).map { place in
            var one = AdvertisedPrefix(
                Prefix(IPAddress(high: 0xfd00_0001_0000_0000 | place << 16, low: 0, family: .ipv6), length: 64))
            one.nameServers = (1...8).map { IPAddress(high: 0xfd00_0053_0000_0000, low: $0, family: .ipv6) }
            one.search = (0..<8).map { "\(name).\(name).\(name).d\($0)" }
            return one
        }
        let full = Host(topology: topology, state: TableState())
        for out in full.answers(ask(full, from: "fe80::1")) {
            #expect(out.frame.count <= 14 + 1280)
            #expect(options(out.frame)[31]?.first.map { $0.count > 500 } ?? true)
        }
    }
}
