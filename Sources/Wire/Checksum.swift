// SPDX-License-Identifier: Apache-2.0

/// The Internet checksum (RFC 1071) and its incremental form (RFC 1624).
@frozen
public struct InternetChecksum: Sendable {
    /// Running sum; folded when asked for.
    @usableFromInline var sum: UInt64 = 0

    /// An empty sum.
    @inlinable
    public init() {}

    /// Adds bytes as 16-bit words, an odd last byte padded with zero. Only the last piece may be of odd length.
    @inlinable
    public mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        let count = bytes.count
        while index + 8 <= count {
            let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            let (partial, overflow) = sum.addingReportingOverflow(word)
            sum = partial &+ (overflow ? 1 : 0)
            index += 8
        }
        var tail: UInt64 = 0
        var shift: UInt64 = 0
        while index < count {
            tail |= UInt64(bytes[index]) << shift
            shift += 8
            index += 1
        }
        let (partial, overflow) = sum.addingReportingOverflow(tail)
        sum = partial &+ (overflow ? 1 : 0)
    }

    /// Adds a number of 64 bits in host order, for pseudo headers.
    @inlinable
    public mutating func add(_ value: UInt64) {
        let (partial, overflow) = sum.addingReportingOverflow(value.bigEndian)
        sum = partial &+ (overflow ? 1 : 0)
    }

    /// Sixteen bits in network order of value, not yet complemented.
    @inlinable
    public var folded: UInt16 {
        var value = (sum & 0xffff_ffff) + (sum >> 32)
        value = (value & 0xffff) + (value >> 16)
        value = (value & 0xffff) + (value >> 16)
        value = (value & 0xffff) + (value >> 16)
        return UInt16(truncatingIfNeeded: value).bigEndian
    }

    /// The checksum as it stands in a header.
    @inlinable
    public var value: UInt16 { ~folded }

    /// The checksum of one piece of bytes.
    @inlinable
    public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
        var sum = InternetChecksum()
        sum.add(bytes)
        return sum.value
    }

    /// The checksum after a 16-bit word under it changed (RFC 1624 equation 3).
    @inlinable @inline(__always)
    public static func update(_ checksum: UInt16, replacing old: UInt16, with new: UInt16) -> UInt16 {
        var sum = UInt32(~checksum & 0xffff) + UInt32(~old & 0xffff) + UInt32(new)
        sum = (sum & 0xffff) + (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16)
        return ~UInt16(truncatingIfNeeded: sum)
    }

    /// The sum over a TCP, UDP or ICMPv6 pseudo header (RFC 793, 8200 section 8.1).
    public static func pseudoHeader(
        source: IPAddress, destination: IPAddress, ipProtocol: UInt8, length: Int
    ) -> InternetChecksum {
        var sum = InternetChecksum()
        sum.add(source.high)
        sum.add(source.low)
        sum.add(destination.high)
        sum.add(destination.low)
        sum.add(UInt64(ipProtocol))
        sum.add(UInt64(length))
        return sum
    }
}
