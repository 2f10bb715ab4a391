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
        /// When and where it began.
        public var stamp: RowStamp
        /// Where this host last told of it; 0: it did not.
        var entry: UInt64 = 0
        /// Who it is counted to.
        var owner: UInt32
        /// Whether the slot is taken.
        var isTaken: Bool
    }

    private var records = Slab<Record>()
    /// Connections by the hash of their tuple.
    private var index: HashIndex
    /// How many connections two addresses have, by the hash of their tuple without ports.
    private var pairs: HashIndex
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
    private var cursor: Int32 = 0
    /// Makes stamps of what begins here.
    public var stamps = RowStamps()
    /// Sums of what everybody knows.
    public private(set) var digest = TableDigest()
    /// Where the connection is that was noted or merged last.
    public private(set) var last: Int32 = -1

    /// An empty table.
    ///
    /// - Parameter seed: a secret of this process.
    public init(seed: UInt64, limit: Int) {
        self.seed = seed
        self.limit = limit
        index = HashIndex()
        pairs = HashIndex()
    }

    /// How many connections there are.
    public var count: Int { index.count }

    @inline(__always)
    private func hash(_ tuple: ConnectionTuple, _ zone: Tag) -> UInt64 {
        // Where it lies in the index its tuple says, which zone it is the rest: one packet asks several zones, and finds them
        // side by side.
        let tuple = tuple.hash(seed)
        return tuple & 0xff_ffff | mix(tuple, zone.bits ^ seed) & ~0xff_ffff
    }

    /// The connection at a hash, if it is the one that is meant.
    @inline(__always)
    private func slot(_ hash: UInt64, _ tuple: ConnectionTuple, _ zone: Tag) -> UnsafeMutablePointer<Record>? {
        guard let found = index[hash] else { return nil }
        let record = records[Int32(truncatingIfNeeded: found)]
        guard record.pointee.zone == zone,
            record.pointee.tuple == tuple || record.pointee.tuple == tuple.reversed
        else { return nil }
        return record
    }

    /// The connection that a packet belongs to, unless its time is over or the packet begins another one.
    ///
    /// It changes nothing, and is `mutating` so that it gets the table's address and not a copy.
    ///
    /// - Parameter flags: TCP flags of the packet.
    public mutating func find(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16 = 0, now: UInt64) -> ConnectionMatch? {
        guard let slot = slot(hash(tuple, zone), tuple, zone), now < expiry(zone, slot.pointee.life),
            !slot.pointee.life.isOver(for: UInt8(truncatingIfNeeded: flags))
        else { return nil }
        return ConnectionMatch(isReturn: slot.pointee.tuple != tuple)
    }

    /// Whether two addresses have a connection of a protocol, either way.
    ///
    /// - Parameter pair: without ports.
    public mutating func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool { pairs[hash(pair, zone)] != nil }

    /// The record of a connection.
    public func record(_ tuple: ConnectionTuple, zone: Tag) -> Record? { slot(hash(tuple, zone), tuple, zone)?.pointee }

    /// What noting a packet came to.
    public enum Outcome: Sendable, Equatable {
        /// The connection begins.
        case new
        /// It goes on; whether others are to hear of that.
        case known(isDue: Bool)
        /// There is no room for it, or it may not begin.
        case refused
    }

    /// Takes note of a packet: begins the connection, or keeps it alive.
    ///
    /// - Parameters:
    ///   - flags: TCP flags of the packet, or of all since it was asked last.
    ///   - owner: who it is counted to if it begins.
    @discardableResult
    public mutating func note(
        _ tuple: ConnectionTuple, zone: Tag, flags: UInt16 = 0, mayBegin: Bool = true, owner: ConnectionOwner? = nil,
        now: UInt64
    ) -> Outcome {
        let flags = UInt8(truncatingIfNeeded: flags)
        let hash = hash(tuple, zone)
        // What has no SYN alone may be older than what this host knows.
        let isBeginning = tuple.ipProtocol != IPProtocol.tcp || flags & 0x12 == 0x02
        if let slot = slot(hash, tuple, zone) {
            last = Int32(truncatingIfNeeded: index[hash] ?? 0)
            if now >= expiry(zone, slot.pointee.life) || slot.pointee.life.isOver(for: flags) {
                guard mayBegin else { return .refused }
                digest.remove(slot.pointee, now)
                slot.pointee.tuple = tuple
                slot.pointee.life = ConnectionLife(tuple.ipProtocol, flags, now)
                slot.pointee.stamp = stamps.next(after: slot.pointee.stamp, isBeginning: isBeginning, now: now)
                digest.add(slot.pointee, now)
                return .new
            }
            let before = slot.pointee.life.milestones
            let isReturn = slot.pointee.tuple != tuple
            var life = slot.pointee.life
            life.note(flags, isReturn: isReturn, now: now)
            let isTurn = life.milestones != before
            if isTurn { digest.remove(slot.pointee, now) }
            let isDue = isTurn || now >= life.told &+ tellInterval(zone, life)
            if isDue { life.told = now }
            slot.pointee.life = life
            if isTurn { digest.add(slot.pointee, now) }
            return .known(isDue: isDue)
        }
        guard mayBegin else { return .refused }
        guard index[hash] == nil, let place = quota.take(owner, total: index.count, limit: limit) else {
            refused &+= 1
            return .refused
        }
        insert(
            Record(
                zone: zone, tuple: tuple, life: ConnectionLife(tuple.ipProtocol, flags, now),
                stamp: stamps.next(isBeginning: isBeginning, now: now), owner: place, isTaken: true), hash, now)
        return .new
    }

    private mutating func insert(_ record: Record, _ hash: UInt64, _ now: UInt64) {
        last = records.take()
        records[last].initialize(to: record)
        index[hash] = UInt64(last)
        pairs.add(1, to: self.hash(record.tuple.pair, record.zone))
        if record.life.isShared { digest.add(record, now) }
    }

    /// What taking in a row of another host came to.
    public enum Merged: Sendable, Equatable {
        /// What was decided without it has to be decided again.
        case news
        /// It was known, or is less than what is known.
        case known
        /// There is no room for it.
        case refused
    }

    /// Takes in what another host knows of a connection. In whichever order rows come, and however often, what stands is the
    /// same everywhere.
    ///
    /// - Parameter age: how long ago the connection was used, nanoseconds.
    public mutating func merge(
        _ tuple: ConnectionTuple, zone: Tag, stamp: RowStamp, milestones: UInt8, age: UInt64, now: UInt64
    ) -> Merged {
        let hash = hash(tuple, zone)
        let used = now > age ? now - age : 0
        let life = ConnectionLife(tuple.ipProtocol, milestones: milestones, used: used)
        stamps.follow(stamp.milliseconds, now: now)
        if let slot = slot(hash, tuple, zone) {
            last = Int32(truncatingIfNeeded: index[hash] ?? 0)
            let isOver = now >= expiry(zone, slot.pointee.life)
            // What has ended does not come back by somebody else's memory of it.
            guard isKnown(zone, life, age) else { return .known }
            if stamp == slot.pointee.stamp, slot.pointee.tuple == tuple {
                digest.remove(slot.pointee, now)
                slot.pointee.life.merge(milestones, used: used)
                digest.add(slot.pointee, now)
                return isOver ? .news : .known
            }
            // Two hosts of one number may begin at once: either way, all choose the same.
            guard
                slot.pointee.life.givesWay(to: life, stamp, from: slot.pointee.stamp)
                    ?? (tuple.directedHash(1) >= slot.pointee.tuple.directedHash(1))
            else { return .known }
            digest.remove(slot.pointee, now)
            let isNews = isOver || slot.pointee.tuple != tuple
            slot.pointee.tuple = tuple
            slot.pointee.life = life
            slot.pointee.stamp = stamp
            slot.pointee.entry = 0
            digest.add(slot.pointee, now)
            return isNews ? .news : .known
        }
        guard isKnown(zone, life, age) else { return .known }
        guard index[hash] == nil, let place = quota.take(nil, total: index.count, limit: limit) else {
            refused &+= 1
            return .refused
        }
        insert(Record(zone: zone, tuple: tuple, life: life, stamp: stamp, owner: place, isTaken: true), hash, now)
        return .news
    }

    /// Whether everybody is to know the connection that was noted last. It changes nothing, and is `mutating` so that it gets
    /// the table's address and not a copy.
    public mutating func isLastShared() -> Bool { records[last].pointee.life.isShared }

    /// Looks at so many places from one on; where to go on, `nil` at the end.
    public func records(from place: Int32, looking count: Int32, _ body: (Record) -> Void) -> Int32? {
        var place = max(0, min(place, records.end))
        let end = records.end - place > count ? place + count : records.end
        while place < end {
            if records[place].pointee.isTaken { body(records[place].pointee) }
            place += 1
        }
        return end < records.end ? end : nil
    }

    /// Takes note of where this host tells of a connection.
    public mutating func setEntry(_ entry: UInt64, of place: Int32) { records[place].pointee.entry = entry }

    /// The connection at a place, if this host told of it last there.
    public func record(at place: Int32, entry: UInt64) -> Record? {
        guard place >= 0, place < records.end, records[place].pointee.isTaken, records[place].pointee.entry == entry
        else { return nil }
        return records[place].pointee
    }

    @inline(__always)
    private func tellInterval(_ zone: Tag, _ life: ConnectionLife) -> UInt64 {
        (lifetimesByZone.isEmpty ? lifetimes : lifetimesByZone[zone] ?? lifetimes).tellInterval(of: life)
    }

    @inline(__always)
    private func expiry(_ zone: Tag, _ life: ConnectionLife) -> UInt64 {
        lifetimesByZone.isEmpty
            ? lifetimes.expiry(of: life) : (lifetimesByZone[zone] ?? lifetimes).expiry(of: life)
    }

    private func isKnown(_ zone: Tag, _ life: ConnectionLife, _ age: UInt64) -> Bool {
        (lifetimesByZone[zone] ?? lifetimes).isKnown(life, age: age)
    }

    /// When a connection's time is over for the host that keeps it alive; others hold it a little longer.
    public func end(_ record: Record) -> UInt64 { (lifetimesByZone[record.zone] ?? lifetimes).end(of: record.life) }

    /// When a connection's time is over.
    public func expiry(_ record: Record) -> UInt64 { expiry(record.zone, record.life) }

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
        for _ in 0..<min(count, Int(records.end)) {
            if cursor >= records.end { cursor = 0 }
            let record = records[cursor]
            if record.pointee.isTaken, now >= expiry(record.pointee.zone, record.pointee.life) {
                let (tuple, zone) = (record.pointee.tuple, record.pointee.zone)
                gone.append(.connection(tuple, zone: zone))
                index[hash(tuple, zone)] = nil
                if pairs.add(-1, to: hash(tuple.pair, zone)) == 0 { gone.append(.connection(tuple.pair, zone: zone)) }
                digest.remove(record.pointee, now)
                record.pointee.isTaken = false
                quota.give(back: record.pointee.owner)
                records.give(back: cursor)
            }
            cursor += 1
        }
        return gone
    }

    /// Everything that is known, in no order.
    public func forEach(_ body: (Record) -> Void) {
        for place in 0..<records.end where records[place].pointee.isTaken { body(records[place].pointee) }
    }
}
