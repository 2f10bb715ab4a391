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
    /// Among learned ways to one destination, best first: the least cost of those that lead somewhere, then, where that is wanted,
    /// this host's own, then a share of the flows. `nil` when none leads anywhere.
    mutating func choose(_ ways: [LearnedRoutes.Way], _ router: RouterRecord) -> RouteRecord? {
        var (first, end, count, near) = (-1, ways.count, 0, 0)
        for index in ways.indices {
            if first >= 0, ways[index].metric != ways[first].metric {
                end = index
                break
            }
            guard let port = port(of: ways[index], router) else { continue }
            if first < 0 { first = index }
            count += 1
            if fabric.ports[Int(port)].attachment == .local { near += 1 }
        }
        if first < 0 { return nil }
        let isNear = router.prefersNear && near > 0
        let hash = (isNear ? near : count) > 1 ? flowHash() : 0
        var best: (way: LearnedRoutes.Way, port: Int32, rank: UInt64)?
        for way in ways[first..<end] {
            guard let port = port(of: way, router), !isNear || fabric.ports[Int(port)].attachment == .local else {
                continue
            }
            let rank = mix(hash ^ way.identity, 0xa076_1d64_78bd_642f)
            if rank > best?.rank ?? 0 || best == nil { best = (way, port, rank) }
        }
        guard let best else { return nil }
        let gateway = best.way.gateway
        return RouteRecord(
            action: .forward, sourceLength: 0, weight: 0, port: best.port,
            source: IPAddress(high: 0, low: 0, family: gateway.family), gateway: gateway, identity: best.way.identity)
    }

    /// The uplink of a way, if what is sent there goes on, as far as is known.
    private mutating func port(of way: LearnedRoutes.Way, _ router: RouterRecord) -> Int32? {
        if verdict.tags.last != way.port { verdict.tags.append(way.port) }
        guard let index = fabric.port(way.port)?.value else { return nil }
        let port = fabric.ports[Int(index)]
        guard port.isRouter, port.companion >= 0, port.isEnabled, fabric.routers[Int(port.device)].tag == router.tag,
            leftOut < 0 || isAnswered(port)
        else { return nil }
        return index
    }
}
