// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct RewriteTests {
    /// Sums the layer 4 packet with its pseudo header: zero when the checksum is right.
    private func transportSum(_ frame: [UInt8], _ layout: PacketLayout, _ key: FlowKey) -> UInt16 {
        let end = Int(layout.network) + layout.networkLength
        var sum = InternetChecksum.pseudoHeader(
            source: key.ipSource, destination: key.ipDestination, ipProtocol: key.ipProtocol,
            length: end - Int(layout.transport))
        frame[Int(layout.transport)..<end].withUnsafeBytes { sum.add($0) }
        return sum.value
    }

    private func randomAddress(_ family: AddressFamily, _ random: inout SeededRandom) -> IPAddress {
        family == .ipv4
            ? IPAddress(IPv4Address(bits: UInt32.random(in: 1...UInt32.max, using: &random)))
            : IPAddress(IPv6Address(high: random.next(), low: random.next()))
    }

    @Test func `checksums stay right whatever is rewritten`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        for round in 0..<5000 {
            let family: AddressFamily = round % 2 == 0 ? .ipv4 : .ipv6
            let data = (0..<Int.random(in: 0...61, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
            }
            let source = randomAddress(family, &random)
            let destination = randomAddress(family, &random)
            let isTCP = round % 4 < 2
            var frame =
                isTCP
                ? Frame.tcp(
                    etherSource: .zero, etherDestination: .zero, source: source, destination: destination,
                    sourcePort: 7,
                    destinationPort: 9, data: data)
                : Frame.udp(
                    etherSource: .zero, etherDestination: .zero, source: source, destination: destination,
                    sourcePort: 7,
                    destinationPort: 9, data: data)
            var layout = PacketLayout()
            let before = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
            #expect(transportSum(frame, layout, before) == 0)
            var value = FlowKey()
            var mask = FlowKey()
            value.etherType = before.etherType
            value.ipSource = randomAddress(family, &random)
            value.ipDestination = randomAddress(family, &random)
            value.ipTTL = UInt8.random(in: 0...255, using: &random)
            value.ipTOS = UInt8.random(in: 0...255, using: &random)
            value.sourcePort = UInt16.random(in: 0...UInt16.max, using: &random)
            let high = family == .ipv4 ? random.next() & 0xffff_ffff_0000_0000 : random.next()
            mask.ipSourceWords = (high, family == .ipv4 ? 0 : random.next())
            mask.ipDestinationWords = (family == .ipv4 ? ~0 << 32 : ~0, family == .ipv4 ? 0 : ~0)
            mask.ipTTL = 0xff
            mask.ipTOS = 0xfc
            mask.sourcePort = 0xffff
            frame.withUnsafeMutableBytes { bytes in
                let rewriter = FrameRewriter(bytes, layout: layout, partialChecksum: false)
                if family == .ipv4 { rewriter.setIPv4(value, mask) } else { rewriter.setIPv6(value, mask) }
                rewriter.setPorts(value, mask, ipProtocol: before.ipProtocol)
            }
            var after = PacketLayout()
            let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &after) }
            let note: Comment = "seed \(SeededRandom.seed) round \(round)"
            #expect(transportSum(frame, after, key) == 0, note)
            if family == .ipv4 { #expect(frame[14..<34].withUnsafeBytes { InternetChecksum.of($0) } == 0, note) }
            #expect(key.ipDestination == value.ipDestination, note)
            #expect(key.ipTTL == value.ipTTL, note)
            #expect(key.ipTOS == before.ipTOS & 0x03 | value.ipTOS & 0xfc, note)
            #expect(key.sourcePort == value.sourcePort, note)
        }
    }

    @Test func `an IPv6 packet behind extension headers keeps its checksum`() {
        let data: [UInt8] = [0, 7, 0, 9, 0, 8, 0, 0]
        let source = IPAddress(IPv6Address(high: 1, low: 2))
        let destination = IPAddress(IPv6Address(high: 3, low: 4))
        var sum = InternetChecksum.pseudoHeader(source: source, destination: destination, ipProtocol: 17, length: 8)
        data.withUnsafeBytes { sum.add($0) }
        var payload: [UInt8] = [17, 0, 0, 0, 0, 0, 0, 0] + data
        payload[14] = UInt8(sum.value >> 8)
        payload[15] = UInt8(sum.value & 0xff)
        var frame = Frame.ip(
            etherSource: .zero, etherDestination: .zero, source: source, destination: destination, ipProtocol: 60,
            payload: payload)
        var layout = PacketLayout()
        _ = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        var value = FlowKey()
        var mask = FlowKey()
        value.ipDestinationWords = (0x2001 << 48, 77)
        mask.ipDestinationWords = (~0, ~0)
        frame.withUnsafeMutableBytes { FrameRewriter($0, layout: layout, partialChecksum: false).setIPv6(value, mask) }
        var key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        key.ipProtocol = 17
        layout.networkLength = 56
        #expect(transportSum(frame, layout, key) == 0)
    }

    @Test func `GRE and VXLAN headers come back as they were written`() {
        var bytes = [UInt8](repeating: 0, count: 8)
        bytes.withUnsafeMutableBytes { GRE.write(key: 0x00ab_cdef, to: $0) }
        #expect(bytes.withUnsafeBytes { GRE.parse($0.bytes)?.key } == 0x00ab_cdef)
        #expect(bytes.withUnsafeBytes { GRE.parse($0.bytes)?.length } == 8)
        bytes.withUnsafeMutableBytes { VXLAN.write(vni: 0x00ab_cdef, to: $0) }
        #expect(bytes.withUnsafeBytes { VXLAN.parse($0.bytes) } == 0x00ab_cdef)
        #expect([UInt8](repeating: 0, count: 7).withUnsafeBytes { VXLAN.parse($0.bytes) } == nil)
        #expect([UInt8](repeating: 0, count: 8).withUnsafeBytes { GRE.parse($0.bytes)?.key } == nil)
    }
}
