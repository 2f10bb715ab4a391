// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Topology
import Wire

/// One translating router, as its documentation tells it: a list of connections, rules one by one.
///
/// Which port a source becomes is not told; what it may become is.
struct TranslationModel {
    /// A connection: as it begins, and what its machines are really called.
    struct Connection: Equatable {
        var original: ConnectionTuple
        var reply: ConnectionTuple
    }

    /// What becomes of a packet.
    enum Result: Equatable {
        case sent(String, ConnectionTuple)
        /// The same with another source, out of these addresses and ports.
        case masked(String, ConnectionTuple, [IPAddress], PortRange)
        case dropped
        case own
    }

    let topology: Topology
    let plan: TranslationRoom.Router
    var policy: PolicyModel
    var connections: [Connection] = []
    /// Members that are down, of pools that are checked.
    let ill: Set<String>

    init(_ topology: Topology, _ plan: TranslationRoom.Router, ill: Set<String> = []) {
        self.topology = topology
        self.plan = plan
        self.ill = ill
        policy = PolicyModel(topology: topology)
    }

    private var translation: Translation { topology.routers[plan.path]?.translation ?? Translation() }
    private var filters: Filters { topology.routers[plan.path]?.filters ?? Filters() }

    private func address(of network: String) -> IPAddress {
        let path = PortPath(device: plan.path, name: network)
        return topology.ports[path]?.addresses.first?.address ?? .init(high: 0, low: 0, family: .ipv4)
    }

    private func network(of address: IPAddress) -> String {
        plan.routes.first { $0.prefix.contains(address) }?.port ?? plan.outer
    }

    /// The router port towards those who use a floating address.
    private func port(of floating: FloatingAddress) -> String { floating.port ?? network(of: floating.address) }

    /// Whether the router takes packets to an address for its own.
    private func isOwn(_ address: IPAddress) -> Bool {
        if plan.links.contains(where: { self.address(of: $0.port) == address }) { return true }
        if translation.virtual.contains(where: { $0.address == address }) { return true }
        return translation.rules.contains { rule in
            switch rule.action {
            case .source(let target): return target.first <= address && address <= target.last
            case .destination:
                guard let match = rule.condition.destinations, !match.isInverted else { return false }
                let isOnLink = plan.links.contains { $0.prefix.contains(address) }
                return isOnLink && match.value.contains(Prefix(address, length: 32))
            default: return false
            }
        }
    }

    /// Whether the next hop would be the router itself, which tells a network that a floating address is its own.
    private func answers(for address: IPAddress, at out: String) -> Bool {
        translation.floating.contains { $0.address == address && port(of: $0) == out }
            && plan.links.contains { $0.port == out && $0.prefix.contains(address) }
    }

    private func holds(_ condition: Condition, _ key: FlowKey, _ from: String, _ out: String?) -> Bool {
        func path(_ name: String) -> PortPath { PortPath(device: plan.path, name: name) }
        return policy.holds(
            condition, key,
            .init(inPort: path(from), outPort: out.map(path), ingress: path(from), traversed: []))
    }

    private func passes(_ chain: String?, _ key: FlowKey, _ from: String, _ out: String?) -> Bool {
        guard let chain else { return true }
        func path(_ name: String) -> PortPath { PortPath(device: plan.path, name: name) }
        let context = PolicyModel.Context(
            inPort: path(from), outPort: out.map(path), ingress: path(from), traversed: [plan.path])
        let decision = policy.run(chain, key, context)
        return decision == .accept || decision == .end
    }

    /// The virtual address that a packet asks.
    private func virtual(_ tuple: ConnectionTuple) -> VirtualAddress? {
        translation.virtual.first { virtual in
            virtual.address == tuple.destination && virtual.ipProtocol == tuple.ipProtocol
                && virtual.ports.contains { $0.contains(tuple.destinationPort) }
        }
    }

