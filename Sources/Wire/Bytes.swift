// SPDX-License-Identifier: Apache-2.0

/// Loads of network-order integers from bytes whose length the caller has checked. `RawSpan` still refuses an offset
/// past its end, so a wrong check ends the process instead of reading foreign memory.
extension RawSpan {
    @inlinable @inline(__always)
    func u8(_ offset: Int) -> UInt8 { unsafeLoad(fromByteOffset: offset, as: UInt8.self) }

    @inlinable @inline(__always)
    func u16(_ offset: Int) -> UInt16 {
        UInt16(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    @inlinable @inline(__always)
    func u32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inlinable @inline(__always)
    func u64(_ offset: Int) -> UInt64 {
        UInt64(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Six bytes in the low 48 bits.
    @inlinable @inline(__always)
    func u48(_ offset: Int) -> UInt64 { UInt64(u16(offset)) << 32 | UInt64(u32(offset + 2)) }
}

/// Stores of network-order integers; bounds are the caller's promise, checked in debug builds by the standard library.
extension UnsafeMutableRawBufferPointer {
    @inlinable @inline(__always)
    func put8(_ value: UInt8, at offset: Int) { storeBytes(of: value, toByteOffset: offset, as: UInt8.self) }

    @inlinable @inline(__always)
    func put16(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }

    @inlinable @inline(__always)
    func put32(_ value: UInt32, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }

    @inlinable @inline(__always)
    func put64(_ value: UInt64, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
    }

    @inlinable @inline(__always)
    func put48(_ value: UInt64, at offset: Int) {
        put16(UInt16(truncatingIfNeeded: value >> 32), at: offset)
        put32(UInt32(truncatingIfNeeded: value), at: offset + 2)
    }
}

extension [UInt8] {
    /// Appends a network-order integer; for packets that the slow path makes.
    @inlinable
    package mutating func append(network value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    /// Appends the low 48 bits, most significant byte first.
    @inlinable
    package mutating func append(mac: MACAddress) {
        append(network: UInt16(truncatingIfNeeded: mac.bits >> 32))
        append(network: UInt32(truncatingIfNeeded: mac.bits))
    }

    /// Overwrites two bytes with a network-order integer.
    @inlinable
    mutating func put16(_ value: UInt16, at offset: Int) {
        self[offset] = UInt8(value >> 8)
        self[offset + 1] = UInt8(value & 0xff)
    }
}
