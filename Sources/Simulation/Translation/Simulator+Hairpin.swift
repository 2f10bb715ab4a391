// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Connections that a router redirects to a machine in the network of who asks. The machine sees the asker's own address, so
/// that its answer goes straight there, and would say another source than was asked: their bridge takes it to the router.
///
/// What the asker's port becomes says so: below ``Simulator/firstFreePort``, where systems take none for what they begin, so that
/// neighbors who ask such a machine by its own name need not be noted to be told apart.
extension Simulator {
    /// What systems take for connections that they begin lies above: 32,768 for Linux, 49,152 for others (RFC 6335 section 6).
    static let firstFreePort: UInt16 = 0x8000
    /// The first port that an asker's may become.
    private static let firstPort: UInt16 = 1024

    /// Looks at a frame between two machines of a bridge: an answer that a router is to translate is addressed to that router.
    /// False when the frame ends here.
    mutating func bringAnswer(
        to routers: [Int32], _ index: Int32, _ vlan: UInt16, _ bridge: Int32, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6, isPlain(fabric.bridges[Int(bridge)])
        else { return true }
        for link in routers {
            let own = fabric.ports[Int(link)]
            let router = fabric.routers[Int(own.device)]
            verdict.tags.append(router.tag)
            guard own.attachment == .peer, own.peer != index, key.etherDestination != own.mac,
                router.translation >= 0, let view = fabric.tables.policy.translations[Int(router.translation)]
            else { continue }
            let near = fabric.ports[Int(own.peer)]
            guard near.device == bridge, !near.isRouter, near.vlan == vlan else { continue }
            let place = FilterPlace(inPort: link, outPort: link, device: router.tag)
            translating = TranslationProgress(view: router.translation)
            defer { translating = TranslationProgress() }
            guard findAnswered(view, place, packet) else { return false }
            // One that is translated to itself goes past the router as well.
            guard let match = translating.match, match.side == .reply, match.reply != match.original.reversed else {
                continue
            }
            if isTracing {
                noteTranslation("an answer to \(match.original), between neighbors: taken to the router", place)
            }
            key.etherDestination = own.mac
            written.include(.etherDestination)
            headerChanged()
            return true
        }
        return true
    }

    /// Whether the frame has no tag, or one that says a priority only, as routers take them.
    private mutating func isPlain(_ bridge: BridgeRecord) -> Bool {
        if bridge.isVLANAware || !key.hasVLAN { return isBare(bridge) }
        verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
        verdict.mask.include(.innerVLANTPID)
        return key.vlanTCI & 0x0fff == 0 && key.innerVLANTPID == 0
    }

    /// Finds the connection that the packet answers, if machines are asked so that have its source. False when it ends here.
    private mutating func findAnswered(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        let (isMember, bits) = view.pointee.redirected.holds(key.ipSource)
        verdict.mask.includeSource(prefix: isMember ? 128 : rounded(bits, key.ipSource.family.width))
        guard isMember else { return true }
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        if key.ipFragment == FragmentKind.later {
            _ = lookUpFragment(place, packet)
            return true
        }
        if isICMP {
            verdict.mask.include(.sourcePort)
            if Self.isError(UInt8(truncatingIfNeeded: key.sourcePort), key.etherType == EtherType.ipv6) {
                findQuoted(view, place)
            }
            return true
        }
        guard hasPorts else { return true }
        verdict.mask.include(.sourcePort)
        guard view.pointee.mayBeTarget(key.ipSource, key.sourcePort, key.ipProtocol) else { return true }
        var half = FlowKey()
        half.destinationPort = Self.firstFreePort
        verdict.mask.bits.words[15] |= half.words[15]
        guard key.destinationPort < Self.firstFreePort else { return true }
        return lookUp(place, packet)
    }

