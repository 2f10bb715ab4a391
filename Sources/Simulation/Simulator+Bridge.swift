// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

extension Simulator {
    mutating func bridgeInput(_ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket) {
        let bridge = fabric.bridges[Int(port.device)]
        guard bridge.isEnabled else { return drop(.bridgeDisabled, at: index) }
        verdict.mask.include(.etherDestination)
        verdict.mask.include(.etherSource)
        // Whether the bridge minds tags at all is a matter of its ports.
        verdict.tags.append(bridge.stationsTag)
        let source = key.etherSource
        if source.isGroup || source == .zero { return drop(.badSource, at: index) }
        guard let vlan = classify(port, bridge) else { return drop(.vlanNotAllowed, at: index) }
        let place = FilterPlace(inPort: index, outPort: -1, device: bridge.tag)
        guard passes(bridge.inbound, place, at: index, packet) else { return }

        learn(source, vlan, index, port, bridge)
        if key.etherType == EtherType.arp, isBare(bridge), answerARP(index, vlan, port.device, bridge) { return }
        var destination = key.etherDestination
        if !destination.isGroup, let routers = fabric.tables.hairpins[port.device] {
            guard bringAnswer(to: routers, index, vlan, port.device, packet) else { return }
            destination = key.etherDestination
        }
        if destination.isGroup {
            if key.etherType == EtherType.ipv6, isBare(bridge),
                answerSolicitation(index, vlan, port.device, bridge, packet)
            {
                return
            }
            if bridge.mindsGroups {
                switch groupReach(bridge, port.device, vlan, at: index, packet) {
                case .all: break
                case .ports(let wanted):
                    return flood(bridge, port.device, vlan, from: index, packet, to: wanted, nobody: .nobodyJoined)
                case .routers(let wanted):
                    return flood(bridge, port.device, vlan, from: index, packet, to: wanted, nobody: .consumed)
                }
            }
            if isTracing {
                noteDevice("bridge", fabric.bridgePaths[Int(port.device)], "\(destination) is a group: flood")
            }
            return flood(bridge, port.device, vlan, from: index, packet)
        }

        var out = fabric.station(bridge: port.device, vlan: vlan, mac: destination)
        if out < 0 {
            verdict.tags.append(.mac(destination, vlan: vlan, bridge: bridge.tag))
            if let tag = state.port(of: destination, vlan: vlan, bridge: bridge.tag), let known = fabric.port(tag) {
                out = known.value
                if isTracing {
                    noteDevice(
                        "bridge", fabric.bridgePaths[Int(port.device)],
                        "\(destination) was seen at port \(fabric.portPaths[Int(out)])")
                }
            }
        } else {
            if isTracing {
                noteDevice(
                    "bridge", fabric.bridgePaths[Int(port.device)],
                    "\(destination) is at port \(fabric.portPaths[Int(out)])")
            }
        }
        guard out >= 0 else {
            if isTracing {
                noteDevice("bridge", fabric.bridgePaths[Int(port.device)], "\(destination) is unknown: flood")
            }
            return flood(bridge, port.device, vlan, from: index, packet)
        }
        if out == index || shareSegment(out, index) { return drop(.sameSegment, at: index) }
        if fabric.ports[Int(out)].isShared {
            guard let carrier = carrier(of: out) else { return drop(.noCarrier, at: out) }
            if isTracing, carrier != out { note("segment", Int(out), "\(fabric.portPaths[Int(carrier)]) carries") }
            out = carrier
        }
        guard setTag(for: fabric.ports[Int(out)], vlan) else { return drop(.vlanNotAllowed, at: out) }
        let way = FilterPlace(inPort: index, outPort: out, device: bridge.tag)
        guard passes(bridge.outbound, way, at: index, packet) else { return }
        leave(out, from: index, packet)
    }

