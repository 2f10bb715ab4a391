// SPDX-License-Identifier: Apache-2.0
import Wire

/// Everything that tenants and operators have drawn, at one revision. A value: whoever holds one sees it unchanged.
public struct Topology: Sendable, Equatable {
    /// Grows with each change; 0 is the empty topology.
    public var revision: UInt64 = 0
    /// Bridges by name.
    public var bridges: [DevicePath: Bridge] = [:]
    /// Routers by name.
    public var routers: [DevicePath: Router] = [:]
    /// Ports of all devices by name.
    public var ports = PortTable()
    /// Hosts by name.
    public var hosts: [String: Host] = [:]
    /// Tunnel zones by name.
    public var zones: [String: TunnelZone] = [:]
    /// Chains of rules by name.
    public var chains = NamedTable<Chain>()
    /// Groups of ports by name.
    public var portGroups = NamedTable<PortGroup>()
    /// Groups of addresses by name.
    public var addressGroups = NamedTable<AddressGroup>()
    /// Groups of ports with what their machines may send and get, by name.
    public var securityGroups = NamedTable<SecurityGroup>()
    /// Pools of servers, by name.
    public var pools = NamedTable<Pool>()
    /// Mirrors, by name.
    public var mirrors = NamedTable<Mirror>()
    /// What operators set for tenants, by name.
    public var settings: [String: TenantSettings] = [:]

    /// Addresses of one port, at most.
    public static let addressesPerPort = 64
    /// Static routes of one router, at most.
    public static let routesPerRouter = 10_000

    /// An empty topology.
    public init() {}

    /// Names of tenants that own something, in order.
    public var tenants: [String] {
        var names = Set(bridges.keys.map(\.tenant) + routers.keys.map(\.tenant))
        names.formUnion(chains.keys.lazy.map(\.tenant))
        names.formUnion(portGroups.keys.lazy.map(\.tenant))
        names.formUnion(addressGroups.keys.lazy.map(\.tenant))
        names.formUnion(securityGroups.keys.lazy.map(\.tenant))
        names.formUnion(pools.keys.lazy.map(\.tenant))
        names.formUnion(mirrors.keys.lazy.map(\.tenant))
        names.formUnion(settings.keys)
        return names.sorted()
    }

    /// Ports of one device, in order of name.
    public func ports(of device: DevicePath) -> [Port] {
        ports.ports(of: device).sorted { $0.path < $1.path }
    }

    /// The ways from a host to another one: each zone that both are in is one, in order of the zones' names.
    public func tunnels(from local: String, to remote: String) -> [(
        zone: TunnelZone, local: IPAddress, remote: IPAddress
    )] {
        guard let here = hosts[local], let there = hosts[remote] else { return [] }
        return here.tunnelAddresses.keys.sorted().compactMap { name in
            guard let zone = zones[name], let mine = here.tunnelAddresses[name],
                let theirs = there.tunnelAddresses[name], mine.family == theirs.family
            else { return nil }
            return (zone, mine, theirs)
        }
    }
}
