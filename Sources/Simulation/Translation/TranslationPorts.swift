// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Ports that this host may translate sources to: blocks of them by router and address, which no other host has
/// meanwhile. A value; what is wanted and what is idle its owner asks for, and gets and gives back elsewhere.
public struct TranslationPorts: Sendable {
    /// An address of a router.
    public struct Key: Hashable, Sendable {
        /// The router.
        public var zone: Tag
        /// The address.
        public var address: IPAddress

        /// An address.
        public init(zone: Tag, address: IPAddress) {
            self.zone = zone
            self.address = address
        }
    }

    /// What this host has of an address.
    public struct Pool: Sendable {
        /// The address.
        public let key: Key
        /// Its blocks, ascending.
        public internal(set) var blocks: [UInt32] = [] {
            didSet {
                holds = [Bool](repeating: false, count: Int(PortBlock.count))
                for block in blocks { holds[Int(block)] = true }
                used = blocks.reduce(0) { $0 + Int(uses[Int($1)]) }
            }
        }
        /// The same, by block.
        private(set) var holds = [Bool](repeating: false, count: Int(PortBlock.count))
        /// Connections whose ports are in blocks of this host.
        public internal(set) var used = 0
        /// How many connections use a block, by block: also of other hosts, for blocks change hands, and this host may learn
        /// of connections before it learns which blocks are its own.
        var uses = [UInt32](repeating: 0, count: Int(PortBlock.count))
        /// When a block was last taken into use or left, by block.
        var touched = [UInt64](repeating: 0, count: Int(PortBlock.count))
        /// How many blocks are wanted besides.
        var wanted = 0
        /// Whether a packet needs them now, or soon: otherwise they are only asked for in case.
        var isNeeded = false
        /// When blocks were wanted and there were none.
        var exhausted: UInt64?
    }

    /// Addresses that this host has or had ports of. A place stays with its address.
    public private(set) var pools: [Pool] = []
    private var index: [Key: Int32] = [:]
    /// The place that was asked for last: packets come in trains.
    private var last: Int32 = -1
    /// How many packets found no port at once.
    public private(set) var missed: UInt64 = 0
    /// Whether there is anything in ``takeWanted()``.
    public private(set) var isWanting = false

    /// Nothing.
    public init() {}

    /// Blocks that one host asks for ahead of need, at most: an eighth of an address. What packets need is not bounded so.
    static let most = 128

    /// The pool of an address, if there is one.
    public subscript(_ key: Key) -> Pool? { index[key].map { pools[Int($0)] } }

    /// The place of an address's pool.
    mutating func pool(_ zone: Tag, _ address: IPAddress) -> Int32 {
        if last >= 0, pools[Int(last)].key.address == address, pools[Int(last)].key.zone == zone { return last }
        let key = Key(zone: zone, address: address)
        if let known = index[key] {
            last = known
        } else {
            last = Int32(pools.count)
            index[key] = last
            pools.append(Pool(key: key))
        }
        return last
    }

    /// Blocks that are here and hold ports of a range; `nil` where there are none.
    func blocks(of pool: Int32, in range: PortRange) -> [UInt32]? {
        let blocks = pools[Int(pool)].blocks
        let wanted = PortBlock.blocks(of: range)
        guard let first = blocks.first, let last = blocks.last else { return nil }
        if wanted.contains(first), wanted.contains(last) { return blocks }
        let inside = blocks.filter(wanted.contains)
        return inside.isEmpty ? nil : inside
    }

    /// Whether a port is in one of a pool's blocks.
    @inline(__always)
    func holds(_ pool: Int32, _ port: UInt16) -> Bool { pools[Int(pool)].holds[Int(port) / PortBlock.size] }

    /// Asks for more. False when there were none lately.
    mutating func want(_ pool: Int32, _ count: Int) -> Bool {
        missed &+= 1
        if pools[Int(pool)].exhausted != nil { return false }
        ask(Int(pool), min(max(count, 1), TranslationPorts.most))
        return true
    }

    private mutating func ask(_ place: Int, _ count: Int, isNeeded: Bool = true) {
        pools[place].wanted = max(pools[place].wanted, count)
        if isNeeded { pools[place].isNeeded = true }
        isWanting = true
    }

    /// Asks again for what could not be got.
    public mutating func wantAgain(_ key: Key, _ count: Int) {
        if let place = index[key] { ask(Int(place), count) }
    }

