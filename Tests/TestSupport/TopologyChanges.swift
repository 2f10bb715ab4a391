// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Changes of topologies at random: ports, links, devices and routes come and go.
public struct TopologyChanges {
    private var serial: UInt32 = 0

    /// From the first change on.
    public init() {}

    /// A topology with a few things changed, valid as the one before was.
    public mutating func next(_ old: Topology, _ random: inout SeededRandom) -> Topology {
        // Of a drawing without routers nothing comes.
        precondition(!old.routers.isEmpty && !old.ports.isEmpty, "nothing to change")
        while true {
            var topology = old
            for _ in 0..<Int.random(in: 1...3, using: &random) { change(&topology, &random) }
            if topology != old, topology.problems().isEmpty { return topology }
        }
    }

    private mutating func change(_ topology: inout Topology, _ random: inout SeededRandom) {
        serial += 1
        let ports = topology.ports.keys.sorted()
        let bridges = topology.bridges.keys.sorted()
        let routers = topology.routers.keys.sorted()
        guard let path = ports.randomElement(using: &random), let bridge = bridges.randomElement(using: &random),
            let router = routers.randomElement(using: &random)
        else { return }
        func key() -> UInt32 { 0x10_0000 + serial }
        func link(_ a: (DevicePath, Port.Kind), _ b: (DevicePath, Port.Kind)) {
            var one = Port(path: PortPath(device: a.0, name: "l\(serial)"), kind: a.1)
            var two = Port(path: PortPath(device: b.0, name: "m\(serial)"), kind: b.1)
            (one.attachment, two.attachment) = (.peer(two.path), .peer(one.path))
            (one.tunnelKey, two.tunnelKey) = (key(), 0x20_0000 + serial)
            if a.1 == .router { one.addresses = [subnet(serial)] }
            if a.1 == .bridge, Bool.random(using: &random) {
                one.vlan = [.access(20), .trunk(allowed: nil, native: 0)].randomElement(using: &random) ?? .access(0)
            }
            (topology.ports[one.path], topology.ports[two.path]) = (one, two)
        }
        switch Int.random(in: 0...37, using: &random) {
        case 0: topology.ports[path]?.isEnabled.toggle()
        case 1: topology.ports[path]?.mac = MACAddress(bits: 0x0e77_0000_0000 | UInt64(serial))
        case 2, 3:
            var port = Port(path: PortPath(device: bridge, name: "p\(serial)"), kind: .bridge)
            let host = ["h1", "h2"].randomElement(using: &random) ?? ""
            port.attachment = .exterior(host: host, interface: "i\(serial)")
            port.addresses = [subnet(serial)]
            port.tunnelKey = key()
            let allowed: Set<UInt16> = [10, 20, UInt16.random(in: 1...4000, using: &random)]
            port.vlan =
                [.access(0), .access(10), .trunk(allowed: allowed, native: nil), .trunk(allowed: nil, native: 30)]
                .randomElement(using: &random) ?? .access(0)
            topology.ports[port.path] = port
        case 4: link((router, .router), (bridge, .bridge))
        case 5: link((bridge, .bridge), (bridges.randomElement(using: &random) ?? bridge, .bridge))
        case 6 where ports.count > 8:
            if case .peer(let other)? = topology.ports[path]?.attachment { topology.ports[other] = nil }
            topology.ports[path] = nil
        case 7:
            var new = Bridge(path: DevicePath(tenant: "t", name: "b\(serial)"))
            new.floodKey = key()
            topology.bridges[new.path] = new
        case 8 where bridges.count > 3 && ports.count > 2 * topology.ports.count(of: bridge):
            for port in topology.ports(of: bridge) {
                if case .peer(let other) = port.attachment { topology.ports[other] = nil }
                topology.ports[port.path] = nil
            }
            topology.bridges[bridge] = nil
        case 9:
            let new = Router(path: DevicePath(tenant: "t", name: "r\(serial)"))
            topology.routers[new.path] = new
        case 13, 14:
            var chain = Chain(path: DevicePath(tenant: "t", name: "c\(Int.random(in: 0...2, using: &random))"))
            let actions: [Rule.Action] = [.accept, .drop, .reject, .continue, .jump("c0")]
            for id in 0..<Int.random(in: 0...3, using: &random) {
                var condition = Condition()
                condition.ipProtocol = Match([1, 6, 17].randomElement(using: &random) ?? 1, isInverted: id == 1)
                if Bool.random(using: &random), !topology.addressGroups.isEmpty {
                    condition.destinationGroup = Match("g")
                }
                chain.rules.append(
                    Rule(id: "\(id)", condition: condition, action: actions.randomElement(using: &random) ?? .drop))
            }
            topology.chains[chain.path] = Int.random(in: 0...4, using: &random) == 0 ? nil : chain
        case 15:
            var filters = Filters()
            filters.inbound = topology.chains.values.map(\.path.name).sorted().randomElement(using: &random)
            if Bool.random(using: &random) { swap(&filters.inbound, &filters.outbound) }
            switch Int.random(in: 0...3, using: &random) {
            case 0: topology.bridges[bridge]?.filters = filters
            case 1: topology.routers[router]?.filters = filters
            default: topology.ports[path]?.filters = filters
            }
        case 16:
            var group = AddressGroup(path: DevicePath(tenant: "t", name: "g"))
            for _ in 0..<Int.random(in: 0...3, using: &random) { group.members.insert(subnet(serial &+ 7).network) }
            topology.addressGroups[group.path] = group
        case 20:
            var group = SecurityGroup(path: DevicePath(tenant: "t", name: "s\(Int.random(in: 0...1, using: &random))"))
            for way in 0..<2 {
                var rules: [SecurityRule] = []
                for id in 0..<Int.random(in: 0...2, using: &random) {
                    var rule = SecurityRule(id: "\(id)")
                    if Bool.random(using: &random) { (rule.ipProtocol, rule.ports) = (17, [PortRange(1, 9)]) }
                    let names = topology.securityGroups.values.map(\.path.name).sorted()
                    if Bool.random(using: &random), let name = names.randomElement(using: &random) {
                        rule.remote = .group(name)
                    }
                    rules.append(rule)
                }
                if way == 0 { group.inward = rules } else { group.outward = rules }
            }
            topology.securityGroups[group.path] = Int.random(in: 0...5, using: &random) == 0 ? nil : group
        case 23, 24:
            let group = DevicePath(tenant: "t", name: "k\(Int.random(in: 0...1, using: &random))")
            topology.portGroups[group] = PortGroup(path: group, isStateful: Int.random(in: 0...3, using: &random) > 0)
            if Int.random(in: 0...7, using: &random) == 0 {
                topology.portGroups[group] = nil
                for port in topology.ports.values { topology.ports[port.path]?.groups.remove(group.name) }
            }
        case 25, 26:
            let names = topology.portGroups.values.map(\.path.name).sorted()
            for path in ports.shuffled(using: &random).prefix(6) {
                topology.ports[path]?.groups = Set(names.filter { _ in Bool.random(using: &random) })
            }
        case 21, 22:
            let names = topology.securityGroups.values.map(\.path.name).sorted()
            topology.ports[path]?.security = Set(names.filter { _ in Bool.random(using: &random) })
            if topology.ports[path]?.kind == .bridge, Bool.random(using: &random) {
                var quality = PortQuality()
                if Bool.random(using: &random) {
                    quality.egress = RateLimit(kilobits: 64 + serial, burst: 131_072 + serial)
                }
                if Bool.random(using: &random) { quality.ingress = RateLimit(kilobits: 64 + serial) }
                if Bool.random(using: &random) { quality.dscp = UInt8.random(in: 0...63, using: &random) }
                topology.ports[path]?.quality = quality
            } else {
                topology.ports[path]?.quality = PortQuality()
            }
            if topology.ports[path]?.security.isEmpty == false, Bool.random(using: &random) {
                topology.ports[path]?.allowed = [AllowedAddress(subnet(serial).network)]
            } else {
                topology.ports[path]?.allowed = []
            }
        case 31:
            var subnet = DHCPSubnet(subnet(serial).network)
            let first = subnet.subnet.address.high
            func own(_ number: UInt64) -> IPAddress { IPAddress(high: first | number << 32, low: 0, family: .ipv4) }
            if Bool.random(using: &random) {
                subnet.ranges = [DHCPRange(own(10), own(20)), DHCPRange(own(30), own(30))]
            }
            if Bool.random(using: &random) {
                subnet.hosts = [DHCPHost(MACAddress(bits: UInt64(serial) + 2 << 8), own(5))]
            }
            if Bool.random(using: &random) { (subnet.server, subnet.router) = (own(1), own(2)) }
            if Bool.random(using: &random) { (subnet.nameServers, subnet.domain) = ([own(3)], "example.org") }
            if Bool.random(using: &random) { (subnet.mtu, subnet.lease) = (1400, 60 + serial) }
            if Bool.random(using: &random) { subnet.routes = [DHCPRoute(self.subnet(serial + 1).network, via: own(4))] }
            if Bool.random(using: &random) { subnet.options = [43: [0, UInt8(serial & 0xff)], 66: [65, 34, 92]] }
            topology.bridges[bridge]?.dhcp = Int.random(in: 0...3, using: &random) == 0 ? [] : [subnet]
            if Bool.random(using: &random), topology.bridges[bridge]?.dhcp.isEmpty == false {
                var names = NameService(domain: "t\(serial).internal")
                if Bool.random(using: &random) { names.resolvers = [subnet.subnet.address.advanced(by: 3)] }
                names.lifetime = UInt32.random(in: 0...60, using: &random)
                topology.bridges[bridge]?.names = names
            } else {
                topology.bridges[bridge]?.names = nil
            }
            if Bool.random(using: &random) {
                var other = DHCPSubnet(Prefix(IPAddress(high: 0xfd00_0001 << 32, low: 0, family: .ipv6), length: 64))
                other.isStateless = Bool.random(using: &random)
                func own(_ number: UInt64) -> IPAddress {
                    IPAddress(high: other.subnet.address.high, low: number, family: .ipv6)
                }
                if !other.isStateless { other.ranges = [DHCPRange(own(UInt64(serial)), own(UInt64(serial) + 9))] }
                if Bool.random(using: &random) { other.nameServers = [own(3)] }
                if Bool.random(using: &random) {
                    (other.domain, other.bootFile) = ("example.org", "http://[fd00:1::5]/x")
                }
                topology.bridges[bridge]?.dhcp.append(other)
            }
            if Bool.random(using: &random) {
                var multicast = MulticastService()
                (multicast.asks, multicast.floodsUnknown) = (Bool.random(using: &random), Bool.random(using: &random))
                topology.bridges[bridge]?.multicast = multicast
            } else {
                topology.bridges[bridge]?.multicast = nil
            }
            if Bool.random(using: &random), topology.bridges[bridge]?.names != nil {
                topology.bridges[bridge]?.names?.servers = [subnet.subnet.address.advanced(by: 4)]
            }
            var advertised = AdvertisedPrefix(
                Prefix(IPAddress(high: 0xfd00_0001_0000_0000, low: 0, family: .ipv6), length: 64))
            advertised.isRouted = Bool.random(using: &random)
            advertised.search = Bool.random(using: &random) ? ["example.com"] : []
            if Bool.random(using: &random) { advertised.mtu = 1400 }
            if Bool.random(using: &random) { advertised.nameServers = [advertised.prefix.address] }
            topology.bridges[bridge]?.advertised = Int.random(in: 0...2, using: &random) == 0 ? [] : [advertised]
        case 32, 33:
            let name = DevicePath(tenant: "t", name: "m\(Int.random(in: 0...2, using: &random))")
            let targets = ports.filter { topology.ports[$0]?.kind == .bridge }
            guard let to = targets.randomElement(using: &random), Int.random(in: 0...3, using: &random) > 0 else {
                topology.mirrors[name] = nil
                break
            }
            let outside: Mirror.Target =
                Bool.random(using: &random)
                ? .gre(IPv4Address(bits: 0xcb00_7109), key: serial)
                : .erspan(IPv4Address(bits: 0xcb00_7109), session: UInt16(serial & 1023))
            var mirror = Mirror(path: name, target: Int.random(in: 0...2, using: &random) == 0 ? outside : .port(to))
            mirror.direction = Mirror.Direction.allCases.randomElement(using: &random) ?? .both
            mirror.isEnabled = Int.random(in: 0...3, using: &random) > 0
            mirror.sources = ["\(path.device.name)/\(path.name)"]
            if Bool.random(using: &random) {
                mirror.sources.insert([bridge, router].randomElement(using: &random)?.name ?? "")
            }
            mirror.sources.subtract(topology.missingSources(of: mirror))
            if mirror.sources.isEmpty { mirror.sources = [bridge.name] }
            if Bool.random(using: &random) {
                var condition = Condition()
                condition.ipProtocol = Match(IPProtocol.udp)
                condition.destinations = Match([subnet(serial).network])
                mirror.conditions = [condition]
            }
            if Bool.random(using: &random) { mirror.length = 128 }
            if Bool.random(using: &random) { mirror.limit = RateLimit(kilobits: 1000 * (serial + 1)) }
            topology.mirrors[name] = mirror
        case 34, 35:
            guard topology.ports[path]?.kind == .bridge else { break }
            var services: [ServiceHop] = []
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                var hop = ServiceHop(ports.randomElement(using: &random) ?? path)
                if Bool.random(using: &random) { hop.far = ports.randomElement(using: &random) ?? path }
                hop.vlan = [0, 5].randomElement(using: &random) ?? 0
                hop.direction = Mirror.Direction.allCases.randomElement(using: &random) ?? .both
                hop.isOpen = Bool.random(using: &random)
                if Bool.random(using: &random) {
                    var condition = Condition()
                    condition.ipProtocol = Match(IPProtocol.udp)
                    if !topology.addressGroups.isEmpty { condition.destinationGroup = Match("g") }
                    hop.conditions = [condition]
                }
                services.append(hop)
            }
            topology.ports[path]?.services = services
        case 27, 28:
            var pool = Pool(path: DevicePath(tenant: "t", name: "p\(Int.random(in: 0...1, using: &random))"))
            pool.algorithm = Pool.Algorithm.allCases.randomElement(using: &random) ?? .maglev
            if Bool.random(using: &random) { pool.persistence = UInt32.random(in: 1...600, using: &random) }
            for number in 0..<UInt32.random(in: 0...3, using: &random) {
                var member = PoolMember(subnet(serial &+ number).address)
                if Bool.random(using: &random) { member.port = UInt16.random(in: 1 ... .max, using: &random) }
                member.weight = UInt16.random(in: 0...3, using: &random)
                member.state = PoolMember.State.allCases.randomElement(using: &random) ?? .up
                pool.members.append(member)
            }
            if Bool.random(using: &random) {
                var monitor = HealthMonitor(HealthMonitor.Kind.allCases.randomElement(using: &random) ?? .tcp)
                if monitor.hasPort { monitor.port = UInt16.random(in: 1...9000, using: &random) }
                if monitor.isHTTP {
                    monitor.path = "/a b".replacing(" ", with: "%20")
                    monitor.statuses = [200...204, 301...301]
                    if Bool.random(using: &random) { monitor.host = "www.example.com" }
                }
                monitor.timeout = UInt32.random(in: 100...2000, using: &random)
                monitor.rise = UInt8.random(in: 1...5, using: &random)
                pool.monitor = monitor
            }
            topology.pools[pool.path] = Int.random(in: 0...5, using: &random) == 0 ? nil : pool
        case 29, 30:
            guard let pool = topology.pools.values.map(\.path.name).sorted().randomElement(using: &random) else {
                break
            }
            let own = topology.ports(of: router).first { !$0.addresses.isEmpty }?.addresses.first
            let near = own.map {
                $0.address.family == .ipv4
                    ? IPAddress(high: $0.network.address.high | 98 << 32, low: 0, family: .ipv4)
                    : IPAddress(high: $0.network.address.high, low: 98, family: .ipv6)
            }
            topology.routers[router]?.translation.virtual.append(
                VirtualAddress(
                    id: "v\(serial)",
                    Bool.random(using: &random) ? near ?? subnet(serial).address : subnet(serial).address,
                    ipProtocol: [6, 17].randomElement(using: &random) ?? 6,
                    ports: [PortRange(80, 80), PortRange(90, 99)],
                    pool: pool))
        case 17, 18:
            var translation = topology.routers[router]?.translation ?? Translation()
            let target = topology.ports[path]?.addresses.first?.address ?? subnet(serial).address
            let own = topology.ports(of: router).first { !$0.addresses.isEmpty }
            switch Int.random(in: 0...3, using: &random) {
            case 0: translation = Translation()
            case 1:
                var condition = Condition()
                condition.ipProtocol = Match(17)
                condition.destinations = Match([Prefix(target, length: target.family.width)])
                translation.rules.append(
                    TranslationRule(
                        id: "\(serial)", condition: condition,
                        action: .destination(TranslationTarget(target, ports: PortRange(9, 9)))))
            case 2:
                let action: [TranslationRule.Action] = [
                    .masquerade(nil), .source(TranslationTarget(subnet(serial).address)), .accept,
                ]
                translation.rules.append(
                    TranslationRule(id: "\(serial)", action: action.randomElement(using: &random) ?? .accept))
            default:
                guard let own, let network = own.addresses.first?.network, network.family == target.family else {
                    break
                }
                let address =
                    network.family == .ipv4
                    ? IPAddress(high: network.address.high | 99 << 32, low: 0, family: .ipv4)
                    : IPAddress(high: network.address.high, low: 99, family: .ipv6)
                translation.floating.append(FloatingAddress(address, target: target, port: own.path.name))
                // In the order in which they are read.
                translation.floating.sort { $0.address < $1.address }
            }
            topology.routers[router]?.translation = translation
        case 36, 37:
            // Some port of the bridge joins others that lead to one network, leaves them, or is preferred otherwise.
            guard let port = topology.ports(of: bridge).randomElement(using: &random) else { return }
            guard case .exterior = port.attachment, port.services.isEmpty, !topology.ports.isService(port.path) else {
                return
            }
            let first = topology.ports(of: bridge).first { $0.segment != nil }
            if port.segment != nil, Bool.random(using: &random) {
                topology.ports[port.path]?.segment = nil
            } else {
                topology.ports[port.path]?.segment = EthernetSegment(
                    name: "s", preference: UInt16.random(in: 99...101, using: &random))
                topology.ports[port.path]?.addresses = []
                if let first { topology.ports[port.path]?.vlan = first.vlan }
                if case .exterior(let host, _) = port.attachment, Bool.random(using: &random) {
                    let remotes = (0..<3 as Range<UInt32>).map { IPv4Address(bits: 0xc000_0240 + $0 + serial % 7) }
                    topology.ports[port.path]?.vxlan = VXLANEnd(identifier: 1 + serial % 9000, remotes: remotes)
                    topology.ports[port.path]?.attachment = .exterior(host: host, interface: port.path.vxlanInterface)
                }
            }
        case 10:
            if topology.ports[path]?.addresses.popLast() == nil { topology.ports[path]?.addresses = [subnet(serial)] }
        case 11:
            topology.routers[router]?.routes.append(Route(destination: subnet(serial).network, nextHop: .blackhole))
        default:
            guard case .exterior? = topology.ports[path]?.attachment else { return }
            let host = ["h1", "h2"].randomElement(using: &random) ?? ""
            topology.ports[path]?.attachment = .exterior(host: host, interface: "i\(serial)")
        }
    }

    private func subnet(_ serial: UInt32) -> InterfaceAddress {
        InterfaceAddress(IPAddress(IPv4Address(bits: 0x0a80_0001 | (serial & 0x3fff) << 8)), length: 24)
    }
}
