// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// What a ``Fabric`` is made of: names turned into indices, relations into tables. Made off the packet threads.
struct FabricTables: Sendable {
    var ports: [PortRecord] = []
    var portPaths = PagedArray<PortPath>()
    var addresses: [InterfaceAddress] = []
    var bridges: [BridgeRecord] = []
    var bridgePaths: [DevicePath] = []
    /// Ports that a flood on a bridge visits on this host, by bridge in runs.
    var floodPorts: [Int32] = []
    /// Hosts that a flood on a bridge is sent to, by bridge in runs, a host's entries together.
    var floodHosts: [FloodHost] = []
    var routers: [RouterRecord] = []
    var routerPaths: [DevicePath] = []
    var hosts: [HostRecord] = []
    var hostNames: [String] = []
    /// VLANs that trunks let pass, 64 words of bits a trunk.
    var trunkSets: [UInt64] = []
    var routing = RoutingTable()
    /// Tags of the groups of ports, by port in runs.
    var portGroups: [UInt64] = []
    /// Groups whose ports stand in for each other, by tag: the hosts that their ports are bound to, by port.
    var standIns: [UInt64: [Int32: Int32]] = [:]
    /// What machines in security groups may send as, port by port.
    var allowed: [AllowedAddress] = []
    var policy = PolicyTables()
    /// Declared MACs and declared addresses.
    var stations = StationTable()
    var neighbors = StationTable()
    /// Where addresses are that routers answer for besides their own.
    var answered = StationTable()
    var indexOfTag = IndexTable()
    var portOfKey = IndexTable()
    var bridgeOfKey = IndexTable()

    // What only the making needs.
    var indexOfBridge = TreeDictionary<DevicePath, Int32>()
    var indexOfRouter = TreeDictionary<DevicePath, Int32>()
    var indexOfHost: [String: Int32] = [:]
    /// Ports of each device, in order of name.
    var portsOfBridge: [[Int32]] = []
    var portsOfRouter: [[Int32]] = []
    /// Addresses that routers answer for besides their own, of those that translate.
    var answeredByRouter: [Int32: Set<IPAddress>] = [:]
    /// Ports of each bridge that lead to other bridges: few, where a bridge has many.
    var linksOfBridge: [Int32: [Int32]] = [:]
    /// What bridges tell machines of addresses and routers, by index.
    var services: [Int32: BridgeServices] = [:]
    /// What mirrors copy.
    var mirrors = MirrorTable()
    /// Services that traffic goes through.
    var hops = HopTable()
    /// Where answers between neighbors are routers' to translate.
    var hairpins = HairpinTable()
    /// Ports of segments.
    var segments = SegmentTable()
    /// Who the daemons of uplinks speak BGP with, by uplink; of one with a snippet that is not known.
    var daemonPeers: [Int32: Set<IPAddress>] = [:]
    /// What names are looked up by.
    var names = NameTable()
    var freePorts: [Int32] = []
    var freeBridges: [Int32] = []
    var freeRouters: [Int32] = []
    /// Places in the lists of runs that nothing uses any more.
    var waste = 0
    let localHost: String

    /// All of a topology.
    init(_ topology: Topology, localHost: String) {
        self.localHost = localHost
        addHosts(topology)
        policy.update(topology, chains: Set(topology.chains.keys), groups: Set(topology.addressGroups.keys))
        policy.updatePools(topology, Set(topology.pools.keys))
        policy.updateSecurity(topology, Set(topology.securityGroups.keys))
        for path in topology.bridges.keys.sorted() { placeBridge(path) }
        for path in topology.routers.keys.sorted() { placeRouter(path) }
        let paths = (Array(topology.ports.keys) + topology.ports.uplinks.map(\.daemon)).sorted()
        indexOfTag.reserve(paths.count)
        portOfKey.reserve(paths.count)
        ports.reserveCapacity(paths.count)
        for path in paths {
            guard let port = topology.ports[path] else { continue }
            let index = placePort(path)
            if port.kind == .router {
                if let device = indexOfRouter[path.device] { portsOfRouter[Int(device)].append(index) }
            } else if let device = indexOfBridge[path.device] {
                portsOfBridge[Int(device)].append(index)
            }
        }
        for group in topology.portGroups.values where group.isStateful {
            standIns[Tag.portGroup(group.path).bits] = [:]
        }
        if !topology.mirrors.isEmpty { mirrors = MirrorTable(topology, self, after: nil) }
        if !topology.ports.served.isEmpty { hops = HopTable(topology, self, after: nil) }
        for index in ports.indices {
            if let port = topology.ports[portPaths[index]] { fillPort(Int32(index), port, topology) }
        }
        for index in bridges.indices {
            if let bridge = topology.bridges[bridgePaths[index]] { fillBridge(Int32(index), bridge) }
        }
        stations.reserve(paths.count)
        neighbors.reserve(paths.count)
        for index in routers.indices {
            if let router = topology.routers[routerPaths[index]] { fillRouter(Int32(index), router, topology) }
        }
        for index in ports.indices { addStation(Int32(index)) }
    }

