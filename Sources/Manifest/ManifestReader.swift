// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Reads a manifest: YAML to topology. Nothing is returned unless everything is right.
public struct ManifestReader {
    var yaml = YAMLReader()
    var topology = Topology()
    var lab: LabPlan?
    /// Links of routers, to be made when all devices are known.
    var links: [(router: DevicePath, node: Node)] = []
    var bridgeLinks: [(bridge: DevicePath, node: Node)] = []
    var tenants: Set<String> = []
    var others: Set<ObjectKey> = []

    init() {}

    /// Reads the text of a manifest.
    ///
    /// - Parameters:
    ///   - file: how to call the file in errors.
    ///   - known: a cluster's topology, whose hosts and zones need not be said again.
    ///   - includesLab: whether hosts and machines of the lab part become part of the topology.
    ///   - isBounded: whether ``ManifestLimits`` hold; not for what a node of ours wrote.
    public static func read(
        _ text: String, file: String, known: Topology = Topology(), includesLab: Bool = true, isBounded: Bool = true
    ) throws(ManifestError) -> Manifest {
        var reader = ManifestReader()
        reader.topology.hosts = known.hosts
        reader.topology.zones = known.zones
        if !isBounded { reader.yaml.nodeLimit = .max }
        if isBounded, text.utf8.count > ManifestLimits.bytes {
            reader.yaml.mistake(
                nil, "", "the file has more than \(ManifestLimits.bytes) bytes",
                "split the manifest into smaller ones")
        } else if let root = reader.yaml.parse(text) {
            reader.readRoot(root, includesLab)
        }
        if reader.yaml.mistakes.isEmpty { reader.checkNames(known) }
        if reader.yaml.mistakes.isEmpty {
            for problem in reader.topology.problems() { reader.yaml.mistake(problem) }
        }
        guard reader.yaml.mistakes.isEmpty else {
            let sorted = reader.yaml.mistakes.sorted { ($0.line, $0.column) < ($1.line, $1.column) }
            throw ManifestError(file: file, items: Array(sorted.prefix(ManifestLimits.mistakes)))
        }
        TunnelKeys.assign(&reader.topology)
        return Manifest(
            file: file, topology: reader.topology, lab: reader.lab, tenants: reader.tenants, others: reader.others)
    }

    private mutating func readRoot(_ root: Node, _ includesLab: Bool) {
        let known = ["tunnel", "mtu", "zones", "hosts", "tenants", "lab"]
        let entries = yaml.entries(root, "", known: known)
        let byKey = Dictionary(entries.map { ($0.key, $0) }, uniquingKeysWith: { a, _ in a })
        readZones(byKey["tunnel"]?.value, byKey["mtu"]?.value, byKey["zones"]?.value)
        for host in yaml.entries(byKey["hosts"]?.value, "hosts") { readHost(host.key, host.node, host.value) }
        guard let tenants = byKey["tenants"] else {
            yaml.mistake(root, "", "no tenants", "add tenants: with at least one bridge or router")
            return
        }
        for tenant in yaml.entries(tenants.value, "tenants") where yaml.name(tenant.key, tenant.node, "tenant") {
            self.tenants.insert(tenant.key)
            readTenant(tenant.key, tenant.value)
        }
        makeLinks()
        guard let lab = byKey["lab"] else { return }
        let drawn = (topology, others)
        readLab(lab.value)
        if !includesLab { (topology, others) = drawn }
    }

    private mutating func readZones(_ tunnel: Node?, _ mtu: Node?, _ zones: Node?) {
        var zone = topology.zones["default"] ?? TunnelZone(name: "default", encapsulation: .gre)
        if let encapsulation = encapsulation(tunnel, "tunnel") { zone.encapsulation = encapsulation }
        if let mtu = yaml.number(mtu, "mtu", "mtu", 1280...65_535) { zone.underlayMTU = mtu }
        if topology.zones["default"] != zone { others.insert(.zone("default")) }
        topology.zones["default"] = zone
        for entry in yaml.entries(zones, "zones") where yaml.name(entry.key, entry.node, "zone") {
            var zone = TunnelZone(name: entry.key, encapsulation: .gre)
            for field in yaml.entries(entry.value, entry.key, known: ["tunnel", "mtu"]) {
                if field.key == "tunnel", let encapsulation = encapsulation(field.value, entry.key) {
                    zone.encapsulation = encapsulation
                } else if field.key == "mtu", let mtu = yaml.number(field.value, entry.key, "mtu", 1280...65_535) {
                    zone.underlayMTU = mtu
                }
            }
            topology.zones[entry.key] = zone
            others.insert(.zone(entry.key))
        }
    }

