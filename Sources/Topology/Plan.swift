// SPDX-License-Identifier: Apache-2.0

import Wire

/// What has to change so that a drawing becomes true.
public struct Plan: Sendable, Equatable {
    /// What happens to an object.
    public enum Action: String, Sendable {
        /// It is made.
        case create
        /// It is changed.
        case update
        /// It goes.
        case delete
    }

    /// What happens to one object.
    public struct Item: Sendable, Equatable {
        /// What happens.
        public var action: Action
        /// Which object.
        public var key: ObjectKey
        /// The object as it is to be; `nil` when it goes.
        public var object: TopologyObject?
        /// What is different, in words.
        public var changes: [String]
    }

    /// What happens: first what goes, then what comes, in order of key.
    public private(set) var items: [Item] = []

    /// Whether nothing has to change.
    public var isEmpty: Bool { items.isEmpty }

    /// Compares what is there with what is wanted.
    ///
    /// - Parameters:
    ///   - tenants: whose devices become exactly what is wanted; others stay as they are.
    ///   - others: hosts and zones that become what is wanted; none of them goes.
    ///   - removes: whether devices and ports of the tenants that are not wanted go.
    public init(
        from current: Topology, to wanted: Topology, tenants: Set<String>, others: Set<ObjectKey>, removes: Bool = true
    ) {
        func isMeant(_ key: ObjectKey) -> Bool {
            if others.contains(key) { return true }
            // What is linked across tenants comes and goes with the link.
            if case .port = key { return true }
            return key.tenant.map(tenants.contains) ?? false
        }
        for key in wanted.keys where isMeant(key) {
            guard var after = wanted[key] else { continue }
            let before = current[key]
            after.takeKeys(of: before)
            guard let before else {
                items.append(Item(action: .create, key: key, object: after, changes: after.summary))
                continue
            }
            if before == after { continue }
            items.append(Item(action: .update, key: key, object: after, changes: Plan.changes(before, after)))
        }
        if removes {
            for path in current.bridges.keys where tenants.contains(path.tenant) && wanted.bridges[path] == nil {
                items.append(Item(action: .delete, key: .bridge(path), object: nil, changes: []))
            }
            for path in current.routers.keys where tenants.contains(path.tenant) && wanted.routers[path] == nil {
                items.append(Item(action: .delete, key: .router(path), object: nil, changes: []))
            }
            for path in current.ports.keys where tenants.contains(path.device.tenant) && wanted.ports[path] == nil {
                // The cluster's own, as long as there is its router.
                if path.isMonitor, wanted.routers[path.device] != nil { continue }
                items.append(Item(action: .delete, key: .port(path), object: nil, changes: []))
            }
            let named =
                current.chains.keys.map(ObjectKey.chain) + current.portGroups.keys.map(ObjectKey.portGroup)
                + current.addressGroups.keys.map(ObjectKey.addressGroup)
                + current.securityGroups.keys.map(ObjectKey.securityGroup) + current.pools.keys.map(ObjectKey.pool)
                + current.mirrors.keys.map(ObjectKey.mirror)
            for key in named where key.tenant.map(tenants.contains) == true && wanted[key] == nil {
                items.append(Item(action: .delete, key: key, object: nil, changes: []))
            }
        }
        items.sort { ($0.action == .delete ? 0 : 1, $0.key) < ($1.action == .delete ? 0 : 1, $1.key) }
    }

    private static func changes(_ before: TopologyObject, _ after: TopologyObject) -> [String] {
        let (old, new) = (before.fields, after.fields)
        let was = Dictionary(old, uniquingKeysWith: { a, _ in a })
        let names = Set(new.map(\.0))
        var changes = new.compactMap { name, value -> String? in
            let was = was[name] ?? ""
            if was == value { return nil }
            return "\(name): \(was.isEmpty ? "none" : was) -> \(value.isEmpty ? "none" : value)"
        }
        changes += old.filter { !names.contains($0.0) }.map { "\($0.0): \($0.1) -> none" }
        // Rules that only change places.
        if changes.isEmpty { changes = ["order: \(new.map(\.0).joined(separator: ", "))"] }
        return changes
    }
}

extension TopologyObject {
    /// Keys in tunnels are given by the cluster, and stay.
    fileprivate mutating func takeKeys(of other: TopologyObject?) {
        switch (self, other) {
        case (.port(var port), .port(let old)?):
            port.tunnelKey = old.tunnelKey
            self = .port(port)
        case (.port(var port), _):
            port.tunnelKey = 0
            self = .port(port)
        case (.bridge(var bridge), .bridge(let old)?):
            bridge.floodKey = old.floodKey
            self = .bridge(bridge)
        case (.bridge(var bridge), _):
            bridge.floodKey = 0
            self = .bridge(bridge)
        default: break
        }
    }

