// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Routers: what they and their ports are, as records and drawn routes.
extension FabricTables {
    /// Makes a router's record and routes what the router and its ports are.
    mutating func fillRouter(_ index: Int32, _ router: Router, _ topology: Topology) {
        var entries: [(prefix: Prefix, route: RouteRecord)] = []
        let own = portsOfRouter[Int(index)]
        for index in own where ports[Int(index)].isEnabled { addConnected(index, &entries) }
        for route in router.routes { addStatic(route, own, &entries) }
        var record = routers[Int(index)]
        let before = routing.size
        waste += Int(record.size)
        record.isEnabled = router.isEnabled
        record.prefersNear = router.bgp?.prefersNear ?? false
        record.inbound = policy.chain(router.filters.inbound, of: router.path.tenant)
        record.outbound = policy.chain(router.filters.outbound, of: router.path.tenant)
        record.translation = policy.updateTranslation(
            of: router,
            own.map { index in
                let port = ports[Int(index)]
                return TranslationProgram.RouterPort(
                    index: index, name: portPaths[Int(index)].name,
                    addresses: Array(addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)]))
            })
        addTranslated(router.translation, own, &entries)
        let answered = router.translation.answered
        if answeredByRouter[index] != nil || !answered.isEmpty {
            answeredByRouter[index] = answered.isEmpty ? nil : answered
        }
        let hairpins = topology.hairpins(of: router).compactMap { path -> (port: Int32, bridge: Int32)? in
            guard let port = self.index(of: path), ports[Int(port)].attachment == .peer else { return nil }
            return (port, ports[Int(ports[Int(port)].peer)].device)
        }
        self.hairpins.update(index, hairpins, ports)
        record.root4 = routing.add(entries.filter { $0.prefix.family == .ipv4 }, family: .ipv4)
        record.root6 = routing.add(entries.filter { $0.prefix.family == .ipv6 }, family: .ipv6)
        record.size = Int32(routing.size - before)
        routers[Int(index)] = record
    }

    private func addConnected(_ index: Int32, _ entries: inout [(prefix: Prefix, route: RouteRecord)]) {
        let port = ports[Int(index)]
        func record(_ action: RouteRecord.Action, _ family: AddressFamily) -> RouteRecord {
            RouteRecord(
                action: action, sourceLength: 0, weight: 0, port: index,
                source: IPAddress(high: 0, low: 0, family: family), gateway: IPAddress(high: 0, low: 0, family: family),
                identity: port.tag.bits)
        }
        for address in addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)] {
            let family = address.address.family
            let network = address.network
            entries.append((network, record(.forward, family)))
            entries.append((Prefix(address.address, length: family.width), record(.local, family)))
            if family == .ipv4, network.length < 31 {
                let broadcast = IPAddress(
                    high: network.address.high | ~prefixMask(network.length).high & 0xffff_ffff_0000_0000, low: 0,
                    family: .ipv4)
                entries.append((Prefix(broadcast, length: 32), record(.broadcast, family)))
                entries.append((Prefix(network.address, length: 32), record(.broadcast, family)))
            }
        }
        let linkLocal = Prefix(IPAddress(IPv6Address.linkLocal(for: port.mac)), length: 128)
        entries.append((linkLocal, record(.local, .ipv6)))
    }

    /// Addresses that sources become and virtual ones are the router's, whatever network they are of; and those that it forwards
    /// ports of, where they are in its networks.
    private func addTranslated(
        _ translation: Translation, _ own: [Int32], _ entries: inout [(prefix: Prefix, route: RouteRecord)]
    ) {
        var local = Set(translation.virtual.map { Prefix($0.address, length: $0.address.family.width) })
        let networks = own.flatMap { index in
            let port = ports[Int(index)]
            return addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)]
        }
        for rule in translation.rules {
            switch rule.action {
            case .source(let target): local.formUnion(target.prefixes)
            case .destination:
                guard let match = rule.condition.destinations, !match.isInverted else { continue }
                local.formUnion(
                    match.value.filter { prefix in
                        prefix.length == prefix.family.width
                            && networks.contains { $0.network.contains(prefix.address) }
                    })
            case .masquerade, .accept: break
            }
        }
        guard let port = own.first else { return }
        for prefix in local where !networks.contains(where: { $0.address == prefix.address }) {
            entries.append(
                (
                    prefix,
                    RouteRecord(
                        action: .local, sourceLength: 0, weight: 0, port: port,
                        source: IPAddress(high: 0, low: 0, family: prefix.family),
                        gateway: IPAddress(high: 0, low: 0, family: prefix.family), identity: 0)
                ))
        }
    }

    private func addStatic(
        _ route: Route, _ own: [Int32], _ entries: inout [(prefix: Prefix, route: RouteRecord)]
    ) {
        let family = route.destination.family
        var record = RouteRecord(
            action: .forward, sourceLength: UInt8(route.source?.length ?? 0), weight: route.weight, port: -1,
            source: route.source?.address ?? IPAddress(high: 0, low: 0, family: family),
            gateway: IPAddress(high: 0, low: 0, family: family), identity: stableHash(route.name))
        switch route.nextHop {
        case .blackhole: record.action = .blackhole
        case .reject: record.action = .reject
        case .port(let path): record.port = index(of: path) ?? -1
        case .gateway(let gateway, let via):
            record.gateway = gateway
            record.port =
                via.flatMap { index(of: $0) }
                ?? own.first { index in
                    let port = ports[Int(index)]
                    return addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)].contains {
                        $0.network.contains(gateway)
                    }
                } ?? -1
        }
        // A route out of a port that is down is no route: the next best one takes over.
        if record.action == .forward {
            guard record.port >= 0, ports[Int(record.port)].isEnabled else { return }
        }
        entries.append((route.destination, record))
    }
}

extension Route {
    /// What tells the route from the others of its router, on every host and in every version alike. The weight is left out:
    /// a change of weight moves no flow between routes that still share.
    fileprivate var name: String {
        let hop =
            switch nextHop {
            case .gateway(let gateway, let port): "via \(gateway) \(port?.description ?? "")"
            case .port(let port): "port \(port)"
            case .blackhole: "blackhole"
            case .reject: "reject"
            }
        return "\(destination) from \(source?.description ?? "all") \(hop)"
    }
}
