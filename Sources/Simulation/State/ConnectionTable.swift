// SPDX-License-Identifier: Apache-2.0
import Wire

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
        /// What became of it.
        public var life: ConnectionLife
        /// Who it is counted to.
        var owner: UInt32
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
    /// How long those of some zones are known.
    public var lifetimesByZone: [Tag: ConnectionLifetimes] = [:]
    private var quota = ConnectionQuota(ConnectionBounds(perPort: .max, perTenant: .max))
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
            !records[slot].life.isOver(for: UInt8(truncatingIfNeeded: flags))
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
        _ tuple: ConnectionTuple, zone: Tag, flags: UInt16 = 0, mayBegin: Bool = true, owner: ConnectionOwner? = nil,
        now: UInt64
    ) -> Bool {
        let flags = UInt8(truncatingIfNeeded: flags)
        if let slot = slot(tuple, zone) {
            if now >= expiry(records[slot]) || records[slot].life.isOver(for: flags) {
                guard mayBegin else { return false }
                records[slot] = fresh(tuple, zone, flags, records[slot].owner, now)
                return true
            }
            records[slot].life.note(flags, isReturn: records[slot].tuple != tuple, now: now)
            return false
        }
        guard mayBegin else { return false }
        guard index[hash(tuple, zone)] == nil, let place = quota.take(owner, total: index.count, limit: limit) else {
            refused &+= 1
            return false
        }
        let record = fresh(tuple, zone, flags, place, now)
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

    private func fresh(
        _ tuple: ConnectionTuple, _ zone: Tag, _ flags: UInt8, _ owner: UInt32, _ now: UInt64
    ) -> Record {
        Record(
            zone: zone, tuple: tuple, life: ConnectionLife(tuple.ipProtocol, flags, now), owner: owner, isTaken: true)
    }

    /// Notes that other hosts have heard of a connection.
    public mutating func markTold(_ tuple: ConnectionTuple, zone: Tag, _ now: UInt64) {
        if let slot = slot(tuple, zone) { records[slot].life.told = now }
    }

    /// When a connection's time is over.
    public func expiry(_ record: Record) -> UInt64 {
        let lifetimes = lifetimesByZone.isEmpty ? lifetimes : lifetimesByZone[record.zone] ?? lifetimes
        return lifetimes.expiry(of: record.life)
    }

    /// Sets how many connections ports and tenants may have. Those that are there stay.
    public mutating func setBounds(_ standard: ConnectionBounds, byTenant: [Tag: ConnectionBounds]) {
        quota.standard = standard
        quota.bounds = byTenant
    }

    /// Connections by tenant, and how many were too many.
    public var countsByTenant: (counts: [Tag: Int], refused: [Tag: UInt64]) { (quota.counts, quota.refused) }

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
                quota.give(back: record.owner)
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
