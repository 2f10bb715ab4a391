// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Names that bridges answer for.
@Suite struct NameTests {
    private typealias RecordType = DNSQuery.RecordType

    private func host(_ dns: String = "true", extra: String = "") throws -> Host {
        try Host(
            """
            tunnel: vxlan
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              acme:
                chains: { none: [{ action: drop }] }
                securityGroups: { closed: { out: [] } }
                bridges:
                  office:
                    subnet: [10.0.1.0/24, "fd00:1::/64"]
                    dns: \(dns)
                    dhcp: { range: 10.0.1.100-10.0.1.109, hosts: ["02:00:00:00:00:07 10.0.1.7 Printer"] }
                    ports:
                      desk: { host: h1, interface: desk, address: [10.0.1.11/24, "fd00:1::11/64"] }
                      phone: { host: h1, interface: phone, mac: "0e:00:00:00:00:02", inbound: none, outbound: none }
                      guarded: { host: h1, interface: guarded, mac: "0e:00:00:00:00:03", security: closed }
                      web: { address: 10.0.1.12/24 }
                  servers: { subnet: 10.0.2.0/24, ports: { web: { address: 10.0.2.21/24 }, "db.one": { address: 10.0.2.22/24 } } }
                  lonely: { subnet: [10.0.3.0/24, "fd00:3::/64"], dns: { server: [10.0.3.1, "fd00:3::1"] }, ports: { one: { host: h1, interface: one, mac: "0e:00:00:00:00:04" } } }
                  unknown: { subnet: 10.0.4.0/24, dns: true, ports: { One: { host: h1, interface: two, address: 10.0.4.7/24, mac: "0e:00:00:00:00:05" } } }
                  Taken: { subnet: 10.0.5.0/24, dns: { server: 10.0.5.1 }, ports: { Box: { address: 10.0.5.1/24 }, one: { host: h1, interface: three, mac: "0e:00:00:00:00:06" } } }
                routers:
                  gw: { links: [{ bridge: office }, { bridge: servers }] }
              other: { bridges: { b: { subnet: 10.0.9.0/24, ports: { secret: { address: 10.0.9.9/24 } } } } }
            """)
    }

    private func ask(
        _ host: Host, _ name: String, _ type: UInt16 = 1, at port: String = "acme/office/desk",
        to server: String = "10.0.1.1",
        mac: MACAddress? = nil
    ) throws -> (verdict: Verdict, reply: [UInt8]?) {
        let query = DNSQuery(id: 0x4242, name, type: type)
        let isV4 = address(server).family == .ipv4
        let verdict = host.send(
            Frame.udp(
                etherSource: host.mac(port), etherDestination: mac ?? host.mac("acme/gw/office"),
                source: address(isV4 ? "10.0.1.11" : "fd00:1::11"), destination: address(server), sourcePort: 5353,
                destinationPort: 53, data: query.encoded()), at: port)
        guard let out = host.answers(verdict).first else { return (verdict, nil) }
        #expect(out.place == port && checksumFaults(out.frame) == [] && out.key.destinationPort == 5353)
        #expect(out.key.ipSource == address(server))
        let bytes = Array(out.frame[(isV4 ? 42 : 62)...])
        #expect(DNSReply(bytes, to: query) != nil)
        return (verdict, bytes)
    }

