// SPDX-License-Identifier: Apache-2.0

/// The Castagnoli CRC (RFC 3720 appendix B.4), by table.
public struct CRC32C: Sendable {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
    }
    private var state: UInt32

    /// A sum that goes on from another's value; 0 begins one.
    public init(after value: UInt32 = 0) { state = ~value }

    /// Adds bytes.
    public mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { state = state >> 8 ^ CRC32C.table[Int(UInt8(truncatingIfNeeded: state) ^ byte)] }
    }

    /// Adds a number, its lowest byte first.
    public mutating func add(_ number: UInt64) {
        for shift in 0..<8 { add(CollectionOfOne(UInt8(truncatingIfNeeded: number >> UInt64(8 * shift)))) }
    }

    /// The sum.
    public var value: UInt32 { ~state }
}