    /// Whether connections are redirected to a port of a machine.
    private func isTarget(_ tuple: ConnectionTuple) -> Bool {
        guard [6, 17, 132].contains(tuple.ipProtocol) else { return false }
        let isMember = translation.virtual.contains { virtual in
            let pool = topology.pools[DevicePath(tenant: plan.path.tenant, name: virtual.pool)]
            return virtual.ipProtocol == tuple.ipProtocol
                && (pool?.members ?? []).contains { member in
                    member.address == tuple.destination
                        && (member.port.map { $0 == tuple.destinationPort }
                            ?? virtual.ports.contains { $0.contains(tuple.destinationPort) })
                }
        }
        return isMember
            || translation.rules.contains { rule in
                guard case .destination(let target) = rule.action, let ports = target.ports else { return false }
                return rule.condition.ipProtocol == Match(tuple.ipProtocol) && target.first == tuple.destination
                    && ports.contains(tuple.destinationPort)
            }
    }

    private func member(of virtual: VirtualAddress) -> PoolMember? {
        let pool = topology.pools[DevicePath(tenant: plan.path.tenant, name: virtual.pool)]
        return pool?.members.first {
            $0.state == .up && $0.weight > 0 && !(pool?.monitor != nil && ill.contains($0.name))
        }
    }

    /// A packet that comes in by a port.
    ///
    /// - Parameters:
    ///   - key: its header; of an ICMP query the tuple has the identifier besides.
    ///   - mayBegin: whether it may be the first of a connection.
    mutating func send(_ key: FlowKey, _ tuple: ConnectionTuple, from: String, mayBegin: Bool) -> Result {
        var real = tuple
        let rules = translation.rules
        var known = connections.first { $0.original == tuple || $0.reply == tuple }
        let floating = translation.floating.first { $0.address == tuple.destination }
        let isStatic = floating.map { port(of: $0) == from } ?? false
        var (isRedirected, isDirect) = (false, false)
        if let floating, isStatic {
            real.destination = floating.target
            known = nil
        } else if let known {
            if known.original == tuple {
                (real.destination, real.destinationPort) = (known.reply.source, known.reply.sourcePort)
            } else {
                (real.destination, real.destinationPort) = (known.original.source, known.original.sourcePort)
            }
        } else if let floating {
            guard mayBegin else { return .dropped }
            real.destination = floating.target
            isRedirected = true
        } else if let virtual = virtual(tuple) {
            // Which of several members is not told: one of these pools takes connections at most.
            guard mayBegin, let member = member(of: virtual) else { return .dropped }
            real.destination = member.address
            if let port = member.port { real.destinationPort = port }
            isRedirected = true
        } else {
            let rule = rules.first { rule in
                switch rule.action {
                case .destination, .accept: holds(rule.condition, key, from, nil)
                default: false
                }
            }
            if case .destination(let target)? = rule?.action {
                guard mayBegin else { return .dropped }
                // One target: which of several is not told.
                real.destination = target.first
                if let ports = target.ports { real.destinationPort = ports.first }
                isRedirected = true
            } else if isTarget(tuple), mayBegin {
                // Answers of that machine to those who ask for it and to those who are sent there look alike.
                (isRedirected, isDirect) = (true, true)
            }
        }
        let inner = TranslationModel.header(key, real)
        guard passes(filters.inbound, inner, from, nil) else { return .dropped }
        if isOwn(real.destination) {
            // What its filter let in is a connection, whether or not it goes further.
            if filters.inbound != nil { remember(inner) }
            return .own
        }
        let out = network(of: real.destination)
        guard !out.isEmpty, !answers(for: real.destination, at: out) else { return .dropped }
        guard passes(filters.outbound, inner, from, out) else { return .dropped }
        func result(_ tuple: ConnectionTuple) -> Result {
            remember(inner)
            return .sent(out, tuple)
        }
        var sent = real
        if isStatic { return result(sent) }
        if let known {
            if known.original == tuple {
                (sent.source, sent.sourcePort) = (known.reply.destination, known.reply.destinationPort)
            } else {
                (sent.source, sent.sourcePort) = (known.original.destination, known.original.destinationPort)
            }
            return result(sent)
        }
        if !isRedirected || isDirect,
            let own = translation.floating.first(where: { $0.target == real.source && port(of: $0) == out })
        {
            sent.source = own.address
            return result(sent)
        }
        let rule = rules.first { rule in
            switch rule.action {
            case .source, .masquerade, .accept: holds(rule.condition, inner, from, out)
            default: false
            }
        }
        var wish: ([IPAddress], PortRange)?
        switch rule?.action {
        case .source(let target)?:
            wish = ((0..<target.count).map(target.address), target.ports ?? .translation)
        case .masquerade(let ports)?: wish = ([address(of: out)], ports ?? .translation)
        default: break
        }
        guard wish != nil || isRedirected else { return result(sent) }
        guard mayBegin else { return .dropped }
        if isRedirected, floating != nil, let own = translation.floating.first(where: { $0.target == real.source }),
            from == out || wish == nil
        {
            sent.source = own.address
            connections.append(Connection(original: tuple, reply: sent.reversed))
            return result(sent)
        }
        if wish == nil, from == out, !isDirect {
            wish =
                isSeen(sent, in: out)
                ? ([sent.source], PortRange(1024, 32_767)) : ([address(of: out)], .translation)
        }
        let hasPorts = [1, 6, 17, 132].contains(tuple.ipProtocol)
        guard let wish else {
            if isTaken(sent) {
                // The client has the same towards the same machine by another name: only another port tells them apart.
                guard hasPorts else { return .dropped }
                remember(inner)
                return .masked(out, sent, [sent.source], PortRange(1, 65_535))
            }
            connections.append(Connection(original: tuple, reply: sent.reversed))
            return result(sent)
        }
        guard hasPorts else { return .dropped }
        remember(inner)
        return .masked(out, sent, wish.0, wish.1)
    }

