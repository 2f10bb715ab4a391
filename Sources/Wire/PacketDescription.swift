// SPDX-License-Identifier: Apache-2.0

/// A packet said in words, about as tcpdump prints one:
///
///     icmp to 10.0.2.21
///     tcp 10.0.1.11:40000 > 10.0.2.21:5432 ttl 3
///     udp to [fd00::2]:53 length 1400
///     arp who-has 10.0.1.1
///     dhcp
///     rs
///     join 239.1.1.1
public struct PacketDescription: Sendable, Equatable {
    /// What kind of packet.
    public enum Kind: Sendable, Equatable {
        /// An echo request.
        case icmp
        /// A TCP segment, SYN unless said.
        case tcp
        /// A UDP datagram.
        case udp
        /// An ARP request.
        case arp
        /// A machine asks for an address.
        case dhcp
        /// A machine asks for an IPv6 address.
        case dhcpv6
        /// A machine asks for a name.
        case dns
        /// A machine asks for IPv6 routers.
        case routerSolicitation
        /// A machine joins a multicast group, or leaves it.
        case join, leave
    }
    /// Echo request, TCP, UDP, ARP, DHCP, DHCPv6, DNS, router solicitation, or what is said of groups.
    public var kind = Kind.icmp
    /// Source; the port's own unless said.
    public var source: IPAddress?
    /// What is asked for, of names.
    public var question: DNSQuery?
    /// Destination.
    public var destination = IPAddress(IPv4Address(bits: 0))
    /// Source port, TCP and UDP.
    public var sourcePort: UInt16 = 40_000
    /// Destination port, TCP and UDP.
    public var destinationPort: UInt16 = 80
    /// TTL or hop limit.
    public var ttl: UInt8 = 64
    /// Bytes of the layer 3 packet; 0: as short as can be.
    public var length = 0
    /// VLAN tag; 0: none.
    public var vlan: UInt16 = 0
    /// Ethernet source; the port's own unless said.
    public var etherSource: MACAddress?
    /// Ethernet destination; as the machine would resolve it unless said.
    public var etherDestination: MACAddress?

