// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// How many stations and neighbors are remembered, of all ports and of each: one port must not fill the tables for all.
final class LearnedBounds: Sendable {
    private let total: Int
    private let perPort: Int

    init(total: Int = StateLimits.learnedEntries, perPort: Int = StateLimits.learnedPerPort) {
        (self.total, self.perPort) = (total, perPort)
    }

    private struct Counts {
        var total = 0
        var ofPort: [Tag: Int] = [:]
        var refused: UInt64 = 0
    }
    private let counts = Mutex(Counts())

    func take(_ port: Tag) -> Bool {
        counts.withLock { counts in
            guard counts.total < total, counts.ofPort[port, default: 0] < perPort else {
                counts.refused &+= 1
                return false
            }
            counts.total += 1
            counts.ofPort[port, default: 0] += 1
            return true
        }
    }

    func give(back port: Tag) {
        counts.withLock { counts in
            counts.total -= 1
            let left = (counts.ofPort[port] ?? 0) - 1
            counts.ofPort[port] = left > 0 ? left : nil
        }
    }

    func refuse() { counts.withLock { $0.refused &+= 1 } }
    var refused: UInt64 { counts.withLock { $0.refused } }
}

/// A key that packets teach a value of: where a station is, which MAC a neighbor has.
protocol LearnedKey: Hashable, Sendable {
    associatedtype Value: Equatable, Sendable
    static var kind: RowKind { get }
    /// How long it is believed without being told again, nanoseconds.
    static func lifetime(_ value: Value) -> UInt64
    /// How long it is so, where that is shorter than it is remembered; `nil`: it is not.
    static func validity(_ value: Value) -> UInt64?
    /// The same on every host.
    var digestKey: UInt64 { get }
    var family: AddressFamily { get }
    var tag: Tag { get }
    /// What else an entry is found by.
    func others(_ value: Value) -> [UInt64]
    /// What it is found by together with others; `nil`: nothing.
    var list: UInt64? { get }
    /// The port, or whatever else has a bound of its own, that an entry is counted to.
    func port(_ value: Value) -> Tag
    static func digest(_ value: Value) -> UInt64
    func write(_ value: Value, into out: inout ByteWriter)
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes)
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> Value
    func writeKey(into out: inout ByteWriter)
    /// What those who use it are asked to confirm before it is forgotten; `nil`: nobody is asked.
    func learned(_ value: Value) -> Learned?
}

extension LearnedKey {
    func others(_ value: Value) -> [UInt64] { [] }
    var list: UInt64? { nil }
    static func validity(_ value: Value) -> UInt64? { nil }
}

/// What packets taught, as rows. The latest stands.
final class LearnedRows<Key: LearnedKey>: RowTable {
    private struct Entry {
        var key: Key
        var value: Key.Value
        var stamp: RowStamp
        /// When it was seen last, here or by another host.
        var used: UInt64
        /// When other hosts last heard of it.
        var told: UInt64
        /// When all know that it was seen: what they are told, or told.
        var known: UInt64
        /// Whether it is in the digest. All take it out at the same time, whoever knows that it lives longer: what differs
        /// meanwhile is nothing to repair.
        var isCounted = false
        var entry: UInt64 = 0
        /// Whether this host learned it from packets, not from another host.
        var isOwn: Bool
        /// Whether those who use it were asked to confirm it before it expires.
        var isConfirming = false
        var isTaken = true
        /// Whether it is not so any more, and only remembered.
        var isOver = false
        /// Those who hear of it now and then hold it a little longer.
        var expires: UInt64 { used &+ lifetime &+ (isOwn ? 0 : lifetime / 8) }
        var lifetime: UInt64 { Key.lifetime(value) }
    }
    private struct State {
        var places: [Key: Int32] = [:]
        /// Places by what else entries are found by.
        var others: [UInt64: Int32] = [:]
        /// Places of those that are found together.
        var lists: [UInt64: [Int32]] = [:]
        var entries: [Entry] = []
        var free: [Int32] = []
        var stamps = RowStamps()
        var digest = TableDigest()
    }
    private let state = Mutex(State())
    private let telling: Telling
    private let bounds: LearnedBounds
    private let changed: (@Sendable (Key) -> Void)?

    /// - Parameter changed: told of each entry that comes, goes or is another one; called with the table locked.
    init(_ telling: Telling, _ bounds: LearnedBounds, changed: (@Sendable (Key) -> Void)? = nil) {
        self.telling = telling
        self.bounds = bounds
        self.changed = changed
    }

    var kind: RowKind { Key.kind }
    var digest: TableDigest { state.withLock { $0.digest } }
    var count: Int { state.withLock { $0.places.count } }
    func set(_ stamps: RowStamps) { state.withLock { $0.stamps = stamps } }

    subscript(_ key: Key) -> Key.Value? {
        state.withLock { state in
            guard let place = state.places[key], !state.entries[Int(place)].isOver else { return nil }
            return state.entries[Int(place)].value
        }
    }

