// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// Translated connections, as rows; the ports that this host may translate to, and fragments under way, beside them.
final class TranslationRows: RowTable {
    struct FragmentKey: Hashable {
        var name: FragmentName
        var zone: Tag
    }
    struct State: ~Copyable {
        var table: TranslationTable
        let seed: UInt64
        var now: UInt64 = 0
        /// What first fragments said, until their packet's time is over.
        var fragments: [FragmentKey: (tuple: ConnectionTuple, expires: UInt64)] = [:]
        /// Turns of pools that were taken.
        var turns: [Tag: UInt64] = [:]

        /// Hosts begin at different members.
        func turn(of pool: Tag) -> UInt64 { (turns[pool] ?? 0) &+ mix(pool.bits, seed) >> 32 }
    }
    let state: Mutex<State>
    private let telling: Telling
    /// Called when this host wants ports to translate to.
    private let onPortsWanted: @Sendable () -> Void

    init(_ telling: Telling, seed: UInt64, onPortsWanted: @escaping @Sendable () -> Void) {
        self.telling = telling
        state = Mutex(State(table: TranslationTable(seed: seed, limit: StateLimits.translations), seed: seed))
        self.onPortsWanted = onPortsWanted
    }

    var kind: RowKind { .translation }
    var digest: TableDigest { state.withLock { $0.table.digest } }

    /// What a source may become.
    func source(for wish: SourceWish) -> SourceChoice {
        let (choice, isWanting) = state.withLock { state in
            (state.table.choose(wish), state.table.ports.isWanting)
        }
        if isWanting { onPortsWanted() }
        return choice
    }

    /// Takes note of a packet of a translated connection, or of packets that a flow carried.
    func learn(
        _ use: TranslationUse, _ flags: UInt16, _ owner: ConnectionOwner?, now: UInt64, _ told: inout ToldEntries
    ) -> LearnOutcome {
        let (outcome, isWanting) = state.withLock { state in
            state.now = max(state.now, now)
            let noted = state.table.note(
                use.original, use.reply, zone: use.zone, isReturn: use.isReturn, flags: flags, owner: owner, now: now)
            let outcome: LearnOutcome
            switch noted {
            case .conflict: outcome = .conflict
            case .full: outcome = .refused
            case .known(isDue: false): outcome = .known
            case .new, .known(isDue: true):
                let place = state.table.last
                let entry = telling.tell(RowHandle(.translation, place), state.table.isLastShared(), &told)
                state.table.setEntry(entry, of: place)
                outcome = noted == .new ? .news : .known
                if noted == .new, let balance = use.balance { state.turns[balance.pool, default: 0] &+= 1 }
            }
            return (outcome, state.table.ports.isWanting)
        }
        if isWanting { onPortsWanted() }
        return outcome
    }

    /// Takes note of the first fragment of a packet.
    func learn(_ name: FragmentName, zone: Tag, _ tuple: ConnectionTuple, now: UInt64) -> LearnOutcome {
        state.withLock { state in
            state.now = max(state.now, now)
            let key = FragmentKey(name: name, zone: zone)
            let isNew = state.fragments[key] == nil
            if isNew, state.fragments.count >= StateLimits.fragments { return .refused }
            state.fragments[key] = (tuple, now &+ StateLimits.fragmentNanoseconds)
            return isNew ? .news : .known
        }
    }

    func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple? {
        state.withLock { state in
            let found = state.fragments[FragmentKey(name: name, zone: zone)]
            return found.flatMap { state.now < $0.expires ? $0.tuple : nil }
        }
    }

    /// Forgets what is past its time; the tags of it.
    func expire(now: UInt64) -> [Tag] {
        state.withLock { state in
            state.now = max(state.now, now)
            for (key, entry) in state.fragments where entry.expires <= now { state.fragments[key] = nil }
            return state.table.expire(now: now, looking: StateLimits.connectionsLookedAt)
        }
    }

