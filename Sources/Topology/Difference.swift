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

    /// Ports that were linked to a port that changed, before or after.
    public var neighbors: Set<PortPath> = []

    /// Nothing differs.
    public init() {}

    /// Whether nothing differs.
    public var isEmpty: Bool {
        bridges.isEmpty && routers.isEmpty && routes.isEmpty && ports.isEmpty && hosts.isEmpty && zones.isEmpty
    }

    /// Compares two snapshots.
    public init(from old: Topology, to new: Topology) {
        bridges = changed(old.bridges, new.bridges)
        ports = old.ports.changes(to: new.ports)
        hosts = changed(old.hosts, new.hosts)
        zones = changed(old.zones, new.zones)
        for path in changed(old.routers, new.routers) { compareRouter(path, old, new) }
        findNeighbors(old, new)
    }

    /// Compares two snapshots that differ in the named objects at most.
    public init(from old: Topology, to new: Topology, among keys: some Sequence<ObjectKey>) {
        for key in keys {
            switch key {
            case .bridge(let path): if old.bridges[path] != new.bridges[path] { bridges.insert(path) }
            case .router(let path): if old.routers[path] != new.routers[path] { compareRouter(path, old, new) }
            case .port(let path): if old.ports[path] != new.ports[path] { ports.insert(path) }
            case .host(let name): if old.hosts[name] != new.hosts[name] { hosts.insert(name) }
            case .zone(let name): if old.zones[name] != new.zones[name] { zones.insert(name) }
            }
        }
        findNeighbors(old, new)
    }

    private mutating func compareRouter(_ path: DevicePath, _ old: Topology, _ new: Topology) {
        let before = old.routers[path]
        let after = new.routers[path]
        if before?.isEnabled != after?.isEnabled || (before == nil) != (after == nil) { routers.insert(path) }
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

private func changed<Key: Hashable, Value: Equatable>(_ old: [Key: Value], _ new: [Key: Value]) -> Set<Key> {
    var keys: Set<Key> = []
    for (key, value) in old where new[key] != value { keys.insert(key) }
    for key in new.keys where old[key] == nil { keys.insert(key) }
    return keys
}
