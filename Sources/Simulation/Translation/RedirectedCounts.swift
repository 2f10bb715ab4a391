// SPDX-License-Identifier: Apache-2.0
import Wire

/// Connections by where they are sent, if that is another place than they asked for.
struct RedirectedCounts: ~Copyable {
    private var counts = HashIndex()

    /// How many are sent to a port of a machine.
    func count(of address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int {
        Int(counts[Self.key(address, port, ipProtocol, zone)] ?? 0)
    }

    /// Counts a connection that is there from now on, or is no more.
    mutating func change(_ record: TranslationTable.Record, by change: Int) {
        let (asked, sent) = (record.original, record.reply)
        guard asked.destination != sent.source || asked.destinationPort != sent.sourcePort else { return }
        let key = Self.key(sent.source, sent.sourcePort, sent.ipProtocol, record.zone)
        let count = Int(counts[key] ?? 0) + change
        counts[key] = count > 0 ? UInt64(count) : nil
    }

    /// A hash of a machine's port, in a zone.
    static func key(_ address: IPAddress, _ port: UInt16, _ ipProtocol: UInt8, _ zone: Tag) -> UInt64 {
        mix(
            mix(address.high ^ zone.bits, address.low ^ 0x9e37_79b9_7f4a_7c15),
            UInt64(port) << 8 | UInt64(ipProtocol) | 1 << 32)
    }
}
