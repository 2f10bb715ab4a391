// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Where a frame for a group goes on a bridge that minds who joined it (RFC 4541).
enum GroupReach: Equatable {
    /// To all.
    case all
    /// To these ports of the bridge, in order, and to bridges that are linked.
    case ports([Int32])
    /// To these ports, those of multicast routers, and to bridges that are linked: it was taken note of.
    case routers([Int32])
}

/// Multicast: to those who joined a group, as their machines say. What they say is known on all hosts, so that copies are made
/// where a packet comes in, one for each host with members; there it is found out once more which ports they are.
extension Simulator {
    /// Protocol Independent Multicast: who speaks it is a router.
    private static let pim: UInt8 = 103
    /// What one message teaches, at most.
    private static let learnedAtOnce = 64

    /// Takes note of what a frame for a group says of groups, and tells where it goes.
    mutating func groupReach(
        _ bridge: BridgeRecord, _ device: Int32, _ vlan: UInt16, at index: Int32, _ packet: borrowing SimulatedPacket
    ) -> GroupReach {
        let isV4 = key.etherType == EtherType.ipv4
        guard isV4 || key.etherType == EtherType.ipv6, key.etherDestination != .broadcast, isBare(bridge) else {
            return .all
        }
        verdict.mask.include(.ipProtocol)
        var speaks = isV4 && key.ipProtocol == GroupMessage.igmp
        if !isV4, key.ipProtocol == IPProtocol.icmpv6 {
            verdict.mask.include(.ipFragment)
            verdict.mask.include(.sourcePort)
            speaks = key.ipFragment == FragmentKind.none && GroupMessage.MLD.contains(key.sourcePort)
        }
        if speaks { return controlReach(bridge, device, vlan, at: index, packet) }
        verdict.mask.includeDestination(prefix: isV4 ? 32 : 128)
        let group = key.ipDestination
        if isV4, key.ipProtocol == Simulator.pim {
            verdict.isCacheable = false
            if isTaught(at: index) { learnRouter(.ipv4, vlan, bridge, index) }
            return .all
        }
        // What is of the link is for all, for not all say that they listen.
        guard group.isMulticast, !group.isOfLink else { return .all }
        return listeners(group, bridge, device, vlan)
    }

    /// Ports whose machines joined a group, and those of multicast routers.
    private mutating func listeners(
        _ group: IPAddress, _ bridge: BridgeRecord, _ device: Int32, _ vlan: UInt16
    ) -> GroupReach {
        let members = state.members(of: group, vlan: vlan, bridge: bridge.tag)
        verdict.tags.append(.group(group, vlan: vlan, bridge: bridge.tag))
        let routers = routerPorts(group.family, vlan, bridge)
        if members.isEmpty, floodsUnknown(device) {
            if isTracing { noteDevice("bridge", fabric.bridgePaths[Int(device)], "nobody joined \(group): to all") }
            return .all
        }
        var wanted = Set(routers)
        for member in members {
            if !member.isAnySource {
                verdict.mask.includeSource(prefix: group.family.width)
                guard member.source == key.ipSource else { continue }
            }
            if let port = fabric.port(member.port), fabric.ports[Int(port.value)].device == device,
                !fabric.ports[Int(port.value)].isRouter
            {
                wanted.insert(port.value)
            }
        }
        if isTracing {
            let names = wanted.sorted().map { fabric.portPaths[Int($0)].description }.joined(separator: ", ")
            noteDevice(
                "bridge", fabric.bridgePaths[Int(device)],
                names.isEmpty ? "nobody joined \(group)" : "\(group) is joined at \(names)")
        }
        return .ports(wanted.sorted())
    }

    private func floodsUnknown(_ device: Int32) -> Bool {
        fabric.tables.services[device]?.multicast?.floodsUnknown ?? false
    }

    private mutating func routerPorts(_ family: AddressFamily, _ vlan: UInt16, _ bridge: BridgeRecord) -> [Int32] {
        let none = IPAddress(high: 0, low: 0, family: family)
        verdict.tags.append(.group(none, vlan: vlan, bridge: bridge.tag))
        return state.members(of: none, vlan: vlan, bridge: bridge.tag).compactMap { fabric.port($0.port)?.value }
            .filter { fabric.bridges[Int(fabric.ports[Int($0)].device)].tag == bridge.tag }
            .filter { !fabric.ports[Int($0)].isRouter }
    }

