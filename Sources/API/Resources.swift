// SPDX-License-Identifier: Apache-2.0
import Store
import Topology
import Wire

/// A bridge in JSON.
public struct BridgeResource: Codable, Sendable, Equatable {
    /// `tenant/bridge`.
    public var name: String?
    /// Whether it forwards; yes unless said.
    public var enabled: Bool?
    /// Networks that live on it.
    public var subnets: [String]?
    /// The chain that filters what comes in.
    public var inbound: String?
    /// The chain that filters what goes out.
    public var outbound: String?
    /// Addresses that it gives to machines, by network: fields and values as in a manifest.
    public var dhcp: [[String: [String]]]?
    /// IPv6 networks that it tells machines of, as in a manifest.
    public var ra: [[String: [String]]]?
    /// Names that it answers for, as in a manifest.
    public var dns: [String: [String]]?
    /// What is sent to groups goes to those who joined them, as in a manifest.
    public var multicast: [String: [String]]?
    /// The key of its floods in tunnels; given by the cluster.
    public var floodKey: UInt32?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?
}

/// A router in JSON.
public struct RouterResource: Codable, Sendable, Equatable {
    /// `tenant/router`.
    public var name: String?
    /// Whether it forwards; yes unless said.
    public var enabled: Bool?
    /// Static routes.
    public var routes: [RouteResource]?
    /// The chain that filters packets before they are routed.
    public var inbound: String?
    /// The chain that filters packets that were routed.
    public var outbound: String?
    /// Rules that translate addresses, in order.
    public var nat: [RuleResource]?
    /// Addresses that stand for one machine each.
    public var floating: [FloatingResource]?
    /// Addresses behind which pools of servers are.
    public var vips: [VirtualAddressResource]?
    /// What it says of itself to routers outside, as in a manifest.
    public var bgp: [String: [String]]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?
}

/// A static route in JSON.
public struct RouteResource: Codable, Sendable, Equatable {
    /// Destinations.
    public var to: String
    /// Sources; all unless said.
    public var from: String?
    /// Lower is preferred; 100 unless said.
    public var weight: Int?
    /// The neighbor that it leads to.
    public var via: String?
    /// The port that it leads out of, by its own name.
    public var port: String?
    /// `blackhole` or `reject`, where it leads nowhere.
    public var type: String?
}

/// A port in JSON.
public struct PortResource: Codable, Sendable, Equatable {
    /// `tenant/device/port`.
    public var name: String?
    /// `bridge` or `router`: what its device is; follows from the device.
    public var kind: String?
    /// Whether it forwards; yes unless said.
    public var enabled: Bool?
    /// The MAC of the port (router), or of the machine behind it (bridge); made of the name unless said.
    public var mac: String?
    /// Addresses with prefix lengths.
    public var addresses: [String]?
    /// The VLAN of its untagged frames; for ports of bridges.
    public var vlan: Int?
    /// The VLANs of its tagged frames; for ports of bridges.
    public var trunk: TrunkResource?
    /// The host that it is on.
    public var host: String?
    /// The host's interface that it is bound to.
    public var interface: String?
    /// The port that it is linked to. Both ends have to say so.
    public var peer: String?
    /// The chain that filters what comes into the device by it.
    public var inbound: String?
    /// The chain that filters what leaves the device by it.
    public var outbound: String?
    /// Port groups that it is in.
    public var groups: [String]?
    /// Security groups that it is in.
    public var security: [String]?
    /// What its machine may send as besides its MAC and addresses: addresses or networks, each with a MAC behind it where that
    /// is another.
    public var allowed: [String]?
    /// How much its machine may send and get, as in a manifest.
    public var qos: [String: [String]]?
    /// What its traffic goes through, from the machine on.
    public var services: [ServiceResource]?
    /// The network outside that it leads to as other ports of its bridge do: one of them carries.
    public var segment: String?
    /// The higher, the rather it carries; 100 unless said.
    public var preference: UInt16?
    /// VXLAN end points of others that it leads to, as in a manifest.
    public var vxlan: [String: [String]]?
    /// Routers outside that the daemon of an uplink speaks BGP with, as in a manifest.
    public var peers: [[String: [String]]]?
    /// What is to be in the daemon's configuration besides.
    public var snippet: String?
    /// The daemon of an uplink: `bird` unless said, or `frr`.
    public var daemon: String?
    /// Its key in tunnels; given by the cluster.
    public var tunnelKey: UInt32?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?
}

