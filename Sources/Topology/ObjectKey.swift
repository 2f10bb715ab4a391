// SPDX-License-Identifier: Apache-2.0

/// Names an object of the topology, whatever its kind.
public enum ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// A bridge.
    case bridge(DevicePath)
    /// A router.
    case router(DevicePath)
    /// A port.
    case port(PortPath)
    /// A host.
    case host(String)
    /// A tunnel zone.
    case zone(String)
    /// A chain of rules.
    case chain(DevicePath)
    /// A group of ports.
    case portGroup(DevicePath)
    /// A group of addresses.
    case addressGroup(DevicePath)
    /// A security group.
    case securityGroup(DevicePath)
    /// A pool of servers.
    case pool(DevicePath)
    /// A mirror.
    case mirror(DevicePath)
    /// Settings of a tenant.
    case tenant(String)

    /// The kinds of objects.
    public enum Kind: String, Sendable, CaseIterable {
        /// Bridges.
        case bridge
        /// Routers.
        case router
        /// Ports.
        case port
        /// Hosts.
        case host
        /// Tunnel zones.
        case zone
        /// Chains of rules.
        case chain
        /// Groups of ports.
        case portGroup = "port-group"
        /// Groups of addresses.
        case addressGroup = "address-group"
        /// Security groups.
        case securityGroup = "security-group"
        /// Pools of servers.
        case pool
        /// Mirrors.
        case mirror
        /// Settings of tenants.
        case tenant

        /// How names of the kind are made.
        public enum Naming: Sendable {
            /// The name alone: what belongs to operators.
            case plain
            /// `tenant/name`.
            case ofTenant
            /// `tenant/device/name`.
            case ofDevice
        }

        /// How its objects are named.
        public var naming: Naming {
            switch self {
            case .host, .zone, .tenant: .plain
            case .bridge, .router, .chain, .portGroup, .addressGroup, .securityGroup, .pool, .mirror: .ofTenant
            case .port: .ofDevice
            }
        }

        /// As in `bridges`.
        public var plural: String { rawValue + "s" }

        /// As in `port group`.
        public var words: String { rawValue.replacing("-", with: " ") }

        /// Reads `bridge` or `bridges`.
        public init?(word: String) {
            guard let kind = Kind.allCases.first(where: { $0.rawValue == word || $0.plural == word }) else {
                return nil
            }
            self = kind
        }
    }

    /// A key of a kind and a name, as in `port` and `acme/web/vm1`; `nil` when the name is not one of that kind.
    public init?(_ kind: Kind, _ name: String) {
        switch kind {
        case .bridge:
            guard let path = DevicePath(name) else { return nil }
            self = .bridge(path)
        case .router:
            guard let path = DevicePath(name) else { return nil }
            self = .router(path)
        case .port:
            guard let path = PortPath(name) else { return nil }
            self = .port(path)
        case .host:
            guard isValidName(name) else { return nil }
            self = .host(name)
        case .zone:
            guard isValidName(name) else { return nil }
            self = .zone(name)
        case .chain:
            guard let path = DevicePath(name) else { return nil }
            self = .chain(path)
        case .portGroup:
            guard let path = DevicePath(name) else { return nil }
            self = .portGroup(path)
        case .addressGroup:
            guard let path = DevicePath(name) else { return nil }
            self = .addressGroup(path)
        case .securityGroup:
            guard let path = DevicePath(name) else { return nil }
            self = .securityGroup(path)
        case .pool:
            guard let path = DevicePath(name) else { return nil }
            self = .pool(path)
        case .mirror:
            guard let path = DevicePath(name) else { return nil }
            self = .mirror(path)
        case .tenant:
            guard isValidName(name) else { return nil }
            self = .tenant(name)
        }
    }

    /// Its kind.
    public var kind: Kind {
        switch self {
        case .bridge: .bridge
        case .router: .router
        case .port: .port
        case .host: .host
        case .zone: .zone
        case .chain: .chain
        case .portGroup: .portGroup
        case .addressGroup: .addressGroup
        case .securityGroup: .securityGroup
        case .pool: .pool
        case .mirror: .mirror
        case .tenant: .tenant
        }
    }

    /// Its name, as in `acme/web/vm1`.
    public var name: String {
        switch self {
        case .bridge(let path), .router(let path), .chain(let path), .portGroup(let path), .addressGroup(let path),
            .securityGroup(let path), .pool(let path), .mirror(let path):
            path.description
        case .port(let path): path.description
        case .host(let name), .zone(let name), .tenant(let name): name
        }
    }

    /// The tenant that it belongs to; hosts and zones belong to the operator.
    public var tenant: String? {
        switch self {
        case .bridge(let path), .router(let path), .chain(let path), .portGroup(let path), .addressGroup(let path),
            .securityGroup(let path), .pool(let path), .mirror(let path):
            path.tenant
        case .port(let path): path.device.tenant
        case .host, .zone, .tenant: nil
        }
    }

    /// As in `port acme/web/vm1`.
    public var description: String { "\(kind.words) \(name)" }

    /// By kind, then by name.
    public static func < (a: ObjectKey, b: ObjectKey) -> Bool {
        switch (a, b) {
        case (.port(let a), .port(let b)): a < b
        case (.bridge(let a), .bridge(let b)), (.router(let a), .router(let b)), (.chain(let a), .chain(let b)),
            (.portGroup(let a), .portGroup(let b)), (.addressGroup(let a), .addressGroup(let b)),
            (.securityGroup(let a), .securityGroup(let b)), (.pool(let a), .pool(let b)),
            (.mirror(let a), .mirror(let b)):
            a < b
        case (.host(let a), .host(let b)), (.zone(let a), .zone(let b)), (.tenant(let a), .tenant(let b)): a < b
        default: a.order < b.order
        }
    }

    private var order: Int {
        switch self {
        case .zone: 0
        case .host: 1
        case .bridge: 2
        case .router: 3
        case .port: 4
        case .addressGroup: 5
        case .securityGroup: 8
        case .tenant: 9
        case .pool: 10
        case .mirror: 11
        case .portGroup: 6
        case .chain: 7
        }
    }
}

