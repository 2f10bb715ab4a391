// SPDX-License-Identifier: Apache-2.0
import Topology

/// Ports that stand in for each other, and the hosts that therefore are told of a connection before its first packet goes on.
extension FabricTables {
    /// A port is in groups now, of which some may be stateful, and bound to the host that its record says.
    mutating func noteStandIn(_ index: Int32, _ groups: [UInt64]) {
        let record = ports[Int(index)]
        let isBound = record.attachment == .local || record.attachment == .remote
        for tag in Array(standIns.keys) {
            standIns[tag]?[index] = isBound && record.host >= 0 && groups.contains(tag) ? record.host : nil
        }
    }

    /// A group came, went, or became another kind. Ports that change besides are noted after this.
    mutating func updateStandIns(_ path: DevicePath, _ topology: Topology) {
        let tag = Tag.portGroup(path).bits
        guard topology.portGroups[path]?.isStateful == true else {
            standIns[tag] = nil
            return
        }
        if standIns[tag] != nil { return }
        standIns[tag] = [:]
        for index in ports.indices {
            let groups = groups(of: Int32(index))
            if groups.contains(tag) { noteStandIn(Int32(index), groups) }
        }
    }

    /// Tags of the groups of a port.
    func groups(of index: Int32) -> [UInt64] {
        let record = ports[Int(index)]
        guard record.groupCount > 0 else { return [] }
        return Array(portGroups[Int(record.groupStart)..<Int(record.groupStart + record.groupCount)])
    }
}

extension Fabric {
    /// Whether there are ports that stand in for others at all.
    public var hasStandIns: Bool { !tables.standIns.isEmpty }

    /// The port of a key in tunnels; `nil` for the key of a flood.
    public func port(ofKey key: UInt32) -> PortIndex? { tables.portOfKey.first(UInt64(key)).map(PortIndex.init) }

    /// The hosts of the ports that stand in for a port, its own among them.
    public func standIns(of port: PortIndex) -> Set<HostIndex> {
        var hosts: Set<HostIndex> = []
        for tag in tables.groups(of: port.value) {
            for host in tables.standIns[tag]?.values ?? [:].values { hosts.insert(HostIndex(host)) }
        }
        return hosts
    }
}
