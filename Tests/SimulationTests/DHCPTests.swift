// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Addresses that a bridge gives to machines that ask.
@Suite struct DHCPTests {
    private typealias Option = DHCPMessage.Option

    /// A network with a router, a port that says its machine's address, others that do not, and chains that let nothing pass.
    private func drawing(_ dhcp: String, hosts: String = "h1: { address: 192.0.2.1 }") -> String {
        """
        tunnel: vxlan
        hosts: { \(hosts) }
        tenants:
          t:
            chains: { none: [{ action: drop }] }
            bridges:
              a:
                subnet: [10.0.1.0/24, "fd00::/64"]
                inbound: none
                dhcp: \(dhcp)
                ports:
                  vm: { host: h1, interface: vm, mac: "0e:00:00:00:0a:01", address: 10.0.1.11/24, inbound: none }
                  any: { host: h1, interface: any, mac: "0e:00:00:00:0a:02", inbound: none }
                  more: { host: h1, interface: more, mac: "0e:00:00:00:0a:03" }
            routers:
              gw: { links: [{ bridge: a, mac: "0e:00:00:00:aa:01" }] }
        """
    }

    private let full = """
        { range: [10.0.1.100-10.0.1.101, 10.0.1.200], dns: [10.0.1.53, 9.9.9.9], domain: example.org, search: [a.example.org, b],
          ntp: 10.0.1.123, lease: 7200, routes: ["10.9.0.0/16 via 10.0.1.9"], bootFile: pxelinux.0, bootServer: 10.0.1.69,
          hosts: ["02:00:00:00:00:07 10.0.1.7 printer"], options: ["43 0x0102", "66 tftp.example.org"] }
        """

    private func mac(_ text: String) -> MACAddress { MACAddress(text) ?? .zero }

    /// What a machine says, as a frame.
    private func frame(
        _ kind: DHCPMessage.Kind, _ from: MACAddress, _ options: [UInt8: [UInt8]] = [:], has: String? = nil,
        to server: (mac: MACAddress, address: String)? = nil, isBroadcast: Bool = false, relay: String? = nil
    ) -> [UInt8] {
        var message = DHCPMessage(kind, isRequest: true, transaction: 0x1234_5678, mac: from)
        message.options = options
        message.isBroadcast = isBroadcast
        if let has, let own = address(has).v4 { message.clientAddress = own }
        if let relay, let own = address(relay).v4 { message.relay = own }
        return Frame.udp(
            etherSource: from, etherDestination: server?.mac ?? .broadcast, source: address(has ?? relay ?? "0.0.0.0"),
            destination: address(server?.address ?? "255.255.255.255"), sourcePort: relay == nil ? 68 : 67,
            destinationPort: 67, data: message.encoded(options.keys.sorted()))
    }

