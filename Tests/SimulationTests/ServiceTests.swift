// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

/// Traffic that goes through services on its way.
@Suite struct ServiceTests {
    /// Ports that share services, and one that has its own.
    static let served = ServiceTests().drawing([
        "a1":
            "[{ through: [s/in, s/own], vlan: 10 }, { through: s/own, match: [{ protocol: udp, destinationPort: 53 }] }]",
        "a2": "[{ through: [s/in, s/own], vlan: 10, fail: open }]",
        "b1": "[{ through: s/in, vlan: 20, direction: out }]",
    ])

    private func drawing(_ services: [String: String], extra: String = "") -> String {
        func port(_ name: String, _ host: String, _ address: String) -> String {
            let said = services[name].map { ", services: \($0)" } ?? ""
            return "\(name): { host: \(host), interface: \(name), address: \(address)/24\(said) }"
        }
        return """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
            tenants:
              t:
                addressGroups: { odd: [10.0.1.11, 10.0.2.21] }
                chains: { nothing: [{ action: drop }] }
                bridges:
                  a:
                    ports:
                      \(port("a1", "h1", "10.0.1.11"))
                      \(port("a2", "h1", "10.0.1.12"))
                      \(port("a3", "h2", "10.0.1.13"))
                      \(port("a4", "h2", "10.0.1.14"))
                  b:
                    ports:
                      \(port("b1", "h1", "10.0.2.21"))
                      \(port("b2", "h2", "10.0.2.22"))
                  s:
                    ports:
                      in: { host: h1, interface: in, mac: "0e:00:00:00:01:01" }
                      out: { host: h2, interface: out, mac: "0e:00:00:00:01:02" }
                      ids: { host: h2, interface: ids, mac: "0e:00:00:00:01:03", inbound: nothing, outbound: nothing }
                      own: { host: h1, interface: own, mac: "0e:00:00:00:01:04" }
                routers: { gw: { links: [{ bridge: a, address: 10.0.1.1/24 }, { bridge: b, address: 10.0.2.1/24 }] } }
            \(extra)
            """
    }

    /// All hosts of a drawing, which know the same, and the services as wires between their ports.
    private struct Network {
        let hosts: [String: Host]
        let topology: Topology
        let state = TableState()
        let services: [String: String] = ["t/s/in": "t/s/out", "t/s/out": "t/s/in", "t/s/ids": "t/s/ids"]

        init(_ text: String) throws {
            topology = try draw(text)
            #expect(topology.problems().isEmpty, "\(topology.problems())")
            let (drawn, known) = (topology, state)
            hosts = Dictionary(
                uniqueKeysWithValues: ["h1", "h2"].map { ($0, Host(topology: drawn, state: known, host: $0)) })
        }

        func host(of port: String) throws -> Host {
            let path = try #require(PortPath(port))
            guard case .exterior(let name, _)? = hosts["h1"]?.fabric.topology.ports[path]?.attachment else {
                throw Problem(port, "is not bound", remedy: "bind it")
            }
            return try #require(hosts[name])
        }

        /// What comes of a frame: where copies are delivered, and the services' ports that they went out of.
        func walk(_ frame: [UInt8], at port: String) throws -> (delivered: [String], passed: [String]) {
            var queue = [(port: port, frame: frame)]
            var delivered: [String] = []
            var passed: [String] = []
            while !queue.isEmpty {
                let (port, frame) = queue.removeFirst()
                let host = try host(of: port)
                let verdict = host.send(frame, at: port)
                for learned in verdict.learned { host.state.learn(learned) }
                for output in verdict.outputs {
                    let header = verdict.headers[Int(output.header)]
                    let sent = verdict.frame(frame, leavingAs: output.header)
                    var places: [String] = []
                    switch output.destination {
                    case .local(let index): places = [host.fabric.path(index).description]
                    case .remote(let index, let key):
                        let other = try #require(hosts[host.fabric.name(index)])
                        places = other.outputs(other.arrive(sent, key: key))
                    }
                    for place in places {
                        if let behind = services[place] {
                            let vlan = header.key.hasVLAN ? " \(header.key.vlanTCI & 0xfff)" : ""
                            passed.append(place.dropFirst(2) + vlan)
                            #expect(passed.count < 40, "it goes round")
                            if passed.count < 40 { queue.append((behind, sent)) }
                        } else {
                            delivered.append("\(place) \(sent.map { String($0, radix: 16) }.joined(separator: " "))")
                        }
                    }
                }
            }
            return (delivered.sorted(), passed)
        }

