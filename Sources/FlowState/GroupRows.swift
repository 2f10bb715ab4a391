// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Who wants what is sent to a multicast group.
struct GroupKey: LearnedKey {
    var member: GroupMember

    static var kind: RowKind { .group }
    /// - Parameter value: seconds; 0 of one that is leaving, which stays known as such while others may think otherwise.
    static func lifetime(_ value: UInt32) -> UInt64 {
        value == 0 ? StateLimits.groupLeftNanoseconds : UInt64(value) * 1_000_000_000
    }
    static func validity(_ value: UInt32) -> UInt64? {
        value == 0 ? UInt64(GroupTimes.leaving) * 1_000_000_000 : nil
    }
    var digestKey: UInt64 { mix(member.tag.bits ^ member.source.high, member.port.bits ^ member.source.low) }
    var family: AddressFamily { member.group.family }
    var tag: Tag { member.tag }
    func port(_ value: UInt32) -> Tag { member.port }
    var list: UInt64? { tag.bits }
    static func digest(_ value: UInt32) -> UInt64 { UInt64(value) | 1 << 32 }
    func writeKey(into out: inout ByteWriter) {
        out.words(member.group)
        out.words(member.source)
        out.number(member.vlan)
        out.number(member.bridge.bits)
        out.number(member.port.bits)
    }
    func write(_ value: UInt32, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(value)
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        let family = RowForm.family(form)
        let group = try reader.words(family)
        let source = try reader.words(family)
        let vlan: UInt16 = try reader.number()
        member = GroupMember(
            group: group, source: source, family, vlan: vlan, bridge: try reader.tag(), port: try reader.tag())
    }
    init(_ member: GroupMember) { self.member = member }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> UInt32 { try reader.number() }
    /// Machines are asked by who asks them anyway.
    func learned(_ value: UInt32) -> Learned? { nil }
}
