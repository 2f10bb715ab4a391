// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A table from well-mixed 64-bit keys to 64-bit values: open addressing, at most half full, no tombstones. It hashes
/// nothing: for keys that are hashes already it is several times faster than a dictionary. The key 0 stands for 1.
@frozen
public struct HashIndex: ~Copyable {
    @frozen @usableFromInline
    struct Slot {
        /// 0: free.
        @usableFromInline var key: UInt64
        @usableFromInline var value: UInt64
    }

    @usableFromInline var slots: UnsafeMutablePointer<Slot>
    @usableFromInline var mask: Int
    /// How many keys it holds.
    public private(set) var count = 0

    /// An empty table.
    public init() {
        slots = HashIndex.zeroed(16)
        mask = 15
    }

    deinit { HashIndex.release(slots, mask + 1) }

    /// Slots of zeros.
    private static func zeroed(_ count: Int) -> UnsafeMutablePointer<Slot> {
        let size = count * MemoryLayout<Slot>.stride
        if size >= LargePages.size { return LargePages.take(size).bindMemory(to: Slot.self, capacity: count) }
        // Without memory nothing can go on.
        guard let memory = calloc(1, size) else { fatalError("out of memory") }
        return memory.bindMemory(to: Slot.self, capacity: count)
    }

    private static func release(_ slots: UnsafeMutablePointer<Slot>, _ count: Int) {
        let size = count * MemoryLayout<Slot>.stride
        if size >= LargePages.size { LargePages.give(back: slots, size) } else { free(slots) }
    }

    @inlinable @inline(__always)
    func position(_ key: UInt64) -> Int {
        var at = Int(truncatingIfNeeded: key) & mask
        while slots[at].key != 0, slots[at].key != key { at = (at + 1) & mask }
        return at
    }

    /// The value of a key; setting `nil` removes it.
    public subscript(_ key: UInt64) -> UInt64? {
        @inlinable get {
            let slot = slots[position(key == 0 ? 1 : key)]
            return slot.key == 0 ? nil : slot.value
        }
        set {
            let key = key == 0 ? 1 : key
            let at = position(key)
            if let newValue {
                if slots[at].key == 0 {
                    count += 1
                    slots[at].key = key
                    slots[at].value = newValue
                    if count * 2 > mask { grow() }
                } else {
                    slots[at].value = newValue
                }
            } else if slots[at].key != 0 {
                count -= 1
                close(at)
            }
        }
    }

    /// Adds to the value of a key, which counts as 0 where there is none and goes when it comes to 0. What it is now.
    @discardableResult
    public mutating func add(_ change: Int, to key: UInt64) -> UInt64 {
        let key = key == 0 ? 1 : key
        let at = position(key)
        if slots[at].key == 0 {
            guard change > 0 else { return 0 }
            self[key] = UInt64(change)
            return UInt64(change)
        }
        let value = UInt64(max(0, Int(slots[at].value) + change))
        slots[at].value = value
        if value == 0 {
            count -= 1
            close(at)
        }
        return value
    }

    /// Frees a slot and moves back what probed past it.
    private mutating func close(_ position: Int) {
        var hole = position
        var at = (hole + 1) & mask
        while slots[at].key != 0 {
            let home = Int(truncatingIfNeeded: slots[at].key) & mask
            // An entry may fill the hole unless its home lies behind the hole on the way to it.
            if (at &- home) & mask >= (at &- hole) & mask {
                slots[hole] = slots[at]
                hole = at
            }
            at = (at + 1) & mask
        }
        slots[hole].key = 0
    }

    private mutating func grow() {
        let old = slots
        let oldCount = mask + 1
        mask = oldCount * 2 - 1
        slots = HashIndex.zeroed(oldCount * 2)
        for index in 0..<oldCount where old[index].key != 0 { slots[position(old[index].key)] = old[index] }
        HashIndex.release(old, oldCount)
    }

    /// Calls `body` for every value, in no order.
    public func forEachValue(_ body: (UInt64) -> Void) {
        for index in 0...mask where slots[index].key != 0 { body(slots[index].value) }
    }
}
