// SPDX-License-Identifier: Apache-2.0
import Consensus
import Wire

/// Messages between members as bytes: version, kind, from, to, term, then what the kind has. Numbers are big-endian. What
/// comes from a wire is any bytes: reading never traps, and allocates no more than a few times what came.
public enum MessageCodec {
    /// The version that is written. One that reads a higher one refuses it: the sender has to speak the lower.
    public static let version: UInt8 = 1

    private enum Kind: UInt8 {
        case preVote = 1
        case preVoteAnswer, vote, voteAnswer, append, appended, refused, heartbeat, heartbeatAnswer, chunk, chunkAnswer
        case read, readAnswer, campaign
    }

    /// The bytes of a message.
    public static func encode(_ message: Message) -> [UInt8] {
        var out: [UInt8] = [version, 0]
        out.append(message.from.value)
        out.append(message.to.value)
        out.append(message.term)
        let kind: Kind
        switch message.body {
        case .preVote(let last):
            kind = .preVote
            out.append(last)
        case .preVoteAnswer(let granted):
            kind = .preVoteAnswer
            out.append(granted ? 1 as UInt8 : 0)
        case .vote(let last, let isForced):
            kind = .vote
            out.append(last)
            out.append(isForced ? 1 as UInt8 : 0)
        case .voteAnswer(let granted):
            kind = .voteAnswer
            out.append(granted ? 1 as UInt8 : 0)
        case .append(let previous, let entries, let commit):
            kind = .append
            out.append(previous)
            out.append(commit)
            out.append(UInt32(entries.count))
            for entry in entries {
                let (code, data) = EntryCodec.encode(entry.content)
                out.append(entry.term)
                out.append(code)
                out.append(UInt32(data.count))
                out += data
            }
        case .appended(let index):
            kind = .appended
            out.append(index)
        case .refused(let previous, let hint):
            kind = .refused
            out.append(previous)
            out.append(hint)
        case .heartbeat(let commit, let round):
            kind = .heartbeat
            out.append(commit)
            out.append(round)
        case .heartbeatAnswer(let round):
            kind = .heartbeatAnswer
            out.append(round)
        case .chunk(let info, let offset, let data, let isLast):
            kind = .chunk
            out.append(info.position)
            let members = EntryCodec.encode(info.members)
            out.append(UInt32(members.count))
            out += members
            out.append(offset)
            out.append(isLast ? 1 as UInt8 : 0)
            out.append(UInt32(data.count))
            out += data
        case .chunkAnswer(let position, let next):
            kind = .chunkAnswer
            out.append(position)
            out.append(next)
        case .read(let number):
            kind = .read
            out.append(number)
        case .readAnswer(let number, let index):
            kind = .readAnswer
            out.append(number)
            out.append(index == nil ? 0 as UInt8 : 1)
            out.append(index ?? 0)
        case .campaign: kind = .campaign
        }
        out[1] = kind.rawValue
        return out
    }

    /// Reads a message.
    ///
    /// - Throws: ``StoreError/malformed(_:)``, or ``StoreError/unknownKind(_:)`` for what a later version sent.
    public static func decode(_ bytes: [UInt8]) throws(StoreError) -> Message {
        var reader = ByteReader(bytes)
        let sent: UInt8 = try reader.need()
        guard sent == version else { throw .unknownKind(sent) }
        let code: UInt8 = try reader.need()
        guard let kind = Kind(rawValue: code) else { throw .unknownKind(code) }
        let from = NodeID(try reader.need())
        let to = NodeID(try reader.need())
        let term: Term = try reader.need()
        guard term <= largest else { throw .malformed("message: term \(term)") }
        let body: Message.Body
        switch kind {
        case .preVote: body = .preVote(last: try reader.position())
        case .preVoteAnswer: body = .preVoteAnswer(granted: try reader.yesOrNo())
        case .vote: body = .vote(last: try reader.position(), isForced: try reader.yesOrNo())
        case .voteAnswer: body = .voteAnswer(granted: try reader.yesOrNo())
        case .append: body = try append(&reader)
        case .appended: body = .appended(try reader.need())
        case .refused: body = .refused(previous: try reader.need(), hint: try reader.position())
        case .heartbeat: body = .heartbeat(commit: try reader.need(), round: try reader.need())
        case .heartbeatAnswer: body = .heartbeatAnswer(round: try reader.need())
        case .chunk:
            let position = try reader.position()
            let members = try EntryCodec.decodeMembers(try reader.bytes())
            let offset: UInt64 = try reader.need()
            let isLast = try reader.yesOrNo()
            body = .chunk(
                SnapshotInfo(position: position, members: members), offset: offset, data: try reader.bytes(),
                isLast: isLast)
        case .chunkAnswer: body = .chunkAnswer(try reader.position(), next: try reader.need())
        case .read: body = .read(try reader.need())
        case .readAnswer:
            let number: UInt64 = try reader.need()
            let isKnown = try reader.yesOrNo()
            let index: LogIndex = try reader.need()
            body = .readAnswer(number, isKnown ? index : nil)
        case .campaign: body = .campaign
        }
        guard reader.isAtEnd else { throw .malformed("message: bytes behind its end") }
        return Message(from: from, to: to, term: term, body: body)
    }

    /// Terms and places past this are nobody's: counting on from them would end the numbers.
    fileprivate static let largest: UInt64 = 1 << 62

    private static func append(_ reader: inout ByteReader) throws(StoreError) -> Message.Body {
        let previous = try reader.position()
        let commit: LogIndex = try reader.need()
        let count: UInt32 = try reader.need()
        // Places follow from the first: a message can't have holes, nor wrap around.
        guard Int(count) <= reader.left / 13 else {
            throw .malformed("message: more entries than bytes")
        }
        var entries: [Entry] = []
        for offset in 0..<UInt64(count) {
            let term: Term = try reader.need()
            guard term <= largest else { throw .malformed("message: term \(term)") }
            let code: UInt8 = try reader.need()
            entries.append(
                Entry(
                    term: term, index: previous.index + 1 + offset,
                    content: try EntryCodec.decode(kind: code, try reader.bytes())))
        }
        return .append(previous: previous, entries: entries, commit: commit)
    }
}

extension [UInt8] {
    fileprivate mutating func append(_ position: LogPosition) {
        append(position.term)
        append(position.index)
    }
}

extension ByteReader {
    fileprivate mutating func need<Number: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>() throws(StoreError)
        -> Number
    {
        do throws(MalformedBytes) { return try number() } catch { throw .malformed("message: \(error)") }
    }

    fileprivate mutating func position() throws(StoreError) -> LogPosition {
        let position = LogPosition(term: try need(), index: try need())
        guard position.term <= MessageCodec.largest, position.index <= MessageCodec.largest else {
            throw .malformed("message: place \(position)")
        }
        return position
    }

    fileprivate mutating func yesOrNo() throws(StoreError) -> Bool {
        do throws(MalformedBytes) { return try flag() } catch { throw .malformed("message: \(error)") }
    }

    /// Bytes behind their count.
    fileprivate mutating func bytes() throws(StoreError) -> [UInt8] {
        let count: UInt32 = try need()
        do throws(MalformedBytes) { return try raw(Int(count)) } catch { throw .malformed("message: \(error)") }
    }
}
