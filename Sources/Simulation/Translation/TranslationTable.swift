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
    /// Whether a side has said that it ends: a SYN begins another one.
    public var isEnding: Bool

    /// A match.
    public init(original: ConnectionTuple, reply: ConnectionTuple, side: Side, isEnding: Bool = false) {
        self.original = original
        self.reply = reply
        self.side = side
        self.isEnding = isEnding
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
        /// When and where it began.
        public var stamp: RowStamp
        /// Where this host last told of it; 0: it did not.
        var entry: UInt64 = 0
        /// Who it is counted to.
        var owner: UInt32
        /// The pool of the port that its source became; -1: it stayed as it was.
        var pool: Int32
        /// Whether its time is over here, and its port is kept from others until it is so everywhere.
        var isReserved = false
        /// Whether the slot is taken.
        var isTaken = true
    }

    /// What noting a connection came to.
    public enum Outcome: Sendable, Equatable {
        /// It was not known.
        case new
        /// It goes on; whether others are to hear of that.
        case known(isDue: Bool)
        /// Somebody else has what it says on one side.
        case conflict
        /// There is no room.
        case full
    }

    private var records = Slab<Record>()
    private var redirected = RedirectedCounts()
    private var index: HashIndex
    let seed: UInt64
    /// Ports that this host may translate sources to.
    public var ports = TranslationPorts()
    /// How long connections are known.
    public var lifetimes = ConnectionLifetimes()
    /// How long those of some zones are known.
    public var lifetimesByZone: [Tag: ConnectionLifetimes] = [:]
    private var quota = ConnectionQuota(ConnectionBounds(perPort: .max, perTenant: .max))
    /// How many there are at most.
    public let limit: Int
    /// How many there are.
    public private(set) var count = 0
    /// How many ports are kept besides, of connections whose time is over.
    public private(set) var reserved = 0
    /// How many could not be taken because there were too many.
    public private(set) var refused: UInt64 = 0
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
    }

    @inline(__always)
    func hash(_ tuple: ConnectionTuple, _ zone: Tag) -> UInt64 {
        mix(tuple.directedHash(seed), zone.bits ^ seed)
    }

    @inline(__always)
    func slot(_ hash: UInt64) -> UnsafeMutablePointer<Record>? {
        index[hash].map { records[Int32(truncatingIfNeeded: $0)] }
    }

    /// The connection that a packet belongs to, unless its time is over. It changes nothing, and is `mutating` so that it
    /// gets the table's address and not a copy.
    public mutating func find(_ tuple: ConnectionTuple, zone: Tag, now: UInt64) -> TranslationMatch? {
        guard let slot = slot(hash(tuple, zone)), slot.pointee.zone == zone, !isOver(slot, now) else { return nil }
        let side: TranslationMatch.Side
        if tuple == slot.pointee.original {
            side = .original
        } else if tuple == slot.pointee.reply {
            side = .reply
        } else {
            return nil
        }
        return TranslationMatch(
            original: slot.pointee.original, reply: slot.pointee.reply, side: side,
            isEnding: slot.pointee.life.isOver(for: 0x02))
    }

    /// The record of a connection, by what its packets say on either side.
    public func record(_ tuple: ConnectionTuple, zone: Tag) -> Record? {
        guard let slot = slot(hash(tuple, zone)), slot.pointee.zone == zone,
            slot.pointee.original == tuple || slot.pointee.reply == tuple
        else { return nil }
        return slot.pointee
    }

    /// Whether nobody has what answers would say.
    public mutating func isFree(_ reply: ConnectionTuple, zone: Tag) -> Bool { index[hash(reply, zone)] == nil }

    /// Takes note of a packet: begins the connection, or keeps it alive.
    ///
    /// - Parameters:
    ///   - isReturn: whether the packet goes back to who began it.
    ///   - flags: TCP flags of the packet, or of all since it was asked last.
    ///   - owner: who it is counted to if it begins.
    public mutating func note(
        _ original: ConnectionTuple, _ reply: ConnectionTuple, zone: Tag, isReturn: Bool, flags: UInt16 = 0,
        owner: ConnectionOwner? = nil, now: UInt64
    ) -> Outcome {
        let flags = UInt8(truncatingIfNeeded: flags)
        let (first, second) = (hash(original, zone), hash(reply, zone))
        var before = RowStamp.none
        if let slot = slot(first) {
            guard slot.pointee.zone == zone else { return .conflict }
            let isOver = isOver(slot, now)
            if slot.pointee.original == original, slot.pointee.reply == reply {
                last = Int32(truncatingIfNeeded: index[first] ?? 0)
                if isOver || slot.pointee.life.isOver(for: flags) {
                    guard bringBack(slot, owner, now) else { return .full }
                    slot.pointee.life = ConnectionLife(original.ipProtocol, flags, now)
                    slot.pointee.stamp = stamps.next(after: slot.pointee.stamp, now: now)
                    digest.add(slot.pointee, now)
                    return .new
                }
                return .known(isDue: go(on: slot, flags, isReturn, now))
            }
            // One whose rule is another now begins again; what somebody else says stays.
            guard slot.pointee.original == original || isOver else { return .conflict }
            before = slot.pointee.stamp
            displace(Int32(truncatingIfNeeded: index[first] ?? 0), by: second, now)
        }
        if let slot = slot(second) {
            guard isOver(slot, now) else { return .conflict }
            before = max(before, slot.pointee.stamp)
            remove(Int32(truncatingIfNeeded: index[second] ?? 0), now)
        }
        guard let place = quota.take(owner, total: count + reserved, limit: limit) else {
            refused &+= 1
            return .full
        }
        insert(
            Record(
                zone: zone, original: original, reply: reply, life: ConnectionLife(original.ipProtocol, flags, now),
                stamp: stamps.next(after: before, now: now), owner: place, pool: -1), first, second, now)
        return .new
    }

    private mutating func insert(_ record: Record, _ first: UInt64, _ second: UInt64, _ now: UInt64) {
        last = records.take()
        let slot = records[last]
        slot.initialize(to: record)
        let isOther =
            record.reply.destination != record.original.source
            || record.reply.destinationPort != record.original.sourcePort
        if isOther {
            slot.pointee.pool = ports.use(
                record.zone, record.reply.destination, record.reply.destinationPort, now: now)
        }
        index[first] = UInt64(last)
        index[second] = UInt64(last)
        count += 1
        redirected.change(record, by: 1)
        if record.life.isShared { digest.add(record, now) }
    }

    /// Connections that are sent to a machine, having asked for another.
    public func connections(to address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int {
        redirected.count(of: address, port: port, ipProtocol: ipProtocol, zone: zone)
    }

    /// Takes in what another host knows of a connection, as ``ConnectionTable/merge(_:zone:stamp:milestones:age:now:)``
    /// does. Two that answers could not tell apart can't both stand: the later one does, since a host gives a port away again
    /// before its time only when it knows nothing of what was before.
    ///
    /// - Returns: what was news, by tag; `nil` when there is no room.
    public mutating func merge(
        _ original: ConnectionTuple, _ reply: ConnectionTuple, zone: Tag, stamp: RowStamp, milestones: UInt8,
        age: UInt64, now: UInt64
    ) -> [Tag]? {
        let (first, second) = (hash(original, zone), hash(reply, zone))
        let used = now > age ? now - age : 0
        let life = ConnectionLife(original.ipProtocol, milestones: milestones, used: used)
        stamps.follow(stamp.milliseconds, now: now)
        if let slot = slot(first), slot.pointee.zone == zone, slot.pointee.original == original,
            slot.pointee.reply == reply
        {
            last = Int32(truncatingIfNeeded: index[first] ?? 0)
            guard isKnown(zone, life, age),
                stamp == slot.pointee.stamp
                    || slot.pointee.life.givesWay(to: life, stamp, from: slot.pointee.stamp) == true
            else { return [] }
            let isOver = isOver(slot, now)
            guard bringBack(slot, nil, now) else { return nil }
            if stamp == slot.pointee.stamp {
                slot.pointee.life.merge(milestones, used: used)
            } else {
                slot.pointee.life = life
                slot.pointee.stamp = stamp
                slot.pointee.entry = 0
            }
            digest.add(slot.pointee, now)
            return isOver ? [.translation(original, zone: zone), .translation(reply, zone: zone)] : []
        }
        guard isKnown(zone, life, age) else { return [] }
        // Whoever is in the way must be over, or earlier.
        let inTheWay = [first, second].compactMap { slot($0) }
        let rank = mix(original.directedHash(1), reply.directedHash(2))
        guard
            inTheWay.allSatisfy({ other in
                if isOver(other, now) { return true }
                // Two hosts of one number may begin at once: either way, all choose the same.
                return other.pointee.life.givesWay(to: life, stamp, from: other.pointee.stamp)
                    ?? (mix(other.pointee.original.directedHash(1), other.pointee.reply.directedHash(2)) < rank)
            })
        else { return [] }
        var news: [Tag] = [.translation(original, zone: zone), .translation(reply, zone: zone)]
        for hash in [first, second] {
            guard let place = index[hash] else { continue }
            let record = records[Int32(truncatingIfNeeded: place)].pointee
            news += [.translation(record.original, zone: record.zone), .translation(record.reply, zone: record.zone)]
            displace(Int32(truncatingIfNeeded: place), by: second, now)
        }
        guard let place = quota.take(nil, total: count + reserved, limit: limit) else {
            refused &+= 1
            return nil
        }
        insert(
            Record(
                zone: zone, original: original, reply: reply, life: life, stamp: stamp, owner: place, pool: -1), first,
            second, now)
        return news
    }

    /// Whether a connection's time is over.
    @inline(__always)
    private func isOver(_ slot: UnsafeMutablePointer<Record>, _ now: UInt64) -> Bool {
        slot.pointee.isReserved || now >= expiry(slot.pointee.zone, slot.pointee.life)
    }

    /// Whether everybody is to know the connection that was noted last. It changes nothing, and is `mutating` so that it gets
    /// the table's address and not a copy.
    public mutating func isLastShared() -> Bool { records[last].pointee.life.isShared }

    /// Looks at so many places from one on; where to go on, `nil` at the end.
    public func records(from place: Int32, looking count: Int32, _ body: (Record) -> Void) -> Int32? {
        var place = max(0, min(place, records.end))
        let end = records.end - place > count ? place + count : records.end
        while place < end {
            let record = records[place]
            if record.pointee.isTaken, !record.pointee.isReserved { body(record.pointee) }
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

    /// Keeps a connection alive; whether others are to hear of it.
    private mutating func go(
        on slot: UnsafeMutablePointer<Record>, _ flags: UInt8, _ isReturn: Bool, _ now: UInt64
    ) -> Bool {
        var life = slot.pointee.life
        let before = life.milestones
        life.note(flags, isReturn: isReturn, now: now)
        let isTurn = life.milestones != before
        let lifetimes = lifetimesByZone.isEmpty ? lifetimes : lifetimesByZone[slot.pointee.zone] ?? lifetimes
        let isDue = isTurn || now >= life.told &+ lifetimes.tellInterval(of: life)
        if isDue { life.told = now }
        if isTurn { digest.remove(slot.pointee, now) }
        slot.pointee.life = life
        if isTurn { digest.add(slot.pointee, now) }
        return isDue
    }

    private mutating func remove(_ place: Int32, _ now: UInt64) {
        retire(records[place], now)
        let record = records[place].pointee
        for hash in [hash(record.original, record.zone), hash(record.reply, record.zone)]
        where index[hash] == UInt64(place) { index[hash] = nil }
        records[place].pointee.isTaken = false
        if record.pool >= 0 { ports.leave(record.pool, record.reply.destinationPort, now: record.life.used) }
        records.give(back: place)
        reserved -= 1
    }

    /// A connection gives way to another one, whose answers are at a hash. Other hosts that do not know of that yet send answers
    /// to its port to its machine: a port that this host gives away is kept from others as when its time is over.
    private mutating func displace(_ place: Int32, by reply: UInt64, _ now: UInt64) {
        let slot = records[place]
        let (pool, port) = (slot.pointee.pool, slot.pointee.reply.destinationPort)
        guard pool >= 0, ports.holds(pool, port), hash(slot.pointee.reply, slot.pointee.zone) != reply else {
            return remove(place, now)
        }
        retire(slot, now)
        let first = hash(slot.pointee.original, slot.pointee.zone)
        if index[first] == UInt64(place) { index[first] = nil }
    }

    /// A connection's time is over: it counts no more, and is in nobody's way but for its port.
    private mutating func retire(_ slot: UnsafeMutablePointer<Record>, _ now: UInt64) {
        if slot.pointee.isReserved { return }
        digest.remove(slot.pointee, now)
        quota.give(back: slot.pointee.owner)
        slot.pointee.owner = ConnectionQuota.nobody
        slot.pointee.isReserved = true
        redirected.change(slot.pointee, by: -1)
        count -= 1
        reserved += 1
    }

    /// What is known of a connection is about to change, and is to be added to the digest again: also of one whose time was
    /// over, which goes on after all or begins anew. False when there is no room for it.
    private mutating func bringBack(
        _ slot: UnsafeMutablePointer<Record>, _ owner: ConnectionOwner?, _ now: UInt64
    ) -> Bool {
        guard slot.pointee.isReserved else {
            digest.remove(slot.pointee, now)
            return true
        }
        guard let place = quota.take(owner, total: count, limit: limit) else {
            refused &+= 1
            return false
        }
        slot.pointee.owner = place
        slot.pointee.isReserved = false
        redirected.change(slot.pointee, by: 1)
        count += 1
        reserved -= 1
        return true
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

    /// Forgets connections whose time is over, looking at so many; what was forgotten, by tag.
    public mutating func expire(now: UInt64, looking count: Int) -> [Tag] {
        var gone: [Tag] = []
        for _ in 0..<min(count, Int(records.end)) {
            if cursor >= records.end { cursor = 0 }
            let record = records[cursor]
            let zone = record.pointee.zone
            if record.pointee.isTaken, now >= expiry(zone, record.pointee.life) {
                if !record.pointee.isReserved {
                    gone.append(.translation(record.pointee.original, zone: zone))
                    gone.append(.translation(record.pointee.reply, zone: zone))
                    retire(record, now)
                }
                // Others may have seen later packets, and hold it longer: until they have forgotten it as well, an answer to
                // another connection on this port would be taken for one to this.
                let lifetimes = lifetimesByZone.isEmpty ? lifetimes : lifetimesByZone[zone] ?? lifetimes
                let (pool, port) = (record.pointee.pool, record.pointee.reply.destinationPort)
                if pool < 0 || !ports.holds(pool, port) || now >= lifetimes.reservation(of: record.pointee.life) {
                    remove(cursor, now)
                }
            }
            cursor += 1
        }
        return gone
    }

    /// Everything that is known, in no order.
    public func forEach(_ body: (Record) -> Void) {
        for place in 0..<records.end {
            let record = records[place]
            if record.pointee.isTaken, !record.pointee.isReserved { body(record.pointee) }
        }
    }

    /// Sets how many connections ports and tenants may have. Those that are there stay.
    public mutating func setBounds(_ standard: ConnectionBounds, byTenant: [Tag: ConnectionBounds]) {
        quota.standard = standard
        quota.bounds = byTenant
    }

    /// Connections by tenant, and how many were too many.
    public var countsByTenant: (counts: [Tag: Int], refused: [Tag: UInt64]) { (quota.counts, quota.refused) }
}

extension Tag {
    /// A translated connection, as packets say it on one side of the router.
    @inlinable
    public static func translation(_ tuple: ConnectionTuple, zone: Tag) -> Tag {
        Tag(bits: mix(tuple.directedHash(0x4a70_0000_0000_0013), zone.bits))
    }
}
