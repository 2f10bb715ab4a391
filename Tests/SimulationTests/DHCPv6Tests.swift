// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// IPv6 addresses that a bridge gives to machines that ask.
@Suite struct DHCPv6Tests {
    private typealias Option = DHCPv6Message.Option

    private func drawing(_ dhcp: String, hosts: String = "h1: { address: 192.0.2.1 }", groups: String = "") -> String {
        """
        tunnel: vxlan
        hosts: { \(hosts) }
        tenants:
          t:
            chains: { none: [{ action: drop }] }
            securityGroups: { web: {} }
            bridges:
              a:
                subnet: "fd00:1::/64"
                inbound: none
                ra: true
                dhcp: \(dhcp)
                ports:
                  vm: { host: h1, interface: vm, mac: "0e:00:00:00:0a:01", address: "fd00:1::11/64", inbound: none }
                  any: { host: h1, interface: any, mac: "0e:00:00:00:0a:02", inbound: none \(groups) }
                  more: { host: h1, interface: more, mac: "0e:00:00:00:0a:03" }
            routers:
              gw: { links: [{ bridge: a, mac: "0e:00:00:00:aa:01" }] }
        """
    }

    private let full = """
        { range: ["fd00:1::100-fd00:1::101", "fd00:1::200"], dns: ["fd00:1::53"], domain: example.org, search: [b.example.org],
          ntp: ["fd00:1::123"], lease: 7200, bootFile: "tftp://[fd00:1::69]/x", hosts: ["02:00:00:00:00:07 fd00:1::7"] }
        """

    private func host(_ dhcp: String, groups: String = "") throws -> Host {
        Host(topology: try draw(drawing(dhcp, groups: groups)), state: TableState())
    }

    private func name(_ number: UInt8) -> [UInt8] { [0, 2, 0, 0, 0, number] }

    private func message(
        _ kind: DHCPv6Message.Kind, _ client: UInt8, _ associations: [DHCPv6Message.Association] = [],
        server: [UInt8]? = nil, _ options: [UInt16: [UInt8]] = [:]
    ) -> DHCPv6Message {
        var message = DHCPv6Message(kind, transaction: 0xabcdef)
        message.options = options
        message.options[Option.client] = name(client)
        message.options[Option.server] = server
        message.associations = associations
        return message
    }

    private func association(_ id: UInt32, _ addresses: String...) -> DHCPv6Message.Association {
        var one = DHCPv6Message.Association(id: id)
        one.addresses = addresses.compactMap { address($0).v6.map { ($0, 0) } }
        return one
    }

    private func send(_ host: Host, _ bytes: [UInt8], at port: String) -> Verdict {
        let mac = host.mac(port)
        return host.send(
            Frame.udp(
                etherSource: mac, etherDestination: .multicast(for: DHCPv6Message.servers),
                source: IPAddress(.linkLocal(for: mac)), destination: IPAddress(DHCPv6Message.servers), sourcePort: 546,
                destinationPort: 547, data: bytes), at: port)
    }