    /// Why a description is none.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// What is wrong, and how to say it.
        public let description: String
    }

    /// How to describe a packet, for error messages and help.
    public static let usage = """
        icmp to ADDRESS | tcp|udp [ADDRESS:PORT >] ADDRESS:PORT | tcp|udp to ADDRESS:PORT | arp who-has ADDRESS | dhcp | dhcp6 | rs | dns NAME [aaaa|ptr|...] to ADDRESS | join|leave GROUP, \
        then any of: from ADDRESS, ttl N, length BYTES, vlan ID, eth-src MAC, eth-dst MAC
        """

    /// Reads a description.
    public init(parsing text: String) throws(Failure) {
        var words = text.split(whereSeparator: { $0 == " " || $0 == "," }).map(String.init)[...]
        func fail(_ reason: String) -> Failure { Failure(description: "\(reason); say \(PacketDescription.usage)") }
        /// A word that is in its place, and yet not what belongs there.
        func wrong(_ reason: String) -> Failure { Failure(description: reason) }
        func next(_ what: String) throws(Failure) -> String {
            guard let word = words.popFirst() else { throw fail("\(what) is missing") }
            return word
        }
        let first = try next("the kind of packet")
        switch first.lowercased() {
        case "icmp", "icmp6", "ping": kind = .icmp
        case "tcp": kind = .tcp
        case "udp": kind = .udp
        case "arp": kind = .arp
        case "dhcp":
            kind = .dhcp
            destination = IPAddress(IPv4Address(bits: .max))
            source = IPAddress(IPv4Address(bits: 0))
            (sourcePort, destinationPort) = (DHCPMessage.clientPort, DHCPMessage.serverPort)
        case "dhcp6":
            kind = .dhcpv6
            destination = IPAddress(DHCPv6Message.servers)
            source = IPAddress(IPv6Address.unspecified)
            (sourcePort, destinationPort) = (DHCPv6Message.clientPort, DHCPv6Message.serverPort)
        case "dns":
            kind = .dns
            let name = try next("the name")
            let types: [String: UInt16] = [
                "a": 1, "ns": 2, "soa": 6, "ptr": 12, "mx": 15, "txt": 16, "aaaa": 28, "any": 255,
            ]
            let type = words.first.flatMap { types[$0.lowercased()] }
            if type != nil { words.removeFirst() }
            question = DNSQuery(id: 1, name, type: type ?? DNSQuery.RecordType.a)
            destinationPort = DNSQuery.port
        case "rs":
            kind = .routerSolicitation
            destination = IPAddress(IPv6Address.allRouters)
            source = IPAddress(IPv6Address.unspecified)
            ttl = 255
        case "join", "leave":
            kind = first.lowercased() == "join" ? .join : .leave
            let name = try next("the group")
            destination = try address(name, wrong)
            guard destination.isMulticast else {
                throw wrong("\(name) is no group: write it like 239.1.1.1 or ff15::1")
            }
            ttl = 1
            source = IPAddress(high: 0, low: 0, family: destination.family)
        default: throw fail("\"\(first)\" is no kind of packet")
        }
        var hasDestination = kind == .dhcp || kind == .dhcpv6 || kind == .routerSolicitation
        if kind == .join || kind == .leave { hasDestination = true }
        while let word = words.popFirst() {
            switch word.lowercased() {
            case "to", ">", "who-has":
                try setDestination(try next("the destination"), wrong)
                hasDestination = true
            case "from": source = try address(try next("the source"), wrong)
            case "ttl": ttl = try number(try next("ttl"), wrong)
            case "length": length = Int(try number(try next("length"), wrong) as UInt16)
            case "vlan": vlan = try number(try next("vlan"), wrong)
            case "eth-src": etherSource = try mac(try next("eth-src"), wrong)
            case "eth-dst": etherDestination = try mac(try next("eth-dst"), wrong)
            default:
                if words.first == ">" {
                    let (address, port) = try endpoint(word, wrong)
                    source = address
                    if let port { sourcePort = port }
                } else if !hasDestination {
                    try setDestination(word, fail)
                    hasDestination = true
                } else {
                    throw fail("\"\(word)\" is not understood")
                }
            }
        }
        guard hasDestination else { throw fail("the destination is missing") }
        if let source, source.family != destination.family { throw fail("source and destination are of two families") }
        guard vlan <= 4094 else { throw fail("VLAN \(vlan) does not exist") }
    }

    private mutating func setDestination(_ text: String, _ fail: (String) -> Failure) throws(Failure) {
        let (address, port) = try endpoint(text, fail)
        destination = address
        if let port { destinationPort = port }
    }

    private func address(_ text: String, _ fail: (String) -> Failure) throws(Failure) -> IPAddress {
        guard let address = IPAddress(text) else {
            throw fail("\"\(text)\" is not an address: write it like 10.0.0.1 or fd00::1")
        }
        return address
    }

    private func mac(_ text: String, _ fail: (String) -> Failure) throws(Failure) -> MACAddress {
        guard let mac = MACAddress(text) else {
            throw fail("\"\(text)\" is not a MAC: write it like 0e:00:00:00:00:01")
        }
        return mac
    }

    private func number<Value: FixedWidthInteger>(_ text: String, _ fail: (String) -> Failure) throws(Failure) -> Value
    {
        guard let value = Value(text) else { throw fail("\"\(text)\" is not a number from 0 to \(Value.max)") }
        return value
    }

    /// `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`.
    private func endpoint(_ text: String, _ fail: (String) -> Failure) throws(Failure) -> (IPAddress, UInt16?) {
        if let plain = IPAddress(text) { return (plain, nil) }
        guard let colon = text.lastIndex(of: ":") else {
            throw fail("\"\(text)\" is not an address: write it like 10.0.0.1 or fd00::1")
        }
        let head = text[..<colon].filter { $0 != "[" && $0 != "]" }
        return (try address(head, fail), try number(String(text[text.index(after: colon)...]), fail))
    }

    /// The frame, once Ethernet addresses and source are known.
    public func frame(etherSource: MACAddress, etherDestination: MACAddress, source: IPAddress) -> [UInt8] {
        let header = source.family == .ipv4 ? 20 : 40
        var frame: [UInt8]
        switch kind {
        case .arp:
            guard let sender = source.v4, let target = destination.v4 else { return [] }
            frame = Frame.arp(
                operation: 1, sender: (etherSource, sender), target: (.zero, target), etherDestination: .broadcast)
        case .icmp:
            frame = Frame.icmp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                type: source.family == .ipv4 ? ICMP.echoRequest : ICMPv6.echoRequest, code: 0, rest: 0x0001_0001,
                data: [UInt8](repeating: 0, count: max(0, length - header - 8)), ttl: ttl)
        case .udp:
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: sourcePort, destinationPort: destinationPort, ttl: ttl,
                data: [UInt8](repeating: 0, count: max(0, length - header - 8)))
        case .dhcp:
            let message = DHCPMessage(.discover, isRequest: true, transaction: 1, mac: etherSource)
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: sourcePort, destinationPort: destinationPort, ttl: ttl, data: message.encoded([]))
        case .dhcpv6:
            var message = DHCPv6Message(.solicit, transaction: 1)
            message.options[DHCPv6Message.Option.client] = DHCPv6Message.identifier(etherSource)
            message.associations = [.init(id: 1)]
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination,
                source: source.v6?.isUnspecified == true ? IPAddress(.linkLocal(for: etherSource)) : source,
                destination: destination, sourcePort: sourcePort, destinationPort: destinationPort, ttl: ttl,
                data: message.encoded())
        case .dns:
            frame = Frame.udp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: sourcePort, destinationPort: destinationPort, ttl: ttl, data: question?.encoded() ?? [])
        case .routerSolicitation:
            frame = Frame.icmp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                type: ICMPv6.routerSolicitation, code: 0, data: [], ttl: ttl)
        case .join, .leave:
            frame = Frame.groupReport(from: etherSource, source, group: destination, isJoin: kind == .join)
        case .tcp:
            frame = Frame.tcp(
                etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
                sourcePort: sourcePort, destinationPort: destinationPort, ttl: ttl,
                data: [UInt8](repeating: 0, count: max(0, length - header - 20)))
        }
        if ![.arp, .join, .leave].contains(kind), source.family == .ipv4 {
            // Hosts say "don't fragment" with nearly all they send (RFC 1191).
            frame[20] |= 0x40
            let sum = UInt16(frame[24]) << 8 | UInt16(frame[25])
            frame.put16(InternetChecksum.update(sum, replacing: 0, with: 0x4000), at: 24)
        }
        return vlan == 0 ? frame : Frame.tagged(frame, vlan: vlan)
    }
}
