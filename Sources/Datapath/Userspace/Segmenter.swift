// SPDX-License-Identifier: Apache-2.0
import Wire

/// Does in software what a sender left to the hardware: completes checksums and cuts large segments, for packets that
/// leave by a tunnel.
enum Segmenter {
    /// Fills in a partial checksum. False when the frame is not as its offload says.
    static func completeChecksum(_ frame: UnsafeMutableRawBufferPointer, _ offload: inout Offload) -> Bool {
        guard offload.hasPartialChecksum else { return true }
        let start = Int(offload.checksumStart)
        let at = start + Int(offload.checksumOffset)
        guard start <= frame.count, at + 2 <= frame.count else { return false }
        // The field holds the pseudo header's sum, so summing over it gives the whole.
        let sum = InternetChecksum.of(UnsafeRawBufferPointer(rebasing: frame[start...]))
        let isUDP = offload.checksumOffset == 6
        store16(sum == 0 && isUDP ? 0xffff : sum, frame, at)
        offload.flags &= ~1
        return true
    }

    /// How many segments a frame makes; 0 when the offload makes no sense.
    static func segmentCount(_ frame: UnsafeMutableRawBufferPointer, _ offload: Offload) -> Int {
        let header = Int(offload.headerLength)
        let size = Int(offload.segmentSize)
        guard size > 0, header >= 34, header < frame.count else { return 0 }
        return (frame.count - header + size - 1) / size
    }

    /// Writes segment `index` with headers, lengths and checksums of its own to `out`; returns its length, 0 when the
    /// frame is not what its offload says.
    static func segment(
        _ frame: UnsafeMutableRawBufferPointer, layout: PacketLayout, isV6: Bool, _ offload: Offload, index: Int,
        into out: UnsafeMutableRawBufferPointer
    ) -> Int {
        let header = Int(offload.headerLength)
        let size = Int(offload.segmentSize)
        let network = Int(layout.network)
        let transport = Int(layout.transport)
        let from = header + index * size
        let count = min(size, frame.count - from)
        let total = header + count
        guard count > 0, total <= out.count, transport > network, header > transport, network >= 14 else { return 0 }
        out.copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[..<header]))
        UnsafeMutableRawBufferPointer(rebasing: out[header..<total]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: frame[from..<from + count]))
        let isLast = from + count >= frame.count
        if isV6 {
            store16(UInt16(truncatingIfNeeded: total - network - 40), out, network + 4)
        } else {
            store16(UInt16(truncatingIfNeeded: total - network), out, network + 2)
            store16(load16(out, network + 4) &+ UInt16(truncatingIfNeeded: index), out, network + 4)
            store16(0, out, network + 10)
            store16(
                InternetChecksum.of(UnsafeRawBufferPointer(rebasing: out[network..<transport])), out, network + 10)
        }
        let isUDP = offload.segmentation & 0x7f == 5
        let checksumAt = transport + (isUDP ? 6 : 16)
        guard checksumAt + 2 <= header else { return 0 }
        if isUDP {
            store16(UInt16(truncatingIfNeeded: total - transport), out, transport + 4)
        } else {
            let sequence = load32(out, transport + 4) &+ UInt32(truncatingIfNeeded: index * size)
            store32(sequence, out, transport + 4)
            // FIN and PSH belong to the last segment, CWR to the first (RFC 3168 section 6.1.2 with segmentation).
            if !isLast { out[transport + 13] &= ~0x09 }
            if index > 0 { out[transport + 13] &= 0x7f }
        }
        store16(0, out, checksumAt)
        let addresses = isV6 ? network + 8..<network + 40 : network + 12..<network + 20
        var sum = InternetChecksum()
        sum.add(UnsafeRawBufferPointer(rebasing: out[addresses]))
        sum.add(UInt64(isUDP ? IPProtocol.udp : IPProtocol.tcp))
        sum.add(UInt64(total - transport))
        sum.add(UnsafeRawBufferPointer(rebasing: out[transport..<total]))
        store16(sum.value == 0 && isUDP ? 0xffff : sum.value, out, checksumAt)
        return total
    }

    private static func load16(_ bytes: UnsafeMutableRawBufferPointer, _ at: Int) -> UInt16 {
        UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))
    }
    private static func load32(_ bytes: UnsafeMutableRawBufferPointer, _ at: Int) -> UInt32 {
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }
    private static func store16(_ value: UInt16, _ bytes: UnsafeMutableRawBufferPointer, _ at: Int) {
        bytes.storeBytes(of: value.bigEndian, toByteOffset: at, as: UInt16.self)
    }
    private static func store32(_ value: UInt32, _ bytes: UnsafeMutableRawBufferPointer, _ at: Int) {
        bytes.storeBytes(of: value.bigEndian, toByteOffset: at, as: UInt32.self)
    }
}
