// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// JSON to objects: what can't be read is told by its place.
struct ResourceReader {
    let object: String

    func prefix(_ text: String, _ field: String) throws(APIError) -> Prefix {
        do { return try Prefix(parsing: text) } catch {
            let remedy =
                switch error {
                case .malformed: "write it like 10.0.0.0/24"
                case .length(let max): "use a length from 0 to \(max)"
                case .hostBits(let network): "write \(network)"
                }
            throw .invalid(object, "\(field) \"\(text)\" is not a network", remedy)
        }
    }

    func interface(_ text: String, _ field: String) throws(APIError) -> InterfaceAddress {
        guard let address = try? InterfaceAddress(parsing: text) else {
            throw .invalid(object, "\(field) \"\(text)\" is not an address with a length", "write it like 10.0.0.1/24")
        }
        return address
    }

    func address(_ text: String, _ field: String) throws(APIError) -> IPAddress {
        guard let address = IPAddress(text) else {
            throw .invalid(object, "\(field) \"\(text)\" is not an address", "write it like 10.0.0.1 or fd00::1")
        }
        return address
    }

    func name(_ text: String, _ field: String) throws(APIError) -> String {
        guard isValidName(text) else {
            throw .invalid(object, "\(field) \"\(text)\" is no name", "use a name of its tenant")
        }
        return text
    }

    func filters(_ inbound: String?, _ outbound: String?) throws(APIError) -> Filters {
        var filters = Filters()
        if let inbound { filters.inbound = try name(inbound, "inbound") }
        if let outbound { filters.outbound = try name(outbound, "outbound") }
        return filters
    }

    func vlan(_ number: Int, _ field: String, from least: Int = 1) throws(APIError) -> UInt16 {
        guard (least...4094).contains(number) else {
            throw .invalid(object, "\(field) \(number) does not exist", "use \(least) to 4094")
        }
        return UInt16(number)
    }
}

extension BridgeResource {
    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        let reader = ResourceReader(object: path.description)
        var bridge = Bridge(path: path)
        bridge.isEnabled = enabled ?? true
        for text in subnets ?? [] { bridge.subnets.append(try reader.prefix(text, "subnet")) }
        bridge.filters = try reader.filters(inbound, outbound)
        let (v4, v6) = (bridge.subnets.first { $0.family == .ipv4 }, bridge.subnets.first { $0.family == .ipv6 })
        for network in dhcp ?? [] {
            bridge.dhcp.append(
                try readFields(network, of: "\(path) dhcp") { fields throws(RuleMistake) in
                    try DHCPSubnet(reading: fields, standard: v4 ?? v6)
                })
        }
        for network in ra ?? [] {
            bridge.advertised.append(
                try readFields(network, of: "\(path) ra") { fields throws(RuleMistake) in
                    try AdvertisedPrefix(reading: fields, standard: v6)
                })
        }
        if let dns {
            bridge.names = try readFields(dns, of: "\(path) dns") { fields throws(RuleMistake) in
                try NameService(reading: fields, tenant: path.tenant)
            }
        }
        if let multicast {
            bridge.multicast = try readFields(multicast, of: "\(path) multicast") { fields throws(RuleMistake) in
                try MulticastService(reading: fields)
            }
        }
        return .bridge(bridge)
    }
}

extension RouterResource {
    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        let reader = ResourceReader(object: path.description)
        var router = Router(path: path)
        router.isEnabled = enabled ?? true
        for route in routes ?? [] { router.routes.append(try route.read(reader, path)) }
        router.filters = try reader.filters(inbound, outbound)
        for rule in nat ?? [] {
            router.translation.rules.append(
                try rule.read(translation: "\(path) nat", router.translation.rules.count + 1))
        }
        for floating in floating ?? [] { router.translation.floating.append(try floating.read(path)) }
        router.translation.floating.sort { $0.address < $1.address }
        for virtual in vips ?? [] {
            router.translation.virtual.append(try virtual.read(path, router.translation.virtual.count + 1))
        }
        if let bgp {
            router.bgp = try readFields(bgp, of: "\(path) bgp") { fields throws(RuleMistake) in
                try BGPSpeaker(reading: fields)
            }
        }
        return .router(router)
    }
}