    private mutating func encapsulation(_ node: Node?, _ object: String) -> TunnelZone.Encapsulation? {
        guard let text = yaml.text(node, object, "tunnel") else { return nil }
        if let value = TunnelZone.Encapsulation(rawValue: text) { return value }
        yaml.mistake(node, object, "tunnel is \"\(text)\"", "use gre or vxlan")
        return nil
    }

    private mutating func readHost(_ name: String, _ key: Node, _ node: Node) {
        guard yaml.name(name, key, "host") else { return }
        yaml.note(name, at: key)
        var host = Host(name: name)
        var saysWhere = false
        for field in yaml.entries(node, name, known: ["address", "zones", "rate"]) {
            saysWhere = saysWhere || field.key != "rate"
            switch field.key {
            case "address":
                if let address = tunnelAddress(field.value, name) { host.tunnelAddresses["default"] = address }
            case "rate":
                guard let text = yaml.text(field.value, name, "rate") else { continue }
                host.rate = Host.rate(reading: text)
                if host.rate == nil {
                    yaml.mistake(field.value, name, "rate is \"\(text)\"", "write bits a second, such as 10G")
                }
            default:
                for zone in yaml.entries(field.value, name) {
                    if let address = tunnelAddress(zone.value, name) { host.tunnelAddresses[zone.key] = address }
                }
            }
        }
        // Where it is need not be said again.
        if !saysWhere, let known = topology.hosts[name] {
            host.tunnelAddresses = known.tunnelAddresses
        }
        topology.hosts[name] = host
        others.insert(.host(name))
    }

    private mutating func tunnelAddress(_ node: Node, _ object: String) -> IPAddress? {
        guard let address = yaml.address(node, object, "address") else { return nil }
        if address.family == .ipv4 { return address }
        yaml.mistake(node, object, "tunnels run over IPv4 for now", "give the host an IPv4 address in this zone")
        return nil
    }

    private mutating func readTenant(_ tenant: String, _ node: Node) {
        let known = [
            "bridges", "routers", "chains", "portGroups", "addressGroups", "securityGroups", "pools", "mirrors",
            "limits",
            "lifetimes",
        ]
        for kind in yaml.entries(node, tenant, known: known) {
            switch kind.key {
            case "chains":
                readChains(tenant, kind.value)
                continue
            case "portGroups":
                readPortGroups(tenant, kind.value)
                continue
            case "limits", "lifetimes":
                readSettings(tenant, kind.key, kind.value)
                continue
            case "securityGroups":
                readSecurityGroups(tenant, kind.value)
                continue
            case "mirrors":
                readMirrors(tenant, kind.value)
                continue
            case "pools":
                readPools(tenant, kind.value)
                continue
            case "addressGroups":
                readAddressGroups(tenant, kind.value)
                continue
            default: break
            }
            for device in yaml.entries(kind.value, tenant) {
                guard yaml.name(device.key, device.node, kind.key == "bridges" ? "bridge" : "router") else { continue }
                let path = DevicePath(tenant: tenant, name: device.key)
                if topology.bridges[path] != nil || topology.routers[path] != nil {
                    yaml.mistake(
                        device.node, path.description, "is there twice",
                        "bridges and routers of a tenant share one set of names")
                    continue
                }
                yaml.note(path, at: device.node)
                if kind.key == "bridges" { readBridge(path, device.value) } else { readRouter(path, device.value) }
            }
        }
    }

    private mutating func readBridge(_ path: DevicePath, _ node: Node) {
        var bridge = Bridge(path: path)
        var (dhcp, advertised): (Node?, Node?)
        let known = ["subnet", "enabled", "ports", "links", "inbound", "outbound", "dhcp", "ra", "dns", "multicast"]
        for field in yaml.entries(node, path.description, known: known) {
            switch field.key {
            case "subnet":
                for item in yaml.items(field.value) {
                    if let subnet = yaml.prefix(item, path.description, "subnet") { bridge.subnets.append(subnet) }
                }
            case "enabled": bridge.isEnabled = yaml.bool(field.value, path.description, "enabled") ?? true
            case "links": for item in yaml.items(field.value) { bridgeLinks.append((path, item)) }
            case "dhcp": dhcp = field.value
            case "ra": advertised = field.value
            case "multicast": bridge.multicast = readMulticast(field.value, path)
            case "dns": bridge.names = readNames(field.value, path)
            case "inbound", "outbound": readFilter(field.key, field.value, path.description, &bridge.filters)
            default: readPorts(field.value, path, .bridge)
            }
        }
        // What it gives follows from what lives on it, wherever that is said.
        if let dhcp { bridge.dhcp = readDHCP(dhcp, bridge) }
        if let advertised { bridge.advertised = readAdvertised(advertised, bridge) }
        topology.bridges[path] = bridge
    }