    /// What an answer says: its code, or its data.
    private func said(_ host: Host, _ name: String, _ type: UInt16 = 1) throws -> String {
        let reply = try #require(try ask(host, name, type).reply)
        if reply[3] & 0xf != 0 { return "code \(reply[3] & 0xf)" }
        var at = 12
        while reply[at] != 0 { at += Int(reply[at]) + 1 }
        at += 5
        var words: [String] = []
        for _ in 0..<Int(reply[7]) {
            // The name: a reference, or labels.
            while reply[at] != 0, reply[at] < 0xc0 { at += Int(reply[at]) + 1 }
            if reply[at] == 0 { at -= 1 }
            let kind = UInt16(reply[at + 2]) << 8 | UInt16(reply[at + 3])
            let data = Array(reply[(at + 12)..<(at + 12 + Int(reply[at + 11]))])
            switch kind {
            case RecordType.a: words.append(data.map { "\($0)" }.joined(separator: "."))
            case RecordType.aaaa:
                let halves = [0, 8].map { start in data[start..<start + 8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) } }
                words.append(IPAddress(high: halves[0], low: halves[1], family: .ipv6).description)
            case RecordType.ptr:
                var (place, labels) = (0, [String]())
                while data[place] != 0 {
                    labels.append(String(decoding: data[(place + 1)...(place + Int(data[place]))], as: UTF8.self))
                    place += Int(data[place]) + 1
                }
                words.append(labels.joined(separator: "."))
            default: words.append("type \(kind)")
            }
            at += 12 + data.count
        }
        return words.joined(separator: " ")
    }

    @Test func `ports are known by name and bridge, and by name alone where that says which`() throws {
        let host = try host()
        #expect(try said(host, "desk.office.acme.internal") == "10.0.1.11")
        #expect(try said(host, "DESK.Office.acme.internal", RecordType.aaaa) == "fd00:1::11")
        #expect(try said(host, "desk.office.acme.internal", RecordType.any) == "10.0.1.11 fd00:1::11")
        #expect(try said(host, "db.one.servers.acme.internal") == "10.0.2.22")
        #expect(try said(host, "db.one.acme.internal") == "10.0.2.22")
        // One's own network first.
        #expect(try said(host, "web.acme.internal") == "10.0.1.12")
        #expect(try said(host, "web.servers.acme.internal") == "10.0.2.21")
        // Names are the same in small letters and in capitals.
        #expect(try said(host, "one.unknown.acme.internal") == "10.0.4.7")
        #expect(try said(host, "BOX.taken.acme.internal") == "10.0.5.1")
        #expect(try said(host, "box.acme.internal") == "10.0.5.1")
        // A router by its link, and a machine that DHCP names.
        #expect(try said(host, "gw.servers.acme.internal") == "10.0.2.1")
        #expect(try said(host, "printer.office.acme.internal") == "10.0.1.7")
    }

    @Test func `what there is not is said not to be, for a moment`() throws {
        let host = try host()
        for name in ["nobody.office.acme.internal", "desk.nowhere.acme.internal", "secret.b.acme.internal"] {
            #expect(try said(host, name) == "code 3")
        }
        // A name that has no record of the type is one all the same.
        #expect(try said(host, "web.servers.acme.internal", RecordType.aaaa) == "")
        #expect(try said(host, "desk.office.acme.internal", 15) == "")
        #expect(try said(host, "acme.internal", RecordType.soa) == "type 6")
        // Others' names, and what nobody is to be asked.
        #expect(try said(host, "secret.b.other.internal") == "code 5" && said(host, "www.example.com") == "code 5")
    }

    @Test func `addresses have names`() throws {
        let host = try host()
        func name(_ text: String) throws -> String { try said(host, DNSQuery.reverse(address(text)), RecordType.ptr) }
        #expect(try name("10.0.1.11") == "desk.office.acme.internal")
        #expect(try name("fd00:1::11") == "desk.office.acme.internal")
        #expect(try name("10.0.2.22") == "db.one.servers.acme.internal")
        #expect(try name("10.0.2.1").hasSuffix(".servers.acme.internal"))
        #expect(try name("10.0.1.7") == "printer.office.acme.internal")
        #expect(try name("10.0.9.9") == "code 3" && name("10.0.1.250") == "code 3")
    }

    @Test func `a machine that leased its address has its port's name`() throws {
        let host = try host()
        let path = try #require(DevicePath("acme/office"))
        host.state.learn(
            .lease(
                address("10.0.1.105"), bridge: .bridge(path), port: .port(try #require(PortPath("acme/office/phone"))),
                Lease(client: 5, seconds: 100)))
        #expect(try said(host, "phone.office.acme.internal") == "10.0.1.105")
        #expect(try said(host, DNSQuery.reverse(address("10.0.1.105")), RecordType.ptr) == "phone.office.acme.internal")
    }

    @Test func `others are asked for all other names, and for addresses that are not private`() throws {
        let host = try host("{ domain: corp.example, forward: [9.9.9.9, 149.112.112.112] }")
        #expect(try said(host, "desk.office.corp.example") == "10.0.1.11" && said(host, "x.corp.example") == "code 3")
        for (name, type) in [("www.example.com", UInt16(1)), (DNSQuery.reverse(address("203.0.113.9")), 12)] {
            let asked = try ask(host, name, type)
            let question = try #require(asked.verdict.question)
            #expect(asked.reply == nil && question.query.name == name && question.resolvers.count == 2)
            // The answer goes to who asked.
            let back = question.frame(question.query.answer(code: .failure))
            var layout = PacketLayout()
            let key = back.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
            #expect(key.ipSource == address("10.0.1.1") && key.ipDestination == address("10.0.1.11"))
            #expect(
                key.sourcePort == 53 && key.destinationPort == 5353 && key.etherSource == host.mac("acme/gw/office"))
        }
        #expect(try said(host, DNSQuery.reverse(address("192.168.7.7")), RecordType.ptr) == "code 3")
    }

    @Test func `no filter stands between a machine and its names`() throws {
        let host = try host()
        for port in ["acme/office/phone", "acme/office/guarded"] {
            #expect(try ask(host, "desk.office.acme.internal", at: port).reply != nil)
        }
    }

    @Test func `where no router is, an address is asked that is said, and the bridge says that it has it`() throws {
        let host = try host()
        let arp = host.send(
            Frame.arp(
                operation: 1, sender: (host.mac("acme/lonely/one"), try #require(address("10.0.3.9").v4)),
                target: (.zero, try #require(address("10.0.3.1").v4)), etherDestination: .broadcast),
            at: "acme/lonely/one")
        let mac = try #require(host.answers(arp).first).key.etherSource
        let reply = try ask(host, "desk.office.acme.internal", at: "acme/lonely/one", to: "10.0.3.1", mac: mac).reply
        #expect(reply != nil)
        let solicitation = host.send(
            Frame.neighborSolicitation(
                from: host.mac("acme/lonely/one"), source: try #require(address("fd00:3::9").v6),
                target: try #require(address("fd00:3::1").v6)), at: "acme/lonely/one")
        #expect(host.answers(solicitation).first?.key.etherSource == mac)
        #expect(
            try ask(host, "desk.office.acme.internal", at: "acme/lonely/one", to: "fd00:3::1", mac: mac).reply != nil)
        // Where neither is known, or somebody has that address, it is not the bridge's to answer there.
        for (port, asked) in [("acme/unknown/One", "10.0.4.1"), ("acme/Taken/one", "10.0.5.1")] {
            let arp = host.send(
                Frame.arp(
                    operation: 1, sender: (host.mac(port), try #require(address("10.0.4.9").v4)),
                    target: (.zero, try #require(address(asked).v4)), etherDestination: .broadcast), at: port)
            if let answer = host.answers(arp).first {
                #expect(answer.key.etherSource == host.mac("acme/Taken/Box"))
                #expect(try ask(host, "a", at: port, to: asked, mac: host.mac("acme/Taken/Box")).reply == nil)
            }
        }
        // Other addresses and ports are not the bridge's.
        #expect(
            host.send(
                Frame.udp(
                    etherSource: host.mac("acme/office/desk"), etherDestination: host.mac("acme/gw/office"),
                    source: address("10.0.1.11"),
                    destination: address("10.0.2.21"), sourcePort: 1, destinationPort: 53,
                    data: DNSQuery(id: 1, "a", type: 1).encoded()),
                at: "acme/office/desk"
            ).drop != .consumed)
    }

    @Test func `machines are told whom to ask`() throws {
        let host = try host()
        let program = DHCPMessage(.discover, isRequest: true, transaction: 1, mac: host.mac("acme/office/desk"))
        let offer = host.send(
            Frame.udp(
                etherSource: host.mac("acme/office/desk"), etherDestination: .broadcast, source: address("0.0.0.0"),
                destination: address("255.255.255.255"), sourcePort: 68, destinationPort: 67, data: program.encoded([])),
            at: "acme/office/desk")
        let message = try #require(host.answers(offer).first.flatMap { DHCPMessage(Array($0.frame[42...])) })
        #expect(message.options[DHCPMessage.Option.nameServers] == [10, 0, 1, 1])
        #expect(message.options[DHCPMessage.Option.domain] == Array("acme.internal".utf8))
    }

    @Test func `mistakes are told`() {
        for (said, word) in [
            ("{ domain: \"a..b\" }", "domain"), ("{ forward: [nobody] }", "forward"),
            ("{ forward: [224.0.0.1] }", "forwards to"),
            ("{ ttl: 900000 }", "ttl"), ("{ size: 5 }", "size"),
        ] {
            var told = ""
            do { _ = try host(said) } catch { told = "\(error)" }
            #expect(told.contains(word), "\(said): \(told)")
        }
    }
}