    /// The entry that is found by something else than its key.
    func entry(other: UInt64) -> (key: Key, value: Key.Value)? {
        state.withLock { state in
            state.others[other].map { (state.entries[Int($0)].key, state.entries[Int($0)].value) }
        }
    }

    /// Those that are found together.
    func keys(of list: UInt64) -> [Key] {
        state.withLock { state in
            (state.lists[list] ?? []).compactMap { place in
                let entry = state.entries[Int(place)]
                return entry.isOver ? nil : entry.key
            }
        }
    }

    private func toggle(_ state: inout State, _ place: Int32, isAdded: Bool, _ now: UInt64) {
        let entry = state.entries[Int(place)]
        if entry.isCounted == isAdded { return }
        state.entries[Int(place)].isCounted = isAdded
        let value = mix(entry.stamp.bits, Key.digest(entry.value))
        if isAdded {
            state.digest.add(key: entry.key.digestKey, value: value, origin: entry.stamp.origin, now)
        } else {
            state.digest.remove(key: entry.key.digestKey, value: value, origin: entry.stamp.origin, now)
        }
    }

    private func put(_ state: inout State, _ entry: Entry, _ now: UInt64) -> Int32? {
        let port = entry.key.port(entry.value)
        let place: Int32
        if let known = state.places[entry.key] {
            let old = state.entries[Int(known)].value
            if old != entry.value { changed?(entry.key) }
            if entry.key.port(old) != port {
                guard bounds.take(port) else { return nil }
                bounds.give(back: entry.key.port(old))
            }
            toggle(&state, known, isAdded: false, now)
            dropOther(&state, known)
            state.entries[Int(known)] = entry
            place = known
        } else {
            guard bounds.take(port) else { return nil }
            changed?(entry.key)
            if let free = state.free.popLast() {
                place = free
                state.entries[Int(place)] = entry
            } else {
                place = Int32(state.entries.count)
                state.entries.append(entry)
            }
            state.places[entry.key] = place
            if let list = entry.key.list { state.lists[list, default: []].append(place) }
        }
        for other in entry.key.others(entry.value) { state.others[other] = place }
        toggle(&state, place, isAdded: true, now)
        return place
    }

    private func dropOther(_ state: inout State, _ place: Int32) {
        let entry = state.entries[Int(place)]
        for other in entry.key.others(entry.value) where state.others[other] == place { state.others[other] = nil }
    }

    private func remove(_ state: inout State, _ place: Int32, _ now: UInt64) {
        let entry = state.entries[Int(place)]
        changed?(entry.key)
        toggle(&state, place, isAdded: false, now)
        dropOther(&state, place)
        bounds.give(back: entry.key.port(entry.value))
        state.places[entry.key] = nil
        if let list = entry.key.list {
            state.lists[list]?.removeAll { $0 == place }
            if state.lists[list]?.isEmpty == true { state.lists[list] = nil }
        }
        state.entries[Int(place)].isTaken = false
        state.entries[Int(place)].entry = 0
        state.free.append(place)
    }

    /// Packets tell it here.
    func learn(_ key: Key, _ value: Key.Value, now: UInt64, _ told: inout ToldEntries) -> LearnOutcome {
        state.withLock { state in
            let known = state.places[key].map { state.entries[Int($0)] }
            if let known, known.value == value, let place = state.places[key] {
                state.entries[Int(place)].used = max(known.used, now)
                state.entries[Int(place)].isConfirming = false
                state.entries[Int(place)].isOwn = true
                // The others hear of it well before they would forget it.
                guard now >= known.told &+ known.lifetime / 8 else { return .known }
                state.entries[Int(place)].told = now
                state.entries[Int(place)].known = now
                toggle(&state, place, isAdded: true, now)
                state.entries[Int(place)].entry = telling.tell(RowHandle(Key.kind, place), true, &told)
                return .known
            }
            let entry = Entry(
                key: key, value: value, stamp: state.stamps.next(after: known?.stamp ?? .none, now: now), used: now,
                told: now, known: now, isOwn: true)
            guard let place = put(&state, entry, now) else { return .refused }
            state.entries[Int(place)].entry = telling.tell(RowHandle(Key.kind, place), true, &told)
            return .news
        }
    }

    /// Forgets what is past its time; the tags of it.
    func expire(now: UInt64) -> [Tag] {
        state.withLock { state in
            var tags: [Tag] = []
            for place in state.entries.indices where state.entries[place].isTaken {
                if state.entries[place].expires <= now {
                    tags.append(state.entries[place].key.tag)
                    remove(&state, Int32(place), now)
                } else if let valid = Key.validity(state.entries[place].value), !state.entries[place].isOver,
                    state.entries[place].used &+ valid <= now
                {
                    state.entries[place].isOver = true
                    tags.append(state.entries[place].key.tag)
                } else if state.entries[place].known &+ state.entries[place].lifetime <= now {
                    toggle(&state, Int32(place), isAdded: false, now)
                }
            }
            return tags
        }
    }

