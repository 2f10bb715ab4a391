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

    /// Nothing differs.
    public init() {}

    /// Whether nothing differs.
    public var isEmpty: Bool {
        bridges.isEmpty && routers.isEmpty && routes.isEmpty && ports.isEmpty && hosts.isEmpty && zones.isEmpty
    }

    /// Compares two snapshots.
    public init(from old: Topology, to new: Topology) {
        bridges = changed(old.bridges, new.bridges)
        ports = changed(old.ports, new.ports)
        hosts = changed(old.hosts, new.hosts)
        zones = changed(old.zones, new.zones)
        for path in changed(old.routers, new.routers) {
            let before = old.routers[path]
            let after = new.routers[path]
            if before?.isEnabled != after?.isEnabled { routers.insert(path) }
            let difference = Set(before?.routes ?? []).symmetricDifference(after?.routes ?? [])
            if !difference.isEmpty { routes[path] = Set(difference.map(\.destination)) }
        }
    }
}

private func changed<Key: Hashable, Value: Equatable>(_ old: [Key: Value], _ new: [Key: Value]) -> Set<Key> {
    var keys: Set<Key> = []
    for (key, value) in old where new[key] != value { keys.insert(key) }
    for key in new.keys where old[key] == nil { keys.insert(key) }
    return keys
}
