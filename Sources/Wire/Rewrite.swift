// SPDX-License-Identifier: Apache-2.0

/// Changes to a frame in place, checksums kept right incrementally (RFC 1624).
///
/// `partialChecksum` says that the layer 4 checksum field holds only the pseudo header's sum, to be completed by
/// whoever sends the frame (`CHECKSUM_PARTIAL`): then a change of addresses changes that sum, and one of ports does not.
public struct FrameRewriter {
    /// The frame.
    public let bytes: UnsafeMutableRawBufferPointer
    /// Its layers, as parsed.
    public let layout: PacketLayout
    /// Whether the layer 4 checksum is still to be completed.
    public let partialChecksum: Bool

    /// A rewriter over a frame that was parsed to `layout`.
    @inlinable
    public init(_ bytes: UnsafeMutableRawBufferPointer, layout: PacketLayout, partialChecksum: Bool) {
        self.bytes = bytes
        self.layout = layout
        self.partialChecksum = partialChecksum
    }

    /// Sets the Ethernet addresses under a mask each.
    @inlinable
    public func setEthernet(_ key: FlowKey, _ mask: FlowKey) {
        guard bytes.count >= 14 else { return }
        let destinationMask = mask.etherDestination.bits
        let sourceMask = mask.etherSource.bits
        if destinationMask != 0 {
            let old = load48(0)
            bytes.put48(old & ~destinationMask | key.etherDestination.bits & destinationMask, at: 0)
        }
        if sourceMask != 0 {
            let old = load48(6)
            bytes.put48(old & ~sourceMask | key.etherSource.bits & sourceMask, at: 6)
        }
    }

    /// Sets TOS, TTL and addresses of an IPv4 header under a mask.
    @inlinable
    public func setIPv4(_ key: FlowKey, _ mask: FlowKey) {
        let base = Int(layout.network)
        guard layout.networkLength > 0, bytes.count >= base + 20 else { return }
        // TOS shares its checksum word with the version, TTL with the protocol.
        replace16(base, base + 10, high: nil, low: (key.ipTOS, mask.ipTOS))
        replace16(base + 8, base + 10, high: (key.ipTTL, mask.ipTTL), low: nil)
        replaceAddress(base + 12, words: 2, key.words[11], mask.words[11], headerChecksum: base + 10)
        replaceAddress(base + 16, words: 2, key.words[13], mask.words[13], headerChecksum: base + 10)
    }

    /// Sets traffic class, label, hop limit and addresses of an IPv6 header under a mask.
    @inlinable
    public func setIPv6(_ key: FlowKey, _ mask: FlowKey) {
        let base = Int(layout.network)
        guard layout.networkLength > 0, bytes.count >= base + 40 else { return }
        let head = load32(base)
        let fieldMask = UInt32(mask.ipTOS) << 20 | mask.ipv6Label & 0xf_ffff
        let field = UInt32(key.ipTOS) << 20 | key.ipv6Label & 0xf_ffff
        bytes.put32(head & ~fieldMask | field & fieldMask, at: base)
        let ttl = bytes[base + 7]
        bytes[base + 7] = ttl & ~mask.ipTTL | key.ipTTL & mask.ipTTL
        replaceAddress(base + 8, words: 4, key.words[11], mask.words[11], headerChecksum: nil)
        replaceAddress(base + 16, words: 4, key.words[12], mask.words[12], headerChecksum: nil)
        replaceAddress(base + 24, words: 4, key.words[13], mask.words[13], headerChecksum: nil)
        replaceAddress(base + 32, words: 4, key.words[14], mask.words[14], headerChecksum: nil)
    }

