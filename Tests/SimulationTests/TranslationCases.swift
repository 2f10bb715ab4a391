// SPDX-License-Identifier: Apache-2.0
import Manifest
import TestSupport
import Topology
import Wire

/// Two networks of machines behind a line of routers, the last of which leads outside.
struct TranslationRoom {
    /// A router, and what lies behind its ports.
    struct Router {
        var path: DevicePath
        /// Networks that its ports are in.
        var links: [(port: String, prefix: Prefix)]
        /// Networks behind its ports.
        var routes: [(port: String, prefix: Prefix)]
        /// The port for everything else.
        var outer: String
        /// The network that it translates to.
        var pool: String
        /// Whether that is the network of its outer port: otherwise it is only routed to it.
        var isLast: Bool

        /// An address of the pool.
        func own(_ number: Int) -> IPAddress { address("\(pool).\(number)") }
    }

    var routers: [Router] = []
    /// Nothing is translated yet.
    var topology: Topology

    static let machines: [(port: String, address: String)] = [
        ("t/a/one", "10.0.1.11"), ("t/a/two", "10.0.1.12"), ("t/b/web", "10.0.2.21"), ("t/out/client", "203.0.113.99"),
        ("t/out/far", "203.0.113.254"),
    ]

    init(routers count: Int) throws {
        var text = Drawings.threeNetworks
        func add(_ line: String, _ depth: Int) { text += String(repeating: " ", count: depth) + line + "\n" }
        for number in 1...count {
            let isLast = number == count
            var links: [(port: String, prefix: Prefix)] = []
            var routes: [(port: String, prefix: Prefix)] = []
            let inner = "g\(number - 1)"
            add("g\(number):", 6)
            add("links:", 8)
            if number == 1 {
                add("- { bridge: a, address: 10.0.1.1/24 }", 10)
                add("- { bridge: b, address: 10.0.2.1/24 }", 10)
                links += [("a", parsedPrefix("10.0.1.0/24")), ("b", parsedPrefix("10.0.2.0/24"))]
            } else {
                links.append((inner, parsedPrefix("100.64.\(number - 1).0/30")))
                routes.append((inner, parsedPrefix("10.0.0.0/16")))
                for lower in 1..<number {
                    routes.append((inner, parsedPrefix("198.18.\(lower).0/24")))
                    if lower < number - 1 { routes.append((inner, parsedPrefix("100.64.\(lower).0/30"))) }
                }
            }
            if isLast {
                add("- { bridge: out, address: 203.0.113.1/24 }", 10)
                links.append(("out", parsedPrefix("203.0.113.0/24")))
            } else {
                let link = "address: 100.64.\(number).2/30, peer: 100.64.\(number).1/30"
                add("- { router: g\(number + 1), \(link) }", 10)
                links.append(("g\(number + 1)", parsedPrefix("100.64.\(number).0/30")))
            }
            add("routes:", 8)
            for route in routes { add("- { to: \(route.prefix), via: 100.64.\(number - 1).2 }", 10) }
            // What it does not translate goes nowhere: by default it would go back to whoever routed it here.
            if !isLast { add("- { to: 198.18.\(number).0/24, type: blackhole }", 10) }
            add("- { to: 0.0.0.0/0, via: \(isLast ? "203.0.113.254" : "100.64.\(number).1") }", 10)
            self.routers.append(
                Router(
                    path: DevicePath(tenant: "t", name: "g\(number)"), links: links,
                    routes: links + routes + (isLast ? [] : [("", parsedPrefix("198.18.\(number).0/24"))]),
                    outer: isLast ? "out" : "g\(number + 1)", pool: isLast ? "203.0.113" : "198.18.\(number)",
                    isLast: isLast))
        }
        topology = try draw(text)
    }

    /// The machine behind whose port an address is; what nobody has is behind one machine outside.
    static func machine(_ address: IPAddress) -> String {
        machines.first { $0.address == "\(address)" }?.port ?? "t/out/far"
    }

    /// The router that a network's machines send to.
    func router(at network: String) -> Int { network == "out" ? routers.count - 1 : 0 }

    /// Its port there.
    func gateway(_ network: String) -> String { "\(routers[router(at: network)].path)/\(network)" }
}

