// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

/// Copies of what passes.
@Suite struct MirrorTests {
    private func drawing(_ mirrors: String) -> String {
        """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          acme:
            chains: { nothing: [{ id: no, action: drop }] }
            bridges:
              a:
                subnet: 10.0.1.0/24
                ports:
                  one: { host: h1, interface: one, address: 10.0.1.11/24 }
                  two: { host: h1, interface: two, address: 10.0.1.12/24 }
                  far: { host: h2, interface: far, address: 10.0.1.13/24 }
                  shut: { host: h1, interface: shut, address: 10.0.1.14/24, inbound: nothing }
                  tagged: { host: h1, interface: tagged, vlan: 7, address: 10.0.7.1/24 }
                  trunk: { host: h1, interface: trunk, trunk: [7] }
              b: { subnet: 10.0.2.0/24, ports: { web: { host: h1, interface: web, address: 10.0.2.21/24 } } }
              sec: { ports: { ids: { host: h1, interface: ids, mac: "0e:00:00:00:00:99" }, ids2: { host: h2, interface: ids, mac: "0e:00:00:00:00:98" } } }
            routers: { gw: { links: [{ bridge: a }, { bridge: b }] } }
            mirrors: \(mirrors)
        """
    }

    /// Copies as `target: source > destination`, addresses or MACs.
    private func copies(_ host: Host, _ verdict: Verdict) -> [String] {
        verdict.copies.map { copy in
            let key = verdict.headers[Int(copy.header)].key
            let place: String
            switch copy.destination {
            case .port(.local(let port)): place = host.fabric.path(port).description
            case .port(.remote(let to, let key)):
                let port = host.fabric.topology.ports.values.first { $0.tunnelKey == key }
                place = "\(host.fabric.name(to)) \(port?.path.description ?? "?")"
            case .outside(let target): place = target.description
            }
            return "\(place): \(key.ipSource) > \(key.ipDestination) ttl \(key.ipTTL)"
        }
    }

    private func ping(_ host: Host, _ from: String, to: String, via: String? = nil) -> Verdict {
        var frame = host.ping("acme/a/\(from)", to: to, via: via)
        if via == nil,
            let port = host.fabric.topology.ports.values.first(where: {
                $0.addresses.contains { $0.address == address(to) }
            })
        {
            for byte in 0..<6 { frame[byte] = UInt8(truncatingIfNeeded: port.mac.bits >> UInt64(40 - 8 * byte)) }
        }
        return host.send(frame, at: "acme/a/\(from)")
    }

    @Test func `what a port's machine sends and gets is copied, and goes on`() throws {
        let host = try Host(drawing("{ watch: { from: a/one, to: sec/ids } }"))
        let sent = ping(host, "one", to: "10.0.1.12")
        #expect(host.outputs(sent) == ["acme/a/two"] && sent.isCacheable)
        #expect(copies(host, sent) == ["acme/sec/ids: 10.0.1.11 > 10.0.1.12 ttl 64"])
        let got = ping(host, "two", to: "10.0.1.11")
        #expect(host.outputs(got) == ["acme/a/one"])
        #expect(copies(host, got) == ["acme/sec/ids: 10.0.1.12 > 10.0.1.11 ttl 64"])
        #expect(copies(host, ping(host, "two", to: "10.0.1.13")) == [])
        #expect(sent.trace.contains { $0.stage == "mirror" && $0.text.contains("by mirror acme/watch") })
        for (direction, count) in [("in", [1, 0]), ("out", [0, 1])] {
            let host = try Host(drawing("{ watch: { from: a/one, to: sec/ids, direction: \(direction) } }"))
            let found = [ping(host, "one", to: "10.0.1.12"), ping(host, "two", to: "10.0.1.11")]
            #expect(found.map(\.copies.count) == count)
        }
    }