    /// What will be forgotten soon: each is named once, so that those who use it can see whether it is still so.
    func expiring(now: UInt64) -> [Learned] {
        let soon = now &+ StateLimits.confirmNanoseconds
        return state.withLock { state in
            var list: [Learned] = []
            for place in state.entries.indices {
                let entry = state.entries[place]
                guard entry.isTaken, entry.expires <= soon, !entry.isConfirming else { continue }
                state.entries[place].isConfirming = true
                if let learned = entry.key.learned(entry.value) { list.append(learned) }
            }
            return list
        }
    }

    /// Each entry, and when its time is over.
    func forEach(_ body: (Key, Key.Value, UInt64) -> Void) {
        let entries = state.withLock { $0.entries }
        for entry in entries where entry.isTaken && !entry.isOver {
            body(entry.key, entry.value, entry.used &+ (Key.validity(entry.value) ?? entry.lifetime))
        }
    }

    /// Forgets one; whether it was there.
    func forget(_ key: Key, now: UInt64) -> Bool {
        state.withLock { state in
            guard let place = state.places[key] else { return false }
            remove(&state, place, now)
            return true
        }
    }

    /// Writes a row as all are to know it.
    private func write(_ entry: Entry, _ now: UInt64, into out: inout ByteWriter) {
        out.number(RowForm.head(Key.kind, entry.key.family))
        entry.key.write(entry.value, into: &out)
        out.number(entry.stamp.bits)
        out.age(now, entry.known)
    }

    func encode(_ place: Int32, entry: UInt64, now: UInt64, into out: inout ByteWriter) {
        let found = state.withLock { state -> Entry? in
            guard state.entries.indices.contains(Int(place)) else { return nil }
            let found = state.entries[Int(place)]
            return found.isTaken && found.entry == entry ? found : nil
        }
        if let found { write(found, now, into: &out) }
    }

    func merge(
        _ reader: inout ByteReader, _ form: UInt8, older: UInt64, now: UInt64, _ news: inout Set<Tag>
    ) throws(MalformedBytes) {
        let key = try Key(reading: &reader, form)
        let value = try Key.value(reading: &reader)
        let stamp = RowStamp(bits: try reader.number())
        let age = try reader.age(plus: older)
        let used = now > age ? now - age : 0
        let isNews = state.withLock { state in
            state.stamps.follow(stamp.milliseconds, now: now)
            let entry = Entry(key: key, value: value, stamp: stamp, used: used, told: now, known: used, isOwn: false)
            guard age < entry.lifetime + entry.lifetime / 8 else { return false }
            if let place = state.places[key] {
                let known = state.entries[Int(place)]
                guard stamp >= known.stamp else { return false }
                // Two hosts of one number may begin at once: either way, all choose the same.
                if stamp == known.stamp,
                    known.value == value || Key.digest(value) < Key.digest(known.value)
                {
                    guard known.value == value else { return false }
                    guard used > known.known else { return false }
                    state.entries[Int(place)].known = used
                    state.entries[Int(place)].told = now
                    if used &+ known.lifetime > now { toggle(&state, place, isAdded: true, now) }
                    guard used > known.used else { return false }
                    state.entries[Int(place)].used = used
                    state.entries[Int(place)].isOwn = false
                    state.entries[Int(place)].isConfirming = false
                    return false
                }
                return put(&state, entry, now) != nil && known.value != value
            }
            return put(&state, entry, now) != nil
        }
        if isNews { news.insert(key.tag) }
    }

    func renew(
        _ reader: inout ByteReader, _ form: UInt8, before: UInt64, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        let key = try Key(reading: &reader, form)
        _ = try Key.value(reading: &reader)
        _ = try reader.raw(8)
        _ = try reader.age()
        let found = state.withLock { state in state.places[key].map { state.entries[Int($0)] } }
        if let found, found.told <= before, found.expires > now { write(found, now, into: &out) }
    }

    func find(
        _ reader: inout ByteReader, _ form: UInt8, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        let key = try Key(reading: &reader, form)
        let found = state.withLock { state in state.places[key].map { state.entries[Int($0)] } }
        if let found { write(found, now, into: &out) }
    }

    func encode(
        buckets: [Bool], all: Bool, from place: Int32, bytes limit: Int, now: UInt64,
        into out: inout ByteWriter
    ) -> Int32? {
        let entries = state.withLock { $0.entries }
        for place in Int(max(0, place))..<max(Int(max(0, place)), entries.count) {
            let entry = entries[place]
            guard entry.isTaken, buckets[TableDigest.bucket(entry.key.digestKey)],
                entry.known &+ entry.lifetime > now &+ (all ? 0 : StateLimits.comparedNanoseconds)
            else { continue }
            write(entry, now, into: &out)
            if out.bytes.count >= limit { return Int32(place + 1) }
        }
        return nil
    }
}