/// An object of the topology, whatever its kind.
public enum TopologyObject: Sendable, Equatable {
    /// A bridge.
    case bridge(Bridge)
    /// A router.
    case router(Router)
    /// A port.
    case port(Port)
    /// A host.
    case host(Host)
    /// A tunnel zone.
    case zone(TunnelZone)
    /// A chain of rules.
    case chain(Chain)
    /// A group of ports.
    case portGroup(PortGroup)
    /// A group of addresses.
    case addressGroup(AddressGroup)
    /// A security group.
    case securityGroup(SecurityGroup)
    /// A pool of servers.
    case pool(Pool)
    /// A mirror.
    case mirror(Mirror)
    /// Settings of a tenant.
    case tenant(TenantSettings)

    /// Its key.
    public var key: ObjectKey {
        switch self {
        case .bridge(let bridge): .bridge(bridge.path)
        case .router(let router): .router(router.path)
        case .port(let port): .port(port.path)
        case .host(let host): .host(host.name)
        case .zone(let zone): .zone(zone.name)
        case .chain(let chain): .chain(chain.path)
        case .portGroup(let group): .portGroup(group.path)
        case .addressGroup(let group): .addressGroup(group.path)
        case .securityGroup(let group): .securityGroup(group.path)
        case .pool(let pool): .pool(pool.path)
        case .mirror(let mirror): .mirror(mirror.path)
        case .tenant(let settings): .tenant(settings.name)
        }
    }
}

extension Topology {
    /// An object of any kind. What is set must have the key that it is set at.
    public subscript(_ key: ObjectKey) -> TopologyObject? {
        get {
            switch key {
            case .bridge(let path): bridges[path].map(TopologyObject.bridge)
            case .router(let path): routers[path].map(TopologyObject.router)
            case .port(let path): ports[path].map(TopologyObject.port)
            case .host(let name): hosts[name].map(TopologyObject.host)
            case .zone(let name): zones[name].map(TopologyObject.zone)
            case .chain(let path): chains[path].map(TopologyObject.chain)
            case .portGroup(let path): portGroups[path].map(TopologyObject.portGroup)
            case .addressGroup(let path): addressGroups[path].map(TopologyObject.addressGroup)
            case .securityGroup(let path): securityGroups[path].map(TopologyObject.securityGroup)
            case .pool(let path): pools[path].map(TopologyObject.pool)
            case .mirror(let path): mirrors[path].map(TopologyObject.mirror)
            case .tenant(let name): settings[name].map(TopologyObject.tenant)
            }
        }
        set {
            switch (key, newValue) {
            case (.bridge(let path), .bridge(let bridge)?): bridges[path] = bridge
            case (.router(let path), .router(let router)?): routers[path] = router
            case (.port(let path), .port(let port)?): ports[path] = port
            case (.host(let name), .host(let host)?): hosts[name] = host
            case (.zone(let name), .zone(let zone)?): zones[name] = zone
            case (.chain(let path), .chain(let chain)?): chains[path] = chain
            case (.portGroup(let path), .portGroup(let group)?): portGroups[path] = group
            case (.addressGroup(let path), .addressGroup(let group)?): addressGroups[path] = group
            case (.securityGroup(let path), .securityGroup(let group)?): securityGroups[path] = group
            case (.pool(let path), .pool(let pool)?): pools[path] = pool
            case (.mirror(let path), .mirror(let mirror)?): mirrors[path] = mirror
            case (.tenant(let name), .tenant(let settings)?): self.settings[name] = settings
            case (.bridge(let path), nil): bridges[path] = nil
            case (.router(let path), nil): routers[path] = nil
            case (.port(let path), nil): ports[path] = nil
            case (.host(let name), nil): hosts[name] = nil
            case (.zone(let name), nil): zones[name] = nil
            case (.chain(let path), nil): chains[path] = nil
            case (.portGroup(let path), nil): portGroups[path] = nil
            case (.addressGroup(let path), nil): addressGroups[path] = nil
            case (.securityGroup(let path), nil): securityGroups[path] = nil
            case (.pool(let path), nil): pools[path] = nil
            case (.mirror(let path), nil): mirrors[path] = nil
            case (.tenant(let name), nil): settings[name] = nil
            default: preconditionFailure("an object under a key of another kind")
            }
        }
    }

    /// Keys of all objects, in no order.
    public var keys: [ObjectKey] {
        zones.keys.map(ObjectKey.zone) + hosts.keys.map(ObjectKey.host) + bridges.keys.map(ObjectKey.bridge)
            + routers.keys.map(ObjectKey.router) + ports.keys.map(ObjectKey.port) + chains.keys.map(ObjectKey.chain)
            + portGroups.keys.map(ObjectKey.portGroup) + addressGroups.keys.map(ObjectKey.addressGroup)
            + securityGroups.keys.map(ObjectKey.securityGroup) + pools.keys.map(ObjectKey.pool)
            + mirrors.keys.map(ObjectKey.mirror)
            + settings.keys.map(ObjectKey.tenant)
    }
}
