// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// What a routing table of a namespace says, kept by what the kernel tells of it: for each destination the routers of the least
/// metric. A value, stepped by messages.
struct NamespaceRoutes {
    /// One route as the kernel has it.
    struct Message: Equatable {
        var prefix: Prefix
        var metric: UInt32
        /// What the daemon says that it costs.
        var cost: UInt32
        var gateways: [IPAddress]
        /// Whether the daemon tells the cost otherwise than by the kernel, and may change it.
        var isPricedApart = false
    }
    private struct Ways: Equatable {
        var cost: UInt32
        var gateways: Set<IPAddress>
        var isPricedApart: Bool
    }

    private var routes: [Prefix: [UInt32: Ways]] = [:]
    /// Destinations that may be otherwise since they were last taken.
    private var changed: Set<Prefix> = []
    /// How many destinations there are.
    var count: Int { routes.count }

    /// The kernel has a route, in place of one of the same metric.
    mutating func add(_ route: Message) {
        let ways = Ways(
            cost: route.cost, gateways: Set(route.gateways), isPricedApart: route.isPricedApart)
        if routes[route.prefix]?[route.metric] == ways { return }
        routes[route.prefix, default: [:]][route.metric] = ways
        changed.insert(route.prefix)
    }

    /// The kernel has a route no more, or some of its routers.
    mutating func remove(_ route: Message) {
        guard var ways = routes[route.prefix]?[route.metric] else { return }
        ways.gateways.subtract(route.gateways)
        routes[route.prefix]?[route.metric] = ways.gateways.isEmpty || route.gateways.isEmpty ? nil : ways
        if routes[route.prefix]?.isEmpty == true { routes[route.prefix] = nil }
        changed.insert(route.prefix)
    }

    /// A destination costs so much by routes whose cost is told apart.
    mutating func set(cost: UInt32, of prefix: Prefix) {
        for (metric, ways) in routes[prefix] ?? [:] where ways.isPricedApart && ways.cost != cost {
            routes[prefix]?[metric]?.cost = cost
            changed.insert(prefix)
        }
    }

    /// The kernel has just these routes.
    mutating func replace(_ all: [Message]) {
        let before = routes
        routes = [:]
        for route in all {
            routes[route.prefix, default: [:]][
                route.metric,
                default: Ways(cost: route.cost, gateways: [], isPricedApart: route.isPricedApart)
            ]
            .gateways.formUnion(route.gateways)
        }
        for (prefix, ways) in routes where before[prefix] != ways { changed.insert(prefix) }
        for prefix in before.keys where routes[prefix] == nil { changed.insert(prefix) }
    }

    /// What a destination is now.
    subscript(_ prefix: Prefix) -> UplinkRoute {
        guard let best = routes[prefix]?.min(by: { $0.key < $1.key }) else { return .withdrawn }
        return UplinkRoute(
            gateways: Array(best.value.gateways.sorted().prefix(UplinkRoute.mostGateways)), metric: best.value.cost)
    }

    /// All destinations.
    var prefixes: some Collection<Prefix> { routes.keys }

    /// Destinations that may be otherwise since this was last called.
    mutating func takeChanges() -> Set<Prefix> {
        defer { changed = [] }
        return changed
    }
}
