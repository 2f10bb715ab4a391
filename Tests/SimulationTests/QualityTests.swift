// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// How what machines send is marked.
@Suite struct QualityTests {
    private func host(_ dscp: String) throws -> Host {
        try Host(
            """
            tunnel: vxlan
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
            tenants:
              t:
                bridges:
                  a:
                    ports:
                      vm: { host: h1, interface: vm, mac: "0e:00:00:00:00:01"\(dscp) }
                      near: { host: h1, interface: near, mac: "0e:00:00:00:00:02" }
                      far: { host: h2, interface: far, mac: "0e:00:00:00:00:03" }
            """)
    }

    private func send(_ host: Host, to port: String, tos: UInt8, isV6: Bool = false) throws -> Verdict.Header {
        let verdict = host.send(
            Frame.udp(
                etherSource: host.mac("t/a/vm"), etherDestination: host.mac(port),
                source: address(isV6 ? "fd00::1" : "10.0.0.1"), destination: address(isV6 ? "fd00::2" : "10.0.0.2"),
                sourcePort: 1, destinationPort: 2, tos: tos, data: []), at: "t/a/vm")
        #expect(verdict.isCacheable && verdict.outputs.count == 1)
        return verdict.headers[Int(try #require(verdict.outputs.first).header)]
    }

    @Test func `what a machine sends is marked, in tunnels too, and what it says of congestion is its own`() throws {
        let host = try host(", qos: { dscp: 46 }")
        for isV6 in [false, true] {
            for port in ["t/a/near", "t/a/far"] {
                let header = try send(host, to: port, tos: 0x0b, isV6: isV6)
                #expect(header.key.ipTOS == 46 << 2 | 3 && header.tunnelTOS == 46 << 2)
                // A flow of it holds packets of all classes.
                #expect(header.written.bits.ipTOS == 0xfc)
            }
        }
        // To be best effort is a mark as well.
        let plain = try send(try self.host(", qos: { dscp: 0 }"), to: "t/a/far", tos: 0xb9)
        #expect(plain.key.ipTOS == 1 && plain.tunnelTOS == 0)
    }

    @Test func `without a mark a packet stays as it is, and tunnels have none`() throws {
        let header = try send(try host(""), to: "t/a/far", tos: 46 << 2)
        #expect(header.key.ipTOS == 46 << 2 && header.tunnelTOS == 0 && header.written.bits.ipTOS == 0)
    }
}