    func encode(_ place: Int32, entry: UInt64, now: UInt64, into out: inout ByteWriter) {
        let record = state.withLock { $0.table.record(at: place, entry: entry) }
        if let record { write(record, now, into: &out) }
    }

    private func write(_ record: TranslationTable.Record, _ now: UInt64, into out: inout ByteWriter) {
        out.number(RowForm.head(.translation, record.original.family))
        out.number(record.original.ipProtocol)
        out.number(record.zone.bits)
        out.sides(record.original)
        out.sides(record.reply)
        out.number(record.stamp.bits)
        out.number(record.life.milestones)
        out.age(now, record.life.used)
    }

    func merge(
        _ reader: inout ByteReader, _ form: UInt8, older: UInt64, now: UInt64, _ news: inout Set<Tag>
    ) throws(MalformedBytes) {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let original = try reader.sides(RowForm.family(form), ipProtocol)
        let reply = try reader.sides(RowForm.family(form), ipProtocol)
        let stamp = RowStamp(bits: try reader.number())
        let milestones: UInt8 = try reader.number()
        let age = try reader.age(plus: older)
        let tags = state.withLock { state in
            state.now = max(state.now, now)
            return state.table.merge(
                original, reply, zone: zone, stamp: stamp, milestones: milestones & 0x1f, age: age, now: now)
        }
        if let tags { news.formUnion(tags) }
    }

    func renew(
        _ reader: inout ByteReader, _ form: UInt8, before: UInt64, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let original = try reader.sides(RowForm.family(form), ipProtocol)
        _ = try reader.sides(RowForm.family(form), ipProtocol)
        _ = try reader.raw(9)
        _ = try reader.age()
        let record = state.withLock { state -> TranslationTable.Record? in
            guard let record = state.table.record(original, zone: zone), record.original == original,
                record.life.told <= before, state.table.expiry(record) > now
            else { return nil }
            return record
        }
        if let record { write(record, now, into: &out) }
    }

    func find(
        _ reader: inout ByteReader, _ form: UInt8, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        if let record = try named(&reader, form, now) { write(record, now, into: &out) }
    }

    /// The connection that the key of a translated one names, as it began.
    func original(
        _ reader: inout ByteReader, _ form: UInt8, now: UInt64
    ) throws(MalformedBytes) -> (tuple: ConnectionTuple, zone: Tag)? {
        guard let record = try named(&reader, form, now) else { return nil }
        return (record.original, record.zone)
    }

    /// What a key names, if it is known.
    private func named(
        _ reader: inout ByteReader, _ form: UInt8, _ now: UInt64
    ) throws(MalformedBytes) -> TranslationTable.Record? {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let tuple = try reader.sides(RowForm.family(form), ipProtocol)
        return state.withLock { state in
            state.table.find(tuple, zone: zone, now: now) == nil ? nil : state.table.record(tuple, zone: zone)
        }
    }

    /// The key of a translated connection that is wanted, as a packet says it on one side.
    static func key(_ tuple: ConnectionTuple, _ zone: Tag, into out: inout ByteWriter) {
        out.number(RowForm.head(.translation, tuple.family))
        out.number(tuple.ipProtocol)
        out.number(zone.bits)
        out.sides(tuple)
    }

    func encode(
        buckets: [Bool], all: Bool, from place: Int32, bytes limit: Int, now: UInt64,
        into out: inout ByteWriter
    ) -> Int32? {
        var place = place
        while true {
            var records: [TranslationTable.Record] = []
            let next = state.withLock { state -> Int32? in
                state.table.records(from: place, looking: 8192) { record in
                    guard all || record.life.isShared,
                        buckets[TableDigest.bucket(TableDigest.key(record.original, record.zone))],
                        all
                            ? state.table.expiry(record) > now
                            : state.table.end(record) > now &+ StateLimits.comparedNanoseconds
                    else { return }
                    records.append(record)
                }
            }
            for record in records { write(record, now, into: &out) }
            guard let next else { return nil }
            if out.bytes.count >= limit { return next }
            place = next
        }
    }
}
