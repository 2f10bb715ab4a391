// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct EmbeddedPacketTests {
    /// The sum over a whole IPv4 or IPv6 packet's transport, 0 when its checksum is right.
    private func transportSum(_ packet: [UInt8]) -> UInt16 {
        let isV6 = packet[0] >> 4 == 6
        let start = isV6 ? 40 : 20
        let ipProtocol = packet[isV6 ? 6 : 9]
        let transport = Array(packet[start...])
        var sum = InternetChecksum()
        if ipProtocol != IPProtocol.icmp {
            let pseudo =
                Array(packet[isV6 ? 8..<40 : 12..<20]) + [
                    0, ipProtocol, UInt8(transport.count >> 8), UInt8(transport.count & 255),
                ]
            pseudo.withUnsafeBytes { sum.add($0) }
        }
        transport.withUnsafeBytes { sum.add($0) }
        return sum.value
    }

    @Test func `what is rewritten says what it was told, and all its checksums are right`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for round in 0..<2000 {
            let isV6 = Bool.random(using: &random)
            func any() -> IPAddress {
                isV6
                    ? IPAddress(high: random.next() | 1 << 61, low: random.next(), family: .ipv6)
                    : IPAddress(high: (random.next() | 1 << 32) & ~0xffff_ffff, low: 0, family: .ipv4)
            }
            let (source, destination, newSource, newDestination) = (any(), any(), any(), any())
            let data = (0..<Int.random(in: 0...20, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
            }
            let ports = (UInt16.random(in: 0...65_535, using: &random), UInt16.random(in: 0...65_535, using: &random))
            let kind = Int.random(in: 0...2, using: &random)
            var packet: [UInt8]
            switch kind {
            case 0:
                packet = Frame.tcp(
                    etherSource: .zero, etherDestination: .zero, source: source, destination: destination,
                    sourcePort: 1,
                    destinationPort: 2, data: data)
            case 1:
                packet = Frame.udp(
                    etherSource: .zero, etherDestination: .zero, source: source, destination: destination,
                    sourcePort: 1,
                    destinationPort: 2, data: data)
            default:
                packet = Frame.icmp(
                    etherSource: .zero, etherDestination: .zero, source: source, destination: destination,
                    type: isV6 ? 128 : 8, code: 0, rest: 7 << 16, data: data)
            }
            packet = Array(packet[14...])
            // Around it stands a message with a checksum of its own.
            var message: [UInt8] = [3, 1, 0, 0, 0, 0, 0, 0] + packet
            let check = message.withUnsafeBytes { InternetChecksum.of($0) }
            (message[2], message[3]) = (UInt8(check >> 8), UInt8(check & 255))
            message.withUnsafeMutableBytes { bytes in
                let embedded = EmbeddedPacket(bytes, from: 8, to: bytes.count, outerChecksum: 2)
                embedded.write(
                    .init(
                        source: newSource, destination: newDestination, ports: kind < 2 ? ports : nil,
                        queryID: kind == 2 ? ports.0 : nil))
                embedded.write(ttl: 9)
            }
            let inner = Array(message[8...])
            let header = [UInt8](repeating: 0, count: 12) + (isV6 ? [0x86, 0xdd] : [8, 0])
            var layout = PacketLayout()
            let key = (header + inner).withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
            #expect(key.ipSource == newSource && key.ipDestination == newDestination && key.ipTTL == 9)
            if kind < 2 {
                #expect((key.sourcePort, key.destinationPort) == ports)
            } else {
                let at = (isV6 ? 40 : 20) + 4
                #expect(UInt16(inner[at]) << 8 | UInt16(inner[at + 1]) == ports.0)
            }
            #expect(transportSum(inner) == 0, "seed \(seed) round \(round) kind \(kind) v6 \(isV6)")
            if !isV6 {
                #expect(
                    inner[..<20].withContiguousStorageIfAvailable { InternetChecksum.of(UnsafeRawBufferPointer($0)) }
                        == 0)
            }
            #expect(message.withUnsafeBytes { InternetChecksum.of($0) } == 0, "seed \(seed) round \(round)")
        }
    }

    @Test func `any bytes are left alone or rewritten, and nothing traps`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for _ in 0..<20_000 {
            var bytes = (0..<Int.random(in: 0...90, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if bytes.count > 0, Bool.random(using: &random) { bytes[0] = Bool.random(using: &random) ? 0x45 : 0x60 }
            if bytes.count > 9, Bool.random(using: &random) {
                bytes[9] = [1, 6, 17].randomElement(using: &random) ?? 1
            }
            if bytes.count > 6, Bool.random(using: &random) {
                bytes[6] = [0, 43, 44, 58, 60].randomElement(using: &random) ?? 0
            }
            let family: AddressFamily = Bool.random(using: &random) ? .ipv4 : .ipv6
            let address = IPAddress(high: random.next() & ~0xffff_ffff, low: 0, family: family)
            let start = Int.random(in: 0...max(0, bytes.count), using: &random)
            let end = Int.random(in: 0...120, using: &random)
            bytes.withUnsafeMutableBytes { bytes in
                let outer = start >= 4 ? 2 : nil
                let embedded = EmbeddedPacket(bytes, from: start, to: end, outerChecksum: outer)
                embedded.write(.init(source: address, destination: address, ports: (1, 2), queryID: 3))
                embedded.write(ttl: 3)
            }
        }
    }
}
