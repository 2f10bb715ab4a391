// SPDX-License-Identifier: Apache-2.0

extension FlowMask {
    /// What a flow matches, field by field, the way a person reads it: `eth.dst=0e:..`, `ip.dst=10.0.0.0/8`. The port is
    /// left to the caller, who knows its name.
    public func describe(_ key: FlowKey) -> [(field: String, value: String)] {
        var out: [(String, String)] = []
        func add(_ name: String, _ field: FlowField, _ text: @autoclosure () -> String) {
            if bits.words[field.word] & field.bits != 0 { out.append((name, text())) }
        }
        add("tunnel.key", .tunnelID, "0x" + String(key.tunnelID, radix: 16))
        add("eth.src", .etherSource, key.etherSource.description)
        add("eth.dst", .etherDestination, key.etherDestination.description)
        if bits.vlanTCI & 0x0fff != 0 {
            out.append(("vlan", key.hasVLAN ? String(key.vlanTCI & 0x0fff) : "none"))
        } else if bits.vlanTCI != 0 {
            out.append(("vlan", key.hasVLAN ? "any" : "none"))
        }
        add("eth.type", .etherType, etherTypeName(key.etherType))
        describeAddress("ip.src", 11, key.ipSource, &out)
        describeAddress("ip.dst", 13, key.ipDestination, &out)
        add("ip.proto", .ipProtocol, protocolName(key.ipProtocol))
        add("ip.tos", .ipTOS, String(key.ipTOS))
        add("ip.ttl", .ipTTL, String(key.ipTTL))
        add("ip.frag", .ipFragment, ["no", "first", "later"][min(2, Int(key.ipFragment))])
        let isICMP = key.ipProtocol == IPProtocol.icmp || key.ipProtocol == IPProtocol.icmpv6
        add(isICMP ? "icmp.type" : "port.src", .sourcePort, String(key.sourcePort))
        add(isICMP ? "icmp.code" : "port.dst", .destinationPort, String(key.destinationPort))
        add("tcp.flags", .tcpFlags, "0x" + String(key.tcpFlags, radix: 16))
        return out
    }

    private func describeAddress(
        _ name: String, _ word: Int, _ address: IPAddress, _ out: inout [(String, String)]
    ) {
        let high = bits.words[word]
        let low = bits.words[word + 1]
        if high | low == 0 { return }
        let length = (~high).leadingZeroBitCount + (high == ~0 ? (~low).leadingZeroBitCount : 0)
        let width = address.family.width
        out.append((name, length >= width ? address.description : "\(address.masked(length))/\(length)"))
    }
}

private func etherTypeName(_ type: UInt16) -> String {
    switch type {
    case EtherType.ipv4: "ipv4"
    case EtherType.ipv6: "ipv6"
    case EtherType.arp: "arp"
    default: "0x" + String(type, radix: 16)
    }
}

private func protocolName(_ number: UInt8) -> String {
    switch number {
    case IPProtocol.icmp: "icmp"
    case IPProtocol.icmpv6: "icmp6"
    case IPProtocol.tcp: "tcp"
    case IPProtocol.udp: "udp"
    case IPProtocol.sctp: "sctp"
    default: String(number)
    }
}
