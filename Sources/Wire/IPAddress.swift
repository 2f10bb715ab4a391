// SPDX-License-Identifier: Apache-2.0

/// The family of an address.
@frozen
public enum AddressFamily: UInt8, Sendable, Hashable {
    /// IPv4: addresses of 32 bits.
    case ipv4 = 4
    /// IPv6: addresses of 128 bits.
    case ipv6 = 6

    /// Bits in an address: 32 or 128.
    @inlinable public var width: Int { self == .ipv4 ? 32 : 128 }
}

/// An IPv4 or IPv6 address in one fixed-size value. An IPv4 address lies in the **top** 32 bits of ``high``, so that
/// "the first n bits" means the same for both families: one trie and one mask function serve both.
@frozen
public struct IPAddress: Hashable, Sendable {
    /// The first 64 bits; an IPv4 address lies in the upper half.
    public var high: UInt64
    /// The last 64 bits; zero for IPv4.
    public var low: UInt64
    /// Which family the bits are of.
    public var family: AddressFamily

    /// An address of the given bits, aligned to the top.
    @inlinable
    public init(high: UInt64, low: UInt64, family: AddressFamily) {
        self.high = high
        self.low = low
        self.family = family
    }

    /// The address so many further on: of IPv6 within the same /64.
    @inlinable
    public func advanced(by count: Int) -> IPAddress {
        family == .ipv4
            ? IPAddress(high: high &+ UInt64(truncatingIfNeeded: count) << 32, low: 0, family: .ipv4)
            : IPAddress(high: high, low: low &+ UInt64(truncatingIfNeeded: count), family: .ipv6)
    }

    /// An IPv4 address.
    @inlinable
    public init(_ v4: IPv4Address) { self.init(high: UInt64(v4.bits) << 32, low: 0, family: .ipv4) }

    /// An IPv6 address.
    @inlinable
    public init(_ v6: IPv6Address) { self.init(high: v6.high, low: v6.low, family: .ipv6) }

    /// The IPv4 address, if it is one.
    @inlinable public var v4: IPv4Address? {
        family == .ipv4 ? IPv4Address(bits: UInt32(truncatingIfNeeded: high >> 32)) : nil
    }

    /// The IPv6 address, if it is one.
    @inlinable public var v6: IPv6Address? { family == .ipv6 ? IPv6Address(high: high, low: low) : nil }

    /// A group address of its family.
    @inlinable public var isMulticast: Bool { family == .ipv4 ? high >> 60 == 0xe : high >> 56 == 0xff }

    /// The length of the prefix that both have in common, 0 to 128.
    @inlinable
    public func commonPrefix(_ other: IPAddress) -> Int {
        let a = high ^ other.high
        if a != 0 { return a.leadingZeroBitCount }
        return 64 + (low ^ other.low).leadingZeroBitCount
    }

    /// Bit `index`, counted from the most significant, 0 to 127.
    @inlinable
    public func bit(_ index: Int) -> Int {
        index < 64
            ? Int(truncatingIfNeeded: high >> UInt64(63 - index) & 1)
            : Int(truncatingIfNeeded: low >> UInt64(127 - index) & 1)
    }

    /// The 8 bits that begin with bit `index`, 0 to 120.
    @inlinable
    public func byte(at index: Int) -> Int {
        if index <= 56 { return Int(truncatingIfNeeded: high >> UInt64(56 - index) & 0xff) }
        if index >= 64 { return Int(truncatingIfNeeded: low >> UInt64(120 - index) & 0xff) }
        return Int(truncatingIfNeeded: (high << UInt64(index - 56) | low >> UInt64(120 - index)) & 0xff)
    }

    /// The address with the 8 bits that begin with bit `index`, 0 to 120, set in addition to those that are.
    public func with(_ byte: Int, at index: Int) -> IPAddress {
        let bits = UInt64(byte & 0xff)
        let shifted = index <= 56 ? bits << UInt64(56 - index) : index < 64 ? bits >> UInt64(index - 56) : 0
        return IPAddress(
            high: high | shifted, low: low | (index > 56 ? bits << UInt64(120 - index) : 0), family: family)
    }

    /// The address with all but its first `length` bits cleared.
    @inlinable
    public func masked(_ length: Int) -> IPAddress {
        let mask = prefixMask(length)
        return IPAddress(high: high & mask.high, low: low & mask.low, family: family)
    }
}

/// A mask of `length` leading ones in 128 bits.
@inlinable
public func prefixMask(_ length: Int) -> (high: UInt64, low: UInt64) {
    if length <= 0 { return (0, 0) }
    if length <= 64 { return (~0 << UInt64(64 - length), 0) }
    if length >= 128 { return (~0, ~0) }
    return (~0, ~0 << UInt64(128 - length))
}

extension IPAddress: CustomStringConvertible, LosslessStringConvertible, Comparable {
    /// The usual text form of the family.
    public var description: String { v4?.description ?? IPv6Address(high: high, low: low).description }

    /// Reads the text form of either family.
    public init?(_ text: String) {
        if let v4 = IPv4Address(text) {
            self.init(v4)
        } else if let v6 = IPv6Address(text) {
            self.init(v6)
        } else {
            return nil
        }
    }

    /// IPv4 before IPv6, then numeric.
    public static func < (a: IPAddress, b: IPAddress) -> Bool {
        (a.family.rawValue, a.high, a.low) < (b.family.rawValue, b.high, b.low)
    }
}
