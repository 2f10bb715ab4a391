// SPDX-License-Identifier: Apache-2.0

/// An IPv4 address (RFC 791).
@frozen
public struct IPv4Address: Hashable, Sendable, Comparable {
    /// The address as an integer in host order: 10.0.0.1 is `0x0a000001`.
    public var bits: UInt32

    /// An address from its integer in host order.
    @inlinable
    public init(bits: UInt32) { self.bits = bits }

    /// Numeric order.
    @inlinable
    public static func < (a: IPv4Address, b: IPv4Address) -> Bool { a.bits < b.bits }

    /// 224.0.0.0/4.
    @inlinable public var isMulticast: Bool { bits >> 28 == 0xe }
    /// 255.255.255.255.
    @inlinable public var isBroadcast: Bool { bits == 0xffff_ffff }
}

extension IPv4Address: CustomStringConvertible, LosslessStringConvertible {
    /// Dotted decimal.
    public var description: String { "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)" }

    /// Reads four decimal numbers from 0 to 255 with dots between, without leading zeros.
    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.count), part.allSatisfy({ (48...57).contains($0) }),
                part.count == 1 || part.first != 48, let byte = UInt8(String(Substring(part)))
            else { return nil }
            bits = bits << 8 | UInt32(byte)
        }
        self.init(bits: bits)
    }
}
