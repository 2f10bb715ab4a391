// SPDX-License-Identifier: Apache-2.0

/// A netlink message under construction: header, a family's own header, attributes (RFC 3549).
public struct NetlinkMessage: Sendable {
    /// The bytes so far; complete after ``finish(flags:sequence:)``.
    public private(set) var bytes: [UInt8]
    /// Flags besides `NLM_F_REQUEST` and `NLM_F_ACK`.
    public var flags: UInt16
    /// Whether the answer is a list.
    public var isDump = false

    /// A message of a type.
    public init(type: UInt16, flags: UInt16 = 0) {
        bytes = [UInt8](repeating: 0, count: 16)
        bytes.reserveCapacity(256)
        self.flags = flags
        put(type, at: 4)
    }

    /// A generic netlink message: command and version behind the header.
    public init(family: UInt16, command: UInt8, version: UInt8, flags: UInt16 = 0) {
        self.init(type: family, flags: flags)
        bytes += [command, version, 0, 0]
    }

    /// Appends a family's own header, in host order, padded to four bytes.
    public mutating func append<Header: BitwiseCopyable>(_ header: Header) {
        withUnsafeBytes(of: header) { bytes.append(contentsOf: $0) }
        pad()
    }

    /// Appends an attribute of raw bytes.
    public mutating func attribute(_ type: UInt16, bytes payload: some Collection<UInt8>) {
        appendHeader(type, payload.count)
        bytes.append(contentsOf: payload)
        pad()
    }

    /// Appends an attribute of a number in host order.
    public mutating func attribute<Value: FixedWidthInteger & BitwiseCopyable>(_ type: UInt16, _ value: Value) {
        appendHeader(type, MemoryLayout<Value>.size)
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
        pad()
    }

    /// Appends an attribute of text with a zero at its end.
    public mutating func attribute(_ type: UInt16, _ text: String) {
        attribute(type, bytes: Array(text.utf8) + [0])
    }

    /// Appends an attribute without payload.
    public mutating func flag(_ type: UInt16) { appendHeader(type, 0) }

    /// Appends an attribute that holds attributes.
    public mutating func nest(_ type: UInt16, _ body: (inout NetlinkMessage) throws -> Void) rethrows {
        let start = bytes.count
        appendHeader(type, 0)
        try body(&self)
        put(UInt16(truncatingIfNeeded: bytes.count - start), at: start)
    }

    /// Fills the header in.
    public mutating func finish(flags: UInt16, sequence: UInt32) {
        put(UInt32(bytes.count), at: 0)
        put(flags, at: 6)
        put(sequence, at: 8)
    }

    private mutating func appendHeader(_ type: UInt16, _ length: Int) {
        withUnsafeBytes(of: UInt16(truncatingIfNeeded: length + 4)) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: type) { bytes.append(contentsOf: $0) }
    }

    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }

    private mutating func put<Value: BitwiseCopyable>(_ value: Value, at offset: Int) {
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: Value.self) }
    }
}

/// Reads a message's payload; what is cut off or of a wrong length is not there.
public struct NetlinkReader {
    /// What is behind the netlink header.
    public let payload: UnsafeRawBufferPointer
    /// The message's type.
    public let type: UInt16
    /// The sequence number, which is that of the request where it is answered.
    public let sequence: UInt32

    init(_ payload: UnsafeRawBufferPointer, type: UInt16, sequence: UInt32) {
        self.payload = payload
        self.type = type
        self.sequence = sequence
    }

    /// Walks the messages in what one read gave.
    static func forEachMessage(
        _ bytes: UnsafeRawBufferPointer, _ body: (UInt16, UInt16, UInt32, UnsafeRawBufferPointer) -> Void
    ) {
        var at = 0
        while at + 16 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
            guard length >= 16, at + length <= bytes.count else { return }
            body(
                bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt16.self),
                bytes.loadUnaligned(fromByteOffset: at + 6, as: UInt16.self),
                bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt32.self),
                UnsafeRawBufferPointer(rebasing: bytes[at + 16..<at + length]))
            at += (length + 3) & ~3
        }
    }

    /// Walks the attributes from an offset of the payload on.
    public func forEachAttribute(from offset: Int, _ body: (UInt16, UnsafeRawBufferPointer) -> Void) {
        guard offset <= payload.count else { return }
        NetlinkReader.forEachAttribute(UnsafeRawBufferPointer(rebasing: payload[offset...]), body)
    }

    /// Walks attributes in bytes, as in a nest.
    public static func forEachAttribute(
        _ bytes: UnsafeRawBufferPointer, _ body: (UInt16, UnsafeRawBufferPointer) -> Void
    ) {
        var at = 0
        while at + 4 <= bytes.count {
            let length = Int(bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))
            guard length >= 4, at + length <= bytes.count else { return }
            // The two top bits say "nested" and "network order".
            let type = bytes.loadUnaligned(fromByteOffset: at + 2, as: UInt16.self) & 0x3fff
            body(type, UnsafeRawBufferPointer(rebasing: bytes[at + 4..<at + length]))
            at += (length + 3) & ~3
        }
    }

    /// The kernel's own words in an error message (`NLMSGERR_ATTR_MSG`), if it has some.
    public var reason: String { NetlinkReader.reason(payload) }

    static func reason(_ payload: UnsafeRawBufferPointer) -> String {
        guard payload.count >= 20 else { return "" }
        var text = ""
        NetlinkReader.forEachAttribute(UnsafeRawBufferPointer(rebasing: payload[20...])) { type, value in
            if type == 1 { text = String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return text.isEmpty ? "" : " (\(text))"
    }
}

extension UnsafeRawBufferPointer {
    /// A number in host order; `nil` when there are too few bytes.
    public func number<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type = Value.self) -> Value? {
        count >= MemoryLayout<Value>.size ? loadUnaligned(as: Value.self) : nil
    }

    /// Text up to its zero.
    public var text: String { String(decoding: prefix { $0 != 0 }, as: UTF8.self) }
}
