// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Ports of one segment: one of them carries, by what this host knows of the others. Hosts may think otherwise for as long as it
/// takes to notice; what came in by one port of a segment never leaves by another, so that a frame can't circle.
extension Simulator {
    /// Whether frames come and go by a port: it is the one of its segment, or in none.
    mutating func carries(_ index: Int32, _ port: PortRecord) -> Bool { !port.isShared || carrier(of: index) == index }

    /// The port of a port's segment that carries; `nil` where none works.
    mutating func carrier(of index: Int32) -> Int32? {
        for member in fabric.tables.segments.members[index] ?? [] where isUsable(member) { return member }
        return nil
    }

    /// Drops what comes in by a port of a segment that stands by, and what is no frame of anybody outside: while hosts think
    /// otherwise of who carries, what one port sends comes in by another. Whether it did.
    mutating func isTurnedAway(_ index: Int32, _ port: PortRecord) -> Bool {
        // What went to another host a moment ago is still here for machines, and not for what is there as well.
        guard port.attachment == .local, carries(index, port) else {
            drop(.standby, at: index)
            return true
        }
        let bridge = fabric.bridges[Int(port.device)]
        verdict.tags.append(bridge.stationsTag)
        verdict.mask.include(.etherSource)
        verdict.mask.include(.etherType)
        // A trunk's frames are of the VLAN that they say; which that is the bridge looks at anyway.
        var vlan = port.vlan
        if bridge.isVLANAware {
            verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
            if key.hasVLAN, key.vlanTCI & 0x0fff != 0 { vlan = key.vlanTCI & 0x0fff }
        }
        let source = key.etherSource
        let declared = fabric.station(bridge: port.device, vlan: vlan, mac: source)
        var isOwn = declared >= 0 && !shareSegment(declared, index)
        // What tells switches where a station is, is ours where the station is here; a learned one may have moved, but says more.
        if !isOwn, key.etherType == EtherType.reverseARP {
            verdict.tags.append(.mac(source, vlan: vlan, bridge: bridge.tag))
            if let known = state.port(of: source, vlan: vlan, bridge: bridge.tag), let other = fabric.port(known)?.value
            {
                isOwn = !shareSegment(other, index)
            }
        }
        if isOwn { drop(.reflected, at: index) }
        return isOwn
    }

    /// Whether two ports lead to one network outside.
    func shareSegment(_ one: Int32, _ other: Int32) -> Bool {
        fabric.tables.segments.members[one]?.contains(other) ?? false
    }
}

/// Ports of segments.
struct SegmentTable: Sendable {
    /// What each port is in.
    var segments: [Int32: EthernetSegment] = [:]
    /// The ports of each one's segment, the first that works carries.
    private(set) var members: [Int32: [Int32]] = [:]

    /// Makes the parts of a bridge's ports what they are; the ports come in order of name.
    mutating func update(_ ports: [Int32]) {
        if segments.isEmpty && members.isEmpty { return }
        var byName: [String: [Int32]] = [:]
        for port in ports {
            members[port] = nil
            if let segment = segments[port] { byName[segment.name, default: []].append(port) }
        }
        for list in byName.values {
            let ordered = list.enumerated().sorted {
                let (mine, other) = (segments[$0.element]?.preference ?? 0, segments[$1.element]?.preference ?? 0)
                return mine != other ? mine > other : $0.offset < $1.offset
            }
            for port in list { members[port] = ordered.map(\.element) }
        }
    }

    /// Forgets a port.
    mutating func remove(_ port: Int32) { (segments[port], members[port]) = (nil, nil) }
}

extension Fabric {
    /// Ports bound here that are in a segment, and carry by what is known; of each the ports of the segment that work.
    public func carrying(_ state: any FlowStateView) -> [PortPath: Set<PortPath>] {
        var found: [PortPath: Set<PortPath>] = [:]
        var simulator = Simulator(fabric: self, state: state)
        for (index, members) in tables.segments.members where ports[Int(index)].attachment == .local {
            let working = members.filter { simulator.isUsable($0) }
            if working.first == index { found[portPaths[Int(index)]] = Set(working.map { portPaths[Int($0)] }) }
        }
        return found
    }

    /// Whether some port of a port's segment carries.
    public func isCarried(segmentOf path: PortPath, _ state: any FlowStateView) -> Bool {
        guard let index = port(path)?.value else { return false }
        var simulator = Simulator(fabric: self, state: state)
        return simulator.carrier(of: index) != nil
    }

    /// Stations of a port's bridge that are not behind its segment and can be reached from here: their VLANs and MACs.
    ///
    /// - Parameter learned: what was learned on the bridge.
    public func stations(
        beyond path: PortPath, learned: [(vlan: UInt16, mac: MACAddress, port: Tag)], _ state: any FlowStateView
    ) -> [(vlan: UInt16, mac: MACAddress)] {
        guard let index = port(path)?.value else { return [] }
        func isHere(_ place: Int32) -> Bool {
            let port = ports[Int(place)]
            guard port.attachment == .remote else { return port.attachment != .none }
            return port.host >= 0 && state.canReach(hosts[Int(port.host)].tag)
        }
        var found: [(vlan: UInt16, mac: MACAddress)] = []
        for station in tables.stations(seenFrom: ports[Int(index)].device) where isHere(station.owner) {
            found.append((station.vlan, ports[Int(station.owner)].mac))
        }
        let segment = tables.segments.members[index] ?? []
        for station in learned {
            guard let place = port(station.port)?.value, !segment.contains(place), isHere(place) else { continue }
            found.append((station.vlan, station.mac))
        }
        return found
    }

    /// The header that frames of a VLAN leave a port with: the tag; 0: none. `nil` where the port does not carry it.
    public func tag(of vlan: UInt16, at path: PortPath) -> UInt16? {
        guard let index = port(path)?.value else { return nil }
        let port = ports[Int(index)]
        switch port.vlanKind {
        case .access: return port.vlan == vlan ? 0 : nil
        case .trunk: return trunkCarries(port, vlan) ? (port.vlan == vlan ? 0 : vlan) : nil
        }
    }
}