    private mutating func addHosts(_ topology: Topology) {
        hostNames = topology.hosts.keys.sorted()
        for (index, name) in hostNames.enumerated() {
            indexOfHost[name] = Int32(index)
            let tunnels = name == localHost ? [] : topology.tunnels(from: localHost, to: name)
            // Whichever way a packet takes, it is to fit.
            let mtu = tunnels.map { $0.zone.overlayMTU(underlay: $0.remote.family) }.min()
            hosts.append(HostRecord(isReachable: mtu != nil, mtu: Int32(mtu ?? 0), tag: .host(name)))
        }
    }

    // MARK: - Places

    @discardableResult
    mutating func placeBridge(_ path: DevicePath) -> Int32 {
        let index = freeBridges.popLast() ?? Int32(bridges.count)
        let tag = Tag.bridge(path)
        let record = BridgeRecord(
            isEnabled: false, isVLANAware: false, floodKey: 0, floodPortStart: 0, floodPortCount: 0, floodHostStart: 0,
            floodHostCount: 0, inbound: -1, outbound: -1, tag: tag, floodTag: .flood(bridge: tag),
            stationsTag: .stations(bridge: tag))
        if Int(index) == bridges.count {
            bridges.append(record)
            bridgePaths.append(path)
            portsOfBridge.append([])
        } else {
            bridges[Int(index)] = record
            bridgePaths[Int(index)] = path
        }
        indexOfBridge[path] = index
        names.add(path, index)
        return index
    }

    @discardableResult
    mutating func placeRouter(_ path: DevicePath) -> Int32 {
        let index = freeRouters.popLast() ?? Int32(routers.count)
        let tag = Tag.router(path)
        let record = RouterRecord(
            isEnabled: false, root4: -1, root6: -1, size: 0, inbound: -1, outbound: -1, translation: -1,
            tag: tag, routesTag: .routes(router: tag))
        if Int(index) == routers.count {
            routers.append(record)
            routerPaths.append(path)
            portsOfRouter.append([])
        } else {
            routers[Int(index)] = record
            routerPaths[Int(index)] = path
        }
        indexOfRouter[path] = index
        return index
    }

    /// A place for a port, to be filled.
    mutating func placePort(_ path: PortPath) -> Int32 {
        var record = PortRecord.none
        record.tag = .port(path)
        let index = freePorts.popLast() ?? Int32(ports.count)
        if Int(index) == ports.count {
            ports.append(record)
            portPaths.append(path)
        } else {
            ports[Int(index)] = record
            portPaths[Int(index)] = path
        }
        indexOfTag.insert(record.tag.bits, index)
        names.add(path, index)
        return index
    }

    /// The port of a name.
    func index(of path: PortPath) -> Int32? {
        indexOfTag.first(Tag.port(path).bits) { portPaths[Int($0)] == path }
    }

    // MARK: - Ports

