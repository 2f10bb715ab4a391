// SPDX-License-Identifier: Apache-2.0
import Wire

/// What differs between two snapshots, as sets of changed objects: added, removed or altered.
public struct TopologyDifference: Sendable, Equatable {
    /// Bridges whose own record changed.
    public var bridges: Set<DevicePath> = []
    /// Routers whose own record changed, their routes apart.
    public var routers: Set<DevicePath> = []
    /// Destinations whose static routes changed, by router.
    public var routes: [DevicePath: Set<Prefix>] = [:]
    /// Ports.
    public var ports: Set<PortPath> = []
    /// Hosts.
    public var hosts: Set<String> = []
    /// Tunnel zones.
    public var zones: Set<String> = []
    /// Chains.
    public var chains: Set<DevicePath> = []
    /// Groups of ports.
    public var portGroups: Set<DevicePath> = []
    /// Groups of addresses.
    public var addressGroups: Set<DevicePath> = []
    /// Security groups whose rules changed.
    public var securityGroups: Set<DevicePath> = []
    /// Pools of servers.
    public var pools: Set<DevicePath> = []
    /// Mirrors.
    public var mirrors: Set<DevicePath> = []
    /// Tenants whose settings changed.
    public var settings: Set<String> = []

    /// Ports that were linked to a port that changed, before or after.
    public var neighbors: Set<PortPath> = []

    /// Nothing differs.
    public init() {}

    /// Whether nothing differs.
    public var isEmpty: Bool {
        bridges.isEmpty && routers.isEmpty && routes.isEmpty && ports.isEmpty && hosts.isEmpty && zones.isEmpty
            && chains.isEmpty && portGroups.isEmpty && addressGroups.isEmpty
            && securityGroups.isEmpty && pools.isEmpty && mirrors.isEmpty && settings.isEmpty
    }

    /// Compares two snapshots.
    public init(from old: Topology, to new: Topology) {
        bridges = changed(old.bridges, new.bridges)
        ports = old.ports.changes(to: new.ports)
        hosts = changed(old.hosts, new.hosts)
        zones = changed(old.zones, new.zones)
        chains = old.chains.changes(to: new.chains)
        portGroups = old.portGroups.changes(to: new.portGroups)
        addressGroups = old.addressGroups.changes(to: new.addressGroups)
        securityGroups = old.securityGroups.changes(to: new.securityGroups)
        pools = old.pools.changes(to: new.pools)
        mirrors = old.mirrors.changes(to: new.mirrors)
        settings = changed(old.settings, new.settings)
        for path in changed(old.routers, new.routers) { compareRouter(path, old.routers[path], new.routers[path]) }
        findNeighbors(old, new)
    }

    /// What changed, of objects as they were and as they are.
    public init(_ changes: [ObjectKey: ObjectChange]) {
        for (key, change) in changes {
            switch key {
            case .bridge(let path): bridges.insert(path)
            case .port(let path):
                ports.insert(path)
                for object in [change.before, change.after] {
                    guard case .port(let port)? = object else { continue }
                    if case .peer(let other) = port.attachment { neighbors.insert(other) }
                    if let daemon = port.daemon { ports.insert(daemon.path) }
                }
            case .host(let name): hosts.insert(name)
            case .zone(let name): zones.insert(name)
            case .chain(let path): chains.insert(path)
            case .portGroup(let path): portGroups.insert(path)
            case .addressGroup(let path): addressGroups.insert(path)
            case .securityGroup(let path): securityGroups.insert(path)
            case .pool(let path): pools.insert(path)
            case .mirror(let path): mirrors.insert(path)
            case .tenant(let name): settings.insert(name)
            case .router(let path): compareRouter(path, change.before?.router, change.after?.router)
            }
        }
    }

    private mutating func compareRouter(_ path: DevicePath, _ before: Router?, _ after: Router?) {
        if before?.isEnabled != after?.isEnabled || before?.filters != after?.filters
            || before?.translation != after?.translation || before?.bgp != after?.bgp
            || (before == nil) != (after == nil)
        {
            routers.insert(path)
        }
        let difference = Set(before?.routes ?? []).symmetricDifference(after?.routes ?? [])
        if !difference.isEmpty { routes[path] = Set(difference.map(\.destination)) }
    }

    private mutating func findNeighbors(_ old: Topology, _ new: Topology) {
        for path in ports {
            for port in [old.ports[path], new.ports[path]] {
                if case .peer(let other)? = port?.attachment { neighbors.insert(other) }
            }
        }
    }
}

/// An object before and after a change; `nil` where there is none.
public struct ObjectChange: Sendable {
    /// What it was.
    public var before: TopologyObject?
    /// What it is.
    public var after: TopologyObject?

    /// A change.
    public init(before: TopologyObject?, after: TopologyObject?) {
        self.before = before
        self.after = after
    }
}

extension TopologyObject {
    fileprivate var router: Router? { if case .router(let router) = self { router } else { nil } }
}

private func changed<Key: Hashable, Value: Equatable>(_ old: [Key: Value], _ new: [Key: Value]) -> Set<Key> {
    var keys: Set<Key> = []
    for (key, value) in old where new[key] != value { keys.insert(key) }
    for key in new.keys where old[key] == nil { keys.insert(key) }
    return keys
}
