// SPDX-License-Identifier: Apache-2.0

/// Whole frames that Selvage itself makes: answers, probes and errors. The slow path only; each is an array of its own.
public enum Frame {
    /// An untagged Ethernet frame.
    public static func ethernet(
        from source: MACAddress, to destination: MACAddress, type: UInt16, payload: some Collection<UInt8>
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(14 + payload.count)
        bytes.append(mac: destination)
        bytes.append(mac: source)
        bytes.append(network: type)
        bytes.append(contentsOf: payload)
        return bytes
    }

    /// An ARP packet for Ethernet and IPv4 (RFC 826).
    ///
    /// - Parameters:
    ///   - operation: 1 request, 2 reply.
    ///   - etherDestination: where the frame goes; the target's MAC unless said.
    public static func arp(
        operation: UInt16, sender: (mac: MACAddress, ip: IPv4Address), target: (mac: MACAddress, ip: IPv4Address),
        etherDestination: MACAddress? = nil
    ) -> [UInt8] {
        var body: [UInt8] = []
        body.append(network: UInt16(1))
        body.append(network: EtherType.ipv4)
        body.append(network: UInt16(0x0604))
        body.append(network: operation)
        body.append(mac: sender.mac)
        body.append(network: sender.ip.bits)
        body.append(mac: target.mac)
        body.append(network: target.ip.bits)
        return ethernet(from: sender.mac, to: etherDestination ?? target.mac, type: EtherType.arp, payload: body)
    }

    /// A reverse ARP request (RFC 903) of a station that asks for nothing but to be noticed by switches.
    ///
    /// - Parameter vlan: the tag that it has; 0: none.
    public static func reverseARP(for station: MACAddress, vlan: UInt16 = 0) -> [UInt8] {
        var body: [UInt8] = []
        if vlan != 0 {
            body.append(network: vlan)
            body.append(network: EtherType.reverseARP)
        }
        body.append(network: UInt16(1))
        body.append(network: EtherType.ipv4)
        body.append(network: UInt16(0x0604))
        body.append(network: UInt16(3))
        for _ in 0..<2 {
            body.append(mac: station)
            body.append(network: UInt32(0))
        }
        // The shortest frame that Ethernet has, less its checksum.
        body += [UInt8](repeating: 0, count: max(0, 46 - body.count))
        return ethernet(
            from: station, to: .broadcast, type: vlan == 0 ? EtherType.reverseARP : EtherType.vlan, payload: body)
    }

    /// An IPv4 or IPv6 packet in an Ethernet frame, header checksum filled in, "don't fragment" clear.
    public static func ip(
        etherSource: MACAddress, etherDestination: MACAddress, source: IPAddress, destination: IPAddress,
        ipProtocol: UInt8, ttl: UInt8 = 64, tos: UInt8 = 0, payload: [UInt8]
    ) -> [UInt8] {
        var header: [UInt8] = []
        header.reserveCapacity(40 + payload.count)
        if let source = source.v4, let destination = destination.v4 {
            header += [0x45, tos]
            header.append(network: UInt16(truncatingIfNeeded: 20 + payload.count))
            header += [0, 0, 0, 0, ttl, ipProtocol, 0, 0]
            header.append(network: source.bits)
            header.append(network: destination.bits)
            header.put16(header.withUnsafeBytes { InternetChecksum.of($0) }, at: 10)
        } else {
            header.append(network: UInt32(6) << 28 | UInt32(tos) << 20)
            header.append(network: UInt16(truncatingIfNeeded: payload.count))
            header += [ipProtocol, ttl]
            header.append(network: source.high)
            header.append(network: source.low)
            header.append(network: destination.high)
            header.append(network: destination.low)
        }
        header += payload
        return ethernet(
            from: etherSource, to: etherDestination, type: source.family == .ipv4 ? EtherType.ipv4 : EtherType.ipv6,
            payload: header)
    }

