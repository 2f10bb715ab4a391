// SPDX-License-Identifier: Apache-2.0
import Consensus

/// Entries and members as bytes, on disk and on the wire. Numbers are big-endian.
///
/// What this version writes every later one must read: a fixture of each version is kept. A kind that this version does not
/// know stops the reader, since a member that skips what others apply would be another cluster.
enum EntryCodec {
    enum Kind: UInt8 {
        case nothing = 0
        case command = 1
        case members = 2
    }

    static func encode(_ content: Entry.Content) -> (kind: UInt8, data: [UInt8]) {
        switch content {
        case .nothing: (Kind.nothing.rawValue, [])
        case .command(let bytes): (Kind.command.rawValue, bytes)
        case .members(let members): (Kind.members.rawValue, encode(members))
        }
    }

    static func decode(kind: UInt8, _ data: [UInt8]) throws(StoreError) -> Entry.Content {
        switch Kind(rawValue: kind) {
        case .nothing: return .nothing
        case .command: return .command(data)
        case .members: return .members(try decodeMembers(data))
        case nil: throw .unknownKind(kind)
        }
    }

    /// Count of members, each with id and role; count of outgoing voters, each with id.
    static func encode(_ members: Members) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(UInt32(members.list.count))
        for member in members.list {
            bytes.append(member.id.value)
            bytes.append(member.role.rawValue)
        }
        bytes.append(UInt32(members.outgoing.count))
        for id in members.outgoing { bytes.append(id.value) }
        return bytes
    }

    static func decodeMembers(_ bytes: [UInt8]) throws(StoreError) -> Members {
        var reader = ByteReader(bytes)
        guard let count: UInt32 = reader.number(), Int(count) <= bytes.count / 9 else { throw .malformed("members") }
        var list: [Members.Member] = []
        for _ in 0..<count {
            guard let id: UInt64 = reader.number(), let code: UInt8 = reader.number() else {
                throw .malformed("members")
            }
            guard let role = Members.Role(rawValue: code) else { throw .unknownKind(code) }
            list.append(.init(NodeID(id), role))
        }
        guard let outgoing: UInt32 = reader.number(), Int(outgoing) <= bytes.count / 8 else {
            throw .malformed("members")
        }
        var ids: [NodeID] = []
        for _ in 0..<outgoing {
            guard let id: UInt64 = reader.number() else { throw .malformed("members") }
            ids.append(NodeID(id))
        }
        guard reader.isAtEnd else { throw .malformed("members") }
        return Members(list, outgoing: ids)
    }
}

extension [UInt8] {
    mutating func append<Number: FixedWidthInteger & UnsignedInteger>(_ number: Number) where Number: BitwiseCopyable {
        Swift.withUnsafeBytes(of: number.bigEndian) { append(contentsOf: $0) }
    }
}

/// Reads big-endian numbers one behind the other; `nil` past the end.
struct ByteReader {
    private let bytes: [UInt8]
    private var at = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { at == bytes.count }
    /// Bytes that are left.
    var left: Int { bytes.count - at }

    mutating func take(_ count: Int) -> [UInt8]? {
        guard count <= left else { return nil }
        defer { at += count }
        return Array(bytes[at..<at + count])
    }

    mutating func number<Number: FixedWidthInteger & UnsignedInteger>() -> Number? {
        let size = Number.bitWidth / 8
        guard at + size <= bytes.count else { return nil }
        defer { at += size }
        var value: Number = 0
        for byte in bytes[at..<at + size] { value = size == 1 ? Number(byte) : value << 8 | Number(byte) }
        return value
    }
}
