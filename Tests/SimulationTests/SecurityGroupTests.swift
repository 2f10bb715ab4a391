// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@Suite struct SecurityGroupTests {
    static let drawing = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            addressGroups: { offices: [10.0.1.13] }
            securityGroups:
              web:
                in:
                  - { id: http, protocol: tcp, port: 80 }
                  - { id: admin, protocol: tcp, port: 22, addressGroup: offices }
              db:
                in: [{ id: sql, protocol: tcp, port: 5432, group: web }]
                out: [{ id: peers, group: db }]
              shut: {}
            bridges:
              b:
                ports:
                  web: { host: h1, interface: i1, mac: "0e:00:00:00:00:01", address: [10.0.1.11/24, "fd00:1::11/64"], security: web, allowed: [10.0.1.200, "10.0.1.201 0e:00:00:00:00:99"] }
                  db: { host: h1, interface: i2, mac: "0e:00:00:00:00:02", address: 10.0.1.12/24, security: db }
                  free: { host: h1, interface: i3, mac: "0e:00:00:00:00:03", address: [10.0.1.13/24, "fd00:1::13/64"] }
                  peer: { host: h2, interface: i4, mac: "0e:00:00:00:00:04", address: 10.0.1.14/24, security: db }
                  shut: { host: h2, interface: i5, mac: "0e:00:00:00:00:05", address: 10.0.1.15/24, security: shut }
        """

    private func send(
        _ host: Host, _ from: String, _ to: String, _ port: UInt16, source: String? = nil, flags: UInt8 = 2,
        from sourcePort: UInt16 = 4000
    ) -> Carried {
        let sender = PortPath("t/b/\(from)").flatMap { host.fabric.topology.ports[$0] }
        let target = PortPath("t/b/\(to)").flatMap { host.fabric.topology.ports[$0] }
        let address = source.map { SimulationTests.address($0) } ?? sender?.addresses.first?.address
        return host.carry(
            Frame.tcp(
                etherSource: sender?.mac ?? .zero, etherDestination: target?.mac ?? .zero,
                source: address ?? .init(high: 0, low: 0, family: .ipv4),
                destination: target?.addresses.first?.address ?? .init(high: 0, low: 0, family: .ipv4),
                sourcePort: sourcePort, destinationPort: port, flags: flags), at: "t/b/\(from)")
    }

    @Test func `a machine gets what its groups let in and answers to what it sent, and nothing else`() throws {
        let host = try Host(SecurityGroupTests.drawing)
        #expect(send(host, "free", "web", 80).place == "t/b/web")
        #expect(send(host, "free", "web", 22).place == "t/b/web", "by its address")
        #expect(send(host, "free", "web", 443).drop == .filtered)
        #expect(send(host, "free", "web", 81).drop == .filtered)
        #expect(send(host, "web", "db", 5432).place == "t/b/db")
        #expect(send(host, "free", "db", 5432).drop == .filtered)
        // Who sends is known by the port, not by the address.
        #expect(send(host, "free", "db", 5432, source: "10.0.1.11", from: 4777).drop == .filtered)
        // Answers come back, also to who may send nothing.
        let back = send(host, "db", "web", 4000, flags: 0x12, from: 5432)
        #expect(back.place == "t/b/web")
        #expect(send(host, "free", "shut", 80).drop == .filtered)
        // A machine with rules for what it sends sends nothing else; one without sends anything.
        #expect(send(host, "db", "free", 80).drop == .filtered)
        #expect(send(host, "db", "peer", 5432).drop == .filtered, "let out, and not let in")
        #expect(send(host, "web", "free", 7).place == "t/b/free")
    }

    @Test func `what a machine says of itself is held to its port`() throws {
        let host = try Host(SecurityGroupTests.drawing)
        func frame(_ mac: UInt64, _ source: String, _ port: UInt16 = 7, from: UInt16 = 4000) -> [UInt8] {
            Frame.udp(
                etherSource: MACAddress(bits: mac), etherDestination: MACAddress(bits: 0x0e00_0000_0003),
                source: address(source), destination: address(source.contains(":") ? "fd00:1::13" : "10.0.1.13"),
                sourcePort: from, destinationPort: port, data: [])
        }
        let own: UInt64 = 0x0e00_0000_0001
        func drop(_ frame: [UInt8]) -> DropReason? { host.carry(frame, at: "t/b/web").drop }
        #expect(drop(frame(own, "10.0.1.11")) == nil)
        #expect(drop(frame(own, "fd00:1::11")) == nil)
        #expect(drop(frame(own, "fe80::1234")) == nil)
        #expect(drop(frame(own, "10.0.1.200")) == nil, "an address that is allowed besides")
        #expect(drop(frame(0x0e00_0000_0099, "10.0.1.201")) == nil, "with a MAC of its own")
        #expect(drop(frame(own, "10.0.1.201")) == .spoofedAddress)
        #expect(drop(frame(0x0e00_0000_0099, "10.0.1.11")) == .spoofedAddress)
        #expect(drop(frame(own, "10.0.1.12")) == .spoofedAddress)
        #expect(drop(frame(own, "fd00:1::12")) == .spoofedAddress)
        #expect(drop(frame(0x0e00_0000_0042, "10.0.1.11")) == .spoofedMAC)
        // It asks for an address without having one, and gives none.
        #expect(drop(frame(own, "0.0.0.0", 67, from: 68)) == nil)
        #expect(drop(frame(own, "0.0.0.0", 68, from: 67)) == .rogueServer)
        #expect(drop(frame(own, "10.0.1.11", 68, from: 67)) == .rogueServer)
        #expect(drop(frame(own, "fe80::1", 546, from: 547)) == .rogueServer)
        let advertisement = Frame.icmp(
            etherSource: MACAddress(bits: own), etherDestination: .multicast(for: IPv6Address.allNodes),
            source: address("fe80::1"), destination: IPAddress(IPv6Address.allNodes), type: 134, code: 0,
            data: [UInt8](repeating: 0, count: 8), ttl: 255)
        #expect(drop(advertisement) == .rogueServer)
        // Nobody else's address is answered for.
        func arp(_ sender: String, _ mac: UInt64 = 0x0e00_0000_0001) -> [UInt8] {
            Frame.arp(
                operation: 2, sender: (MACAddress(bits: mac), address(sender).v4 ?? .init(bits: 0)),
                target: (MACAddress(bits: 3), .init(bits: 0x0a00_010d)),
                etherDestination: MACAddress(bits: 0x0e00_0000_0003))
        }
        #expect(drop(arp("10.0.1.11")) == nil)
        #expect(drop(arp("10.0.1.13")) == .spoofedAddress)
        let solicited = Frame.neighborAdvertisement(
            target: address("fd00:1::13").v6 ?? .allNodes, mac: MACAddress(bits: own),
            etherDestination: MACAddress(bits: 0x0e00_0000_0003), destination: address("fd00:1::13").v6 ?? .allNodes,
            solicited: true, isRouter: false)
        #expect(drop(solicited) == .spoofedAddress)
        // A port in no group may say anything.
        #expect(send(host, "free", "web", 80, source: "10.0.1.99").drop == nil)
    }

    @Test func `a port that joins or leaves a group changes what new connections may, and open ones go on`() throws {
        let before = try draw(SecurityGroupTests.drawing)
        let state = TableState()
        let old = Host(Fabric(before, localHost: "h1"), state)
        let path = try #require(PortPath("t/b/free"))
        #expect(send(old, "free", "db", 5432).drop == .filtered)
        var after = before
        after.ports[path]?.security = ["web"]
        let difference = TopologyDifference(from: before, to: after)
        let new = Host(Fabric(after, after: old.fabric, difference), state)
        #expect(send(new, "free", "db", 5432).place == "t/b/db")
        #expect(send(new, "db", "free", 4000, flags: 0x12, from: 5432).place == "t/b/free")
        // And back: the connection that is open goes on, another one does not begin.
        let again = Host(Fabric(before, after: new.fabric, TopologyDifference(from: after, to: before)), state)
        #expect(send(again, "free", "db", 5432, flags: 0x10).place == "t/b/db")
        #expect(send(again, "free", "db", 5432, from: 4001).drop == .filtered)
        // The flows that this concerns are found by their tags.
        let tags = difference.tags(from: before, to: after)
        #expect(!tags.isDisjoint(with: send(old, "free", "db", 5432, from: 4002).verdict.tags))
    }

    @Test func `what machines of a group may send to another follows the addresses of those machines`() throws {
        var topology = try draw(SecurityGroupTests.drawing)
        let state = TableState()
        var host = Host(Fabric(topology, localHost: "h1"), state)
        let path = try #require(PortPath("t/b/free"))
        func change(_ body: (inout Topology) -> Void) {
            var next = topology
            body(&next)
            host = Host(Fabric(next, after: host.fabric, TopologyDifference(from: topology, to: next)), state)
            topology = next
        }
        #expect(send(host, "db", "free", 80).drop == .filtered)
        change { $0.ports[path]?.security = ["db", "web"] }
        #expect(send(host, "db", "free", 80).place == "t/b/free")
        change { $0.ports[path]?.addresses = [InterfaceAddress(address("10.0.1.77"), length: 24)] }
        #expect(send(host, "db", "free", 80, from: 4001).place == "t/b/free")
        change { $0.ports[path]?.security = ["web"] }
        #expect(send(host, "db", "free", 80, from: 4002).drop == .filtered)
    }

    @Test func `a group of thousands of ports costs one chain, and a port that joins compiles none`() throws {
        var topology = try draw(SecurityGroupTests.drawing)
        let bridge = DevicePath(tenant: "t", name: "b")
        for number in 0..<3000 {
            var port = Port(path: PortPath(device: bridge, name: "p\(number)"), kind: .bridge)
            port.security = ["web"]
            port.addresses = [InterfaceAddress(IPAddress(IPv4Address(bits: 0x0a01_0000 + UInt32(number))), length: 8)]
            port.tunnelKey = 0x1000 + UInt32(number)
            topology.ports[port.path] = port
        }
        let fabric = Fabric(topology, localHost: "h1")
        #expect(fabric.compiledChains < 20)
        var next = topology
        next.ports[PortPath(device: bridge, name: "p7")]?.security = ["db"]
        let patched = Fabric(next, after: fabric, TopologyDifference(from: topology, to: next))
        #expect(patched.lineage == fabric.lineage && patched.compiledChains == fabric.compiledChains)
    }
}
