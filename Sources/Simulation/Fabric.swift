// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A topology compiled for one host: flat arrays of plain records, indices instead of names, hash tables and tries ready
/// to look up. Immutable, shared by all packet threads; ``Simulator`` reads it without counting a reference or taking a
/// lock.
public final class Fabric: Sendable {
    /// The snapshot that this was made of.
    public let topology: Topology
    /// The host that simulates.
    public let localHost: String

    let ports: [PortRecord]
    let portPaths: [PortPath]
    let addresses: [InterfaceAddress]
    let bridges: [BridgeRecord]
    let bridgePaths: [DevicePath]
    /// Ports that a flood on a bridge visits on this host, by bridge in runs.
    let floodPorts: [Int32]
    /// Hosts that a flood on a bridge is sent to, by bridge in runs, a host's entries together.
    let floodHosts: [FloodHost]
    let routers: [RouterRecord]
    let routerPaths: [DevicePath]
    let hosts: [HostRecord]
    let hostNames: [String]
    /// VLANs that trunks let pass, 64 words of bits a trunk.
    let trunkSets: [UInt64]
    let routing: RoutingTable
    let stations: StationTable
    let neighbors: NeighborTable
    private let indexOfPort: [PortPath: Int32]
    private let indexOfTag: [Tag: Int32]
    let portOfKey: [UInt32: Int32]
    let bridgeOfKey: [UInt32: Int32]

    /// Compiles a topology that has no ``Topology/problems()``.
    public init(_ topology: Topology, localHost: String) {
        self.topology = topology
        self.localHost = localHost
        let builder = FabricBuilder(topology, localHost: localHost)
        ports = builder.ports
        portPaths = builder.portPaths
        addresses = builder.addresses
        bridges = builder.bridges
        bridgePaths = builder.bridgePaths
        floodPorts = builder.floodPorts
        floodHosts = builder.floodHosts
        routers = builder.routers
        routerPaths = builder.routerPaths
        hosts = builder.hosts
        hostNames = builder.hostNames
        trunkSets = builder.trunkSets
        routing = builder.routing
        stations = builder.stations
        neighbors = builder.neighbors
        indexOfPort = builder.indexOfPort
        indexOfTag = Dictionary(
            builder.ports.enumerated().map { ($0.element.tag, Int32($0.offset)) }, uniquingKeysWith: { a, _ in a })
        portOfKey = Dictionary(
            builder.ports.enumerated().map { ($0.element.tunnelKey, Int32($0.offset)) }, uniquingKeysWith: { a, _ in a }
        )
        bridgeOfKey = Dictionary(
            builder.bridges.enumerated().map { ($0.element.floodKey, Int32($0.offset)) },
            uniquingKeysWith: { a, _ in a })
    }

    /// The port of a name.
    public func port(_ path: PortPath) -> PortIndex? { indexOfPort[path].map(PortIndex.init) }
    /// The port that a tag names, in this snapshot.
    public func port(_ tag: Tag) -> PortIndex? { indexOfTag[tag].map(PortIndex.init) }
    /// The name of a port.
    public func path(_ port: PortIndex) -> PortPath { portPaths[Int(port.value)] }
    /// The tag of a port.
    public func tag(_ port: PortIndex) -> Tag { ports[Int(port.value)].tag }
    /// The tag of a host.
    public func tag(_ host: HostIndex) -> Tag { hosts[Int(host.value)].tag }
    /// All hosts but this one that a tunnel leads to.
    public var reachableHosts: [HostIndex] {
        hosts.indices.filter { hosts[$0].isReachable }.map { HostIndex(Int32($0)) }
    }
    /// The exterior ports that are bound to this host, in order of name.
    public var localPorts: [PortIndex] {
        ports.indices.filter { ports[$0].attachment == .local }.map { PortIndex(Int32($0)) }
    }
    /// The name of a host.
    public func name(_ host: HostIndex) -> String { hostNames[Int(host.value)] }
}

/// A port in one ``Fabric``; means nothing in another.
public struct PortIndex: Hashable, Sendable {
    /// Position in the fabric's list.
    public let value: Int32
    @inlinable
    init(_ value: Int32) { self.value = value }
}

/// A host in one ``Fabric``; means nothing in another.
public struct HostIndex: Hashable, Sendable {
    /// Position in the fabric's list.
    public let value: Int32
    @inlinable
    init(_ value: Int32) { self.value = value }
}

struct PortRecord {
    enum Attachment: UInt8 { case none, local, remote, peer }
    enum VLAN: UInt8 { case access, trunk }
    /// No native VLAN.
    static let noVLAN: UInt16 = 0xffff

