// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Tables that differ little from those before.
extension FabricTables {
    /// The tables of a topology, made of those of one before; `nil` when they are better made anew.
    init?(patching previous: Fabric, to topology: Topology, _ difference: TopologyDifference) {
        let old = previous.tables
        let mirrored = difference.mirroredPorts(previous.topology, topology)
        let touched = difference.ports.union(difference.neighbors).union(mirrored)
            .union(difference.servicePorts(previous.topology, topology).filter { topology.ports[$0] != nil })
        guard difference.hosts.isEmpty, difference.zones.isEmpty, touched.count * 4 <= max(64, old.ports.count),
            old.waste <= max(4096, old.sizeOfRuns / 2),
            old.policy.waste <= 1024
        else { return nil }
        self = old
        policy.update(topology, chains: difference.chains, groups: difference.addressGroups)
        policy.updatePools(topology, difference.pools)
        policy.updateSecurity(topology, difference.securityGroups)
        policy.updateMembers(difference.ports, topology)
        let segments = Segments(previous.topology, topology)

        // What is declared at ports that change, and on all bridges that links join to theirs, is found again.
        var joined: Set<DevicePath> = []
        for path in touched {
            for port in [previous.topology.ports[path], topology.ports[path]] {
                guard let port, port.kind == .bridge, !joined.contains(port.path.device) else { continue }
                let near = segments.bridges(near: port)
                if near.count > 1 { joined.formUnion(near) }
            }
        }
        // What a router answers for is declared at the bridge ports that lead to it.
        var moving = touched
        for path in difference.routers {
            let (was, router) = (previous.topology.routers[path], topology.routers[path])
            guard was?.translation.answered ?? [] != router?.translation.answered ?? [] else { continue }
            for port in previous.topology.ports(of: path) + topology.ports(of: path) {
                guard case .peer(let other) = port.attachment else { continue }
                moving.insert(other)
                let near = segments.bridges(near: port)
                if near.count > 1 { joined.formUnion(near) }
            }
        }
        for path in joined {
            for index in old.indexOfBridge[path].map({ old.portsOfBridge[Int($0)] }) ?? [] {
                removeStation(index, of: old)
            }
        }
        for path in moving where !joined.contains(path.device) {
            if let index = old.index(of: path) { removeStation(index, of: old) }
        }

        for path in difference.bridges where topology.bridges[path] != nil && old.indexOfBridge[path] == nil {
            placeBridge(path)
        }
        for path in difference.routers where topology.routers[path] != nil && old.indexOfRouter[path] == nil {
            placeRouter(path)
        }
        var bridgesToFill = difference.bridges
        var routersToFill = difference.routers.union(difference.routes.keys)
        for path in difference.routersOfPools(previous.topology, topology) { routersToFill.insert(path) }
        for path in touched {
            let was = previous.topology.ports[path]
            let port = topology.ports[path]
            for kind in [was?.kind, port?.kind].compactMap(\.self) {
                if kind == .router { routersToFill.insert(path.device) } else { bridgesToFill.insert(path.device) }
            }
            if let was, was.kind != port?.kind { removePort(path) }
            if let port, was?.kind != port.kind { enlist(placePort(path), port) }
        }
        for path in difference.portGroups { updateStandIns(path, topology) }
        if !topology.mirrors.isEmpty || !mirrors.isEmpty {
            // What conditions name by groups lies elsewhere when those come and go.
            mirrors = MirrorTable(topology, self, after: difference.addressGroups.isEmpty ? mirrors : nil)
        }
        if difference.changesServices(previous.topology, topology) {
            hops = HopTable(topology, self, after: difference.addressGroups.isEmpty ? hops : nil)
        }
        for path in touched {
            if let port = topology.ports[path], let index = index(of: path) { fillPort(index, port, topology) }
        }
        for path in bridgesToFill {
            guard let index = indexOfBridge[path] else { continue }
            if let bridge = topology.bridges[path] { fillBridge(index, bridge) } else { removeBridge(path, index) }
        }
        for path in routersToFill {
            guard let index = indexOfRouter[path] else { continue }
            if let router = topology.routers[path] {
                fillRouter(index, router, topology)
            } else {
                removeRouter(path, index)
            }
        }
        for path in joined.sorted() {
            for index in indexOfBridge[path].map({ portsOfBridge[Int($0)] }) ?? [] { addStation(index) }
        }
        for path in moving.sorted() where !joined.contains(path.device) {
            if let index = index(of: path) { addStation(index) }
        }
    }

    private var sizeOfRuns: Int {
        addresses.count + portGroups.count + allowed.count + floodPorts.count + floodHosts.count + trunkSets.count
            + routing.size
    }

    /// Enters a port in its device's list, in order of name.
    private mutating func enlist(_ index: Int32, _ port: Port) {
        let name = port.path.name
        func place(in list: [Int32]) -> Int {
            var (low, high) = (0, list.count)
            while low < high {
                let middle = (low + high) / 2
                if portPaths[Int(list[middle])].name < name { low = middle + 1 } else { high = middle }
            }
            return low
        }
        if port.kind == .router {
            guard let device = indexOfRouter[port.path.device] else { return }
            portsOfRouter[Int(device)].insert(index, at: place(in: portsOfRouter[Int(device)]))
        } else {
            guard let device = indexOfBridge[port.path.device] else { return }
            portsOfBridge[Int(device)].insert(index, at: place(in: portsOfBridge[Int(device)]))
        }
    }

    private mutating func removePort(_ path: PortPath) {
        guard let index = index(of: path) else { return }
        let record = ports[Int(index)]
        if record.device >= 0 {
            if record.isRouter {
                portsOfRouter[Int(record.device)].removeAll { $0 == index }
            } else {
                portsOfBridge[Int(record.device)].removeAll { $0 == index }
            }
        }
        waste += Int(record.addressCount + record.groupCount + record.allowedCount) + (record.trunkSet >= 0 ? 64 : 0)
        indexOfTag.remove(record.tag.bits, index)
        names.remove(path, index)
        if !standIns.isEmpty { noteStandIn(index, []) }
        if record.tunnelKey != 0 { portOfKey.remove(UInt64(record.tunnelKey), index) }
        daemonPeers[index] = nil
        segments.remove(index)
        ports[Int(index)] = .none
        freePorts.append(index)
    }

    private mutating func removeBridge(_ path: DevicePath, _ index: Int32) {
        let record = bridges[Int(index)]
        waste += Int(record.floodPortCount + record.floodHostCount)
        if record.floodKey != 0 { bridgeOfKey.remove(UInt64(record.floodKey), index) }
        bridges[Int(index)].isEnabled = false
        bridges[Int(index)].floodPortCount = 0
        bridges[Int(index)].floodHostCount = 0
        linksOfBridge[index] = nil
        services[index] = nil
        portsOfBridge[Int(index)] = []
        indexOfBridge[path] = nil
        names.remove(path, index)
        freeBridges.append(index)
    }

    private mutating func removeRouter(_ path: DevicePath, _ index: Int32) {
        waste += Int(routers[Int(index)].size)
        routers[Int(index)].isEnabled = false
        policy.removeTranslation(of: path)
        answeredByRouter[index] = nil
        hairpins.update(index, [], ports)
        routers[Int(index)].translation = -1
        (routers[Int(index)].root4, routers[Int(index)].root6, routers[Int(index)].size) = (-1, -1, 0)
        portsOfRouter[Int(index)] = []
        indexOfRouter[path] = nil
        freeRouters.append(index)
    }
}
