// SPDX-License-Identifier: Apache-2.0
import Wire

/// What routers say themselves: errors (RFC 792, 1812 section 4.3, 4443) and answers at their own addresses.
extension Simulator {
    mutating func prohibit(at index: Int32, _ packet: borrowing SimulatedPacket) {
        sendError(v4: (ICMP.unreachable, 13), v6: (ICMPv6.unreachable, 1), rest: 0, from: index, packet)
    }

    mutating func unreachable(v4Code: UInt8, v6Code: UInt8, at index: Int32, _ packet: borrowing SimulatedPacket) {
        sendError(v4: (ICMP.unreachable, v4Code), v6: (ICMPv6.unreachable, v6Code), rest: 0, from: index, packet)
    }

    mutating func timeExceeded(at index: Int32, _ packet: borrowing SimulatedPacket) {
        sendError(v4: (ICMP.timeExceeded, 0), v6: (ICMPv6.timeExceeded, 0), rest: 0, from: index, packet)
    }

    /// Whether a packet that does not fit is answered, rather than left to the tunnel to fragment.
    mutating func answersTooBig(_ packet: borrowing SimulatedPacket) -> Bool {
        switch key.etherType {
        case EtherType.ipv6: return layout.networkLength > 0
        case EtherType.ipv4:
            let at = Int(layout.network) + 6
            guard layout.networkLength > 0, packet.bytes.byteCount > at else { return false }
            return packet.bytes.unsafeLoad(fromByteOffset: at, as: UInt8.self) & 0x40 != 0
        default: return false
        }
    }

    /// Answers that a packet is too big for the way on. Behind a router the router says so; where the packet was only
    /// switched there is none, so the answer comes in the name of the destination, as Linux's own tunnels do it.
    mutating func tooBig(mtu: Int, at port: Int32, _ packet: borrowing SimulatedPacket) {
        drop(.tooBig, at: port)
        if isTracing { note("icmp", Int(port), "too big: the path takes \(mtu) bytes") }
        sendErrorBack(v4: (ICMP.unreachable, 4), v6: (ICMPv6.packetTooBig, 0), rest: UInt32(mtu), packet)
    }

    /// Sends an error from behind the last router, or where there is none in the name of the destination.
    private mutating func sendErrorBack(
        v4: (type: UInt8, code: UInt8), v6: (type: UInt8, code: UInt8), rest: UInt32,
        _ packet: borrowing SimulatedPacket
    ) {
        if lastRouterPort >= 0 {
            return sendError(v4: v4, v6: v6, rest: rest, from: lastRouterPort, packet)
        }
        verdict.isCacheable = false
        guard !isFlooding, deservesError(packet), ingressPort >= 0 else { return }
        let message = original.etherType == EtherType.ipv6 ? v6 : v4
        let frame = Frame.icmp(
            etherSource: original.etherDestination, etherDestination: original.etherSource,
            source: original.ipDestination, destination: original.ipSource, type: message.type, code: message.code,
            rest: rest, data: quote(packet, ttl: original.ipTTL))
        if isTracing {
            note("icmp", Int(ingressPort), "type \(message.type) code \(message.code) to \(original.ipSource)")
        }
        sendBack(frame, .error)
    }

    /// Makes the header what the last router got.
    private mutating func returnToLastRouter() { (key, queryID) = (arrivalKey, arrivalID) }

    /// Sends a frame out of the port by which the packet came in, with its tag.
    private mutating func sendBack(_ frame: [UInt8], _ kind: GeneratedPacket.Kind) {
        let tag = original.vlanTCI & 0x0fff
        verdict.packets.append(
            GeneratedPacket(
                frame: original.hasVLAN && tag != 0 ? Frame.tagged(frame, vlan: tag) : frame,
                port: PortIndex(ingressPort), kind: kind))
    }

    /// Tells the sender that a rule does not let its packet on: a reset for TCP, else "administratively prohibited".
    ///
    /// - Parameter index: the port where the packet was stopped.
    mutating func reject(at index: Int32, _ place: FilterPlace, _ packet: borrowing SimulatedPacket) {
        verdict.isCacheable = false
        guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6 else { return }
        let isRouter = fabric.ports[Int(index)].isRouter && index == place.inPort
        let isTCP = key.ipProtocol == IPProtocol.tcp && key.ipFragment != FragmentKind.later
        guard isTCP else {
            if isRouter { return prohibit(at: index, packet) }
            return sendErrorBack(v4: (ICMP.unreachable, 13), v6: (ICMPv6.unreachable, 1), rest: 0, packet)
        }
        guard !isFlooding, deservesError(packet) else { return }
        if isRouter || lastRouterPort >= 0 {
            returnToLastRouter()
            let from = isRouter ? index : lastRouterPort
            guard
                let frame = resetFrame(
                    key, from: fabric.ports[Int(from)].mac, to: key.etherSource, packet)
            else { return }
            if isTracing { note("tcp", Int(from), "reset to \(key.ipSource)") }
            return answer(frame, from: from, isRouted: true)
        }
        guard ingressPort >= 0,
            let frame = resetFrame(original, from: original.etherDestination, to: original.etherSource, packet)
        else { return }
        if isTracing { note("tcp", Int(ingressPort), "reset to \(original.ipSource)") }
        sendBack(frame, .answer)
    }

