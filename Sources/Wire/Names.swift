// SPDX-License-Identifier: Apache-2.0

/// Numbers by the names that people write.
extension EtherType {
    private static let names: [(name: String, number: UInt16)] = [
        ("ipv4", ipv4), ("arp", arp), ("ipv6", ipv6), ("vlan", vlan), ("llc", llc),
    ]

    /// As in `ipv4`, `0x88cc`.
    public static func name(of number: UInt16) -> String {
        names.first { $0.number == number }?.name ?? "0x" + String(number, radix: 16)
    }

    /// Reads a name, or a number from 0x600 on, decimal or behind `0x`.
    public static func number(_ text: String) -> UInt16? {
        if let known = names.first(where: { $0.name == text }) { return known.number }
        let number = text.hasPrefix("0x") ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
        return number.flatMap { $0 >= 0x600 ? $0 : nil }
    }
}

extension IPProtocol {
    private static let names: [(name: String, number: UInt8)] = [
        ("icmp", icmp), ("tcp", tcp), ("udp", udp), ("gre", gre), ("esp", 50), ("ah", 51), ("icmpv6", icmpv6),
        ("ospf", 89), ("vrrp", 112), ("sctp", sctp),
    ]

    /// As in `tcp`, `89`.
    public static func name(of number: UInt8) -> String {
        names.first { $0.number == number }?.name ?? "\(number)"
    }

    /// Reads a name or a number.
    public static func number(_ text: String) -> UInt8? {
        names.first { $0.name == text }?.number ?? UInt8(text)
    }
}
