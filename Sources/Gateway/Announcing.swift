// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a router has that is worth announcing.
extension Topology {
    /// What a router's uplinks on a host announce by what is drawn: each announcement as a whole where the router has anything of it,
    /// each network and address that it has there, or what is on the host itself.
    public func announced(by router: Router, on host: String) -> Set<Prefix> {
        guard let speaker = router.bgp, router.isEnabled, !speaker.announced.isEmpty else { return [] }
        let held = destinations(of: router)
        var local: Set<Prefix>?
        var result: Set<Prefix> = []
        for announcement in speaker.announced {
            let prefix = announcement.prefix
            switch announcement.form {
            case .whole: if held.contains(where: { $0.overlaps(prefix) }) { result.insert(prefix) }
            case .each:
                let within = held.filter { prefix.contains($0) }
                result.formUnion(within)
                // All of it belongs to a network that is larger.
                if within.isEmpty, held.contains(where: { $0.contains(prefix) }) { result.insert(prefix) }
            case .local:
                let near = local ?? floating(behind: router, on: host)
                local = near
                result.formUnion(near.filter { prefix.contains($0) })
            }
        }
        return result
    }

    /// Floating addresses of a router, and of those behind it, whose machines are on a host.
    private func floating(behind router: Router, on host: String) -> Set<Prefix> {
        // Machines of a host by bridge.
        var machines: [DevicePath: Set<IPAddress>] = [:]
        for path in ports.bound(to: host).values.joined() {
            guard let port = ports[path], port.kind == .bridge, port.isEnabled else { continue }
            machines[path.device, default: []].formUnion(port.addresses.map(\.address))
        }
        if machines.isEmpty { return [] }
        var found: Set<Prefix> = []
        var behind: Set<DevicePath> = [router.path]
        for port in ports(of: router.path) where port.isEnabled { behind.formUnion(neighbors(of: port)) }
        for path in behind {
            guard let other = routers[path], other.isEnabled, !other.translation.floating.isEmpty else { continue }
            var own: Set<IPAddress> = []
            for port in ports(of: path) {
                if case .peer(let link) = port.attachment { own.formUnion(machines[link.device] ?? []) }
            }
            for floating in other.translation.floating where own.contains(floating.target) {
                found.insert(Prefix(floating.address, length: floating.address.family.width))
            }
        }
        return found
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