/// A trunk in JSON.
public struct TrunkResource: Codable, Sendable, Equatable {
    /// VLANs that may pass; all unless said.
    public var vlans: [Int]?
    /// The VLAN of untagged frames, 0 for the untagged network; they are dropped unless said.
    public var native: Int?
}

/// A host in JSON.
public struct HostResource: Codable, Sendable, Equatable {
    /// Its name.
    public var name: String?
    /// Its tunnel address in each zone.
    public var tunnelAddresses: [String: String]?
    /// What its interface to other hosts sends, such as `10G`.
    public var rate: String?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?
}

/// A tunnel zone in JSON.
public struct ZoneResource: Codable, Sendable, Equatable {
    /// Its name.
    public var name: String?
    /// `gre` or `vxlan`; GRE unless said.
    public var tunnel: String?
    /// MTU of the underlay, bytes; 1500 unless said.
    public var mtu: Int?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?
}

/// An object of any kind in JSON.
public enum Resource: Sendable, Equatable, Encodable {
    /// A bridge.
    case bridge(BridgeResource)
    /// A router.
    case router(RouterResource)
    /// A port.
    case port(PortResource)
    /// A host.
    case host(HostResource)
    /// A tunnel zone.
    case zone(ZoneResource)
    /// A chain of rules.
    case chain(ChainResource)
    /// A group of ports.
    case portGroup(PortGroupResource)
    /// A group of addresses.
    case addressGroup(AddressGroupResource)
    /// A security group.
    case securityGroup(SecurityGroupResource)
    /// A pool of servers.
    case pool(PoolResource)
    /// A mirror.
    case mirror(MirrorResource)
    /// Settings of a tenant.
    case tenant(TenantResource)

    /// The object alone, without its kind.
    public func encode(to encoder: any Encoder) throws {
        switch self {
        case .bridge(let resource): try resource.encode(to: encoder)
        case .router(let resource): try resource.encode(to: encoder)
        case .port(let resource): try resource.encode(to: encoder)
        case .host(let resource): try resource.encode(to: encoder)
        case .zone(let resource): try resource.encode(to: encoder)
        case .chain(let resource): try resource.encode(to: encoder)
        case .portGroup(let resource): try resource.encode(to: encoder)
        case .addressGroup(let resource): try resource.encode(to: encoder)
        case .securityGroup(let resource): try resource.encode(to: encoder)
        case .pool(let resource): try resource.encode(to: encoder)
        case .mirror(let resource): try resource.encode(to: encoder)
        case .tenant(let resource): try resource.encode(to: encoder)
        }
    }

