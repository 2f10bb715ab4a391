// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a router has that is worth announcing.
extension Topology {
    /// What a router's uplinks announce by what is drawn: each announcement as a whole where the router has anything of it, or
    /// each network and address that it has there.
    public func announced(by router: Router) -> Set<Prefix> {
        guard let speaker = router.bgp, router.isEnabled, !speaker.announced.isEmpty else { return [] }
        let held = destinations(of: router)
        var result: Set<Prefix> = []
        for announcement in speaker.announced {
            let prefix = announcement.prefix
            let within = held.filter { prefix.contains($0) }
            if announcement.isEach {
                result.formUnion(within)
                // All of it belongs to a network that is larger.
                if within.isEmpty, held.contains(where: { $0.contains(prefix) }) { result.insert(prefix) }
            } else if held.contains(where: { $0.overlaps(prefix) }) {
                result.insert(prefix)
            }
        }
        return result
    }

    /// Networks that a router leads to by itself, and single addresses that it, or a router in a network of its own, answers for.
    func destinations(of router: Router) -> Set<Prefix> {
        var held = Set(router.translation.answered.map { Prefix($0, length: $0.family.width) })
        for virtual in router.translation.virtual {
            held.insert(Prefix(virtual.address, length: virtual.address.family.width))
        }
        for route in router.routes {
            switch route.nextHop {
            case .gateway, .port: if route.destination.length > 0 { held.insert(route.destination) }
            case .blackhole, .reject: break
            }
        }
        for port in ports(of: router.path) where port.isEnabled && port.uplink == nil && !port.isMonitor {
            for address in port.addresses { held.insert(address.network) }
            for neighbor in neighbors(of: port) where neighbor != router.path {
                guard let other = routers[neighbor], other.isEnabled else { continue }
                for address in other.translation.answered
                where port.addresses.contains(where: { $0.network.contains(address) }) {
                    held.insert(Prefix(address, length: address.family.width))
                }
            }
        }
        return held
    }

    /// Routers behind a router's port: the other end of its cable, or those linked to the same bridge.
    private func neighbors(of port: Port) -> Set<DevicePath> {
        guard case .peer(let other) = port.attachment, let peer = ports[other] else { return [] }
        if peer.kind == .router { return [peer.path.device] }
        var found: Set<DevicePath> = []
        for link in ports.linked(of: peer.path.device) {
            if case .peer(let far) = link.attachment, ports[far]?.kind == .router { found.insert(far.device) }
        }
        return found
    }
}

extension Prefix {
    /// Whether all of another one is in it.
    func contains(_ other: Prefix) -> Bool { other.length >= length && contains(other.address) }
}
