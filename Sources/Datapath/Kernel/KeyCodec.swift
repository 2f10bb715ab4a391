// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Netlink
import Wire

/// Numbers of linux/openvswitch.h as the engine uses them.
enum OVS {
    /// Commands for flows, `OVS_FLOW_CMD_*`.
    enum FlowCommand: UInt8 {
        case new = 1
        case delete = 2
        case set = 4
    }
    enum Key {
        static let encap: UInt16 = 1
        static let priority: UInt16 = 2
        static let inPort: UInt16 = 3
        static let ethernet: UInt16 = 4
        static let vlan: UInt16 = 5
        static let etherType: UInt16 = 6
        static let ipv4: UInt16 = 7
        static let ipv6: UInt16 = 8
        static let tcp: UInt16 = 9
        static let udp: UInt16 = 10
        static let icmp: UInt16 = 11
        static let icmpv6: UInt16 = 12
        static let arp: UInt16 = 13
        static let nd: UInt16 = 14
        static let mark: UInt16 = 15
        static let tunnel: UInt16 = 16
        static let sctp: UInt16 = 17
        static let tcpFlags: UInt16 = 18
        static let recirculation: UInt16 = 20
    }
    enum Tunnel {
        static let id: UInt16 = 0
        static let ipv4Source: UInt16 = 1
        static let ipv4Destination: UInt16 = 2
        static let tos: UInt16 = 3
        static let ttl: UInt16 = 4
        static let dontFragment: UInt16 = 5
        static let checksum: UInt16 = 6
        static let sourcePort: UInt16 = 9
        static let destinationPort: UInt16 = 10
    }
}

/// Translates flow keys and masks to and from `OVS_KEY_ATTR_*`.
///
/// What the kernel wants of a key: Ethernet always; with an EtherType of IP the IP attribute; with a protocol its
/// layer 4 attribute; both TCP and TCP flags. A mask says only what counts, but an EtherType or a port in it counts
/// whole. VLAN tags always count: there is no flow for tagged and untagged frames alike, see ``Flow``.
enum KeyCodec {
    // MARK: - Encoding

    /// Appends the attributes of a masked key, or those of a mask.
    static func encode(
        _ fields: FlowKey, shape: FlowKey, isMask: Bool, isTunnel: Bool, into out: inout MessageBuffer
    ) {
        // The kernel passes over what is all zeros in a mask, also over an ENCAP that says nothing of the inner frame, and
        // then finds a VLAN without one. The port stands in there, so that it never is.
        let portGoesInside = isMask && shape.hasVLAN && fields.etherType == 0
        if !portGoesInside { out.attribute(OVS.Key.inPort, fields.inPort) }
        if isTunnel || shape.hasTunnel { encodeTunnel(fields, isMask: isMask, into: &out) }
        if fields.recirculationID != 0 { out.attribute(OVS.Key.recirculation, fields.recirculationID) }
        encodeEthernet(fields, into: &out)
        if shape.hasVLAN {
            // Outer type and tag, the rest inside.
            out.attribute(OVS.Key.etherType, (isMask ? UInt16.max : shape.vlanTPID).bigEndian)
            out.attribute(OVS.Key.vlan, (isMask ? fields.vlanTCI | 0x1000 : fields.vlanTCI).bigEndian)
            let nest = out.beginNest(OVS.Key.encap)
            if portGoesInside { out.attribute(OVS.Key.inPort, fields.inPort) }
            if shape.innerVLANTCI & 0x1000 != 0 {
                out.attribute(OVS.Key.etherType, (isMask ? UInt16.max : shape.innerVLANTPID).bigEndian)
                out.attribute(
                    OVS.Key.vlan, (isMask ? fields.innerVLANTCI | 0x1000 : fields.innerVLANTCI).bigEndian)
                let inner = out.beginNest(OVS.Key.encap)
                encodeNetwork(fields, shape: shape, isMask: isMask, into: &out)
                out.endNest(inner)
            } else {
                encodeNetwork(fields, shape: shape, isMask: isMask, into: &out)
            }
            out.endNest(nest)
        } else {
            encodeNetwork(fields, shape: shape, isMask: isMask, into: &out)
        }
    }

