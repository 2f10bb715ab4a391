// SPDX-License-Identifier: Apache-2.0

/// A 48-bit IEEE 802 address.
@frozen
public struct MACAddress: Hashable, Sendable {
    /// The address in the low 48 bits, first byte on the wire in the most significant place.
    public var bits: UInt64

    /// Takes the low 48 bits of `bits`.
    @inlinable
    public init(bits: UInt64) { self.bits = bits & 0xffff_ffff_ffff }

    /// All ones: every station.
    public static let broadcast = MACAddress(bits: 0xffff_ffff_ffff)
    /// All zeros: no station.
    public static let zero = MACAddress(bits: 0)

    /// The group bit: multicast or broadcast.
    @inlinable public var isGroup: Bool { bits & 0x0100_0000_0000 != 0 }
    /// All ones.
    @inlinable public var isBroadcast: Bool { bits == 0xffff_ffff_ffff }

    /// The group address of an IPv4 multicast address (RFC 1112 section 6.4).
    public static func multicast(for address: IPv4Address) -> MACAddress {
        MACAddress(bits: 0x0100_5e00_0000 | UInt64(address.bits & 0x7f_ffff))
    }

    /// The group address of an IPv6 multicast address (RFC 2464 section 7).
    public static func multicast(for address: IPv6Address) -> MACAddress {
        MACAddress(bits: 0x3333_0000_0000 | (address.low & 0xffff_ffff))
    }
}

extension MACAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Six pairs of hexadecimal digits with colons.
    public var description: String {
        (0..<6).map { hex(UInt8(truncatingIfNeeded: bits >> UInt64(40 - 8 * $0))) }.joined(separator: ":")
    }

    /// Reads `aa:bb:cc:dd:ee:ff`; nothing else.
    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count == 6 else { return nil }
        var bits: UInt64 = 0
        for part in parts {
            guard part.count == 2, let byte = UInt8(String(Substring(part)), radix: 16), part.first != UInt8(ascii: "+")
            else { return nil }
            bits = bits << 8 | UInt64(byte)
        }
        self.init(bits: bits)
    }
}

/// Two hexadecimal digits.
func hex(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0" + digits : digits
}