        /// A datagram between machines; the router is in between where it has to be.
        func datagram(_ from: String, _ to: String, port: UInt16 = 7) throws -> [UInt8] {
            let near = try #require(PortPath("t/\(from.prefix(1))/\(from)").flatMap { topology.ports[$0] })
            let far = try #require(PortPath("t/\(to.prefix(1))/\(to)").flatMap { topology.ports[$0] })
            let hop =
                from.prefix(1) == to.prefix(1)
                ? far.mac : try #require(PortPath("t/gw/\(from.prefix(1))").flatMap { topology.ports[$0]?.mac })
            return Frame.udp(
                etherSource: near.mac, etherDestination: hop, source: near.addresses[0].address,
                destination: far.addresses[0].address, sourcePort: 1, destinationPort: port, data: [1, 2])
        }
    }

    private func passes(_ network: Network, _ from: String, _ to: String, port: UInt16 = 7) throws -> [String] {
        try network.walk(network.datagram(from, to, port: port), at: "t/\(from.prefix(1))/\(from)").passed
    }

    @Test func `what a machine sends and gets goes through its services, in order and back`() throws {
        let network = try Network(drawing(["a1": "[{ through: [s/in, s/out], vlan: 10 }, { through: s/ids }]"]))
        #expect(try passes(network, "a1", "a2") == ["s/in 10", "s/ids"])
        #expect(try passes(network, "a2", "a1") == ["s/ids", "s/out 10"])
        #expect(try passes(network, "a3", "a1") == ["s/ids", "s/out 10"])
        #expect(try passes(network, "a1", "b2") == ["s/in 10", "s/ids"])
        #expect(try passes(network, "b2", "a1") == ["s/ids", "s/out 10"])
        #expect(try passes(network, "a2", "a3") == [])
        let walk = try network.walk(network.datagram("a1", "b2"), at: "t/a/a1")
        #expect(walk.delivered.count == 1 && walk.delivered[0].hasPrefix("t/b/b2 "))
    }

    @Test func `direction and conditions say what goes through`() throws {
        let network = try Network(
            drawing([
                "a1": "[{ through: s/ids, direction: in, match: [{ protocol: udp, destinationPort: 53 }] }]",
                "a2": "[{ through: s/ids, vlan: 9, direction: out, match: [{ sourceGroup: odd }] }]",
            ]))
        #expect(try passes(network, "a1", "a3", port: 53) == ["s/ids"])
        #expect(try passes(network, "a1", "a3") == [])
        #expect(try passes(network, "a3", "a1", port: 53) == [])
        #expect(try passes(network, "b1", "a2") == ["s/ids 9"])
        #expect(try passes(network, "b2", "a2") == [])
        #expect(try passes(network, "a2", "b1") == [])
        // Both, of one packet.
        #expect(try passes(network, "a1", "a2", port: 53) == ["s/ids", "s/ids 9"])
    }

    @Test func `a service that two neighbors share is passed once between them`() throws {
        let through = "[{ through: s/ids }]"
        let network = try Network(drawing(["a1": through, "a2": through]))
        #expect(try passes(network, "a1", "a2") == ["s/ids"])
        #expect(try passes(network, "a2", "a1") == ["s/ids"])
        #expect(try passes(network, "a1", "a3") == ["s/ids"])
        #expect(try passes(network, "a3", "a1") == ["s/ids"])
        #expect(try passes(network, "b1", "a1") == ["s/ids"])
        // Behind a router nobody sees who sent it, and on another bridge who gets it.
        for other in [through, "[{ through: s/ids, direction: in }]"] {
            #expect(refusal(["a1": through, "b1": other]).contains("as ports of bridge t/b do"))
        }
        let halves = refusal(["a1": through, "a2": "[{ through: [s/ids, s/in] }]"])
        #expect(halves.contains("where others come back by another port"))
    }