    /// An object as it is in a state.
    public init(_ object: TopologyObject, _ version: ClusterState.Version?) {
        switch object {
        case .bridge(let bridge):
            self = .bridge(
                BridgeResource(
                    name: bridge.path.description, enabled: bridge.isEnabled,
                    subnets: bridge.subnets.map(\.description), inbound: bridge.filters.inbound,
                    outbound: bridge.filters.outbound,
                    dhcp: bridge.dhcp.isEmpty ? nil : bridge.dhcp.map { byName($0.fields) },
                    ra: bridge.advertised.isEmpty ? nil : bridge.advertised.map { byName($0.fields) },
                    dns: bridge.names.map { byName($0.fields) },
                    multicast: bridge.multicast.map { byName($0.fields) }, floodKey: bridge.floodKey,
                    created: version?.created,
                    revision: version?.modified))
        case .router(let router):
            self = .router(
                RouterResource(
                    name: router.path.description, enabled: router.isEnabled,
                    routes: router.routes.map(RouteResource.init), inbound: router.filters.inbound,
                    outbound: router.filters.outbound,
                    nat: router.translation.rules.isEmpty ? nil : router.translation.rules.map(RuleResource.init),
                    floating: router.translation.floating.isEmpty
                        ? nil : router.translation.floating.map(FloatingResource.init),
                    vips: router.translation.virtual.isEmpty
                        ? nil : router.translation.virtual.map(VirtualAddressResource.init),
                    bgp: router.bgp.map { byName($0.fields) },
                    created: version?.created, revision: version?.modified))
        case .port(let port): self = .port(PortResource(port, version))
        case .host(let host):
            self = .host(
                HostResource(
                    name: host.name, tunnelAddresses: host.tunnelAddresses.mapValues(\.description),
                    rate: host.rateText,
                    created: version?.created, revision: version?.modified))
        case .zone(let zone):
            self = .zone(
                ZoneResource(
                    name: zone.name, tunnel: zone.encapsulation.rawValue, mtu: zone.underlayMTU,
                    created: version?.created, revision: version?.modified))
        case .chain(let chain): self = .chain(ChainResource(chain, version))
        case .portGroup(let group): self = .portGroup(PortGroupResource(group, version))
        case .addressGroup(let group): self = .addressGroup(AddressGroupResource(group, version))
        case .securityGroup(let group): self = .securityGroup(SecurityGroupResource(group, version))
        case .pool(let pool): self = .pool(PoolResource(pool, version))
        case .mirror(let mirror): self = .mirror(MirrorResource(mirror, version))
        case .tenant(let settings): self = .tenant(TenantResource(settings, version))
        }
    }
}

extension RouteResource {
    fileprivate init(_ route: Route) {
        self.init(to: route.destination.description, from: route.source?.description, weight: Int(route.weight))
        switch route.nextHop {
        case .gateway(let gateway, let port):
            via = gateway.description
            self.port = port?.name
        case .port(let port): self.port = port.name
        case .blackhole: type = "blackhole"
        case .reject: type = "reject"
        }
    }
}

extension PortResource {
    fileprivate init(_ port: Port, _ version: ClusterState.Version?) {
        self.init(
            name: port.path.description, kind: port.kind == .bridge ? "bridge" : "router", enabled: port.isEnabled,
            mac: port.mac.description, addresses: port.addresses.map(\.description), inbound: port.filters.inbound,
            outbound: port.filters.outbound, groups: port.groups.isEmpty ? nil : port.groups.sorted(),
            security: port.security.isEmpty ? nil : port.security.sorted(),
            allowed: port.allowed.isEmpty ? nil : port.allowed.sorted().map(\.description),
            qos: port.quality.isEmpty ? nil : byName(port.quality.fields),
            services: port.services.isEmpty ? nil : port.services.map(ServiceResource.init),
            segment: port.segment?.name,
            preference: port.segment.flatMap { $0.preference == 100 ? nil : $0.preference },
            vxlan: port.vxlan.map { byName($0.fields) },
            peers: port.uplink.map { $0.peers.map { byName($0.fields) } }, snippet: port.uplink?.snippet,
            daemon: port.uplink.flatMap { $0.daemon == .bird ? nil : $0.daemon.rawValue },
            tunnelKey: port.tunnelKey,
            created: version?.created, revision: version?.modified)
        switch port.vlan {
        case .access(0): break
        case .access(let id): vlan = Int(id)
        case .trunk(let allowed, let native):
            trunk = TrunkResource(vlans: allowed.map { $0.sorted().map(Int.init) }, native: native.map(Int.init))
        }
        switch port.attachment {
        case .none: break
        case .exterior(let host, let interface):
            self.host = host
            // What follows from the port need not be said, and goes with what it follows from.
            if port.vxlan == nil || interface != port.path.vxlanInterface { self.interface = interface }
        case .peer(let other): peer = other.description
        }
    }
}

/// What is said field by field, as JSON has it.
func byName(_ fields: [(name: String, values: [String])]) -> [String: [String]] {
    Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.values) })
}