    /// Ports as a list of names, or as names with properties.
    private mutating func readPorts(_ node: Node, _ device: DevicePath, _ kind: Port.Kind) {
        if case .sequence = node {
            for item in yaml.items(node) {
                if case .mapping = item {
                    readPorts(item, device, kind)
                } else if let name = yaml.text(item, device.description, "a port") {
                    addPort(name, item, device, kind)
                }
            }
            return
        }
        for entry in yaml.entries(node, device.description) {
            guard let path = addPort(entry.key, entry.node, device, kind), var port = topology.ports[path] else {
                continue
            }
            readPort(&port, entry.value)
            topology.ports[path] = port
        }
    }

    @discardableResult
    mutating func addPort(_ name: String, _ node: Node, _ device: DevicePath, _ kind: Port.Kind) -> PortPath? {
        guard yaml.name(name, node, "port") else { return nil }
        let path = PortPath(device: device, name: name)
        if kind == .router, path.isMonitor {
            yaml.mistake(
                node, path.description, "is the name of the port that the cluster checks members of pools by",
                "choose another")
            return nil
        }
        if topology.ports[path] != nil {
            yaml.mistake(
                node, path.description, "is there twice", "give each port and link of a device a name of its own")
            return nil
        }
        yaml.note(path, at: node)
        topology.ports[path] = Port(path: path, kind: kind)
        return path
    }

    private static let bridgePortFields = [
        "vlan", "trunk", "native", "security", "allowed", "qos", "services", "segment", "preference", "vxlan",
    ]

    private mutating func readPort(_ port: inout Port, _ node: Node) {
        let object = port.path.description
        var known = ["mac", "address", "enabled", "host", "interface", "peer", "inbound", "outbound", "groups"]
        if port.kind == .bridge { known += Self.bridgePortFields }
        if port.kind == .router { known += ["peers", "snippet", "daemon", "vxlan"] }
        var host: String?
        var interface: String?
        var trunk: Node?
        var native: Node?
        var peer: Node?
        var preference: Node?
        for field in yaml.entries(node, object, known: known) {
            switch field.key {
            case "mac": if let mac = yaml.mac(field.value, object) { port.mac = mac }
            case "address": port.addresses = addresses(field.value, object)
            case "enabled": port.isEnabled = yaml.bool(field.value, object, "enabled") ?? true
            case "host": host = yaml.text(field.value, object, "host")
            case "interface": interface = yaml.text(field.value, object, "interface")
            case "peer": peer = field.value
            case "inbound", "outbound": readFilter(field.key, field.value, object, &port.filters)
            case "groups": port.groups = readGroups(field.value, object)
            case "security": port.security = readGroups(field.value, object)
            case "allowed": port.allowed = readAllowed(field.value, object)
            case "qos": port.quality = readQuality(field.value, object)
            case "services": port.services = readServices(field.value, port.path)
            case "segment": port.segment = yaml.text(field.value, object, "segment").map { EthernetSegment(name: $0) }
            case "preference": preference = field.value
            case "vxlan": port.vxlan = readVXLAN(field.value, object)
            case "peers": port.uplink = (port.uplink ?? Uplink()).with(peers: readPeers(field.value, "\(port.path) "))
            case "snippet":
                guard let text = yaml.text(field.value, object, "snippet") else { continue }
                port.uplink = (port.uplink ?? Uplink()).with(snippet: text)
            case "daemon":
                guard let daemon = readDaemon(field.value, object) else { continue }
                port.uplink = (port.uplink ?? Uplink()).with(daemon: daemon)
            case "vlan":
                if let id = yaml.number(field.value, object, "vlan", 1...4094) { port.vlan = .access(UInt16(id)) }
            case "trunk": trunk = field.value
            default: native = field.value
            }
        }
        if let trunk {
            if case .access(let id) = port.vlan, id != 0 {
                yaml.mistake(
                    trunk, object, "has a vlan and a trunk", "an access port has vlan: N, a trunk has trunk: [N, ...]")
            }
            readTrunk(&port, trunk, native)
        } else if let native {
            yaml.mistake(native, object, "has native, but no trunk", "write trunk: [N, ...] or trunk: all with it")
        }
        // The node makes the interface to end points of others itself.
        if port.vxlan != nil, host != nil, interface == nil { interface = port.path.vxlanInterface }
        switch (host, interface) {
        case (let host?, let interface?): port.attachment = .exterior(host: host, interface: interface)
        case (nil, nil): break
        default:
            yaml.mistake(node, object, "a binding needs a host and an interface", "write host: h1, interface: tap0")
        }
        if let preference {
            let value = yaml.number(preference, object, "preference", 0...65_535)
            if port.segment == nil {
                yaml.mistake(preference, object, "has a preference, but no segment", "say which segment it is about")
            } else if let value {
                port.segment?.preference = UInt16(value)
            }
        }
        if let peer { readPeer(&port, peer) }
    }

