// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a packet is to its connection. Looked up only when a rule asks; from then on the flow is that of one connection.
extension Simulator {
    mutating func connectionClass(_ place: FilterPlace) -> ConnectionClass {
        verdict.mask.includeSource(prefix: 128)
        verdict.mask.includeDestination(prefix: 128)
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        let isV6 = key.etherType == EtherType.ipv6
        if key.ipFragment == FragmentKind.later { return fragmentClass(place) }
        if key.ipProtocol == (isV6 ? IPProtocol.icmpv6 : IPProtocol.icmp) {
            verdict.mask.include(.sourcePort)
            verdict.mask.include(.destinationPort)
            let type = UInt8(truncatingIfNeeded: key.sourcePort)
            if Self.isError(type, isV6) { return errorClass(place) }
            // Neighbor discovery and the like has no connections.
            guard let ports = Self.queryPorts(type, isV6) else { return .new }
            var query = tuple(withPorts: false)
            (query.sourcePort, query.destinationPort) = ports
            return classify(query, place, mayBegin: ports.0 != 0)
        }
        if hasPorts {
            verdict.mask.include(.sourcePort)
            verdict.mask.include(.destinationPort)
        }
        return classify(tuple(withPorts: hasPorts), place, mayBegin: true)
    }

    private mutating func tuple(withPorts: Bool) -> ConnectionTuple {
        ConnectionTuple(
            source: key.ipSource, destination: key.ipDestination, sourcePort: withPorts ? key.sourcePort : 0,
            destinationPort: withPorts ? key.destinationPort : 0, ipProtocol: key.ipProtocol)
    }

    private mutating func classify(
        _ tuple: ConnectionTuple, _ place: FilterPlace, mayBegin: Bool
    ) -> ConnectionClass {
        for use in verdict.connections where use.zone == place.device && use.tuple == tuple {
            return use.isNew ? .new : use.isReturn ? .establishedReturn : .established
        }
        // What somebody further out sends straight back comes by as an answer would, as long as no port tells otherwise.
        for use in verdict.connections where use.zone == place.device && use.isNew && use.tuple.reversed == tuple {
            if isTracing { noteState("established, return", tuple, place) }
            return .establishedReturn
        }
        for use in answered where use.zone == place.device && use.tuple.reversed == tuple {
            return use.isReturn ? .established : .establishedReturn
        }
        verdict.ownTags.append(.connection(tuple, zone: place.device))
        readFlags()
        if let match = state.connection(tuple, zone: place.device, flags: key.tcpFlags) {
            verdict.connections.append(
                ConnectionUse(zone: place.device, tuple: tuple, isNew: false, isReturn: match.isReturn))
            if isTracing { noteState(match.isReturn ? "established, return" : "established", tuple, place) }
            return match.isReturn ? .establishedReturn : .established
        }
        var begins = mayBegin
        if !isOpening { verdict.missed.append(.connection(tuple, zone: place.device)) }
        if tuple.ipProtocol == IPProtocol.tcp {
            // A reset begins nothing. Other segments may: their connection may be older than what this host knows.
            verdict.mask.bits.words[9] |= 0x04 << 48
            if key.tcpFlags & 0x04 != 0 { begins = false }
        }
        if isTracing { noteState(begins ? "new" : "invalid", tuple, place) }
        guard begins else { return .invalid }
        verdict.connections.append(ConnectionUse(zone: place.device, tuple: tuple, isNew: true, isReturn: false))
        return .new
    }

    /// Whether the packet opens a connection for certain, so that nobody can know it yet.
    var isOpening: Bool { key.ipProtocol == IPProtocol.tcp && key.tcpFlags & 0x12 == 0x02 }

    /// Reads what says whether a segment begins a connection: a SYN without ACK does, on ports whose last one is over, and a
    /// reset does not. All segments behind the first have ACK, so that one flow holds them.
    mutating func readFlags() {
        guard key.ipProtocol == IPProtocol.tcp else { return }
        verdict.mask.bits.words[9] |= 0x10 << 48
        if key.tcpFlags & 0x10 == 0 { verdict.mask.bits.words[9] |= 0x06 << 48 }
    }

    /// Later fragments have no ports: they belong to some connection of the two, if there is one. Without its first fragment,
    /// which is asked in full, a packet is worth nothing to whoever gets the rest.
    private mutating func fragmentClass(_ place: FilterPlace) -> ConnectionClass {
        let pair = tuple(withPorts: false)
        verdict.ownTags.append(.connection(pair, zone: place.device))
        let isKnown = state.hasConnections(pair, zone: place.device)
        if isTracing { noteState(isKnown ? "established, by its fragment" : "invalid fragment", pair, place) }
        return isKnown ? .established : .invalid
    }

    /// An error belongs to the connection of the packet that it quotes, and goes the other way.
    private mutating func errorClass(_ place: FilterPlace) -> ConnectionClass {
        verdict.isCacheable = false
        guard let packet = quoted else { return .invalid }
        for use in answered where use.zone == place.device && use.tuple == packet {
            return use.isReturn ? .related : .relatedReturn
        }
        guard let match = state.connection(packet, zone: place.device, flags: 0) else {
            return .invalid
        }
        if isTracing { noteState("related", packet, place) }
        return match.isReturn ? .related : .relatedReturn
    }

    private mutating func noteState(_ text: String, _ tuple: ConnectionTuple, _ place: FilterPlace) {
        // What a device made came in by no port.
        let port = fabric.ports[Int(place.inPort >= 0 ? place.inPort : place.outPort)]
        let name = port.isRouter ? fabric.routerPaths[Int(port.device)] : fabric.bridgePaths[Int(port.device)]
        noteDevice("state", name, "\(text): \(tuple)")
    }

