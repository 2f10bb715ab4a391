// SPDX-License-Identifier: Apache-2.0
import Datapath
import Gossip
import TestSupport
import Testing
import Topology
import Wire

@testable import Agent
@testable import Simulation

/// Which way packets take to a host that several lead to.
@Suite struct EpochTests {
    private static let drawing = """
        hosts:
          h1: { zones: { default: 192.0.2.1, second: 198.51.100.1 } }
          h2: { zones: { default: 192.0.2.2, second: 198.51.100.2 } }
          h3: { zones: { second: 198.51.100.3 } }
        tunnel: vxlan
        zones: { second: { tunnel: gre } }
        tenants: { t: { bridges: { a: {} } } }
        """
    private let avoided = AvoidedPaths()

    private func epoch() throws -> Epoch {
        let ends = [
            end(.vxlan, 0xc000_0201): PortNumber(100), end(.gre, 0xc633_6401): PortNumber(101),
        ]
        return Epoch(
            fabric: Fabric(try draw(Self.drawing), localHost: "h1"), bound: [:], tunnelPorts: ends, avoided: avoided
        )
    }

    private func end(_ encapsulation: TunnelZone.Encapsulation, _ address: UInt32) -> TunnelEnd {
        TunnelEnd(encapsulation: encapsulation, local: IPAddress(IPv4Address(bits: address)))
    }

    private func host(_ name: String, _ epoch: Epoch) -> HostIndex? {
        epoch.fabric.reachableHosts.first { epoch.fabric.name($0) == name }
    }

    @Test func `flows are shared among the ways that work, each keeps its own`() throws {
        let epoch = try epoch()
        let other = try #require(host("h2", epoch))
        let before = (0..<1000).map { epoch.tunnel(to: other, key: UInt32($0), from: 1)?.path.end.encapsulation }
        #expect(before.filter { $0 == .gre }.count > 400 && before.filter { $0 == .vxlan }.count > 400)
        let down = TunnelPath(end: end(.vxlan, 0xc000_0201), remote: IPAddress(IPv4Address(bits: 0xc000_0202)))
        avoided.set([down])
        for key in 0..<1000 {
            #expect(epoch.tunnel(to: other, key: UInt32(key), from: 1)?.path.end.encapsulation == .gre)
        }
        avoided.set([])
        let after = (0..<1000).map { epoch.tunnel(to: other, key: UInt32($0), from: 1)?.path.end.encapsulation }
        #expect(after == before)
    }

    @Test func `where no way works, or there is one only, packets still have one`() throws {
        let epoch = try epoch()
        avoided.set([
            TunnelPath(end: end(.vxlan, 0xc000_0201), remote: IPAddress(IPv4Address(bits: 0xc000_0202))),
            TunnelPath(end: end(.gre, 0xc633_6401), remote: IPAddress(IPv4Address(bits: 0xc633_6402))),
            TunnelPath(end: end(.gre, 0xc633_6401), remote: IPAddress(IPv4Address(bits: 0xc633_6403))),
        ])
        #expect(epoch.tunnel(to: try #require(host("h2", epoch)), key: 7, from: 1) != nil)
        #expect(epoch.tunnel(to: try #require(host("h3", epoch)), key: 7, from: 1)?.path.end.encapsulation == .gre)
    }

    @Test func `what leaves fits each of the ways`() throws {
        // VXLAN leaves less than GRE does.
        let topology = try draw(Self.drawing)
        let fabric = Fabric(topology, localHost: "h1")
        let zones = try ["default", "second"].map { try #require(topology.zones[$0]).overlayMTU(underlay: .ipv4) }
        for name in ["h2", "h3"] {
            let host = try #require(fabric.reachableHosts.first { fabric.name($0) == name })
            #expect(Int(fabric.hosts[Int(host.value)].mtu) == (name == "h2" ? zones.min() : zones[1]))
        }
    }
}

/// What is made of what probes found.
@Suite struct PathChoiceTests {
    private func way(_ zone: UInt32, _ state: PathState, since: UInt64 = 0) -> (String, TunnelPath, PathState, UInt64) {
        let end = TunnelEnd(encapsulation: .gre, local: IPAddress(IPv4Address(bits: zone << 8 | 1)))
        return ("h2", TunnelPath(end: end, remote: IPAddress(IPv4Address(bits: zone << 8 | 2))), state, since)
    }

    private func choice(_ ways: [(String, TunnelPath, PathState, UInt64)]) -> (
        dead: Bool, taken: [Int], detour: Detour?
    ) {
        let choice = PathChoice(ways.map { (host: $0.0, path: $0.1, state: $0.2, since: $0.3) })
        let taken = ways.indices.filter { !choice.avoided.contains(ways[$0].1) }
        return (choice.dead.contains("h2"), taken, choice.detours["h2"])
    }

    @Test func `ways that are known to work are taken before those of which nothing is known`() {
        #expect(choice([way(1, .up), way(2, .up)]).taken == [0, 1])
        #expect(choice([way(1, .unknown), way(2, .up)]).taken == [1])
        #expect(choice([way(1, .unknown), way(2, .unknown)]).taken == [0, 1])
        #expect(choice([way(1, .unknown), way(2, .down)]).taken == [0])
        #expect(choice([way(1, .unknown), way(2, .up)]).detour == nil)
    }

    @Test func `a host that does not answer is sent to the way that worked last`() {
        let all = choice([way(1, .down, since: 5), way(2, .down, since: 9), way(3, .down, since: 7)])
        #expect(all.dead && all.taken == [1] && all.detour == nil)
        #expect(choice([way(1, .down)]).taken == [0])
    }

    @Test func `what nodes tell each other goes to an address that works`() {
        let some = choice([way(1, .down), way(2, .unknown), way(3, .up)])
        #expect(!some.dead && some.taken == [2])
        #expect(some.detour?.replacing("0.0.1.2") == "0.0.3.2")
        #expect(some.detour?.replacing("0.0.2.2") == "0.0.2.2")
        #expect(some.detour?.replacing("node.example") == "node.example")
    }
}