    /// The other end of a link that is written as two ports.
    private mutating func readPeer(_ port: inout Port, _ node: Node) {
        let object = port.path.description
        guard let text = yaml.text(node, object, "peer") else { return }
        guard let other = PortPath(text) else {
            return yaml.mistake(node, object, "peer \"\(text)\" is no port", "write tenant/device/port")
        }
        guard port.attachment == .none else {
            return yaml.mistake(node, object, "is bound to an interface and linked", "leave one of them out")
        }
        port.attachment = .peer(other)
    }

    private mutating func readTrunk(_ port: inout Port, _ node: Node, _ native: Node?) {
        let object = port.path.description
        var allowed: Set<UInt16>? = []
        if node.scalar?.string == "all" {
            allowed = nil
        } else {
            for item in yaml.items(node) {
                if let id = yaml.number(item, object, "trunk", 1...4094) { allowed?.insert(UInt16(id)) }
            }
            if yaml.items(node).isEmpty {
                yaml.mistake(node, object, "a trunk of no VLANs", "write trunk: [10, 20], or trunk: all")
            }
        }
        var nativeID: UInt16? = 0
        if let native {
            if native.scalar?.string == "none" {
                nativeID = nil
            } else if let id = yaml.number(native, object, "native", 1...4094) {
                nativeID = UInt16(id)
            }
        }
        port.vlan = .trunk(allowed: allowed, native: nativeID)
    }

    mutating func addresses(_ node: Node, _ object: String) -> [InterfaceAddress] {
        var list: [InterfaceAddress] = []
        for item in yaml.items(node) {
            if let address = yaml.interfaceAddress(item, object, "address") { list.append(address) }
        }
        return list
    }

    private mutating func readRouter(_ path: DevicePath, _ node: Node) {
        var router = Router(path: path)
        for field in yaml.entries(
            node, path.description,
            known: ["enabled", "links", "ports", "routes", "inbound", "outbound", "nat", "floating", "vips", "bgp"])
        {
            switch field.key {
            case "enabled": router.isEnabled = yaml.bool(field.value, path.description, "enabled") ?? true
            case "links": for item in yaml.items(field.value) { links.append((path, item)) }
            case "inbound", "outbound": readFilter(field.key, field.value, path.description, &router.filters)
            case "ports": readPorts(field.value, path, .router)
            case "nat": router.translation.rules = readTranslations(field.value, path)
            case "floating": router.translation.floating = readFloating(field.value, path)
            case "vips": router.translation.virtual = readVirtualAddresses(field.value, path)
            case "bgp": router.bgp = readSpeaker(field.value, path)
            default:
                for item in yaml.items(field.value) {
                    if let route = readRoute(item, path) { router.routes.append(route) }
                }
            }
        }
        topology.routers[path] = router
    }

    private mutating func readRoute(_ node: Node, _ router: DevicePath) -> Route? {
        let object = "\(router) route"
        var destination: Prefix?
        var source: Prefix?
        var weight = 100
        var gateway: IPAddress?
        var port: PortPath?
        var special: NextHop?
        var isDefault = false
        for field in yaml.entries(node, object, known: ["to", "from", "via", "port", "weight", "type"]) {
            switch field.key {
            case "to":
                if field.value.scalar?.string == "default" {
                    destination = .all(.ipv4)
                    isDefault = true
                } else {
                    destination = yaml.prefix(field.value, object, "to")
                }
            case "from": source = yaml.prefix(field.value, object, "from")
            case "via": gateway = yaml.address(field.value, object, "via")
            case "port": port = yaml.text(field.value, object, "port").map { PortPath(device: router, name: $0) }
            case "weight": weight = yaml.number(field.value, object, "weight", 0...65_535) ?? weight
            default:
                switch yaml.text(field.value, object, "type") {
                case "blackhole": special = .blackhole
                case "reject": special = .reject
                case let other:
                    yaml.mistake(
                        field.value, object, "type is \"\(other ?? "")\"", "use blackhole or reject, or leave it out")
                }
            }
        }
        guard var destination else {
            if yaml.mistakes.isEmpty { yaml.mistake(node, object, "has no destination", "write to: 10.0.0.0/8") }
            return nil
        }
        // "default" takes the family of what it leads to.
        if isDefault, let family = gateway?.family { destination = .all(family) }
        let name = "\(router) route to \(destination)"
        yaml.note(name, at: node)
        let nextHop: NextHop
        switch (gateway, port, special) {
        case (let gateway?, let port, nil): nextHop = .gateway(gateway, port: port)
        case (nil, let port?, nil): nextHop = .port(port)
        case (nil, nil, let special?): nextHop = special
        default:
            yaml.mistake(
                node, name, "needs one next hop",
                "write one of via: 10.0.0.1, port: uplink, type: blackhole, type: reject")
            return nil
        }
        return Route(destination: destination, source: source, weight: UInt16(weight), nextHop: nextHop)
    }
}
