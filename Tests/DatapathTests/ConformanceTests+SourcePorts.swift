// SPDX-License-Identifier: Apache-2.0
import Datapath
import Netlink
import Testing
import Wire

extension ConformanceTests {
    @Test(arguments: Engines.all)
    func `a VXLAN tunnel's flows leave by source ports of their own, and all packets of a flow by one`(
        _ kind: DatapathKind
    ) throws {
        try Bench.run(kind) { bench in
            // The third cable is the underlay.
            try bench.datapath.removePort(bench.numbers[2])
            let route = try RouteNetlink()
            let (near, far) = (IPv4Address(bits: 0xc000_0201), IPv4Address(bits: 0xc000_0202))
            try route.addAddress(try InterfaceAddress(parsing: "192.0.2.1/24"), to: "p2")
            try route.addNeighbor(IPAddress(far), mac: MACAddress(bits: 0x0e02), on: "p2")
            let tunnel = try bench.datapath.addPort(.vxlan(local: near, port: VXLAN.port))
            let header = TunnelHeader(id: 5, source: IPAddress(near), destination: IPAddress(far))
            bench.install(self.flow(udp(), at: bench.numbers[0], [.etherType], [.setTunnel(header), .output(tunnel)]))

            // In bursts, which the engine takes apart by port, with packets of a flow that differ in what they may.
            var ports: [UInt16: [UInt16]] = [:]
            for burst in 0..<4 {
                for flow in 0..<32 { try bench.send(udp(port: UInt16(1000 + flow), ttl: UInt8(60 + burst)), into: 0) }
                for _ in 0..<32 {
                    let outer = try bench.receive(from: 2) { parse($0).destinationPort == VXLAN.port }
                    ports[parse(Array(outer[50...])).destinationPort, default: []].append(parse(outer).sourcePort)
                }
            }
            #expect(ports.count == 32 && ports.values.allSatisfy { $0.count == 4 && Set($0).count == 1 })
            #expect(Set(ports.values.joined()).count >= 6, "32 flows leave by \(ports.values.map { $0[0] }.sorted())")
            #expect(ports.values.joined().allSatisfy { $0 >= 1024 && $0 != VXLAN.port })

            // Only a datagram's first fragment has ports.
            var first = udp()
            (first[20], first[21]) = (0x20, 0)
            var later = udp(port: 9)
            (later[20], later[21]) = (0, 10)
            try bench.send(first, into: 0)
            try bench.send(later, into: 0)
            let outer = try (0..<2).map { _ in
                parse(try bench.receive(from: 2) { parse($0).destinationPort == VXLAN.port }).sourcePort
            }
            #expect(outer[0] == outer[1])
        }
    }
}