    /// The answer to a message.
    private func answer(_ host: Host, _ message: DHCPv6Message, at port: String) -> DHCPv6Message? {
        let verdict = send(host, message.encoded(), at: port)
        for learned in verdict.learned { host.state.learn(learned) }
        #expect(!verdict.isCacheable && verdict.outputs.isEmpty)
        guard let carried = host.answers(verdict).first else { return nil }
        #expect(carried.place == port && checksumFaults(carried.frame) == [])
        #expect(
            carried.key.destinationPort == 546
                && carried.key.ipDestination == IPAddress(.linkLocal(for: host.mac(port))))
        let read = DHCPv6Message(Array(carried.frame[62...]))
        #expect(read?.transaction == 0xabcdef && read?.options[Option.client] == message.options[Option.client])
        return read
    }

    private func given(_ answer: DHCPv6Message?) -> [String] {
        (answer?.associations ?? []).flatMap(\.addresses).map { "\(IPAddress($0.address)) \($0.seconds)" }
    }

    /// Asks for an address and takes it, as a machine does.
    private func lease(_ host: Host, _ client: UInt8, at port: String, id: UInt32 = 1) -> String? {
        guard let offer = answer(host, message(.solicit, client, [.init(id: id)]), at: port),
            offer.kind == .advertise, let one = offer.associations.first, !one.addresses.isEmpty
        else { return nil }
        let reply = answer(
            host, message(.request, client, [one], server: offer.options[Option.server]), at: port)
        #expect(reply?.kind == .reply && reply?.associations == offer.associations)
        return one.addresses.first.map { IPAddress($0.address).description }
    }

    @Test func `a machine gets its port's address, one that is named its own, any other one of the ranges`() throws {
        let host = try host(full)
        #expect(lease(host, 1, at: "t/a/vm") == "fd00:1::11")
        let range = ["fd00:1::100", "fd00:1::101", "fd00:1::200"]
        let other = try #require(lease(host, 2, at: "t/a/any"))
        #expect(range.contains(other) && lease(host, 2, at: "t/a/more") == other)
        // Another association is another address; when all are given there is none.
        let second = try #require(lease(host, 2, at: "t/a/any", id: 2))
        let third = try #require(lease(host, 3, at: "t/a/any"))
        #expect(Set([other, second, third]) == Set(range))
        let none = answer(host, message(.solicit, 4, [.init(id: 1)]), at: "t/a/more")
        #expect(none?.kind == .advertise && none?.associations.first?.status == .noAddresses && given(none) == [])
    }

    @Test func `everybody is told what is said of the network`() throws {
        let host = try host(full)
        let told = try #require(answer(host, message(.informationRequest, 9), at: "t/a/any"))
        #expect(told.kind == .reply && told.options[Option.nameServers]?.count == 16)
        #expect(told.options[Option.timeServers]?.count == 16 && told.options[Option.refresh] == [0, 0, 14, 16])
        #expect(told.options[Option.bootFile] == Array("tftp://[fd00:1::69]/x".utf8))
        let names = told.options[Option.search] ?? []
        let labels = ["example", "org", "", "b", "example", "org", ""]
        #expect(names == labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) })
        // Without its name.
        var silent = message(.informationRequest, 9)
        silent.options[Option.client] = nil
        #expect(answer(host, silent, at: "t/a/any")?.kind == .reply)
    }

    @Test func `two messages are enough where the client says so`() throws {
        let host = try host(full)
        let reply = answer(host, message(.solicit, 5, [.init(id: 7)], [Option.rapidCommit: []]), at: "t/a/any")
        #expect(reply?.kind == .reply && reply?.options[Option.rapidCommit] == [])
        let own = try #require(reply?.associations.first?.addresses.first?.address)
        #expect(reply?.associations.first?.addresses.first?.seconds == 7200)
        #expect(host.state.lease(of: IPAddress(own), bridge: .bridge(try #require(DevicePath("t/a")))) != nil)
    }

    @Test func `leases are renewed, released and declined, and what is not of the link is told to be given up`() throws
    {
        let host = try host("{ range: \"fd00:1::100-fd00:1::100\" }")
        let server = try #require(
            answer(host, message(.solicit, 1, [.init(id: 1)]), at: "t/a/any")?.options[Option.server])
        #expect(lease(host, 1, at: "t/a/any") == "fd00:1::100")
        let own = association(1, "fd00:1::100")
        #expect(given(answer(host, message(.renew, 1, [own], server: server), at: "t/a/any")) == ["fd00:1::100 3600"])
        #expect(given(answer(host, message(.rebind, 1, [own]), at: "t/a/more")) == ["fd00:1::100 3600"])
        // Another's, and one of another network.
        let other = answer(host, message(.renew, 2, [own], server: server), at: "t/a/more")
        #expect(other?.associations.first?.status == .noAddresses)
        let moved = answer(host, message(.rebind, 1, [association(1, "fd00:9::5")]), at: "t/a/any")
        #expect(given(moved) == ["fd00:1::100 3600", "fd00:9::5 0"])
        for (text, status) in [("fd00:1::100", UInt8(0)), ("fd00:9::5", 4)] {
            let here = answer(host, message(.confirm, 1, [association(1, text)]), at: "t/a/any")
            #expect(here?.options[Option.status] == [0, status])
        }
        // Nobody else gives it back.
        _ = answer(host, message(.release, 2, [own], server: server), at: "t/a/more")
        #expect(lease(host, 2, at: "t/a/more") == nil)
        #expect(
            answer(host, message(.release, 1, [own], server: server), at: "t/a/any")?.options[Option.status] == [0, 0])
        #expect(lease(host, 2, at: "t/a/more") == "fd00:1::100")
        _ = answer(host, message(.decline, 2, [own], server: server), at: "t/a/more")
        #expect(lease(host, 2, at: "t/a/more") == nil && lease(host, 1, at: "t/a/any") == nil)
    }

    @Test func `a machine in security groups has one address, whatever it calls itself`() throws {
        let host = try host(full, groups: ", security: [web]")
        let own = try #require(lease(host, 1, at: "t/a/any"))
        #expect(lease(host, 2, at: "t/a/any") == own && lease(host, 3, at: "t/a/any", id: 9) == own)
        let two = answer(host, message(.solicit, 1, [.init(id: 1), .init(id: 2)]), at: "t/a/any")
        #expect(given(two).count == 1 && two?.associations.last?.status == .noAddresses)
    }

    @Test func `messages for other servers, of servers and without a client are not answered`() throws {
        let host = try host(full)
        let server: [UInt8] = [0, 3, 0, 1, 2, 2, 2, 2, 2, 2]
        #expect(answer(host, message(.request, 1, [.init(id: 1)], server: server), at: "t/a/any") == nil)
        #expect(answer(host, message(.solicit, 1, [.init(id: 1)], server: server), at: "t/a/any") == nil)
        #expect(answer(host, message(.renew, 1, [.init(id: 1)]), at: "t/a/any") == nil)
        #expect(answer(host, message(.reply, 1, [.init(id: 1)], server: server), at: "t/a/any") == nil)
        var nameless = message(.solicit, 1, [.init(id: 1)])
        nameless.options[Option.client] = nil
        #expect(answer(host, nameless, at: "t/a/any") == nil)
        #expect(send(host, [1, 2], at: "t/a/any").drop == .malformed)
    }

    @Test func `networks are not delegated, and the client is told so`() throws {
        let host = try host(full)
        var wish = message(.solicit, 1)
        wish.delegations = [3]
        let reply = try #require(answer(host, wish, at: "t/a/any"))
        #expect(reply.delegations == [3])
        #expect(reply.encoded().suffix(22) == [0, 25, 0, 18, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 0, 2, 0, 6])
    }

    @Test func `router advertisements tell how to get an address, and to make none where some are given`() throws {
        func told(_ dhcp: String) throws -> (flags: UInt8, prefix: UInt8?) {
            let host = try host(dhcp)
            let out = host.send(
                Frame.icmp(
                    etherSource: host.mac("t/a/any"), etherDestination: .multicast(for: .allRouters),
                    source: address("fe80::1"), destination: IPAddress(IPv6Address.allRouters),
                    type: ICMPv6.routerSolicitation, code: 0, data: [], ttl: 255), at: "t/a/any")
            let frame = try #require(host.answers(out).first?.frame)
            var at = 14 + 40 + 16
            while at < frame.count, frame[at] != 3 { at += Int(frame[at + 1]) * 8 }
            return (frame[59], at < frame.count ? frame[at + 3] : nil)
        }
        let managed = try told(full)
        #expect(managed.flags == 0xc0 && managed.prefix == 0x80)
        let stateless = try told("{ stateless: true, dns: [\"fd00:1::53\"] }")
        #expect(stateless.flags == 0x40 && stateless.prefix == 0xc0)
        let none = try told("{ subnet: 10.0.1.0/24 }")
        #expect(none.flags == 0 && none.prefix == 0xc0)
    }

    @Test func `a network that gives no addresses answers the rest`() throws {
        let host = try host("{ stateless: true, dns: [\"fd00:1::53\"] }")
        #expect(answer(host, message(.informationRequest, 1), at: "t/a/vm")?.options[Option.nameServers]?.count == 16)
        #expect(
            answer(host, message(.solicit, 1, [.init(id: 1)]), at: "t/a/vm")?.associations.first?.status == .noAddresses
        )
    }

    @Test func `what DHCPv6 does not tell is refused, with the way it is told`() throws {
        for (said, word) in [
            ("{ router: \"fd00:1::1\" }", "router"), ("{ mtu: 1400 }", "mtu"), ("{ server: \"fd00:1::2\" }", "server"),
            ("{ dns: [9.9.9.9] }", "no IPv6 address"),
            ("{ range: \"fd00:2::1-fd00:2::5\" }", "no address of the network"),
            ("{ range: \"fd00:1::9-fd00:1::5\" }", "ends before"),
            ("{ range: \"fd00:1::1-fd00:1::ff:ffff\" }", "to give"),
            ("{ stateless: true, range: \"fd00:1::5\" }", "stateless"), ("{ options: [\"23 0x00\"] }", "option 23"),
            ("{ subnet: 10.0.1.0/24, stateless: true }", "IPv4"),
        ] {
            var told = ""
            do { _ = try draw(drawing(said)) } catch { told = "\(error)" }
            #expect(told.contains(word), "\(said): \(told)")
        }
    }

    @Test func `noise is no message, and never a trap`() throws {
        var random = SeededRandom(seed: SeededRandom.seed)
        let host = try host(full)
        let base = message(.request, 1, [association(1, "fd00:1::100"), association(2)]).encoded()
        for _ in 0..<3000 {
            var bytes = base
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
            if let read = DHCPv6Message(bytes) {
                #expect(DHCPv6Message(read.encoded()) != nil, "seed \(SeededRandom.seed)")
            }
            _ = send(host, bytes, at: "t/a/any")
        }
    }
}