    private func bytes(_ text: String) -> [UInt8] {
        let bits = address(text).high >> 32
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: bits >> UInt64($0)) }
    }

    /// The answer to a frame, and how it comes.
    private func answer(_ host: Host, _ frame: [UInt8], at port: String) -> (message: DHCPMessage, key: FlowKey)? {
        let verdict = host.send(frame, at: port)
        for learned in verdict.learned { host.state.learn(learned) }
        #expect(!verdict.isCacheable && verdict.outputs.isEmpty)
        guard let carried = host.answers(verdict).first, carried.place == port else { return nil }
        #expect(checksumFaults(carried.frame) == [])
        return DHCPMessage(Array(carried.frame[42...])).map { ($0, carried.key) }
    }

    /// Asks for an address and takes it, as a machine does.
    private func lease(_ host: Host, _ mac: MACAddress, at port: String, asks: String? = nil) -> String? {
        let hint = asks.map { [Option.requestedAddress: bytes($0)] } ?? [:]
        guard let (offer, _) = answer(host, frame(.discover, mac, hint), at: port), offer.kind == .offer else {
            return nil
        }
        let options = [
            Option.requestedAddress: bytes("\(offer.yourAddress)"), Option.server: offer.options[Option.server] ?? [],
        ]
        guard let (ack, _) = answer(host, frame(.request, mac, options), at: port), ack.kind == .ack else { return nil }
        #expect(ack.yourAddress == offer.yourAddress)
        return "\(ack.yourAddress)"
    }

    @Test func `a machine gets its port's address with all that is said of its network, whatever filters say`() throws {
        let host = try Host(drawing(full))
        let (offer, key) = try #require(answer(host, frame(.discover, mac("0e:00:00:00:0a:01")), at: "t/a/vm"))
        #expect(offer.kind == .offer && !offer.isRequest && offer.transaction == 0x1234_5678)
        #expect("\(offer.yourAddress)" == "10.0.1.11" && "\(offer.bootServer)" == "10.0.1.69")
        #expect(key.etherDestination == mac("0e:00:00:00:0a:01") && "\(key.ipDestination)" == "10.0.1.11")
        #expect(key.etherSource == mac("0e:00:00:00:aa:01") && "\(key.ipSource)" == "10.0.1.1")
        #expect(key.sourcePort == 67 && key.destinationPort == 68)
        let expected: [UInt8: [UInt8]] = [
            Option.mask: [255, 255, 255, 0], Option.router: bytes("10.0.1.1"),
            Option.nameServers: bytes("10.0.1.53") + bytes("9.9.9.9"), Option.domain: Array("example.org".utf8),
            Option.search: [1, 97, 7] + Array("example".utf8) + [3] + Array("org".utf8) + [0, 1, 98, 0],
            Option.timeServers: bytes("10.0.1.123"), Option.lease: [0, 0, 28, 32], Option.renewal: [0, 0, 14, 16],
            Option.rebinding: [0, 0, 24, 156], Option.mtu: [5, 220], Option.server: bytes("10.0.1.1"),
            Option.routes: [16, 10, 9] + bytes("10.0.1.9") + [0] + bytes("10.0.1.1"),
            Option.bootFile: Array("pxelinux.0".utf8), Option.hostName: Array("vm".utf8), 43: [1, 2],
            66: Array("tftp.example.org".utf8),
        ]
        #expect(offer.options == expected)
        #expect(lease(host, mac("0e:00:00:00:0a:01"), at: "t/a/vm") == "10.0.1.11")
        // Who can't take unicast yet is answered for all to hear.
        let (_, to) = try #require(
            answer(host, frame(.discover, mac("0e:00:00:00:0a:01"), isBroadcast: true), at: "t/a/vm"))
        #expect(to.etherDestination == .broadcast && "\(to.ipDestination)" == "255.255.255.255")
    }

    @Test func `tunnels leave less room, and machines are told so`() throws {
        let two = "h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }"
        let host = try Host(drawing("true", hosts: two))
        let (offer, _) = try #require(answer(host, frame(.discover, mac("0e:00:00:00:0a:01")), at: "t/a/vm"))
        #expect(offer.options[Option.mtu] == [5, 170], "1450")
    }

    @Test func `machines without an address of their own get those of the ranges, each its own, until none is left`()
        throws
    {
        let host = try Host(drawing(full))
        let names = (1...3).map { "02:00:00:00:00:1\($0)" }
        let given = names.map { lease(host, mac($0), at: "t/a/any") }
        #expect(Set(given) == ["10.0.1.100", "10.0.1.101", "10.0.1.200"])
        // Each again, and whatever it asks for.
        for (name, address) in zip(names, given) { #expect(lease(host, mac(name), at: "t/a/any") == address) }
        let none = host.send(frame(.discover, mac("02:00:00:00:00:14")), at: "t/a/any")
        #expect(none.drop == .noLease && none.packets.isEmpty)
        // The one with an address by name has it at any port, and its name with it.
        #expect(lease(host, mac("02:00:00:00:00:07"), at: "t/a/more") == "10.0.1.7")
        let (offer, _) = try #require(answer(host, frame(.discover, mac("02:00:00:00:00:07")), at: "t/a/more"))
        #expect(offer.options[Option.hostName] == Array("printer".utf8))
    }

    @Test func `a machine that asks for an address gets it if it is free, and another one otherwise`() throws {
        let host = try Host(drawing("{ range: 10.0.1.100-10.0.1.149 }"))
        #expect(lease(host, mac("02:00:00:00:00:11"), at: "t/a/any", asks: "10.0.1.117") == "10.0.1.117")
        let other = lease(host, mac("02:00:00:00:00:12"), at: "t/a/any", asks: "10.0.1.117")
        #expect(other != nil && other != "10.0.1.117")
        #expect(lease(host, mac("02:00:00:00:00:13"), at: "t/a/any", asks: "10.0.1.11") != "10.0.1.11", "another's")
        #expect(lease(host, mac("02:00:00:00:00:14"), at: "t/a/any", asks: "10.0.1.1") != "10.0.1.1", "the router's")
    }

    @Test func `a lease is renewed by its machine alone, asked at the server or at all`() throws {
        let host = try Host(drawing(full))
        let (one, two) = (mac("02:00:00:00:00:11"), mac("02:00:00:00:00:12"))
        let own = try #require(lease(host, one, at: "t/a/any"))
        let server = (mac: mac("0e:00:00:00:aa:01"), address: "10.0.1.1")
        for to in [server, nil] {
            let (ack, key) = try #require(answer(host, frame(.request, one, has: own, to: to), at: "t/a/any"))
            #expect(ack.kind == .ack && "\(ack.yourAddress)" == own && "\(ack.clientAddress)" == own)
            #expect("\(key.ipDestination)" == own)
        }
        let (nak, key) = try #require(answer(host, frame(.request, two, has: own, to: server), at: "t/a/any"))
        #expect(nak.kind == .nak && nak.yourAddress.bits == 0 && key.etherDestination == .broadcast)
    }

    @Test func `a machine that comes from elsewhere is told that its address is none here; one that is known goes on`()
        throws
    {
        let host = try Host(drawing(full))
        let one = mac("02:00:00:00:00:11")
        func reboot(_ mac: MACAddress, _ had: String, at port: String = "t/a/any") -> DHCPMessage.Kind? {
            answer(host, frame(.request, mac, [Option.requestedAddress: bytes(had)]), at: port)?.message.kind
        }
        #expect(reboot(one, "192.168.7.7") == .nak)
        #expect(reboot(one, "10.0.1.11") == .nak, "another's")
        let own = try #require(lease(host, one, at: "t/a/any"))
        #expect(reboot(one, own) == .ack)
        #expect(reboot(mac("02:00:00:00:00:12"), own) == .nak)
        #expect(reboot(mac("0e:00:00:00:0a:01"), "10.0.1.11", at: "t/a/vm") == .ack)
        #expect(reboot(mac("0e:00:00:00:0a:01"), "10.0.1.100", at: "t/a/vm") == .nak)
    }

    @Test func `an address that is given back is free, and one that was found in use is given to nobody`() throws {
        let host = try Host(drawing("{ range: 10.0.1.100-10.0.1.101 }"))
        let (one, two) = (mac("02:00:00:00:00:11"), mac("02:00:00:00:00:12"))
        let first = try #require(lease(host, one, at: "t/a/any"))
        let second = try #require(lease(host, two, at: "t/a/any"))
        // By who does not have it nothing is given back.
        _ = host.carry(frame(.release, two, has: first), at: "t/a/any")
        #expect(lease(host, mac("02:00:00:00:00:13"), at: "t/a/any") == nil)
        _ = host.carry(frame(.release, one, has: first), at: "t/a/any")
        #expect(lease(host, mac("02:00:00:00:00:13"), at: "t/a/any") == first)
        _ = host.carry(frame(.decline, two, [Option.requestedAddress: bytes(second)]), at: "t/a/any")
        #expect(lease(host, two, at: "t/a/any") == nil)
        #expect(lease(host, mac("02:00:00:00:00:14"), at: "t/a/any") == nil)
    }

    @Test func `where the bridge answers for names no machine is put`() throws {
        let host = try Host(
            drawing("{ range: 10.0.1.100-10.0.1.101 }\n        dns: { server: 10.0.1.100 }"))
        #expect(lease(host, mac("02:00:00:00:00:11"), at: "t/a/any") == "10.0.1.101")
        #expect(lease(host, mac("02:00:00:00:00:12"), at: "t/a/any") == nil)
    }

    @Test func `who takes another server's offer is left alone, and who asks for the rest only gets no address`() throws
    {
        let host = try Host(drawing(full))
        let one = mac("02:00:00:00:00:11")
        let other = host.send(
            frame(.request, one, [Option.requestedAddress: bytes("10.0.1.100"), Option.server: bytes("10.0.1.99")]),
            at: "t/a/any")
        #expect(other.packets.isEmpty && other.learned.isEmpty)
        let (ack, _) = try #require(answer(host, frame(.inform, one, has: "10.0.1.40"), at: "t/a/any"))
        #expect(ack.kind == .ack && ack.yourAddress.bits == 0 && ack.options[Option.lease] == nil)
        #expect(ack.options[Option.nameServers] != nil)
    }

    @Test func `nobody asks in another's name, and a machine in security groups gets one address and relays nothing`()
        throws
    {
        let text = drawing("{ range: 10.0.1.100-10.0.1.109 }").replacing(
            "mac: \"0e:00:00:00:0a:03\" }", with: "mac: \"0e:00:00:00:0a:03\", security: [closed] }"
        ).replacing("chains:", with: "securityGroups: { closed: {} }\n    chains:")
        let host = try Host(text)
        let (own, other) = (mac("0e:00:00:00:0a:03"), mac("02:00:00:00:00:11"))
        var spoofed = frame(.discover, other)
        spoofed.replaceSubrange(6..<12, with: [0x02, 0, 0, 0, 0, 0x77])
        #expect(host.send(spoofed, at: "t/a/any").drop == .spoofedMAC)
        #expect(host.send(frame(.discover, other), at: "t/a/more").drop == .spoofedMAC)
        let relayed = frame(.discover, own, relay: "10.0.1.11")
        #expect(host.send(relayed, at: "t/a/more").packets.isEmpty)
        let first = try #require(lease(host, own, at: "t/a/more"))
        let (again, _) = try #require(answer(host, frame(.discover, own, [Option.client: [9, 9]]), at: "t/a/more"))
        #expect("\(again.yourAddress)" == first)
    }

    @Test func `a bridge that gives addresses from now on gives them where filters stopped all before`() throws {
        let before = try draw(drawing("false"))
        let after = try draw(drawing("true"))
        let stopped = Host(topology: before, state: TableState()).send(
            frame(.discover, mac("0e:00:00:00:0a:01")), at: "t/a/vm")
        #expect(stopped.drop == .filtered && stopped.isCacheable)
        let changed = TopologyDifference(from: before, to: after).tags(from: before, to: after)
        #expect(!changed.isDisjoint(with: stopped.tags), "the flow that stops it is decided again")
    }

    @Test func `one machine has one address, and blocks none that it was not given`() throws {
        let host = try Host(drawing("{ range: 10.0.1.100-10.0.1.109 }"))
        let one = mac("02:00:00:00:00:11")
        let own = try #require(lease(host, one, at: "t/a/any"))
        let other = own == "10.0.1.100" ? "10.0.1.101" : "10.0.1.100"
        let (nak, _) = try #require(
            answer(host, frame(.request, one, [Option.requestedAddress: bytes(other)]), at: "t/a/any"))
        #expect(nak.kind == .nak)
        _ = host.carry(frame(.decline, one, [Option.requestedAddress: bytes(other)]), at: "t/a/any")
        #expect(lease(host, mac("02:00:00:00:00:12"), at: "t/a/any", asks: other) == other)
    }

    @Test func `the router that only machines know keeps its address, and a disabled bridge gives none`() throws {
        func arp(_ host: Host, _ target: String, sender: String = "10.0.1.50") -> Carried? {
            let asker = mac("0e:00:00:00:0a:02")
            guard let from = address(sender).v4, let to = address(target).v4 else { return nil }
            let verdict = host.send(
                Frame.arp(operation: 1, sender: (asker, from), target: (.zero, to), etherDestination: .broadcast),
                at: "t/a/more")
            return host.answers(verdict).first
        }
        let text = drawing("{ range: 10.0.1.100-10.0.1.109, router: 10.0.1.254 }").replacing(
            "inbound: none", with: "enabled: true")
        let host = try Host(text)
        #expect(arp(host, "10.0.1.254") == nil)
        let own = try Host(text.replacing("router: 10.0.1.254", with: "server: 10.0.1.2, router: 10.0.1.254"))
        #expect(arp(own, "10.0.1.2") != nil && arp(own, "10.0.1.2", sender: "0.0.0.0") == nil)
        let off = try Host(
            drawing("true").replacing("inbound: none\n", with: "enabled: false\n").replacing(
                ", inbound: none", with: ""))
        #expect(off.send(frame(.discover, mac("02:00:00:00:00:11")), at: "t/a/any").drop == .bridgeDisabled)
    }

    @Test func `a relay's clients get addresses of its network, and what it said comes back`() throws {
        let host = try Host(drawing(full))
        let relayed = frame(
            .discover, mac("02:00:00:00:00:11"), [Option.relay: [1, 2, 3, 4]],
            to: (mac("0e:00:00:00:aa:01"), "10.0.1.1"), relay: "10.0.1.11")
        let (offer, key) = try #require(answer(host, relayed, at: "t/a/any"))
        #expect(offer.options[Option.relay] == [1, 2, 3, 4] && "\(offer.relay)" == "10.0.1.11")
        #expect("\(key.ipDestination)" == "10.0.1.11" && key.destinationPort == 67)
        // Of another network than the relay's own server address: that is what it is answered by.
        let far = try Host(
            drawing("[{ range: 10.0.1.100-10.0.1.109 }, { subnet: 10.0.9.0/24, range: 10.0.9.100-10.0.9.109 }]"))
        func relay(_ kind: DHCPMessage.Kind, _ options: [UInt8: [UInt8]] = [:]) throws -> (DHCPMessage, FlowKey) {
            try #require(
                answer(
                    far,
                    frame(
                        kind, mac("02:00:00:00:00:11"), options, to: (mac("0e:00:00:00:aa:01"), "10.0.1.1"),
                        relay: "10.0.9.1"), at: "t/a/any"))
        }
        let (given, from) = try relay(.discover, [Option.client: [7]])
        #expect("\(from.ipSource)" == "10.0.1.1" && given.options[Option.server] == bytes("10.0.1.1"))
        #expect("\(given.yourAddress)".hasPrefix("10.0.9.1") && given.options[Option.client] == [7])
        let wanted = bytes("\(given.yourAddress)")
        let asks: [UInt8: [UInt8]] = [
            Option.client: [7], Option.requestedAddress: wanted, Option.server: bytes("10.0.1.1"),
        ]
        #expect(try relay(.request, asks).0.kind == .ack)
        let (nak, _) = try relay(.request, [Option.requestedAddress: wanted])
        #expect(nak.kind == .nak && nak.isBroadcast)
    }

    @Test func `hosts give of their own share first, so that two that are asked at once give none twice`() throws {
        let two = "h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }"
        let text = drawing("{ range: 10.0.1.100-10.0.1.199 }", hosts: two)
        let here = try Host(text)
        let there = try Host(text.replacing("host: h1", with: "host: h2"), host: "h2")
        var given: [[String]] = [[], []]
        for number in 0..<30 {
            for (place, host) in [here, there].enumerated() {
                let address = lease(
                    host, MACAddress(bits: 0x0200_0000_0000 | UInt64(number * 2 + place)), at: "t/a/any")
                given[place].append(address ?? "none")
            }
        }
        #expect(Set(given[0]).isDisjoint(with: given[1]) && Set(given[0] + given[1]).count == 60)
    }

    @Test func `what asks for no address goes its way in flows that are as wide as before`() throws {
        let plain = try Host(drawing("false").replacing("inbound: none", with: "enabled: true"))
        let giving = try Host(drawing(full).replacing("inbound: none", with: "enabled: true"))
        let cast = Frame.udp(
            etherSource: mac("0e:00:00:00:0a:01"), etherDestination: mac("0e:00:00:00:0a:02"),
            source: address("10.0.1.11"),
            destination: address("10.0.1.12"), sourcePort: 68, destinationPort: 67, data: [1])
        #expect(plain.send(cast, at: "t/a/vm").mask == giving.send(cast, at: "t/a/vm").mask)
        let routed = Frame.udp(
            etherSource: mac("0e:00:00:00:0a:01"), etherDestination: mac("0e:00:00:00:aa:01"),
            source: address("10.0.1.11"),
            destination: address("198.51.100.7"), sourcePort: 68, destinationPort: 67, data: [1])
        let mask = giving.send(routed, at: "t/a/vm").mask
        #expect(!mask.includes(.destinationPort))
    }

    @Test func `whatever bytes come, nothing traps, and nothing but a message is answered`() throws {
        let host = try Host(drawing(full))
        var random = SeededRandom(seed: SeededRandom.seed)
        let good = frame(
            .discover, mac("02:00:00:00:00:11"), [Option.client: [1, 2, 3], Option.wanted: [1, 3, 6, 15, 121]])
        for _ in 0..<4000 {
            var bad = good
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                bad[Int.random(in: 42..<bad.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) { bad.removeLast(Int.random(in: 0...bad.count - 42, using: &random)) }
            let verdict = host.send(bad, at: "t/a/any")
            for packet in verdict.packets {
                let message = try #require(DHCPMessage(Array(packet.frame[42...])), "seed \(SeededRandom.seed)")
                #expect(!message.isRequest)
            }
        }
    }
}