    var isRouter: Bool
    var isEnabled: Bool
    var attachment: Attachment
    var vlanKind: VLAN
    /// The VLAN of an access port, the native one of a trunk.
    var vlan: UInt16
    /// First word in ``Fabric/trunkSets``; -1 lets all VLANs pass.
    var trunkSet: Int32
    var device: Int32
    var peer: Int32
    var host: Int32
    var tunnelKey: UInt32
    var addressStart: Int32
    var addressCount: Int32
    var mac: MACAddress
    var tag: Tag
}

struct BridgeRecord {
    var isEnabled: Bool
    /// Whether any port treats tags: otherwise they are payload.
    var isVLANAware: Bool
    var floodKey: UInt32
    var floodPortStart: Int32
    var floodPortCount: Int32
    var floodHostStart: Int32
    var floodHostCount: Int32
    var tag: Tag
    var floodTag: Tag
    var stationsTag: Tag
}

struct FloodHost: Equatable {
    /// Any VLAN, for trunks that let all pass.
    static let anyVLAN: UInt16 = 0xffff
    var host: Int32
    var vlan: UInt16
}

struct RouterRecord {
    var isEnabled: Bool
    var root4: Int32
    var root6: Int32
    var tag: Tag
    var routesTag: Tag
}

struct HostRecord {
    var isReachable: Bool
    /// Largest layer 3 packet that a tunnel to it leaves room for, in bytes.
    var mtu: Int32
    var tag: Tag
}

/// Declared stations: where a MAC is, by bridge and VLAN. Open addressing, at most half full.
struct StationTable {
    private struct Slot {
        var mac: UInt64
        var bridge: Int32
        var vlan: UInt16
        var port: Int32
    }
    private var slots: [Slot] = []
    private var mask = 0

    init(_ entries: [(bridge: Int32, vlan: UInt16, mac: MACAddress, port: Int32)]) {
        var size = 8
        while size < entries.count * 2 { size *= 2 }
        slots = Array(repeating: Slot(mac: 0, bridge: 0, vlan: 0, port: -1), count: size)
        mask = size - 1
        for entry in entries where lookup(bridge: entry.bridge, vlan: entry.vlan, mac: entry.mac) < 0 {
            var at = Self.hash(entry.bridge, entry.vlan, entry.mac.bits) & mask
            while slots[at].port >= 0 { at = (at + 1) & mask }
            slots[at] = Slot(mac: entry.mac.bits, bridge: entry.bridge, vlan: entry.vlan, port: entry.port)
        }
    }

    @inline(__always)
    private static func hash(_ bridge: Int32, _ vlan: UInt16, _ mac: UInt64) -> Int {
        Int(
            truncatingIfNeeded: mix(
                mac ^ 0x9e37_79b9_7f4a_7c15,
                UInt64(UInt32(bitPattern: bridge)) << 16 | UInt64(vlan) ^ 0xe703_7ed1_a0b4_28db))
    }

    /// The port that leads to a MAC, -1 when it is not declared.
    @inline(__always)
    func lookup(bridge: Int32, vlan: UInt16, mac: MACAddress) -> Int32 {
        var at = Self.hash(bridge, vlan, mac.bits) & mask
        while true {
            let slot = slots[at]
            if slot.port < 0 { return -1 }
            if slot.mac == mac.bits, slot.bridge == bridge, slot.vlan == vlan { return slot.port }
            at = (at + 1) & mask
        }
    }
}

/// Declared neighbors: which MAC and port an address has, by bridge and VLAN.
struct NeighborTable {
    struct Key: Hashable {
        var bridge: Int32
        var vlan: UInt16
        var address: IPAddress

        func hash(into hasher: inout Hasher) {
            hasher.combine(
                mix(
                    address.high ^ UInt64(UInt32(bitPattern: bridge)) << 16 ^ UInt64(vlan),
                    address.low ^ 0xe703_7ed1_a0b4_28db))
        }
    }
    struct Neighbor {
        /// The port of the bridge that leads there.
        var port: Int32
        var mac: MACAddress
        /// The port that owns the address; tells a router's addresses from machines'.
        var owner: Int32
    }

    private let entries: [Key: Neighbor]

    init(_ entries: [Key: Neighbor]) { self.entries = entries }

    @inline(__always)
    func lookup(bridge: Int32, vlan: UInt16, address: IPAddress) -> Neighbor? {
        entries[Key(bridge: bridge, vlan: vlan, address: address)]
    }
}