    /// The VLAN that a frame belongs to inside the bridge; `nil` when the port does not take it.
    private mutating func classify(_ port: PortRecord, _ bridge: BridgeRecord) -> UInt16? {
        let bits = fieldTagPresent
        guard bridge.isVLANAware else {
            verdict.mask.bits.words[bits.word] |= bits.bits
            return 0
        }
        verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
        let id = key.vlanTCI & 0x0fff
        // A tag with VLAN 0 says a priority only (802.1Q section 6.9).
        let isTagged = key.hasVLAN && id != 0
        if key.hasVLAN, id == 0 {
            // Taken off, it would let a tag behind it speak for the frame: a way into any VLAN.
            verdict.mask.include(.innerVLANTCI)
            verdict.mask.include(.innerVLANTPID)
            if key.innerVLANTPID != 0 { return nil }
        }
        switch port.vlanKind {
        case .access: return isTagged ? nil : port.vlan
        case .trunk:
            if !isTagged { return port.vlan == PortRecord.noVLAN ? nil : port.vlan }
            return fabric.trunkCarries(port, id) ? id : nil
        }
    }

    /// Whether nothing but the tag that told the VLAN stands before the frame's own type: what lies behind more tags is not
    /// for this network's stations.
    mutating func isBare(_ bridge: BridgeRecord) -> Bool {
        guard bridge.isVLANAware else { return !key.hasVLAN }
        verdict.mask.include(.innerVLANTPID)
        return key.innerVLANTPID == 0
    }

    private var fieldTagPresent: (word: Int, bits: UInt64) { (8, UInt64(0x1000) << 48) }

    /// Puts the tag in place that a port sends a VLAN with; false when the port is not in the VLAN.
    mutating func setTag(for port: PortRecord, _ vlan: UInt16) -> Bool {
        guard fabric.bridges[Int(port.device)].isVLANAware else { return true }
        switch port.vlanKind {
        case .access:
            guard port.vlan == vlan else { return false }
            setTag(0)
        case .trunk:
            guard fabric.trunkCarries(port, vlan) else { return false }
            let isNative = port.vlan == vlan
            if isNative, key.hasVLAN {
                // The same at a trunk that sends its native VLAN without a tag.
                verdict.mask.include(.innerVLANTPID)
                if key.innerVLANTPID != 0 { return false }
            }
            setTag(isNative ? 0 : vlan)
        }
        return true
    }

    /// Makes the outer tag say `vlan`; 0 takes the tag off.
    mutating func setTag(_ vlan: UInt16) {
        if vlan == 0 {
            guard key.hasVLAN else { return }
            key.vlanTCI = key.innerVLANTCI
            key.vlanTPID = key.innerVLANTPID
            key.innerVLANTCI = 0
            key.innerVLANTPID = 0
            // The inner tag becomes the outer one: its bits now tell what leaves.
            verdict.mask.include(.innerVLANTCI)
            verdict.mask.include(.innerVLANTPID)
        } else if key.hasVLAN {
            guard key.vlanTCI & 0x0fff != vlan else { return }
            verdict.mask.include(.vlanTCI)
            key.vlanTCI = key.vlanTCI & 0xe000 | 0x1000 | vlan
        } else {
            // Where a tag came off, whether this one is the same is a matter of its priority, too.
            verdict.mask.include(.vlanTCI)
            key.vlanTCI = 0x1000 | vlan
            key.vlanTPID = EtherType.vlan
        }
        headerChanged()
    }

    /// Notes where the sender is before its packet leaves the way to a service: who comes back from there is told by that.
    mutating func learnAhead(_ index: Int32, _ port: PortRecord) {
        let source = key.etherSource
        verdict.mask.include(.etherSource)
        if source.isGroup || source == .zero { return }
        learn(source, port.vlan, index, port, fabric.bridges[Int(port.device)])
    }

    /// Notes where the sender is, unless the topology declares it.
    private mutating func learn(
        _ source: MACAddress, _ vlan: UInt16, _ index: Int32, _ port: PortRecord, _ bridge: BridgeRecord
    ) {
        if fabric.station(bridge: port.device, vlan: vlan, mac: source) >= 0 { return }
        let tag = Tag.mac(source, vlan: vlan, bridge: bridge.tag)
        verdict.tags.append(tag)
        if let known = state.port(of: source, vlan: vlan, bridge: bridge.tag) {
            if known == port.tag { return }
            // Which port of its segment a station was seen at is all one.
            if port.isShared, let other = fabric.port(known)?.value, shareSegment(other, index) { return }
        }
        verdict.learned.append(.mac(source, vlan: vlan, bridge: bridge.tag, port: port.tag))
        if isTracing {
            noteDevice(
                "bridge", fabric.bridgePaths[Int(port.device)], "learned \(source) at \(fabric.portPaths[Int(index)])")
        }
    }