    private static func encodeTunnel(_ fields: FlowKey, isMask: Bool, into out: inout MessageBuffer) {
        let nest = out.beginNest(OVS.Key.tunnel)
        out.attribute(OVS.Tunnel.id, fields.tunnelID.bigEndian)
        let source = UInt32(truncatingIfNeeded: fields.tunnelSourceWords.0 >> 32)
        let destination = UInt32(truncatingIfNeeded: fields.tunnelDestinationWords.0 >> 32)
        if source != 0 { out.attribute(OVS.Tunnel.ipv4Source, source.bigEndian) }
        if isMask {
            if destination != 0 { out.attribute(OVS.Tunnel.ipv4Destination, destination.bigEndian) }
        } else {
            // A key must have a destination and a TTL, whether they count or not.
            out.attribute(OVS.Tunnel.ipv4Destination, (destination == 0 ? 1 : destination).bigEndian)
            out.attribute(OVS.Tunnel.ttl, fields.tunnelTTL)
        }
        out.endNest(nest)
    }

    private static func encodeEthernet(_ fields: FlowKey, into out: inout MessageBuffer) {
        let source = fields.etherSource.bits
        let destination = fields.etherDestination.bits
        // Source first, unlike on the wire.
        let high = source << 16 | destination >> 32
        let value = (
            UInt32(truncatingIfNeeded: high >> 32).bigEndian, UInt32(truncatingIfNeeded: high).bigEndian,
            UInt32(truncatingIfNeeded: destination).bigEndian
        )
        withUnsafeBytes(of: value) { out.attribute(OVS.Key.ethernet, bytes: $0) }
    }

    private static func encodeNetwork(
        _ fields: FlowKey, shape: FlowKey, isMask: Bool, into out: inout MessageBuffer
    ) {
        guard fields.etherType != 0 else { return }
        // A frame with a length field has no EtherType in its key, but one in its mask.
        if isMask || shape.etherType != EtherType.llc { out.attribute(OVS.Key.etherType, fields.etherType.bigEndian) }
        switch shape.etherType {
        case EtherType.ipv4:
            let addresses = (
                UInt32(truncatingIfNeeded: fields.words[11] >> 32).bigEndian,
                UInt32(truncatingIfNeeded: fields.words[13] >> 32).bigEndian, fields.ipProtocol, fields.ipTOS,
                fields.ipTTL, fields.ipFragment
            )
            withUnsafeBytes(of: addresses) { out.attribute(OVS.Key.ipv4, bytes: $0) }
            encodeTransport(fields, shape: shape, isMask: isMask, into: &out)
        case EtherType.ipv6:
            let value = (
                fields.words[11].bigEndian, fields.words[12].bigEndian, fields.words[13].bigEndian,
                fields.words[14].bigEndian, (fields.ipv6Label & 0xf_ffff).bigEndian, fields.ipProtocol, fields.ipTOS,
                fields.ipTTL, fields.ipFragment
            )
            withUnsafeBytes(of: value) {
                out.attribute(OVS.Key.ipv6, bytes: UnsafeRawBufferPointer(rebasing: $0[..<40]))
            }
            encodeTransport(fields, shape: shape, isMask: isMask, into: &out)
        case EtherType.arp:
            var bytes = [UInt8](repeating: 0, count: 24)
            bytes.withUnsafeMutableBytes { raw in
                raw.storeBytes(of: UInt32(truncatingIfNeeded: fields.words[11] >> 32).bigEndian, as: UInt32.self)
                raw.storeBytes(
                    of: UInt32(truncatingIfNeeded: fields.words[13] >> 32).bigEndian, toByteOffset: 4, as: UInt32.self)
                raw.storeBytes(of: UInt16(fields.ipProtocol).bigEndian, toByteOffset: 8, as: UInt16.self)
                for index in 0..<6 {
                    raw[10 + index] = UInt8(truncatingIfNeeded: fields.arpSource.bits >> UInt64(40 - 8 * index))
                    raw[16 + index] = UInt8(truncatingIfNeeded: fields.arpTarget.bits >> UInt64(40 - 8 * index))
                }
            }
            bytes.withUnsafeBytes { out.attribute(OVS.Key.arp, bytes: $0) }
        default: break
        }
    }