    /// Makes a port's record what the port is. Ports that it names must have their places.
    mutating func fillPort(_ index: Int32, _ port: Port, _ topology: Topology) {
        let old = ports[Int(index)]
        var record = PortRecord.none
        record.tag = old.tag
        record.tenant = .tenant(port.path.device.tenant)
        record.isRouter = port.kind == .router
        record.isMonitor = port.isMonitor
        if port.uplink != nil || port.path.isDaemon {
            record.isDaemon = port.path.isDaemon
            record.companion = self.index(of: record.isDaemon ? port.path.uplink : port.path.daemon) ?? -1
        }
        if port.uplink != nil || daemonPeers[index] != nil {
            daemonPeers[index] = port.uplink.flatMap { $0.snippet == nil ? Set($0.peers.map(\.address)) : nil }
        }
        record.isEnabled = port.isEnabled
        record.isMirroredOut = mirrors.outward[index] != nil
        record.isServed = !port.services.isEmpty
        record.isService = hops.ends[index] != nil
        record.isShared = port.segment != nil
        record.mtu = Int32(topology.vxlanMTU(of: port) ?? 0)
        if segments.segments[index] != port.segment { segments.segments[index] = port.segment }
        record.mac = port.mac
        record.dscp = port.quality.dscp ?? 0xff
        record.tunnelKey = port.tunnelKey
        record.device = (record.isRouter ? indexOfRouter[port.path.device] : indexOfBridge[port.path.device]) ?? -1
        record.addressCount = Int32(port.addresses.count)
        if old.addressStart >= 0, record.addressCount <= old.addressCount {
            record.addressStart = old.addressStart
            waste += Int(old.addressCount - record.addressCount)
            for (offset, address) in port.addresses.enumerated()
            where addresses[Int(old.addressStart) + offset] != address {
                addresses[Int(old.addressStart) + offset] = address
            }
        } else {
            waste += Int(old.addressCount)
            record.addressStart = Int32(addresses.count)
            addresses += port.addresses
        }
        let tenant = port.path.device.tenant
        record.inbound = policy.chain(port.filters.inbound, of: tenant)
        record.outbound = policy.chain(port.filters.outbound, of: tenant)
        if port.security.isEmpty {
            (record.sends, record.gets) = (-1, -1)
        } else {
            (record.gets, record.sends) = policy.security(of: port.security, tenant: tenant)
        }
        (record.allowedStart, record.allowedCount) = (old.allowedStart, old.allowedCount)
        waste += Self.put(port.allowed.sorted(), &allowed, &record.allowedStart, &record.allowedCount)
        // Security groups are groups of ports, too.
        let groups = port.groups.union(port.security).sorted().map {
            Tag.portGroup(DevicePath(tenant: tenant, name: $0)).bits
        }
        (record.groupStart, record.groupCount) = (old.groupStart, old.groupCount)
        waste += Self.put(groups, &portGroups, &record.groupStart, &record.groupCount)
        switch port.attachment {
        case .none: break
        case .peer(let other):
            if let peer = self.index(of: other) {
                record.attachment = .peer
                record.peer = peer
            }
        case .exterior(let host, _):
            record.attachment = host == localHost ? .local : .remote
            record.host = indexOfHost[host] ?? -1
        }
        switch port.vlan {
        case .access(let id): record.vlan = id
        case .trunk(let allowed, let native):
            record.vlanKind = .trunk
            record.vlan = native ?? PortRecord.noVLAN
            if let allowed {
                record.trunkSet = old.trunkSet >= 0 ? old.trunkSet : Int32(trunkSets.count)
                if old.trunkSet < 0 { trunkSets += repeatElement(0, count: 64) }
                for word in 0..<64 { trunkSets[Int(record.trunkSet) + word] = 0 }
                for id in allowed where id < 4096 {
                    trunkSets[Int(record.trunkSet) + Int(id) / 64] |= 1 << UInt64(id % 64)
                }
            }
        }
        if old.trunkSet >= 0, record.trunkSet < 0 { waste += 64 }
        ports[Int(index)] = record
        if !standIns.isEmpty { noteStandIn(index, groups) }
        if old.tunnelKey != record.tunnelKey {
            if old.tunnelKey != 0 { portOfKey.remove(UInt64(old.tunnelKey), index) }
            if record.tunnelKey != 0 { portOfKey.insert(UInt64(record.tunnelKey), index) }
        }
    }

    // MARK: - Bridges

