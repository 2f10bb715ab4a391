// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A pool's members of one family, as the simulation reads them: plain pointers into memory that a ``PoolProgram`` owns. What a
/// choice costs does not grow with the number of members.
struct PoolView {
    /// The pool.
    var tag: Tag
    var algorithm: Pool.Algorithm
    /// How long a client comes to the same member, seconds; 0: each connection is chosen for.
    var persistence: UInt32
    /// Whether they are checked: otherwise what checks found before is nothing to go by.
    var isMonitored: Bool
    /// Members in order of identity, the same on every host.
    var members: UnsafePointer<MemberRecord>
    var memberCount: Int
    /// Members that take new connections, as often as their weights say, spread evenly.
    var turns: UnsafePointer<UInt16>
    var turnCount: Int
    /// Members that take new connections, each once.
    var open: UnsafePointer<UInt16>
    var openCount: Int
    /// Members by hash.
    var lookup: UnsafePointer<UInt16>
    var lookupCount: Int

    /// The member of an identity.
    func member(_ identity: UInt64) -> MemberRecord? {
        var (low, high) = (0, memberCount)
        while low < high {
            let middle = (low + high) / 2
            if members[middle].identity < identity { low = middle + 1 } else { high = middle }
        }
        return low < memberCount && members[low].identity == identity ? members[low] : nil
    }
}

/// A member of a pool.
struct MemberRecord {
    var address: IPAddress
    /// Its port; 0: the one that was asked for.
    var port: UInt16
    var weight: UInt16
    var state: PoolMember.State
    /// Tells it from others, on every host and in every version alike.
    var identity: UInt64
}

/// A pool, compiled.
final class PoolProgram: @unchecked Sendable {  // written in `init` only, freed in `deinit` only
    /// Turns of one round, at most: larger sums of weights are scaled down.
    static let turnsPerRound = 4096
    /// Sizes of tables by hash, primes. Members get shares that differ by a hundredth of one where there are a hundred places
    /// for each.
    static let sizes = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521]

    let v4: PoolView
    let v6: PoolView
    /// All members.
    let members: [PoolMember]
    private let memory: [UnsafeMutableRawPointer]

    init(_ pool: Pool) {
        var memory: [UnsafeMutableRawPointer] = []
        // Plain values without references.
        func keep<Element>(_ list: [Element]) -> UnsafePointer<Element> {
            let pointer = UnsafeMutablePointer<Element>.allocate(capacity: max(1, list.count))
            pointer.initialize(from: list, count: list.count)
            memory.append(UnsafeMutableRawPointer(pointer))
            return UnsafePointer(pointer)
        }
        func view(_ family: AddressFamily) -> PoolView {
            let members = pool.members.filter { $0.address.family == family }.map(MemberRecord.init)
                .sorted { $0.identity < $1.identity }
            let open = members.indices.filter { members[$0].state == .up && members[$0].weight > 0 }
            let turns = PoolProgram.turns(members, open)
            let isHashed = pool.algorithm == .sourceHash || pool.algorithm == .maglev
            let lookup = isHashed ? PoolProgram.lookup(members, open) : []
            return PoolView(
                tag: .pool(pool.path), algorithm: pool.algorithm, persistence: pool.persistence ?? 0,
                isMonitored: pool.monitor != nil,
                members: keep(members), memberCount: members.count, turns: keep(turns), turnCount: turns.count,
                open: keep(open.map { UInt16($0) }), openCount: open.count, lookup: keep(lookup),
                lookupCount: lookup.count)
        }
        (v4, v6) = (view(.ipv4), view(.ipv6))
        members = pool.members
        self.memory = memory
    }

    deinit { for pointer in memory { pointer.deallocate() } }

    func view(_ family: AddressFamily) -> PoolView { family == .ipv4 ? v4 : v6 }

    /// One round of turns: each member's lie at equal distances, so that no two of a heavy one follow where others could.
    static func turns(_ members: [MemberRecord], _ open: [Int]) -> [UInt16] {
        var divisor = 0
        for index in open { divisor = gcd(divisor, Int(members[index].weight)) }
        var counts = open.map { Int(members[$0].weight) / max(1, divisor) }
        let total = counts.reduce(0, +)
        if total > turnsPerRound { counts = counts.map { max(1, $0 * turnsPerRound / total) } }
        var places: [(at: Double, member: UInt16)] = []
        for (index, count) in zip(open, counts) {
            for turn in 0..<count { places.append(((Double(turn) + 0.5) / Double(count), UInt16(index))) }
        }
        places.sort { ($0.at, $0.member) < ($1.at, $1.member) }
        return places.map(\.member)
    }

    private static func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }

    /// Places of a table by hash, taken in turns by members that each have an order of their own for them (Maglev, section 3.4):
    /// when one goes, the others keep nearly all of theirs. Heavy members have more turns.
    static func lookup(_ members: [MemberRecord], _ open: [Int]) -> [UInt16] {
        guard let heaviest = open.map({ members[$0].weight }).max() else { return [] }
        let size = sizes.first { $0 >= 100 * open.count } ?? sizes[sizes.count - 1]
        var table = [UInt16](repeating: .max, count: size)
        var next = open.map { index -> (at: Int, step: Int, credit: Int) in
            let identity = members[index].identity
            let at = Int(truncatingIfNeeded: mix(identity, 0xa076_1d64_78bd_642f) >> 33) % size
            let step = Int(truncatingIfNeeded: mix(identity, 0xe703_7ed1_a0b4_28db) >> 33) % (size - 1) + 1
            return (at, step, 0)
        }
        var taken = 0
        while true {
            for (place, index) in open.enumerated() {
                next[place].credit += Int(members[index].weight)
                guard next[place].credit >= Int(heaviest) else { continue }
                next[place].credit -= Int(heaviest)
                while table[next[place].at] != .max { next[place].at = (next[place].at + next[place].step) % size }
                table[next[place].at] = UInt16(index)
                taken += 1
                if taken == size { return table }
            }
        }
    }
}

extension MemberRecord {
    fileprivate init(_ member: PoolMember) {
        self.init(
            address: member.address, port: member.port ?? 0, weight: member.weight, state: member.state,
            identity: member.identity)
    }
}

extension Pool {
    /// Where its members are.
    var places: Set<String> { Set(members.map(\.name)) }
}

extension Tag {
    /// A pool of servers.
    public static func pool(_ path: DevicePath) -> Tag { Tag(bits: stableHash("pool \(path)")) }
    /// What a pool is in one router: turns and returning clients are counted there.
    static func balance(_ pool: Tag, zone: Tag) -> Tag { Tag(bits: mix(pool.bits ^ 0xba1a_0000_0000_0017, zone.bits)) }
}
