// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Topology
import Wire

@Suite struct TopologyTests {
    @Test func `tunnel keys are unique, fit 24 bits, and follow from names`() throws {
        let topology = try draw(Drawings.routers)
        let keys = topology.ports.values.map(\.tunnelKey) + topology.bridges.values.map(\.floodKey)
        #expect(Set(keys).count == keys.count)
        #expect(keys.allSatisfy { (TunnelKeys.first...TunnelKeys.last).contains($0) })
        let again = try draw(Drawings.routers)
        #expect(again == topology)
    }

    @Test func `clashing names get different keys, the same wherever the topology comes from`() {
        var topology = Topology()
        let device = DevicePath(tenant: "t", name: "b")
        topology.bridges[device] = Bridge(path: device)
        // 24 bits and 20,000 names: by the birthday bound some clash.
        for index in 0..<20_000 {
            let path = PortPath(device: device, name: "p\(index)")
            topology.ports[path] = Port(path: path, kind: .bridge)
        }
        TunnelKeys.assign(&topology)
        #expect(Set(topology.ports.values.map(\.tunnelKey)).count == 20_000)
        var again = Topology()
        again.bridges[device] = Bridge(path: device)
        for path in topology.ports.keys { again.ports[path] = Port(path: path, kind: .bridge) }
        TunnelKeys.assign(&again)
        #expect(again == topology)
    }

    @Test func `a difference names what changed and nothing else`() throws {
        let old = try draw(Drawings.routers)
        #expect(TopologyDifference(from: old, to: old).isEmpty)
        var new = old
        let port = try #require(PortPath("t/a/vm"))
        let gw = DevicePath(tenant: "t", name: "gw")
        new.ports[port]?.isEnabled = false
        let added = try Prefix(parsing: "192.168.0.0/16")
        new.routers[gw]?.routes.append(Route(destination: added, nextHop: .blackhole))
        let difference = TopologyDifference(from: old, to: new)
        #expect(difference.ports == [port])
        #expect(difference.routes == [gw: [added]])
        #expect(difference.routers.isEmpty)
        #expect(difference.bridges.isEmpty)
        #expect(difference.hosts.isEmpty)
    }

    @Test func `what would not work is a problem with a remedy`() throws {
        var topology = try draw(Drawings.bridge)
        let one = try #require(PortPath("t/b/one"))
        let two = try #require(PortPath("t/b/two"))
        topology.ports[one]?.attachment = .exterior(host: "h9", interface: "two")
        topology.ports[two]?.attachment = .exterior(host: "h1", interface: "a-name-that-is-too-long")
        topology.ports[two]?.addresses = [try InterfaceAddress(parsing: "10.0.1.0/24")]
        topology.ports[two]?.mac = MACAddress(bits: 0x0100_0000_0000)
        let reasons = topology.problems().map(\.reason)
        #expect(reasons.contains("host h9 does not exist"))
        #expect(reasons.contains("\"a-name-that-is-too-long\" cannot name a network interface"))
        #expect(reasons.contains("10.0.1.0 is the network address of 10.0.1.0/24"))
        #expect(reasons.contains("MAC 01:00:00:00:00:00 is not that of one station"))
        #expect(topology.problems().allSatisfy { !$0.remedy.isEmpty })
    }

    @Test func `the overlay's MTU is what outer headers leave`() {
        #expect(TunnelZone(name: "z", encapsulation: .gre).overlayMTU(underlay: .ipv4) == 1458)
        #expect(TunnelZone(name: "z", encapsulation: .vxlan).overlayMTU(underlay: .ipv4) == 1450)
        #expect(TunnelZone(name: "z", encapsulation: .vxlan).overlayMTU(underlay: .ipv6) == 1430)
    }
}

@Suite struct PortTableTests {
    @Test func `a table does not remember what was done to it`() {
        let device = DevicePath(tenant: "t", name: "b")
        func port(_ number: Int, _ mac: UInt64) -> Port {
            var port = Port(path: PortPath(device: device, name: "p\(number)"), kind: .bridge)
            port.mac = MACAddress(bits: mac)
            return port
        }
        // Twenty have one MAC for a while; one keeps it.
        var topology = Topology()
        topology.bridges[device] = Bridge(path: device)
        for number in 1...20 { topology.ports[port(number, 0x0e01).path] = port(number, 0x0e01) }
        #expect(topology.problems().count == 19)
        for number in 1...19 { topology.ports[port(number, 0).path] = port(number, 0x0e10 + UInt64(number)) }
        #expect(topology.problems().isEmpty)
        var other = topology
        for changed in [port(99, 0x0e01)] { other.ports[changed.path] = changed }
        #expect(other.problems(after: TopologyDifference(from: topology, to: other)).count == 1)
    }

    @Test func `a machine has no address that a router has of its MAC`() throws {
        var topology = try draw(Drawings.bridge)
        let bridge = DevicePath(tenant: "t", name: "b")
        let router = DevicePath(tenant: "t", name: "r")
        topology.routers[router] = Router(path: router)
        var near = Port(path: PortPath(device: router, name: "b"), kind: .router)
        var far = Port(path: PortPath(device: bridge, name: "r"), kind: .bridge)
        (near.attachment, far.attachment) = (.peer(far.path), .peer(near.path))
        near.addresses = [try InterfaceAddress(parsing: "10.0.1.254/24")]
        (topology.ports[near.path], topology.ports[far.path]) = (near, far)
        #expect(topology.problems().isEmpty)
        let linkLocal = IPAddress(IPv6Address.linkLocal(for: near.mac))
        topology.ports[PortPath(device: bridge, name: "one")]?.addresses.append(
            InterfaceAddress(linkLocal, length: 64))
        #expect(topology.problems().count == 1)
    }
}

extension PortTableTests {
    @Test func `thousands of one MAC are found in time`() {
        let device = DevicePath(tenant: "t", name: "b")
        var topology = Topology()
        topology.bridges[device] = Bridge(path: device)
        let count = 5000
        for number in 0..<count {
            var port = Port(path: PortPath(device: device, name: "p\(number)"), kind: .bridge)
            port.mac = MACAddress(bits: 0x0e01)
            topology.ports[port.path] = port
        }
        let began = ContinuousClock.now
        #expect(topology.problems().count == count - 1)
        // Each looked at against each took minutes.
        #expect(ContinuousClock.now - began < .seconds(20))
    }
}