    /// Sends an error to the packet's source, out of the port by which it came into the router.
    private mutating func sendError(
        v4: (type: UInt8, code: UInt8), v6: (type: UInt8, code: UInt8), rest: UInt32, from index: Int32,
        _ packet: borrowing SimulatedPacket
    ) {
        // Each such packet gets its own answer, within the limits that the caller keeps.
        verdict.isCacheable = false
        returnToLastRouter()
        let isV6 = key.etherType == EtherType.ipv6
        // "Packet too big" is the one error that multicast gets too (RFC 4443 section 2.4 e.3); we route none.
        guard !isFlooding, deservesError(packet), let source = errorSource(index, isV6 ? .ipv6 : .ipv4) else { return }
        let port = fabric.ports[Int(index)]
        let message = isV6 ? v6 : v4
        if isTracing {
            note("icmp", Int(index), "type \(message.type) code \(message.code) to \(key.ipSource), from \(source)")
        }
        let frame = Frame.icmp(
            etherSource: port.mac, etherDestination: key.etherSource, source: source, destination: key.ipSource,
            type: message.type, code: message.code, rest: rest, data: quote(packet, ttl: key.ipTTL))
        verdict.packets.append(GeneratedPacket(frame: frame, port: PortIndex(index), kind: .error, isRouted: true))
    }

    /// The cases in which silence is right (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
    private mutating func deservesError(_ packet: borrowing SimulatedPacket) -> Bool {
        guard layout.networkLength > 0, packet.bytes.byteCount > Int(layout.network) else { return false }
        if original.etherDestination.isGroup || key.etherSource.isGroup { return false }
        if key.ipFragment == FragmentKind.later { return false }
        let source = key.ipSource
        let destination = key.ipDestination
        if source.isMulticast || destination.isMulticast || (source.high | source.low) == 0 { return false }
        if let v4 = destination.v4, v4.isBroadcast { return false }
        if key.etherType == EtherType.ipv4, key.ipProtocol == IPProtocol.icmp {
            switch UInt8(truncatingIfNeeded: key.sourcePort) {
            case ICMP.unreachable, ICMP.sourceQuench, ICMP.redirect, ICMP.timeExceeded, ICMP.parameterProblem:
                return false
            default: return layout.transport != 0
            }
        }
        if key.etherType == EtherType.ipv6, key.ipProtocol == IPProtocol.icmpv6 {
            // Errors are types below 128; a redirect (137) is treated as one.
            return layout.transport != 0 && key.sourcePort >= 128 && key.sourcePort != 137
        }
        return true
    }

