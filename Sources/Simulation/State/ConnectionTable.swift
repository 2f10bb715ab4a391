// SPDX-License-Identifier: Apache-2.0
import Wire

/// How long connections are known after their last packet, in nanoseconds.
public struct ConnectionLifetimes: Sendable, Equatable {
    private static let second: UInt64 = 1_000_000_000

    /// TCP that nobody answered yet.
    public var tcpOpening = 60 * second
    /// TCP that is open. Longer than the two hours after which hosts ask whether the other is there (RFC 9293 section 3.8.4).
    public var tcpEstablished = 8000 * second
    /// TCP of which one side or both have said FIN.
    public var tcpClosing = 60 * second
    /// TCP that was reset.
    public var tcpClosed = 10 * second
    /// UDP and others without an answer.
    public var unanswered = 30 * second
    /// UDP with an answer (RFC 4787 section 4.3 asks for two minutes at least).
    public var udp = 180 * second
    /// ICMP queries with an answer.
    public var icmp = 30 * second
    /// Other protocols with an answer.
    public var other = 600 * second

    /// As above.
    public init() {}
}

/// How far a connection has come.
public enum ConnectionPhase: String, Sendable, CaseIterable {
    /// TCP: nobody answered yet.
    case opening
    /// TCP: answered, and not ended by either side.
    case open
    /// TCP: a side has said FIN.
    case closing
    /// TCP: a side has said RST.
    case closed
    /// Nobody answered yet.
    case unanswered
    /// Packets came back.
    case answered
}

extension ConnectionTable.Record {
    /// How far it has come.
    public var phase: ConnectionPhase {
        guard tuple.ipProtocol == IPProtocol.tcp else { return isAnswered ? .answered : .unanswered }
        let both = flags.forward | flags.back
        if both & 0x04 != 0 { return .closed }
        if both & 0x01 != 0 { return .closing }
        return isAnswered ? .open : .opening
    }
}

extension ConnectionLifetimes {
    /// When a connection's time is over.
    public func expiry(of record: ConnectionTable.Record) -> UInt64 {
        let lifetime =
            switch record.phase {
            case .opening: tcpOpening
            case .open: tcpEstablished
            case .closing: tcpClosing
            case .closed: tcpClosed
            case .unanswered: unanswered
            case .answered:
                switch record.tuple.ipProtocol {
                case IPProtocol.udp: udp
                case IPProtocol.icmp, IPProtocol.icmpv6: icmp
                default: other
                }
            }
        return record.used &+ lifetime
    }
}

/// Connections by who talks to whom in which zone. A value that one owner steps: time comes in, nothing goes out by itself.
///
/// A connection takes a slot of fixed size and a place in an index of hashes that are keyed with a secret, so that nobody can
/// choose addresses which clash.
public struct ConnectionTable: ~Copyable {
    /// One connection.
    public struct Record: Sendable {
        /// The device in which it is known.
        public var zone: Tag
        /// As its first packet said it.
        public var tuple: ConnectionTuple
        /// Last packet, nanoseconds of the clock that the caller keeps.
        public var used: UInt64
        /// When it began.
        public var created: UInt64
        /// TCP flags seen from who began it, and back.
        public var flags: (forward: UInt8, back: UInt8)
        /// Whether a packet came back.
        public var isAnswered: Bool
        /// When other hosts last heard of it.
        public var told: UInt64
        /// Whether the slot is taken.
        var isTaken: Bool
    }

    private var records: [Record] = []
    private var free: [UInt32] = []
    private var index = HashIndex()
    /// How many connections two addresses have, by the hash of their tuple without ports.
    private var pairs = HashIndex()
    private let seed: UInt64
    /// How long connections are known.
    public var lifetimes = ConnectionLifetimes()
    /// How many there are at most.
    public let limit: Int
    /// How many could not be taken because there were too many.
    public private(set) var refused: UInt64 = 0
    /// Where the last round of expiry ended.
    private var cursor = 0

    /// An empty table.
    ///
    /// - Parameter seed: a secret of this process.
    public init(seed: UInt64, limit: Int) {
        self.seed = seed
        self.limit = limit
    }

    /// How many connections there are.
    public var count: Int { index.count }

    private func hash(_ tuple: ConnectionTuple, _ zone: Tag) -> UInt64 { mix(tuple.hash(seed), zone.bits ^ seed) }

    private func slot(_ tuple: ConnectionTuple, _ zone: Tag) -> Int? {
        guard let found = index[hash(tuple, zone)] else { return nil }
        let record = records[Int(found)]
        guard record.zone == zone, record.tuple == tuple || record.tuple == tuple.reversed else { return nil }
        return Int(found)
    }

