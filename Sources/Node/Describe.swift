// SPDX-License-Identifier: Apache-2.0
import Agent
import Datapath
import Manifest
import Simulation
import Topology
import Wire

/// Actions in the words of a person.
public func describe(_ actions: [Action], port: (PortNumber) -> String) -> String {
    if actions.isEmpty { return "drop" }
    return actions.map { action in
        switch action {
        case .output(let number): port(number)
        case .userspace(ActionCookies.tooLong): "answer: too big"
        case .userspace(ActionCookies.probe): "see that the tunnel works"
        case .userspace(let cookie): "up(\(cookie))"
        case .setTunnel(let header):
            "tunnel(key=\(hexKey(header.id)), to=\(header.destination)"
                + (header.priority == 0 ? ")" : ", queue=\(header.priority & 0xffff))")
        case .setEthernet(let source, let sourceMask, let destination, let destinationMask):
            "eth("
                + [
                    sourceMask != 0 ? "src=\(source)" : nil, destinationMask != 0 ? "dst=\(destination)" : nil,
                ]
                .compactMap(\.self).joined(separator: ", ") + ")"
        case .setIPv4(let value, let mask), .setIPv6(let value, let mask): describe(value, mask)
        case .setPorts(_, let source, let sourceMask, let destination, let destinationMask):
            "ports("
                + [sourceMask != 0 ? "src=\(source)" : nil, destinationMask != 0 ? "dst=\(destination)" : nil]
                .compactMap(\.self).joined(separator: ", ") + ")"
        case .pushVLAN(_, let tci): "push vlan \(tci & 0x0fff)"
        case .popVLAN: "pop vlan"
        case .truncate(let length): "cut to \(length)"
        case .sampled(let count, let nested): "one of \(count): (" + describe(nested, port: port) + ")"
        case .metered(let meter, let nested): "meter \(meter.value): (" + describe(nested, port: port) + ")"
        case .checkLength(let limit, _, let fits): "if length <= \(limit): " + describe(fits, port: port)
        }
    }
    .joined(separator: ", ")
}

private func describe(_ value: IPFields, _ mask: IPFields) -> String {
    var parts: [String] = []
    if mask.ttl != 0 { parts.append("ttl=\(value.ttl)") }
    if mask.tos != 0 { parts.append("tos=\(value.tos)") }
    return "ip(" + parts.joined(separator: ", ") + ")"
}

/// What a port of the datapath is, in words.
public func describe(_ specification: PortSpecification) -> String {
    switch specification {
    case .interface(let name): name
    case .gre(let local): "gre on \(local)"
    case .vxlan(let local, let port): "vxlan on \(local):\(port)"
    case .collector(let collector):
        switch collector.encapsulation {
        case .gre(let key): "copies by gre to \(collector.remote), key \(key)"
        case .erspan(let session): "copies by erspan to \(collector.remote), session \(session)"
        }
    }
}

/// The devices of a topology as an indented tree.
public func tree(_ topology: Topology) -> [String] {
    var lines: [String] = []
    for tenant in topology.tenants {
        lines.append(tenant)
        for path in topology.bridges.keys.sorted() where path.tenant == tenant {
            guard let bridge = topology.bridges[path] else { continue }
            let subnets = bridge.subnets.isEmpty ? "" : "  " + bridge.subnets.map(\.description).joined(separator: ", ")
            lines.append("  bridge \(path.name)\(subnets)\(bridge.isEnabled ? "" : "  (disabled)")")
            for port in topology.ports(of: path) { lines.append("    " + line(port)) }
        }
        for path in topology.routers.keys.sorted() where path.tenant == tenant {
            guard let router = topology.routers[path] else { continue }
            lines.append("  router \(path.name)\(router.isEnabled ? "" : "  (disabled)")")
            for port in topology.ports(of: path) { lines.append("    " + line(port)) }
            for route in router.routes { lines.append("    route \(route)") }
        }
    }
    return lines
}

private func line(_ port: Port) -> String {
    var text = port.path.name
    if !port.addresses.isEmpty { text += "  " + port.addresses.map(\.description).joined(separator: ", ") }
    switch port.vlan {
    case .access(0): break
    case .access(let id): text += "  vlan \(id)"
    case .trunk(let allowed, let native):
        text += "  trunk \(allowed.map { $0.sorted().map(String.init).joined(separator: ",") } ?? "all")"
        if let native, native != 0 { text += " native \(native)" }
    }
    switch port.attachment {
    case .none: text += "  (not attached)"
    case .exterior(let host, let interface): text += "  on \(host), interface \(interface)"
    case .peer(let peer): text += "  -> \(peer)"
    }
    return port.isEnabled ? text : text + "  (disabled)"
}