    private static func encodeTransport(
        _ fields: FlowKey, shape: FlowKey, isMask: Bool, into out: inout MessageBuffer
    ) {
        guard shape.ipFragment != FragmentKind.later else { return }
        let ports = (fields.sourcePort.bigEndian, fields.destinationPort.bigEndian)
        let isICMP6 = shape.ipProtocol == IPProtocol.icmpv6 && shape.etherType == EtherType.ipv6
        // In a mask, layer 4 may only be told of where the protocol counts whole.
        if isMask, fields.ipProtocol != 0xff { return }
        switch shape.ipProtocol {
        case IPProtocol.tcp:
            withUnsafeBytes(of: ports) { out.attribute(OVS.Key.tcp, bytes: $0) }
            out.attribute(OVS.Key.tcpFlags, fields.tcpFlags.bigEndian)
        case IPProtocol.udp: withUnsafeBytes(of: ports) { out.attribute(OVS.Key.udp, bytes: $0) }
        case IPProtocol.sctp: withUnsafeBytes(of: ports) { out.attribute(OVS.Key.sctp, bytes: $0) }
        case IPProtocol.icmp where shape.etherType == EtherType.ipv4, IPProtocol.icmpv6 where isICMP6:
            let value = (
                UInt8(truncatingIfNeeded: fields.sourcePort), UInt8(truncatingIfNeeded: fields.destinationPort)
            )
            withUnsafeBytes(of: value) { out.attribute(isICMP6 ? OVS.Key.icmpv6 : OVS.Key.icmp, bytes: $0) }
            let isND = shape.sourcePort == 135 || shape.sourcePort == 136
            if isICMP6, isND, !isMask { encodeND(fields, into: &out) }
        default: break
        }
    }

    private static func encodeND(_ fields: FlowKey, into out: inout MessageBuffer) {
        var bytes = [UInt8](repeating: 0, count: 28)
        bytes.withUnsafeMutableBytes { raw in
            raw.storeBytes(of: fields.words[16].bigEndian, as: UInt64.self)
            raw.storeBytes(of: fields.words[17].bigEndian, toByteOffset: 8, as: UInt64.self)
            for index in 0..<6 {
                raw[16 + index] = UInt8(truncatingIfNeeded: fields.arpSource.bits >> UInt64(40 - 8 * index))
                raw[22 + index] = UInt8(truncatingIfNeeded: fields.arpTarget.bits >> UInt64(40 - 8 * index))
            }
        }
        bytes.withUnsafeBytes { out.attribute(OVS.Key.nd, bytes: $0) }
    }

    // MARK: - Decoding

    /// Reads the attributes of a key, in any order; what is missing stays zero.
    static func decode(_ bytes: UnsafeRawBufferPointer) -> FlowKey {
        var key = FlowKey()
        decode(bytes, depth: 0, into: &key)
        return key
    }