    /// The connection that a packet belongs to, unless its time is over or the packet begins another one.
    ///
    /// - Parameter flags: TCP flags of the packet.
    public func find(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16 = 0, now: UInt64) -> ConnectionMatch? {
        guard let slot = slot(tuple, zone), now < expiry(records[slot]),
            !begins(anew: records[slot], tuple, UInt8(truncatingIfNeeded: flags))
        else { return nil }
        return ConnectionMatch(isReturn: records[slot].tuple != tuple)
    }

    /// Whether two addresses have a connection of a protocol, either way.
    ///
    /// - Parameter pair: without ports.
    public func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool { pairs[hash(pair, zone)] != nil }

    /// The record of a connection.
    public func record(_ tuple: ConnectionTuple, zone: Tag) -> Record? { slot(tuple, zone).map { records[$0] } }

    /// Takes note of a packet: begins the connection, or keeps it alive. Whether it is new.
    ///
    /// - Parameter flags: TCP flags of the packet, or of all since it was asked last.
    @discardableResult
    public mutating func note(
        _ tuple: ConnectionTuple, zone: Tag, flags: UInt16 = 0, mayBegin: Bool = true, now: UInt64
    ) -> Bool {
        let flags = UInt8(truncatingIfNeeded: flags)
        if let slot = slot(tuple, zone) {
            if now >= expiry(records[slot]) || begins(anew: records[slot], tuple, flags) {
                guard mayBegin else { return false }
                records[slot] = fresh(tuple, zone, flags, now)
                return true
            }
            let isReturn = records[slot].tuple != tuple
            records[slot].used = max(records[slot].used, now)
            if isReturn {
                records[slot].isAnswered = true
                records[slot].flags.back |= flags
            } else {
                records[slot].flags.forward |= flags
            }
            return false
        }
        guard mayBegin else { return false }
        guard index.count < limit, index[hash(tuple, zone)] == nil else {
            refused &+= 1
            return false
        }
        let record = fresh(tuple, zone, flags, now)
        pairs[hash(tuple.pair, zone)] = (pairs[hash(tuple.pair, zone)] ?? 0) + 1
        if let slot = free.popLast() {
            records[Int(slot)] = record
            index[hash(tuple, zone)] = UInt64(slot)
        } else {
            index[hash(tuple, zone)] = UInt64(records.count)
            records.append(record)
        }
        return true
    }

    private func fresh(_ tuple: ConnectionTuple, _ zone: Tag, _ flags: UInt8, _ now: UInt64) -> Record {
        Record(
            zone: zone, tuple: tuple, used: now, created: now, flags: (flags, 0), isAnswered: false, told: now,
            isTaken: true)
    }

    /// A SYN on ports whose last connection is over begins another one (RFC 9293 section 3.6.1), from either side.
    private func begins(anew record: Record, _ tuple: ConnectionTuple, _ flags: UInt8) -> Bool {
        tuple.ipProtocol == IPProtocol.tcp && flags & 0x16 == 0x02
            && (record.flags.forward | record.flags.back) & 0x05 != 0
    }

    /// Notes that other hosts have heard of a connection.
    public mutating func markTold(_ tuple: ConnectionTuple, zone: Tag, _ now: UInt64) {
        if let slot = slot(tuple, zone) { records[slot].told = now }
    }

    /// When a connection's time is over.
    public func expiry(_ record: Record) -> UInt64 { lifetimes.expiry(of: record) }

    /// Forgets connections whose time is over, looking at so many; what was forgotten, by tag.
    public mutating func expire(now: UInt64, looking count: Int) -> [Tag] {
        var gone: [Tag] = []
        for _ in 0..<min(count, records.count) {
            if cursor >= records.count { cursor = 0 }
            let record = records[cursor]
            if record.isTaken, now >= expiry(record) {
                gone.append(.connection(record.tuple, zone: record.zone))
                index[hash(record.tuple, record.zone)] = nil
                let pair = hash(record.tuple.pair, record.zone)
                let left = (pairs[pair] ?? 1) - 1
                pairs[pair] = left == 0 ? nil : left
                if left == 0 { gone.append(.connection(record.tuple.pair, zone: record.zone)) }
                records[cursor].isTaken = false
                free.append(UInt32(cursor))
            }
            cursor += 1
        }
        return gone
    }

    /// Everything that is known, in no order.
    public func forEach(_ body: (Record) -> Void) {
        for record in records where record.isTaken { body(record) }
    }
}