extension RouteResource {
    fileprivate func read(_ reader: ResourceReader, _ router: DevicePath) throws(APIError) -> Route {
        let destination = try reader.prefix(to, "to")
        var source: Prefix?
        if let from { source = try reader.prefix(from, "from") }
        guard let weight = UInt16(exactly: weight ?? 100) else {
            throw .invalid(reader.object, "weight \(weight ?? 0) of the route to \(to)", "use 0 to 65535")
        }
        if let port, !isValidName(port) {
            throw .invalid(reader.object, "port \"\(port)\" of the route to \(to)", "name a port of the router")
        }
        let out = port.map { PortPath(device: router, name: $0) }
        let hop: NextHop
        switch (via, out, type) {
        case (let via?, let out, nil): hop = .gateway(try reader.address(via, "via"), port: out)
        case (nil, let out?, nil): hop = .port(out)
        case (nil, nil, "blackhole"?): hop = .blackhole
        case (nil, nil, "reject"?): hop = .reject
        default:
            throw .invalid(
                reader.object, "the route to \(to) needs one next hop",
                "say one of via (and port), port, or type: blackhole or reject")
        }
        return Route(destination: destination, source: source, weight: weight, nextHop: hop)
    }
}

extension PortResource {
    func object(_ path: PortPath, in topology: Topology) throws(APIError) -> TopologyObject {
        let reader = ResourceReader(object: path.description)
        // A device of the same transaction is not there yet: then the port has to say what it is.
        let isRouter = topology.routers[path.device] != nil || topology.bridges[path.device] == nil && kind == "router"
        if let kind, kind != "bridge", kind != "router" {
            throw .invalid(reader.object, "kind is \"\(kind)\"", "use bridge or router, or leave it out")
        }
        var port = Port(path: path, kind: isRouter ? .router : .bridge)
        port.isEnabled = enabled ?? true
        if let mac {
            guard let address = MACAddress(mac) else {
                throw .invalid(reader.object, "mac \"\(mac)\" is not a MAC", "write it like 02:00:00:00:00:01")
            }
            port.mac = address
        }
        for text in addresses ?? [] { port.addresses.append(try reader.interface(text, "address")) }
        try readVLAN(&port, reader)
        port.filters = try reader.filters(inbound, outbound)
        for group in groups ?? [] { port.groups.insert(try reader.name(group, "group")) }
        for group in security ?? [] { port.security.insert(try reader.name(group, "security group")) }
        for text in allowed ?? [] {
            guard let address = AllowedAddress(text) else {
                throw .invalid(
                    reader.object, "allowed \"\(text)\" is no address",
                    "write 10.0.0.9, 10.0.9.0/24 or 10.0.0.9 02:00:00:00:00:09")
            }
            port.allowed.insert(address)
        }
        if let qos {
            port.quality = try readFields(qos, of: "\(reader.object) qos") { fields throws(RuleMistake) in
                try PortQuality(reading: fields)
            }
        }
        for (place, service) in (services ?? []).enumerated() {
            port.services.append(try service.hop("\(reader.object) services \(place + 1)", path.device.tenant))
        }
        if let segment {
            port.segment = EthernetSegment(name: try reader.name(segment, "segment"), preference: preference ?? 100)
        } else if preference != nil {
            throw .invalid(reader.object, "has a preference, but no segment", "say which segment it is about")
        }
        if let vxlan {
            port.vxlan = try readFields(vxlan, of: "\(reader.object) vxlan") { fields throws(RuleMistake) in
                try VXLANEnd(reading: fields)
            }
        }
        let interface = vxlan != nil && host != nil && interface == nil ? path.vxlanInterface : interface
        if peers != nil || snippet != nil || daemon != nil {
            var uplink = Uplink()
            uplink.snippet = snippet
            if let daemon {
                guard let known = Uplink.Daemon(rawValue: daemon) else {
                    throw .invalid(reader.object, "daemon \"\(daemon)\" is not known", "use \(Uplink.Daemon.names)")
                }
                uplink.daemon = known
            }
            for (place, peer) in (peers ?? []).enumerated() {
                uplink.peers.append(
                    try readFields(peer, of: "\(reader.object) peers \(place + 1)") { fields throws(RuleMistake) in
                        try BGPPeer(reading: fields)
                    })
            }
            port.uplink = uplink
        }
        switch (host, interface, peer) {
        case (nil, nil, nil): break
        case (let host?, let interface?, nil):
            guard isValidName(host) else {
                throw .invalid(reader.object, "host \"\(host)\" is no name", "use the name of a host")
            }
            port.attachment = .exterior(host: host, interface: interface)
        case (nil, nil, let peer?):
            guard let other = PortPath(peer) else {
                throw .invalid(reader.object, "peer \"\(peer)\" is no port", "write tenant/device/port")
            }
            port.attachment = .peer(other)
        default:
            throw .invalid(
                reader.object, "is bound by halves, or bound and linked", "say host and interface, or peer, or neither")
        }
        return .port(port)
    }

