// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import TLS
import Topology
import Wire

/// A whole state in a file: what members send to those that lag, and what operators keep. A head with version, position,
/// members and cluster; the rows; SHA-256 over all before it.
public enum SnapshotFile {
    private static let magic = Array("SELVSNAP".utf8)
    private static let format: UInt8 = 1
    private static let sumLength = 32

    /// What a file says of itself.
    public struct Summary: Sendable {
        /// The last entry that is in it.
        public var info: SnapshotInfo
        /// The cluster that it is of.
        public var cluster: String
        /// Rows in it.
        public var rows: Int
        /// Bytes of the file.
        public var size: Int
        /// SHA-256 of the file's content, hexadecimal.
        public var hash: String
        /// The state's sum.
        public var digest: StateDigest
        /// The revision of the topology.
        public var revision: UInt64
    }

    /// The bytes of a state.
    public static func encode(_ state: ClusterState) -> [UInt8] {
        var out = ByteWriter()
        out.raw(magic)
        out.number(format)
        out.number(state.applied.term)
        out.number(state.applied.index)
        out.data(EntryCodec.encode(state.members))
        out.text(state.cluster?.id ?? "")
        let rows = state.rowKeys.compactMap { key in state.row(key).map { (key.code, $0) } }
        out.count(rows.count)
        for (code, bytes) in rows {
            out.number(code)
            out.data(bytes)
        }
        return out.bytes + Cryptography.sha256(out.bytes)
    }

    /// Reads a state back, and makes sure that it is whole.
    public static func decode(_ bytes: [UInt8]) throws(StoreError) -> (state: ClusterState, summary: Summary) {
        guard bytes.count > magic.count + sumLength, bytes.starts(with: magic) else {
            throw .malformed("snapshot: not one of Selvage")
        }
        let end = bytes.count - sumLength
        let sum = Array(bytes[end...])
        let content = Array(bytes[..<end])
        guard Cryptography.sha256(content) == sum else {
            throw .malformed("snapshot: its checksum does not hold; it was cut off or damaged")
        }
        var reader = ByteReader(content, from: magic.count)
        var state = ClusterState()
        do throws(MalformedBytes) {
            let found: UInt8 = try reader.number()
            guard found == format else { throw MalformedBytes("format \(found), which a later version wrote") }
            let position = LogPosition(term: try reader.number(), index: try reader.number())
            let members: Members
            do { members = try EntryCodec.decodeMembers(try reader.data()) } catch {
                throw MalformedBytes("\(error)")
            }
            let cluster = try reader.text()
            let count = try reader.count()
            for _ in 0..<count { try state.take(code: try reader.number(), try reader.data()) }
            try reader.finish()
            guard state.applied == position, state.members == members else {
                throw MalformedBytes("its head and its rows differ")
            }
            return (
                state,
                Summary(
                    info: SnapshotInfo(position: position, members: members), cluster: cluster, rows: count,
                    size: bytes.count, hash: hexadecimal(sum), digest: state.digest, revision: state.topology.revision)
            )
        } catch { throw .malformed("snapshot: \(error)") }
    }

    /// Reads a file.
    public static func read(_ path: String) throws -> (state: ClusterState, summary: Summary) {
        guard let bytes = try Files.read(path) else { throw SystemError(2, "read \(path)") }
        return try decode(bytes)
    }
}
