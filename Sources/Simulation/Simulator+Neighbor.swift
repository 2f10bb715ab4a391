// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

extension Simulator {
    // MARK: - On a bridge: the topology answers, so that requests need not be flooded

    /// Answers an ARP request for a declared address. True when that was the end of the frame.
    mutating func answerARP(_ index: Int32, _ vlan: UInt16, _ device: Int32, _ bridge: BridgeRecord) -> Bool {
        // More of an ARP packet is read than a flow can match on every kernel: never a flow.
        verdict.isCacheable = false
        guard key.ipProtocol == 1, let sender = key.ipSource.v4, let target = key.ipDestination.v4 else { return false }
        // Announcements (RFC 5227) go to everyone.
        if sender == target { return false }
        guard let found = fabric.neighbor(bridge: device, vlan: vlan, address: IPAddress(target)) else {
            return vlan == 0 && answerForServer(target, index, device)
        }
        // The owner itself probing its address, or a question that stays on the asker's side.
        if found.mac == key.arpSource || found.port == index { return false }
        if fabric.ports[Int(found.owner)].isRouter {
            learnNeighbor(IPAddress(sender), key.arpSource, owner: found.owner)
        }
        if isTracing {
            noteDevice(
                "arp", fabric.bridgePaths[Int(device)],
                "\(target) is \(found.mac), of \(fabric.portPaths[Int(found.owner)]): answered from the topology")
        }
        let frame = Frame.arp(
            operation: 2, sender: (found.mac, target), target: (key.arpSource, sender),
            etherDestination: key.etherSource)
        answer(withTag(frame, vlan: vlan, port: index), from: index)
        return true
    }

    /// Answers for an address at which the bridge itself is asked, where nobody has it.
    private mutating func answerForServer(_ target: IPv4Address, _ index: Int32, _ device: Int32) -> Bool {
        guard key.ipSource.high != 0, let mac = fabric.tables.services[device]?.answered[IPAddress(target)] else {
            return false
        }
        answer(
            Frame.arp(
                operation: 2, sender: (mac, target),
                target: (key.arpSource, key.ipSource.v4 ?? IPv4Address(bits: 0)), etherDestination: key.etherSource),
            from: index)
        return true
    }

    /// Answers a neighbor solicitation for a declared address. True when that was the end of the frame.
    mutating func answerSolicitation(
        _ index: Int32, _ vlan: UInt16, _ device: Int32, _ bridge: BridgeRecord, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.icmpv6 else { return false }
        verdict.mask.include(.ipFragment)
        verdict.mask.include(.sourcePort)
        guard key.ipFragment != FragmentKind.later, key.sourcePort == UInt16(ICMPv6.neighborSolicitation) else {
            return false
        }
        verdict.isCacheable = false
        guard key.ipTTL == 255, let source = key.ipSource.v6 else { return false }
        let target = key.ndTarget
        guard let found = fabric.neighbor(bridge: device, vlan: vlan, address: IPAddress(target)) else {
            guard vlan == 0, !source.isUnspecified,
                let mac = fabric.tables.services[device]?.answered[IPAddress(target)]
            else { return false }
            answer(
                Frame.neighborAdvertisement(
                    target: target, mac: mac, etherDestination: key.etherSource, destination: source, solicited: true,
                    isRouter: false), from: index)
            return true
        }
        if found.mac == key.etherSource || found.port == index { return false }
        let isRouter = fabric.ports[Int(found.owner)].isRouter
        // Duplicate address detection asks from "::" and is answered to all nodes (RFC 4861 section 7.2.4).
        let destination = source.isUnspecified ? IPv6Address.allNodes : source
        if isRouter, !source.isUnspecified, key.arpSource != .zero {
            learnNeighbor(IPAddress(source), key.arpSource, owner: found.owner)
        }
        if isTracing {
            noteDevice(
                "nd", fabric.bridgePaths[Int(device)],
                "\(target) is \(found.mac), of \(fabric.portPaths[Int(found.owner)]): answered from the topology")
        }
        let frame = Frame.neighborAdvertisement(
            target: target, mac: found.mac,
            etherDestination: source.isUnspecified ? .multicast(for: destination) : key.etherSource,
            destination: destination, solicited: !source.isUnspecified, isRouter: isRouter)
        answer(withTag(frame, vlan: vlan, port: index), from: index)
        return true
    }

    /// A frame that goes back out of a bridge port with the tag that the port gives its VLAN.
    mutating func withTag(_ frame: [UInt8], vlan: UInt16, port: Int32) -> [UInt8] {
        let record = fabric.ports[Int(port)]
        guard record.vlanKind == .trunk, record.vlan != vlan else { return frame }
        return Frame.tagged(frame, vlan: vlan)
    }