    @Test func `a network of its own for each way, and no copies by a service's port`() {
        let through = "[{ through: s/ids }]"
        func told(_ text: String) -> String {
            do {
                _ = try draw(text)
                return "none"
            } catch { return "\(error)" }
        }
        let vlans = drawing(["a1": through, "a2": through]).replacing("interface: a2,", with: "interface: a2, vlan: 7,")
        #expect(told(vlans).contains("as ports of another VLAN do"))
        for target in ["s/ids", "s/in"] {
            let mirrored = drawing(["a1": "[{ through: [s/ids, s/in] }]"]).replacing(
                "    addressGroups:", with: "    mirrors: { m: { from: a, to: \(target) } }\n    addressGroups:")
            #expect(told(mirrored).contains("copies would come back"))
        }
    }

    @Test func `a service that hundreds share is decided in a few steps`() throws {
        let names = (0..<300).map { "p\($0)" }
        let ports = names.enumerated().map { place, name in
            "\(name): { host: h1, interface: \(name), address: 10.7.\(place / 250).\(place % 250 + 1)/16, services: [{ through: s/in }] }"
        }
        let text = drawing([:]).replacing(
            "    bridges:\n", with: "    bridges:\n      many: { ports: { \(ports.joined(separator: ", ")) } }\n")
        let host = try Network(text).host(of: "t/s/in")
        let first = try #require(PortPath("t/many/p0").flatMap { host.fabric.topology.ports[$0] })
        let last = try #require(PortPath("t/many/p299").flatMap { host.fabric.topology.ports[$0] })
        let frame = Frame.udp(
            etherSource: first.mac, etherDestination: last.mac, source: first.addresses[0].address,
            destination: last.addresses[0].address, sourcePort: 1, destinationPort: 2, data: [])
        let back = host.send(frame, at: "t/s/in")
        #expect(host.outputs(back) == ["t/many/p299"] && back.tags.count < 20, "\(back.tags.count) tags")
    }

    @Test func `what is too big behind a service is told to its sender`() throws {
        // Untagged on its way to the first, tagged to the second: on another host it no longer fits.
        let network = try Network(
            drawing(["a3": "[{ through: s/own, vlan: 10 }, { through: s/ids }]"]))
        let host = try network.host(of: "t/s/ids")
        let mtu = try #require(host.fabric.topology.zones["default"]).overlayMTU(underlay: .ipv4)
        var big = Frame.udp(
            etherSource: host.mac("t/a/a1"), etherDestination: host.mac("t/a/a3"), source: address("10.0.1.11"),
            destination: address("10.0.1.13"), sourcePort: 1, destinationPort: 2,
            data: [UInt8](repeating: 1, count: mtu - 28))
        big[20] |= 0x40  // Don't fragment.
        let verdict = host.send(big, at: "t/s/ids")
        #expect(verdict.drop == .tooBig && verdict.packets.count == 1)
        #expect(host.answers(verdict).map(\.place) == ["h1 t/a/a1"])
    }

    @Test func `a packet is told of once, whatever it goes through`() throws {
        let text = drawing(["a1": "[{ through: [s/in, s/out] }]"]).replacing(
            "    addressGroups:",
            with:
                "    mirrors: { m: { from: [a, s, a/a2], to: ipfix 192.0.2.9 port 4739, sample: 1 } }\n    addressGroups:"
        )
        let network = try Network(text)
        let frame = try network.datagram("a1", "a2")
        let sent = try network.host(of: "t/a/a1").send(frame, at: "t/a/a1")
        let back = try network.host(of: "t/s/out").send(frame, at: "t/s/out")
        #expect(sent.copies.count == 1 && back.copies.isEmpty && back.outputs.count == 1)
    }

    private func refusal(_ services: [String: String]) -> String {
        do {
            _ = try draw(drawing(services))
            return "none"
        } catch { return "\(error)" }
    }

