// SPDX-License-Identifier: Apache-2.0

/// Where the layers of a parsed frame begin, in bytes from its start; 0 where there is no such layer.
@frozen
public struct PacketLayout: Sendable, Equatable {
    /// Layer 3: past the Ethernet header and up to two VLAN tags.
    public var network: UInt16 = 0
    /// Layer 4: past the IP header and its extensions; 0 for later fragments and for headers that are cut off.
    public var transport: UInt16 = 0
    /// Bytes of the layer 3 packet as its own header says, without padding; 0 where it is not IP.
    public var networkLength: Int = 0

    /// No layers.
    @inlinable
    public init() {}
}

extension FlowKey {
    /// Extension headers followed in one IPv6 packet before it is called malformed.
    @usableFromInline static let maximumExtensionHeaders = 16

    /// Reads a frame into a key the way the kernel's `ovs_flow_key_extract` does: what is cut off or malformed leaves
    /// its fields zero, and nothing is an error. Tunnel and port fields are left to the caller.
    ///
    /// - Parameters:
    ///   - frame: the bytes from the Ethernet header on; any bytes, any length.
    ///   - layout: receives where the layers begin.
    @inlinable
    public init(parsing frame: RawSpan, layout: inout PacketLayout) {
        self.init()
        layout = PacketLayout()
        guard frame.byteCount >= 14 else { return }
        words[7] = frame.u48(0)
        words[8] = frame.u48(6)
        var offset = 12
        var type = frame.u16(12)
        if type == EtherType.vlan || type == EtherType.serviceVLAN {
            guard frame.byteCount >= offset + 6 else { return }
            vlanTPID = type
            vlanTCI = frame.u16(14) | 0x1000
            type = frame.u16(16)
            offset = 16
            if type == EtherType.vlan || type == EtherType.serviceVLAN {
                guard frame.byteCount >= offset + 6 else { return }
                innerVLANTPID = type
                innerVLANTCI = frame.u16(18) | 0x1000
                type = frame.u16(20)
                offset = 20
            }
        }
        if type < 0x600 { type = EtherType.llc }
        etherType = type
        layout.network = UInt16(offset + 2)
        switch type {
        case EtherType.ipv4: parseIPv4(frame, offset + 2, &layout)
        case EtherType.ipv6: parseIPv6(frame, offset + 2, &layout)
        case EtherType.arp: parseARP(frame, offset + 2)
        default: break
        }
    }

    @inlinable @inline(__always)
    mutating func parseIPv4(_ frame: RawSpan, _ base: Int, _ layout: inout PacketLayout) {
        guard frame.byteCount >= base + 20 else { return }
        let first = frame.u8(base)
        let headerLength = Int(first & 15) * 4
        let total = Int(frame.u16(base + 2))
        guard first >> 4 == 4, headerLength >= 20, total >= headerLength, frame.byteCount >= base + headerLength
        else { return }
        layout.networkLength = total
        let fragment = frame.u16(base + 6)
        let kind =
            fragment & 0x1fff != 0
            ? FragmentKind.later : fragment & 0x2000 != 0 ? FragmentKind.first : FragmentKind.none
        let proto = frame.u8(base + 9)
        words[10] =
            UInt64(proto) | UInt64(frame.u8(base + 1)) << 8 | UInt64(frame.u8(base + 8)) << 16 | UInt64(kind) << 24
        words[11] = UInt64(frame.u32(base + 12)) << 32
        words[13] = UInt64(frame.u32(base + 16)) << 32
        if kind == FragmentKind.later { return }
        parseTransport(frame, base + headerLength, proto, &layout)
    }