    // MARK: - On a router: its own addresses

    mutating func routerARP(_ index: Int32, _ port: PortRecord) {
        verdict.isCacheable = false
        guard let sender = key.ipSource.v4, let target = key.ipDestination.v4 else {
            return drop(.malformed, at: index)
        }
        let isOwn = answers(for: IPAddress(target), at: port)
        if isOnLink(port, IPAddress(sender)), isOwn || sender == target {
            learnNeighbor(IPAddress(sender), key.arpSource, owner: index)
        }
        guard key.ipProtocol == 1, isOwn, sender != target else { return drop(.consumed, at: index) }
        if isTracing { note("arp", Int(index), "\(target) is \(port.mac): answered") }
        answer(
            Frame.arp(
                operation: 2, sender: (port.mac, target), target: (key.arpSource, sender),
                etherDestination: key.etherSource),
            from: index)
    }

    /// A frame for all says where an address is: a router that asked for it before goes by that (RFC 826, RFC 4861 section
    /// 7.2.5), as when an address that several machines stand for goes to another one. What it does not know it asks for when
    /// it is needed.
    mutating func overhear(_ index: Int32) {
        let (address, mac): (IPAddress, MACAddress)
        if key.etherType == EtherType.arp {
            guard let sender = key.ipSource.v4, key.ipProtocol == 1 || key.ipProtocol == 2 else { return }
            (address, mac) = (IPAddress(sender), key.arpSource)
        } else if key.etherType == EtherType.ipv6 {
            verdict.mask.include(.ipProtocol)
            guard key.ipProtocol == IPProtocol.icmpv6 else { return }
            verdict.mask.include(.ipFragment)
            verdict.mask.include(.sourcePort)
            guard key.ipFragment == FragmentKind.none, key.sourcePort == UInt16(ICMPv6.neighborAdvertisement) else {
                return
            }
            // What it says no flow tells apart.
            verdict.isCacheable = false
            guard key.ipTTL == 255 else { return }
            (address, mac) = (IPAddress(key.ndTarget), key.arpTarget)
        } else {
            return
        }
        switch state.neighbor(address, port: fabric.ports[Int(index)].tag) {
        case .unknown, .at(mac): return
        case .at, .unreachable: learnNeighbor(address, mac, owner: index)
        }
    }

    /// Neighbor discovery that reaches a router port. True when the packet was such a message.
    mutating func routerND(_ index: Int32, _ port: PortRecord) -> Bool {
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.icmpv6 else { return false }
        verdict.mask.include(.ipFragment)
        verdict.mask.include(.sourcePort)
        guard key.ipFragment == FragmentKind.none else { return false }
        let type = key.sourcePort
        guard type >= UInt16(ICMPv6.routerSolicitation), type <= 137 else { return false }
        verdict.isCacheable = false
        guard key.ipTTL == 255, let source = key.ipSource.v6 else {
            drop(.malformed, at: index)
            return true
        }
        let target = key.ndTarget
        switch UInt8(truncatingIfNeeded: type) {
        case ICMPv6.neighborAdvertisement where key.arpTarget != .zero:
            learnNeighbor(IPAddress(target), key.arpTarget, owner: index)
        case ICMPv6.neighborSolicitation where answers(for: IPAddress(target), at: port):
            if !source.isUnspecified, key.arpSource != .zero {
                learnNeighbor(IPAddress(source), key.arpSource, owner: index)
            }
            let destination = source.isUnspecified ? IPv6Address.allNodes : source
            if isTracing { note("nd", Int(index), "\(target) is \(port.mac): answered") }
            answer(
                Frame.neighborAdvertisement(
                    target: target, mac: port.mac,
                    etherDestination: source.isUnspecified ? .multicast(for: destination) : key.etherSource,
                    destination: destination, solicited: !source.isUnspecified, isRouter: true),
                from: index)
        default: break
        }
        drop(.consumed, at: index)
        return true
    }

    /// Whether an address is one of the port's own.
    mutating func owns(_ port: PortRecord, _ address: IPAddress) -> Bool {
        for offset in 0..<Int(port.addressCount)
        where fabric.addresses[Int(port.addressStart) + offset].address == address {
            return true
        }
        return address.family == .ipv6 && address == IPAddress(IPv6Address.linkLocal(for: port.mac))
    }

