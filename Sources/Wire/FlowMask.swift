// SPDX-License-Identifier: Apache-2.0

/// One field of a ``FlowKey``: the word it lies in and its bits there.
@frozen
public struct FlowField: Sendable {
    /// Index of the word.
    public let word: Int
    /// The field's bits in that word.
    public let bits: UInt64

    @inlinable
    init(_ word: Int, _ shift: UInt64, _ width: UInt64) {
        self.word = word
        self.bits = (width == 64 ? ~0 : (1 << width) - 1) << shift
    }

    /// The field as a mask of nothing but itself.
    @inlinable @inline(__always) public static var inPort: FlowField { .init(0, 0, 32) }
    /// See ``FlowKey/recirculationID``.
    @inlinable @inline(__always) public static var recirculationID: FlowField { .init(0, 32, 32) }
    /// See ``FlowKey/tunnelID``.
    @inlinable @inline(__always) public static var tunnelID: FlowField { .init(1, 0, 64) }
    /// See ``FlowKey/etherDestination``.
    @inlinable @inline(__always) public static var etherDestination: FlowField { .init(7, 0, 48) }
    /// See ``FlowKey/etherType``.
    @inlinable @inline(__always) public static var etherType: FlowField { .init(7, 48, 16) }
    /// See ``FlowKey/etherSource``.
    @inlinable @inline(__always) public static var etherSource: FlowField { .init(8, 0, 48) }
    /// See ``FlowKey/vlanTCI``.
    @inlinable @inline(__always) public static var vlanTCI: FlowField { .init(8, 48, 16) }
    /// See ``FlowKey/vlanTPID``.
    @inlinable @inline(__always) public static var vlanTPID: FlowField { .init(9, 0, 16) }
    /// See ``FlowKey/innerVLANTCI``.
    @inlinable @inline(__always) public static var innerVLANTCI: FlowField { .init(9, 16, 16) }
    /// See ``FlowKey/innerVLANTPID``.
    @inlinable @inline(__always) public static var innerVLANTPID: FlowField { .init(9, 32, 16) }
    /// See ``FlowKey/tcpFlags``.
    @inlinable @inline(__always) public static var tcpFlags: FlowField { .init(9, 48, 16) }
    /// See ``FlowKey/ipProtocol``.
    @inlinable @inline(__always) public static var ipProtocol: FlowField { .init(10, 0, 8) }
    /// See ``FlowKey/ipTOS``.
    @inlinable @inline(__always) public static var ipTOS: FlowField { .init(10, 8, 8) }
    /// The upper six bits of ``FlowKey/ipTOS`` (RFC 2474).
    @inlinable @inline(__always) public static var ipDSCP: FlowField { .init(10, 10, 6) }
    /// See ``FlowKey/ipTTL``.
    @inlinable @inline(__always) public static var ipTTL: FlowField { .init(10, 16, 8) }
    /// See ``FlowKey/ipFragment``.
    @inlinable @inline(__always) public static var ipFragment: FlowField { .init(10, 24, 8) }
    /// See ``FlowKey/ipv6Label``.
    @inlinable @inline(__always) public static var ipv6Label: FlowField { .init(10, 32, 32) }
    /// See ``FlowKey/sourcePort``.
    @inlinable @inline(__always) public static var sourcePort: FlowField { .init(15, 0, 16) }
    /// See ``FlowKey/destinationPort``.
    @inlinable @inline(__always) public static var destinationPort: FlowField { .init(15, 16, 16) }
    /// See ``FlowKey/mark``.
    @inlinable @inline(__always) public static var mark: FlowField { .init(15, 32, 32) }
    /// See ``FlowKey/arpSource``.
    @inlinable @inline(__always) public static var arpSource: FlowField { .init(18, 0, 48) }
    /// See ``FlowKey/arpTarget``.
    @inlinable @inline(__always) public static var arpTarget: FlowField { .init(19, 0, 48) }
}

/// Which bits of a ``FlowKey`` a flow matches. A set bit was read, or decided; a clear bit may have any value.
@frozen
public struct FlowMask: Sendable, Hashable {
    /// Ones where the key counts.
    public var bits: FlowKey

    /// A mask that matches everything.
    @inlinable @inline(__always)
    public init() { bits = FlowKey() }

    /// All bits count.
    public static let exact: FlowMask = {
        var mask = FlowMask()
        for index in 0..<FlowKey.wordCount { mask.bits.words[index] = ~0 }
        return mask
    }()

    /// Counts all bits of a field in.
    @inlinable @inline(__always)
    public mutating func include(_ field: FlowField) { bits.words[field.word] |= field.bits }

    /// Whether all bits of a field count.
    @inlinable
    public func includes(_ field: FlowField) -> Bool { bits.words[field.word] & field.bits == field.bits }

    /// Counts the first `length` bits of the IP source in.
    @inlinable @inline(__always)
    public mutating func includeSource(prefix length: Int) {
        let mask = prefixMask(length)
        bits.words[11] |= mask.high
        bits.words[12] |= mask.low
    }

    /// Counts the first `length` bits of the IP destination in.
    @inlinable @inline(__always)
    public mutating func includeDestination(prefix length: Int) {
        let mask = prefixMask(length)
        bits.words[13] |= mask.high
        bits.words[14] |= mask.low
    }

    /// Counts the whole ND target in.
    @inlinable
    public mutating func includeNDTarget() {
        bits.words[16] = ~0
        bits.words[17] = ~0
    }

    /// The bits that either mask counts.
    @inlinable
    public mutating func formUnion(_ other: FlowMask) {
        for index in 0..<FlowKey.wordCount { bits.words[index] |= other.bits.words[index] }
    }

    /// A key with the bits that do not count cleared.
    @inlinable @inline(__always)
    public func apply(_ key: FlowKey) -> FlowKey {
        var out = FlowKey()
        for index in 0..<FlowKey.wordCount { out.words[index] = key.words[index] & bits.words[index] }
        return out
    }

    /// Whether `key` is in the flow whose masked key is `masked`.
    @inlinable
    public func matches(_ key: FlowKey, _ masked: FlowKey) -> Bool {
        var difference: UInt64 = 0
        for index in 0..<FlowKey.wordCount {
            difference |= (key.words[index] & bits.words[index]) ^ masked.words[index]
        }
        return difference == 0
    }
}
