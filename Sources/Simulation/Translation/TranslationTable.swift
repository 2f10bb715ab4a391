// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A translated connection as a packet finds it.
public struct TranslationMatch: Sendable, Hashable {
    /// Which way a packet goes.
    public enum Side: UInt8, Sendable {
        /// As the first packet came to the router.
        case original
        /// As answers come to the router.
        case reply
    }
    /// As its first packet came to the router.
    public var original: ConnectionTuple
    /// As answers come to the router.
    public var reply: ConnectionTuple
    /// What the packet says.
    public var side: Side

    /// A match.
    public init(original: ConnectionTuple, reply: ConnectionTuple, side: Side) {
        self.original = original
        self.reply = reply
        self.side = side
    }
}

/// Translated connections by what packets say on either side of the router. A value that one owner steps, as
/// ``ConnectionTable`` is.
///
/// What packets say as they come to the router says no other connection of the zone: so the ports that sources become are
/// free for one remote end when nobody else has them there, and may serve many remote ends.
public struct TranslationTable: ~Copyable {
    /// One connection.
    public struct Record: Sendable {
        /// The router.
        public var zone: Tag
        /// As its first packet came to the router.
        public var original: ConnectionTuple
        /// As answers come to the router.
        public var reply: ConnectionTuple
        /// What became of it.
        public var life: ConnectionLife
        /// Whether it began on this host.
        public var isOwn: Bool
        /// Who it is counted to.
        var owner: UInt32
        /// Whether the slot is taken.
        var isTaken = true
    }

    /// What noting a connection came to.
    public enum Outcome: Sendable, Equatable {
        /// It was not known.
        case new
        /// It goes on.
        case known
        /// Somebody else has what it says on one side.
        case conflict
        /// There is no room.
        case full
    }

    private var records: [Record] = []
    private var free: [UInt32] = []
    private var index = HashIndex()
    private let seed: UInt64
    /// Ports that this host may translate sources to.
    public var ports = TranslationPorts()
    /// How long connections are known.
    public var lifetimes = ConnectionLifetimes()
    /// How long those of some zones are known.
    public var lifetimesByZone: [Tag: ConnectionLifetimes] = [:]
    private var quota = ConnectionQuota(ConnectionBounds(perPort: .max, perTenant: .max))
    /// How many there are at most.
    public let limit: Int
    /// How many could not be taken because there were too many.
    public private(set) var refused: UInt64 = 0
    private var cursor = 0

    /// An empty table.
    ///
    /// - Parameter seed: a secret of this process.
    public init(seed: UInt64, limit: Int) {
        self.seed = seed
        self.limit = limit
    }

    /// How many connections there are.
    public var count: Int { records.count - free.count }

    private func hash(_ tuple: ConnectionTuple, _ zone: Tag) -> UInt64 { mix(tuple.directedHash(seed), zone.bits ^ seed) }

    private func slot(_ tuple: ConnectionTuple, _ zone: Tag) -> Int? {
        index[hash(tuple, zone)].map { Int($0) }
    }

    private func side(_ tuple: ConnectionTuple, _ record: Record) -> TranslationMatch.Side? {
        if tuple == record.original { return .original }
        if tuple == record.reply { return .reply }
        return nil
    }

    /// The connection that a packet belongs to, unless its time is over.
    public func find(_ tuple: ConnectionTuple, zone: Tag, now: UInt64) -> TranslationMatch? {
        guard let slot = slot(tuple, zone), records[slot].zone == zone, now < expiry(records[slot]),
            let side = side(tuple, records[slot])
        else { return nil }
        return TranslationMatch(original: records[slot].original, reply: records[slot].reply, side: side)
    }

    /// Whether nobody has what answers would say.
    public func isFree(_ reply: ConnectionTuple, zone: Tag) -> Bool { index[hash(reply, zone)] == nil }

    /// The record of a connection.
    public func record(_ tuple: ConnectionTuple, zone: Tag) -> Record? {
        guard let slot = slot(tuple, zone), records[slot].zone == zone, side(tuple, records[slot]) != nil else {
            return nil
        }
        return records[slot]
    }

