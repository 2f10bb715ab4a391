// SPDX-License-Identifier: Apache-2.0
import Wire

/// Small whole numbers by 64-bit keys: open addressing, at most half full, no tombstones, one flat array that is copied as a
/// block. A key may have several values; the one that was put first is found first.
struct IndexTable: Sendable {
    private struct Slot {
        var key: UInt64
        /// -1: free.
        var value: Int32
    }
    private var slots: [Slot] = Array(repeating: Slot(key: 0, value: -1), count: 8)
    private var mask = 7
    private(set) var count = 0

    @inline(__always)
    private static func hash(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: mix(key ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db))
    }

    /// The first value of a key.
    @inline(__always)
    func first(_ key: UInt64) -> Int32? {
        var at = Self.hash(key) & mask
        while slots[at].value >= 0 {
            if slots[at].key == key { return slots[at].value }
            at = (at + 1) & mask
        }
        return nil
    }

    /// The first value of a key that will do.
    func first(_ key: UInt64, where isMeant: (Int32) -> Bool) -> Int32? {
        var at = Self.hash(key) & mask
        while slots[at].value >= 0 {
            if slots[at].key == key, isMeant(slots[at].value) { return slots[at].value }
            at = (at + 1) & mask
        }
        return nil
    }

    mutating func insert(_ key: UInt64, _ value: Int32) {
        reserve(count + 1)
        var at = Self.hash(key) & mask
        while slots[at].value >= 0 { at = (at + 1) & mask }
        slots[at] = Slot(key: key, value: value)
        count += 1
    }

    mutating func remove(_ key: UInt64, _ value: Int32) {
        var at = Self.hash(key) & mask
        while slots[at].value >= 0 {
            if slots[at].key == key, slots[at].value == value { break }
            at = (at + 1) & mask
        }
        guard slots[at].value >= 0 else { return }
        count -= 1
        // What probed past the hole moves back into it.
        var next = (at + 1) & mask
        while slots[next].value >= 0 {
            let home = Self.hash(slots[next].key) & mask
            if (next - home) & mask >= (next - at) & mask {
                slots[at] = slots[next]
                at = next
            }
            next = (next + 1) & mask
        }
        slots[at].value = -1
    }

    /// Makes room for so many.
    mutating func reserve(_ wanted: Int) {
        guard wanted * 2 > slots.count else { return }
        let old = slots
        var size = slots.count
        while size < wanted * 2 { size *= 2 }
        slots = Array(repeating: Slot(key: 0, value: -1), count: size)
        mask = size - 1
        for slot in old where slot.value >= 0 {
            var at = Self.hash(slot.key) & mask
            while slots[at].value >= 0 { at = (at + 1) & mask }
            slots[at] = slot
        }
    }
}

/// Where something is declared to be, by what it is called on a bridge and in a VLAN. The name itself lies with the port that
/// owns it; whoever looks up compares it there, so that a slot takes 16 bytes.
struct StationTable: Sendable {
    struct Slot {
        var hash: UInt32
        var vlan: UInt16
        /// The port of the bridge that leads there; -1: free.
        var port: Int32
        /// The port whose MAC or address it is.
        var owner: Int32
    }
    private var slots: [Slot] = Array(repeating: free, count: 8)
    private var mask = 7
    private(set) var count = 0
    private static let free = Slot(hash: 0, vlan: 0, port: -1, owner: -1)

    /// The first slot of a hash and VLAN that will do.
    @inline(__always)
    func first(_ hash: UInt32, _ vlan: UInt16, where isMeant: (Slot) -> Bool) -> Slot? {
        var at = Int(hash) & mask
        while true {
            let slot = slots[at]
            if slot.port < 0 { return nil }
            if slot.hash == hash, slot.vlan == vlan, isMeant(slot) { return slot }
            at = (at + 1) & mask
        }
    }

    /// The slot of a hash and VLAN that will do and comes first by a measure, whatever order they were put in.
    func least(_ hash: UInt32, _ vlan: UInt16, by measure: (Slot) -> UInt64, where isMeant: (Slot) -> Bool) -> Slot? {
        var least: Slot?
        var at = Int(hash) & mask
        while slots[at].port >= 0 {
            let slot = slots[at]
            if slot.hash == hash, slot.vlan == vlan, isMeant(slot), least.map({ measure(slot) < measure($0) }) ?? true {
                least = slot
            }
            at = (at + 1) & mask
        }
        return least
    }

    mutating func insert(_ slot: Slot) {
        reserve(count + 1)
        var at = Int(slot.hash) & mask
        while slots[at].port >= 0 { at = (at + 1) & mask }
        slots[at] = slot
        count += 1
    }

    mutating func remove(_ hash: UInt32, _ vlan: UInt16, where isMeant: (Slot) -> Bool) {
        var at = Int(hash) & mask
        while slots[at].port >= 0 {
            if slots[at].hash == hash, slots[at].vlan == vlan, isMeant(slots[at]) { break }
            at = (at + 1) & mask
        }
        guard slots[at].port >= 0 else { return }
        count -= 1
        // What probed past the hole moves back into it.
        var next = (at + 1) & mask
        while slots[next].port >= 0 {
            let home = Int(slots[next].hash) & mask
            if (next - home) & mask >= (next - at) & mask {
                slots[at] = slots[next]
                at = next
            }
            next = (next + 1) & mask
        }
        slots[at] = StationTable.free
    }

    /// Makes room for so many.
    mutating func reserve(_ wanted: Int) {
        guard wanted * 2 > slots.count else { return }
        let old = slots
        var size = slots.count
        while size < wanted * 2 { size *= 2 }
        slots = Array(repeating: StationTable.free, count: size)
        mask = size - 1
        for slot in old where slot.port >= 0 {
            var at = Int(slot.hash) & mask
            while slots[at].port >= 0 { at = (at + 1) & mask }
            slots[at] = slot
        }
    }
}
