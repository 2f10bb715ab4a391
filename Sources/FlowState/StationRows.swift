// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Where a station of a bridge is.
struct StationKey: LearnedKey {
    var mac: MACAddress
    var vlan: UInt16
    var bridge: Tag

    static var kind: RowKind { .station }
    static func lifetime(_ value: Tag) -> UInt64 { StateLimits.macLifetimeNanoseconds }
    var digestKey: UInt64 { mix(mac.bits | UInt64(vlan) << 48, bridge.bits) }
    var family: AddressFamily { .ipv4 }
    var tag: Tag { .mac(mac, vlan: vlan, bridge: bridge) }
    func port(_ value: Tag) -> Tag { value }
    static func digest(_ value: Tag) -> UInt64 { value.bits }
    func writeKey(into out: inout ByteWriter) {
        out.number(mac.bits << 16 | UInt64(vlan))
        out.number(bridge.bits)
    }
    func write(_ value: Tag, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(value.bits)
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        let bits: UInt64 = try reader.number()
        mac = MACAddress(bits: bits >> 16)
        vlan = UInt16(truncatingIfNeeded: bits) & 0x0fff
        bridge = try reader.tag()
    }
    init(mac: MACAddress, vlan: UInt16, bridge: Tag) {
        self.mac = mac
        self.vlan = vlan
        self.bridge = bridge
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> Tag { try reader.tag() }
    func learned(_ value: Tag) -> Learned? { .mac(mac, vlan: vlan, bridge: bridge, port: value) }
}