    /// Takes note of a packet: begins the connection, or keeps it alive.
    ///
    /// - Parameters:
    ///   - isReturn: whether the packet goes back to who began it.
    ///   - flags: TCP flags of the packet, or of all since it was asked last.
    ///   - isOwn: whether packets told it here; otherwise another host told it.
    public mutating func note(
        _ original: ConnectionTuple, _ reply: ConnectionTuple, zone: Tag, isReturn: Bool, flags: UInt16 = 0,
        isOwn: Bool = true, owner: ConnectionOwner? = nil, now: UInt64
    ) -> Outcome {
        let flags = UInt8(truncatingIfNeeded: flags)
        if let slot = slot(original, zone) {
            let record = records[slot]
            guard record.zone == zone else { return .conflict }
            if record.original == original, record.reply == reply {
                if now >= expiry(record) || record.life.isOver(for: flags) {
                    records[slot].life = ConnectionLife(original.ipProtocol, flags, now)
                    return .new
                }
                records[slot].life.note(flags, isReturn: isReturn, now: now)
                return .known
            }
            // One whose rule is another now begins again; what somebody else says stays.
            guard record.original == original || now >= expiry(record) else { return .conflict }
            remove(slot)
        }
        if let slot = slot(reply, zone) {
            guard now >= expiry(records[slot]) else { return .conflict }
            remove(slot)
        }
        guard let place = quota.take(owner, total: count, limit: limit) else {
            refused &+= 1
            return .full
        }
        let record = Record(
            zone: zone, original: original, reply: reply, life: ConnectionLife(original.ipProtocol, flags, now),
            isOwn: isOwn, owner: place)
        let slot: UInt64
        if let empty = free.popLast() {
            records[Int(empty)] = record
            slot = UInt64(empty)
        } else {
            slot = UInt64(records.count)
            records.append(record)
        }
        index[hash(original, zone)] = slot
        index[hash(reply, zone)] = slot
        ports.use(record, by: 1, now: now)
        return .new
    }

    private mutating func remove(_ slot: Int) {
        let record = records[slot]
        index[hash(record.original, record.zone)] = nil
        index[hash(record.reply, record.zone)] = nil
        records[slot].isTaken = false
        quota.give(back: record.owner)
        free.append(UInt32(slot))
        ports.use(record, by: -1, now: record.life.used)
    }

    /// Notes that other hosts have heard of a connection.
    public mutating func markTold(_ original: ConnectionTuple, zone: Tag, _ now: UInt64) {
        if let slot = slot(original, zone) { records[slot].life.told = now }
    }

    /// Forgets connections whose time is over, looking at so many; what was forgotten, by tag.
    public mutating func expire(now: UInt64, looking count: Int) -> [Tag] {
        var gone: [Tag] = []
        for _ in 0..<min(count, records.count) {
            if cursor >= records.count { cursor = 0 }
            let record = records[cursor]
            if record.isTaken, now >= expiry(record) {
                remove(cursor)
                gone.append(.translation(record.original, zone: record.zone))
                gone.append(.translation(record.reply, zone: record.zone))
            }
            cursor += 1
        }
        return gone
    }

    /// Everything that is known, in no order.
    public func forEach(_ body: (Record) -> Void) {
        for record in records where record.isTaken { body(record) }
    }

    /// Sets how many connections ports and tenants may have. Those that are there stay.
    public mutating func setBounds(_ standard: ConnectionBounds, byTenant: [Tag: ConnectionBounds]) {
        quota.standard = standard
        quota.bounds = byTenant
    }

    /// Connections by tenant, and how many were too many.
    public var countsByTenant: (counts: [Tag: Int], refused: [Tag: UInt64]) { (quota.counts, quota.refused) }

    /// When a connection's time is over.
    public func expiry(_ record: Record) -> UInt64 {
        let lifetimes = lifetimesByZone.isEmpty ? lifetimes : lifetimesByZone[record.zone] ?? lifetimes
        return lifetimes.expiry(of: record.life)
    }

