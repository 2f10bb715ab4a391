// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Turns names into indices and relations into tables. Runs once a snapshot, off the packet threads.
struct FabricBuilder {
    var ports: [PortRecord] = []
    var portPaths: [PortPath] = []
    var addresses: [InterfaceAddress] = []
    var bridges: [BridgeRecord] = []
    var bridgePaths: [DevicePath] = []
    var floodPorts: [Int32] = []
    var floodHosts: [FloodHost] = []
    var routers: [RouterRecord] = []
    var routerPaths: [DevicePath] = []
    var hosts: [HostRecord] = []
    var hostNames: [String] = []
    var trunkSets: [UInt64] = []
    var routing = RoutingTable()
    var stations = StationTable([])
    var neighbors = NeighborTable([:])
    var indexOfPort: [PortPath: Int32] = [:]

    private let topology: Topology
    private let localHost: String
    private var bridgeIndex: [DevicePath: Int32] = [:]
    private var routerIndex: [DevicePath: Int32] = [:]
    private var hostIndex: [String: Int32] = [:]
    private var portsOfDevice: [DevicePath: [Int32]] = [:]
    /// Ports of each bridge that lead to other bridges: few, where a bridge has many.
    private var linksOfBridge: [Int32: [Int32]] = [:]

    init(_ topology: Topology, localHost: String) {
        self.topology = topology
        self.localHost = localHost
        addHosts()
        bridgePaths = topology.bridges.keys.sorted()
        routerPaths = topology.routers.keys.sorted()
        for (index, path) in bridgePaths.enumerated() { bridgeIndex[path] = Int32(index) }
        for (index, path) in routerPaths.enumerated() { routerIndex[path] = Int32(index) }
        addPorts()
        addLinks()
        addBridges()
        addStations()
        addRouters()
    }

    private mutating func addHosts() {
        hostNames = topology.hosts.keys.sorted()
        for (index, name) in hostNames.enumerated() {
            hostIndex[name] = Int32(index)
            let tunnel = name == localHost ? nil : topology.tunnel(from: localHost, to: name)
            let mtu = tunnel.map { $0.zone.overlayMTU(underlay: $0.remote.family) } ?? 0
            hosts.append(HostRecord(isReachable: tunnel != nil, mtu: Int32(mtu), tag: .host(name)))
        }
    }

    private mutating func addPorts() {
        portPaths = topology.ports.keys.sorted()
        for (index, path) in portPaths.enumerated() { indexOfPort[path] = Int32(index) }
        for path in portPaths {
            guard let port = topology.ports[path] else { continue }
            var record = PortRecord(
                isRouter: port.kind == .router, isEnabled: port.isEnabled, attachment: .none, vlanKind: .access,
                vlan: 0,
                trunkSet: -1, device: -1, peer: -1, host: -1, tunnelKey: port.tunnelKey,
                addressStart: Int32(addresses.count), addressCount: Int32(port.addresses.count), mac: port.mac,
                tag: .port(path))
            addresses += port.addresses
            record.device = (record.isRouter ? routerIndex[path.device] : bridgeIndex[path.device]) ?? -1
            switch port.attachment {
            case .none: break
            case .peer(let other):
                if let peer = indexOfPort[other] {
                    record.attachment = .peer
                    record.peer = peer
                }
            case .exterior(let host, _):
                record.attachment = host == localHost ? .local : .remote
                record.host = hostIndex[host] ?? -1
            }
            switch port.vlan {
            case .access(let id): record.vlan = id
            case .trunk(let allowed, let native):
                record.vlanKind = .trunk
                record.vlan = native ?? PortRecord.noVLAN
                if let allowed {
                    record.trunkSet = Int32(trunkSets.count)
                    var words = [UInt64](repeating: 0, count: 64)
                    for id in allowed where id < 4096 { words[Int(id) / 64] |= 1 << UInt64(id % 64) }
                    trunkSets += words
                }
            }
            portsOfDevice[path.device, default: []].append(Int32(ports.count))
            ports.append(record)
        }
    }

    private mutating func addLinks() {
        for (index, port) in ports.enumerated()
        where !port.isRouter && port.attachment == .peer && !ports[Int(port.peer)].isRouter {
            linksOfBridge[port.device, default: []].append(Int32(index))
        }
    }

