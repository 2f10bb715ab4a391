// SPDX-License-Identifier: Apache-2.0
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Simulation

/// Ports that lead to one network outside.
@Suite struct SegmentTests {
    private static let drawing = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
        tenants:
          t:
            bridges:
              a:
                ports:
                  vm: { host: h3, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 }
                  near: { host: h1, interface: near, mac: "0e:00:00:00:01:02", address: 10.0.1.12/24 }
                  wall1: { host: h1, interface: lan, segment: wall, preference: 200 }
                  wall2: { host: h2, interface: lan, segment: wall }
                  wall3: { host: h2, interface: lan2, segment: wall }
                  other: { host: h2, interface: other, segment: elsewhere }
        """
    private let printer = MACAddress(bits: 0x0e00_0000_0050)

    private func hosts() throws -> [String: Host] {
        let topology = try draw(Self.drawing)
        return Dictionary(
            uniqueKeysWithValues: ["h1", "h2", "h3"].map {
                ($0, Host(topology: topology, state: TableState(), host: $0))
            })
    }

    private func frame(from source: MACAddress, to destination: MACAddress) -> [UInt8] {
        Frame.ethernet(from: source, to: destination, type: 0x88b5, payload: [UInt8](repeating: 7, count: 46))
    }

    /// Where a frame goes, by name of port; what goes to another host by tunnel is named as well.
    private func ways(_ host: Host, _ frame: [UInt8], at port: String) -> Set<String> {
        let verdict = host.send(frame, at: "t/a/\(port)")
        return Set(
            verdict.outputs.map { output in
                switch output.destination {
                case .local(let port): host.fabric.path(port).name
                case .remote(let to, let key):
                    host.fabric.topology.ports.values.first { $0.tunnelKey == key }?.path.name
                        ?? "flood \(host.fabric.name(to))"
                }
            })
    }

    @Test func `one port of a segment gets what is for all, and what is for a station behind it`() throws {
        let host = try #require(try hosts()["h3"])
        let vm = MACAddress(bits: 0x0e00_0000_0101)
        #expect(ways(host, frame(from: vm, to: .broadcast), at: "vm") == ["flood h1", "wall1", "other"])
        // It was seen at a port that stands by now.
        host.state.set(printer, vlan: 0, bridge: .bridge(try #require(DevicePath("t/a"))), at: tag("wall2"))
        #expect(ways(host, frame(from: vm, to: printer), at: "vm") == ["wall1"])
        host.state.dead.withLock { $0 = [.host("h1")] }
        #expect(ways(host, frame(from: vm, to: printer), at: "vm") == ["wall2"])
        #expect(ways(host, frame(from: vm, to: .broadcast), at: "vm").isSuperset(of: ["wall2", "other"]))
        #expect(!ways(host, frame(from: vm, to: .broadcast), at: "vm").contains("wall1"))
        host.state.dead.withLock { $0 = [.host("h1"), .host("h2")] }
        let verdict = host.send(frame(from: vm, to: printer), at: "t/a/vm")
        #expect(verdict.drop == .noCarrier)
    }

    @Test func `what stands by takes nothing in, and learns nothing`() throws {
        let host = try #require(try hosts()["h2"])
        for port in ["wall2", "wall3"] {
            let verdict = host.send(frame(from: printer, to: .broadcast), at: "t/a/\(port)")
            #expect(verdict.drop == .standby && verdict.learned.isEmpty && verdict.isCacheable)
        }
        // The other one is another network.
        #expect(ways(host, frame(from: printer, to: .broadcast), at: "other") == ["flood h1", "flood h3", "wall1"])
        host.state.dead.withLock { $0 = [.host("h1")] }
        #expect(ways(host, frame(from: printer, to: .broadcast), at: "wall2").contains("flood h3"))
        #expect(host.send(frame(from: printer, to: .broadcast), at: "t/a/wall3").drop == .standby)
    }

    @Test func `what came in by a segment never leaves by it, whatever each host thinks of the others`() throws {
        let hosts = try hosts()
        let walls: Set = ["wall1", "wall2", "wall3"]
        for dead in [[], ["h1"], ["h2"], ["h1", "h2"]] as [[String]] {
            for (name, host) in hosts {
                host.state.dead.withLock { $0 = Set(dead.filter { $0 != name }.map(Simulation.Tag.host)) }
            }
            for (name, ports) in [("h1", ["wall1"]), ("h2", ["wall2", "wall3"])] {
                let host = try #require(hosts[name])
                for port in ports {
                    #expect(ways(host, frame(from: printer, to: .broadcast), at: port).isDisjoint(with: walls))
                    let elsewhere = walls.subtracting([port]).sorted().first ?? ""
                    host.state.set(
                        MACAddress(bits: 0x0e00_0000_0051), vlan: 0, bridge: .bridge(try #require(DevicePath("t/a"))),
                        at: tag(elsewhere))
                    let known = frame(from: printer, to: MACAddress(bits: 0x0e00_0000_0051))
                    #expect(ways(host, known, at: port) == [])
                }
            }
            // Nor does a flood that comes by tunnel reach it but by its own key.
            for name in ["h1", "h2"] {
                let host = try #require(hosts[name])
                let verdict = host.arrive(
                    frame(from: MACAddress(bits: 0x0e00_0000_0101), to: .broadcast),
                    key: floodKey(host))
                #expect(Set(host.outputs(verdict)).isDisjoint(with: walls.map { "t/a/\($0)" }))
            }
        }
    }

    @Test func `what comes back from outside of our own is dropped, and teaches nothing`() throws {
        let host = try #require(try hosts()["h1"])
        // A machine's own frame, while another host carries as well.
        let own = host.send(frame(from: MACAddress(bits: 0x0e00_0000_0101), to: .broadcast), at: "t/a/wall1")
        #expect(own.drop == .reflected && own.learned.isEmpty)
        // What tells switches of a station that was learned here; where it speaks itself, it has moved.
        let station = MACAddress(bits: 0x0e00_0000_0077)
        let bridge = Simulation.Tag.bridge(try #require(DevicePath("t/a")))
        host.state.set(station, vlan: 0, bridge: bridge, at: tag("near"))
        let told = host.send(Frame.reverseARP(for: station), at: "t/a/wall1")
        #expect(told.drop == .reflected && told.learned.isEmpty)
        #expect(host.send(frame(from: station, to: .broadcast), at: "t/a/wall1").learned.count == 1)
        // At whichever port of the segment it was seen, it stays where it is.
        host.state.set(station, vlan: 0, bridge: bridge, at: tag("wall2"))
        #expect(host.send(frame(from: station, to: .broadcast), at: "t/a/wall1").learned.isEmpty)
        // A machine outside may tell of itself.
        #expect(host.send(Frame.reverseARP(for: printer), at: "t/a/wall1").drop == nil)
    }

    @Test func `a port that is changed is held against those that are not`() throws {
        let before = try draw(Self.drawing)
        for name in ["wall1", "wall2"] {
            var after = before
            let path = try #require(PortPath("t/a/\(name)"))
            after.ports[path]?.vlan = .access(7)
            let problems = after.problems(after: TopologyDifference(from: before, to: after))
            #expect(problems.contains { "\($0)".contains("other VLANs") }, "\(name): \(problems)")
        }
    }

    @Test func `what the bridge itself says leaves by the port that carries only`() throws {
        let host = try #require(try hosts()["h2"])
        func sent(_ port: String) -> [String] {
            var simulator = Simulator(fabric: host.fabric, state: host.state)
            let frame = frame(from: MACAddress(bits: 0x0e00_0000_0101), to: .broadcast)
            frame.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                simulator.simulateGenerated(
                    SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: 46),
                    leaving: host.port("t/a/\(port)"), isService: true)
            }
            return host.outputs(simulator.verdict)
        }
        #expect(sent("wall2") == [] && sent("other") == ["t/a/other"])
        host.state.dead.withLock { $0 = [.host("h1")] }
        #expect(sent("wall2") == ["t/a/wall2"] && sent("wall3") == [])
    }

    private func floodKey(_ host: Host) -> UInt32 {
        host.fabric.topology.bridges.values.first { $0.path.name == "a" }?.floodKey ?? 0
    }

    private func tag(_ port: String) -> Simulation.Tag {
        guard let path = PortPath("t/a/\(port)") else { preconditionFailure("no port \(port)") }
        return .port(path)
    }

    @Test func `a segment's ports must lead to one network`() {
        for (text, problem) in [
            ("wall2: { host: h2, interface: lan, segment: wall, vlan: 7 }", "which has other VLANs"),
            ("wall2: { host: h2, interface: lan, segment: wall, address: 10.0.0.1/24 }", "has addresses"),
            ("wall2: { host: h2, interface: lan, preference: 7 }", "no segment"),
        ] {
            let drawing = """
                hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
                tenants:
                  t:
                    bridges:
                      a: { ports: { wall1: { host: h1, interface: lan, segment: wall }, \(text) } }
                """
            let error = #expect(throws: (any Error).self) { try draw(drawing) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(problem))
        }
    }
}

/// VXLAN end points of others, as they are said.
@Suite struct VXLANEndTests {
    private func drawing(_ port: String, tunnel: String = "gre") -> String {
        """
        hosts: { h1: { address: 192.0.2.1 } }
        tunnel: \(tunnel)
        tenants: { t: { bridges: { a: { ports: { rack: { \(port) }, more: {} } } } } }
        """
    }

    @Test func `the interface follows from the port, and what is not said from the host`() throws {
        let topology = try draw(drawing("host: h1, vxlan: { vni: 5000, vteps: [192.0.2.51, 192.0.2.50, 192.0.2.51] }"))
        let port = try #require(topology.ports.values.first { $0.path.name == "rack" })
        #expect(port.vxlan?.remotes.map(\.description) == ["192.0.2.50", "192.0.2.51"])
        #expect(port.attachment == .exterior(host: "h1", interface: port.path.vxlanInterface))
        #expect(port.path.vxlanInterface.utf8.count < 16)
        var bytes = ByteWriter()
        TopologyObject.port(port).encode(&bytes)
        var reader = ByteReader(bytes.bytes)
        #expect(try TopologyObject(from: &reader) == .port(port))
    }

    @Test(arguments: [
        ("host: h1, vxlan: { vteps: [192.0.2.50] }", "gre", "vni is not said"),
        ("host: h1, vxlan: { vni: 16777216, vteps: [192.0.2.50] }", "gre", "1 to 16777215"),
        ("host: h1, vxlan: { vni: 1, vteps: [here] }", "gre", "names here"),
        ("host: h1, vxlan: { vni: 1, vteps: [224.0.0.1] }", "gre", "which is no host"),
        ("host: h1, vxlan: { vni: 1 }", "gre", "names no end points"),
        ("host: h1, interface: eth1, vxlan: { vni: 1, vteps: [192.0.2.50] }", "gre", "bound otherwise"),
        ("vxlan: { vni: 1, vteps: [192.0.2.50] }", "gre", "bound otherwise"),
        ("host: h1, address: 10.0.0.1/24, vxlan: { vni: 1, vteps: [192.0.2.50] }", "gre", "with addresses"),
        ("host: h1, vxlan: { vni: 1, vteps: [192.0.2.50] }", "vxlan", "whose tunnels have it"),
    ])
    func `what can't be is told with its reason`(_ port: String, _ tunnel: String, _ reason: String) {
        let error = #expect(throws: (any Error).self) { try draw(drawing(port, tunnel: tunnel)) }
        #expect("\(error.map { "\($0)" } ?? "")".contains(reason), "\(error.map { "\($0)" } ?? "")")
    }
}