    @Test func `nobody gets through a service as somebody else`() throws {
        let network = try Network(
            drawing([
                "a1": "[{ through: s/ids }]", "a2": "[{ through: s/ids }]",
                "a3": "[{ through: [s/in, s/out], vlan: 10, direction: in }]",
            ]))
        let host = try network.host(of: "t/a/a1")
        var frame = try network.datagram("a1", "a2")
        // Its tag would be the service's.
        #expect(host.send(Frame.tagged(frame, vlan: 10), at: "t/a/a1").drop == .serviceTag)
        // Its MAC is a neighbor's: to what goes through, and from what does.
        for byte in 0..<6 {
            frame[6 + byte] = UInt8(truncatingIfNeeded: host.mac("t/a/a2").bits >> UInt64(40 - 8 * byte))
        }
        #expect(host.send(frame, at: "t/a/a1").drop == .spoofedMAC)
        let far = try network.host(of: "t/a/a4")
        var got = try network.datagram("a4", "a1")
        for byte in 0..<6 {
            got[6 + byte] = UInt8(truncatingIfNeeded: host.mac("t/a/a2").bits >> UInt64(40 - 8 * byte))
        }
        #expect(far.send(got, at: "t/a/a4").drop == .spoofedMAC)
        // What is for one machine and sent to all does not go past the service.
        var all = try network.datagram("a4", "a1")
        for byte in 0..<6 { all[byte] = 0xff }
        let verdict = far.send(all, at: "t/a/a4")
        #expect(!far.outputs(verdict).contains { $0.hasSuffix("t/a/a1") || $0.hasSuffix("t/a/a2") })
        // Frames of others do not reach the service's ports, where they would be taken for what comes back.
        let near = try network.host(of: "t/s/own")
        for (vlan, to) in [
            (10, MACAddress.broadcast), (10, host.mac("t/s/in")), (nil, .broadcast), (nil, host.mac("t/s/ids")),
        ] {
            var frame = Frame.udp(
                etherSource: host.mac("t/s/own"), etherDestination: to, source: address("10.0.9.1"),
                destination: address("10.0.9.2"), sourcePort: 1, destinationPort: 2, data: [])
            if let vlan { frame = Frame.tagged(frame, vlan: UInt16(vlan)) }
            let sent = near.send(frame, at: "t/s/own")
            #expect(sent.outputs.isEmpty, "\(near.outputs(sent)) got a frame for \(to)")
        }
    }

    @Test func `what comes back and is nobody's does not go round`() throws {
        let through = "[{ through: [s/in, s/out] }]"
        let network = try Network(drawing(["a1": through, "a2": through]))
        var frame = try network.datagram("a4", "a1")
        frame[5] ^= 0x55
        // A neighbor that shares the service passed it: it need not be known where it goes.
        var known = try network.datagram("a1", "a2")
        known[5] ^= 0x55
        let shared = try network.walk(known, at: "t/a/a1")
        #expect(shared.passed == ["s/in"] && shared.delivered.count == 3, "\(shared.delivered) by \(shared.passed)")
        let walk = try network.walk(frame, at: "t/a/a4")
        #expect(walk.passed == [] && walk.delivered.count == 1, "\(walk.delivered) by \(walk.passed)")
        let host = try network.host(of: "t/s/in")
        #expect(host.send(frame, at: "t/s/in").drop == .serviceUnknown)
    }

    @Test func `filters that know connections are asked as without services`() throws {
        let groups = """
                securityGroups:
                  open: { in: [{ protocol: udp }], out: [{ protocol: udp }] }
                  shut: { in: [], out: [{ protocol: udp }] }
                  friends: { in: [{ protocol: udp, group: open }], out: [{ protocol: udp }] }
            """
        func drawn(_ services: [String: String], _ security: [String: String]) -> String {
            var text = drawing(services).replacing("    addressGroups:", with: groups + "\n    addressGroups:")
            for (name, group) in security {
                text = text.replacing("interface: \(name),", with: "interface: \(name), security: [\(group)],")
            }
            return text
        }
        let one = "[{ through: [s/in, s/out], vlan: 1 }]"
        for services in [["a1": one], ["a2": one], ["a1": one, "a2": "[{ through: s/ids, vlan: 2 }]"]] {
            for (group, isLet) in [("shut", false), ("open", true), ("friends", true)] {
                let network = try Network(drawn(services, ["a1": "open", "a2": group]))
                for _ in 0..<3 {
                    let walk = try network.walk(network.datagram("a1", "a2"), at: "t/a/a1")
                    #expect(walk.delivered.count == (isLet ? 1 : 0), "\(group) by \(walk.passed) of \(services)")
                }
                // What it began itself is answered.
                let other = try Network(drawn(services, ["a1": "open", "a2": group]))
                let begun = try other.walk(other.datagram("a2", "a1", port: 1), at: "t/a/a2")
                #expect(begun.delivered.count == 1)
                let answer = try other.walk(other.datagram("a1", "a2", port: 1), at: "t/a/a1")
                #expect(answer.delivered.count == 1)
            }
        }
    }