    private mutating func addBridges() {
        for path in bridgePaths {
            guard let bridge = topology.bridges[path] else { continue }
            let own = portsOfDevice[path] ?? []
            let tag = Tag.bridge(path)
            var record = BridgeRecord(
                isEnabled: bridge.isEnabled, isVLANAware: false, floodKey: bridge.floodKey,
                floodPortStart: Int32(floodPorts.count), floodPortCount: 0, floodHostStart: Int32(floodHosts.count),
                floodHostCount: 0, tag: tag, floodTag: .flood(bridge: tag), stationsTag: .stations(bridge: tag))
            var remote: [FloodHost] = []
            for index in own {
                let port = ports[Int(index)]
                if port.vlanKind == .trunk || port.vlan != 0 { record.isVLANAware = true }
                guard port.isEnabled else { continue }
                switch port.attachment {
                case .local, .peer: floodPorts.append(index)
                case .remote where port.host >= 0:
                    remote += vlans(of: port).map { FloodHost(host: port.host, vlan: $0) }
                case .remote, .none: break
                }
            }
            record.floodPortCount = Int32(floodPorts.count) - record.floodPortStart
            remote.sort { ($0.host, $0.vlan) < ($1.host, $1.vlan) }
            for (index, entry) in remote.enumerated() where index == 0 || remote[index - 1] != entry {
                floodHosts.append(entry)
            }
            record.floodHostCount = Int32(floodHosts.count) - record.floodHostStart
            bridges.append(record)
        }
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

    /// Where each declared MAC and address is, seen from every bridge of its segment.
    private mutating func addStations() {
        var stationEntries: [(bridge: Int32, vlan: UInt16, mac: MACAddress, port: Int32)] = []
        var neighborEntries: [NeighborTable.Key: NeighborTable.Neighbor] = [:]
        for (index, port) in ports.enumerated() where !port.isRouter && port.device >= 0 {
            let owner: Int32
            switch port.attachment {
            case .peer:
                guard ports[Int(port.peer)].isRouter else { continue }
                owner = port.peer
            case .local, .remote, .none: owner = Int32(index)
            }
            // What is behind a trunk sits in VLANs that the declaration does not tell: it is learned.
            guard port.vlanKind == .access else { continue }
            let station = ports[Int(owner)]
            let range = Int(station.addressStart)..<Int(station.addressStart + station.addressCount)
            visit(from: Int32(index), vlan: port.vlan) { bridge, vlan, via in
                stationEntries.append((bridge, vlan, station.mac, via))
                for address in addresses[range] {
                    let key = NeighborTable.Key(bridge: bridge, vlan: vlan, address: address.address)
                    neighborEntries[key] = .init(port: via, mac: station.mac, owner: owner)
                }
                if station.isRouter {
                    let linkLocal = IPAddress(IPv6Address.linkLocal(for: station.mac))
                    let key = NeighborTable.Key(bridge: bridge, vlan: vlan, address: linkLocal)
                    neighborEntries[key] = .init(port: via, mac: station.mac, owner: owner)
                }
            }
        }
        stations = StationTable(stationEntries)
        neighbors = NeighborTable(neighborEntries)
    }

    /// Calls `body` for every (bridge, VLAN) from which a frame can reach `port`, with the port that leads towards it.
    private func visit(from port: Int32, vlan: UInt16, _ body: (Int32, UInt16, Int32) -> Void) {
        struct Place: Hashable {
            var bridge: Int32
            var vlan: UInt16
        }
        var seen: Set<Place> = []
        var queue = [(Place(bridge: ports[Int(port)].device, vlan: vlan), port)]
        while let (place, via) = queue.popLast() {
            guard seen.insert(place).inserted else { continue }
            body(place.bridge, place.vlan, via)
            for next in linksOfBridge[place.bridge] ?? [] where next != via {
                let link = ports[Int(next)]
                guard carries(link, place.vlan) else { continue }
                let far = ports[Int(link.peer)]
                let tag = link.vlanKind == .trunk && link.vlan != place.vlan ? place.vlan : 0
                let beyond: UInt16
                switch far.vlanKind {
                case .access:
                    guard tag == 0 else { continue }
                    beyond = far.vlan
                case .trunk:
                    beyond = tag == 0 ? far.vlan : tag
                    guard beyond != PortRecord.noVLAN, carries(far, beyond) else { continue }
                }
                queue.append((Place(bridge: far.device, vlan: beyond), link.peer))
            }
        }
    }

    private func carries(_ port: PortRecord, _ vlan: UInt16) -> Bool {
        guard port.vlanKind == .trunk else { return port.vlan == vlan }
        if port.vlan == vlan { return true }
        if vlan == 0 { return false }
        if port.trunkSet < 0 { return true }
        return trunkSets[Int(port.trunkSet) + Int(vlan) / 64] >> UInt64(vlan % 64) & 1 == 1
    }

    private mutating func addRouters() {
        for path in routerPaths {
            guard let router = topology.routers[path] else { continue }
            var entries: [(prefix: Prefix, route: RouteRecord)] = []
            let own = portsOfDevice[path] ?? []
            for index in own where ports[Int(index)].isEnabled { addConnected(index, &entries) }
            for route in router.routes { addStatic(route, own, &entries) }
            let tag = Tag.router(path)
            routers.append(
                RouterRecord(
                    isEnabled: router.isEnabled,
                    root4: routing.add(entries.filter { $0.prefix.family == .ipv4 }, family: .ipv4),
                    root6: routing.add(entries.filter { $0.prefix.family == .ipv6 }, family: .ipv6), tag: tag,
                    routesTag: .routes(router: tag)))
        }
    }

    private func addConnected(_ index: Int32, _ entries: inout [(prefix: Prefix, route: RouteRecord)]) {
        let port = ports[Int(index)]
        func record(_ action: RouteRecord.Action, _ family: AddressFamily) -> RouteRecord {
            RouteRecord(
                action: action, sourceLength: 0, weight: 0, port: index,
                source: IPAddress(high: 0, low: 0, family: family), gateway: IPAddress(high: 0, low: 0, family: family),
                identity: port.tag.bits)
        }
        for address in addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)] {
            let family = address.address.family
            let network = address.network
            entries.append((network, record(.forward, family)))
            entries.append((Prefix(address.address, length: family.width), record(.local, family)))
            if family == .ipv4, network.length < 31 {
                let broadcast = IPAddress(
                    high: network.address.high | ~prefixMask(network.length).high & 0xffff_ffff_0000_0000, low: 0,
                    family: .ipv4)
                entries.append((Prefix(broadcast, length: 32), record(.broadcast, family)))
                entries.append((Prefix(network.address, length: 32), record(.broadcast, family)))
            }
        }
        let linkLocal = Prefix(IPAddress(IPv6Address.linkLocal(for: port.mac)), length: 128)
        entries.append((linkLocal, record(.local, .ipv6)))
    }

    private func addStatic(
        _ route: Route, _ own: [Int32], _ entries: inout [(prefix: Prefix, route: RouteRecord)]
    ) {
        let family = route.destination.family
        var record = RouteRecord(
            action: .forward, sourceLength: UInt8(route.source?.length ?? 0), weight: route.weight, port: -1,
            source: route.source?.address ?? IPAddress(high: 0, low: 0, family: family),
            gateway: IPAddress(high: 0, low: 0, family: family), identity: stableHash(route.name))
        switch route.nextHop {
        case .blackhole: record.action = .blackhole
        case .reject: record.action = .reject
        case .port(let path): record.port = indexOfPort[path] ?? -1
        case .gateway(let gateway, let via):
            record.gateway = gateway
            record.port =
                via.flatMap { indexOfPort[$0] }
                ?? own.first { index in
                    let port = ports[Int(index)]
                    return addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)].contains {
                        $0.network.contains(gateway)
                    }
                } ?? -1
        }
        // A route out of a port that is down is no route: the next best one takes over.
        if record.action == .forward {
            guard record.port >= 0, ports[Int(record.port)].isEnabled else { return }
        }
        entries.append((route.destination, record))
    }
}

extension Route {
    /// What tells the route from the others of its router, on every host and in every version alike. The weight is left out:
    /// a change of weight moves no flow between routes that still share.
    fileprivate var name: String {
        let hop =
            switch nextHop {
            case .gateway(let gateway, let port): "via \(gateway) \(port?.description ?? "")"
            case .port(let port): "port \(port)"
            case .blackhole: "blackhole"
            case .reject: "reject"
            }
        return "\(destination) from \(source?.description ?? "all") \(hop)"
    }
}
