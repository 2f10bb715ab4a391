// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// How a member of a pool is, as seen from a router.
struct HealthKey: LearnedKey {
    /// The pool in its router.
    var pool: Tag
    /// The member, by its identity.
    var member: UInt64

    static var kind: RowKind { .health }
    static func lifetime(_ value: MemberHealth) -> UInt64 { StateLimits.healthLifetimeNanoseconds }
    var digestKey: UInt64 { tag.bits }
    var family: AddressFamily { .ipv4 }
    /// Of members of pools the next connection asks anew; flows depend on what is known of services.
    var tag: Tag { .health(of: member, pool: pool) }
    func port(_ value: MemberHealth) -> Tag { pool }
    static func digest(_ value: MemberHealth) -> UInt64 {
        mix(
            value.since | 1 << 63,
            UInt64(value.finding.rawValue) << 32 | UInt64(value.detail) << 8 | (value.isUp ? 3 : 2))
    }
    func writeKey(into out: inout ByteWriter) {
        out.number(pool.bits)
        out.number(member)
    }
    func write(_ value: MemberHealth, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(UInt8(value.isUp ? 1 : 0))
        out.number(value.finding.rawValue)
        out.number(value.detail)
        out.number(value.since)
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        pool = try reader.tag()
        member = try reader.number()
    }
    init(pool: Tag, member: UInt64) {
        self.pool = pool
        self.member = member
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> MemberHealth {
        let isUp: UInt8 = try reader.number()
        let finding: UInt8 = try reader.number()
        guard let known = MemberHealth.Finding(rawValue: finding) else {
            throw MalformedBytes("a check that found \(finding), which a later version knows")
        }
        let detail: UInt16 = try reader.number()
        return MemberHealth(isUp: isUp != 0, known, detail: detail, since: try reader.number())
    }
    func learned(_ value: MemberHealth) -> Learned? { nil }
}