    /// Reads what an ICMP packet in hand asks or quotes.
    mutating func readQuery(_ packet: borrowing SimulatedPacket) {
        let isV6 = key.etherType == EtherType.ipv6
        let type = UInt8(truncatingIfNeeded: key.sourcePort)
        if Self.isError(type, isV6) {
            if let found = Self.quotedTuple(packet, isV6) { (quoted, queryID) = found }
            return
        }
        let at = Int(packet.layout.transport) + 4
        guard packet.layout.transport != 0, packet.bytes.byteCount >= at + 2, Self.queryPorts(type, isV6) != nil else {
            return
        }
        queryID =
            UInt16(packet.bytes.unsafeLoad(fromByteOffset: at, as: UInt8.self)) << 8
            | UInt16(packet.bytes.unsafeLoad(fromByteOffset: at + 1, as: UInt8.self))
    }

    /// The packet that an ICMP error in hand quotes, as it says itself, and its identifier if it is an ICMP query.
    private static func quotedTuple(
        _ packet: borrowing SimulatedPacket, _ isV6: Bool
    ) -> (ConnectionTuple, UInt16?)? {
        let start = Int(packet.layout.transport) + 8
        let count = packet.bytes.byteCount
        guard packet.layout.transport != 0, count > start else { return nil }
        func byte(_ offset: Int) -> UInt8 { packet.bytes.unsafeLoad(fromByteOffset: start + offset, as: UInt8.self) }
        func word(_ offset: Int) -> UInt64 {
            (0..<8).reduce(UInt64(0)) { $0 << 8 | UInt64(byte(offset + $1)) }
        }
        func half(_ offset: Int) -> UInt16 { UInt16(byte(offset)) << 8 | UInt16(byte(offset + 1)) }
        let source: IPAddress
        let destination: IPAddress
        let ipProtocol: UInt8
        let transport: Int
        if isV6 {
            guard count >= start + 40, byte(0) >> 4 == 6 else { return nil }
            source = IPAddress(high: word(8), low: word(16), family: .ipv6)
            destination = IPAddress(high: word(24), low: word(32), family: .ipv6)
            ipProtocol = byte(6)
            transport = 40
        } else {
            guard count >= start + 20, byte(0) >> 4 == 4, byte(0) & 0xf >= 5 else { return nil }
            source = IPAddress(IPv4Address(bits: UInt32(truncatingIfNeeded: word(12) >> 32)))
            destination = IPAddress(IPv4Address(bits: UInt32(truncatingIfNeeded: word(16) >> 32)))
            ipProtocol = byte(9)
            transport = Int(byte(0) & 0xf) * 4
            // Of a later fragment there is no transport header.
            guard half(6) & 0x1fff == 0 else { return nil }
        }
        var ports: (UInt16, UInt16) = (0, 0)
        var id: UInt16?
        switch ipProtocol {
        case IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp:
            guard count >= start + transport + 4 else { return nil }
            ports = (half(transport), half(transport + 2))
        case IPProtocol.icmp, IPProtocol.icmpv6:
            guard count > start + transport, let known = queryPorts(byte(transport), isV6) else { return nil }
            ports = known
            if count >= start + transport + 6 { id = half(transport + 4) }
        default: break
        }
        let tuple = ConnectionTuple(
            source: source, destination: destination, sourcePort: ports.0, destinationPort: ports.1,
            ipProtocol: ipProtocol)
        return (tuple, id)
    }

    static func isError(_ type: UInt8, _ isV6: Bool) -> Bool {
        if isV6 { return type < 128 }
        return [ICMP.unreachable, ICMP.sourceQuench, ICMP.redirect, ICMP.timeExceeded, ICMP.parameterProblem].contains(
            type)
    }

    /// What stands for ports where somebody asks and another answers (RFC 792, 4443): the type of the question, on the side of
    /// who asked. So the answer belongs to the question, and a question the other way does not.
    static func queryPorts(_ type: UInt8, _ isV6: Bool) -> (UInt16, UInt16)? {
        switch (type, isV6) {
        case (ICMP.echoRequest, false), (ICMP.timestampRequest, false), (ICMPv6.echoRequest, true): (UInt16(type), 0)
        case (ICMP.echoReply, false): (0, UInt16(ICMP.echoRequest))
        case (ICMP.timestampReply, false): (0, UInt16(ICMP.timestampRequest))
        case (ICMPv6.echoReply, true): (0, UInt16(ICMPv6.echoRequest))
        default: nil
        }
    }
}

extension ConnectionTuple: CustomStringConvertible {
    /// As in `tcp 10.0.0.1:1025 > 10.0.0.2:80`.
    public var description: String {
        let name = IPProtocol.name(of: ipProtocol)
        let isQuery = ipProtocol == IPProtocol.icmp || ipProtocol == IPProtocol.icmpv6
        // Translators tell queries apart by their identifier.
        let id =
            !isQuery
            ? nil
            : destinationPort & TranslationForm.query != 0
                ? sourcePort : sourcePort & TranslationForm.query != 0 ? destinationPort : nil
        if let id { return "\(name) \(source) > \(destination) id \(id)" }
        if isQuery || sourcePort == 0 && destinationPort == 0 { return "\(name) \(source) > \(destination)" }
        func place(_ address: IPAddress, _ port: UInt16) -> String {
            address.family == .ipv6 ? "[\(address)]:\(port)" : "\(address):\(port)"
        }
        return "\(name) \(place(source, sourcePort)) > \(place(destination, destinationPort))"
    }
}