/// A drawing and what happens in it.
struct TranslationCase {
    /// One packet of a case, told so that it means something whatever else is taken out of the case.
    struct Step {
        enum Kind: Equatable {
            case fresh
            /// The answer to what came of an earlier step.
            case reply(Int)
            /// An error about it.
            case error(Int)
        }
        var number: Int
        var kind: Kind
        var source: IPAddress
        var destination: IPAddress
        var ipProtocol: UInt8
        var sourcePort: UInt16
        var destinationPort: UInt16
        var flags: UInt8
        /// Whether a machine of the same network is asked past the router.
        var isNeighborly = false
    }

    var room: TranslationRoom
    var topology: Topology
    /// Members that checks found ill, by name, in pools that are checked.
    var ill: Set<String> = []
    var steps: [Step]
}

/// Makes cases.
struct TranslationCases {
    var random: SeededRandom
    var rooms: [TranslationRoom]
    private var ill: Set<String> = []

    init(random: SeededRandom, rooms: [TranslationRoom]) {
        self.random = random
        self.rooms = rooms
    }

    private mutating func pick<Element>(_ list: [Element]) -> Element {
        list[Int.random(in: 0..<list.count, using: &random)]
    }
    private mutating func chance(_ share: Int) -> Bool { Int.random(in: 0..<share, using: &random) == 0 }

    private mutating func condition(_ isSource: Bool, _ plan: TranslationRoom.Router) -> Condition {
        var condition = Condition()
        let outward = [plan.outer] + plan.links.map(\.port)
        func prefix(_ text: String) -> Prefix { parsedPrefix(text) }
        if chance(2) {
            let list = ["\(plan.own(10))/32", "203.0.113.0/24", "8.8.8.8/32", "10.0.2.0/24", "0.0.0.0/0"].map(prefix)
            condition.destinations = Match([pick(list)], isInverted: chance(6))
        }
        if chance(3) {
            let list = ["10.0.1.0/24", "10.0.1.11/32", "10.0.0.0/8", "203.0.113.99/32"].map(prefix)
            condition.sources = Match([pick(list)], isInverted: chance(5))
        }
        if isSource, chance(2) {
            condition.outPorts = Match(["\(plan.path.name)/\(pick(outward))"], isInverted: chance(6))
        }
        if chance(5) {
            condition.inPorts = Match(
                ["\(plan.path.name)/\(pick([plan.outer, plan.links[0].port]))"], isInverted: chance(3))
        }
        if chance(2) {
            condition.ipProtocol = Match(pick([6, 17, 1]))
            if condition.ipProtocol?.value != 1, chance(2) {
                condition.destinationPorts = Match([pick([PortRange(80, 80), PortRange(53, 99)])])
            }
        }
        return condition
    }

    private mutating func translation(
        _ plan: TranslationRoom.Router, behind inner: TranslationRoom.Router?, _ pools: [String]
    ) -> Translation {
        var translation = Translation()
        var targets = ["10.0.2.21", "10.0.1.11", "203.0.113.99"].map(address)
        if let inner { targets += [inner.own(10), inner.own(20)] }
        let port = plan.isLast ? nil : plan.outer
        for id in 0..<Int.random(in: 0...4, using: &random) {
            let isSource = chance(2)
            var condition = condition(isSource, plan)
            let action: TranslationRule.Action
            if chance(7) {
                action = .accept
            } else if isSource {
                action = pick([
                    .masquerade(nil), .source(TranslationTarget(plan.own(5))),
                    .source(TranslationTarget(plan.own(5), plan.own(6))),
                    .masquerade(PortRange(2048, 2111)),
                ])
            } else {
                var target = TranslationTarget(pick(targets))
                if let ip = condition.ipProtocol, ip.value != 1, chance(2) { target.ports = PortRange(8080, 8080) }
                action = .destination(target)
                condition.outPorts = nil
            }
            translation.rules.append(TranslationRule(id: "\(id)", condition: condition, action: action))
        }
        if chance(2) {
            translation.floating.append(FloatingAddress(plan.own(20), target: address("10.0.1.12"), port: port))
        }
        if chance(3) {
            translation.floating.append(FloatingAddress(plan.own(21), target: address("10.0.2.21"), port: port))
        }
        for (number, pool) in pools.enumerated() where chance(2) {
            translation.virtual.append(
                VirtualAddress(
                    id: "v\(number)", plan.own(chance(4) ? 10 : 30), ipProtocol: pick([6, 6, 17]),
                    ports: pick([[PortRange(80, 80)], [PortRange(22, 22), PortRange(53, 99)]]), pool: pool))
        }
        return translation
    }

