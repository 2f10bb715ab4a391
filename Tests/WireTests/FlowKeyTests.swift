// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

private func parse(_ frame: [UInt8]) -> (FlowKey, PacketLayout) {
    var layout = PacketLayout()
    let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
    return (key, layout)
}

private let macA = MACAddress(bits: 0x0e00_0000_000a)
private let macB = MACAddress(bits: 0x0e00_0000_000b)

private func ip(_ text: String) -> IPAddress { IPAddress(text) ?? IPAddress(IPv4Address(bits: 0)) }

@Suite struct FlowKeyTests {
    @Test func `a TCP segment fills its fields`() {
        let (key, layout) = parse(
            Frame.tcp(
                etherSource: macA, etherDestination: macB, source: ip("10.0.0.1"), destination: ip("10.0.0.2"),
                sourcePort: 40_000, destinationPort: 443, flags: 0x12, ttl: 7, tos: 0xb8))
        #expect(key.etherSource == macA)
        #expect(key.etherDestination == macB)
        #expect(key.etherType == EtherType.ipv4)
        #expect(key.ipSource == ip("10.0.0.1"))
        #expect(key.ipDestination == ip("10.0.0.2"))
        #expect(key.ipProtocol == IPProtocol.tcp)
        #expect(key.ipTTL == 7)
        #expect(key.ipTOS == 0xb8)
        #expect(key.sourcePort == 40_000)
        #expect(key.destinationPort == 443)
        #expect(key.tcpFlags == 0x12)
        #expect(
            layout
                == {
                    var l = PacketLayout(); l.network = 14; l.transport = 34; l.networkLength = 40; return l
                }())
    }

    @Test func `VLAN tags are outer and inner, the type is what is behind them`() {
        let plain = Frame.udp(
            etherSource: macA, etherDestination: macB, source: ip("fd00::1"), destination: ip("fd00::2"), sourcePort: 1,
            destinationPort: 2, data: [1, 2, 3])
        let (key, layout) = parse(
            Frame.tagged(Frame.tagged(plain, vlan: 0x2005), vlan: 100, tpid: EtherType.serviceVLAN))
        #expect(key.vlanTPID == EtherType.serviceVLAN)
        #expect(key.vlanTCI == 0x1064)
        #expect(key.innerVLANTPID == EtherType.vlan)
        #expect(key.innerVLANTCI == 0x3005)
        #expect(key.etherType == EtherType.ipv6)
        #expect(key.destinationPort == 2)
        #expect(layout.network == 22)
    }

    @Test func `a later fragment has no ports`() {
        var frame = Frame.udp(
            etherSource: macA, etherDestination: macB, source: ip("10.0.0.1"), destination: ip("10.0.0.2"),
            sourcePort: 1,
            destinationPort: 2, data: [])
        frame[20] = 0x00
        frame[21] = 0x10
        let (later, layout) = parse(frame)
        #expect(later.ipFragment == FragmentKind.later)
        #expect(later.sourcePort == 0)
        #expect(layout.transport == 0)
        frame[20] = 0x20
        frame[21] = 0
        #expect(parse(frame).0.ipFragment == FragmentKind.first)
        #expect(parse(frame).0.destinationPort == 2)
    }

    @Test func `IPv6 extension headers are walked to the transport`() {
        // Hop-by-hop (8), destination options (16), first fragment, then UDP.
        var payload: [UInt8] = [60, 0] + [UInt8](repeating: 0, count: 6)
        payload += [44, 1] + [UInt8](repeating: 0, count: 14)
        payload += [17, 0, 0, 1, 0, 0, 0, 9]
        payload += [0, 53, 0, 54, 0, 8, 0, 0]
        let (key, layout) = parse(
            Frame.ip(
                etherSource: macA, etherDestination: macB, source: ip("fd00::1"), destination: ip("fd00::2"),
                ipProtocol: 0,
                payload: payload))
        #expect(key.ipProtocol == IPProtocol.udp)
        #expect(key.ipFragment == FragmentKind.first)
        #expect(key.sourcePort == 53)
        #expect(layout.transport == 14 + 40 + 32)
    }

    @Test func `ARP and neighbor discovery fill their fields`() {
        let arp = parse(
            Frame.arp(
                operation: 1, sender: (macA, IPv4Address(bits: 1)), target: (.zero, IPv4Address(bits: 2)),
                etherDestination: .broadcast)
        ).0
        #expect(arp.ipProtocol == 1)
        #expect(arp.arpSource == macA)
        #expect(arp.ipSource == IPAddress(IPv4Address(bits: 1)))
        #expect(arp.ipDestination == IPAddress(IPv4Address(bits: 2)))
        let target = IPv6Address(high: 0xfd00 << 48, low: 2)
        let ns = parse(
            Frame.neighborSolicitation(from: macA, source: IPv6Address(high: 0xfd00 << 48, low: 1), target: target)
        ).0
        #expect(ns.ndTarget == target)
        #expect(ns.arpSource == macA)
        #expect(ns.ipTTL == 255)
    }

    @Test func `no bytes at all can trap the parser`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        let seeds: [[UInt8]] = [
            Frame.tcp(
                etherSource: macA, etherDestination: macB, source: ip("10.0.0.1"), destination: ip("10.0.0.2"),
                sourcePort: 1,
                destinationPort: 2),
            Frame.neighborSolicitation(from: macA, source: .unspecified, target: IPv6Address(high: 1, low: 2)),
            Frame.tagged(
                Frame.udp(
                    etherSource: macA, etherDestination: macB, source: ip("fd00::1"), destination: ip("fd00::2"),
                    sourcePort: 1, destinationPort: 2, data: [0]), vlan: 5),
        ]
        for round in 0..<60_000 {
            var frame = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                frame[Int.random(in: 0..<frame.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if round % 3 == 0 { frame.removeLast(Int.random(in: 0...frame.count, using: &random)) }
            let (key, layout) = parse(frame)
            #expect(Int(layout.transport) <= frame.count, "seed \(SeededRandom.seed) round \(round)")
            #expect(FlowMask.exact.matches(key, key))
        }
    }

    @Test func `a mask matches exactly the keys that agree in its bits`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<2000 {
            var key = FlowKey()
            var other = FlowKey()
            var mask = FlowMask()
            for word in 0..<FlowKey.wordCount {
                key.words[word] = random.next()
                mask.bits.words[word] = random.next()
                other.words[word] = key.words[word] ^ (random.next() & ~mask.bits.words[word])
            }
            #expect(mask.matches(other, mask.apply(key)), "seed \(SeededRandom.seed)")
            let word = Int.random(in: 0..<FlowKey.wordCount, using: &random)
            guard mask.bits.words[word] != 0 else { continue }
            other.words[word] ^= mask.bits.words[word] & (~mask.bits.words[word] &+ 1)
            #expect(!mask.matches(other, mask.apply(key)), "seed \(SeededRandom.seed)")
        }
    }
}
