// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Names something that a verdict depends on. When that thing changes, every flow with its tag is decided again.
///
/// A tag is a hash of the thing's name, the same in all snapshots; a clash of two tags costs a needless second decision,
/// never a wrong one.
public struct Tag: Hashable, Sendable {
    /// The hash.
    public let bits: UInt64

    /// A tag from its bits.
    @inlinable
    public init(bits: UInt64) { self.bits = bits }

    /// A port: its state, attachment, addresses and VLAN handling.
    public static func port(_ path: PortPath) -> Tag { Tag(bits: stableHash("port \(path)")) }
    /// A bridge's own record.
    public static func bridge(_ path: DevicePath) -> Tag { Tag(bits: stableHash("bridge \(path)")) }
    /// A router's own record.
    public static func router(_ path: DevicePath) -> Tag { Tag(bits: stableHash("router \(path)")) }
    /// A chain of rules.
    public static func chain(_ path: DevicePath) -> Tag { Tag(bits: stableHash("chain \(path)")) }
    /// A group of addresses.
    public static func addressGroup(_ path: DevicePath) -> Tag { Tag(bits: stableHash("address group \(path)")) }
    /// A group of ports. Which ports are in it, the ports say; of a security group, its rules.
    static func portGroup(_ path: DevicePath) -> Tag { Tag(bits: stableHash("port group \(path)")) }
    /// A tenant. What connections it may have no flow depends on.
    public static func tenant(_ name: String) -> Tag { Tag(bits: stableHash("tenant \(name)")) }
    /// A host and how to reach it.
    public static func host(_ name: String) -> Tag { Tag(bits: stableHash("host \(name)")) }
    /// Whether what is sent to a host arrives.
    @inlinable
    public static func path(host: Tag) -> Tag { Tag(bits: mix(host.bits, 0xbfd0_0000_0000_0011)) }