    @Test func `what filters drop is copied where it came in`() throws {
        let host = try Host(drawing("{ watch: { from: a/shut, to: sec/ids } }"))
        let dropped = ping(host, "shut", to: "10.0.1.12")
        #expect(dropped.outputs.isEmpty && dropped.drop == .filtered && dropped.isCacheable)
        #expect(copies(host, dropped) == ["acme/sec/ids: 10.0.1.14 > 10.0.1.12 ttl 64"])
    }

    @Test func `copies are as the packet is at that point`() throws {
        let host = try Host(
            drawing("{ before: { from: gw/a, to: sec/ids }, behind: { from: gw/b, to: sec/ids2, direction: out } }"))
        let sent = host.send(
            host.ping("acme/a/one", to: "10.0.2.21", via: "acme/gw/a"), at: "acme/a/one")
        #expect(host.outputs(sent) == ["acme/b/web"])
        #expect(
            copies(host, sent) == [
                "acme/sec/ids: 10.0.1.11 > 10.0.2.21 ttl 64", "h2 acme/sec/ids2: 10.0.1.11 > 10.0.2.21 ttl 63",
            ])
        // Tags are those of the port.
        let tagged = try Host(drawing("{ watch: { from: [a/tagged, a/trunk], to: sec/ids } }"))
        let frame = Frame.udp(
            etherSource: tagged.mac("acme/a/tagged"), etherDestination: MACAddress(bits: 0x0e99_0000_0001),
            source: address("10.0.7.1"), destination: address("10.0.7.2"), sourcePort: 1, destinationPort: 2, data: [])
        let verdict = tagged.send(frame, at: "acme/a/tagged")
        #expect(verdict.copies.map { verdict.headers[Int($0.header)].key.vlanTCI & 0xfff } == [0, 7])
    }

    @Test func `a device is all that comes into it, once`() throws {
        let host = try Host(
            drawing("{ watch: { from: [a, gw], to: erspan 203.0.113.9 session 5, length: 96, limit: 10M } }"))
        let broadcast = host.send(
            Frame.udp(
                etherSource: host.mac("acme/a/one"), etherDestination: .broadcast, source: address("10.0.1.11"),
                destination: address("10.0.1.255"), sourcePort: 1, destinationPort: 2, data: []), at: "acme/a/one")
        #expect(broadcast.outputs.count > 1)
        #expect(copies(host, broadcast) == ["erspan 203.0.113.9 session 5: 10.0.1.11 > 10.0.1.255 ttl 64"])
        #expect(broadcast.copies.first?.length == 96 && broadcast.copies.first?.isLimited == true)
        let routed = host.send(host.ping("acme/a/one", to: "10.0.2.21", via: "acme/gw/a"), at: "acme/a/one")
        #expect(routed.copies.count == 2)
    }

    @Test func `conditions say which, and what they read tells flows apart`() throws {
        let host = try Host(
            drawing(
                "{ watch: { from: a/one, to: sec/ids, match: [{ protocol: tcp, destinationPort: 443 }, { destination: 10.0.1.13 }] } }"
            ))
        func tcp(_ port: UInt16, to: String = "10.0.1.12") -> Verdict {
            host.send(
                Frame.tcp(
                    etherSource: host.mac("acme/a/one"), etherDestination: host.mac("acme/a/two"),
                    source: address("10.0.1.11"), destination: address(to), sourcePort: 4000, destinationPort: port),
                at: "acme/a/one")
        }
        #expect(tcp(443).copies.count == 1 && tcp(80).copies.isEmpty && tcp(80, to: "10.0.1.13").copies.count == 1)
        #expect(tcp(80).mask.includes(.ipProtocol) && tcp(80).rules.isEmpty)
        #expect(host.outputs(tcp(80)) == ["acme/a/two"])
    }

    @Test func `while the target is not there nothing is sent, and it costs no flow its way`() throws {
        let host = try Host(drawing("{ watch: { from: a/one, to: sec/ids2 } }"))
        #expect(copies(host, ping(host, "one", to: "10.0.1.12")) == ["h2 acme/sec/ids2: 10.0.1.11 > 10.0.1.12 ttl 64"])
        host.state.dead.withLock { $0 = [.host("h2")] }
        let sent = ping(host, "one", to: "10.0.1.12")
        #expect(sent.copies.isEmpty && host.outputs(sent) == ["acme/a/two"])
        #expect(sent.tags.contains(.path(host: .host("h2"))))
        let off = try Host(drawing("{ watch: { from: a/one, to: sec/ids, enabled: false } }"))
        #expect(ping(off, "one", to: "10.0.1.12").copies.isEmpty)
    }

    @Test func `what floods to a port elsewhere that is copied is sent to it alone`() throws {
        let host = try Host(drawing("{ watch: { from: a/far, to: sec/ids } }"))
        let broadcast = host.send(
            Frame.udp(
                etherSource: host.mac("acme/a/one"), etherDestination: .broadcast, source: address("10.0.1.11"),
                destination: address("10.0.1.255"), sourcePort: 1, destinationPort: 2, data: []), at: "acme/a/one")
        #expect(host.outputs(broadcast).contains("h2 acme/a/far"))
        #expect(!host.outputs(broadcast).contains("h2 flood acme/a"))
        #expect(copies(host, broadcast).count == 1)
    }

    @Test func `a change of a mirror is a change of the flows that it copies`() throws {
        let plain = try draw(drawing("{}"))
        var current = Fabric(plain, localHost: "h1")
        for mirrors in [
            "{ watch: { from: a/far, to: sec/ids } }", "{ watch: { from: [a/far, gw], to: sec/ids, direction: in } }",
            "{ watch: { from: a/one, to: sec/ids2 }, other: { from: b, to: gre 203.0.113.9 key 3 } }", "{}",
        ] {
            let topology = try draw(drawing(mirrors))
            let difference = TopologyDifference(from: current.topology, to: topology)
            let tags = difference.tags(from: current.topology, to: topology)
            let before = Host(current, TableState())
            current = Fabric(topology, after: current, difference)
            let fresh = Host(Fabric(topology, localHost: "h1"), TableState())
            let patched = Host(current, TableState())
            for (from, to) in [("one", "10.0.1.12"), ("one", "10.0.1.13"), ("two", "10.0.1.11")] {
                let now = ping(patched, from, to: to)
                #expect(copies(patched, now) == copies(fresh, ping(fresh, from, to: to)))
                #expect(patched.outputs(now) == fresh.outputs(ping(fresh, from, to: to)))
                let was = ping(before, from, to: to)
                if copies(before, was) != copies(patched, now) {
                    #expect(!tags.isDisjoint(with: was.tags), "\(from) to \(to): a flow without a tag of the change")
                }
            }
        }
    }

    @Test func `mistakes are told`() {
        for (said, word) in [
            ("{ w: { from: a/nobody, to: sec/ids } }", "a/nobody, which does not exist"),
            ("{ w: { from: a/one, to: sec/nobody } }", "goes to port acme/sec/nobody"),
            ("{ w: { from: a/one, to: gw/a } }", "of a router"), ("{ w: { from: a/one } }", "to is missing"),
            ("{ w: { to: sec/ids } }", "copies nothing"),
            ("{ w: { from: a/one, to: gre 224.0.0.1 key 1 } }", "no host"),
            ("{ w: { from: a/one, to: erspan 203.0.113.1 session 1024 } }", "to is"),
            ("{ w: { from: a/one, to: sec/ids, length: 10 } }", "length is 10"),
            ("{ w: { from: a/one, to: sec/ids, limit: 10 } }", "limit"),
            ("{ w: { from: a/one, to: sec/ids, match: [{ state: new }] } }", "asks for connections"),
            ("{ w: { from: a/one, to: sec/ids, match: [{ sourceGroup: none }] } }", "address group none"),
            ("{ w: { from: a/one, to: sec/ids, size: 5 } }", "size"),
        ] {
            let problem = #expect(throws: (any Error).self) { try draw(drawing(said)) }
            #expect("\(problem.map { "\($0)" } ?? "")".contains(word), "\(said): \(problem.map { "\($0)" } ?? "")")
        }
    }
}
