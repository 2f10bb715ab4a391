// SPDX-License-Identifier: Apache-2.0
import Manifest
import TestSupport
import Testing
import Topology
import Wire

@testable import Gateway

/// Hosts that speak EVPN: what is said of it, and what FRRouting is told.
@Suite struct EVPNTests {
    private static let drawing = """
        tunnel: gre
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              app:
                ports:
                  rack: { host: h1, vxlan: { vni: 5000, as: 65000, peers: [192.0.2.5, 192.0.2.4 as 65004] } }
                  more: { host: h1, vxlan: { vni: 5001, as: 65000, peers: [192.0.2.4 as 65004] } }
                  there: { host: h2, vxlan: { vni: 5000, as: 65000, peers: [192.0.2.4 as 65004] } }
            routers:
              gw:
                bgp: { as: 65001, announce: [10.0.0.0/8] }
                ports:
                  wan:
                    host: h1
                    address: [100.64.9.1/30, "2001:db8:9::1/64"]
                    vxlan: { vni: 9000, as: 65000, peers: [192.0.2.6 as 65006] }
                    peers: [{ address: 100.64.9.2, as: 65000 }, { address: "2001:db8:9::2", as: 65000 }]
        """

    @Test func `networks of a host are told of by one speaker, with the peers of all of them`() throws {
        let topology = try draw(Self.drawing)
        let plan = try #require(EVPNPlan(topology, host: "h1"))
        #expect(plan.system == 65000 && plan.local.description == "192.0.2.1")
        #expect(plan.peers.map(\.address.description) == ["192.0.2.4", "192.0.2.5", "192.0.2.6"])
        #expect(plan.peers.map(\.system) == [65004, 65000, 65006])
        #expect(plan.bridged.map(\.identifier).sorted() == [5000, 5001])
        let wan = try #require(PortPath("t/gw/wan"))
        let routed = try #require(plan.routed[wan])
        #expect(routed.network.addresses.map(\.description) == ["100.64.9.2/30", "2001:db8:9::2/64"])
        #expect(routed.routers.map(\.description) == ["100.64.9.1", "2001:db8:9::1"] && routed.system == 65001)
        #expect(EVPNPlan(topology, host: "h2")?.routed.isEmpty == true)
        #expect(EVPNPlan(topology, host: "h3") == nil)
        // What is not known has no kernel's interface of its own.
        for port in topology.evpnPorts(of: "h1") { #expect(VXLANDevices.Plan(port, topology) == nil) }
    }

    @Test func `FRRouting takes what each part is told`() throws {
        let plan = try #require(EVPNPlan(try draw(Self.drawing), host: "h1"))
        let front = EVPNConfiguration.front(plan)
        var texts = [
            (front.foundation + front.peers.flatMap(\.lines) + front.peers.flatMap(\.removal)).joined(separator: "\n")
                + "\n"
        ]
        texts.append(EVPNConfiguration.bridged(plan))
        for (path, routed) in plan.routed { texts.append(EVPNConfiguration.routed(plan, path, routed)) }
        for text in texts {
            let words = try Uplinks.refusalOfFRR(text)
            #expect(words == nil, "\(text)")
        }
        // Parts of other hosts are told apart: else what one tells would take the place of what the other does.
        let other = try #require(EVPNPlan(try draw(Self.drawing), host: "h2"))
        func identifier(_ text: String) -> Substring? {
            text.split(separator: "\n").first { $0.contains("router-id") }
        }
        let identifiers = texts.map(identifier) + [identifier(EVPNConfiguration.bridged(other))]
        #expect(Set(identifiers).count == identifiers.count)
    }

    @Test func `what is said of EVPN is read as it was written, and what can't be is told with its place`() throws {
        let topology = try draw(Self.drawing)
        let again = try draw(ManifestWriter.write(topology, tenant: nil))
        for port in topology.evpnPorts(of: "h1") + topology.evpnPorts(of: "h2") {
            #expect(again.ports[port.path] == port)
            var writer = ByteWriter()
            TopologyObject.port(port).encode(&writer)
            var reader = ByteReader(writer.bytes)
            #expect(try TopologyObject(from: &reader) == .port(port))
        }
        for (from, to, words) in [
            (
                "vni: 5001, as: 65000, peers: [192.0.2.4 as 65004]",
                "vni: 5001, as: 65009, peers: [192.0.2.4 as 65004]", "has another as or local on host h1"
            ),
            (
                "vni: 5001, as: 65000, peers: [192.0.2.4 as 65004]", "vni: 5001, as: 65000, peers: [192.0.2.4]",
                "in another system than"
            ),
            ("vni: 5001, as: 65000,", "vni: 5001,", "is said, and no system"),
            ("vni: 5001, as: 65000, peers: [192.0.2.4 as 65004]", "vni: 5001, as: 65000", "has a system and no peers"),
            (
                "vni: 5001, as: 65000, peers", "vni: 5001, as: 65000, vteps: [192.0.2.9], peers",
                "names end points and peers"
            ),
            ("[192.0.2.5, ", "[192.0.2.1, ", "which is this host's own address"),
            ("[192.0.2.5, ", "[192.0.2.4, ", "names 192.0.2.4 twice"),
            ("[192.0.2.5, ", "[192.0.2.5 of 7, ", "names 192.0.2.5 of 7"),
            ("vni: 5001, as", "vni: 9000, as", "has vni 9000"),
            ("address: 100.64.9.2, as: 65000", "address: 100.64.9.2, as: 65002", "the peer is this network"),
            ("vni: 5001, as: 65000,", "vni: 5000, udp: 4790, as: 65000,", "use another, whatever udp is"),
            ("address: 100.64.9.2, as: 65000", "address: 100.64.9.2, as: 65000, password: x", "with a password"),
            ("tunnel: gre", "tunnel: vxlan", "needs UDP port 4789"),
        ] {
            let text = Self.drawing.replacing(from, with: to)
            #expect(text != Self.drawing, "\(from)")
            let error = #expect(throws: (any Error).self) { try draw(text) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(words): \(error.map { "\($0)" } ?? "")")
        }
    }
}
