// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Topology
import Wire

/// Chains as their documentation tells them: rule by rule, slow and plain.
struct PolicyModel {
    enum Decision: String { case accept, drop, reject, end }

    struct Context {
        var inPort: PortPath?
        var outPort: PortPath?
        var ingress: PortPath
        var traversed: [DevicePath]
    }

    let topology: Topology
    /// Connections that are known, as their first packets said them.
    var connections: [ConnectionTuple] = []
    /// What the packet in hand quotes, when it is an ICMP error.
    var quoted: ConnectionTuple?
    let tenant = "t"

    func run(_ name: String, _ key: FlowKey, _ context: Context) -> Decision {
        guard let chain = topology.chain(name, of: tenant) else { return .end }
        for rule in chain.rules where holds(rule.condition, key, context) {
            switch rule.action {
            case .accept: return .accept
            case .drop: return .drop
            case .reject: return .reject
            case .return: return .end
            case .continue, .log: continue
            case .jump(let other):
                let decision = run(other, key, context)
                if decision != .end { return decision }
            }
        }
        return .end
    }

    func holds(_ condition: Condition, _ key: FlowKey, _ context: Context) -> Bool {
        let isIP = key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6
        let isLater = key.ipFragment == FragmentKind.later
        let hasPorts = isIP && !isLater && [6, 17, 132].contains(key.ipProtocol)
        let isICMP = isIP && !isLater && key.ipProtocol == (key.etherType == EtherType.ipv4 ? 1 : 58)
        func test<Value>(_ match: Match<Value>?, _ isThere: Bool, _ body: (Value) -> Bool) -> Bool {
            guard let match else { return true }
            return isThere && body(match.value) != match.isInverted
        }
        func groups(_ port: PortPath?) -> Set<String> { port.flatMap { topology.ports[$0]?.groups } ?? [] }
        func local(_ port: PortPath?) -> String { port.map { "\($0.device.name)/\($0.name)" } ?? "" }
        func isIn(_ group: String, _ address: IPAddress) -> Bool {
            topology.addressGroups[DevicePath(tenant: tenant, name: group)]?.members.contains { $0.contains(address) }
                ?? false
        }
        var all = true
        func also(_ holds: Bool) { all = all && holds }
        also(test(condition.inPorts, context.inPort != nil) { $0.contains(local(context.inPort)) })
        also(test(condition.outPorts, context.outPort != nil) { $0.contains(local(context.outPort)) })
        also(test(condition.inPortGroup, context.inPort != nil) { groups(context.inPort).contains($0) })
        also(test(condition.outPortGroup, context.outPort != nil) { groups(context.outPort).contains($0) })
        also(test(condition.ingressPortGroup, true) { groups(context.ingress).contains($0) })
        also(
            test(condition.traversed, true) { name in
                context.traversed.contains(DevicePath(tenant: tenant, name: name))
            })
        also(test(condition.etherType, true) { $0 == key.etherType })
        also(test(condition.sourceMAC, true) { $0.contains(key.etherSource) })
        also(test(condition.destinationMAC, true) { $0.contains(key.etherDestination) })
        also(test(condition.vlan, true) { $0 == (key.hasVLAN ? key.vlanTCI & 0xfff : 0) })
        also(test(condition.ipProtocol, isIP) { $0 == key.ipProtocol })
        also(test(condition.sources, isIP) { $0.contains { $0.contains(key.ipSource) } })
        also(test(condition.destinations, isIP) { $0.contains { $0.contains(key.ipDestination) } })
        also(test(condition.sourceGroup, isIP) { isIn($0, key.ipSource) })
        also(test(condition.destinationGroup, isIP) { isIn($0, key.ipDestination) })
        also(test(condition.dscp, isIP) { $0 == key.ipTOS >> 2 })
        also(test(condition.sourcePorts, hasPorts) { $0.contains { $0.contains(key.sourcePort) } })
        also(test(condition.destinationPorts, hasPorts) { $0.contains { $0.contains(key.destinationPort) } })
        also(
            test(condition.icmp, isICMP) {
                UInt16($0.type) == key.sourcePort && ($0.code.map { UInt16($0) == key.destinationPort } ?? true)
            })
        also(test(condition.tcpFlags, hasPorts && key.ipProtocol == 6) { key.tcpFlags & $0.mask == $0.value })
        also(
            test(condition.fragment.map { Match($0) }, isIP || condition.fragment == .any) { policy in
                switch policy {
                case .any: true
                case .unfragmented: key.ipFragment == FragmentKind.none
                case .header: !isLater
                case .nonheader: isLater
                }
            })
        if condition.readsState {
            let (state, direction) = isIP ? connection(key) : (nil, nil)
            also(condition.states.map { states in state.map(states.contains) ?? false } ?? (state != nil))
            also(condition.direction.map { $0 == direction } ?? true)
        }
        return all != condition.isInverted
    }

