// SPDX-License-Identifier: Apache-2.0
import Consensus
import Foundation
import NIOCore
import Node
import TLS
import Topology
import Wire

@testable import API
@testable import Store

/// What nodes, clients and disks give each other.
func fuzzStore(_ kind: UInt8, _ bytes: [UInt8]) {
    switch kind % 8 {
    case 0: _ = try? Transaction(decoding: bytes)
    case 1: fuzzFrames(bytes)
    case 2: fuzzMember(bytes)
    case 3:
        // What a checksum does not keep out.
        let content = Array("SELVSNAP".utf8) + bytes
        _ = try? SnapshotFile.decode(content + Cryptography.sha256(content))
    case 4: fuzzState(bytes)
    case 5:
        let text = String(decoding: bytes, as: UTF8.self)
        _ = try? Certificate(pem: text)
        _ = try? PrivateKey(pem: text)
        _ = Founding.Token(text)
        _ = splitAddress(text)
    case 6:
        guard let value = try? JSONDecoder().decode(JSON.self, from: Data(bytes)) else { return }
        for kind in ObjectKey.Kind.allCases {
            _ = Schemas.object(kind).problem(value)
        }
    default: _ = try? EntryCodec.decodeMembers(bytes)
    }
}

/// A stream of frames, as it comes.
private func fuzzFrames(_ bytes: [UInt8]) {
    _ = try? Frame(decoding: bytes)
    let decoder = NIOSingleStepByteToMessageProcessor(FrameCutter())
    _ = try? decoder.process(buffer: ByteBuffer(bytes: bytes)) { _ in }
}

/// The same cuts as the decoder of a connection makes.
private struct FrameCutter: NIOSingleStepByteToMessageDecoder {
    mutating func decode(buffer: inout ByteBuffer) throws -> [UInt8]? {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self), length > 0, length <= 4096,
            buffer.readableBytes >= 4 + Int(length)
        else { return nil }
        buffer.moveReaderIndex(forwardBy: 4)
        let bytes = buffer.readBytes(length: Int(length))
        if let bytes { _ = try? Frame(decoding: bytes) }
        return bytes
    }

    mutating func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws -> [UInt8]? { try decode(buffer: &buffer) }
}

/// Messages, one after the other, for a member that follows.
private func fuzzMember(_ bytes: [UInt8]) {
    let ids = (1...3).map { NodeID($0) }
    var raft = Raft(
        id: ids[0], hard: HardState(term: 2), snapshot: SnapshotInfo(position: .zero, members: Members()),
        entries: [
            Entry(term: 1, index: 1, content: .members(Members(voters: ids))),
            Entry(term: 2, index: 2, content: .nothing),
        ], applied: 0, options: RaftOptions(), seed: 1)
    var effects: [Effect] = []
    var rest = bytes[...]
    while let size = rest.popFirst() {
        let message = Array(rest.prefix(Int(size)))
        rest = rest.dropFirst(Int(size))
        // As from a member: who it is was proven before.
        guard var read = try? MessageCodec.decode([1] + message) else {
            raft.step(.tick, &effects)
            continue
        }
        read.from = ids[1 + Int(size & 1)]
        read.to = ids[0]
        raft.step(.receive(read), &effects)
        for effect in effects {
            if case .write(let write) = effect { raft.step(.written(write.number), &effects) }
        }
        effects.removeAll()
    }
}

/// Commands and rows for a state.
private func fuzzState(_ bytes: [UInt8]) {
    var state = ClusterState()
    var rest = bytes[...]
    var index: UInt64 = 1
    while let size = rest.popFirst() {
        let part = Array(rest.prefix(Int(size)))
        rest = rest.dropFirst(Int(size))
        if let code = part.first, code & 0x80 != 0 {
            var other = state
            try? other.take(code: code & 0x7f, Array(part.dropFirst()))
            continue
        }
        guard (try? state.apply(Entry(term: 1, index: index, content: .command(part)))) != nil else { continue }
        index += 1
    }
    // What came out is what its rows make.
    if let (copy, _) = try? SnapshotFile.decode(SnapshotFile.encode(state)) {
        precondition(copy.digest == state.digest, "a state that was read is not the one that was written")
    }
}