    /// Where what machines and routers say of groups goes: questions to all, answers to routers only, for machines are silent
    /// when they hear each other's.
    private mutating func controlReach(
        _ bridge: BridgeRecord, _ device: Int32, _ vlan: UInt16, at index: Int32, _ packet: borrowing SimulatedPacket
    ) -> GroupReach {
        verdict.isCacheable = false
        let family: AddressFamily = key.etherType == EtherType.ipv4 ? .ipv4 : .ipv6
        guard let message = groupMessage(family, packet) else { return .all }
        let isHere = isTaught(at: index)
        switch message.kind {
        case .query:
            // One that stands for a router, and is none, has no address (RFC 4541 section 2.1.1).
            if isHere, key.ipSource.high | key.ipSource.low != 0 { learnRouter(family, vlan, bridge, index) }
            return .all
        case .report(let records):
            if isHere {
                for record in records where !record.group.isOfLink { learn(record, vlan, bridge, index) }
            }
            return .routers(Array(Set(routerPorts(family, vlan, bridge))).sorted())
        }
    }

    /// Whether what is said is said by a machine of this host: what comes by tunnel or from a linked bridge was read where it came in.
    private func isTaught(at index: Int32) -> Bool { index >= 0 && index == ingressPort }

    private func groupMessage(_ family: AddressFamily, _ packet: borrowing SimulatedPacket) -> GroupMessage? {
        let network = Int(layout.network)
        let end = min(packet.bytes.byteCount, network + layout.networkLength)
        var start = Int(layout.transport)
        if family == .ipv4 {
            guard network > 0, packet.bytes.byteCount > network, key.ipFragment == FragmentKind.none else { return nil }
            let head = packet.bytes.unsafeLoad(fromByteOffset: network, as: UInt8.self)
            start = network + Int(head & 15) * 4
        } else if key.ipTTL != 1 {
            return nil
        }
        guard start > network, end >= start + 8, end - start <= 9000 else { return nil }
        let bytes = (start..<end).map { packet.bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        return family == .ipv4 ? GroupMessage(igmp: bytes) : GroupMessage(mld: bytes)
    }

    private mutating func learnRouter(
        _ family: AddressFamily, _ vlan: UInt16, _ bridge: BridgeRecord, _ index: Int32
    ) {
        let tag = fabric.ports[Int(index)].tag
        let router = GroupMember(group: nil, family, vlan: vlan, bridge: bridge.tag, port: tag)
        verdict.learned.append(.member(router, seconds: GroupTimes.router))
        if isTracing { note("igmp", Int(index), "a multicast router is here") }
    }

    /// Takes note of what a machine wants, or does not want any more.
    private mutating func learn(_ record: GroupMessage.Record, _ vlan: UInt16, _ bridge: BridgeRecord, _ index: Int32) {
        let port = fabric.ports[Int(index)]
        func member(_ source: IPAddress?) -> GroupMember {
            GroupMember(
                group: record.group, source: source, record.group.family, vlan: vlan, bridge: bridge.tag, port: port.tag
            )
        }
        func join(_ source: IPAddress?) {
            if verdict.learned.count >= Simulator.learnedAtOnce { return }
            if let source, source.family != record.group.family || source.high | source.low == 0 { return }
            verdict.learned.append(.member(member(source), seconds: GroupTimes.membership))
        }
        var isLeft = false
        func leave(_ source: IPAddress?) {
            guard state.isMember(member(source)), verdict.learned.count < Simulator.learnedAtOnce else { return }
            verdict.learned.append(.member(member(source), seconds: GroupTimes.left))
            isLeft = true
        }
        let known = state.members(of: record.group, vlan: vlan, bridge: bridge.tag).filter { $0.port == port.tag }
        switch record.change {
        case .join: join(nil)
        case .add(let sources): sources.forEach(join)
        case .only(let sources):
            for old in known where old.isAnySource || !sources.contains(old.source) {
                leave(old.isAnySource ? nil : old.source)
            }
            sources.forEach(join)
        case .leave: for old in known { leave(old.isAnySource ? nil : old.source) }
        case .remove(let sources): sources.forEach(leave)
        }
        if isTracing { note("igmp", Int(index), "\(record.group): \(record.change.words)") }
        // Whoever else wants it behind the same port says so (RFC 3376 section 6.6.3).
        if isLeft, let services = fabric.tables.services[port.device], services.multicast?.asks == true {
            let query = Frame.groupQuery(
                from: services.querier, record.group.family, group: record.group, tenths: GroupTimes.answer,
                interval: GroupTimes.interval)
            answer(withTag(query, vlan: vlan, port: index), from: index, isService: true)
        }
    }
}

extension IPAddress {
    /// Whether a group is of the link alone: 224.0.0.0/24, and IPv6 of a scope no wider (RFC 4291 section 2.7).
    var isOfLink: Bool { family == .ipv4 ? high >> 40 == 0xe0_0000 : high >> 48 & 0xf <= 2 }
}

extension GroupMessage.Change {
    fileprivate var words: String {
        switch self {
        case .join: "joined"
        case .leave: "left"
        case .add(let sources): "joined for \(sources.map(\.description).joined(separator: ", "))"
        case .only(let sources): "joined for \(sources.map(\.description).joined(separator: ", ")) alone"
        case .remove(let sources): "left for \(sources.map(\.description).joined(separator: ", "))"
        }
    }
}