    /// Who talks to whom; a question and its answer are told apart from a question the other way.
    static func tuple(of key: FlowKey) -> ConnectionTuple {
        var tuple = ConnectionTuple(
            source: key.ipSource, destination: key.ipDestination, sourcePort: 0, destinationPort: 0,
            ipProtocol: key.ipProtocol)
        if [6, 17, 132].contains(key.ipProtocol) {
            (tuple.sourcePort, tuple.destinationPort) = (key.sourcePort, key.destinationPort)
        } else if key.ipProtocol == (key.etherType == EtherType.ipv6 ? 58 : 1) {
            let questions: [UInt16: UInt16] = key.ipProtocol == 58 ? [129: 128] : [0: 8, 14: 13]
            if let question = questions[key.sourcePort] {
                tuple.destinationPort = question
            } else {
                tuple.sourcePort = key.sourcePort
            }
        }
        return tuple
    }

    /// What a packet that quotes no other is to its connection.
    private func connection(_ key: FlowKey) -> (ConnectionState, ConnectionDirection?) {
        func tuple(_ ports: Bool) -> ConnectionTuple {
            ConnectionTuple(
                source: key.ipSource, destination: key.ipDestination, sourcePort: ports ? key.sourcePort : 0,
                destinationPort: ports ? key.destinationPort : 0, ipProtocol: key.ipProtocol)
        }
        if key.ipFragment == FragmentKind.later {
            let isKnown = connections.contains { $0.pair == tuple(false) || $0.pair == tuple(false).reversed }
            return isKnown ? (.established, .forward) : (.invalid, nil)
        }
        let isV6 = key.etherType == EtherType.ipv6
        var mayBegin = true
        if key.ipProtocol == (isV6 ? 58 : 1) {
            let errors: [UInt16] = isV6 ? Array(0...127) : [3, 4, 5, 11, 12]
            if errors.contains(key.sourcePort) {
                guard let quoted else { return (.invalid, nil) }
                // It goes the other way than what it tells of.
                if connections.contains(quoted) { return (.related, .return) }
                return connections.contains(quoted.reversed) ? (.related, .forward) : (.invalid, nil)
            }
            let queries: [UInt16] = isV6 ? [128] : [8, 13]
            let replies: [UInt16] = isV6 ? [129] : [0, 14]
            if !(queries + replies).contains(key.sourcePort) { return (.new, .forward) }
            mayBegin = queries.contains(key.sourcePort)
        }
        if key.ipProtocol == 6, key.tcpFlags & 4 != 0 { mayBegin = false }
        let own = PolicyModel.tuple(of: key)
        if connections.contains(own) { return (.established, .forward) }
        if connections.contains(own.reversed) { return (.established, .return) }
        return mayBegin ? (.new, .forward) : (.invalid, nil)
    }
}

/// Policies and packets that meet often: few values of each field.
struct RandomPolicy {
    var random: SeededRandom

    static let addresses = [
        "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.2.1", "192.168.7.9", "255.255.255.255", "0.0.0.0", "fd00:1::1",
        "fd00:1::2",
        "fd00:2::9", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ].map(address)
    static let prefixes = [
        "10.0.1.0/24", "10.0.0.0/8", "10.0.1.2/32", "10.0.1.0/31", "0.0.0.0/0", "192.168.0.0/16", "128.0.0.0/1",
        "fd00:1::/64",
        "fd00::/8", "fd00:1::2/128", "::/0", "::/128", "fd00:1::/127",
    ].compactMap { try? Prefix(parsing: $0) }
    static let ports: [UInt16] = [0, 1, 21, 22, 23, 80, 443, 1023, 1024, 32_767, 32_768, 65_534, 65_535]

    mutating func pick<Element>(_ list: [Element]) -> Element {
        list[Int.random(in: 0..<list.count, using: &random)]
    }
    mutating func chance(_ share: Int) -> Bool { Int.random(in: 0..<share, using: &random) == 0 }
    private mutating func match<Value>(_ value: Value) -> Match<Value> { Match(value, isInverted: chance(4)) }