    /// An ICMP or ICMPv6 message in a frame, its checksum filled in.
    ///
    /// - Parameters:
    ///   - rest: the four bytes after the checksum.
    ///   - data: what follows them.
    public static func icmp(
        etherSource: MACAddress, etherDestination: MACAddress, source: IPAddress, destination: IPAddress,
        type: UInt8, code: UInt8, rest: UInt32 = 0, data: some Collection<UInt8>, ttl: UInt8 = 64
    ) -> [UInt8] {
        var message: [UInt8] = [type, code, 0, 0]
        message.append(network: rest)
        message.append(contentsOf: data)
        let isV6 = source.family == .ipv6
        var sum =
            isV6
            ? InternetChecksum.pseudoHeader(
                source: source, destination: destination, ipProtocol: IPProtocol.icmpv6, length: message.count)
            : InternetChecksum()
        message.withUnsafeBytes { sum.add($0) }
        message.put16(sum.value, at: 2)
        return ip(
            etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
            ipProtocol: isV6 ? IPProtocol.icmpv6 : IPProtocol.icmp, ttl: ttl, payload: message)
    }

    /// A UDP datagram in a frame, its checksum filled in.
    public static func udp(
        etherSource: MACAddress, etherDestination: MACAddress, source: IPAddress, destination: IPAddress,
        sourcePort: UInt16, destinationPort: UInt16, ttl: UInt8 = 64, tos: UInt8 = 0, data: some Collection<UInt8>
    ) -> [UInt8] {
        var datagram: [UInt8] = []
        datagram.append(network: sourcePort)
        datagram.append(network: destinationPort)
        datagram.append(network: UInt16(truncatingIfNeeded: 8 + data.count))
        datagram += [0, 0]
        datagram.append(contentsOf: data)
        var sum = InternetChecksum.pseudoHeader(
            source: source, destination: destination, ipProtocol: IPProtocol.udp, length: datagram.count)
        datagram.withUnsafeBytes { sum.add($0) }
        datagram.put16(sum.value == 0 ? 0xffff : sum.value, at: 6)
        return ip(
            etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
            ipProtocol: IPProtocol.udp, ttl: ttl, tos: tos, payload: datagram)
    }

    /// A TCP segment without options in a frame, its checksum filled in.
    public static func tcp(
        etherSource: MACAddress, etherDestination: MACAddress, source: IPAddress, destination: IPAddress,
        sourcePort: UInt16, destinationPort: UInt16, sequence: UInt32 = 1, acknowledgement: UInt32 = 0,
        flags: UInt8 = 0x02, ttl: UInt8 = 64, tos: UInt8 = 0,
        data: some Collection<UInt8> = []
    ) -> [UInt8] {
        var segment: [UInt8] = []
        segment.append(network: sourcePort)
        segment.append(network: destinationPort)
        segment.append(network: sequence)
        segment.append(network: acknowledgement)
        segment += [0x50, flags]
        segment.append(network: UInt16(0xffff))
        segment.append(network: UInt32(0))
        segment.append(contentsOf: data)
        var sum = InternetChecksum.pseudoHeader(
            source: source, destination: destination, ipProtocol: IPProtocol.tcp, length: segment.count)
        segment.withUnsafeBytes { sum.add($0) }
        segment.put16(sum.value, at: 16)
        return ip(
            etherSource: etherSource, etherDestination: etherDestination, source: source, destination: destination,
            ipProtocol: IPProtocol.tcp, ttl: ttl, tos: tos, payload: segment)
    }

    /// A frame with an 802.1Q tag put in front of its type.
    public static func tagged(_ frame: [UInt8], vlan: UInt16, tpid: UInt16 = EtherType.vlan) -> [UInt8] {
        precondition(frame.count >= 14, "not a frame")
        var bytes = Array(frame[..<12])
        bytes.append(network: tpid)
        bytes.append(network: vlan)
        bytes += frame[12...]
        return bytes
    }
}
