// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Service chaining: what a port's machine sends goes out of a service's port ahead of the port's filters, comes back by it, and
/// goes on from there; what the machine gets does the same behind them. So all that is asked of connections, of who sent a packet
/// and of the way that it came is asked in one simulation, where that is known.
///
/// Nothing is remembered of a packet that is away: where it goes on is told by the service's port that it comes back by, by its
/// VLAN and, where several ports of a bridge share these, by whose MACs it has. A service must not change MACs, hence, unless it has
/// port and VLAN for one port's traffic alone; and no machine gets there under another one's MAC.
extension Simulator {
    /// Sends the packet to the next service of a port, if there is one that wants it.
    ///
    /// - Parameters:
    ///   - isSent: whether the port's machine sent it; otherwise the machine is to get it.
    ///   - from: the port by which it came into the bridge.
    ///   - behind: the place of the service that it comes from; `nil`: from none yet.
    /// - Returns: whether it is on its way there, or dropped.
    mutating func goesThroughService(
        _ index: Int32, _ port: PortRecord, isSent: Bool, from: Int32, behind: Int? = nil,
        _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard let hops = fabric.tables.hops.ofPort[index] else { return false }
        var place = isSent ? behind.map { $0 + 1 } ?? 0 : (behind ?? hops.count) - 1
        while hops.indices.contains(place) {
            let hop = hops[place]
            defer { place += isSent ? 1 : -1 }
            guard wants(hop, index, port, isSent: isSent) else { continue }
            if behind == nil, isImpostor(port, from) {
                drop(.spoofedMAC, at: index)
                return true
            }
            if !isSent {
                if hasPassed(hop, from) { continue }
                if !isAlone(hop, isSent: false), !canBeTold(index) {
                    // What is of all of them is let past: it says nothing to one machine alone.
                    if isForAll {
                        if isTracing { note("service", Int(index), "\(hop.hop.near): not with what is for all") }
                        continue
                    }
                    drop(.serviceShared, at: index)
                    return true
                }
            }
            if isUp(hop) {
                send(through: hop, index, isSent: isSent, packet)
                return true
            }
            if hop.hop.isOpen {
                if isTracing { note("service", Int(index), "\(hop.hop.near) is down: goes past it") }
                continue
            }
            if isTracing { note("service", Int(index), "\(hop.hop.near) is down") }
            drop(.serviceDown, at: index)
            return true
        }
        return false
    }

    /// A packet that comes in by a service's port: goes on where it left its way.
    ///
    /// - Returns: false for what the service's machine says itself.
    mutating func comesBack(_ index: Int32, _ packet: borrowing SimulatedPacket) -> Bool {
        guard let all = fabric.tables.hops.returns[index] else { return false }
        verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
        let vlan = key.hasVLAN ? key.vlanTCI & 0x0fff : 0
        guard vlan > 0 || !key.hasVLAN, let entries = all[vlan], let first = entries.first?.value else { return false }
        if vlan > 0 {
            setTag(0)
            // What is answered to it is answered without the tag.
            (original.vlanTCI, original.vlanTPID) = (key.vlanTCI, key.vlanTPID)
            (original.innerVLANTCI, original.innerVLANTPID) = (key.innerVLANTCI, key.innerVLANTPID)
        }
        let isAlone = entries.count == 1
        if isAlone, !first.isSent || !first.isGot {
            goOn(first, isSent: first.isSent, index, packet)
            return true
        }
        // All of one network: where sender and receiver are in it tells whose it is.
        let port = fabric.ports[Int(first.port)]
        verdict.mask.include(.etherSource)
        verdict.mask.include(.etherDestination)
        let sender = place(of: key.etherSource, bridge: port.device, vlan: port.vlan)
        if let entry = entries[sender], entry.isSent, isAlone || isWanted(entry, isSent: true) {
            goOn(entry, isSent: true, index, packet)
            return true
        }
        if key.etherDestination.isGroup {
            if isAlone {
                goOn(first, isSent: false, index, packet)
                return true
            }
        } else {
            let receiver = place(of: key.etherDestination, bridge: port.device, vlan: port.vlan)
            if let entry = entries[receiver], entry.isGot, isAlone || isWanted(entry, isSent: false) {
                goOn(entry, isSent: false, index, packet)
                return true
            }
        }
        // Only what its own MAC sent is the service's: all else would go round.
        if vlan == 0, isStation(key.etherSource, at: index) { return false }
        drop(.serviceUnknown, at: index)
        return true
    }

