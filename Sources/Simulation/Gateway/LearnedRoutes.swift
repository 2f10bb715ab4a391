// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What the daemon of an uplink says of one destination.
public struct UplinkRoute: Sendable, Hashable {
    /// The routers outside that lead there; the unspecified address of one that is reached itself. None: it is not reached by
    /// this uplink.
    public var gateways: [IPAddress]
    /// Its cost, comparable among all uplinks of a router: lower is better.
    public var metric: UInt32

    /// A destination that is not reached.
    public static let withdrawn = UplinkRoute(gateways: [], metric: 0)
    /// This one while nobody answers for it: it is gone by where there is no other way to the destination.
    public var doubtful: UplinkRoute { UplinkRoute(gateways: gateways, metric: Self.doubtfulMetric) }
    /// More than any daemon says.
    private static let doubtfulMetric = UInt32.max
    /// Routers outside of one destination and uplink, at most.
    public static let mostGateways = 32

    /// A destination that routers lead to.
    public init(gateways: [IPAddress], metric: UInt32) {
        self.gateways = gateways.sorted()
        self.metric = metric
    }
}

/// Routes of routers that daemons of their uplinks learned, beside those that are drawn. A value; copies share what is the same.
public struct LearnedRoutes: Sendable {
    /// One way to a destination.
    struct Way: Sendable, Hashable {
        var metric: UInt32
        var port: Tag
        var gateway: IPAddress

        /// Tells ways of equal cost apart, the same on every host.
        var identity: UInt64 { mix(port.bits ^ gateway.high, gateway.low ^ 0x6a7e_0000_0000_0031) }
        /// The best first.
        static func < (a: Way, b: Way) -> Bool { (a.metric, a.identity) < (b.metric, b.identity) }
    }

    /// Those of one router: one reference, as each packet that is decided holds it.
    struct OfRouter: Sendable {
        private var lists = Lists()
        var count: Int { lists.v4.count + lists.v6.count }

        func lookup(_ address: IPAddress) -> PrefixTrie.Match {
            address.family == .ipv4 ? lists.v4.lookup(address) : lists.v6.lookup(address)
        }
        func lookup(_ address: IPAddress, shorterThan length: Int) -> PrefixTrie.Match {
            address.family == .ipv4
                ? lists.v4.lookup(address, shorterThan: length) : lists.v6.lookup(address, shorterThan: length)
        }
        /// The ways of a match, best first.
        func ways(_ match: PrefixTrie.Match) -> [Way] { match.value < 0 ? [] : lists.ways[Int(match.value)].list }

        /// Makes the ways to a destination by one uplink what its daemon says. Whether that changes anything.
        mutating func set(_ prefix: Prefix, port: Tag, _ route: UplinkRoute) -> Bool {
            if !isKnownUniquelyReferenced(&lists) { lists = Lists(lists) }
            return lists.set(prefix, port: port, route)
        }
    }

    // `@unchecked`: changed only by `OfRouter.set`, while nothing else holds it.
    private final class Lists: @unchecked Sendable {
        var v4 = PrefixTrie()
        var v6 = PrefixTrie()
        /// Ways, and how many destinations have them: most of a full table have the same as many others.
        var ways = PagedArray<(list: [Way], uses: Int32)>()
        private var free: [Int32] = []
        private var places: [[Way]: Int32] = [:]
        /// Lists of which another destination may make use, at most: what a change copies.
        private static let mostShared = 1024

        init() {}
        init(_ other: Lists) {
            (v4, v6, ways) = (other.v4, other.v6, other.ways)
            (free, places) = (other.free, other.places)
        }

        /// A place with these ways, which has one use more.
        private func take(_ list: [Way]) -> Int32 {
            if let place = places[list] {
                ways[Int(place)].uses += 1
                return place
            }
            let place = free.popLast() ?? Int32(ways.count)
            if Int(place) == ways.count { ways.append((list, 1)) } else { ways[Int(place)] = (list, 1) }
            if places.count < Self.mostShared { places[list] = place }
            return place
        }

        /// Ends one use of a place.
        private func give(back place: Int32) {
            ways[Int(place)].uses -= 1
            guard ways[Int(place)].uses == 0 else { return }
            if places[ways[Int(place)].list] == place { places[ways[Int(place)].list] = nil }
            ways[Int(place)].list = []
            free.append(place)
        }

        /// Makes the ways to a destination by one uplink what its daemon says. Whether that changes anything.
        func set(_ prefix: Prefix, port: Tag, _ route: UplinkRoute) -> Bool {
            let place = prefix.family == .ipv4 ? v4[prefix] : v6[prefix]
            let before = place.map { ways[Int($0)].list } ?? []
            var list = before.filter { $0.port != port }
            list += route.gateways.map { Way(metric: route.metric, port: port, gateway: $0) }
            list.sort(by: <)
            if list == before { return false }
            if let place { give(back: place) }
            if list.isEmpty {
                if prefix.family == .ipv4 { v4.remove(prefix) } else { v6.remove(prefix) }
                return true
            }
            let new = take(list)
            if prefix.family == .ipv4 { v4.set(prefix, new) } else { v6.set(prefix, new) }
            return true
        }
    }

    private(set) var routers: [Tag: OfRouter] = [:]

    /// No routes.
    public init() {}

    /// How many destinations a router learned.
    public func count(of router: Tag) -> Int { routers[router]?.count ?? 0 }

    /// Makes the ways to a destination by one uplink what its daemon says. Whether that changes anything.
    public mutating func set(_ prefix: Prefix, port: Tag, router: Tag, _ route: UplinkRoute) -> Bool {
        guard routers[router]?.set(prefix, port: port, route) ?? !route.gateways.isEmpty else { return false }
        if routers[router] == nil {
            var new = OfRouter()
            _ = new.set(prefix, port: port, route)
            routers[router] = new
        } else if routers[router]?.count == 0 {
            routers[router] = nil
        }
        return true
    }

    /// The tags of what was decided by the routes to a destination, or without them.
    public static func tags(of prefix: Prefix, router: Tag) -> Set<Tag> {
        var tags: Set<Tag> = []
        TopologyDifference.insertRouteTag(prefix, router: router, &tags)
        return tags
    }
}