    /// Makes a bridge's record and floods what the bridge and its ports are.
    mutating func fillBridge(_ index: Int32, _ bridge: Bridge) {
        var record = bridges[Int(index)]
        record.isEnabled = bridge.isEnabled
        record.isVLANAware = false
        record.mindsGroups = bridge.multicast != nil
        record.inbound = policy.chain(bridge.filters.inbound, of: bridge.path.tenant)
        record.outbound = policy.chain(bridge.filters.outbound, of: bridge.path.tenant)
        if record.floodKey != bridge.floodKey {
            if record.floodKey != 0 { bridgeOfKey.remove(UInt64(record.floodKey), index) }
            if bridge.floodKey != 0 { bridgeOfKey.insert(UInt64(bridge.floodKey), index) }
            record.floodKey = bridge.floodKey
        }
        var near: [Int32] = []
        var remote: [FloodHost] = []
        var links: [Int32] = []
        for number in portsOfBridge[Int(index)] {
            let port = ports[Int(number)]
            if port.vlanKind == .trunk || port.vlan != 0 { record.isVLANAware = true }
            if port.attachment == .peer, !ports[Int(port.peer)].isRouter { links.append(number) }
            guard port.isEnabled else { continue }
            switch port.attachment {
            case .local, .peer: near.append(number)
            // What is filtered on its way out is decided here, and sent to the port alone.
            case .remote where port.isFilteredOut || record.outbound >= 0: near.append(number)
            case .remote where port.host >= 0:
                if port.vlanKind == .access {
                    remote.append(FloodHost(host: port.host, vlan: port.vlan))
                } else {
                    remote += vlans(of: port).map { FloodHost(host: port.host, vlan: $0) }
                }
            case .remote, .none: break
            }
        }
        segments.update(portsOfBridge[Int(index)])
        if linksOfBridge[index] != links { linksOfBridge[index] = links.isEmpty ? nil : links }
        remote.sort { ($0.host, $0.vlan) < ($1.host, $1.vlan) }
        var far: [FloodHost] = []
        for entry in remote where far.last != entry { far.append(entry) }
        waste += Self.put(near, &floodPorts, &record.floodPortStart, &record.floodPortCount)
        waste += Self.put(far, &floodHosts, &record.floodHostStart, &record.floodHostCount)
        bridges[Int(index)] = record
        if services[index] != nil || BridgeServices.isWanted(by: bridge) {
            fillServices(index, bridge)
        }
    }

    private mutating func fillServices(_ index: Int32, _ bridge: Bridge) {
        let routers = portsOfBridge[Int(index)].map { ports[Int($0)] }
            .filter { $0.attachment == .peer && $0.vlan == 0 && ports[Int($0.peer)].isRouter }
            .map { port in
                let far = ports[Int(port.peer)]
                return DHCPProgram.RouterPort(
                    addresses: Array(addresses[Int(far.addressStart)..<Int(far.addressStart + far.addressCount)]),
                    mac: far.mac, index: port.peer)
            }
        let ways = hosts.filter(\.isReachable).map { Int($0.mtu) }
        let outside = portsOfBridge[Int(index)].map { Int(ports[Int($0)].mtu) }.filter { $0 > 0 }
        let mtu = (ways + outside).min() ?? 1500
        services[index] =
            BridgeServices.isWanted(by: bridge)
            ? BridgeServices(bridge, routers, mtu: mtu, hosts: Array(hostNames), local: localHost) : nil
    }

    /// Puts a run where the one before lay, or at the end if it is longer. Returns how many places that leaves unused.
    private static func put<Element: Equatable>(
        _ run: [Element], _ list: inout [Element], _ start: inout Int32, _ count: inout Int32
    ) -> Int {
        let before = Int(count)
        count = Int32(run.count)
        if run.count <= before {
            for (offset, element) in run.enumerated() where list[Int(start) + offset] != element {
                list[Int(start) + offset] = element
            }
            return before - run.count
        }
        start = Int32(list.count)
        list += run
        return before
    }

    /// VLANs that a port takes part in; one ``FloodHost/anyVLAN`` for a trunk of all.
    private func vlans(of port: PortRecord) -> [UInt16] {
        guard port.vlanKind == .trunk else { return [port.vlan] }
        guard port.trunkSet >= 0 else { return port.vlan == 0 ? [0, FloodHost.anyVLAN] : [FloodHost.anyVLAN] }
        var list = port.vlan == PortRecord.noVLAN ? [] : [port.vlan]
        for id in 0..<4096
        where trunkSets[Int(port.trunkSet) + id / 64] >> UInt64(id % 64) & 1 == 1 && UInt16(id) != port.vlan {
            list.append(UInt16(id))
        }
        return list
    }
}
