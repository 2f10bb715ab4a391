// SPDX-License-Identifier: Apache-2.0

/// Writes values one behind the other, as ``ByteReader`` reads them. Numbers are big-endian; counts are of variable length.
public struct ByteWriter: Sendable {
    @usableFromInline var out: [UInt8] = []

    /// What was written so far.
    public var bytes: [UInt8] { out }

    /// Nothing yet.
    public init() { out.reserveCapacity(256) }

    /// Zeros, which whoever sends what is written makes a header of.
    public init(headroom: Int) {
        out.reserveCapacity(256 + headroom)
        out.append(contentsOf: repeatElement(0, count: headroom))
    }

    /// Ends writing; nothing is copied.
    public consuming func finish() -> [UInt8] { out }

    /// A number of fixed size.
    @inlinable
    public mutating func number<Number: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_ value: Number) {
        withUnsafeBytes(of: value.bigEndian) { out.append(contentsOf: $0) }
    }

    /// A number that is mostly small: seven bits a byte, the lowest first.
    public mutating func count(_ value: Int) { count(UInt64(value)) }

    /// A number that is mostly small: seven bits a byte, the lowest first.
    public mutating func count(_ value: UInt64) {
        var left = value
        while left >= 0x80 {
            out.append(UInt8(truncatingIfNeeded: left) | 0x80)
            left >>= 7
        }
        out.append(UInt8(left))
    }

    /// Yes or no.
    public mutating func flag(_ value: Bool) { out.append(value ? 1 : 0) }

    /// A text behind the count of its bytes.
    public mutating func text(_ value: String) {
        count(value.utf8.count)
        out.append(contentsOf: value.utf8)
    }

    /// Bytes behind their count.
    public mutating func data(_ value: [UInt8]) {
        count(value.count)
        out.append(contentsOf: value)
    }

    /// Bytes as they are.
    public mutating func raw(_ value: some Sequence<UInt8>) { out.append(contentsOf: value) }

    /// Things behind their count.
    public mutating func list<Element>(_ list: [Element], _ body: (inout ByteWriter, Element) -> Void) {
        count(list.count)
        for element in list { body(&self, element) }
    }

    /// An address: its family, then 4 or 16 bytes.
    public mutating func address(_ value: IPAddress) {
        out.append(value.family.rawValue)
        if let v4 = value.v4 {
            number(v4.bits)
        } else {
            number(value.high)
            number(value.low)
        }
    }

    /// A network.
    public mutating func prefix(_ value: Prefix) {
        address(value.address)
        out.append(UInt8(value.length))
    }

    /// An address with the length of its network.
    public mutating func interface(_ value: InterfaceAddress) {
        address(value.address)
        out.append(UInt8(value.length))
    }
}

/// Bytes that are not what they should be.
public struct MalformedBytes: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong.
    public var description: String

    /// A reason.
    public init(_ reason: String) { description = reason }
}

/// Reads what ``ByteWriter`` wrote. Any bytes may come: reading never traps and allocates no more than came.
public struct ByteReader: Sendable {
    @usableFromInline let bytes: [UInt8]
    @usableFromInline var at: Int
    @usableFromInline let end: Int

    /// Reads bytes from a place on.
    public init(_ bytes: [UInt8], from start: Int = 0) {
        self.bytes = bytes
        at = min(start, bytes.count)
        end = bytes.count
    }

    /// Whether everything was read.
    public var isAtEnd: Bool { at == end }
    /// Bytes that are left.
    public var left: Int { end - at }

    /// A number of fixed size.
    @inlinable
    public mutating func number<Number: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ type: Number.Type = Number.self
    ) throws(MalformedBytes) -> Number {
        let size = MemoryLayout<Number>.size
        guard size <= end - at else { throw MalformedBytes("cut off") }
        defer { at += size }
        return Number(bigEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: Number.self) })
    }

    /// A number of variable length.
    public mutating func longCount() throws(MalformedBytes) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte: UInt8 = try number()
            guard shift < 63 || byte <= 1 else { throw MalformedBytes("a number of more than 64 bits") }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
    }

    /// A count of things of which each takes a byte at least.
    public mutating func count() throws(MalformedBytes) -> Int {
        let value = try longCount()
        guard value <= UInt64(left) else { throw MalformedBytes("more is announced than came") }
        return Int(value)
    }

    /// Yes or no.
    public mutating func flag() throws(MalformedBytes) -> Bool {
        let byte: UInt8 = try number()
        guard byte <= 1 else { throw MalformedBytes("neither yes nor no") }
        return byte == 1
    }

    /// A text.
    public mutating func text() throws(MalformedBytes) -> String {
        let count = try count()
        defer { at += count }
        guard let text = String(validating: bytes[at..<at + count], as: UTF8.self) else {
            throw MalformedBytes("text that is not UTF-8")
        }
        return text
    }

    /// Bytes behind their count.
    public mutating func data() throws(MalformedBytes) -> [UInt8] { try raw(try count()) }

    /// As many bytes.
    public mutating func raw(_ count: Int) throws(MalformedBytes) -> [UInt8] {
        guard count >= 0, count <= left else { throw MalformedBytes("cut off") }
        defer { at += count }
        return Array(bytes[at..<at + count])
    }

    /// An address.
    public mutating func address() throws(MalformedBytes) -> IPAddress {
        switch AddressFamily(rawValue: try number()) {
        case .ipv4: return IPAddress(IPv4Address(bits: try number()))
        case .ipv6: return IPAddress(high: try number(), low: try number(), family: .ipv6)
        case nil: throw MalformedBytes("an address of no family")
        }
    }

    /// A network.
    public mutating func prefix() throws(MalformedBytes) -> Prefix {
        let interface = try interface()
        guard interface.network.address == interface.address else { throw MalformedBytes("a network with host bits") }
        return interface.network
    }

    /// An address with the length of its network.
    public mutating func interface() throws(MalformedBytes) -> InterfaceAddress {
        let address = try address()
        let length: UInt8 = try number()
        guard Int(length) <= address.family.width else { throw MalformedBytes("a prefix that is too long") }
        return InterfaceAddress(address, length: Int(length))
    }

    /// Things behind their count.
    public mutating func list<Element>(
        _ body: (inout ByteReader) throws(MalformedBytes) -> Element
    ) throws(MalformedBytes) -> [Element] {
        var result: [Element] = []
        for _ in 0..<(try count()) { result.append(try body(&self)) }
        return result
    }

    /// Makes sure that nothing is left.
    public func finish() throws(MalformedBytes) {
        guard isAtEnd else { throw MalformedBytes("bytes behind the end") }
    }
}
