// SPDX-License-Identifier: Apache-2.0
import Wire

/// Translates actions to `OVS_ACTION_ATTR_*`.
enum ActionCodec {
    private enum Number {
        static let output: UInt16 = 1
        static let userspace: UInt16 = 2
        static let set: UInt16 = 3
        static let pushVLAN: UInt16 = 4
        static let popVLAN: UInt16 = 5
        static let sample: UInt16 = 6
        static let setMasked: UInt16 = 11
        static let truncate: UInt16 = 13
        static let meter: UInt16 = 19
        static let clone: UInt16 = 20
        static let checkLength: UInt16 = 21
    }

    /// Appends a list of actions.
    ///
    /// - Parameter upcallPort: port id of the socket for packets that an action hands up.
    static func encode(_ actions: [Action], upcallPort: UInt32, into out: inout MessageBuffer) {
        for (place, action) in actions.enumerated() {
            switch action {
            case .output(let port): out.attribute(Number.output, port.value)
            case .userspace(let cookie):
                let nest = out.beginNest(Number.userspace)
                out.attribute(1, upcallPort)
                out.attribute(2, cookie)
                out.endNest(nest)
            case .setTunnel(let header): encode(header, into: &out)
            case .setEthernet(let source, let sourceMask, let destination, let destinationMask):
                setMasked(OVS.Key.ethernet, into: &out) { out in
                    put48(source.bits & sourceMask, destination.bits & destinationMask, &out)
                    put48(sourceMask, destinationMask, &out)
                }
            case .setIPv4(let value, let mask):
                setMasked(OVS.Key.ipv4, into: &out) { out in
                    for fields in [value, mask] {
                        out.put(UInt32(truncatingIfNeeded: fields.source.0 >> 32).bigEndian)
                        out.put(UInt32(truncatingIfNeeded: fields.destination.0 >> 32).bigEndian)
                        out.put(UInt8(0))
                        out.put(fields.tos)
                        out.put(fields.ttl)
                        out.put(UInt8(0))
                    }
                }
            case .setIPv6(let value, let mask):
                setMasked(OVS.Key.ipv6, into: &out) { out in
                    for fields in [value, mask] {
                        out.put(fields.source.0.bigEndian)
                        out.put(fields.source.1.bigEndian)
                        out.put(fields.destination.0.bigEndian)
                        out.put(fields.destination.1.bigEndian)
                        out.put(UInt32(0))
                        out.put(UInt8(0))
                        out.put(fields.tos)
                        out.put(fields.ttl)
                        out.put(UInt8(0))
                    }
                }
            case .setPorts(let ipProtocol, let source, let sourceMask, let destination, let destinationMask):
                let type =
                    ipProtocol == IPProtocol.tcp
                    ? OVS.Key.tcp : ipProtocol == IPProtocol.udp ? OVS.Key.udp : OVS.Key.sctp
                setMasked(type, into: &out) { out in
                    for value in [source & sourceMask, destination & destinationMask, sourceMask, destinationMask] {
                        out.put(value.bigEndian)
                    }
                }
            case .pushVLAN(let tpid, let tci):
                out.attribute(Number.pushVLAN, (tpid.bigEndian, (tci | 0x1000).bigEndian))
            case .popVLAN: out.flag(Number.popVLAN)
            case .truncate(let length): out.attribute(Number.truncate, UInt32(clamping: max(14, length)))
            case .metered(let meter, let nested):
                // What a meter does not let through ends there: a copy, where more is to be done with the packet.
                let isLast = place == actions.count - 1
                let clone = isLast ? nil : out.beginNest(Number.clone)
                out.attribute(Number.meter, meter.value)
                encode(nested, upcallPort: upcallPort, into: &out)
                if let clone { out.endNest(clone) }
            case .sampled(let count, let nested):
                let nest = out.beginNest(Number.sample)
                out.attribute(1, UInt32.max / max(1, count))
                let list = out.beginNest(2)
                encode(nested, upcallPort: upcallPort, into: &out)
                out.endNest(list)
                out.endNest(nest)
            case .checkLength(let limit, let tooLong, let fits):
                let nest = out.beginNest(Number.checkLength)
                // The kernel counts from the Ethernet header on.
                out.attribute(1, UInt16(clamping: limit + 14))
                let longer = out.beginNest(2)
                encode(tooLong, upcallPort: upcallPort, into: &out)
                out.endNest(longer)
                let shorter = out.beginNest(3)
                encode(fits, upcallPort: upcallPort, into: &out)
                out.endNest(shorter)
                out.endNest(nest)
            }
        }
    }

    private static func encode(_ header: TunnelHeader, into out: inout MessageBuffer) {
        if header.priority != 0 {
            let set = out.beginNest(Number.set)
            out.attribute(OVS.Key.priority, header.priority)
            out.endNest(set)
        }
        let set = out.beginNest(Number.set)
        let tunnel = out.beginNest(OVS.Key.tunnel)
        out.attribute(OVS.Tunnel.id, UInt64(header.id).bigEndian)
        out.attribute(OVS.Tunnel.ipv4Source, UInt32(truncatingIfNeeded: header.source.high >> 32).bigEndian)
        out.attribute(OVS.Tunnel.ipv4Destination, UInt32(truncatingIfNeeded: header.destination.high >> 32).bigEndian)
        out.attribute(OVS.Tunnel.tos, header.tos)
        out.attribute(OVS.Tunnel.ttl, header.ttl)
        out.endNest(tunnel)
        out.endNest(set)
    }

    private static func setMasked(_ key: UInt16, into out: inout MessageBuffer, _ body: (inout MessageBuffer) -> Void) {
        let nest = out.beginNest(Number.setMasked)
        let field = out.beginNest(key)
        body(&out)
        out.endNest(field)
        out.endNest(nest)
    }

    private static func put48(_ first: UInt64, _ second: UInt64, _ out: inout MessageBuffer) {
        let high = first << 16 | second >> 32
        out.put(high.bigEndian)
        out.put(UInt32(truncatingIfNeeded: second).bigEndian)
    }
}
