// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The member that a connection was sent to, and what is to be remembered of that when it begins.
public struct BalanceChoice: Sendable, Hashable {
    /// The pool in its router: its turn is taken.
    public var pool: Tag
    /// The member, by its identity.
    public var member: UInt64
    /// Who asked.
    public var client: IPAddress
    /// How long the client comes to the same member, seconds; 0: each connection is chosen for.
    public var seconds: UInt32

    /// A choice.
    public init(pool: Tag, member: UInt64, client: IPAddress, seconds: UInt32) {
        self.pool = pool
        self.member = member
        self.client = client
        self.seconds = seconds
    }
}

/// Virtual addresses at work. A choice is only proposed: it is made when the connection begins (``TranslationUse/balance``), and
/// whoever sees its packets later finds it there.
extension Simulator {
    /// Members that are compared for the fewest connections.
    private static let compared = 4

    /// Sends a connection that begins to a member of a pool. False when the packet ends here.
    mutating func balance(_ index: Int32, _ place: FilterPlace, _ packet: borrowing SimulatedPacket) -> Bool {
        let pool = fabric.tables.policy.pool(index, key.ipDestination.family)
        guard let pool, let (member, why) = choose(pool, place) else {
            if isTracing {
                let name = fabric.tables.policy.poolPath(index).map { "pool \($0.name)" } ?? "its pool"
                noteTranslation("no member of \(name) takes connections", place)
            }
            verdict.isCacheable = false
            drop(.noMember, at: place.inPort)
            if key.ipProtocol == IPProtocol.tcp {
                reject(at: place.inPort, place, packet)
            } else {
                // Port unreachable (RFC 792, RFC 4443 section 3.1).
                unreachable(v4Code: 3, v6Code: 4, at: place.inPort, packet)
            }
            return false
        }
        translating.balance = BalanceChoice(
            pool: .balance(pool.tag, zone: place.device), member: member.identity, client: key.ipSource,
            seconds: pool.persistence)
        let name = fabric.tables.policy.poolPath(index)?.name ?? ""
        return redirect(
            to: member.address, port: member.port == 0 ? nil : member.port, isFloating: false,
            "pool \(name), \(why)", place)
    }

    private mutating func choose(_ pool: PoolView, _ place: FilterPlace) -> (MemberRecord, String)? {
        let own = Tag.balance(pool.tag, zone: place.device)
        if pool.persistence > 0, let known = state.member(of: key.ipSource, pool: own),
            let member = pool.member(known), member.state != .down, isHealthy(member, pool, own)
        {
            return (member, "where its client was")
        }
        guard pool.openCount > 0 else { return nil }
        let (first, why, hash) = propose(pool, own, place)
        if isHealthy(first, pool, own) { return (first, why) }
        // Another is drawn: those that are left share what one that is down would have got as their weights say.
        for attempt in 1...Self.draws {
            let other = draw(pool, mix(hash, 0xd12a_0000_0000_0025 &+ UInt64(attempt)))
            if isHealthy(other, pool, own) { return (other, "drawn, since \(name(first)) is down") }
        }
        let start = Int(hash % UInt64(pool.openCount))
        for step in 0..<pool.openCount {
            let other = pool.members[Int(pool.open[(start + step) % pool.openCount])]
            if isHealthy(other, pool, own) { return (other, "the next that is not down") }
        }
        return nil
    }

    /// Others that are drawn before all are looked at.
    private static let draws = 8

    private mutating func isHealthy(_ member: MemberRecord, _ pool: PoolView, _ own: Tag) -> Bool {
        !pool.isMonitored || state.health(of: member.identity, pool: own)?.isUp ?? true
    }

    private func name(_ member: MemberRecord) -> String {
        PoolMember(member.address, port: member.port == 0 ? nil : member.port).name
    }

    /// A member by a hash, as often as its weight says.
    private func draw(_ pool: PoolView, _ hash: UInt64) -> MemberRecord {
        let place =
            pool.lookupCount > 0
            ? pool.lookup[Int(hash % UInt64(pool.lookupCount))] : pool.turns[Int(hash % UInt64(pool.turnCount))]
        return pool.members[Int(place)]
    }

    /// The member that the pool's way of choosing comes to, why, and the hash to draw another by.
    private mutating func propose(
        _ pool: PoolView, _ own: Tag, _ place: FilterPlace
    ) -> (MemberRecord, String, UInt64) {
        switch pool.algorithm {
        case .roundRobin:
            let turn = state.turn(of: own)
            let member = pool.members[Int(pool.turns[Int(turn % UInt64(pool.turnCount))])]
            return (member, "by turns", mix(turn | 1 << 63, own.bits))
        case .sourceHash:
            let hash = mix(key.ipSource.high ^ 0x5e1f_ba1a, key.ipSource.low &+ 0x9e37_79b9_7f4a_7c15)
            return (draw(pool, hash), "by its client's address", hash)
        case .maglev:
            let hash = translating.tuple?.directedHash(0x6d61_676c_6576) ?? 0
            return (draw(pool, hash), "by hash", hash)
        case .leastConnections:
            let hash = translating.tuple?.directedHash(0x1ea5) ?? 0
            return (leastUsed(pool, hash, own, place), "the least used", hash)
        }
    }

    /// Of few members the one with the fewest connections for its weight; of many, the best of some that are drawn.
    private mutating func leastUsed(
        _ pool: PoolView, _ hash: UInt64, _ own: Tag, _ place: FilterPlace
    ) -> MemberRecord {
        let start = Int(truncatingIfNeeded: hash >> 33)
        // Those that follow each other in order of identity have nothing in common.
        var best = pool.members[Int(pool.open[start % pool.openCount])]
        var (fewest, isBestHealthy) = (load(of: best, place), isHealthy(best, pool, own))
        for step in 1..<max(2, min(Self.compared, pool.openCount)) {
            let member = pool.members[Int(pool.open[(start + step) % pool.openCount])]
            guard isHealthy(member, pool, own) else { continue }
            let count = load(of: member, place)
            if !isBestHealthy || count * Int(best.weight) < fewest * Int(member.weight) {
                (best, fewest, isBestHealthy) = (member, count, true)
            }
        }
        return best
    }

    /// Connections of a member, the one in hand included.
    private mutating func load(of member: MemberRecord, _ place: FilterPlace) -> Int {
        state.connections(
            to: member.address, port: member.port == 0 ? key.destinationPort : member.port,
            ipProtocol: key.ipProtocol, zone: place.device) + 1
    }
}