    /// Which ports a flooded frame reaches on a bridge.
    @inlinable
    public static func flood(bridge: Tag) -> Tag { Tag(bits: mix(bridge.bits, 0xf100_d000_0000_0001)) }
    /// Where a MAC is on a bridge.
    @inlinable
    public static func mac(_ mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag {
        Tag(bits: mix(bridge.bits ^ 0xac00_0000_0000_0003, mac.bits << 12 | UInt64(vlan)))
    }
    /// Which MAC an address has behind a router port.
    @inlinable
    public static func neighbor(_ address: IPAddress, port: Tag) -> Tag {
        Tag(
            bits: mix(
                mix(port.bits ^ 0xa49_0000_0000_0005, address.high), address.low ^ UInt64(address.family.rawValue)))
    }
    /// All routes of a router.
    @inlinable
    public static func routes(router: Tag) -> Tag { Tag(bits: mix(router.bits, 0x4073_0000_0000_0007)) }
    /// All routes of a router, for flows that hold more than one neighborhood: their match is shorter than
    /// ``routeBits(_:)``, so that a change in any of its neighborhoods may concern them.
    @inlinable
    public static func wideRoutes(router: Tag) -> Tag { Tag(bits: mix(router.bits, 0x4073_0000_0000_000d)) }
    /// Routes of a router to the neighborhood of a destination: its first ``routeBits(_:)`` bits.
    @inlinable
    public static func routes(router: Tag, near destination: IPAddress) -> Tag {
        let shift: UInt64 = destination.family == .ipv4 ? 48 : 16
        return Tag(
            bits: mix(
                router.bits ^ 0x4073_0000_0000_0009,
                (destination.high >> shift) << 1 | UInt64(destination.family.width >> 7)))
    }
    /// Bits that a route's prefix must have to be tagged by neighborhood rather than with all routes of its router.
    @inlinable
    public static func routeBits(_ family: AddressFamily) -> Int { family == .ipv4 ? 16 : 48 }
}

extension TopologyDifference {
    /// The tags of everything that differs, so that the flows which depend on it can be found.
    public func tags(from old: Topology, to new: Topology) -> Set<Tag> {
        var tags: Set<Tag> = []
        for path in bridges {
            tags.insert(.bridge(path))
            // Whether floods are filtered port by port is a matter of the bridge.
            tags.insert(.flood(bridge: .bridge(path)))
        }
        for name in hosts { tags.insert(.host(name)) }
        for path in chains { tags.insert(.chain(path)) }
        for path in addressGroups { tags.insert(.addressGroup(path)) }
        tags.formUnion(securityTags(from: old, to: new))
        tags.formUnion(serviceTags(from: old, to: new))
        if !mirrors.isEmpty { tags.formUnion(mirrorTags(from: old, to: new)) }
        if !zones.isEmpty {
            for name in Set(old.hosts.keys).union(new.hosts.keys) { tags.insert(.host(name)) }
        }
        for (router, prefixes) in routes {
            for prefix in prefixes { Self.insertRouteTag(prefix, router: .router(router), &tags) }
        }
        // A port's change also moves what lies behind it: its MAC, its addresses, the floods it takes part in and the
        // networks its router is connected to. Links between bridges carry all that to the bridges beyond.
        let segments = Segments(old, new)
        for path in routers {
            tags.insert(.router(path))
            // What it translates moves what it answers for, and what it takes for its own.
            let (was, now) = (old.routers[path]?.translation.answered, new.routers[path]?.translation.answered)
            guard was ?? [] != now ?? [] else { continue }
            for address in (was ?? []).symmetricDifference(now ?? []) {
                Self.insertRouteTag(Prefix(address, length: address.family.width), router: .router(path), &tags)
            }
            for port in old.ports(of: path) + new.ports(of: path) {
                for bridge in segments.bridges(near: port) { tags.insert(.stations(bridge: .bridge(bridge))) }
            }
        }
        // Answers of members are looked up by their address; which of them takes connections no flow depends on.
        for path in routersOfPools(old, new) { tags.insert(.router(path)) }
        for path in hairpinBridges(old, new) { tags.insert(.stations(bridge: .bridge(path))) }
        for path in ports {
            tags.insert(.port(path))
            for port in [old.ports[path], new.ports[path]].compactMap(\.self) {
                if port.kind == .router {
                    for address in port.addresses {
                        Self.insertRouteTag(address.network, router: .router(path.device), &tags)
                    }
                    // Whether a static route counts, and by which port it leaves, is a matter of its router's ports.
                    for topology in [old, new] {
                        for route in topology.routers[path.device]?.routes ?? [] where route.mayLeave(by: path) {
                            Self.insertRouteTag(route.destination, router: .router(path.device), &tags)
                        }
                    }
                }
                for bridge in segments.bridges(near: port) {
                    tags.insert(.flood(bridge: .bridge(bridge)))
                    tags.insert(.stations(bridge: .bridge(bridge)))
                }
            }
        }
        return tags
    }

    /// Routers behind whose virtual addresses members of pools came or went.
    func routersOfPools(_ old: Topology, _ new: Topology) -> Set<DevicePath> {
        let moved = pools.filter { old.pools[$0]?.places != new.pools[$0]?.places }
        if moved.isEmpty { return [] }
        var found: Set<DevicePath> = []
        for topology in [old, new] {
            for router in topology.routers.values where moved.contains(where: router.balances) {
                found.insert(router.path)
            }
        }
        return found
    }

    static func insertRouteTag(_ prefix: Prefix, router: Tag, _ tags: inout Set<Tag>) {
        if prefix.length >= Tag.routeBits(prefix.family) {
            tags.insert(.routes(router: router, near: prefix.address))
            tags.insert(.wideRoutes(router: router))
        } else {
            tags.insert(.routes(router: router))
        }
    }
}

extension Tag {
    /// The declared stations of a bridge: which MAC and address is behind which port.
    @inlinable
    public static func stations(bridge: Tag) -> Tag { Tag(bits: mix(bridge.bits, 0x57a7_1005_0000_000b)) }
}

extension Route {
    /// Whether what a port is may decide what the route does.
    fileprivate func mayLeave(by port: PortPath) -> Bool {
        switch nextHop {
        case .port(let own): own == port
        case .gateway(_, let via): via == nil || via == port
        case .blackhole, .reject: false
        }
    }
}