    /// Sends the frame to every other port in the VLAN: the ones here, the bridges linked here, and once to each host
    /// that has ports of this bridge.
    ///
    /// - Parameters:
    ///   - wanted: ports that it is for, in order, and bridges that are linked; `nil`: all.
    ///   - nobody: why it goes nowhere where there is none.
    mutating func flood(
        _ bridge: BridgeRecord, _ device: Int32, _ vlan: UInt16, from ingress: Int32,
        _ packet: borrowing SimulatedPacket, to wanted: [Int32]? = nil, nobody: DropReason = .nobodyElse
    ) {
        verdict.tags.append(bridge.floodTag)
        let wasFlooding = isFlooding
        isFlooding = true
        let savedKey = key
        let savedWritten = written
        let savedHeader = headerIndex
        let before = verdict.outputs.count
        // Each copy has a way of its own, and its own measure of how long that may be; all have one of the work.
        let entered = portsEntered
        let through = traversedCount
        for offset in 0..<Int(bridge.floodPortCount) {
            let out = fabric.floodPorts[Int(bridge.floodPortStart) + offset]
            if out == ingress { continue }
            let port = fabric.ports[Int(out)]
            // Routers take no part in floods: their addresses were answered for, and nothing else concerns them but that a
            // neighbor is elsewhere.
            if port.attachment == .peer, fabric.ports[Int(port.peer)].isRouter {
                // What lies behind more tags is not for them, and nobody's guard looked at it.
                if wanted == nil, isBare(bridge), !bridge.isVLANAware || port.vlan == vlan { overhear(port.peer) }
                continue
            }
            if let wanted, port.attachment != .peer,
                !wanted.contains(where: { $0 == out || port.isShared && shareSegment($0, out) })
            {
                continue
            }
            if port.isShared, shareSegment(out, ingress) || !carries(out, port) { continue }
            guard setTag(for: port, vlan) else { continue }
            let place = FilterPlace(inPort: ingress, outPort: out, device: bridge.tag)
            if passes(bridge.outbound, place, at: out, packet) { leave(out, from: ingress, packet) }
            (key, written, headerIndex) = (savedKey, savedWritten, savedHeader)
            portsEntered = entered
            traversedCount = through
        }
        if bridge.floodHostCount > 0 {
            // On its way to other hosts the frame carries its VLAN, whatever tag it came with.
            if bridge.isVLANAware { setTag(vlan) }
            let fabric = fabric
            let hosts = wanted.map { wanted in
                // What is filtered on its way out goes to its port alone.
                Set(
                    wanted.map { fabric.ports[Int($0)] }
                        .filter { $0.attachment == .remote && !$0.isFilteredOut && bridge.outbound < 0 }.map(\.host))
            }
            var last: Int32 = -1
            for offset in 0..<Int(bridge.floodHostCount) {
                let entry = fabric.floodHosts[Int(bridge.floodHostStart) + offset]
                if entry.host == last || hosts?.contains(entry.host) == false { continue }
                guard entry.vlan == vlan || (entry.vlan == FloodHost.anyVLAN && vlan != 0) else { continue }
                last = entry.host
                sendFlood(entry.host, bridge, device, packet)
            }
            (key, written, headerIndex) = (savedKey, savedWritten, savedHeader)
        }
        if verdict.outputs.count == before { drop(nobody, at: ingress) }
        isFlooding = wasFlooding
    }

    private mutating func sendFlood(
        _ host: Int32, _ bridge: BridgeRecord, _ device: Int32, _ packet: borrowing SimulatedPacket
    ) {
        let record = fabric.hosts[Int(host)]
        verdict.tags.append(record.tag)
        guard record.isReachable else { return }
        if isTracing {
            noteDevice(
                "flood", fabric.bridgePaths[Int(device)],
                "to host \(fabric.hostNames[Int(host)]), by tunnel with key \(hexKey(bridge.floodKey))")
        }
        emit(.remote(HostIndex(host), key: bridge.floodKey))
    }
}
