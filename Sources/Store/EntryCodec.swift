// SPDX-License-Identifier: Apache-2.0
import Consensus
import Wire

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
        do throws(MalformedBytes) {
            var reader = ByteReader(bytes)
            var list: [Members.Member] = []
            for _ in 0..<(try reader.number(UInt32.self)) {
                let id = NodeID(try reader.number())
                let code: UInt8 = try reader.number()
                guard let role = Members.Role(rawValue: code) else {
                    throw MalformedBytes("a member of role \(code), which a later version wrote")
                }
                list.append(.init(id, role))
            }
            var outgoing: [NodeID] = []
            for _ in 0..<(try reader.number(UInt32.self)) { outgoing.append(NodeID(try reader.number())) }
            try reader.finish()
            return Members(list, outgoing: outgoing)
        } catch { throw .malformed("members: \(error)") }
    }
}

extension [UInt8] {
    mutating func append<Number: FixedWidthInteger & UnsignedInteger>(_ number: Number) where Number: BitwiseCopyable {
        Swift.withUnsafeBytes(of: number.bigEndian) { append(contentsOf: $0) }
    }
}
