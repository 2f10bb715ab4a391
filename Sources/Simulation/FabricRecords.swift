// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A port in one ``Fabric``; means nothing in one of another ``Fabric/lineage``.
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
    /// Whether members of pools are checked from behind it.
    var isMonitor = false
    /// Whether the daemon of an uplink is behind it.
    var isDaemon = false
    /// Of an uplink, the port behind which its daemon is; of that port, the uplink; -1: there is none.
    var companion: Int32 = -1
    var isEnabled: Bool
    /// Whether mirrors copy what leaves by it.
    var isMirroredOut = false
    /// Whether what it sends or gets goes through services.
    var isServed = false
    /// Whether others' traffic goes through what is behind it.
    var isService = false
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
    /// Tags of its groups, in ``FabricTables/portGroups``.
    var groupStart: Int32
    var groupCount: Int32
    /// Chains that filter what comes in by it and what goes out; -1: none.
    var inbound: Int32
    var outbound: Int32
    /// Chains of its security groups: what its machine sends and gets; -1: it is in none.
    var sends: Int32
    var gets: Int32
    /// What its machine may send as besides, in ``FabricTables/allowed``.
    var allowedStart: Int32
    var allowedCount: Int32
    var mac: MACAddress
    /// The DSCP of what its machine sends; 0xff: the machine's own.
    var dscp: UInt8 = 0xff
    /// Bytes of layer 3 that what is behind it takes, where that is less than hosts do; 0: not less.
    var mtu: Int32 = 0
    /// Whether it is in a segment.
    var isShared = false
    var tag: Tag
    /// The tenant's tag.
    var tenant: Tag

    /// Whether what leaves by it is filtered, copied, sent through services, or shared with others, for it alone: then it takes no part in floods.
    var isFilteredOut: Bool { outbound >= 0 || gets >= 0 || isMirroredOut || isServed || isService || isShared }

    /// A place where no port is.
    static let none = PortRecord(
        isRouter: false, isEnabled: false, attachment: .none, vlanKind: .access, vlan: 0, trunkSet: -1, device: -1,
        peer: -1, host: -1, tunnelKey: 0, addressStart: -1, addressCount: 0, groupStart: 0, groupCount: 0, inbound: -1,
        outbound: -1, sends: -1, gets: -1, allowedStart: 0, allowedCount: 0, mac: .zero, tag: Tag(bits: 0),
        tenant: Tag(bits: 0))
}

struct BridgeRecord {
    var isEnabled: Bool
    /// Whether any port treats tags: otherwise they are payload.
    var isVLANAware: Bool
    /// Whether what is sent to groups goes to those who joined them.
    var mindsGroups = false
    var floodKey: UInt32
    var floodPortStart: Int32
    var floodPortCount: Int32
    var floodHostStart: Int32
    var floodHostCount: Int32
    var inbound: Int32
    var outbound: Int32
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
    /// Places that its routes take in ``FabricTables/routing``.
    var size: Int32
    var inbound: Int32
    var outbound: Int32
    /// What it translates; -1: nothing.
    var translation: Int32
    /// Whether a host with uplinks of its own sends by these.
    var prefersNear = false
    var tag: Tag
    var routesTag: Tag
}

struct HostRecord {
    var isReachable: Bool
    /// Largest layer 3 packet that a tunnel to it leaves room for, in bytes.
    var mtu: Int32
    var tag: Tag
}

/// Where an address is declared to be.
struct Neighbor {
    /// The port of the bridge that leads there.
    var port: Int32
    var mac: MACAddress
    /// The port that owns the address; tells a router's addresses from machines'.
    var owner: Int32
}