    /// Whether a router port says that an address is there: its own, or one in its networks that the router translates.
    mutating func answers(for address: IPAddress, at port: PortRecord) -> Bool {
        if owns(port, address) { return true }
        let translation = fabric.routers[Int(port.device)].translation
        guard translation >= 0, isOnLink(port, address),
            let view = fabric.tables.policy.translations[Int(translation)]
        else { return false }
        return view.pointee.answered.holds(address).isMember
    }

    /// Whether an address is in a network of the port.
    mutating func isOnLink(_ port: PortRecord, _ address: IPAddress) -> Bool {
        for offset in 0..<Int(port.addressCount)
        where fabric.addresses[Int(port.addressStart) + offset].network.contains(address) {
            return true
        }
        return false
    }

    /// Notes a neighbor's MAC, unless it is declared. Also one that is known: it lives on, and a host that asked for it
    /// hears of it.
    mutating func learnNeighbor(_ address: IPAddress, _ mac: MACAddress, owner: Int32) {
        guard !mac.isGroup, mac != .zero, !address.isMulticast, (address.high | address.low) != 0 else { return }
        let port = fabric.ports[Int(owner)]
        guard isOnLink(port, address) || address.v6?.isLinkLocal == true else { return }
        if port.attachment == .peer {
            let peer = fabric.ports[Int(port.peer)]
            if peer.isRouter { return }
            if fabric.neighbor(bridge: peer.device, vlan: peer.vlan, address: address) != nil { return }
        }
        verdict.learned.append(.neighbor(address, mac: mac, port: port.tag))
        if isTracing { note("arp", Int(owner), "learned that \(address) is \(mac)") }
    }

    // MARK: - Next hops

    /// The MAC of a next hop behind a router port; `nil` when the packet has to wait or cannot go there.
    mutating func resolve(_ address: IPAddress, behind index: Int32) -> MACAddress? {
        let port = fabric.ports[Int(index)]
        if port.attachment == .peer {
            let peer = fabric.ports[Int(port.peer)]
            if peer.isRouter {
                verdict.tags.append(peer.tag)
                if answers(for: address, at: peer) { return peer.mac }
                return nil
            }
            let bridge = fabric.bridges[Int(peer.device)]
            verdict.tags.append(bridge.stationsTag)
            if let found = fabric.neighbor(bridge: peer.device, vlan: peer.vlan, address: address) {
                if isTracing { note("arp", Int(index), "\(address) is \(found.mac) (topology)") }
                return found.mac
            }
        }
        verdict.tags.append(.neighbor(address, port: port.tag))
        switch state.neighbor(address, port: port.tag) {
        case .at(let mac):
            if isTracing { note("arp", Int(index), "\(address) is \(mac) (learned)") }
            return mac
        case .unreachable:
            if isTracing { note("arp", Int(index), "\(address) was asked and does not answer") }
            return nil
        case .unknown: break
        }
        guard port.attachment != .none else { return nil }
        if isTracing { note("arp", Int(index), "\(address) is not known: ask and wait") }
        verdict.wait = NeighborQuery(port: PortIndex(index), address: address)
        verdict.isCacheable = false
        if let request = Simulator.request(for: address, from: port, fabric) {
            verdict.packets.append(GeneratedPacket(frame: request, port: PortIndex(index), kind: .request))
        }
        return nil
    }

    /// The ARP or ND request by which a router port asks for an address.
    static func request(for address: IPAddress, from port: PortRecord, _ fabric: Fabric) -> [UInt8]? {
        let own = fabric.addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)]
        let source = own.first { $0.network.contains(address) } ?? own.first { $0.address.family == address.family }
        if let target = address.v4 {
            guard let sender = source?.address.v4 else { return nil }
            return Frame.arp(
                operation: 1, sender: (port.mac, sender), target: (.zero, target), etherDestination: .broadcast)
        }
        guard let target = address.v6 else { return nil }
        let sender = source?.address.v6 ?? IPv6Address.linkLocal(for: port.mac)
        return Frame.neighborSolicitation(from: port.mac, source: sender, target: target)
    }

    /// Sends an answer: back out of the port that the question came in by, or where the router's routes say.
    mutating func answer(_ frame: [UInt8], from port: Int32, isRouted: Bool = false, isService: Bool = false) {
        verdict.packets.append(
            GeneratedPacket(
                frame: frame, port: PortIndex(port), kind: .answer, isRouted: isRouted, isService: isService))
        verdict.isCacheable = false
        if verdict.drop == nil { verdict.drop = .consumed }
    }
}

extension Fabric {
    /// The frame by which a router port asks for a neighbor.
    public func request(for address: IPAddress, from port: PortIndex) -> [UInt8]? {
        Simulator.request(for: address, from: ports[Int(port.value)], self)
    }
}