    /// Takes account of a connection whose source became a port; the place of the port's pool.
    mutating func use(_ zone: Tag, _ address: IPAddress, _ port: UInt16, now: UInt64) -> Int32 {
        let place = Int(pool(zone, address))
        let block = Int(port) / PortBlock.size
        pools[place].uses[block] += 1
        pools[place].touched[block] = max(pools[place].touched[block], now)
        guard pools[place].holds[block] else { return last }
        pools[place].used += 1
        // Half of what one remote end could use is used: more are asked for ahead of need.
        let held = pools[place].blocks.count
        if Int(pools[place].uses[block]) * 2 > PortBlock.size, pools[place].used * 2 > held * PortBlock.size,
            pools[place].wanted == 0, pools[place].exhausted == nil, held < TranslationPorts.most
        {
            ask(place, max(1, min(held, TranslationPorts.most - held)))
        }
        return last
    }

    /// Takes account of a connection that ends.
    mutating func leave(_ pool: Int32, _ port: UInt16, now: UInt64) {
        let block = Int(port) / PortBlock.size
        guard pools[Int(pool)].uses[block] > 0 else { return }
        pools[Int(pool)].uses[block] -= 1
        if pools[Int(pool)].holds[block] { pools[Int(pool)].used -= 1 }
        pools[Int(pool)].touched[block] = max(pools[Int(pool)].touched[block], now)
    }

    /// Has it asked for that an address, which may be needed, has blocks here.
    public mutating func prepare(_ key: Key) {
        let place = Int(pool(key.zone, key.address))
        if pools[place].blocks.isEmpty, pools[place].exhausted == nil { ask(place, 1, isNeeded: false) }
    }

    /// What is to be asked for, by address; it counts as asked for from now on.
    public mutating func takeWanted() -> [(key: Key, count: Int, isNeeded: Bool)] {
        guard isWanting else { return [] }
        isWanting = false
        var list: [(key: Key, count: Int, isNeeded: Bool)] = []
        for place in pools.indices where pools[place].wanted > 0 {
            list.append((pools[place].key, pools[place].wanted, pools[place].isNeeded))
            (pools[place].wanted, pools[place].isNeeded) = (0, false)
        }
        return list
    }

    /// These blocks of an address are this host's now.
    public mutating func set(_ key: Key, _ blocks: [UInt32], now: UInt64) {
        if blocks.isEmpty, index[key] == nil { return }
        let place = Int(pool(key.zone, key.address))
        guard pools[place].blocks != blocks else { return }
        for block in blocks where !pools[place].blocks.contains(block) { pools[place].touched[Int(block)] = now }
        pools[place].blocks = blocks
        pools[place].exhausted = nil
    }

    /// There are no more blocks of an address.
    public mutating func noteExhausted(_ key: Key, now: UInt64) {
        if let place = index[key] { pools[Int(place)].exhausted = now }
    }

    /// Addresses without blocks lately, of which some may have come free: they may be asked for again.
    public mutating func forgetExhausted(before time: UInt64) {
        for place in pools.indices {
            if let at = pools[place].exhausted, at < time { pools[place].exhausted = nil }
        }
    }

    /// Blocks that nobody used for a while, by address. They are no longer this host's from now on.
    ///
    /// - Parameters:
    ///   - scarce: addresses of which nobody can have more: what they have is idle sooner, and none stays.
    ///   - soon: when that is.
    ///   - keeping: whether an address may still be needed: then one block stays.
    public mutating func takeIdle(
        before time: UInt64, scarce: Set<Key> = [], before soon: UInt64 = 0, keeping: (Key) -> Bool
    ) -> [(key: Key, blocks: [UInt32])] {
        var list: [(key: Key, blocks: [UInt32])] = []
        for place in pools.indices where !pools[place].blocks.isEmpty {
            let pool = pools[place]
            let isScarce = scarce.contains(pool.key)
            let time = isScarce ? soon : time
            var idle = pool.blocks.filter { pool.uses[Int($0)] == 0 && pool.touched[Int($0)] < time }
            if !isScarce, !idle.isEmpty, idle.count == pool.blocks.count, keeping(pool.key) { idle.removeFirst() }
            guard !idle.isEmpty else { continue }
            list.append((pool.key, idle))
            pools[place].blocks.removeAll { idle.contains($0) }
        }
        return list
    }
}
