// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Connections that a router redirects to a machine in the network of who asks. The machine sees the asker's own address, so
/// that its answer goes straight there, and would say another source than was asked: their bridge takes it to the router.
extension Simulator {
    /// Looks at a frame between two machines of a bridge: an answer that a router is to translate is addressed to that router.
    /// Who asks such a machine by its own name is noted, as routers do, so that the answers to both are told apart. False when
    /// the frame ends here.
    mutating func minds(
        _ routers: [Int32], _ index: Int32, _ vlan: UInt16, _ bridge: Int32, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6, isBare(fabric.bridges[Int(bridge)])
        else { return true }
        for link in routers {
            let own = fabric.ports[Int(link)]
            guard own.attachment == .peer, own.isEnabled else { continue }
            let near = fabric.ports[Int(own.peer)]
            guard near.device == bridge, !near.isRouter, near.isEnabled, near.vlan == vlan else { continue }
            let router = fabric.routers[Int(own.device)]
            verdict.tags.append(router.tag)
            guard router.isEnabled, router.translation >= 0, own.peer != index, key.etherDestination != own.mac,
                let view = fabric.tables.policy.translations[Int(router.translation)]
            else { continue }
            let place = FilterPlace(inPort: link, outPort: link, device: router.tag)
            translating = TranslationProgress(view: router.translation)
            defer { translating = TranslationProgress() }
            guard findAnswered(view, place, packet) else { return false }
            if let match = translating.match {
                if match.isDirect {
                    if translating.isAsked { return apply(match, place) && finish(match, place) }
                    guard translateError(view, place) else { return false }
                    finishError(view, place)
                    return true
                }
                if match.side == .original { continue }
                if isTracing {
                    noteTranslation("an answer to \(match.original), between neighbors: taken to the router", place)
                }
                key.etherDestination = own.mac
                written.include(.etherDestination)
                headerChanged()
                return true
            }
            translating = TranslationProgress(view: router.translation)
            guard noteNeighbors(view, place, packet) else { return false }
            if translating.isAsked { return true }
        }
        return true
    }

    /// Finds the connection that the packet answers, if machines are asked so that have its source. False when it ends here.
    private mutating func findAnswered(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        let (isMember, bits) = view.pointee.redirected.holds(key.ipSource)
        verdict.mask.includeSource(prefix: isMember ? 128 : rounded(bits, key.ipSource.family.width))
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        if key.ipFragment == FragmentKind.later {
            if isMember { _ = lookUpFragment(place, packet) }
            return true
        }
        if isICMP {
            verdict.mask.include(.sourcePort)
            if Self.isError(UInt8(truncatingIfNeeded: key.sourcePort), key.etherType == EtherType.ipv6) {
                findQuoted(view, place)
            }
            return true
        }
        guard isMember, hasPorts else { return true }
        verdict.mask.include(.sourcePort)
        guard view.pointee.isTarget(key.ipSource, key.sourcePort, key.ipProtocol) else { return true }
        return lookUp(place, packet)
    }

    /// Finds the connection of a packet that an error quotes, sent to such a machine or by one.
    private mutating func findQuoted(_ view: UnsafePointer<TranslationView>, _ place: FilterPlace) {
        verdict.isCacheable = false
        guard let quoted, key.ipDestination == quoted.source,
            view.pointee.isTarget(quoted.destination, quoted.destinationPort, quoted.ipProtocol)
                || view.pointee.isTarget(quoted.source, quoted.sourcePort, quoted.ipProtocol)
        else { return }
        // Who answered it would say the reverse.
        translating.match = state.translation(quoted.reversed, zone: place.device)
        if translating.match == nil { verdict.missed.append(.translation(quoted.reversed, zone: place.device)) }
    }

    /// Notes a connection between neighbors to a machine that others are redirected to. False when the packet ends here.
    private mutating func noteNeighbors(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard key.ipFragment != FragmentKind.later else { return true }
        guard noteDirect(view, place, packet) else { return false }
        if let match = translating.match { return finish(match, place) }
        return translating.isDirect ? begin(nil, view, place, toward: key.ipDestination) : true
    }

    /// Whether the bridge between a client and the machine that it is redirected to takes the answers to the router: there is
    /// no other way between them, and no other router that has a say in it.
    mutating func bringsAnswers(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ tuple: ConnectionTuple, toward next: IPAddress
    ) -> Bool {
        let own = fabric.ports[Int(place.outPort)]
        guard place.inPort == place.outPort, own.attachment == .peer, next == tuple.destination,
            view.pointee.isTarget(tuple.destination, tuple.destinationPort, tuple.ipProtocol)
        else { return false }
        let near = fabric.ports[Int(own.peer)]
        guard !near.isRouter, fabric.tables.hairpins[near.device] == [place.outPort],
            fabric.tables.linksOfBridge[near.device] == nil
        else { return false }
        let networks = fabric.addresses[Int(own.addressStart)..<Int(own.addressStart + own.addressCount)]
        guard networks.contains(where: { $0.network.contains(tuple.source) && $0.network.contains(next) }) else {
            return false
        }
        // What is behind one port with its client answers on a way that is not ours.
        return ingressPort < 0 || whereabouts(next, own, near) != ingressPort
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

extension TranslationMatch {
    /// Whether the machine was asked by its own name.
    var isDirect: Bool {
        original.destination == reply.source && original.destinationPort == reply.sourcePort
    }
}