    private static func decode(_ bytes: UnsafeRawBufferPointer, depth: Int, into key: inout FlowKey) {
        var type = EtherType.llc
        var tag: UInt16?
        var inner: UnsafeRawBufferPointer?
        NetlinkReader.forEachAttribute(bytes) { attribute, value in
            switch attribute {
            case OVS.Key.inPort: key.inPort = value.number() ?? 0
            case OVS.Key.mark: key.mark = value.number() ?? 0
            case OVS.Key.recirculation: key.recirculationID = value.number() ?? 0
            case OVS.Key.tunnel: decodeTunnel(value, into: &key)
            case OVS.Key.ethernet where value.count >= 12:
                key.etherSource = MACAddress(bits: load48(value, 0))
                key.etherDestination = MACAddress(bits: load48(value, 6))
            case OVS.Key.etherType: type = load16(value, 0)
            case OVS.Key.vlan: tag = load16(value, 0)
            case OVS.Key.encap: inner = value
            default: break
            }
        }
        if let tag, let inner, depth < 2 {
            if depth == 0 {
                key.vlanTCI = tag
                key.vlanTPID = type
            } else {
                key.innerVLANTCI = tag
                key.innerVLANTPID = type
            }
            return decode(inner, depth: depth + 1, into: &key)
        }
        key.etherType = type
        NetlinkReader.forEachAttribute(bytes) { attribute, value in decodeNetwork(attribute, value, into: &key) }
    }

    private static func decodeNetwork(_ attribute: UInt16, _ value: UnsafeRawBufferPointer, into key: inout FlowKey) {
        switch attribute {
        case OVS.Key.ipv4 where value.count >= 12:
            key.words[11] = UInt64(load32(value, 0)) << 32
            key.words[13] = UInt64(load32(value, 4)) << 32
            key.ipProtocol = value[8]
            key.ipTOS = value[9]
            key.ipTTL = value[10]
            key.ipFragment = value[11]
        case OVS.Key.ipv6 where value.count >= 40:
            for index in 0..<4 { key.words[11 + index] = load64(value, 8 * index) }
            key.ipv6Label = load32(value, 32)
            key.ipProtocol = value[36]
            key.ipTOS = value[37]
            key.ipTTL = value[38]
            key.ipFragment = value[39]
        case OVS.Key.arp where value.count >= 22:
            key.words[11] = UInt64(load32(value, 0)) << 32
            key.words[13] = UInt64(load32(value, 4)) << 32
            let operation = load16(value, 8)
            key.ipProtocol = operation <= 0xff ? UInt8(operation) : 0
            key.arpSource = MACAddress(bits: load48(value, 10))
            key.arpTarget = MACAddress(bits: load48(value, 16))
        case OVS.Key.nd where value.count >= 28:
            key.words[16] = load64(value, 0)
            key.words[17] = load64(value, 8)
            key.arpSource = MACAddress(bits: load48(value, 16))
            key.arpTarget = MACAddress(bits: load48(value, 22))
        case OVS.Key.tcp, OVS.Key.udp, OVS.Key.sctp:
            guard value.count >= 4 else { return }
            key.sourcePort = load16(value, 0)
            key.destinationPort = load16(value, 2)
        case OVS.Key.icmp, OVS.Key.icmpv6:
            guard value.count >= 2 else { return }
            key.sourcePort = UInt16(value[0])
            key.destinationPort = UInt16(value[1])
        case OVS.Key.tcpFlags: key.tcpFlags = load16(value, 0)
        default: break
        }
    }

    private static func decodeTunnel(_ bytes: UnsafeRawBufferPointer, into key: inout FlowKey) {
        NetlinkReader.forEachAttribute(bytes) { attribute, value in
            switch attribute {
            case OVS.Tunnel.id where value.count >= 8:
                key.tunnelID = load64(value, 0)
                key.tunnelFlags |= TunnelFlags.key
            case OVS.Tunnel.ipv4Source where value.count >= 4: key.words[2] = UInt64(load32(value, 0)) << 32
            case OVS.Tunnel.ipv4Destination where value.count >= 4: key.words[4] = UInt64(load32(value, 0)) << 32
            case OVS.Tunnel.tos where value.count >= 1: key.tunnelTOS = value[0]
            case OVS.Tunnel.ttl where value.count >= 1: key.tunnelTTL = value[0]
            default: break
            }
        }
    }

    private static func load16(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt16 {
        bytes.count >= at + 2 ? UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)) : 0
    }
    private static func load32(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }
    private static func load64(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt64 {
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    }
    private static func load48(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt64 {
        UInt64(load16(bytes, at)) << 32 | UInt64(load32(bytes, at + 2))
    }
}