    private func readVLAN(_ port: inout Port, _ reader: ResourceReader) throws(APIError) {
        guard vlan != nil || trunk != nil else { return }
        guard port.kind == .bridge, vlan == nil || trunk == nil else {
            throw .invalid(
                reader.object, "a port of a bridge has a vlan or a trunk; one of a router has neither",
                "leave one of them out")
        }
        if let vlan { port.vlan = .access(try reader.vlan(vlan, "vlan", from: 0)) }
        if let trunk {
            var allowed: Set<UInt16>?
            if let vlans = trunk.vlans, vlans.isEmpty {
                throw .invalid(reader.object, "a trunk of no VLAN", "list VLANs, or leave vlans out for all")
            }
            if let vlans = trunk.vlans {
                allowed = []
                for id in vlans { allowed?.insert(try reader.vlan(id, "trunk")) }
            }
            var native: UInt16?
            if let id = trunk.native { native = try reader.vlan(id, "native", from: 0) }
            port.vlan = .trunk(allowed: allowed, native: native)
        }
    }
}

extension HostResource {
    func object(_ name: String) throws(APIError) -> TopologyObject {
        let reader = ResourceReader(object: name)
        var host = Host(name: name)
        for (zone, text) in tunnelAddresses ?? [:] {
            guard isValidName(zone) else { throw .invalid(name, "zone \"\(zone)\" is no name", "use a zone's name") }
            let address = try reader.address(text, "tunnelAddresses")
            guard address.family == .ipv4 else {
                throw .invalid(name, "tunnels run over IPv4 for now", "give an IPv4 address")
            }
            host.tunnelAddresses[zone] = address
        }
        if let rate {
            guard let kilobits = Host.rate(reading: rate) else {
                throw .invalid(name, "rate is \"\(rate)\"", "write bits a second, such as 10G")
            }
            host.rate = kilobits
        }
        return .host(host)
    }
}

extension ZoneResource {
    func object(_ name: String) throws(APIError) -> TopologyObject {
        guard let encapsulation = TunnelZone.Encapsulation(rawValue: tunnel ?? "gre") else {
            throw .invalid(name, "tunnel is \"\(tunnel ?? "")\"", "use gre or vxlan")
        }
        var zone = TunnelZone(name: name, encapsulation: encapsulation)
        if let mtu {
            guard (1280...65_535).contains(mtu) else { throw .invalid(name, "mtu is \(mtu)", "use 1280 to 65535") }
            zone.underlayMTU = mtu
        }
        return .zone(zone)
    }
}

/// Reads what is said field by field, in order of name.
func readFields<Value>(
    _ said: [String: [String]], of object: String,
    _ read: ([(name: String, values: [String])]) throws(RuleMistake) -> Value
) throws(APIError) -> Value {
    let fields = said.sorted { $0.key < $1.key }.map { (name: $0.key, values: $0.value) }
    do throws(RuleMistake) { return try read(fields) } catch {
        throw .invalid(object, "\(error.field) \(error.reason)", error.remedy)
    }
}
