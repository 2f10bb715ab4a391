// SPDX-License-Identifier: Apache-2.0
import Manifest
import Testing
import Topology
import Wire

@Suite struct PolicyManifestTests {
    private func manifest(_ tenant: String) -> String {
        """
        tenants:
          t:
        \(tenant.split(separator: "\n").map { "    " + $0 }.joined(separator: "\n"))
            bridges: { b: { ports: [vm] } }
        """
    }

    private func mistakes(_ tenant: String) -> String {
        do {
            _ = try ManifestReader.read(manifest(tenant), file: "m")
            return "none"
        } catch { return "\(error)" }
    }

    @Test func `a rule says in a manifest what it says everywhere`() throws {
        let topology = try ManifestReader.read(
            manifest(
                """
                addressGroups: { offices: [198.51.100.0/28, "2001:db8::7"] }
                portGroups: [web, { name: uplinks, stateful: true }]
                chains:
                  inner: []
                  web:
                    - { id: ssh, protocol: tcp, destinationPort: [22, 2200-2299], sourceGroup: offices, state: new, action: accept }
                    - { notSource: 10.0.0.0/8, tcpFlags: "syn,!ack", protocol: tcp, action: jump inner }
                    - { inverted: true, icmp: 3/4, protocol: icmp, action: drop }
                """), file: "m"
        ).topology
        let chain = try #require(topology.chain("web", of: "t"))
        #expect(
            chain.rules.map(\.description) == [
                "accept protocol tcp, sourceGroup offices, destinationPort 22 2200-2299, state new",
                "jump inner protocol tcp, notSource 10.0.0.0/8, tcpFlags syn,!ack",
                "drop protocol icmp, icmp 3/4, inverted true",
            ])
        #expect(chain.rules.map(\.id) == ["ssh", "2", "3"])
        #expect(topology.addressGroups[.init(tenant: "t", name: "offices")]?.members.count == 2)
    }

    @Test func `what can't be read is told by its place, all at once`() {
        let text = mistakes(
            """
            chains:
              web:
                - { protocol: tpc, action: accept }
                - { source: 10.0.0.1/8, action: accept }
                - { destinationPort: 70000, protocol: tcp, action: accept }
                - { sourcePrt: 22, action: accept }
                - { action: allow }
                - { notState: new, action: accept }
                - { id: "a b", action: accept }
                - { source: 10.0.0.0/8 }
            """)
        for part in [
            "rule 1: protocol is \"tpc\"", "rule 2: source is \"10.0.0.1/8\"", "write 10.0.0.0/8",
            "rule 3: destinationPort is \"70000\"", "sourcePrt", "did you mean sourcePort", "action is \"allow\"",
            "notState", "rule 8: has no action",
        ] { #expect(text.contains(part), "no word of \(part) in \(text)") }
    }

    @Test func `rules that can't work are refused together, by name, with a remedy`() {
        let text = mistakes(
            """
            addressGroups: { g: [10.0.0.1] }
            chains:
              a:
                - { protocol: tcp, destinationPort: 90-80, action: accept }
                - { destinationPort: 80, action: accept }
                - { sourceGroup: nobody, action: drop }
                - { source: 10.0.0.0/8, destination: "fd00::/8", action: drop }
                - { icmp: 8, action: drop }
                - { protocol: udp, tcpFlags: syn, action: drop }
                - { inPortGroup: nobody, action: drop }
                - { action: jump nowhere }
                - { vlan: 5000, action: drop }
                - { protocol: tcp, destinationPort: 22, fragment: nonheader, action: drop }
              b: [{ action: jump c }]
              c: [{ action: jump d }]
              d: [{ action: jump b }]
            """)
        for part in [
            "chain t/a rule 1: range 90-80 ends before it begins", "write 80-90",
            "rule 2: asks for ports without a protocol", "address group nobody does not exist",
            "rule 4: source and destination are of different families", "rule 5: asks for an ICMP type",
            "rule 6: asks for TCP flags", "port group nobody does not exist", "chain nowhere does not exist",
            "VLAN 5000 does not exist", "rule 10: asks for ports, types or flags of fragments that have none",
            "chain t/b: jumps back to itself: b -> c -> d -> b",
        ] { #expect(text.contains(part), "no word of \(part) in \(text)") }
    }

    private func router(_ text: String) -> String {
        """
        tenants:
          t:
            bridges: { a: { subnet: 10.0.1.0/24, ports: [vm] }, out: { ports: [up] } }
            routers:
              gw:
                links: [{ bridge: a }, { bridge: out, address: 203.0.113.1/24 }]
        \(text.split(separator: "\n").map { "        " + $0 }.joined(separator: "\n"))
        """
    }

    @Test func `what a router translates says a manifest, and writes it as it was`() throws {
        let topology = try ManifestReader.read(
            router(
                """
                nat:
                  - { id: web, protocol: tcp, destination: 203.0.113.10, destinationPort: 80, action: dnat 10.0.1.11 port 8080 }
                  - { source: 10.0.1.0/24, outPort: gw/out, action: snat 203.0.113.5-203.0.113.6 port 2000-2999 }
                  - { action: masquerade port 1024-2047 }
                  - { action: "snat 2001:db8::5", source: "fd00::/8" }
                floating:
                  203.0.113.20: 10.0.1.12
                  198.51.100.7: { target: 10.0.1.13, port: out }
                """), file: "m"
        ).topology
        let translation = try #require(topology.routers[DevicePath(tenant: "t", name: "gw")]?.translation)
        #expect(
            translation.rules.map(\.description) == [
                "dnat 10.0.1.11 port 8080 protocol tcp, destination 203.0.113.10/32, destinationPort 80",
                "snat 203.0.113.5-203.0.113.6 port 2000-2999 outPort gw/out, source 10.0.1.0/24",
                "masquerade port 1024-2047", "snat 2001:db8::5 source fd00::/8",
            ])
        #expect(translation.rules.map(\.id) == ["web", "2", "3", "4"])
        #expect(
            translation.floating.map(\.description) == [
                "198.51.100.7 -> 10.0.1.13 behind out", "203.0.113.20 -> 10.0.1.12",
            ])
        let again = try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology
        #expect(again == topology)
    }

    @Test func `translations that can't work are refused together, by name, with a remedy`() {
        let text: String
        do {
            _ = try ManifestReader.read(
                router(
                    """
                    nat:
                      - { id: back, action: snat 203.0.113.6-203.0.113.5 }
                      - { id: family, source: 10.0.0.0/8, action: "snat 2001:db8::5" }
                      - { id: ports, action: dnat 10.0.1.11 port 80 }
                      - { id: where, outPort: gw/out, action: dnat 10.0.1.11 }
                      - { id: state, state: new, action: masquerade }
                      - { id: many, action: snat 203.0.0.0-203.0.9.0 }
                      - { id: range, action: masquerade port 90-80 }
                      - { id: group, sourceGroup: nobody, action: masquerade }
                      - { id: group, action: accept }
                    floating:
                      203.0.113.1: 10.0.1.12
                      198.51.100.7: 10.0.1.13
                      203.0.113.21: "fd00::1"
                      203.0.113.22: { target: 10.0.1.14, port: nowhere }
                    """), file: "m")
            text = "none"
        } catch { text = "\(error)" }
        for part in [
            "t/gw nat rule back: range 203.0.113.6-203.0.113.5 ends before it begins",
            "rule family: translates IPv4 to IPv6", "rule ports: translates ports without a protocol",
            "rule where: asks where a packet leaves", "rule state: asks for state",
            "rule many: has more than 256 addresses",
            "rule range: range 90-80 ends before it begins", "address group nobody does not exist",
            "rule group: is there twice", "t/gw floating address 203.0.113.1: is the router's own",
            "198.51.100.7: is in no network of the router", "203.0.113.21: stands for fd00::1, of the other family",
            "port nowhere does not exist",
        ] { #expect(text.contains(part), "no word of \(part) in \(text)") }
    }

    @Test func `pools and the addresses in front of them say a manifest, and are written as they were`() throws {
        let text = """
            tenants:
              t:
                pools:
                  web:
                    algorithm: maglev
                    persistence: 300
                    members:
                      - 10.0.1.11
                      - { address: 10.0.1.12, port: 8080, weight: 3, state: drain }
                      - { address: "fd00::1", state: down }
                  none: {}
                bridges: { out: { ports: [up] } }
                routers:
                  gw:
                    links: [{ bridge: out, address: 203.0.113.1/24 }]
                    vips:
                      - { id: web, address: 203.0.113.10, port: [80, 8000-8009], pool: web }
                      - { address: 203.0.113.10, protocol: udp, port: 53, pool: none }
            """
        let topology = try ManifestReader.read(text, file: "m").topology
        let pool = try #require(topology.pools[DevicePath(tenant: "t", name: "web")])
        #expect(pool.algorithm == .maglev && pool.persistence == 300)
        #expect(
            pool.members.map(\.description) == ["10.0.1.11", "10.0.1.12 port 8080 weight 3 drain", "fd00::1 down"])
        let virtual = try #require(topology.routers[DevicePath(tenant: "t", name: "gw")]?.translation.virtual)
        #expect(
            virtual.map { "\($0.id): \($0)" } == [
                "web: 203.0.113.10 tcp 80 8000-8009 pool web", "2: 203.0.113.10 udp 53 pool none",
            ])
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        var out = ByteWriter()
        for key in topology.keys.sorted() { topology[key]?.encode(&out) }
        var reader = ByteReader(out.bytes)
        for key in topology.keys.sorted() { #expect(try TopologyObject(from: &reader) == topology[key]) }
        #expect(reader.isAtEnd)
    }

    @Test func `pools and virtual addresses that can't work are refused together, by name, with a remedy`() {
        func mistakes(_ pools: String, _ vips: String) -> String {
            do {
                _ = try ManifestReader.read(
                    """
                    tenants:
                      t:
                        pools: \(pools)
                        bridges: { out: { ports: [up] } }
                        routers:
                          gw:
                            links: [{ bridge: out, address: 203.0.113.1/24 }]
                            floating: { 203.0.113.20: 10.0.1.12 }
                            vips: \(vips)
                    """, file: "m")
                return "none"
            } catch { return "\(error)" }
        }
        let read = mistakes(
            """
            { a: { algorithm: random }, b: { persistence: 0 }, c: { members: [nobody] }, d: { members: [{ port: 80 }] },
              e: { members: [{ address: 10.0.0.1, weight: 257 }] }, f: { members: [{ address: 10.0.0.1, state: off }] },
              g: { membres: [] } }
            """,
            """
            [{ id: one, port: 80, pool: a }, { id: two, address: 10.0.0.1, pool: a }, { id: three, address: 10.0.0.1, port: 80 },
             { id: four, address: 10.0.0.1, port: http, pool: a }]
            """)
        for part in [
            "pool t/a: algorithm is \"random\"", "pool t/b: persistence is \"0\"", "\"nobody\" is not an address",
            "pool t/d member 1: address is missing", "weight is \"257\"", "state is \"off\"", "did you mean members?",
            "t/gw virtual address one: address is missing", "two: port is missing", "three: pool is missing",
            "four: port is \"http\"",
        ] { #expect(read.contains(part), "no word of \(part) in \(read)") }
        let drawn = mistakes(
            "{ a: { members: [10.0.0.1, 10.0.0.1, 224.0.0.1] }, b: { members: [203.0.113.10] } }",
            """
            [{ id: one, address: 203.0.113.10, port: 80, pool: a }, { id: two, address: 203.0.113.10, port: 70-90, pool: a },
             { id: two, address: 203.0.113.11, port: 80, pool: nowhere }, { id: three, address: 203.0.113.20, port: 80, pool: a },
             { id: four, address: 203.0.113.12, protocol: icmp, port: 80, pool: a },
             { id: five, address: 203.0.113.13, port: 90-80, pool: b }]
            """)
        for part in [
            "pool t/a member 10.0.0.1: is there twice", "224.0.0.1 is no address of a machine",
            "virtual address two: is asked by the same port as one", "virtual address two: is there twice",
            "pool nowhere does not exist", "three: 203.0.113.20 is a floating address", "four: icmp has no ports",
            "five: range 90-80 ends before it begins",
            "five: member 203.0.113.10 of pool b is a virtual address itself",
        ] { #expect(drawn.contains(part), "no word of \(part) in \(drawn)") }
    }

    private func giving(_ dhcp: String) -> String {
        """
        tenants:
          t:
            bridges:
              a:
                subnet: ["fd00::/64", 10.0.1.0/24]
                ports: [vm]
                dhcp: \(dhcp)
              b: { ports: [vm], dhcp: \(dhcp == "true" ? "false" : "[]") }
        """
    }

    @Test func `addresses that a bridge gives say a manifest, and are written as they were`() throws {
        let path = DevicePath(tenant: "t", name: "a")
        let short = try ManifestReader.read(giving("true"), file: "m").topology
        #expect(short.bridges[path]?.dhcp.map(\.subnet.description) == ["10.0.1.0/24"])
        let topology = try ManifestReader.read(
            giving(
                """
                [{ range: [10.0.1.100-10.0.1.199, 10.0.1.250], dns: 10.0.1.53, domain: example.org, lease: 600, mtu: 1400,
                   hosts: ["02:00:00:00:00:07 10.0.1.7 printer", "02:00:00:00:00:08 10.0.1.8"],
                   routes: "10.9.0.0/16 via 10.0.1.9", options: ["43 0x00ff", '66 a "quoted" one'] },
                 { subnet: 10.0.2.0/24, server: 10.0.2.2, router: 10.0.2.3 },
                 { subnet: "fd00::/64", stateless: true, dns: ["fd00::53"] },
                 { subnet: "fd00:0:0:2::/64", range: "fd00:0:0:2::10-fd00:0:0:2::1f" }]
                        dns: { domain: Corp.example, forward: [9.9.9.9, "2620:fe::fe"], ttl: 5 }
                """), file: "m"
        ).topology
        let subnets = try #require(topology.bridges[path]?.dhcp)
        #expect(topology.bridges[path]?.names?.domain == "corp.example" && subnets[3].ranges[0].count == 16)
        #expect(subnets[0].ranges.map(\.count) == [100, 1] && subnets[0].lease == 600)
        #expect(subnets[0].options == [43: [0, 255], 66: Array("a \"quoted\" one".utf8)])
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        var out = ByteWriter()
        topology[.bridge(path)]?.encode(&out)
        var reader = ByteReader(out.bytes)
        #expect(try TopologyObject(from: &reader) == topology[.bridge(path)] && reader.isAtEnd)
    }

    @Test func `mirrors say a manifest, and are written as they were`() throws {
        let topology = try ManifestReader.read(
            """
            tenants:
              t:
                addressGroups: { bad: [203.0.113.0/24] }
                bridges: { a: { ports: [vm, ids], multicast: { querier: false, unknown: flood } } }
                mirrors:
                  one: { from: [a/vm, a], to: a/ids, direction: in, length: 128, limit: 1500k,
                         match: [{ protocol: tcp, destinationPort: [80, 443] }, { notSourceGroup: bad, inverted: true }] }
                  two: { from: a, to: gre 203.0.113.9 key 4294967295, enabled: false }
                  three: { from: a, to: erspan 203.0.113.9 session 1023 }
            """, file: "m"
        ).topology
        let mirror = try #require(topology.mirrors[DevicePath(tenant: "t", name: "one")])
        #expect(mirror.sources == ["a", "a/vm"] && mirror.length == 128 && mirror.limit?.kilobits == 1500)
        let target = try #require(PortPath("t/a/ids"))
        #expect(mirror.conditions.count == 2 && mirror.target == .port(target))
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        for key in topology.mirrors.keys.map(ObjectKey.mirror) + [.bridge(DevicePath(tenant: "t", name: "a"))] {
            var out = ByteWriter()
            topology[key]?.encode(&out)
            var reader = ByteReader(out.bytes)
            #expect(try TopologyObject(from: &reader) == topology[key] && reader.isAtEnd)
        }
    }

    @Test func `services of ports say a manifest, and are written as they were`() throws {
        let topology = try ManifestReader.read(
            """
            tenants:
              t:
                addressGroups: { bad: [203.0.113.0/24] }
                bridges:
                  fw: { ports: [in, out] }
                  a:
                    ports:
                      vm:
                        services:
                          - { through: [fw/in, t/fw/out], vlan: 10, fail: open }
                          - { through: fw/in, direction: in, fail: closed,
                              match: [{ protocol: tcp, destinationPort: [80, 443] }, { notSourceGroup: bad, inverted: true }] }
            """, file: "m"
        ).topology
        let path = try #require(PortPath("t/a/vm"))
        let services = try #require(topology.ports[path]?.services)
        #expect(services.map(\.vlan) == [10, 0] && services.map(\.isOpen) == [true, false])
        #expect(services[0].far == PortPath("t/fw/out") && services[1].conditions.count == 2)
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        var out = ByteWriter()
        topology[.port(path)]?.encode(&out)
        var reader = ByteReader(out.bytes)
        #expect(try TopologyObject(from: &reader) == topology[.port(path)] && reader.isAtEnd)
    }

    @Test(arguments: [
        ("through: fw/in, vlan: 4095", "1 to 4094"), ("vlan: 7", "both ports of the service"),
        ("through: [fw/in, fw/out, fw/in]", "names 3 ports"), ("through: fw/gone", "t/fw/gone, which does not exist"),
        ("through: a/vm", "name the port of the service"), ("through: gw/a", "t/gw/a, a router's port"),
        ("through: fw/in, fail: maybe", "open or closed"), ("through: fw/in, fial: open", "did you mean fail?"),
        ("through: fw/in, match: [{ state: new }]", "leave out state"),
        ("through: fw/in }, { through: [fw/in]", "give it a vlan of its own"),
    ])
    func `a service that can't be is a mistake with its reason`(_ said: String, _ part: String) {
        var told = "none"
        do {
            _ = try ManifestReader.read(
                """
                tenants:
                  t:
                    bridges:
                      fw: { ports: [in, out] }
                      a: { ports: { vm: { services: [{ \(said) }] } } }
                    routers: { gw: { links: [{ bridge: a, address: 10.0.0.1/24 }] } }
                """, file: "m")
        } catch { told = "\(error)" }
        #expect(told.contains(part) && told.contains("services"), "no word of \(part) in \(told)")
    }

    private func limiting(_ qos: String) -> String {
        "tenants: { t: { bridges: { a: { ports: { vm: { qos: \(qos) } } } } } }"
    }

    @Test func `limits of a port say a manifest, and are written as they were`() throws {
        let path = try #require(PortPath("t/a/vm"))
        let topology = try ManifestReader.read(
            limiting("{ egress: 100M, egressBurst: 2M, ingress: 1500k, guarantee: 50M, dscp: 46 }"), file: "m"
        ).topology
        let quality = try #require(topology.ports[path]?.quality)
        #expect(quality.egress == RateLimit(kilobits: 100_000, burst: 2 << 20))
        #expect(quality.ingress == RateLimit(kilobits: 1500) && quality.dscp == 46)
        #expect(quality.guarantee == 50_000)
        #expect(quality.ingress?.effectiveBurst == 1 << 20)
        #expect(RateLimit(kilobits: 1_000_000).effectiveBurst == 12_500_000)
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        var out = ByteWriter()
        topology[.port(path)]?.encode(&out)
        var reader = ByteReader(out.bytes)
        #expect(try TopologyObject(from: &reader) == topology[.port(path)] && reader.isAtEnd)
        for (qos, part) in [
            ("{ egress: fast }", "egress is \"fast\""), ("{ egress: 1500 }", "whole thousands"),
            ("{ egress: 10k }", "use 64k to 400G"), ("{ egress: 500G }", "400G"), ("{ dscp: 64 }", "dscp"),
            ("{ guarantee: 1k }", "guarantee is"), ("{ guarantee: 2M, egress: 1M }", "guarantee is more than egress"),
            ("{ egressBurst: 2M }", "without a rate"), ("{ egress: 1M, egressBurst: 1 }", "use 128k to 1G"),
            ("{ egres: 1M }", "did you mean egress?"), ("{ egress: 99999999999999999999G }", "egress is"),
        ] {
            var told = "none"
            do { _ = try ManifestReader.read(limiting(qos), file: "m") } catch { told = "\(error)" }
            #expect(told.contains(part), "no word of \(part) in \(told)")
        }
        var told = "none"
        do {
            _ = try ManifestReader.read(
                "tenants: { t: { bridges: { a: {} }, routers: { r: { ports: { p: { address: 10.0.0.1/24, qos: { dscp: 1 } } } } } } }",
                file: "m")
        } catch { told = "\(error)" }
        #expect(told.contains("qos"))
    }

    @Test func `hosts promise what they have, and a tenth of it is for all others`() throws {
        func promising(_ rate: String, _ one: String, _ two: String) -> String {
            """
            hosts: { h1: { address: 192.0.2.1\(rate) } }
            tenants:
              t:
                bridges:
                  a:
                    ports:
                      one: { host: h1, interface: one, qos: { guarantee: \(one) } }
                      two: { host: h1, interface: two, qos: { guarantee: \(two) } }
            """
        }
        let topology = try ManifestReader.read(promising(", rate: 100M", "50M", "40M"), file: "m").topology
        #expect(topology.hosts["h1"]?.rate == 100_000 && topology.promised(by: "h1") == 90_000)
        #expect(try ManifestReader.read(ManifestWriter.write(topology), file: "w").topology == topology)
        var out = ByteWriter()
        topology[.host("h1")]?.encode(&out)
        var reader = ByteReader(out.bytes)
        #expect(try TopologyObject(from: &reader) == topology[.host("h1")] && reader.isAtEnd)
        // Where a host is is not to be said again for its rate.
        let faster = try ManifestReader.read(
            "{ hosts: { h1: { rate: 1G } }, tenants: { t: {} } }", file: "f", known: topology
        ).topology
        #expect(faster.hosts["h1"]?.tunnelAddresses == topology.hosts["h1"]?.tunnelAddresses)
        #expect(faster.hosts["h1"]?.rate == 1_000_000)
        for (rate, one, two, part) in [
            (", rate: 100M", "50M", "41M", "h1: promises 91M to its machines, of 100M"),
            (", rate: fast", "1M", "1M", "rate is \"fast\""),
            (", rate: 1k", "64k", "64k", "use 64k to 400G"),
        ] {
            var told = "none"
            do { _ = try ManifestReader.read(promising(rate, one, two), file: "m") } catch { told = "\(error)" }
            #expect(told.contains(part), "no word of \(part) in \(told)")
        }
        // A host that does not know what it has says so when it is asked to keep it.
        _ = try ManifestReader.read(promising("", "50M", "500M"), file: "m")
    }

    @Test func `addresses that can't be given are refused together, by name, with a remedy`() {
        func mistakes(_ dhcp: String) -> String {
            do { _ = try ManifestReader.read(giving(dhcp), file: "m") } catch { return "\(error)" }
            return "none"
        }
        for (dhcp, part) in [
            ("{ range: 10.0.1.9-x }", "range is \"10.0.1.9-x\""), ("{ hosts: [10.0.1.5] }", "hosts is \"10.0.1.5\""),
            ("{ options: [\"43 0x1\"] }", "options is \"43 0x1\""), ("{ lease: soon }", "lease is \"soon\""),
            ("{ rage: 10.0.1.9 }", "did you mean range?"), ("{ domain: \"a..b\" }", "domain is \"a..b\""),
            ("{ subnet: 10.0.0.0/31 }", "is no IPv4 network of machines"),
            ("{ subnet: \"fe80::/64\" }", "is no IPv6 network of machines"),
            ("{ range: 10.0.2.9 }", "range begins with 10.0.2.9 is no address of the network"),
            ("{ range: 10.0.1.0-10.0.1.9 }", "range begins with 10.0.1.0 is no address of the network"),
            ("{ range: 10.0.1.9-10.0.1.8 }", "range 10.0.1.9-10.0.1.8 ends before it begins"),
            ("{ range: [10.0.1.5-10.0.1.9, 10.0.1.9] }", "range 10.0.1.9 overlaps another"),
            ("{ hosts: [\"02:00:00:00:00:07 10.0.1.7\", \"02:00:00:00:00:08 10.0.1.7\"] }", "is two hosts'"),
            ("{ options: [\"3 0x0a000101\"] }", "option 3 follows from other fields"), ("{ lease: 5 }", "lease is 5 s"),
            ("{ dns: \"fd00::53\" }", "fd00::53 is no IPv4 address"),
            ("[{ subnet: 10.0.0.0/16 }, { subnet: 10.0.1.0/24 }]", "overlaps 10.0.0.0/16"),
        ] {
            let text = mistakes(dhcp)
            #expect(text.contains(part), "no word of \(part) in \(text)")
        }
    }

    @Test func `one chain may be jumped to again and again, and deep chains are refused`() throws {
        let twice = mistakes("chains: { a: [{ action: jump b }, { action: jump b }], b: [] }")
        #expect(twice == "none")
        let deep = (0..<20).map { "  c\($0): [{ action: jump c\($0 + 1) }]" }.joined(separator: "\n")
        #expect(mistakes("chains:\n\(deep)\n  c20: []").contains("jumps more than 16 chains deep"))
    }
}