    /// Finds an address and a port that a connection's source may become: nobody else has them towards its remote end.
    /// The port stays as it is where that can be, and one machine keeps to one address.
    public mutating func choose(_ wish: SourceWish) -> SourceChoice {
        var isPending = false
        let first = Int(truncatingIfNeeded: mix(wish.tuple.source.high ^ seed, wish.tuple.source.low) >> 33)
        for offset in 0..<min(wish.count, 8) {
            let address = wish.address((first + offset) % wish.count)
            switch choose(address, wish) {
            case .found(let port): return .found(address, port)
            case .pending: isPending = true
            case .exhausted: break
            }
        }
        return isPending ? .pending : .exhausted
    }

    /// A port of its own machine that a connection's source may keep, or become: towards its remote end it is no other's.
    public func port(keeping tuple: ConnectionTuple, zone: Tag) -> UInt16? {
        var reply = tuple.reversed
        if isFree(reply, zone: zone) { return tuple.sourcePort }
        if tuple.sourcePort == 0 { return nil }
        let start = Int(truncatingIfNeeded: mix(tuple.hash(seed), 0x51ed_270b_35ad_55f1) >> 33)
        for step in 0..<16 {
            reply.destinationPort = UInt16(32_768 + (start + step * 1_811) % 28_232)
            if isFree(reply, zone: zone) { return reply.destinationPort }
        }
        return nil
    }

    private enum PortChoice { case found(UInt16), pending, exhausted }

    private mutating func choose(_ address: IPAddress, _ wish: SourceWish) -> PortChoice {
        let key = TranslationPorts.Key(zone: wish.zone, address: address)
        var reply = wish.tuple.reversed
        reply.destination = address
        guard let blocks = ports.blocks(of: key, in: wish.ports) else {
            return ports.want(key, 1) ? .pending : .exhausted
        }
        let own = wish.tuple.sourcePort
        if wish.ports.contains(own), blocks.contains(UInt32(own) / UInt32(PortBlock.size)),
            isFree(reply, zone: wish.zone)
        {
            return .found(own)
        }
        let total = blocks.count * PortBlock.size
        let start = Int(truncatingIfNeeded: mix(wish.tuple.hash(seed), 0x9e37_79b9_7f4a_7c15) >> 33) % total
        for step in 0..<min(total, SourceWish.probes) {
            let place = (start + step) % total
            let port = Int(blocks[place / PortBlock.size]) * PortBlock.size + place % PortBlock.size
            guard let port = UInt16(exactly: port), wish.ports.contains(port) else { continue }
            reply.destinationPort = port
            guard isFree(reply, zone: wish.zone) else { continue }
            // Long searches tell that ports run short towards this remote end.
            if step >= SourceWish.probes / 4 { _ = ports.want(key, blocks.count) }
            return .found(port)
        }
        return ports.want(key, blocks.count) ? .pending : .exhausted
    }
}

/// A source that is to be translated.
public struct SourceWish: Sendable {
    /// The router.
    public var zone: Tag
    /// What the packet says, its destination translated already.
    public var tuple: ConnectionTuple
    /// The first address that the source may become.
    public var first: IPAddress
    /// How many addresses there are from there on.
    public var count: Int
    /// Ports that it may become.
    public var ports: PortRange

    /// Ports that are looked at before it is said that there is none.
    static let probes = 128

    /// A wish.
    public init(zone: Tag, tuple: ConnectionTuple, first: IPAddress, count: Int, ports: PortRange) {
        self.zone = zone
        self.tuple = tuple
        self.first = first
        self.count = count
        self.ports = ports
    }

    func address(_ index: Int) -> IPAddress {
        first.family == .ipv4
            ? IPAddress(high: first.high &+ UInt64(index) << 32, low: 0, family: .ipv4)
            : IPAddress(high: first.high, low: first.low &+ UInt64(index), family: .ipv6)
    }
}

/// What a source may become.
public enum SourceChoice: Sendable, Equatable {
    /// This address and port.
    case found(IPAddress, UInt16)
    /// This host has no free port now, and asks for more.
    case pending
    /// There is none.
    case exhausted
}

extension Tag {
    /// A translated connection, as packets say it on one side of the router.
    @inlinable
    public static func translation(_ tuple: ConnectionTuple, zone: Tag) -> Tag {
        Tag(bits: mix(tuple.directedHash(0x4a70_0000_0000_0013), zone.bits))
    }
}