    @Test func `a service that is down stops what goes through it, or lets it go past`() throws {
        for (fail, delivers) in [("closed", false), ("open", true)] {
            let network = try Network(drawing(["a1": "[{ through: [s/in, s/out], fail: \(fail) }]"]))
            let host = try network.host(of: "t/a/a1")
            #expect(try passes(network, "a1", "a2") == ["s/in"])
            let frame = try network.datagram("a1", "a2")
            network.state.ill.withLock { _ = $0.insert(Simulation.Tag.serviceMember) }
            let verdict = host.send(frame, at: "t/a/a1")
            #expect(host.outputs(verdict) == (delivers ? ["t/a/a2"] : []))
            #expect(verdict.drop == (delivers ? nil : .serviceDown))
            #expect(verdict.isCacheable)
            for name in ["t/s/in"] {
                let path = try #require(PortPath(name))
                #expect(verdict.tags.contains(.service(at: .port(path))))
            }
            // The host of the other end is cut off.
            network.state.ill.withLock { $0 = [] }
            network.state.dead.withLock { $0 = [.host("h2")] }
            let cut = host.send(frame, at: "t/a/a1")
            #expect(host.outputs(cut) == (delivers ? ["t/a/a2"] : []) && cut.tags.contains(.path(host: .host("h2"))))
        }
    }

    @Test func `what is sent to all goes through where the way is of one port alone`() throws {
        func reached(_ services: [String: String], _ from: String) throws -> [String] {
            let network = try Network(drawing(services))
            let near = try #require(PortPath("t/a/\(from)"))
            let port = try #require(network.hosts["h1"]?.fabric.topology.ports[near])
            let frame = Frame.udp(
                etherSource: port.mac, etherDestination: .broadcast, source: port.addresses[0].address,
                destination: address("255.255.255.255"), sourcePort: 1, destinationPort: 2, data: [])
            let walk = try network.walk(frame, at: "t/a/\(from)")
            return walk.delivered.map { String($0.prefix(6)) } + walk.passed
        }
        let one = "[{ through: [s/in, s/out], vlan: 5 }]"
        #expect(try reached(["a1": one], "a2") == ["t/a/a1", "t/a/a3", "t/a/a4", "s/out 5"])
        #expect(try reached(["a1": one], "a1") == ["t/a/a2", "t/a/a3", "t/a/a4", "s/in 5"])
        #expect(try reached(["a1": one, "a3": one], "a2") == ["t/a/a1", "t/a/a3", "t/a/a4"])
        #expect(try reached(["a1": one, "a3": one], "a1") == ["t/a/a2", "t/a/a3", "t/a/a4", "s/in 5"])
    }

