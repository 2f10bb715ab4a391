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
        /// Its blocks, ascending.
        public var blocks: [UInt32] = []
        /// Connections that began here and use a block, by block.
        public var uses: [UInt32: Int] = [:]
        /// When a block was last taken into use or left, by block.
        public var touched: [UInt32: UInt64] = [:]
        /// How many blocks are wanted besides.
        public var wanted = 0
        /// When blocks were wanted and there were none.
        public var exhausted: UInt64?

        /// Connections that began here.
        public var used = 0
    }

    /// By address.
    public private(set) var pools: [Key: Pool] = [:]
    /// How many packets found no port.
    public private(set) var missed: UInt64 = 0

    /// Nothing.
    public init() {}

    /// Whether there is anything in ``takeWanted()``.
    public private(set) var isWanting = false

    /// Blocks that are here and hold ports of a range; `nil` where there are none.
    func blocks(of key: Key, in range: PortRange) -> [UInt32]? {
        guard let blocks = pools[key]?.blocks, !blocks.isEmpty else { return nil }
        let wanted = PortBlock.blocks(of: range)
        if let first = blocks.first, let last = blocks.last, wanted.contains(first), wanted.contains(last) {
            return blocks
        }
        let inside = blocks.filter(wanted.contains)
        return inside.isEmpty ? nil : inside
    }

    /// Asks again for what could not be got.
    public mutating func wantAgain(_ key: Key, _ count: Int) {
        guard pools[key] != nil else { return }
        let before = pools[key]?.wanted ?? 0
        pools[key]?.wanted = max(before, count)
        isWanting = true
    }

    /// Asks for more. False when there were none lately.
    mutating func want(_ key: Key, _ count: Int) -> Bool {
        missed &+= 1
        if pools[key]?.exhausted != nil { return false }
        var pool = pools[key] ?? Pool()
        pool.wanted = max(pool.wanted, min(max(count, 1), TranslationPorts.most))
        pools[key] = pool
        isWanting = true
        return true
    }

    /// Takes account of a connection that comes or goes.
    mutating func use(_ record: TranslationTable.Record, by change: Int, now: UInt64) {
        guard record.isOwn, record.reply.destination != record.original.source
                || record.reply.destinationPort != record.original.sourcePort
        else { return }
        let key = Key(zone: record.zone, address: record.reply.destination)
        guard pools[key] != nil else { return }
        let block = UInt32(record.reply.destinationPort) / UInt32(PortBlock.size)
        let uses = (pools[key]?.uses[block] ?? 0) + change
        pools[key]?.uses[block] = uses > 0 ? uses : nil
        pools[key]?.used += change
        pools[key]?.touched[block] = now
        // Half of what one remote end could use is used: more are asked for ahead of need.
        if change > 0, let pool = pools[key], pool.wanted == 0, pool.exhausted == nil,
            uses * 2 > PortBlock.size, pool.used * 2 > pool.blocks.count * PortBlock.size,
            pool.blocks.count < TranslationPorts.most
        {
            pools[key]?.wanted = min(pool.blocks.count, TranslationPorts.most - pool.blocks.count)
            isWanting = true
        }
    }

    /// Blocks that one host asks for ahead of need, at most: an eighth of an address. What packets need is not bounded so.
    static let most = 128

    /// Has it asked for that an address, which may be needed, has blocks here.
    public mutating func prepare(_ key: Key) {
        if pools[key] == nil {
            pools[key] = Pool(wanted: 1)
            isWanting = true
        }
    }

    /// What is to be asked for, by address; it counts as asked for from now on.
    public mutating func takeWanted() -> [(key: Key, count: Int)] {
        var list: [(key: Key, count: Int)] = []
        isWanting = false
        for (key, pool) in pools where pool.wanted > 0 {
            list.append((key, pool.wanted))
            pools[key]?.wanted = 0
        }
        return list
    }

    /// These blocks of an address are this host's now.
    public mutating func set(_ key: Key, _ blocks: [UInt32], now: UInt64) {
        var pool = pools[key] ?? Pool()
        guard pool.blocks != blocks else { return }
        for block in blocks where !pool.blocks.contains(block) { pool.touched[block] = now }
        pool.blocks = blocks
        pool.exhausted = nil
        pools[key] = pool
    }

    /// There are no more blocks of an address.
    public mutating func noteExhausted(_ key: Key, now: UInt64) { pools[key]?.exhausted = now }

    /// Addresses without blocks lately, of which some may have come free: they may be asked for again.
    public mutating func forgetExhausted(before time: UInt64) {
        for (key, pool) in pools { if let at = pool.exhausted, at < time { pools[key]?.exhausted = nil } }
    }

    /// Blocks that nobody used for a while, by address. They are no longer this host's from now on.
    ///
    /// - Parameter keeping: whether an address may still be needed: then one block stays.
    public mutating func takeIdle(before time: UInt64, keeping: (Key) -> Bool) -> [(key: Key, blocks: [UInt32])] {
        var list: [(key: Key, blocks: [UInt32])] = []
        for (key, pool) in pools {
            let isKept = keeping(key)
            var idle = pool.blocks.filter { pool.uses[$0] == nil && (pool.touched[$0] ?? 0) < time }
            if isKept, idle.count == pool.blocks.count, !idle.isEmpty { idle.removeFirst() }
            if !idle.isEmpty {
                list.append((key, idle))
                pools[key]?.blocks.removeAll { idle.contains($0) }
                for block in idle { pools[key]?.touched[block] = nil }
            }
            if !isKept, pools[key]?.blocks.isEmpty == true, pool.uses.isEmpty { pools[key] = nil }
        }
        return list
    }
}
