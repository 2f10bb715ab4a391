// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Which MAC a neighbor of a router's port has.
struct NeighborKey: LearnedKey {
    var address: IPAddress
    var port: Tag

    static var kind: RowKind { .neighbor }
    static func lifetime(_ value: MACAddress) -> UInt64 { StateLimits.neighborLifetimeNanoseconds }
    var digestKey: UInt64 { mix(address.high ^ port.bits, address.low &+ 0x1f83_d9ab_fb41_bd6b) }
    var family: AddressFamily { address.family }
    var tag: Tag { .neighbor(address, port: port) }
    func port(_ value: MACAddress) -> Tag { port }
    static func digest(_ value: MACAddress) -> UInt64 { value.bits }
    func writeKey(into out: inout ByteWriter) {
        out.words(address)
        out.number(port.bits)
    }
    func write(_ value: MACAddress, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(UInt16(truncatingIfNeeded: value.bits >> 32))
        out.number(UInt32(truncatingIfNeeded: value.bits))
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        address = try reader.words(RowForm.family(form))
        port = try reader.tag()
    }
    init(address: IPAddress, port: Tag) {
        self.address = address
        self.port = port
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> MACAddress {
        let high: UInt16 = try reader.number()
        let low: UInt32 = try reader.number()
        return MACAddress(bits: UInt64(high) << 32 | UInt64(low))
    }
    func learned(_ value: MACAddress) -> Learned? { .neighbor(address, mac: value, port: port) }
}
