// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Who has an address that a bridge gave.
struct LeaseKey: LearnedKey {
    /// The lease, and the port where it was asked for.
    struct Value: Equatable, Sendable {
        var lease: Lease
        var port: Tag
    }

    var address: IPAddress
    var bridge: Tag

    static var kind: RowKind { .lease }
    static func lifetime(_ value: Value) -> UInt64 { UInt64(value.lease.seconds) * 1_000_000_000 }
    var digestKey: UInt64 { mix(address.high ^ bridge.bits, address.low &+ 0xd4c9_1ea5_e000_0019) }
    var family: AddressFamily { address.family }
    var tag: Tag { Tag(bits: digestKey) }
    func port(_ value: Value) -> Tag { value.port }
    func others(_ value: Value) -> [UInt64] {
        LeaseKey.holder(value.lease.client, bridge: bridge).map { [$0, LeaseKey.place(value.port, family)] } ?? []
    }
    /// What was leased at a port.
    static func place(_ port: Tag, _ family: AddressFamily) -> UInt64 {
        mix(port.bits, family == .ipv4 ? 0xd4c9_0000_0000_0041 : 0xd4c9_0000_0000_0061)
    }
    /// A machine on a bridge; `nil` for nobody.
    static func holder(_ client: UInt64, bridge: Tag) -> UInt64? {
        client == 0 ? nil : mix(client, bridge.bits ^ 0xd4c9_0000_0000_0021)
    }
    static func digest(_ value: Value) -> UInt64 {
        mix(value.lease.client ^ value.port.bits, UInt64(value.lease.seconds) | 1 << 32)
    }
    func writeKey(into out: inout ByteWriter) {
        out.words(address)
        out.number(bridge.bits)
    }
    func write(_ value: Value, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(value.lease.client)
        out.number(value.lease.seconds)
        out.number(value.port.bits)
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        address = try reader.words(RowForm.family(form))
        bridge = try reader.tag()
    }
    init(address: IPAddress, bridge: Tag) {
        self.address = address
        self.bridge = bridge
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> Value {
        Value(
            lease: Lease(client: try reader.number(), seconds: try reader.number()), port: try reader.tag())
    }
    func learned(_ value: Value) -> Learned? { nil }
}
