// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@Suite struct TranslationTests {
    private let tcp = IPProtocol.tcp
    private let udp = IPProtocol.udp

    /// A host that has blocks of all addresses that sources become.
    private func host(_ text: String = Drawings.translating) throws -> Host {
        let host = try Host(text)
        for name in ["203.0.113.5", "203.0.113.6", "203.0.113.1", "10.0.1.1", "10.0.2.1"] {
            host.state.lease("t/gw", address(name), [32, 33, 600])
        }
        return host
    }

    @Test func `machines that share an address get ports of their own, and answers find each of them`() throws {
        let host = try host()
        var ports: Set<UInt16> = []
        for (name, own) in [("t/a/one", "10.0.1.11"), ("t/a/one", "10.0.1.11")] {
            for port in UInt16(2048)..<2060 {
                let out = host.carry(
                    host.packet(udp, name, own, port, "8.8.8.8", 53, via: "t/gw/a"), at: name)
                #expect(out.place == "t/out/far", "\(out.talk)")
                #expect(["203.0.113.5", "203.0.113.6"].map(address).contains(out.key.ipSource))
                #expect(checksumFaults(out.frame) == [])
                ports.insert(out.key.sourcePort)
                // As the answer comes.
                let back = host.carry(
                    host.packet(
                        udp, "t/out/far", "8.8.8.8", 53, "\(out.key.ipSource)", out.key.sourcePort, via: "t/gw/out"),
                    at: "t/out/far")
                #expect(back.place == name)
                #expect(back.talk == "8.8.8.8:53 > \(own):\(port)")
                #expect(checksumFaults(back.frame) == [])
            }
        }
        #expect(ports.count == 12, "one connection keeps its port")
    }

    @Test func `the same port of two machines is kept for one and changed for the other`() throws {
        let text = Drawings.translating.replacing("203.0.113.5-203.0.113.6", with: "203.0.113.5").replacing(
            "203.0.113.20: 10.0.1.12", with: "203.0.113.20: 10.0.1.77")
        let host = try host(text)
        let first = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 2050, "8.8.8.8", 80, via: "t/gw/a"), at: "t/a/one")
        let second = host.carry(
            host.packet(tcp, "t/a/two", "10.0.1.12", 2050, "8.8.8.8", 80, via: "t/gw/a"), at: "t/a/two")
        #expect(first.talk == "203.0.113.5:2050 > 8.8.8.8:80")
        #expect(second.key.ipSource == address("203.0.113.5") && second.key.sourcePort != 2050)
        // Another remote end has all ports again.
        let third = host.carry(
            host.packet(tcp, "t/a/two", "10.0.1.12", 2050, "8.8.4.4", 80, via: "t/gw/a"), at: "t/a/two")
        #expect(third.talk == "203.0.113.5:2050 > 8.8.4.4:80")
        for (carried, port) in [(first, "t/a/one"), (second, "t/a/two")] {
            let back = host.carry(
                host.packet(
                    tcp, "t/out/far", "8.8.8.8", 80, "203.0.113.5", carried.key.sourcePort, via: "t/gw/out", flags: 0x12
                ),
                at: "t/out/far")
            #expect(back.place == port)
            #expect(back.key.destinationPort == 2050)
        }
    }

    @Test func `a port that is forwarded leads to its machine, which answers by the address that was asked`() throws {
        let host = try host()
        let out = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5000, "203.0.113.10", 80, via: "t/gw/out"),
            at: "t/out/client")
        #expect(out.place == "t/b/web")
        #expect(out.talk == "203.0.113.99:5000 > 10.0.2.21:8080")
        #expect(checksumFaults(out.frame) == [])
        // The machine has a floating address too: a forwarded connection goes before it.
        let back = host.carry(
            host.packet(tcp, "t/b/web", "10.0.2.21", 8080, "203.0.113.99", 5000, via: "t/gw/b", flags: 0x12),
            at: "t/b/web")
        #expect(back.place == "t/out/client")
        #expect(back.talk == "203.0.113.10:80 > 203.0.113.99:5000")
        // Ranges go port by port, and what is not forwarded the router answers for.
        let ranged = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5001, "203.0.113.10", 6007, via: "t/gw/out"),
            at: "t/out/client")
        #expect(ranged.talk == "203.0.113.99:5001 > 10.0.2.21:7007")
        let other = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5002, "203.0.113.10", 22, via: "t/gw/out"),
            at: "t/out/client")
        #expect(other.drop == .consumed)
        let reset = try #require(host.answers(other.verdict).first)
        #expect(reset.talk == "203.0.113.10:22 > 203.0.113.99:5002" && reset.key.tcpFlags == 0x14)
        // Datagrams keep their port where the rule names none.
        let dns = host.carry(
            host.packet(udp, "t/out/client", "203.0.113.99", 5003, "203.0.113.10", 53, via: "t/gw/out"),
            at: "t/out/client")
        #expect(dns.talk == "203.0.113.99:5003 > 10.0.2.21:53")
    }

    @Test func `a floating address stands for its machine both ways, without state, and flows stay wide`() throws {
        let host = try host()
        let inward = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5000, "203.0.113.20", 22, via: "t/gw/out"),
            at: "t/out/client")
        #expect(inward.place == "t/a/two")
        #expect(inward.talk == "203.0.113.99:5000 > 10.0.1.12:22")
        #expect(inward.verdict.isCacheable && !inward.verdict.beginsConnection)
        #expect(!inward.verdict.mask.includes(.sourcePort) && !inward.verdict.mask.includes(.destinationPort))
        let outward = host.carry(
            host.packet(tcp, "t/a/two", "10.0.1.12", 22, "203.0.113.99", 5000, via: "t/gw/a", flags: 0x12),
            at: "t/a/two")
        #expect(outward.talk == "203.0.113.20:22 > 203.0.113.99:5000")
        #expect(outward.verdict.isCacheable && !outward.verdict.mask.includes(.sourcePort))
        #expect(checksumFaults(outward.frame) == [])
        // Ping is as stateless.
        let ping = host.carry(host.ping("t/a/two", to: "8.8.8.8", via: "t/gw/a"), at: "t/a/two")
        #expect(ping.talk == "203.0.113.20 > 8.8.8.8" && ping.verdict.isCacheable)
        // Within the tenant machines go by their own names.
        let inside = host.carry(
            host.packet(tcp, "t/a/two", "10.0.1.12", 40, "10.0.2.21", 50, via: "t/gw/a"), at: "t/a/two")
        #expect(inside.talk == "10.0.1.12:40 > 10.0.2.21:50")
    }

    @Test func `a floating address works from inside, from its own network and from its own machine`() throws {
        let host = try host()
        func roundTrip(
            _ port: String, _ own: String, _ gateway: String, _ public: String, _ server: String, _ serverPort: String
        ) {
            let out = host.carry(host.packet(tcp, port, own, 7000, `public`, 22, via: gateway), at: port)
            #expect(out.place == serverPort, "\(port) \(out.talk)")
            let back = host.carry(
                host.packet(
                    tcp, serverPort, server, 22, "\(out.key.ipSource)", out.key.sourcePort,
                    via: serverPort.hasPrefix("t/a") ? "t/gw/a" : "t/gw/b", flags: 0x12),
                at: serverPort)
            #expect(back.place == port)
            #expect(back.talk == "\(`public`):22 > \(own):7000")
        }
        // From another network, from its own, and from a machine with a floating address.
        roundTrip("t/a/one", "10.0.1.11", "t/gw/a", "203.0.113.21", "10.0.2.21", "t/b/web")
        roundTrip("t/a/one", "10.0.1.11", "t/gw/a", "203.0.113.20", "10.0.1.12", "t/a/two")
        roundTrip("t/b/web", "10.0.2.21", "t/gw/b", "203.0.113.20", "10.0.1.12", "t/a/two")
        let seen = host.carry(
            host.packet(tcp, "t/b/web", "10.0.2.21", 7001, "203.0.113.20", 22, via: "t/gw/b"), at: "t/b/web")
        #expect(seen.talk == "203.0.113.21:7001 > 10.0.1.12:22", "seen by its own floating address")
    }

    @Test(arguments: [
        // To a port that is known, its machine sees who asks; to any, the router, so that the answer does not go past it.
        ("dnat 10.0.1.12 port 8080", UInt16(8080), "10.0.1.11", "t/a/one"),
        ("dnat 10.0.1.12", 80, "10.0.1.1", "t/gw/a"),
    ])
    func `a port that is forwarded works from its own network: the answer comes back by the router`(
        rule: String, port: UInt16, seen: String, next: String
    ) throws {
        let text = Drawings.translating.replacing("dnat 10.0.2.21 port 8080", with: rule)
            .replacing("203.0.113.20: 10.0.1.12", with: "203.0.113.20: 10.0.1.77")
        let host = try host(text)
        let out = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 2100, "203.0.113.10", 80, via: "t/gw/a"), at: "t/a/one")
        #expect(out.place == "t/a/two")
        #expect(out.key.ipSource == address(seen) && out.key.destinationPort == port, "\(out.talk)")
        let back = host.carry(
            host.packet(
                tcp, "t/a/two", "10.0.1.12", port, seen, out.key.sourcePort, via: next, flags: 0x12), at: "t/a/two")
        #expect(back.place == "t/a/one")
        #expect(back.talk == "203.0.113.10:80 > 10.0.1.11:2100")
    }

    @Test func `identifiers of two pings that are alike are told apart`() throws {
        let text = Drawings.translating.replacing("203.0.113.5-203.0.113.6", with: "203.0.113.5").replacing(
            "203.0.113.20: 10.0.1.12", with: "203.0.113.20: 10.0.1.77")
        let host = try host(text)
        func id(_ frame: [UInt8]) -> UInt16 { UInt16(frame[38]) << 8 | UInt16(frame[39]) }
        func ping(
            _ source: String, _ mac: MACAddress, _ type: UInt8, _ id: UInt16, _ from: String, _ to: String,
            _ gateway: String
        ) -> [UInt8] {
            Frame.icmp(
                etherSource: mac, etherDestination: host.mac(gateway), source: address(from), destination: address(to),
                type: type, code: 0, rest: UInt32(id) << 16 | 7, data: [1, 2, 3, 4, 5])
        }
        let first = host.carry(
            ping("one", host.mac("t/a/one"), 8, 2070, "10.0.1.11", "8.8.8.8", "t/gw/a"), at: "t/a/one")
        let second = host.carry(
            ping("two", host.mac("t/a/two"), 8, 2070, "10.0.1.12", "8.8.8.8", "t/gw/a"), at: "t/a/two")
        #expect(id(first.frame) == 2070 && id(second.frame) != 2070)
        #expect(!first.verdict.isCacheable && !second.verdict.isCacheable, "no flow tells identifiers apart")
        for (carried, port, own) in [(first, "t/a/one", "10.0.1.11"), (second, "t/a/two", "10.0.1.12")] {
            #expect(carried.talk == "203.0.113.5 > 8.8.8.8")
            #expect(checksumFaults(carried.frame) == [])
            let back = host.carry(
                ping("far", host.mac("t/out/far"), 0, id(carried.frame), "8.8.8.8", "203.0.113.5", "t/gw/out"),
                at: "t/out/far")
            #expect(back.place == port)
            #expect(back.talk == "8.8.8.8 > \(own)")
            #expect(id(back.frame) == 2070)
            #expect(checksumFaults(back.frame) == [])
        }
        // An answer that nobody asked for goes nowhere.
        let stray = host.carry(
            ping("far", host.mac("t/out/far"), 0, 9, "8.8.8.8", "203.0.113.5", "t/gw/out"), at: "t/out/far")
        #expect(stray.drop == .consumed)
    }

    /// An error about a frame, as a router or host out there makes it.
    private func error(
        about frame: [UInt8], from: String, mac: MACAddress, via gateway: MACAddress, type: UInt8 = 3, code: UInt8 = 3
    ) -> [UInt8] {
        Frame.icmp(
            etherSource: mac, etherDestination: gateway, source: address(from), destination: parse(frame).ipSource,
            type: type, code: code, rest: 0, data: Array(frame[14...].prefix(60)))
    }

    private func quoted(_ frame: [UInt8]) -> String { Carried.talk(Array(frame[..<14]) + Array(frame[42...])) }

    @Test func `errors reach who sent what they quote, and quote it as it was sent`() throws {
        let host = try host()
        // A source that was translated; the error comes from a router on the way.
        let one = host.carry(
            host.packet(udp, "t/a/one", "10.0.1.11", 2090, "8.8.8.8", 33434, via: "t/gw/a"), at: "t/a/one")
        let expired = host.carry(
            error(
                about: one.frame, from: "198.18.0.1", mac: host.mac("t/out/far"), via: host.mac("t/gw/out"), type: 11,
                code: 0),
            at: "t/out/far")
        #expect(expired.place == "t/a/one")
        #expect(expired.talk == "198.18.0.1 > 10.0.1.11")
        #expect(quoted(expired.frame) == "10.0.1.11:2090 > 8.8.8.8:33434")
        #expect(checksumFaults(expired.frame) == [])
        // A destination that was translated: the machine's refusal comes from the address that was asked.
        let two = host.carry(
            host.packet(udp, "t/out/client", "203.0.113.99", 2091, "203.0.113.10", 53, via: "t/gw/out"),
            at: "t/out/client")
        let refused = host.carry(
            error(about: two.frame, from: "10.0.2.21", mac: host.mac("t/b/web"), via: host.mac("t/gw/b")), at: "t/b/web"
        )
        #expect(refused.place == "t/out/client")
        #expect(refused.talk == "203.0.113.10 > 203.0.113.99")
        #expect(quoted(refused.frame) == "203.0.113.99:2091 > 203.0.113.10:53")
        #expect(checksumFaults(refused.frame) == [])
        // Floating addresses, both ways, without state.
        let three = host.carry(
            host.packet(udp, "t/out/client", "203.0.113.99", 2092, "203.0.113.20", 9, via: "t/gw/out"),
            at: "t/out/client")
        let closed = host.carry(
            error(about: three.frame, from: "10.0.1.12", mac: host.mac("t/a/two"), via: host.mac("t/gw/a")),
            at: "t/a/two")
        #expect(closed.talk == "203.0.113.20 > 203.0.113.99")
        #expect(quoted(closed.frame) == "203.0.113.99:2092 > 203.0.113.20:9")
        #expect(checksumFaults(closed.frame) == [])
        let four = host.carry(
            host.packet(udp, "t/a/two", "10.0.1.12", 2093, "8.8.8.8", 9, via: "t/gw/a"), at: "t/a/two")
        let answer = host.carry(
            error(about: four.frame, from: "8.8.8.8", mac: host.mac("t/out/far"), via: host.mac("t/gw/out")),
            at: "t/out/far")
        #expect(answer.talk == "8.8.8.8 > 10.0.1.12")
        #expect(quoted(answer.frame) == "10.0.1.12:2093 > 8.8.8.8:9")
        #expect(checksumFaults(answer.frame) == [])
        // The router's own errors quote what it got.
        let dying = host.carry(
            host.packet(udp, "t/out/client", "203.0.113.99", 2094, "203.0.113.10", 53, via: "t/gw/out").withTTL(1),
            at: "t/out/client")
        #expect(dying.drop == .ttlExceeded)
        let own = try #require(host.answers(dying.verdict).first)
        #expect(own.talk == "203.0.113.1 > 203.0.113.99")
        #expect(quoted(own.frame) == "203.0.113.99:2094 > 203.0.113.10:53")
        #expect(checksumFaults(own.frame) == [])
    }

    @Test func `the error about a ping quotes the identifier that it was sent with`() throws {
        let host = try host()
        let ping = host.carry(host.ping("t/a/one", to: "8.8.8.8", via: "t/gw/a"), at: "t/a/one")
        let expired = host.carry(
            error(
                about: ping.frame, from: "198.18.0.1", mac: host.mac("t/out/far"), via: host.mac("t/gw/out"), type: 11,
                code: 0),
            at: "t/out/far")
        #expect(expired.talk == "198.18.0.1 > 10.0.1.11")
        #expect(quoted(expired.frame) == "10.0.1.11 > 8.8.8.8")
        let inner = Array(expired.frame[42...])
        #expect([inner[24], inner[25]] == [0, 0], "the identifier of the ping as sent")
        #expect(checksumFaults(expired.frame) == [])
    }

    /// The sum over an IPv6 frame's transport, 0 when its checksum is right.
    private func transportSum(_ frame: [UInt8]) -> UInt16 {
        let packet = Array(frame[14...])
        var sum = InternetChecksum()
        let length = packet.count - 40
        let pseudo = Array(packet[8..<40]) + [0, packet[6], UInt8(length >> 8), UInt8(length & 255)]
        pseudo.withUnsafeBytes { sum.add($0) }
        Array(packet[40...]).withUnsafeBytes { sum.add($0) }
        return sum.value
    }

    @Test func `IPv6 is translated as IPv4 is: ports, pings and errors`() throws {
        let host = try Host(
            """
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              t:
                bridges:
                  a: { ports: { vm: { host: h1, interface: a, mac: "0e:00:00:00:0a:01", address: "fd00:1::11/64" } } }
                  out: { ports: { far: { host: h1, interface: o, mac: "0e:00:00:00:0c:01", address: "2001:db8::99/64" } } }
                routers:
                  gw:
                    links: [{ bridge: a, address: "fd00:1::1/64" }, { bridge: out, address: "2001:db8::1/64" }]
                    nat:
                      - { action: "snat 2001:db8::5-2001:db8::6", outPort: gw/out }
                      - { action: dnat fd00:1::11 port 8080, destination: "2001:db8::10", protocol: tcp, destinationPort: 80 }
                    floating: { "2001:db8::20": "fd00:1::20" }
            """)
        for name in ["2001:db8::5", "2001:db8::6"] { host.state.lease("t/gw", address(name), [32]) }
        let out = host.carry(
            host.packet(tcp, "t/a/vm", "fd00:1::11", 2050, "2001:db8::99", 80, via: "t/gw/a"), at: "t/a/vm")
        #expect(out.place == "t/out/far" && out.key.sourcePort == 2050)
        #expect(["2001:db8::5", "2001:db8::6"].map(address).contains(out.key.ipSource))
        #expect(transportSum(out.frame) == 0)
        let back = host.carry(
            host.packet(
                tcp, "t/out/far", "2001:db8::99", 80, "\(out.key.ipSource)", 2050, via: "t/gw/out",
                flags: 0x12),
            at: "t/out/far")
        #expect(back.talk == "[2001:db8::99]:80 > [fd00:1::11]:2050" && transportSum(back.frame) == 0)
        let web = host.carry(
            host.packet(tcp, "t/out/far", "2001:db8::99", 5000, "2001:db8::10", 80, via: "t/gw/out"), at: "t/out/far")
        #expect(web.talk == "[2001:db8::99]:5000 > [fd00:1::11]:8080" && transportSum(web.frame) == 0)
        // Pings, whose identifier is translated.
        let ping = host.carry(host.ping("t/a/vm", to: "2001:db8::99", via: "t/gw/a"), at: "t/a/vm")
        #expect(ping.place == "t/out/far" && transportSum(ping.frame) == 0)
        let error = Frame.icmp(
            etherSource: host.mac("t/out/far"), etherDestination: host.mac("t/gw/out"), source: address("2001:db8::99"),
            destination: out.key.ipSource, type: 1, code: 4, data: Array(out.frame[14...]))
        let refused = host.carry(error, at: "t/out/far")
        #expect(refused.talk == "2001:db8::99 > fd00:1::11" && transportSum(refused.frame) == 0)
        let inner = Carried.talk(Array(refused.frame[..<14]) + Array(refused.frame[62...]))
        #expect(inner == "[fd00:1::11]:2050 > [2001:db8::99]:80")
        // The router says that addresses which it translates are there.
        let solicitation = Frame.neighborSolicitation(
            from: host.mac("t/out/far"), source: address("2001:db8::99").v6 ?? .allNodes,
            target: address("2001:db8::20").v6 ?? .allNodes)
        #expect(host.answers(host.send(solicitation, at: "t/out/far")).first?.place == "t/out/far")
    }

    @Test func `later fragments follow their first one, and without it they are dropped`() throws {
        let host = try host()
        func fragment(_ offset: Int, _ more: Bool, id: UInt16, _ bytes: [UInt8]) -> [UInt8] {
            var frame = host.packet(udp, "t/a/one", "10.0.1.11", 2095, "8.8.8.8", 53, via: "t/gw/a")
            if offset > 0 { frame = Array(frame[..<34]) + bytes }
            (frame[18], frame[19]) = (UInt8(id >> 8), UInt8(id & 255))
            frame[20] = (more ? 0x20 : 0) | UInt8(offset >> 8)
            frame[21] = UInt8(offset & 255)
            frame[17] = UInt8(frame.count - 14)
            (frame[24], frame[25]) = (0, 0)
            let check = Array(frame[14..<34]).withUnsafeBytes { InternetChecksum.of($0) }
            (frame[24], frame[25]) = (UInt8(check >> 8), UInt8(check & 255))
            return frame
        }
        let early = host.carry(fragment(2, false, id: 5, [9, 9, 9, 9, 9, 9, 9, 9]), at: "t/a/one")
        #expect(early.drop == .fragmentUnknown)
        let first = host.carry(fragment(0, true, id: 6, []), at: "t/a/one")
        #expect(first.key.ipSource != address("10.0.1.11") && first.drop == nil)
        #expect(!first.verdict.isCacheable)
        let later = host.carry(fragment(2, false, id: 6, [9, 9, 9, 9, 9, 9, 9, 9]), at: "t/a/one")
        #expect(later.drop == nil && later.key.ipSource == first.key.ipSource)
        #expect(!later.verdict.isCacheable)
        #expect(checksumFaults(later.frame) == [])
        let stranger = host.carry(fragment(2, false, id: 7, [9, 9, 9, 9, 9, 9, 9, 9]), at: "t/a/one")
        #expect(stranger.drop == .fragmentUnknown)
    }

    @Test func `what no rule is for is not touched and keeps its wide flow; accept ends the search`() throws {
        let host = try host()
        let inside = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 40, "10.0.1.12", 50, via: "t/gw/a"), at: "t/a/one")
        #expect(inside.talk == "10.0.1.11:40 > 10.0.1.12:50")
        let plain = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 40, "198.51.100.7", 50, via: "t/gw/a"), at: "t/a/one")
        #expect(plain.talk == "10.0.1.11:40 > 198.51.100.7:50")
        #expect(plain.verdict.isCacheable && !plain.verdict.mask.includes(.sourcePort))
    }

    @Test func `what can't be translated is dropped by name and makes no connection`() throws {
        let host = try host()
        let reset = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 2040, "8.8.8.8", 80, via: "t/gw/a", flags: 0x04), at: "t/a/one")
        #expect(reset.drop == .noTranslation)
        let gre = host.carry(
            Frame.ip(
                etherSource: host.mac("t/a/one"), etherDestination: host.mac("t/gw/a"), source: address("10.0.1.11"),
                destination: address("8.8.8.8"), ipProtocol: 47, payload: [0, 0, 0, 0, 0, 0, 0, 0]), at: "t/a/one")
        #expect(gre.drop == .notTranslatable)
        // A host without ports says so, and asks.
        let empty = try Host(Drawings.translating)
        let none = empty.carry(
            empty.packet(tcp, "t/a/one", "10.0.1.11", 2040, "8.8.8.8", 80, via: "t/gw/a"), at: "t/a/one")
        #expect(none.drop == .portsExhausted)
        #expect(!none.verdict.isCacheable && !none.verdict.beginsConnection)
        let wanted = empty.state.translations.withLock { $0.ports.takeWanted().map { "\($0.key.address) \($0.count)" } }
        #expect(Set(wanted) == ["203.0.113.5 1", "203.0.113.6 1"])
    }

    @Test func `ports run out towards one remote end, and are free towards another`() throws {
        let text = Drawings.translating.replacing("203.0.113.5-203.0.113.6", with: "203.0.113.5 port 2048-2111")
        let host = try Host(text)
        host.state.lease("t/gw", address("203.0.113.5"), [32])
        var seen: Set<UInt16> = []
        for port in UInt16(1)...64 {
            let out = host.carry(
                host.packet(udp, "t/a/one", "10.0.1.11", port, "8.8.8.8", 53, via: "t/gw/a"), at: "t/a/one")
            #expect(out.drop == nil)
            seen.insert(out.key.sourcePort)
        }
        #expect(seen == Set(2048...2111))
        let over = host.carry(host.packet(udp, "t/a/one", "10.0.1.11", 65, "8.8.8.8", 53, via: "t/gw/a"), at: "t/a/one")
        #expect(over.drop == .portsExhausted)
        let other = host.carry(
            host.packet(udp, "t/a/one", "10.0.1.11", 65, "8.8.8.8", 54, via: "t/gw/a"), at: "t/a/one")
        #expect(other.drop == nil)
        // When their time is over they are free again, and nothing is left of them.
        let (before, after, isUnused) = host.state.translations.withLock { table in
            let before = table.count
            while !table.expire(now: 1_000_000_000_000, looking: 1000).isEmpty {}
            return (before, table.count, table.ports.pools.allSatisfy { $0.used == 0 })
        }
        #expect(before == 65 && after == 0 && isUnused)
    }

    @Test func `filters see machines by their own addresses, whichever way packets go`() throws {
        let text = Drawings.translating.replacing(
            "            routers:\n      gw:", with: "            routers:\n      gw:"
        ).replacing(
            "        links:\n          - { bridge: a",
            with: "        inbound: in\n        outbound: out\n        links:\n          - { bridge: a"
        ).replacing(
            "    bridges:\n      a:",
            with: """
                    chains:
                      in:
                        - { id: back, state: established, action: accept }
                        - { id: web, destination: 10.0.2.21, protocol: tcp, destinationPort: 8080, state: new, action: accept }
                        - { id: out, source: 10.0.1.0/24, state: new, action: accept }
                        - { id: rest, action: drop }
                      out:
                        - { id: masked, source: 203.0.113.0/28, action: drop }
                    bridges:
                      a:
                """)
        let host = try host(text)
        let out = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 2050, "8.8.8.8", 80, via: "t/gw/a"), at: "t/a/one")
        #expect(out.place == "t/out/far", "\(out.talk)")
        let back = host.carry(
            host.packet(
                tcp, "t/out/far", "8.8.8.8", 80, "\(out.key.ipSource)", out.key.sourcePort, via: "t/gw/out", flags: 0x12
            ), at: "t/out/far")
        #expect(back.place == "t/a/one", "\(back.talk)")
        let web = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5000, "203.0.113.10", 80, via: "t/gw/out"),
            at: "t/out/client")
        #expect(web.place == "t/b/web", "\(web.talk)")
        let answer = host.carry(
            host.packet(tcp, "t/b/web", "10.0.2.21", 8080, "203.0.113.99", 5000, via: "t/gw/b", flags: 0x12),
            at: "t/b/web")
        #expect(answer.talk == "203.0.113.10:80 > 203.0.113.99:5000")
        // The dropped packet holds no port.
        let before = host.state.translations.withLock { $0.count }
        let dropped = host.carry(
            host.packet(udp, "t/out/client", "203.0.113.99", 5001, "203.0.113.10", 53, via: "t/gw/out"),
            at: "t/out/client")
        #expect(dropped.drop == .filtered)
        #expect(host.state.translations.withLock { $0.count } == before)
    }
}

extension [UInt8] {
    /// An IPv4 frame with another TTL, its checksum right.
    func withTTL(_ ttl: UInt8) -> [UInt8] {
        var frame = self
        frame[22] = ttl
        (frame[24], frame[25]) = (0, 0)
        let check = Array(frame[14..<34]).withUnsafeBytes { InternetChecksum.of($0) }
        (frame[24], frame[25]) = (UInt8(check >> 8), UInt8(check & 255))
        return frame
    }
}
