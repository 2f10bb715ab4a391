// SPDX-License-Identifier: Apache-2.0

/// How often each of many 64-bit hashes occurs. In small tables, chosen by the hash's upper half: a copy that differs in few
/// hashes shares the other tables.
struct FingerprintCounts: Sendable {
    /// Hashes a table should hold: larger ones are copied slower, more of them too.
    private static let shardSize = 128
    private var shards: [Shard] = [Shard()]
    /// Different hashes.
    private var count = 0

    /// One table: open addressing, at most half full, no tombstones.
    private struct Shard: Sendable {
        var slots: [Slot] = []
        var count = 0

        struct Slot {
            var hash: UInt64 = 0
            /// 0: free.
            var occurrences: UInt32 = 0
        }

        /// Where a hash is, or would be.
        func position(_ hash: UInt64) -> Int {
            let mask = slots.count - 1
            var at = Int(truncatingIfNeeded: hash) & mask
            while slots[at].occurrences != 0, slots[at].hash != hash { at = (at + 1) & mask }
            return at
        }

        /// Puts a hash that is not there yet.
        mutating func put(_ slot: Slot) {
            if (count + 1) * 2 > slots.count {
                let old = slots
                slots = Array(repeating: Slot(), count: max(8, old.count * 2))
                for slot in old where slot.occurrences != 0 { slots[position(slot.hash)] = slot }
            }
            slots[position(slot.hash)] = slot
            count += 1
        }

        /// Frees a slot and moves back what probed past it.
        mutating func close(_ position: Int) {
            let mask = slots.count - 1
            var hole = position
            var at = (hole + 1) & mask
            while slots[at].occurrences != 0 {
                let home = Int(truncatingIfNeeded: slots[at].hash) & mask
                if (at - home) & mask >= (at - hole) & mask {
                    slots[hole] = slots[at]
                    hole = at
                }
                at = (at + 1) & mask
            }
            slots[hole] = Slot()
            count -= 1
        }
    }

    private func shard(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash >> 32) & (shards.count - 1) }

    /// How often a hash was added and not removed.
    subscript(_ hash: UInt64) -> Int {
        let shard = shards[shard(hash)]
        return shard.slots.isEmpty ? 0 : Int(shard.slots[shard.position(hash)].occurrences)
    }

    mutating func add(_ hash: UInt64) {
        let index = shard(hash)
        if !shards[index].slots.isEmpty {
            let at = shards[index].position(hash)
            if shards[index].slots[at].occurrences != 0 {
                shards[index].slots[at].occurrences += 1
                return
            }
        }
        shards[index].put(Shard.Slot(hash: hash, occurrences: 1))
        count += 1
        if count > shards.count * FingerprintCounts.shardSize { split() }
    }

    /// Removes one occurrence, if there is one.
    mutating func remove(_ hash: UInt64) {
        let index = shard(hash)
        guard !shards[index].slots.isEmpty else { return }
        let at = shards[index].position(hash)
        switch shards[index].slots[at].occurrences {
        case 0: return
        case 1:
            shards[index].close(at)
            count -= 1
        default: shards[index].slots[at].occurrences -= 1
        }
    }

    private mutating func split() {
        let old = shards
        shards = Array(repeating: Shard(), count: old.count * 2)
        for shard in old {
            for slot in shard.slots where slot.occurrences != 0 { shards[self.shard(slot.hash)].put(slot) }
        }
    }
}
