// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The far end of a tunnel. Nothing is decided here but which local ports a key stands for, so that the flows can be
/// installed before the first packet comes and the host need not be asked.
extension Simulator {
    /// What happens to a packet that came by tunnel under a key: that of a port, or a bridge's flood key. Hosts learn one after
    /// another that a port has moved: what comes for one that is bound elsewhere is sent there, once (``TunnelKeys/sentOn``).
    public mutating func simulateArrival(_ packet: borrowing SimulatedPacket, key tunnelKey: UInt32) {
        begin(packet)
        verdict.mask.include(.inPort)
        verdict.mask.include(.tunnelID)
        if let index = fabric.tables.portOfKey.first(UInt64(tunnelKey & ~TunnelKeys.sentOn)) {
            arrive(at: index, wasSentOn: tunnelKey & TunnelKeys.sentOn != 0)
        } else if let index = fabric.tables.bridgeOfKey.first(UInt64(tunnelKey)) {
            arriveFlooded(on: index, packet)
        } else {
            verdict.drop = .unknownKey
        }
        finish()
    }

    private mutating func arrive(at index: Int32, wasSentOn: Bool) {
        let port = fabric.ports[Int(index)]
        verdict.tags.append(port.tag)
        if isTracing { note("in", Int(index), "by tunnel with key \(hexKey(port.tunnelKey))") }
        guard port.isEnabled else { return drop(.portDisabled, at: index) }
        if port.attachment == .remote, !wasSentOn, port.host >= 0 {
            let host = fabric.hosts[Int(port.host)]
            verdict.tags.append(host.tag)
            guard host.isReachable else { return drop(.noTunnel, at: index) }
            if isTracing { note("out", Int(index), "on to host \(fabric.hostNames[Int(port.host)])") }
            return emit(.remote(HostIndex(port.host), key: port.tunnelKey | TunnelKeys.sentOn))
        }
        guard port.attachment == .local else { return drop(.notHere, at: index) }
        if isTracing { note("out", Int(index), "here") }
        emit(.local(PortIndex(index)))
    }

    private mutating func arriveFlooded(on device: Int32, _ packet: borrowing SimulatedPacket) {
        let bridge = fabric.bridges[Int(device)]
        verdict.tags.append(bridge.tag)
        verdict.tags.append(bridge.floodTag)
        if isTracing {
            noteDevice("flood", fabric.bridgePaths[Int(device)], "by tunnel with key \(hexKey(bridge.floodKey))")
        }
        var vlan: UInt16 = 0
        if bridge.isVLANAware {
            verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
            vlan = key.hasVLAN ? key.vlanTCI & 0x0fff : 0
        }
        var wanted: [Int32]?
        if bridge.mindsGroups {
            verdict.mask.include(.etherType)
            verdict.mask.include(.etherDestination)
            if key.etherDestination.isGroup {
                switch groupReach(bridge, device, vlan, at: -1, packet) {
                case .all: break
                case .ports(let ports), .routers(let ports): wanted = ports
                }
            }
        }
        let savedKey = key
        for offset in 0..<Int(bridge.floodPortCount) {
            let out = fabric.floodPorts[Int(bridge.floodPortStart) + offset]
            let port = fabric.ports[Int(out)]
            verdict.tags.append(port.tag)
            // What is filtered on its way out comes under the port's own key, from where that was decided.
            if let wanted, !wanted.contains(out) { continue }
            guard port.attachment == .local, !port.isFilteredOut, bridge.outbound < 0, setTag(for: port, vlan) else {
                continue
            }
            if isTracing { note("out", Int(out), "here") }
            emit(.local(PortIndex(out)))
            (key, headerIndex) = (savedKey, 0)
        }
        if verdict.outputs.isEmpty { verdict.drop = wanted == nil ? .nobodyElse : .nobodyJoined }
    }
}

extension Fabric {
    /// The port that a tunnel key stands for, if it is bound to an interface, here or elsewhere.
    public func boundPort(ofKey key: UInt32) -> PortIndex? {
        guard let port = port(ofKey: key) else { return nil }
        let attachment = ports[Int(port.value)].attachment
        return attachment == .local || attachment == .remote ? port : nil
    }

    /// Any VLAN in ``arrivals``: the tag is there, its number does not matter.
    public static let anyTag: UInt16 = 0xffff

    /// What may arrive by tunnel for ports of this host, told apart as far as flows have to tell it: keys of ports, with and
    /// without a tag, and flood keys with the VLANs that local ports name. VLAN 0 is untagged.
    public var arrivals: [(key: UInt32, vlan: UInt16)] {
        var list: [(key: UInt32, vlan: UInt16)] = []
        for port in ports where port.attachment == .local {
            list.append((port.tunnelKey, 0))
            list.append((port.tunnelKey, Fabric.anyTag))
        }
        // Where it matters who joined a group, the first packet of each is asked about.
        for bridge in bridges where !bridge.mindsGroups {
            var vlans: Set<UInt16> = []
            for offset in 0..<Int(bridge.floodPortCount) {
                let port = ports[Int(floodPorts[Int(bridge.floodPortStart) + offset])]
                guard port.attachment == .local else { continue }
                if port.vlan != PortRecord.noVLAN { vlans.insert(port.vlan) }
                if !bridge.isVLANAware { vlans.insert(Fabric.anyTag) }
                guard port.vlanKind == .trunk, port.trunkSet >= 0 else { continue }
                for id in 1..<4095 where trunkSets[Int(port.trunkSet) + id / 64] >> UInt64(id % 64) & 1 == 1 {
                    vlans.insert(UInt16(id))
                }
            }
            for vlan in vlans.sorted() { list.append((bridge.floodKey, vlan)) }
        }
        return list
    }
}