    /// Whether the bridge between a client and a server brings the answers to the router, so that the server may see who asks.
    private func isSeen(_ tuple: ConnectionTuple, in network: String) -> Bool {
        guard let prefix = plan.links.first(where: { $0.port == network })?.prefix, isTarget(tuple) else {
            return false
        }
        return prefix.contains(tuple.source) && prefix.contains(tuple.destination)
            && TranslationRoom.machine(tuple.source) != TranslationRoom.machine(tuple.destination)
    }

    /// A packet between two machines of one network; `nil`: it is for the router all the same.
    func between(_ network: String, _ tuple: ConnectionTuple) -> Result? {
        answers(tuple) ? nil : .sent(network, tuple)
    }

    /// The same for an error; `nil`: it is for the router.
    func between(_ network: String, _ key: FlowKey, quoting quoted: ConnectionTuple) -> (Result, ConnectionTuple)? {
        let tuple = ConnectionTuple(
            source: key.ipSource, destination: key.ipDestination, sourcePort: 0, destinationPort: 0, ipProtocol: 1)
        return key.ipDestination == quoted.source && answers(quoted.reversed) ? nil : (.sent(network, tuple), quoted)
    }

    /// Whether a packet between neighbors is the answer of one that its neighbor was redirected to.
    private func answers(_ tuple: ConnectionTuple) -> Bool {
        guard [6, 17].contains(tuple.ipProtocol), tuple.destinationPort < 32_768, isTarget(tuple.reversed),
            let known = connections.first(where: { $0.reply == tuple })
        else { return false }
        return known.reply != known.original.reversed
    }

    /// Whether answers to this belong to a connection already.
    func isTaken(_ tuple: ConnectionTuple) -> Bool {
        connections.contains { connection in
            connection.original == tuple.reversed || connection.reply == tuple.reversed
        }
    }

