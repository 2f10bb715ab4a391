// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Where machines that a router redirects connections to are neighbors of those who may ask: what such a machine answers its
/// neighbor would not come by the router.
struct HairpinTable: Sendable {
    /// Ports of routers by the bridge that they are linked to, in an order that is the same on all hosts.
    private var ofBridge: [Int32: [Int32]] = [:]
    private var ofRouter: [Int32: [(port: Int32, bridge: Int32)]] = [:]

    /// Routers' ports at a bridge; few, if any.
    subscript(_ bridge: Int32) -> [Int32]? { ofBridge[bridge] }

    /// Makes a router's part what the router is.
    mutating func update(_ router: Int32, _ ports: [(port: Int32, bridge: Int32)], _ records: [PortRecord]) {
        for (port, bridge) in ofRouter[router] ?? [] {
            // Another router's port may be in the same place by now: one of the two goes.
            guard var left = ofBridge[bridge], let place = left.firstIndex(of: port) else { continue }
            left.remove(at: place)
            ofBridge[bridge] = left.isEmpty ? nil : left
        }
        ofRouter[router] = ports.isEmpty ? nil : ports
        for (port, bridge) in ports {
            ofBridge[bridge, default: []].append(port)
            ofBridge[bridge]?.sort { records[Int($0)].tag.bits < records[Int($1)].tag.bits }
        }
    }
}

extension Topology {
    /// Ports of a router that link it to bridges where machines are that it redirects connections to.
    func hairpins(of router: Router) -> Set<PortPath> {
        if router.translation.virtual.isEmpty, router.translation.rules.isEmpty { return [] }
        let links = ports(of: router.path).filter { port in
            guard case .peer(let other) = port.attachment else { return false }
            // What is on a bridge of somebody else is not this router's to say.
            return ports[other]?.kind == .bridge && other.device.tenant == router.path.tenant
        }
        if links.isEmpty { return [] }
        let targets = targets(of: router)
        return Set(
            links.filter { port in
                port.addresses.contains { own in targets.contains(where: own.network.contains) }
            }.map(\.path))
    }

    /// Where connections go that a router redirects.
    private func targets(of router: Router) -> Set<IPAddress> {
        var found: Set<IPAddress> = []
        for name in Set(router.translation.virtual.map(\.pool)) {
            let pool = pools[DevicePath(tenant: router.path.tenant, name: name)]
            found.formUnion(pool?.members.map(\.address) ?? [])
        }
        for rule in router.translation.rules {
            guard case .destination(let target) = rule.action else { continue }
            found.formUnion((0..<target.count).map(target.address))
        }
        return found
    }
}

extension TopologyDifference {
    /// Bridges where answers are looked at that were not before, or no more, for what their routers translate.
    func hairpinBridges(_ old: Topology, _ new: Topology) -> Set<DevicePath> {
        var found: Set<DevicePath> = []
        for path in routers.union(routersOfPools(old, new)) {
            let before = old.routers[path].map(old.hairpins) ?? []
            let after = new.routers[path].map(new.hairpins) ?? []
            for port in before.symmetricDifference(after) {
                for topology in [old, new] {
                    if case .peer(let other) = topology.ports[port]?.attachment { found.insert(other.device) }
                }
            }
        }
        return found
    }
}
