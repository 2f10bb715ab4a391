// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@Suite struct BridgeTests {
    private func frame(_ source: UInt64, _ destination: MACAddress, type: UInt16 = 0x0900) -> [UInt8] {
        Frame.ethernet(
            from: MACAddress(bits: source), to: destination, type: type, payload: [UInt8](repeating: 0, count: 46))
    }

    @Test func `a frame for a declared station goes to its port and reads no more than Ethernet`() throws {
        let host = try Host(Drawings.bridge)
        let verdict = host.send(host.ping("t/b/one", to: "10.0.1.3", via: "t/b/far"), at: "t/b/one")
        #expect(host.outputs(verdict) == ["h2 t/b/far"])
        #expect(verdict.isCacheable)
        #expect(!verdict.mask.includes(.ipTTL))
        #expect(verdict.mask.bits.words[13] == 0)
        #expect(verdict.lengthLimit == 1458)
    }

    @Test func `a broadcast goes to every other port here and once to each other host`() throws {
        let host = try Host(Drawings.bridge)
        let verdict = host.send(frame(0x0e00_0000_0001, .broadcast), at: "t/b/one")
        #expect(host.outputs(verdict) == ["t/b/two", "h2 flood t/b"])
    }

    @Test func `an unknown station is flooded until it is learned`() throws {
        let host = try Host(Drawings.bridge)
        let stranger = MACAddress(bits: 0x0e00_0000_0099)
        let first = host.send(frame(0x0e00_0000_0001, stranger), at: "t/b/one")
        #expect(host.outputs(first).count == 2)
        let speaks = host.send(frame(stranger.bits, MACAddress(bits: 0x0e00_0000_0001)), at: "t/b/two")
        let learned = try #require(speaks.learned.first)
        // What was flooded depends on where the stranger is: learning it must reach that flow.
        #expect(first.tags.contains(learned.tag))
        host.state.learn(learned)
        #expect(host.outputs(host.send(frame(0x0e00_0000_0001, stranger), at: "t/b/one")) == ["t/b/two"])
        #expect(host.send(frame(stranger.bits, MACAddress(bits: 0x0e00_0000_0001)), at: "t/b/two").learned.isEmpty)
    }

    @Test func `requests for declared addresses are answered from the topology`() throws {
        let host = try Host(Drawings.bridge)
        let arp = Frame.arp(
            operation: 1, sender: (host.mac("t/b/one"), try #require(address("10.0.1.1").v4)),
            target: (.zero, try #require(address("10.0.1.3").v4)), etherDestination: .broadcast)
        let verdict = host.send(arp, at: "t/b/one")
        #expect(verdict.outputs.isEmpty)
        let answer = parse(try #require(verdict.packets.first).frame)
        #expect(answer.arpSource == host.mac("t/b/far"))
        #expect(answer.ipSource == address("10.0.1.3"))
        #expect(answer.etherDestination == host.mac("t/b/one"))
        #expect(!verdict.isCacheable)
        let ns = Frame.neighborSolicitation(
            from: host.mac("t/b/one"), source: try #require(address("fd00:1::1").v6),
            target: try #require(address("fd00:1::3").v6))
        let advertisement = parse(try #require(host.send(ns, at: "t/b/one").packets.first).frame)
        #expect(advertisement.ndTarget == address("fd00:1::3").v6)
        #expect(advertisement.arpTarget == host.mac("t/b/far"))
    }

    @Test func `a request for an address that nobody declared is flooded`() throws {
        let host = try Host(Drawings.bridge)
        let arp = Frame.arp(
            operation: 1, sender: (host.mac("t/b/one"), try #require(address("10.0.1.1").v4)),
            target: (.zero, try #require(address("10.0.1.77").v4)), etherDestination: .broadcast)
        #expect(host.outputs(host.send(arp, at: "t/b/one")) == ["t/b/two", "h2 flood t/b"])
    }

    @Test func `what is too big for the tunnel is answered where it may not be fragmented`() throws {
        let host = try Host(Drawings.bridge)
        var big = Frame.udp(
            etherSource: host.mac("t/b/one"), etherDestination: host.mac("t/b/far"), source: address("10.0.1.1"),
            destination: address("10.0.1.3"), sourcePort: 1, destinationPort: 2,
            data: [UInt8](repeating: 0, count: 1472))
        #expect(host.outputs(host.send(big, at: "t/b/one")) == ["h2 t/b/far"])
        #expect(!host.send(big, at: "t/b/one").isCacheable)
        big[20] = 0x40
        let verdict = host.send(big, at: "t/b/one")
        #expect(verdict.drop == .tooBig)
        let error = try #require(verdict.packets.first).frame
        #expect(parse(error).sourcePort == 3)
        #expect(parse(error).destinationPort == 4)
        #expect(UInt16(error[40]) << 8 | UInt16(error[41]) == 1458)
    }

    @Test func `frames of no sane sender are dropped`() throws {
        let host = try Host(Drawings.bridge)
        #expect(host.send(frame(0x0100_0000_0001, .broadcast), at: "t/b/one").drop == .badSource)
        #expect(host.send(frame(0, .broadcast), at: "t/b/one").drop == .badSource)
        #expect(host.send(frame(0x0e00_0000_0009, host.mac("t/b/one")), at: "t/b/one").drop == .sameSegment)
    }

    @Test func `VLANs keep ports apart, tags come and go as ports want them`() throws {
        let host = try Host(Drawings.vlans)
        let station = MACAddress(bits: 0x0e00_0000_7777)
        func tags(_ verdict: Verdict) -> [String: UInt16] {
            Dictionary(
                zip(
                    host.outputs(verdict), verdict.outputs.map { verdict.headers[Int($0.header)].key.vlanTCI & 0x0fff }),
                uniquingKeysWith: { a, _ in a })
        }
        // Into VLAN 10 from its access port: the trunks get it tagged, the router and other VLANs not at all.
        let ten = host.send(frame(station.bits, .broadcast), at: "t/v/ten")
        #expect(tags(ten) == ["t/v/trunk": 10, "h2 flood t/v": 10])
        // VLAN 20 comes in tagged, reaches the bridge behind it untagged and the other host tagged.
        let twenty = host.send(Frame.tagged(frame(station.bits, .broadcast), vlan: 20), at: "t/v/trunk")
        #expect(tags(twenty) == ["t/w/leaf": 0, "h2 flood t/v": 20])
        // Untagged frames are a network of their own; a VLAN that the trunk does not have is dropped.
        #expect(tags(host.send(frame(station.bits, .broadcast), at: "t/v/plain")) == ["t/v/trunk": 0])
        #expect(
            host.send(Frame.tagged(frame(station.bits, .broadcast), vlan: 30), at: "t/v/trunk").drop == .vlanNotAllowed)
        #expect(
            host.send(Frame.tagged(frame(station.bits, .broadcast), vlan: 10), at: "t/v/ten").drop == .vlanNotAllowed)
        // A station declared on the far bridge is found through the link.
        let known = host.send(Frame.tagged(frame(station.bits, host.mac("t/w/leaf")), vlan: 20), at: "t/v/trunk")
        #expect(tags(known) == ["t/w/leaf": 0])
    }

    @Test func `a tag that says only a priority, or the native VLAN, hides no other tag`() throws {
        let host = try Host(Drawings.vlans)
        let plain = frame(0x0e00_0000_7777, .broadcast)
        let hidden = Frame.tagged(Frame.tagged(plain, vlan: 20), vlan: 0)
        #expect(host.send(hidden, at: "t/v/plain").drop == .vlanNotAllowed)
        #expect(host.send(hidden, at: "t/v/trunk").drop == .vlanNotAllowed)
        // The native VLAN of a trunk leaves without its tag: what is behind it must not speak instead.
        let other = try Host(Drawings.vlans, host: "h2")
        let native = Frame.tagged(Frame.tagged(plain, vlan: 20), vlan: 30)
        #expect(!other.outputs(other.send(native, at: "t/v/all")).contains("t/v/all"))
        #expect(!host.outputs(host.send(native, at: "t/v/trunk")).contains("t/v/all"))
        // A router takes frames with a priority, but none with a tag behind it.
        let ping = Frame.tagged(host.ping("t/v/ten", to: "10.20.0.9", via: "t/r/v"), vlan: 10)
        #expect(!host.send(Frame.tagged(ping, vlan: 10), at: "t/v/trunk").outputs.contains { $0.header == 0 })
    }

    @Test func `what is behind more tags is not answered from the topology`() throws {
        let host = try Host(Drawings.bridge)
        let request = Frame.arp(
            operation: 1, sender: (host.mac("t/b/one"), IPv4Address(bits: 0x0a00_0101)),
            target: (.zero, IPv4Address(bits: 0x0a00_0102)), etherDestination: .broadcast)
        #expect(host.send(request, at: "t/b/one").packets.count == 1)
        let tagged = host.send(Frame.tagged(request, vlan: 5), at: "t/b/one")
        #expect(tagged.packets.isEmpty)
        #expect(host.outputs(tagged) == ["t/b/two", "h2 flood t/b"])
    }

    @Test func `a flood reaches every one of many linked bridges`() throws {
        let count = 150
        let links = (0..<count).map { "b\($0): { ports: { p: { host: h1, interface: p\($0) } } }" }
        let host = try Host(
            """
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              t:
                bridges:
                  hub:
                    ports: { one: { host: h1, interface: one } }
                    links: [\((0..<count).map { "{ bridge: b\($0) }" }.joined(separator: ", "))]
                  \(links.joined(separator: "\n      "))
            """)
        let verdict = host.send(frame(0x0e00_0000_7777, .broadcast), at: "t/hub/one")
        #expect(verdict.outputs.count == count)
    }

    @Test func `a router joins two VLANs`() throws {
        let host = try Host(Drawings.vlans)
        let verdict = host.send(host.ping("t/v/ten", to: "10.20.0.9", via: "t/r/v"), at: "t/v/ten")
        #expect(host.outputs(verdict) == ["t/w/leaf"])
        let header = try #require(verdict.headers.last).key
        #expect(header.etherDestination == host.mac("t/w/leaf"))
        #expect(header.ipTTL == 63)
    }

    @Test func `a key that arrives by tunnel stands for its port, a flood key for all ports in the VLAN`() throws {
        let host = try Host(Drawings.vlans, host: "h2")
        var simulator = Simulator(fabric: host.fabric, state: host.state)
        let bridge = try #require(host.fabric.topology.bridges[DevicePath(tenant: "t", name: "v")])
        func arrive(_ frame: [UInt8], _ key: UInt32) -> [String: UInt16] {
            frame.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                let fields = FlowKey(parsing: bytes.bytes, layout: &layout)
                simulator.simulateArrival(
                    SimulatedPacket(key: fields, layout: layout, bytes: bytes.bytes, length: 60), key: key)
            }
            let verdict = simulator.verdict
            return Dictionary(
                zip(
                    host.outputs(verdict), verdict.outputs.map { verdict.headers[Int($0.header)].key.vlanTCI & 0x0fff }),
                uniquingKeysWith: { a, _ in a })
        }
        let plain = frame(0x0e00_0000_7777, .broadcast)
        #expect(arrive(Frame.tagged(plain, vlan: 20), bridge.floodKey) == ["t/v/all": 20, "t/v/twenty": 0])
        #expect(arrive(Frame.tagged(plain, vlan: 30), bridge.floodKey) == ["t/v/all": 0])
        let path = try #require(PortPath("t/v/twenty"))
        let port = try #require(host.fabric.topology.ports[path])
        #expect(arrive(plain, port.tunnelKey) == ["t/v/twenty": 0])
        #expect(arrive(plain, 0x123).isEmpty)
        #expect(simulator.verdict.drop == .unknownKey)
    }
}
