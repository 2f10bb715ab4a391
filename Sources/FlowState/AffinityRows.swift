// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Which member of a pool a client comes back to.
struct AffinityKey: LearnedKey {
    /// The member, and for how long: the pool's persistence when the client came last.
    struct Value: Equatable, Sendable {
        var member: UInt64
        var seconds: UInt32
    }

    var client: IPAddress
    /// The pool in its router.
    var pool: Tag

    static var kind: RowKind { .affinity }
    static func lifetime(_ value: Value) -> UInt64 { UInt64(value.seconds) * 1_000_000_000 }
    var digestKey: UInt64 { mix(client.high ^ pool.bits, client.low &+ 0xba1a_9ced_5eed_0019) }
    var family: AddressFamily { client.family }
    /// A client's next connection asks anew: no flow depends on it.
    var tag: Tag { Tag(bits: digestKey) }
    func port(_ value: Value) -> Tag { pool }
    static func digest(_ value: Value) -> UInt64 { mix(value.member, UInt64(value.seconds) | 1 << 32) }
    func writeKey(into out: inout ByteWriter) {
        out.words(client)
        out.number(pool.bits)
    }
    func write(_ value: Value, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(value.member)
        out.number(value.seconds)
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        client = try reader.words(RowForm.family(form))
        pool = try reader.tag()
    }
    init(client: IPAddress, pool: Tag) {
        self.client = client
        self.pool = pool
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> Value {
        Value(member: try reader.number(), seconds: try reader.number())
    }
    func learned(_ value: Value) -> Learned? { nil }
}