    private mutating func errorSource(_ index: Int32, _ family: AddressFamily) -> IPAddress? {
        let port = fabric.ports[Int(index)]
        let own = fabric.addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)]
        if let near = own.first(where: { $0.network.contains(key.ipSource) }) { return near.address }
        if let any = own.first(where: { $0.address.family == family }) { return any.address }
        return family == .ipv6 ? IPAddress(IPv6Address.linkLocal(for: port.mac)) : nil
    }

    /// The beginning of the packet as the router got it, for the error to quote.
    private mutating func quote(_ packet: borrowing SimulatedPacket, ttl: UInt8) -> [UInt8] {
        let start = Int(layout.network)
        let isV6 = key.etherType == EtherType.ipv6
        let bound = isV6 ? SimulationLimits.quotedIPv6 : SimulationLimits.quotedIPv4
        let count = min(packet.bytes.byteCount - start, layout.networkLength, bound)
        guard count >= 20 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        for index in 0..<count { bytes[index] = packet.bytes.unsafeLoad(fromByteOffset: start + index, as: UInt8.self) }
        // As translated on its way here.
        let identity = EmbeddedPacket.Identity(
            source: key.ipSource, destination: key.ipDestination,
            ports: hasPorts ? (key.sourcePort, key.destinationPort) : nil, queryID: queryID)
        bytes.withUnsafeMutableBytes { bytes in
            let embedded = EmbeddedPacket(bytes, from: 0, to: count)
            embedded.write(ttl: ttl)
            embedded.write(identity)
        }
        return bytes
    }

    // MARK: - At a router's own address

    mutating func deliverToRouter(_ index: Int32, _ destination: IPAddress, _ packet: borrowing SimulatedPacket) {
        verdict.isCacheable = false
        if isTracing {
            noteDevice(
                "router", fabric.routerPaths[Int(fabric.ports[Int(index)].device)], "\(destination) is the router's own"
            )
        }
        var destination = destination
        if key.ipDestination != arrivalKey.ipDestination {
            // It answers by the address that it was asked at.
            returnToLastRouter()
            destination = key.ipDestination
        }
        let port = fabric.ports[Int(index)]
        if index == ingressPort, port.companion >= 0, !port.isDaemon,
            key.etherType == EtherType.ipv6 ? key.ipProtocol == IPProtocol.icmpv6 : key.ipProtocol == IPProtocol.icmp,
            owns(port, destination)
        {
            return hand(to: port, "is for the port itself")
        }
        // Reassembly is for hosts: a router's own address does not answer fragments.
        guard key.ipFragment == FragmentKind.none, layout.transport != 0 else { return drop(.consumed, at: index) }
        let isV6 = key.etherType == EtherType.ipv6
        switch (key.ipProtocol, UInt8(truncatingIfNeeded: key.sourcePort)) {
        case (IPProtocol.icmp, ICMP.echoRequest) where !isV6:
            answerEcho(ICMP.echoReply, index, destination, packet)
        case (IPProtocol.icmpv6, ICMPv6.echoRequest) where isV6:
            answerEcho(ICMPv6.echoReply, index, destination, packet)
        case (IPProtocol.icmp, _), (IPProtocol.icmpv6, _): drop(.consumed, at: index)
        case (IPProtocol.tcp, _): reset(index, destination, packet)
        case (IPProtocol.udp, _):
            drop(.consumed, at: index)
            unreachable(v4Code: 3, v6Code: 4, at: index, packet)
        default:
            drop(.consumed, at: index)
            sendError(v4: (ICMP.unreachable, 2), v6: (4, 1), rest: isV6 ? 6 : 0, from: index, packet)
        }
    }

    private mutating func answerEcho(
        _ type: UInt8, _ index: Int32, _ destination: IPAddress, _ packet: borrowing SimulatedPacket
    ) {
        let start = Int(layout.transport)
        let end = min(packet.bytes.byteCount, Int(layout.network) + layout.networkLength)
        guard end >= start + 8 else { return drop(.malformed, at: index) }
        var rest: UInt32 = 0
        for offset in 4..<8 {
            rest = rest << 8 | UInt32(packet.bytes.unsafeLoad(fromByteOffset: start + offset, as: UInt8.self))
        }
        var data = [UInt8](repeating: 0, count: end - start - 8)
        for offset in 0..<data.count {
            data[offset] = packet.bytes.unsafeLoad(fromByteOffset: start + 8 + offset, as: UInt8.self)
        }
        if isTracing { note("icmp", Int(index), "echo reply from \(destination)") }
        answer(
            Frame.icmp(
                etherSource: fabric.ports[Int(index)].mac, etherDestination: key.etherSource, source: destination,
                destination: key.ipSource, type: type, code: 0, rest: rest, data: data),
            from: index, isRouted: true)
    }

    /// No service listens at a router's address: a connection attempt is refused (RFC 9293 section 3.10.7.1).
    private mutating func reset(_ index: Int32, _ destination: IPAddress, _ packet: borrowing SimulatedPacket) {
        drop(.consumed, at: index)
        guard let frame = resetFrame(key, from: fabric.ports[Int(index)].mac, to: key.etherSource, packet) else {
            return
        }
        if isTracing { note("tcp", Int(index), "refused: nothing listens at \(destination)") }
        answer(frame, from: index, isRouted: true)
    }

    /// A reset that answers a segment; `nil` for what gets none.
    private mutating func resetFrame(
        _ key: FlowKey, from: MACAddress, to: MACAddress, _ packet: borrowing SimulatedPacket
    ) -> [UInt8]? {
        let flags = key.tcpFlags
        let start = Int(layout.transport)
        guard flags & 0x04 == 0, start != 0, packet.bytes.byteCount >= start + 20 else { return nil }
        func word(_ offset: Int) -> UInt32 {
            UInt32(bigEndian: packet.bytes.unsafeLoadUnaligned(fromByteOffset: start + offset, as: UInt32.self))
        }
        let header = Int(packet.bytes.unsafeLoad(fromByteOffset: start + 12, as: UInt8.self) >> 4) * 4
        let end = min(packet.bytes.byteCount, Int(layout.network) + layout.networkLength)
        let dataLength = max(0, end - start - header)
        let hasACK = flags & 0x10 != 0
        let segmentLength = UInt32(
            truncatingIfNeeded: dataLength + (flags & 0x02 != 0 ? 1 : 0) + (flags & 0x01 != 0 ? 1 : 0))
        return Frame.tcp(
            etherSource: from, etherDestination: to, source: key.ipDestination, destination: key.ipSource,
            sourcePort: key.destinationPort, destinationPort: key.sourcePort,
            sequence: hasACK ? word(8) : 0, acknowledgement: hasACK ? 0 : word(4) &+ segmentLength,
            flags: hasACK ? 0x04 : 0x14)
    }
}