    /// Sets layer 4 ports under a mask; `ipProtocol` says where the checksum is. SCTP's CRC covers the whole
    /// packet and is computed anew (RFC 9260 section 6.8).
    @inlinable
    public func setPorts(_ key: FlowKey, _ mask: FlowKey, ipProtocol: UInt8) {
        let base = Int(layout.transport)
        guard base != 0 else { return }
        for (offset, value, bits) in [
            (0, key.sourcePort, mask.sourcePort), (2, key.destinationPort, mask.destinationPort),
        ] where bits != 0 {
            let old = load16(base + offset)
            let new = old & ~bits | value & bits
            bytes.put16(new, at: base + offset)
            if !partialChecksum { updateTransportChecksum(ipProtocol, old, new) }
        }
        let end = min(bytes.count, Int(layout.network) + layout.networkLength)
        if ipProtocol == IPProtocol.sctp, !partialChecksum, end >= base + 12 {
            for index in 8..<12 { bytes[base + index] = 0 }
            var crc = CRC32C()
            crc.add(UnsafeRawBufferPointer(rebasing: bytes[base..<end]))
            bytes.storeBytes(of: crc.value.littleEndian, toByteOffset: base + 8, as: UInt32.self)
        }
    }

    @inlinable
    func load16(_ at: Int) -> UInt16 { UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)) }
    @inlinable
    func load32(_ at: Int) -> UInt32 { UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)) }
    @inlinable
    func load48(_ at: Int) -> UInt64 { UInt64(load16(at)) << 32 | UInt64(load32(at + 2)) }

    @inlinable
    func replace16(_ at: Int, _ checksumAt: Int, high: (UInt8, UInt8)?, low: (UInt8, UInt8)?) {
        let old = load16(at)
        var new = old
        if let (value, mask) = high { new = new & ~(UInt16(mask) << 8) | UInt16(value & mask) << 8 }
        if let (value, mask) = low { new = new & ~UInt16(mask) | UInt16(value & mask) }
        guard new != old else { return }
        bytes.put16(new, at: at)
        bytes.put16(InternetChecksum.update(load16(checksumAt), replacing: old, with: new), at: checksumAt)
    }

    /// Replaces up to four 16-bit words of an address, top-aligned in `value`.
    @inlinable
    func replaceAddress(_ at: Int, words: Int, _ value: UInt64, _ mask: UInt64, headerChecksum: Int?) {
        guard mask != 0 else { return }
        for index in 0..<words {
            let shift = UInt64(48 - 16 * index)
            let bits = UInt16(truncatingIfNeeded: mask >> shift)
            guard bits != 0 else { continue }
            let old = load16(at + 2 * index)
            let new = old & ~bits | UInt16(truncatingIfNeeded: value >> shift) & bits
            guard old != new else { continue }
            bytes.put16(new, at: at + 2 * index)
            if let headerChecksum {
                bytes.put16(
                    InternetChecksum.update(load16(headerChecksum), replacing: old, with: new), at: headerChecksum)
            }
            if layout.transport != 0 {
                let next = headerChecksum == nil ? finalProtocol6 : bytes[Int(layout.network) + 9]
                updateTransportChecksum(next, old, new)
            }
        }
    }

    /// The layer 4 protocol of an IPv6 packet, by walking to the layer 4 offset that parsing found.
    @inlinable
    var finalProtocol6: UInt8 {
        var next = bytes[Int(layout.network) + 6]
        var at = Int(layout.network) + 40
        while at < Int(layout.transport) {
            let length = Int(bytes[at + 1])
            let size = next == IPProtocol.fragment ? 8 : next == 51 ? (length + 2) * 4 : (length + 1) * 8
            next = bytes[at]
            at += size
        }
        return next
    }

    @inlinable
    func updateTransportChecksum(_ ipProtocol: UInt8, _ old: UInt16, _ new: UInt16) {
        let at: Int
        switch ipProtocol {
        case IPProtocol.tcp: at = Int(layout.transport) + 16
        case IPProtocol.udp: at = Int(layout.transport) + 6
        case IPProtocol.icmpv6: at = Int(layout.transport) + 2
        default: return
        }
        guard at + 2 <= bytes.count else { return }
        let current = load16(at)
        if partialChecksum {
            // The field holds the uncomplemented sum of the pseudo header.
            bytes.put16(~InternetChecksum.update(~current, replacing: old, with: new), at: at)
            return
        }
        if ipProtocol == IPProtocol.udp, current == 0 { return }
        let updated = InternetChecksum.update(current, replacing: old, with: new)
        bytes.put16(ipProtocol == IPProtocol.udp && updated == 0 ? 0xffff : updated, at: at)
    }
}
