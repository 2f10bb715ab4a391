// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Links between devices: each makes a port on either side.
extension ManifestReader {
    mutating func makeLinks() {
        for (router, node) in links { makeRouterLink(router, node) }
        for (bridge, node) in bridgeLinks { makeBridgeLink(bridge, node) }
    }

    /// A reference to a device: `name` in the same tenant, or `tenant/name`.
    private func device(_ text: String, near: DevicePath) -> DevicePath? {
        text.contains("/") ? DevicePath(text) : DevicePath(tenant: near.tenant, name: text)
    }

    /// The name of the port on `device` that leads to `other`: the other's name, with its tenant where that differs.
    static func portName(on device: DevicePath, to other: DevicePath) -> String {
        device.tenant == other.tenant ? other.name : "\(other.tenant)-\(other.name)"
    }

    private mutating func unknown(_ node: Node, _ object: String, _ kind: String, _ name: String, _ all: [DevicePath]) {
        let known = all.sorted().map(\.description)
        yaml.mistake(
            node, object, "\(kind) \(name) does not exist",
            known.isEmpty ? "add it" : yaml.suggestion(name, known))
    }

    private mutating func makeRouterLink(_ router: DevicePath, _ node: Node) {
        let object = "\(router) link"
        let known = [
            "bridge", "router", "name", "address", "peer", "mac", "vlan", "enabled", "inbound", "outbound", "groups",
        ]
        let fields = Dictionary(
            yaml.entries(node, object, known: known).map { ($0.key, $0.value) }, uniquingKeysWith: { a, _ in a })
        let mac = fields["mac"].flatMap { yaml.mac($0, object) }
        let enabled = fields["enabled"].flatMap { yaml.bool($0, object, "enabled") } ?? true
        let addresses = fields["address"].map { self.addresses($0, object) } ?? []
        let name = fields["name"].flatMap { yaml.text($0, object, "name") }
        var filters = Filters()
        for word in ["inbound", "outbound"] {
            if let field = fields[word] { readFilter(word, field, object, &filters) }
        }
        let groups = fields["groups"].map { readGroups($0, object) } ?? []
        if let target = fields["bridge"], fields["router"] == nil {
            guard let text = yaml.text(target, object, "bridge"), let bridge = device(text, near: router),
                let record = topology.bridges[bridge]
            else {
                return unknown(target, object, "bridge", target.scalar?.string ?? "", Array(topology.bridges.keys))
            }
            guard let near = addPort(name ?? Self.portName(on: router, to: bridge), target, router, .router),
                let far = addPort(
                    Self.portName(on: bridge, to: router) + (name.map { "-" + $0 } ?? ""), target, bridge, .bridge)
            else { return }
            // Without an address the router takes the first of the bridge's subnet.
            let own = addresses.isEmpty ? record.subnets.compactMap(firstAddress) : addresses
            topology.ports[near]?.addresses = own
            if let vlan = fields["vlan"].flatMap({ yaml.number($0, object, "vlan", 1...4094) }) {
                topology.ports[far]?.vlan = .access(UInt16(vlan))
            }
            connect(near, far, mac: mac, enabled: enabled)
            topology.ports[near]?.filters = filters
            topology.ports[near]?.groups = groups
        } else if let target = fields["router"], fields["bridge"] == nil {
            guard let text = yaml.text(target, object, "router"), let other = device(text, near: router),
                topology.routers[other] != nil
            else {
                return unknown(target, object, "router", target.scalar?.string ?? "", Array(topology.routers.keys))
            }
            if other == router {
                return yaml.mistake(target, object, "the router is linked to itself", "link it to another router")
            }
            guard let near = addPort(name ?? Self.portName(on: router, to: other), target, router, .router),
                let far = addPort(
                    Self.portName(on: other, to: router) + (name.map { "-" + $0 } ?? ""), target, other, .router)
            else { return }
            topology.ports[near]?.addresses = addresses
            if let peer = fields["peer"] {
                let own = self.addresses(peer, object)
                topology.ports[far]?.addresses = own
            } else {
                yaml.mistake(node, object, "a link to a router needs the peer's address", "write peer: 100.64.0.1/30")
            }
            connect(near, far, mac: mac, enabled: enabled)
            topology.ports[near]?.filters = filters
            topology.ports[near]?.groups = groups
        } else {
            yaml.mistake(
                node, object, "a link leads to one bridge or one router", "write bridge: name, or router: name")
        }
    }

    private mutating func makeBridgeLink(_ bridge: DevicePath, _ node: Node) {
        let object = "\(bridge) link"
        let fields = Dictionary(
            yaml.entries(node, object, known: ["bridge", "vlan", "name"]).map { ($0.key, $0.value) },
            uniquingKeysWith: { a, _ in a })
        guard let target = fields["bridge"], let text = yaml.text(target, object, "bridge") else {
            return yaml.mistake(node, object, "a link of a bridge leads to another bridge", "write bridge: name")
        }
        guard let other = device(text, near: bridge), topology.bridges[other] != nil else {
            return unknown(target, object, "bridge", text, Array(topology.bridges.keys))
        }
        let name = fields["name"].flatMap { yaml.text($0, object, "name") }
        guard other != bridge else {
            return yaml.mistake(target, object, "the bridge is linked to itself", "link it to another bridge")
        }
        guard let near = addPort(name ?? Self.portName(on: bridge, to: other), target, bridge, .bridge),
            let far = addPort(
                Self.portName(on: other, to: bridge) + (name.map { "-" + $0 } ?? ""), target, other, .bridge)
        else { return }
        if let vlan = fields["vlan"].flatMap({ yaml.number($0, object, "vlan", 1...4094) }) {
            topology.ports[near]?.vlan = .access(UInt16(vlan))
        }
        connect(near, far, mac: nil, enabled: true)
    }

    private mutating func connect(_ near: PortPath, _ far: PortPath, mac: MACAddress?, enabled: Bool) {
        topology.ports[near]?.attachment = .peer(far)
        topology.ports[far]?.attachment = .peer(near)
        topology.ports[near]?.isEnabled = enabled
        if let mac { topology.ports[near]?.mac = mac }
    }

    private func firstAddress(_ network: Prefix) -> InterfaceAddress? {
        guard network.length < network.family.width - 1 else { return nil }
        let address = network.address
        return network.family == .ipv4
            ? InterfaceAddress(
                IPAddress(high: address.high | 1 << 32, low: 0, family: .ipv4), length: network.length)
            : InterfaceAddress(
                IPAddress(high: address.high, low: address.low | 1, family: .ipv6), length: network.length)
    }
}