    /// The object's properties in the words of a manifest; empty where there is nothing to say.
    public var fields: [(String, String)] {
        switch self {
        case .bridge(let bridge):
            return [
                ("enabled", bridge.isEnabled ? "true" : "false"),
                ("subnet", bridge.subnets.map(\.description).joined(separator: ", ")),
            ] + bridge.filters.fields
                + bridge.dhcp.map { ("dhcp \($0.subnet)", TopologyObject.words($0.fields)) }
                + bridge.advertised.map { ("ra \($0.prefix)", TopologyObject.words($0.fields)) }
                + (bridge.names.map { [("dns", TopologyObject.words($0.fields))] } ?? [])
                + (bridge.multicast.map { [("multicast", TopologyObject.words($0.fields))] } ?? [])
        case .router(let router):
            return [
                ("enabled", router.isEnabled ? "true" : "false"),
                ("routes", router.routes.map(\.description).sorted().joined(separator: "; ")),
            ] + router.filters.fields + router.translation.fields
                + (router.bgp.map { [("bgp", TopologyObject.words($0.fields, whole: true))] } ?? [])
        case .port(let port):
            var attached = ("", "", "")
            switch port.attachment {
            case .none: break
            case .exterior(let host, let interface): attached = (host, interface, "")
            case .peer(let other): attached = ("", "", other.description)
            }
            return [
                ("enabled", port.isEnabled ? "true" : "false"), ("mac", port.mac.description),
                ("address", port.addresses.map(\.description).joined(separator: ", ")), ("vlan", port.vlan.description),
                ("host", attached.0), ("interface", attached.1), ("peer", attached.2),
            ] + port.filters.fields + [
                ("groups", port.groups.sorted().joined(separator: ", ")),
                ("security", port.security.sorted().joined(separator: ", ")),
                ("allowed", port.allowed.map(\.description).sorted().joined(separator: ", ")),
                (
                    "qos",
                    port.quality.fields.map { "\($0.name) \($0.values.joined(separator: ", "))" }.joined(
                        separator: "; ")
                ), ("segment", port.segment.map { "\($0.name), preference \($0.preference)" } ?? ""),
                (
                    "vxlan",
                    (port.vxlan?.fields ?? []).map { "\($0.name) \($0.values.joined(separator: ", "))" }.joined(
                        separator: "; ")
                ),
            ] + port.services.enumerated().map { ("service \($0.offset + 1)", $0.element.text) }
                + (port.uplink?.peers ?? []).map { ("peer \($0.address)", $0.text) }
                + (port.uplink?.snippet.map { [("snippet", "\($0.utf8.count) bytes, no. \(stableHash($0) % 4096)")] }
                    ?? [])
                + (port.uplink.map { $0.daemon == .bird ? [] : [("daemon", $0.daemon.rawValue)] } ?? [])
        case .host(let host):
            return [
                (
                    "address",
                    host.tunnelAddresses.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                        .joined(separator: ", ")
                ), ("rate", host.rateText ?? ""),
            ]
        case .zone(let zone): return [("tunnel", zone.encapsulation.rawValue), ("mtu", "\(zone.underlayMTU)")]
        case .chain(let chain): return chain.rules.map { ("rule \($0.id)", $0.description) }
        case .portGroup: return []
        case .securityGroup(let group): return group.fields
        case .pool(let pool): return pool.fields
        case .mirror(let mirror):
            return mirror.fields.map { ($0.name, $0.values.joined(separator: ", ")) }
                + mirror.conditions.enumerated().map {
                    ("match \($0.offset + 1)", TopologyObject.words($0.element.fields))
                }
        case .tenant(let settings): return settings.fields
        case .addressGroup(let group):
            return [("addresses", group.members.sorted().map(\.description).joined(separator: ", "))]
        }
    }

    /// What is said of a network besides which it is.
    private static func words(_ fields: [(name: String, values: [String])], whole: Bool = false) -> String {
        fields.dropFirst(whole ? 0 : 1).map { "\($0.name) \($0.values.joined(separator: ", "))" }.joined(
            separator: "; ")
    }

    /// What is worth saying of a new object.
    fileprivate var summary: [String] {
        fields.filter { name, value in
            !value.isEmpty && name != "mac" && !(name == "enabled" && value == "true")
        }
        .map { "\($0.0) \($0.1)" }
    }
}

extension VLANMode: CustomStringConvertible {
    /// As in `10`, `trunk all native 5`; nothing for the untagged network.
    public var description: String {
        switch self {
        case .access(0): return ""
        case .access(let id): return "\(id)"
        case .trunk(let allowed, let native):
            let list = allowed.map { $0.sorted().map(String.init).joined(separator: ",") } ?? "all"
            return "trunk \(list) native \(native.map(String.init) ?? "none")"
        }
    }
}

extension Route: CustomStringConvertible {
    /// As in `10.0.0.0/8 from 10.1.0.0/16 via 10.0.0.1 port up weight 5`.
    public var description: String {
        var text = destination.description
        if let source { text += " from \(source)" }
        switch nextHop {
        case .gateway(let gateway, let port): text += " via \(gateway)" + (port.map { " port \($0.name)" } ?? "")
        case .port(let port): text += " port \(port.name)"
        case .blackhole: text += " blackhole"
        case .reject: text += " reject"
        }
        return weight == 100 ? text : text + " weight \(weight)"
    }
}