    @Test func `what comes by a service's port and is of nobody's traffic goes no further, or is its own`() throws {
        let network = try Network(
            drawing(["a1": "[{ through: s/in, vlan: 5 }]", "a3": "[{ through: s/in, vlan: 5 }, { through: s/in }]"]))
        let host = try network.host(of: "t/s/in")
        func come(_ from: String, _ to: String, vlan: UInt16?) -> Verdict {
            let frame = Frame.udp(
                etherSource: host.mac(from), etherDestination: host.mac(to), source: address("10.0.9.1"),
                destination: address("10.0.9.2"), sourcePort: 1, destinationPort: 2, data: [])
            return host.send(vlan.map { Frame.tagged(frame, vlan: $0) } ?? frame, at: "t/s/in")
        }
        #expect(host.outputs(come("t/a/a1", "t/a/a2", vlan: 5)) == ["t/a/a2"])
        #expect(host.outputs(come("t/a/a2", "t/a/a1", vlan: 5)) == ["t/a/a1"])
        #expect(come("t/a/a2", "t/a/a4", vlan: 5).drop == .serviceUnknown)
        #expect(host.outputs(come("t/s/in", "t/s/own", vlan: nil)) == ["t/s/own"])
        let plain = try Network(drawing(["a1": "[{ through: s/in, vlan: 5 }]"]))
        let own = Frame.udp(
            etherSource: host.mac("t/s/in"), etherDestination: host.mac("t/s/own"), source: address("10.0.9.1"),
            destination: address("10.0.9.2"), sourcePort: 1, destinationPort: 2, data: [])
        let near = try plain.host(of: "t/s/in")
        #expect(near.outputs(near.send(own, at: "t/s/in")) == ["t/s/own"])
    }

    @Test func `a packet arrives as it would without services, and passes each that wants it once`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let names = ["a1", "a2", "a3", "a4", "b1", "b2"]
        struct Hop: Hashable { var through: String, vlan: Int, direction: String, isDNS: Bool }
        for round in 0..<60 {
            var drawn: [String: [Hop]] = [:]
            for name in names where Int.random(in: 0...2, using: &random) > 0 {
                var hops: [Hop] = []
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    let hop = Hop(
                        through: ["[s/in, s/out]", "[s/out, s/in]", "s/ids"].randomElement(using: &random) ?? "",
                        // Bridges share none.
                        vlan: (name.hasPrefix("a") ? [0, 10, 20] : [30, 40, 50]).randomElement(using: &random) ?? 0,
                        direction: ["in", "out", "both"].randomElement(using: &random) ?? "both",
                        isDNS: Bool.random(using: &random))
                    // A pair is the same service either way round.
                    let isTwice = hops.contains {
                        $0.vlan == hop.vlan && ($0.through == "s/ids") == (hop.through == "s/ids")
                    }
                    if !isTwice { hops.append(hop) }
                }
                drawn[name] = hops
            }
            func text(_ hop: Hop) -> String {
                "{ through: \(hop.through), direction: \(hop.direction)" + (hop.vlan > 0 ? ", vlan: \(hop.vlan)" : "")
                    + (hop.isDNS ? ", match: [{ protocol: udp, destinationPort: 53 }]" : "") + " }"
            }
            let said = drawn.mapValues { "[\($0.map(text).joined(separator: ", "))]" }
            let network = try Network(drawing(said))
            let plain = try Network(drawing([:]))
            func place(_ hop: Hop, isSent: Bool) -> String {
                let ends = hop.through == "[s/in, s/out]" ? ["s/in", "s/out"] : ["s/out", "s/in"]
                let end = hop.through == "s/ids" ? "s/ids" : ends[isSent ? 0 : 1]
                return end + (hop.vlan > 0 ? " \(hop.vlan)" : "")
            }
            for _ in 0..<12 {
                let from = names.randomElement(using: &random) ?? "a1"
                let to = names.filter { $0 != from }.randomElement(using: &random) ?? "a2"
                let port: UInt16 = Bool.random(using: &random) ? 53 : 7
                let frame = try network.datagram(from, to, port: port)
                let at = "t/\(from.prefix(1))/\(from)"
                let walk = try network.walk(frame, at: at)
                let sent = (drawn[from] ?? []).filter { $0.direction != "out" && (!$0.isDNS || port == 53) }
                let got = (drawn[to] ?? []).reversed().filter { hop in
                    guard hop.direction != "in", !hop.isDNS || port == 53 else { return false }
                    return from.prefix(1) != to.prefix(1)
                        || !sent.contains { $0.vlan == hop.vlan && ($0.through == "s/ids") == (hop.through == "s/ids") }
                }
                let expected = sent.map { place($0, isSent: true) } + got.map { place($0, isSent: false) }
                let comment = "seed \(seed) round \(round): \(from) to \(to) port \(port) of \(said)"
                #expect(walk.passed == expected, "\(comment)")
                #expect(try walk.delivered == plain.walk(frame, at: at).delivered, "\(comment)")
            }
        }
    }
}