    /// Notes the connection that filters see, if there are any.
    private mutating func remember(_ key: FlowKey) {
        guard !filters.isEmpty, policy.quoted == nil else { return }
        // A reset and an answer begin nothing.
        if key.ipProtocol == 6 && key.tcpFlags & 4 != 0 || key.ipProtocol == 1 && key.sourcePort != 8 { return }
        let tuple = PolicyModel.tuple(of: key)
        if !policy.connections.contains(tuple), !policy.connections.contains(tuple.reversed) {
            policy.connections.append(tuple)
        }
    }

    /// An error that quotes a packet, as it comes in by a port: where it goes, from whom to whom, and what it quotes then.
    func error(_ key: FlowKey, quoting quoted: ConnectionTuple, from: String) -> (Result, ConnectionTuple) {
        var model = self
        var (source, destination) = (key.ipSource, key.ipDestination)
        var (inner, outer) = (quoted, quoted)
        var finalSource: IPAddress?
        var isKnown = true
        if let floating = translation.floating.first(where: { $0.address == destination && port(of: $0) == from }) {
            destination = floating.target
            inner.source = floating.target
            outer = inner
        } else if let known = connections.first(where: { $0.reply.reversed == quoted }) {
            destination = known.original.source
            inner = known.original
            (inner.destination, inner.destinationPort) = (known.reply.source, known.reply.sourcePort)
            outer = known.original
            if known.reply.source != known.original.destination { finalSource = known.original.destination }
        } else if let known = connections.first(where: { $0.original.reversed == quoted }) {
            destination = known.reply.source
            inner = known.original
            (inner.destination, inner.destinationPort) = (known.reply.source, known.reply.sourcePort)
            inner = inner.reversed
            outer = known.reply
            if known.reply.destination != known.original.source { finalSource = known.reply.destination }
        } else {
            isKnown = false
        }
        var header = key
        header.ipDestinationWords = (destination.high, destination.low)
        model.policy.quoted = TranslationModel.plain(inner)
        guard model.passes(filters.inbound, header, from, nil) else { return (.dropped, outer) }
        if isOwn(destination) { return (.own, outer) }
        let out = network(of: destination)
        guard !out.isEmpty, !answers(for: destination, at: out) else { return (.dropped, outer) }
        guard model.passes(filters.outbound, header, from, out) else { return (.dropped, outer) }
        if let finalSource {
            source = finalSource
        } else if !isKnown,
            let own = translation.floating.first(where: { $0.target == quoted.destination && port(of: $0) == out })
        {
            outer.destination = own.address
            source = own.address
        }
        let tuple = ConnectionTuple(
            source: source, destination: destination, sourcePort: 0, destinationPort: 0, ipProtocol: 1)
        return (.sent(out, tuple), outer)
    }

    /// A header with what a tuple says.
    static func header(_ key: FlowKey, _ tuple: ConnectionTuple) -> FlowKey {
        var key = key
        key.ipSourceWords = (tuple.source.high, tuple.source.low)
        key.ipDestinationWords = (tuple.destination.high, tuple.destination.low)
        if [6, 17, 132].contains(key.ipProtocol) {
            (key.sourcePort, key.destinationPort) = (tuple.sourcePort, tuple.destinationPort)
        }
        return key
    }

    /// A tuple as filters know it: queries by their type, without an identifier.
    static func plain(_ tuple: ConnectionTuple) -> ConnectionTuple {
        guard tuple.ipProtocol == 1 else { return tuple }
        var tuple = tuple
        if tuple.destinationPort & 0x8000 != 0 {
            (tuple.sourcePort, tuple.destinationPort) = (tuple.destinationPort & 0x7fff, 0)
        } else {
            (tuple.sourcePort, tuple.destinationPort) = (0, tuple.sourcePort & 0x7fff)
        }
        return tuple
    }
}
