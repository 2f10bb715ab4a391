// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// Connections, as rows.
final class ConnectionRows: RowTable {
    /// The table, and what time it is: who looks a connection up has no clock.
    struct State: ~Copyable {
        var table: ConnectionTable
        var now: UInt64 = 0
    }
    let state: Mutex<State>
    private let telling: Telling

    init(_ telling: Telling, seed: UInt64) {
        self.telling = telling
        state = Mutex(State(table: ConnectionTable(seed: seed, limit: StateLimits.connections)))
    }

    var kind: RowKind { .connection }
    var digest: TableDigest { state.withLock { $0.table.digest } }

    /// Takes note of a packet of a connection, or of packets that a flow carried.
    func learn(
        _ tuple: ConnectionTuple, _ zone: Tag, _ flags: UInt16, _ owner: ConnectionOwner?, now: UInt64,
        _ told: inout ToldEntries
    ) -> LearnOutcome {
        state.withLock { state in
            state.now = max(state.now, now)
            let outcome = state.table.note(tuple, zone: zone, flags: flags, owner: owner, now: now)
            switch outcome {
            case .refused: return .refused
            case .known(isDue: false): return .known
            case .new, .known(isDue: true):
                let place = state.table.last
                let entry = telling.tell(RowHandle(.connection, place), state.table.isLastShared(), &told)
                state.table.setEntry(entry, of: place)
                return outcome == .new ? .news : .known
            }
        }
    }

    func encode(_ place: Int32, entry: UInt64, now: UInt64, into out: inout ByteWriter) {
        let record = state.withLock { $0.table.record(at: place, entry: entry) }
        if let record { write(record, now, into: &out) }
    }

    private func write(_ record: ConnectionTable.Record, _ now: UInt64, into out: inout ByteWriter) {
        out.number(RowForm.head(.connection, record.tuple.family))
        out.number(record.tuple.ipProtocol)
        out.number(record.zone.bits)
        out.sides(record.tuple)
        out.number(record.stamp.bits)
        out.number(record.life.milestones)
        out.age(now, record.life.used)
    }

    func merge(
        _ reader: inout ByteReader, _ form: UInt8, older: UInt64, now: UInt64, _ news: inout Set<Tag>
    ) throws(MalformedBytes) {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let tuple = try reader.sides(RowForm.family(form), ipProtocol)
        let stamp = RowStamp(bits: try reader.number())
        let milestones: UInt8 = try reader.number()
        let age = try reader.age(plus: older)
        let isNews = state.withLock { state in
            state.now = max(state.now, now)
            return state.table.merge(
                tuple, zone: zone, stamp: stamp, milestones: milestones & 0x1f, age: age, now: now) == .news
        }
        if isNews { news.insert(.connection(tuple, zone: zone)) }
    }

    func renew(
        _ reader: inout ByteReader, _ form: UInt8, before: UInt64, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let tuple = try reader.sides(RowForm.family(form), ipProtocol)
        _ = try reader.raw(9)
        _ = try reader.age()
        let record = state.withLock { state -> ConnectionTable.Record? in
            guard let record = state.table.record(tuple, zone: zone), record.life.told <= before,
                state.table.expiry(record) > now
            else { return nil }
            return record
        }
        if let record { write(record, now, into: &out) }
    }

    func find(
        _ reader: inout ByteReader, _ form: UInt8, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes) {
        let ipProtocol: UInt8 = try reader.number()
        let zone = try reader.tag()
        let tuple = try reader.sides(RowForm.family(form), ipProtocol)
        write(tuple, zone, now: now, into: &out)
    }

    /// Appends a connection, if it is known.
    func write(_ tuple: ConnectionTuple, _ zone: Tag, now: UInt64, into out: inout ByteWriter) {
        let record = state.withLock { state in
            state.table.find(tuple, zone: zone, now: now) == nil ? nil : state.table.record(tuple, zone: zone)
        }
        if let record { write(record, now, into: &out) }
    }

    /// The key of a connection that is wanted.
    static func key(_ tuple: ConnectionTuple, _ zone: Tag, into out: inout ByteWriter) {
        out.number(RowForm.head(.connection, tuple.family))
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
            // In steps: packets wait for the lock meanwhile.
            var records: [ConnectionTable.Record] = []
            let next = state.withLock { state -> Int32? in
                state.table.records(from: place, looking: 8192) { record in
                    guard all || record.life.isShared,
                        buckets[TableDigest.bucket(TableDigest.key(record.tuple, record.zone))],
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
