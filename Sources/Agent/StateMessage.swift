// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// What one agent learned, as a frame that it sends through the tunnels to the others under ``ReservedKeys/state``.
///
/// Sent once, not acknowledged: a host that misses it floods or asks for itself. The replicated flow state takes its
/// place.
enum StateMessage: Equatable {
    /// What the sender learned.
    case learned(Learned)
    /// The sender begins: it wants to hear what others learned.
    case greeting

    /// "Local experimental EtherType 1" (IEEE 802): such frames live in our tunnels only.
    static let etherType: UInt16 = 0x88b5
    private static let version: UInt8 = 1

    static func encode(_ message: StateMessage) -> [UInt8] {
        var body: [UInt8] = [version]
        func append(_ value: UInt64) {
            for shift in 0..<8 { body.append(UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * shift))) }
        }
        switch message {
        case .greeting: body += [4] + [UInt8](repeating: 0, count: 32)
        case .learned(.mac(let mac, let vlan, let bridge, let port)):
            body.append(1)
            append(mac.bits)
            append(UInt64(vlan))
            append(bridge.bits)
            append(port.bits)
        case .learned(.neighbor(let address, let mac, let port)):
            body.append(address.family == .ipv4 ? 2 : 3)
            append(address.high)
            append(address.low)
            append(mac.bits)
            append(port.bits)
        case .learned(.connection(let tuple, let zone, let flags)):
            body.append(tuple.source.family == .ipv4 ? 5 : 6)
            append(tuple.source.high)
            append(tuple.source.low)
            append(tuple.destination.high)
            append(tuple.destination.low)
            append(zone.bits)
            append(
                UInt64(tuple.sourcePort) << 48 | UInt64(tuple.destinationPort) << 32 | UInt64(flags) << 8
                    | UInt64(tuple.ipProtocol))
        case .learned(.translation(let use, let flags)):
            body.append(use.original.source.family == .ipv4 ? 7 : 8)
            for tuple in [use.original, use.reply] {
                for word in [tuple.source.high, tuple.source.low, tuple.destination.high, tuple.destination.low] {
                    append(word)
                }
                append(UInt64(tuple.sourcePort) << 16 | UInt64(tuple.destinationPort))
            }
            append(use.zone.bits)
            append(UInt64(flags) << 16 | UInt64(use.isReturn ? 1 : 0) << 8 | UInt64(use.original.ipProtocol))
        // Is not told.
        case .learned(.fragment): body += [0] + [UInt8](repeating: 0, count: 32)
        }
        return Frame.ethernet(from: .init(bits: 0x0e), to: .init(bits: 0x0e), type: etherType, payload: body)
    }

    /// Reads a message; `nil` for anything else.
    static func decode(_ frame: UnsafeRawBufferPointer) -> StateMessage? {
        guard frame.count >= 14 + 2 + 32, frame[12] == 0x88, frame[13] == 0xb5, frame[14] == version else { return nil }
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: frame.loadUnaligned(fromByteOffset: 16 + 8 * index, as: UInt64.self))
        }
        switch frame[15] {
        case 1:
            return .learned(
                .mac(
                    MACAddress(bits: word(0)), vlan: UInt16(truncatingIfNeeded: word(1)) & 0x0fff,
                    bridge: Tag(bits: word(2)), port: Tag(bits: word(3))))
        case 2, 3:
            let address = IPAddress(high: word(0), low: word(1), family: frame[15] == 2 ? .ipv4 : .ipv6)
            return .learned(.neighbor(address, mac: MACAddress(bits: word(2)), port: Tag(bits: word(3))))
        case 4: return .greeting
        case 5, 6:
            guard frame.count >= 16 + 48 else { return nil }
            let family: AddressFamily = frame[15] == 5 ? .ipv4 : .ipv6
            let rest = word(5)
            let tuple = ConnectionTuple(
                source: IPAddress(high: word(0), low: word(1), family: family),
                destination: IPAddress(high: word(2), low: word(3), family: family),
                sourcePort: UInt16(truncatingIfNeeded: rest >> 48),
                destinationPort: UInt16(truncatingIfNeeded: rest >> 32), ipProtocol: UInt8(truncatingIfNeeded: rest))
            return .learned(
                .connection(tuple, zone: Tag(bits: word(4)), flags: UInt16(truncatingIfNeeded: rest >> 8)))
        case 7, 8:
            guard frame.count >= 16 + 96 else { return nil }
            let family: AddressFamily = frame[15] == 7 ? .ipv4 : .ipv6
            let rest = word(11)
            func tuple(_ first: Int) -> ConnectionTuple {
                ConnectionTuple(
                    source: IPAddress(high: word(first), low: word(first + 1), family: family),
                    destination: IPAddress(high: word(first + 2), low: word(first + 3), family: family),
                    sourcePort: UInt16(truncatingIfNeeded: word(first + 4) >> 16),
                    destinationPort: UInt16(truncatingIfNeeded: word(first + 4)),
                    ipProtocol: UInt8(truncatingIfNeeded: rest))
            }
            let use = TranslationUse(
                zone: Tag(bits: word(10)), original: tuple(0), reply: tuple(5), isNew: false,
                isReturn: rest >> 8 & 1 == 1)
            return .learned(.translation(use, flags: UInt16(truncatingIfNeeded: rest >> 16)))
        default: return nil
        }
    }
}
