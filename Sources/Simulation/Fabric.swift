// SPDX-License-Identifier: Apache-2.0
import Synchronization
import Topology
import Wire

/// A topology compiled for one host: flat arrays of plain records, indices instead of names, hash tables and tries ready
/// to look up. Immutable, shared by all packet threads; ``Simulator`` reads it without counting a reference or taking a
/// lock.
///
/// The fabric of a topology that differs little from the one before is made of that one's: records are patched where they
/// lie, so that a change costs what it touches and a copy of the arrays. A port keeps its index then.
public final class Fabric: Sendable {
    /// The snapshot that this was made of.
    public let topology: Topology
    /// The host that simulates.
    public let localHost: String
    /// Fabrics of one lineage give a port the same index.
    public let lineage: UInt64
    let tables: FabricTables
    /// Routes that daemons of uplinks learned.
    public let learned: LearnedRoutes

    /// Compiles a topology that has no ``Topology/problems()``.
    ///
    /// - Parameter learned: routes that daemons of uplinks learned.
    public init(_ topology: Topology, localHost: String, learned: LearnedRoutes = LearnedRoutes()) {
        self.topology = topology
        self.learned = learned
        self.localHost = localHost
        lineage = Fabric.nextLineage.wrappingAdd(1, ordering: .relaxed).newValue
        tables = FabricTables(topology, localHost: localHost)
    }

    /// Compiles a topology, given the fabric of one before and what differs.
    ///
    /// - Parameter difference: what differs between `previous.topology` and `topology`, at least.
    public init(_ topology: Topology, after previous: Fabric, _ difference: TopologyDifference) {
        self.topology = topology
        localHost = previous.localHost
        learned = previous.learned
        if let patched = FabricTables(patching: previous, to: topology, difference) {
            lineage = previous.lineage
            tables = patched
        } else {
            lineage = Fabric.nextLineage.wrappingAdd(1, ordering: .relaxed).newValue
            tables = FabricTables(topology, localHost: localHost)
        }
    }

    /// The same topology with other learned routes.
    public init(_ fabric: Fabric, learned: LearnedRoutes) {
        topology = fabric.topology
        localHost = fabric.localHost
        lineage = fabric.lineage
        tables = fabric.tables
        self.learned = learned
    }

    private static let nextLineage = Atomic<UInt64>(0)

    /// The port of a name.
    public func port(_ path: PortPath) -> PortIndex? { tables.index(of: path).map(PortIndex.init) }
    /// The port that a tag names, in this snapshot.
    public func port(_ tag: Tag) -> PortIndex? { tables.indexOfTag.first(tag.bits).map(PortIndex.init) }
    /// The name of a port.
    public func path(_ port: PortIndex) -> PortPath { portPaths[Int(port.value)] }
    /// The tag of a port.
    public func tag(_ port: PortIndex) -> Tag { ports[Int(port.value)].tag }
    /// Who connections are counted to that begin at a port.
    public func owner(of port: PortIndex) -> ConnectionOwner {
        let record = ports[Int(port.value)]
        return ConnectionOwner(port: record.tag, tenant: record.tenant)
    }
    /// The tag of a host.
    public func tag(_ host: HostIndex) -> Tag { hosts[Int(host.value)].tag }
    /// All hosts but this one that a tunnel leads to.
    public var reachableHosts: [HostIndex] {
        hosts.indices.filter { hosts[$0].isReachable }.map { HostIndex(Int32($0)) }
    }
    /// The exterior ports that are bound to this host, in order of name.
    public var localPorts: [PortIndex] {
        topology.ports.bound(to: localHost).values.flatMap(\.self).sorted().compactMap(port)
    }
    /// The chain and id of a rule, in this snapshot.
    public func rule(_ reference: RuleReference) -> (chain: DevicePath, id: String)? {
        guard let path = tables.policy.path(reference.chain), let rules = topology.chains[path]?.rules,
            rules.indices.contains(Int(reference.rule))
        else { return nil }
        return (path, rules[Int(reference.rule)].id)
    }
    /// The list that a rule is in and the rule, as people call them, in this snapshot.
    public func name(of reference: RuleReference) -> RuleName? {
        guard let path = tables.policy.path(reference.chain) else { return nil }
        let place = Int(reference.rule)
        switch tables.policy.kind(reference.chain) {
        case .chain:
            guard let rules = topology.chains[path]?.rules, rules.indices.contains(place) else { return nil }
            return RuleName(list: "chain \(path)", rule: rules[place].id, text: rules[place].description)
        case .translation:
            guard let translation = topology.routers[path]?.translation, let rule = translation.rule(place) else {
                return nil
            }
            return RuleName(list: "\(rule.list) \(path)", rule: rule.id, text: rule.text)
        case .security(let rules):
            guard rules.indices.contains(place) else { return nil }
            let parts = rules[place].split(separator: ":", maxSplits: 1)
            return RuleName(
                list: "group \(path)", rule: parts.first.map(String.init) ?? "",
                text: parts.dropFirst().first.map { String($0.drop { $0 == " " }) } ?? "")
        }
    }
    /// How many lists of rules are compiled: chains, translations and security groups.
    public var compiledChains: Int { tables.policy.programs.count { $0 != nil } }
    /// Whether a trunk's port carries a VLAN; 0: the untagged network.
    @inline(__always)
    func trunkCarries(_ port: PortRecord, _ vlan: UInt16) -> Bool {
        if port.vlan == vlan { return true }
        // The untagged network has no tag to travel with: only a trunk whose native VLAN it is carries it.
        if vlan == 0 { return false }
        if port.trunkSet < 0 { return true }
        return trunkSets[Int(port.trunkSet) + Int(vlan) / 64] >> UInt64(vlan % 64) & 1 == 1
    }
    /// The name of a host.
    public func name(_ host: HostIndex) -> String { hostNames[Int(host.value)] }
}

/// What the simulation reads, by short names.
extension Fabric {
    @inline(__always) var ports: [PortRecord] { tables.ports }
    @inline(__always) var portPaths: PagedArray<PortPath> { tables.portPaths }
    @inline(__always) var addresses: [InterfaceAddress] { tables.addresses }
    @inline(__always) var bridges: [BridgeRecord] { tables.bridges }
    @inline(__always) var bridgePaths: [DevicePath] { tables.bridgePaths }
    @inline(__always) var floodPorts: [Int32] { tables.floodPorts }
    @inline(__always) var floodHosts: [FloodHost] { tables.floodHosts }
    @inline(__always) var routers: [RouterRecord] { tables.routers }
    @inline(__always) var routerPaths: [DevicePath] { tables.routerPaths }
    @inline(__always) var hosts: [HostRecord] { tables.hosts }
    @inline(__always) var hostNames: [String] { tables.hostNames }
    @inline(__always) var trunkSets: [UInt64] { tables.trunkSets }
    @inline(__always) var routing: RoutingTable { tables.routing }

    /// The port of a bridge that leads to a declared MAC, -1 when it is not declared.
    @inline(__always)
    func station(bridge: Int32, vlan: UInt16, mac: MACAddress) -> Int32 { tables.station(bridge, vlan, mac) }

    /// The declared neighbor of an address.
    @inline(__always)
    func neighbor(bridge: Int32, vlan: UInt16, address: IPAddress) -> Neighbor? {
        tables.neighbor(bridge, vlan, address)
    }
}