    @inlinable
    mutating func parseIPv6(_ frame: RawSpan, _ base: Int, _ layout: inout PacketLayout) {
        guard frame.byteCount >= base + 40, frame.u8(base) >> 4 == 6 else { return }
        let head = frame.u32(base)
        layout.networkLength = 40 + Int(frame.u16(base + 4))
        words[11] = frame.u64(base + 8)
        words[12] = frame.u64(base + 16)
        words[13] = frame.u64(base + 24)
        words[14] = frame.u64(base + 32)
        var next = frame.u8(base + 6)
        var at = base + 40
        var kind = FragmentKind.none
        var followed = 0
        var isWhole = true
        walk: while followed < FlowKey.maximumExtensionHeaders {
            followed += 1
            switch next {
            case 0, 43, 60, 51:  // hop-by-hop, routing, destination options, authentication
                guard frame.byteCount >= at + 8 else {
                    isWhole = false
                    break walk
                }
                let length = Int(frame.u8(at + 1))
                let size = next == 51 ? (length + 2) * 4 : (length + 1) * 8
                next = frame.u8(at)
                at += size
            case IPProtocol.fragment:
                guard frame.byteCount >= at + 8 else {
                    isWhole = false
                    break walk
                }
                let field = frame.u16(at + 2)
                next = frame.u8(at)
                at += 8
                if field & 0xfff8 != 0 {
                    kind = FragmentKind.later
                    break walk
                }
                if field & 1 != 0 { kind = FragmentKind.first }
            default: break walk
            }
        }
        words[10] =
            UInt64(isWhole ? next : IPProtocol.none) | UInt64(head >> 20 & 0xff) << 8 | UInt64(frame.u8(base + 7)) << 16
            | UInt64(kind) << 24 | UInt64(head & 0xf_ffff) << 32
        if !isWhole || kind == FragmentKind.later { return }
        parseTransport(frame, at, next, &layout)
    }

    @inlinable @inline(__always)
    mutating func parseTransport(_ frame: RawSpan, _ at: Int, _ proto: UInt8, _ layout: inout PacketLayout) {
        guard at <= 0xffff else { return }
        switch proto {
        case IPProtocol.tcp:
            guard frame.byteCount >= at + 20, frame.u8(at + 12) >> 4 >= 5 else { return }
            words[15] = UInt64(frame.u16(at)) | UInt64(frame.u16(at + 2)) << 16
            tcpFlags = frame.u16(at + 12) & 0x0fff
        case IPProtocol.udp:
            guard frame.byteCount >= at + 8 else { return }
            words[15] = UInt64(frame.u16(at)) | UInt64(frame.u16(at + 2)) << 16
        case IPProtocol.sctp:
            guard frame.byteCount >= at + 12 else { return }
            words[15] = UInt64(frame.u16(at)) | UInt64(frame.u16(at + 2)) << 16
        case IPProtocol.icmp where etherType == EtherType.ipv4:
            guard frame.byteCount >= at + 8 else { return }
            words[15] = UInt64(frame.u8(at)) | UInt64(frame.u8(at + 1)) << 16
        case IPProtocol.icmpv6 where etherType == EtherType.ipv6:
            guard frame.byteCount >= at + 8 else { return }
            words[15] = UInt64(frame.u8(at)) | UInt64(frame.u8(at + 1)) << 16
            parseND(frame, at)
        default: return
        }
        layout.transport = UInt16(at)
    }

    /// Target and link layer address options of a solicitation or advertisement (RFC 4861 section 4.3). As in the
    /// kernel, an option of length zero or one that is cut off clears all of them.
    @inlinable
    mutating func parseND(_ frame: RawSpan, _ at: Int) {
        let type = frame.u8(at)
        guard type == ICMPv6.neighborSolicitation || type == ICMPv6.neighborAdvertisement, frame.u8(at + 1) == 0,
            frame.byteCount >= at + 24
        else { return }
        words[16] = frame.u64(at + 8)
        words[17] = frame.u64(at + 16)
        let end = frame.byteCount
        var option = at + 24
        while option + 8 <= end {
            let length = Int(frame.u8(option + 1)) * 8
            guard length > 0, option + length <= end else {
                words[16] = 0
                words[17] = 0
                words[18] = 0
                words[19] = 0
                return
            }
            let kind = frame.u8(option)
            if length == 8, kind == 1 {
                words[18] = frame.u48(option + 2)
            } else if length == 8, kind == 2 {
                words[19] = frame.u48(option + 2)
            }
            option += length
        }
    }

    @inlinable
    mutating func parseARP(_ frame: RawSpan, _ base: Int) {
        guard frame.byteCount >= base + 28, frame.u16(base) == 1, frame.u16(base + 2) == EtherType.ipv4,
            frame.u16(base + 4) == 0x0604
        else { return }
        let operation = frame.u16(base + 6)
        ipProtocol = operation <= 0xff ? UInt8(operation) : 0
        words[18] = frame.u48(base + 8)
        words[11] = UInt64(frame.u32(base + 14)) << 32
        words[19] = frame.u48(base + 18)
        words[13] = UInt64(frame.u32(base + 24)) << 32
    }
}