    /// Finds the connection of a packet that such a machine sends an error about.
    private mutating func findQuoted(_ view: UnsafePointer<TranslationView>, _ place: FilterPlace) {
        verdict.isCacheable = false
        guard let quoted, key.ipDestination == quoted.source, quoted.sourcePort < Self.firstFreePort,
            view.pointee.mayBeTarget(quoted.destination, quoted.destinationPort, quoted.ipProtocol)
        else { return }
        // Who answered it would say the reverse.
        translating.match = state.translation(quoted.reversed, zone: place.device)
        if translating.match == nil { verdict.missed.append(.translation(quoted.reversed, zone: place.device)) }
    }

    /// The port that tells the answers of a machine to its neighbor apart, where their bridge is sure to see them; `nil`: it is to
    /// see the router.
    mutating func neighborPort(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ tuple: ConnectionTuple,
        of original: ConnectionTuple, toward next: IPAddress
    ) -> UInt16? {
        guard view.pointee.isTarget(tuple.destination, tuple.destinationPort, tuple.ipProtocol),
            bringsAnswers(place, tuple, toward: next)
        else { return nil }
        let near = fabric.ports[Int(fabric.ports[Int(place.outPort)].peer)]
        let others = (fabric.tables.hairpins[near.device] ?? []).map {
            fabric.routers[Int(fabric.ports[Int($0)].device)].tag
        }
        .filter { $0 != place.device }
        let start = original.directedHash(0x4a19_0000_0031) ^ tuple.directedHash(0x4a19_0000_0033)
        let count = UInt64(Self.firstFreePort - Self.firstPort)
        for step in 0..<UInt64(16) {
            var candidate = tuple
            candidate.sourcePort = Self.firstPort + UInt16((start >> 8 &+ step &* 1811) % count)
            guard state.sourcePort(keeping: candidate, of: original, zone: place.device) == candidate.sourcePort,
                others.allSatisfy({ state.translation(candidate.reversed, zone: $0) == nil })
            else { continue }
            return candidate.sourcePort
        }
        return nil
    }

    /// Whether the bridge between a client and the machine that it is redirected to sees the answers: there is no other way between
    /// them.
    private mutating func bringsAnswers(_ place: FilterPlace, _ tuple: ConnectionTuple, toward next: IPAddress) -> Bool
    {
        let own = fabric.ports[Int(place.outPort)]
        guard place.inPort == place.outPort, own.attachment == .peer, next == tuple.destination, next != tuple.source
        else { return false }
        let near = fabric.ports[Int(own.peer)]
        guard !near.isRouter, fabric.tables.hairpins[near.device]?.contains(place.outPort) == true,
            fabric.tables.linksOfBridge[near.device] == nil
        else { return false }
        let networks = fabric.addresses[Int(own.addressStart)..<Int(own.addressStart + own.addressCount)]
        guard networks.contains(where: { $0.network.contains(tuple.source) && $0.network.contains(next) }) else {
            return false
        }
        // What is behind one port with its client answers on a way that is not ours.
        if ingressPort < 0 { return false }
        let place = whereabouts(next, own, near)
        return place >= 0 && place != ingressPort && !shareSegment(place, ingressPort)
    }

    /// The port of a bridge behind which a neighbor of a router is; -1 where that is not known.
    private mutating func whereabouts(_ address: IPAddress, _ own: PortRecord, _ near: PortRecord) -> Int32 {
        var mac: MACAddress?
        if let declared = fabric.neighbor(bridge: near.device, vlan: near.vlan, address: address) {
            mac = declared.mac
        } else if case .at(let learned) = state.neighbor(address, port: own.tag) {
            mac = learned
        }
        guard let mac else { return -1 }
        let declared = fabric.station(bridge: near.device, vlan: near.vlan, mac: mac)
        if declared >= 0 { return declared }
        let bridge = fabric.bridges[Int(near.device)].tag
        return state.port(of: mac, vlan: near.vlan, bridge: bridge).flatMap { fabric.port($0) }?.value ?? -1
    }
}
