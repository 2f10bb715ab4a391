// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a compiled route does with a packet.
struct RouteRecord {
    enum Action: UInt8 {
        /// Out of `port`, to `gateway`, or to the destination itself when the gateway is all zeros.
        case forward
        /// The router's own address.
        case local
        /// A network's broadcast or network address: never forwarded (RFC 2644).
        case broadcast
        case blackhole
        case reject
    }

    var action: Action
    /// Length of the source prefix; 0 matches every source.
    var sourceLength: UInt8
    var weight: UInt16
    /// Outgoing port, or for `local` the port that owns the address.
    var port: Int32
    var source: IPAddress
    var gateway: IPAddress
    /// Tells routes of equal cost apart when flows are shared among them, the same on every host.
    var identity: UInt64
}

/// Longest-prefix-match tries of all routers in flat arrays: path compressed, so that a lookup touches a handful of
/// nodes, and **precise**: a lookup says how many leading bits of the destination told its answer apart from any other.
struct RoutingTable {
    private struct Node {
        var prefix: IPAddress
        var length: Int32
        var child0: Int32 = -1
        var child1: Int32 = -1
        var routeStart: Int32 = 0
        var routeCount: Int32 = 0
    }

    /// A lookup's result.
    struct Match {
        /// Routes of the winning prefix, best first; empty when there is none.
        var routes: Range<Int>
        /// Length of the winning prefix.
        var prefixLength: Int
        /// Leading bits of the destination that decided.
        var bits: Int
    }

    private var nodes: [Node] = []
    private(set) var routes: [RouteRecord] = []
    /// Nodes and routes, those that nobody looks up any more included.
    var size: Int { nodes.count + routes.count }

    /// Adds a router's routes of one family and returns the root to look up from; -1 when there are none.
    mutating func add(_ entries: [(prefix: Prefix, route: RouteRecord)], family: AddressFamily) -> Int32 {
        var byPrefix: [Prefix: [RouteRecord]] = [:]
        for entry in entries { byPrefix[entry.prefix, default: []].append(entry.route) }
        if byPrefix.isEmpty { return -1 }
        let sorted = byPrefix.keys.sorted()
        return build(sorted[...], byPrefix)
    }

    /// Builds the trie of a run of sorted prefixes: the node is their longest common prefix.
    private mutating func build(_ run: ArraySlice<Prefix>, _ routesOf: [Prefix: [RouteRecord]]) -> Int32 {
        guard let first = run.first, let last = run.last else { return -1 }
        var length = min(first.length, last.length, first.address.commonPrefix(last.address))
        for prefix in run { length = min(length, prefix.length) }
        let index = Int32(nodes.count)
        nodes.append(Node(prefix: first.address.masked(length), length: Int32(length)))
        var rest = run
        if first.length == length {
            let list = (routesOf[first] ?? []).sorted {
                ($1.sourceLength, $0.weight, $0.identity) < ($0.sourceLength, $1.weight, $1.identity)
            }
            nodes[Int(index)].routeStart = Int32(routes.count)
            nodes[Int(index)].routeCount = Int32(list.count)
            routes += list
            rest = run.dropFirst()
        }
        let split = rest.firstIndex { $0.address.bit(length) == 1 } ?? rest.endIndex
        let zero = build(rest[rest.startIndex..<split], routesOf)
        let one = build(rest[split..<rest.endIndex], routesOf)
        nodes[Int(index)].child0 = zero
        nodes[Int(index)].child1 = one
        return index
    }

    /// Finds the longest prefix that holds `address`.
    @inline(__always)
    func lookup(_ address: IPAddress, root: Int32, width: Int) -> Match {
        var match = Match(routes: 0..<0, prefixLength: 0, bits: 0)
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            let length = Int(node.length)
            let common = address.commonPrefix(node.prefix)
            if common < length {
                match.bits = max(match.bits, common + 1)
                break
            }
            match.bits = max(match.bits, length)
            if node.routeCount > 0 {
                match.routes = Int(node.routeStart)..<Int(node.routeStart + node.routeCount)
                match.prefixLength = length
            }
            if length >= width || (node.child0 < 0 && node.child1 < 0) { break }
            match.bits = max(match.bits, length + 1)
            at = address.bit(length) == 0 ? node.child0 : node.child1
        }
        return match
    }

    /// Finds the next shorter prefix than `length` that holds `address` and has routes, for when none of the longer
    /// one's routes takes the packet's source.
    func lookupShorter(_ address: IPAddress, root: Int32, than length: Int) -> Match {
        var match = Match(routes: 0..<0, prefixLength: -1, bits: 0)
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            guard Int(node.length) < length, address.commonPrefix(node.prefix) >= Int(node.length) else { break }
            if node.routeCount > 0 {
                match.routes = Int(node.routeStart)..<Int(node.routeStart + node.routeCount)
                match.prefixLength = Int(node.length)
            }
            at = address.bit(Int(node.length)) == 0 ? node.child0 : node.child1
        }
        return match
    }
}
