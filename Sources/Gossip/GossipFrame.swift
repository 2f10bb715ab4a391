// SPDX-License-Identifier: Apache-2.0
import Wire

/// What one datagram between nodes holds, one frame behind the other.
public enum GossipFrame: Sendable, Equatable {
    /// Rows under the next number of the sender's channel to this receiver. What rows say is not this room's matter.
    case rows(number: UInt64, bytes: [UInt8])
    /// The highest number that the sender has used, and the number before which it has everything that the receiver sent;
    /// whether it wants to be told the same.
    case heads(sent: UInt64, received: UInt64, asks: Bool)
    /// Numbers that did not come.
    case missing([Range<UInt64>])
    /// Numbers before this one will not come any more: the sender has forgotten what they were.
    case forgotten(before: UInt64)
    /// Keys of rows that the sender needs now, as rows name them.
    case wanted([UInt8])
    /// What was wanted and is not known here, by its tag.
    case unknown([UInt64])
    /// Rows that were wanted, under no number.
    case found([UInt8])
    /// Who is there.
    case membership(MembershipMessage)
    /// The clock of the sender's stamps, in milliseconds since 1970.
    case clock(UInt64)

    /// Whether it says how far both are.
    public var isHeads: Bool { if case .heads = self { true } else { false } }

    /// Ranges that one frame names at most.
    public static let rangesAtMost = 64

    private enum Kind: UInt8 {
        case rows = 1
        case heads = 2
        case missing = 3
        case forgotten = 4
        case wanted = 5
        case found = 6
        case membership = 7
        case clock = 8
        case unknown = 9
    }

    /// Appends the frame to a datagram.
    public func encode(into out: inout ByteWriter) {
        switch self {
        case .rows(let number, let rows):
            out.number(Kind.rows.rawValue)
            out.count(number)
            out.data(rows)
        case .heads(let sent, let received, let asks):
            out.number(Kind.heads.rawValue)
            out.count(sent)
            out.count(received)
            out.flag(asks)
        case .missing(let ranges):
            out.number(Kind.missing.rawValue)
            out.list(Array(ranges.prefix(GossipFrame.rangesAtMost))) { out, range in
                out.count(range.lowerBound)
                out.count(range.upperBound - range.lowerBound)
            }
        case .forgotten(let end):
            out.number(Kind.forgotten.rawValue)
            out.count(end)
        case .wanted(let keys):
            out.number(Kind.wanted.rawValue)
            out.data(keys)
        case .found(let rows):
            out.number(Kind.found.rawValue)
            out.data(rows)
        case .unknown(let tags):
            out.number(Kind.unknown.rawValue)
            out.list(tags) { $0.number($1) }
        case .membership(let message):
            out.number(Kind.membership.rawValue)
            message.encode(into: &out)
        case .clock(let milliseconds):
            out.number(Kind.clock.rawValue)
            out.count(milliseconds)
        }
    }

    /// Reads all frames of a datagram. One that is wrong spoils all: nothing of it is used.
    public static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> [GossipFrame] {
        var reader = ByteReader(bytes)
        var frames: [GossipFrame] = []
        while !reader.isAtEnd {
            guard let kind = Kind(rawValue: try reader.number()) else {
                throw MalformedBytes("a frame of no known kind")
            }
            switch kind {
            case .rows: frames.append(.rows(number: try reader.longCount(), bytes: try reader.data()))
            case .heads:
                frames.append(
                    .heads(sent: try reader.longCount(), received: try reader.longCount(), asks: try reader.flag()))
            case .missing:
                let ranges = try reader.list { reader throws(MalformedBytes) in
                    let first = try reader.longCount()
                    let (end, overflows) = first.addingReportingOverflow(try reader.longCount())
                    guard !overflows, end > first else { throw MalformedBytes("a range without numbers") }
                    return first..<end
                }
                guard ranges.count <= rangesAtMost else { throw MalformedBytes("too many ranges") }
                frames.append(.missing(ranges))
            case .forgotten: frames.append(.forgotten(before: try reader.longCount()))
            case .wanted: frames.append(.wanted(try reader.data()))
            case .found: frames.append(.found(try reader.data()))
            case .unknown:
                frames.append(
                    .unknown(try reader.list { reader throws(MalformedBytes) in try reader.number(UInt64.self) }))
            case .membership: frames.append(.membership(try MembershipMessage(reading: &reader)))
            case .clock: frames.append(.clock(try reader.longCount()))
            }
        }
        return frames
    }
}
