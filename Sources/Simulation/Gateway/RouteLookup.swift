// SPDX-License-Identifier: Apache-2.0
import Wire

/// What routes of a router hold a destination: the longest prefix among those that are drawn, and among those that daemons of its
/// uplinks learned.
struct RouteLookup {
    let router: RouterRecord
    let destination: IPAddress
    /// Where the lookup in ``Fabric/routing`` began.
    let root: Int32
    let width: Int
    let drawn: RoutingTable.Match
    let ofRouter: LearnedRoutes.OfRouter?
    let learned: PrefixTrie.Match

    init(_ fabric: Fabric, _ router: RouterRecord, _ destination: IPAddress, root: Int32) {
        self.router = router
        self.destination = destination
        self.root = root
        width = destination.family.width
        drawn = fabric.routing.lookup(destination, root: root, width: width)
        ofRouter = fabric.learned.routers.isEmpty ? nil : fabric.learned.routers[router.tag]
        learned = ofRouter?.lookup(destination) ?? .init()
    }

    /// Leading bits of the destination that told the answer apart from any other.
    var bits: Int { max(drawn.bits, learned.bits) }
}

extension Simulator {
    /// Among learned ways to one destination, best first: the least cost of those that lead somewhere, then a share of the
    /// flows. `nil` when none does.
    mutating func choose(_ ways: [LearnedRoutes.Way], _ router: RouterRecord) -> RouteRecord? {
        var alive: [(way: LearnedRoutes.Way, port: Int32)] = []
        for way in ways {
            if let first = alive.first, first.way.metric != way.metric { break }
            verdict.tags.append(way.port)
            guard let index = fabric.port(way.port)?.value else { continue }
            let port = fabric.ports[Int(index)]
            guard port.isRouter, port.companion >= 0, port.isEnabled,
                fabric.routers[Int(port.device)].tag == router.tag,
                leftOut < 0 || isAnswered(port)
            else { continue }
            alive.append((way, index))
        }
        if router.prefersNear, alive.count > 1 {
            let near = alive.filter { fabric.ports[Int($0.port)].attachment == .local }
            if !near.isEmpty { alive = near }
        }
        guard var best = alive.first else { return nil }
        if alive.count > 1 {
            let hash = flowHash()
            var rank: UInt64 = 0
            for one in alive {
                let score = mix(hash ^ one.way.identity, 0xa076_1d64_78bd_642f)
                if score > rank { (rank, best) = (score, one) }
            }
        }
        let gateway = best.way.gateway
        return RouteRecord(
            action: .forward, sourceLength: 0, weight: 0, port: best.port,
            source: IPAddress(high: 0, low: 0, family: gateway.family), gateway: gateway, identity: best.way.identity)
    }
}