    /// Goes on behind a service.
    private mutating func goOn(
        _ entry: HopTable.Return, isSent: Bool, _ index: Int32, _ packet: borrowing SimulatedPacket
    ) {
        let port = fabric.ports[Int(entry.port)]
        let bridge = fabric.bridges[Int(port.device)]
        verdict.tags.append(port.tag)
        verdict.tags.append(bridge.tag)
        portsEntered += 1
        portsEnteredByAll += 1
        if isTracing {
            note(
                "service", Int(index), "comes back, \(isSent ? "sent by" : "for") \(fabric.portPaths[Int(entry.port)])")
        }
        guard port.isEnabled else { return drop(.portDisabled, at: entry.port) }
        if isSent {
            ingressPort = entry.port
            noteRecorded(entry.port, port)
            traversed[0] = bridge.tag.bits
            traversedCount = 1
            if goesThroughService(entry.port, port, isSent: true, from: entry.port, behind: entry.place, packet) {
                return
            }
            noteGroups(port)
            if port.dscp < 64 { mark(port.dscp, entry.port) }
            return enterBehindServices(entry.port, port, bridge.tag, packet)
        }
        // Its filters let it pass already. It came into the bridge where its sender is, who is told of what is wrong.
        let from = place(of: key.etherSource, bridge: port.device, vlan: port.vlan)
        ingressPort = from
        if goesThroughService(entry.port, port, isSent: false, from: from, behind: entry.place, packet) { return }
        leaveBehindServices(entry.port, port, packet)
    }

    /// Whether a packet may leave by a service's port that does not go through the service: what its machine gets itself, and
    /// cannot be taken for something else when it comes back.
    mutating func isForService(_ index: Int32, _ port: PortRecord) -> Bool {
        if fabric.tables.hops.ends[index] == true { return false }
        verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
        verdict.mask.include(.etherDestination)
        return !key.hasVLAN && key.etherDestination == port.mac
    }

    /// Whether the packet says a MAC that the topology declares elsewhere: behind a service it would be taken for that one's.
    private mutating func isImpostor(_ port: PortRecord, _ from: Int32) -> Bool {
        guard from >= 0 else { return false }
        verdict.mask.include(.etherSource)
        verdict.tags.append(fabric.bridges[Int(port.device)].stationsTag)
        let declared = fabric.station(bridge: port.device, vlan: port.vlan, mac: key.etherSource)
        return declared >= 0 && declared != from
    }

    /// Whether whose a packet is shows by its destination.
    private mutating func canBeTold(_ index: Int32) -> Bool {
        verdict.mask.include(.etherDestination)
        return !key.etherDestination.isGroup && isStation(key.etherDestination, at: index)
    }

    /// Whether a packet is for all or a group, by its IP address as well where it has one.
    private var isForAll: Bool {
        mutating get {
            verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
            guard key.etherDestination.isGroup, !key.hasVLAN else { return false }
            guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6 else { return true }
            verdict.mask.includeDestination(prefix: key.ipDestination.family.width)
            return key.ipDestination.isMulticast || key.ipDestination == IPAddress(IPv4Address(bits: .max))
        }
    }

    /// Whether a service takes packets like this of a port. Fragments behind the first it takes, whatever is said of ports.
    private mutating func wants(_ hop: HopTable.Hop, _ index: Int32, _ port: PortRecord, isSent: Bool) -> Bool {
        guard isSent ? hop.hop.takesSent : hop.hop.takesGot else { return false }
        guard let program = hop.program else { return true }
        if key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6 {
            verdict.mask.include(.ipFragment)
            if key.ipFragment == FragmentKind.later { return true }
        }
        let device = fabric.bridges[Int(port.device)].tag
        return anyHolds(
            program.view, FilterPlace(inPort: isSent ? index : -1, outPort: isSent ? -1 : index, device: device))
    }