    /// A pool of which one member takes connections, or none: the others may not, or checks found them ill.
    private mutating func pool(_ name: String, _ plan: TranslationRoom.Router, behind inner: TranslationRoom.Router?)
        -> Pool
    {
        var pool = Pool(path: DevicePath(tenant: "t", name: name))
        pool.algorithm = pick(Pool.Algorithm.allCases)
        var targets = ["10.0.2.21", "10.0.1.11", "10.0.1.12", "203.0.113.99"].map(address)
        if let inner { targets += [inner.own(20), inner.own(30)] }
        let isChecked = chance(2)
        if isChecked { pool.monitor = HealthMonitor(pick([.tcp, .ping])) }
        let open = Int.random(in: 0...targets.count, using: &random)
        for (number, target) in targets.enumerated() {
            var member = PoolMember(target, port: chance(2) ? 8080 : nil, weight: pick([1, 2]))
            if number == open {
                pool.members.append(member)
            } else if chance(2) {
                if isChecked, chance(2) {
                    ill.insert(member.name)
                } else {
                    (member.state, member.weight) = pick([(.down, 1), (.drain, 1), (.up, 0)])
                }
                pool.members.append(member)
            }
        }
        return pool
    }

    private mutating func chain(_ name: String, _ plan: TranslationRoom.Router) -> Chain {
        var chain = Chain(path: DevicePath(tenant: "t", name: name))
        var states = Condition()
        states.states = [.established, .related]
        chain.rules.append(Rule(id: "known", condition: states, action: .accept))
        var new = condition(false, plan)
        new.states = [.new]
        chain.rules.append(Rule(id: "new", condition: new, action: pick([.accept, .accept, .drop])))
        chain.rules.append(Rule(id: "rest", action: pick([.drop, .accept, .reject])))
        return chain
    }

    mutating func step(_ number: Int, _ room: TranslationRoom) -> TranslationCase.Step {
        let source = address(pick(TranslationRoom.machines).address)
        var places = TranslationRoom.machines.map(\.address) + ["203.0.113.1", "8.8.8.8", "8.8.8.8"]
        for router in room.routers { places += [10, 10, 5, 20, 21, 30, 30].map { router.own($0).description } }
        let kind: TranslationCase.Step.Kind =
            number > 0 && chance(2)
            ? chance(3)
                ? .error(Int.random(in: 0..<number, using: &random))
                : .reply(Int.random(in: 0..<number, using: &random))
            : .fresh
        return TranslationCase.Step(
            number: number, kind: kind, source: source, destination: address(pick(places)),
            ipProtocol: pick([6, 6, 17, 17, 1, 47]), sourcePort: pick([2048, 2050, 5000]),
            destinationPort: pick([80, 53, 22, 8080]), flags: pick([2, 2, 2, 0x10, 4]),
            isNeighborly: chance(2))
    }

    /// A case that can be drawn.
    mutating func next() -> TranslationCase {
        while true {
            let room = pick(rooms)
            ill = []
            var topology = room.topology
            for (number, plan) in room.routers.enumerated() {
                let inner = number > 0 ? room.routers[number - 1] : nil
                let pools = (0..<2).map { pool("\(plan.path.name)-\($0)", plan, behind: inner) }
                for pool in pools { topology.pools[pool.path] = pool }
                topology.routers[plan.path]?.translation = translation(plan, behind: inner, pools.map(\.path.name))
                for word in ["in", "out"] where chance(4) {
                    let chain = chain("\(plan.path.name)-\(word)", plan)
                    topology.chains[chain.path] = chain
                    if word == "in" {
                        topology.routers[plan.path]?.filters.inbound = chain.path.name
                    } else {
                        topology.routers[plan.path]?.filters.outbound = chain.path.name
                    }
                }
            }
            guard topology.problems().isEmpty else { continue }
            return TranslationCase(
                room: room, topology: topology, ill: ill, steps: (0..<30).map { step($0, room) })
        }
    }
}