    mutating func condition() -> Condition {
        var condition = Condition()
        if chance(8) { condition.inPorts = match([pick(["b/one", "b/two", "b/far"])]) }
        if chance(10) { condition.outPorts = match(Set([pick(["b/one", "b/two"]), "b/far"])) }
        if chance(10) { condition.inPortGroup = match(pick(["g1", "g2"])) }
        if chance(12) { condition.outPortGroup = match(pick(["g1", "g2"])) }
        if chance(12) { condition.ingressPortGroup = match(pick(["g1", "g2"])) }
        if chance(12) { condition.traversed = match(pick(["b", "other"])) }
        if chance(8) { condition.etherType = match(pick([EtherType.ipv4, EtherType.ipv6, EtherType.arp, 0x0900])) }
        if chance(10) {
            condition.sourceMAC = match(
                MaskedMAC(
                    MACAddress(bits: 0x0e00_0000_0001), mask: MACAddress(bits: pick([0xffff_ffff_ffff, 1, 0xff]))))
        }
        if chance(12) { condition.destinationMAC = match(MaskedMAC(MACAddress(bits: 0x0e00_0000_0002))) }
        if chance(14) { condition.vlan = match(pick([0, 10, 20])) }
        if chance(5) { condition.sources = match(Set((0..<3).map { _ in pick(RandomPolicy.prefixes) })) }
        if chance(5) {
            condition.destinations = match(Set([pick(RandomPolicy.prefixes), pick(RandomPolicy.prefixes)]))
        }
        if chance(10) { condition.sourceGroup = match(pick(["a1", "a2"])) }
        if chance(10) { condition.destinationGroup = match(pick(["a1", "a2"])) }
        if chance(10) { condition.dscp = match(pick([0, 46])) }
        if chance(10) { condition.fragment = pick(FragmentPolicy.allCases) }
        if chance(3) {
            condition.ipProtocol = match(pick([6, 17, 132, 1, 58, 47]))
            if let ip = condition.ipProtocol, !ip.isInverted {
                let ranges = (0..<2).map { _ -> PortRange in
                    let (a, b) = (pick(RandomPolicy.ports), pick(RandomPolicy.ports))
                    return PortRange(min(a, b), max(a, b))
                }
                switch ip.value {
                case 6, 17, 132:
                    if condition.fragment == .nonheader { condition.fragment = nil }
                    if chance(2) { condition.destinationPorts = match(Set(ranges)) }
                    if chance(3) { condition.sourcePorts = match([ranges[0]]) }
                    if ip.value == 6, chance(3) {
                        condition.tcpFlags = match(FlagsMatch(mask: pick([2, 0x12, 0x3f]), value: pick([2, 0x10, 0])))
                    }
                case 1, 58:
                    if condition.fragment == .nonheader { condition.fragment = nil }
                    if chance(2) {
                        condition.icmp = match(ICMPMatch(type: pick([0, 8, 3, 128, 135]), code: pick([nil, 0, 4])))
                    }
                default: break
                }
            }
        }
        // What contradicts itself is refused.
        if condition.etherType != nil { (condition.sources, condition.destinations) = (nil, nil) }
        if let sources = condition.sources, let families = condition.destinations?.value.map(\.family),
            Set(families).isDisjoint(with: sources.value.map(\.family))
        {
            condition.destinations = nil
        }
        if chance(5) { condition.states = Set((0..<2).map { _ in pick(ConnectionState.allCases) }) }
        if chance(8) { condition.direction = pick(ConnectionDirection.allCases) }
        condition.isInverted = chance(7)
        return condition
    }

    mutating func chains() -> [Chain] {
        (0..<4).map { number in
            var chain = Chain(path: DevicePath(tenant: "t", name: "c\(number)"))
            for id in 0..<Int.random(in: 0...9, using: &random) {
                var actions: [Rule.Action] = [.accept, .drop, .reject, .return, .continue, .log]
                // Deeper ones only: nothing comes back.
                if number < 3 { actions += [.jump("c\(Int.random(in: number + 1...3, using: &random))")] }
                chain.rules.append(Rule(id: "\(id)", condition: condition(), action: pick(actions)))
            }
            return chain
        }
    }

    mutating func group(_ name: String) -> AddressGroup {
        var group = AddressGroup(path: DevicePath(tenant: "t", name: name))
        for _ in 0..<Int.random(in: 0...6, using: &random) { group.members.insert(pick(RandomPolicy.prefixes)) }
        return group
    }

    mutating func key() -> FlowKey {
        var key = FlowKey()
        key.etherSource = MACAddress(
            bits: pick([0x0e00_0000_0001, 0x0e00_0000_0001, 0x0e00_0000_0101, 0x0e00_0000_0009]))
        key.etherDestination = MACAddress(bits: 0x0e00_0000_0002)
        key.etherType = pick([EtherType.ipv4, EtherType.ipv4, EtherType.ipv6, 0x0900])
        guard key.etherType != 0x0900 else { return key }
        let family: AddressFamily = key.etherType == EtherType.ipv4 ? .ipv4 : .ipv6
        let addresses = RandomPolicy.addresses.filter { $0.family == family }
        let (source, destination) = (pick(addresses), pick(addresses))
        key.ipSourceWords = (source.high, source.low)
        key.ipDestinationWords = (destination.high, destination.low)
        key.ipProtocol = pick([6, 17, 132, family == .ipv4 ? 1 : 58, 47])
        key.ipTOS = pick([0, 46 << 2, 1])
        key.ipTTL = 64
        key.ipFragment = pick([0, 0, 0, 0, 1, 2])
        if key.ipFragment == FragmentKind.later { return key }
        switch key.ipProtocol {
        case 6, 17, 132:
            key.sourcePort = pick(RandomPolicy.ports)
            key.destinationPort = pick(RandomPolicy.ports)
            if key.ipProtocol == 6 { key.tcpFlags = pick([2, 0x12, 0x10, 0x11, 4, 0]) }
        case 1, 58:
            // Errors quote a packet, which a key does not have.
            key.sourcePort = pick(key.ipProtocol == 1 ? [0, 8, 13] : [128, 129, 135])
            key.destinationPort = pick([0, 4])
        default: break
        }
        return key
    }
}