    private mutating func isWanted(_ entry: HopTable.Return, isSent: Bool) -> Bool {
        guard let hop = fabric.tables.hops.ofPort[entry.port]?[entry.place] else { return false }
        verdict.tags.append(fabric.ports[Int(entry.port)].tag)
        return wants(hop, entry.port, fabric.ports[Int(entry.port)], isSent: isSent)
    }

    /// Whether what comes back by a service's port with its tag can be of one port's traffic only.
    private mutating func isAlone(_ hop: HopTable.Hop, isSent: Bool) -> Bool {
        let back = isSent ? hop.far : hop.near
        if back >= 0 { verdict.tags.append(fabric.ports[Int(back)].tag) }
        return fabric.tables.hops.returns[back]?[hop.hop.vlan]?.count == 1
    }

    /// Whether the packet went through the same service as one that its sender's port has: once is enough, and a second time
    /// could not be told from the first.
    private mutating func hasPassed(_ hop: HopTable.Hop, _ from: Int32) -> Bool {
        guard from >= 0, let hops = fabric.tables.hops.ofPort[from] else { return false }
        verdict.tags.append(fabric.ports[Int(from)].tag)
        for other in hops where other.hop.isSameService(as: hop.hop) {
            if wants(other, from, fabric.ports[Int(from)], isSent: true), isUp(hop) { return true }
        }
        return false
    }

    private mutating func isUp(_ hop: HopTable.Hop) -> Bool {
        isUsable(hop.near) && (hop.far == hop.near || isUsable(hop.far))
    }

    /// Whether a port of a service or a segment is there, and what is behind it.
    mutating func isUsable(_ index: Int32) -> Bool {
        guard index >= 0 else { return false }
        let port = fabric.ports[Int(index)]
        verdict.tags.append(port.tag)
        guard port.isEnabled else { return false }
        verdict.tags.append(.service(at: port.tag))
        if state.health(of: Tag.serviceMember, pool: port.tag)?.isUp == false { return false }
        return isReached(port)
    }

    private mutating func send(
        through hop: HopTable.Hop, _ index: Int32, isSent: Bool, _ packet: borrowing SimulatedPacket
    ) {
        let (savedKey, savedWritten, savedHeader) = (key, written, headerIndex)
        defer { (key, written, headerIndex) = (savedKey, savedWritten, savedHeader) }
        let entry = hop.entry(isSent: isSent)
        // A tag of its own would be taken for one of a service.
        verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
        guard !key.hasVLAN else { return drop(.serviceTag, at: index) }
        if isSent { learnAhead(index, fabric.ports[Int(index)]) }
        if hop.hop.vlan != 0 { setTag(hop.hop.vlan) }
        if isTracing {
            let tag = hop.hop.vlan == 0 ? "" : " with VLAN \(hop.hop.vlan)"
            note("service", Int(index), "goes through \(fabric.portPaths[Int(entry)])\(tag)")
            let back = fabric.portPaths[Int(hop.entry(isSent: !isSent))]
            verdict.detours.append(Verdict.Detour(back: back, header: headerNow()))
        }
        let port = fabric.ports[Int(entry)]
        if !fabric.tables.mirrors.isEmpty { mirrorDeparture(entry, from: index, port, isDetour: true) }
        if port.attachment == .local {
            if isTracing { note("out", Int(entry), "here") }
            return emit(.local(PortIndex(entry)))
        }
        sendRemote(port.host, key: port.tunnelKey, from: entry, packet)
    }

    /// Whether a station is at a port, declared or seen.
    private mutating func isStation(_ mac: MACAddress, at index: Int32) -> Bool {
        let port = fabric.ports[Int(index)]
        verdict.tags.append(port.tag)
        return place(of: mac, bridge: port.device, vlan: port.vlan) == index
    }

    /// The port that a station is at, declared or seen; -1 where that is not known.
    private mutating func place(of mac: MACAddress, bridge device: Int32, vlan: UInt16) -> Int32 {
        let bridge = fabric.bridges[Int(device)]
        verdict.tags.append(bridge.stationsTag)
        let declared = fabric.station(bridge: device, vlan: vlan, mac: mac)
        if declared >= 0 { return declared }
        verdict.tags.append(.mac(mac, vlan: vlan, bridge: bridge.tag))
        guard let tag = state.port(of: mac, vlan: vlan, bridge: bridge.tag) else { return -1 }
        return fabric.port(tag)?.value ?? -1
    }
}
