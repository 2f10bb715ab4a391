// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct PacketDescriptionTests {
    @Test func `a packet is said about as tcpdump prints it`() throws {
        let tcp = try PacketDescription(parsing: "tcp 10.0.1.11:40001 > 10.0.2.21:5432 ttl 3, vlan 7")
        #expect(tcp.kind == .tcp)
        #expect(tcp.source == IPAddress("10.0.1.11"))
        #expect(tcp.sourcePort == 40_001)
        #expect(tcp.destinationPort == 5432)
        #expect(tcp.ttl == 3)
        #expect(tcp.vlan == 7)
        let six = try PacketDescription(parsing: "udp to [fd00::2]:53 length 1400")
        #expect(six.destination == IPAddress("fd00::2"))
        #expect(six.destinationPort == 53)
        #expect(try PacketDescription(parsing: "arp who-has 10.0.0.1").kind == .arp)
        let routers = try PacketDescription(parsing: "rs")
        #expect(routers.destination == IPAddress("ff02::2") && routers.source == IPAddress("::") && routers.ttl == 255)
        let asks = try PacketDescription(parsing: "dhcp vlan 3")
        let frame = asks.frame(
            etherSource: MACAddress(bits: 0x0e00_0000_0001), etherDestination: .broadcast,
            source: try #require(asks.source))
        #expect(asks.vlan == 3 && DHCPMessage(Array(frame[46...]))?.kind == .discover)
    }

    @Test(arguments: [
        ("", "say icmp to ADDRESS"), ("gre to 1.2.3.4", "say icmp to ADDRESS"), ("icmp", "say icmp to ADDRESS"),
        ("icmp to 1.2.3.4 5.6.7.8", "say icmp to ADDRESS"),
        // The word is in its place: what belongs there is enough.
        ("icmp to nowhere", "\"nowhere\" is not an address: write it like 10.0.0.1"),
        ("tcp to 1.2.3.4:99999", "\"99999\" is not a number from 0 to 65535"),
        ("icmp to 1.2.3.4 ttl 300", "\"300\" is not a number from 0 to 255"),
        ("udp 1.2.3.4:1 > fd00::1", "two families"), ("icmp to 1.2.3.4 vlan 5000", "does not exist"),
    ])
    func `what is no packet is refused with how to say one`(_ text: String, _ reason: String) {
        #expect { try PacketDescription(parsing: text) } throws: { "\($0)".contains(reason) }
    }

    @Test func `a described packet has the length that was asked for and sound checksums`() throws {
        for text in ["icmp to 10.0.0.2 length 1000", "udp to 10.0.0.2:5 length 500", "tcp to 10.0.0.2:5 length 900"] {
            let frame = try PacketDescription(parsing: text).frame(
                etherSource: MACAddress(bits: 1), etherDestination: MACAddress(bits: 2),
                source: IPAddress(IPv4Address(bits: 1)))
            var layout = PacketLayout()
            _ = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
            #expect(text.hasSuffix(" \(layout.networkLength)"))
            #expect(frame[14..<34].withUnsafeBytes { InternetChecksum.of($0) } == 0)
            #expect(frame[20] == 0x40)
        }
    }
}
