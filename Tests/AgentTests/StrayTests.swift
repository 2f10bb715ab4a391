// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@testable import Agent
@testable import Datapath

/// Hosts learn one after another that a port has moved.
@Suite struct StrayTests {
    /// The port `t/a/vm` on a host, one of `h1`, `h2` and `h3`.
    private static func drawing(vm host: String) throws -> Topology {
        try draw(
            """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
            tunnel: vxlan
            tenants:
              t:
                bridges:
                  a:
                    ports:
                      vm: { host: \(host), interface: vm, mac: "0e:00:00:00:01:01" }
                      peer: { host: h3, interface: peer, mac: "0e:00:00:00:01:02" }
            """)
    }
    private static let vm = PortPath(device: DevicePath(tenant: "t", name: "a"), name: "vm")

    private let frame = Frame.udp(
        etherSource: MACAddress(bits: 0x0e00_0000_0102), etherDestination: MACAddress(bits: 0x0e00_0000_0101),
        source: IPAddress(IPv4Address(bits: 0x0a00_010c)), destination: IPAddress(IPv4Address(bits: 0x0a00_010b)),
        sourcePort: 9, destinationPort: 53, data: [])

    /// What h3 sends for the port.
    private func arrive(at scene: Scene, sentOn: Bool = false) throws {
        let key = try #require(scene.thread.epoch.fabric.topology.ports[Self.vm]?.tunnelKey)
        scene.send(
            frame, port: 100,
            tunnel: (sentOn ? key | TunnelKeys.sentOn : key, IPAddress(IPv4Address(bits: 0xc000_0203))))
    }

    /// Where packets went by tunnel, and with which key.
    private func tunnels(_ scene: Scene) -> [(id: UInt32, to: IPAddress)] {
        scene.datapath.sent.flatMap(\.actions).compactMap { action in
            if case .setTunnel(let header) = action { return (header.id, header.destination) }
            return nil
        }
    }

    @Test func `what comes for a port that has just gone to another host is sent on there`() throws {
        let scene = Scene(try Self.drawing(vm: "h1"))
        let after = try Self.drawing(vm: "h2")
        scene.apply(after, bound: [Self.vm: PortNumber(1)])
        try arrive(at: scene)
        let key = try #require(after.ports[Self.vm]?.tunnelKey)
        #expect(tunnels(scene).map(\.id) == [key | TunnelKeys.sentOn])
        #expect(tunnels(scene).map(\.to) == [IPAddress(IPv4Address(bits: 0xc000_0202))])
    }

    @Test func `what was sent on is not sent on again, whatever this host thinks`() throws {
        let scene = Scene(try Self.drawing(vm: "h1"))
        scene.apply(try Self.drawing(vm: "h2"), bound: [Self.vm: PortNumber(1)])
        try arrive(at: scene, sentOn: true)
        #expect(tunnels(scene).isEmpty)
        #expect(scene.thread.counters.drops[.notHere] == 1)
    }

    @Test(arguments: [false, true])
    func `what comes for a port before it is here goes to it when it has come`(sentOn: Bool) throws {
        let scene = Scene(try Self.drawing(vm: "h2"))
        try arrive(at: scene, sentOn: sentOn)
        #expect(scene.datapath.sent.isEmpty)
        // Its interface is not open yet.
        scene.apply(try Self.drawing(vm: "h1"), bound: [:])
        try arrive(at: scene, sentOn: sentOn)
        #expect(scene.datapath.sent.isEmpty)
        scene.apply(try Self.drawing(vm: "h1"), bound: [Self.vm: PortNumber(7)])
        #expect(scene.datapath.sent.map(\.actions) == [[.output(PortNumber(7))], [.output(PortNumber(7))]])
        try arrive(at: scene, sentOn: sentOn)
        #expect(scene.datapath.sent.count == 3)
    }

    @Test func `what comes for a port that stays elsewhere is sent on in the end, from then on at once`() throws {
        let scene = Scene(try Self.drawing(vm: "h2"))
        try arrive(at: scene)
        #expect(scene.datapath.sent.isEmpty)
        scene.advance(AgentLimits.strayNanoseconds)
        #expect(tunnels(scene).count == 1)
        let key = try #require(scene.thread.epoch.fabric.topology.ports[Self.vm]?.tunnelKey)
        #expect(scene.datapath.installed.values.contains { $0.key.tunnelID == UInt64(key) })
    }

    @Test func `what is held for a port is bounded, and what is over goes where the port is thought to be`() throws {
        let scene = Scene(try Self.drawing(vm: "h2"))
        for _ in 0..<AgentLimits.straysPerPort { try arrive(at: scene) }
        #expect(scene.thread.strays.count == AgentLimits.straysPerPort)
        #expect(scene.datapath.sent.isEmpty)
        try arrive(at: scene)
        #expect(scene.thread.strays.count == AgentLimits.straysPerPort)
        #expect(tunnels(scene).count == 1)
    }

    @Test func `what comes to a thread that keeps no standing flows gets its flow from the one that does`() throws {
        let keeper = Scene(try Self.drawing(vm: "h2"))
        let other = Scene(try Self.drawing(vm: "h2"), installsStanding: false)
        try arrive(at: other)
        other.advance(AgentLimits.strayNanoseconds)
        #expect(tunnels(other).count == 1)
        let key = try #require(keeper.thread.epoch.fabric.topology.ports[Self.vm]?.tunnelKey)
        func hasFlow(_ scene: Scene) -> Bool {
            scene.datapath.installed.values.contains { $0.key.tunnelID == UInt64(key) }
        }
        #expect(!hasFlow(other))
        for message in other.broadcasts { keeper.thread.post(message) }
        keeper.wake()
        #expect(hasFlow(keeper))
    }

    @Test func `a flow that sends on goes when its port is here`() throws {
        let scene = Scene(try Self.drawing(vm: "h2"))
        try arrive(at: scene)
        scene.advance(AgentLimits.strayNanoseconds)
        scene.apply(try Self.drawing(vm: "h1"), bound: [:])
        let key = try #require(scene.thread.epoch.fabric.topology.ports[Self.vm]?.tunnelKey)
        #expect(!scene.datapath.installed.values.contains { $0.key.tunnelID == UInt64(key) })
    }
}
