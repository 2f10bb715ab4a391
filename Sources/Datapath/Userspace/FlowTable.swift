// SPDX-License-Identifier: Apache-2.0
import Wire

/// A flow in the userspace engine; lives at one place in memory until it is freed.
struct FlowEntry {
    var key: FlowKey
    var id: FlowID
    var subtable: Int32
    var isDead = false
    var program: Program
    var packets: UInt64 = 0
    var bytes: UInt64 = 0
    var used: UInt64 = 0
    var tcpFlags: UInt16 = 0
}

typealias FlowPointer = UnsafeMutablePointer<FlowEntry>

/// The flows of one packet thread: a tuple-space classifier, one hash table for each distinct mask, with an exact-match
/// cache in front. Confined to its thread.
///
/// A removed flow stays allocated until the cache has forgotten it, so a cache hit needs no check but one flag.
final class FlowTable {
    /// One mask and the flows under it; open addressing, at most half full, null where free.
    struct Subtable {
        var mask: FlowMask
        /// Indices of the words in which the mask has bits, packed.
        var words: InlineArray<20, UInt8>
        var wordCount: Int
        var slots: UnsafeMutablePointer<FlowPointer?>
        var capacity: Int
        var count: Int
        /// Hits since the order was last looked at.
        var hits: UInt64
    }

    /// An entry of the exact-match cache.
    struct CacheSlot {
        var key: FlowKey
        var flow: FlowPointer?
    }

    /// Entries of the exact-match cache; a power of two. 176 bytes each.
    static let cacheSize = 4096
    /// Dead flows kept before the cache is emptied to free them.
    static let graveyardLimit = 1024

    private let cache: UnsafeMutablePointer<CacheSlot>
    private var subtables: UnsafeMutablePointer<Subtable>
    private var subtableCapacity = 8
    private(set) var subtableCount = 0
    /// Flow pointers by folded id.
    private var byID = HashIndex()
    private var graveyard: [FlowPointer] = []
    /// Programs of the last lists of actions, by the list's own place in memory: whoever installs many flows of one path
    /// gives them one list.
    private var recent: [(actions: [Action], program: Program)] = []
    private var nextRecent = 0
    private static let recentLimit = 16

    init() {
        cache = .allocate(capacity: FlowTable.cacheSize)
        cache.initialize(repeating: CacheSlot(key: FlowKey(), flow: nil), count: FlowTable.cacheSize)
        subtables = .allocate(capacity: subtableCapacity)
    }

    deinit {
        byID.forEachValue { FlowTable.free(FlowTable.pointer($0)) }
        for flow in graveyard { FlowTable.free(flow) }
        for entry in recent { entry.program.free() }
        for index in 0..<subtableCount { subtables[index].slots.deallocate() }
        subtables.deallocate()
        cache.deallocate()
    }

    var count: Int { byID.count }

    private static func pointer(_ bits: UInt64) -> FlowPointer {
        // Only pointers that install() put there are in the index.
        FlowPointer(bitPattern: UInt(bits)).unsafelyUnwrapped
    }

    private static func free(_ flow: FlowPointer) {
        flow.pointee.program.free()
        flow.deallocate()
    }

    // MARK: - Lookup

    /// The flow that holds a key.
    @inline(__always)
    func lookup(_ key: borrowing FlowKey, hash: UInt64) -> FlowPointer? {
        let slot = cache + Int(truncatingIfNeeded: hash & UInt64(FlowTable.cacheSize - 1))
        if let flow = slot.pointee.flow, slot.pointee.key == key, !flow.pointee.isDead { return flow }
        guard let flow = classify(key) else { return nil }
        slot.pointee.key = copy key
        slot.pointee.flow = flow
        return flow
    }

    @inline(never)
    private func classify(_ key: borrowing FlowKey) -> FlowPointer? {
        for index in 0..<subtableCount {
            let table = subtables + index
            var at = Int(truncatingIfNeeded: FlowTable.hash(key, table)) & (table.pointee.capacity - 1)
            while let flow = table.pointee.slots[at] {
                if FlowTable.matches(key, flow, table) {
                    table.pointee.hits &+= 1
                    return flow
                }
                at = (at + 1) & (table.pointee.capacity - 1)
            }
        }
        return nil
    }

    @inline(__always)
    private static func hash(_ key: borrowing FlowKey, _ table: UnsafeMutablePointer<Subtable>) -> UInt64 {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for index in 0..<table.pointee.wordCount {
            let word = Int(table.pointee.words[index])
            hash = mix(hash ^ (key.words[word] & table.pointee.mask.bits.words[word]), 0xe703_7ed1_a0b4_28db)
        }
        return hash
    }

    @inline(__always)
    private static func matches(
        _ key: borrowing FlowKey, _ flow: FlowPointer, _ table: UnsafeMutablePointer<Subtable>
    ) -> Bool {
        var difference: UInt64 = 0
        for index in 0..<table.pointee.wordCount {
            let word = Int(table.pointee.words[index])
            difference |= (key.words[word] & table.pointee.mask.bits.words[word]) ^ flow.pointee.key.words[word]
        }
        return difference == 0
    }

    // MARK: - Change

    /// The program of a list of actions, shared where the very list was seen lately.
    private func program(for actions: [Action]) -> Program {
        let place = actions.withUnsafeBufferPointer { $0.baseAddress }
        for entry in recent where entry.actions.withUnsafeBufferPointer({ $0.baseAddress }) == place {
            if entry.actions.count == actions.count { return entry.program.share() }
        }
        let program = Program(actions)
        if recent.count < FlowTable.recentLimit {
            recent.append((actions, program.share()))
        } else {
            recent[nextRecent].program.free()
            recent[nextRecent] = (actions, program.share())
            nextRecent = (nextRecent + 1) % FlowTable.recentLimit
        }
        return program
    }

    /// Installs a flow, or gives the flow of that id new actions and keeps its counters.
    func install(_ flow: borrowing Flow) {
        if let known = byID[flow.id.folded].map(FlowTable.pointer) {
            known.pointee.program.free()
            known.pointee.program = program(for: flow.actions)
            return
        }
        let index = subtable(for: flow.mask)
        let pointer = FlowPointer.allocate(capacity: 1)
        pointer.initialize(
            to: FlowEntry(key: flow.key, id: flow.id, subtable: Int32(index), program: program(for: flow.actions)))
        byID[flow.id.folded] = UInt64(UInt(bitPattern: pointer))
        insert(pointer, index)
    }

    func remove(_ id: FlowID) {
        guard let flow = byID[id.folded].map(FlowTable.pointer) else { return }
        byID[id.folded] = nil
        flow.pointee.isDead = true
        unlink(flow)
        graveyard.append(flow)
        if graveyard.count >= FlowTable.graveyardLimit { emptyGraveyard() }
    }

    /// Frees removed flows; the cache forgets everything, because it may still point to them.
    func emptyGraveyard() {
        if graveyard.isEmpty { return }
        for index in 0..<FlowTable.cacheSize { cache[index].flow = nil }
        for flow in graveyard { FlowTable.free(flow) }
        graveyard.removeAll(keepingCapacity: true)
    }

    func forEach(_ body: (FlowPointer) -> Void) {
        byID.forEachValue { body(FlowTable.pointer($0)) }
    }

    /// Brings the masks that are hit most to the front. Where flows overlap they agree, so any order is right.
    func reorder() {
        for index in 1..<max(1, subtableCount) where subtables[index].hits > subtables[index - 1].hits {
            let other = subtables[index - 1]
            subtables[index - 1] = subtables[index]
            subtables[index] = other
            renumber(index)
            renumber(index - 1)
        }
        for index in 0..<subtableCount { subtables[index].hits /= 2 }
    }

    private func renumber(_ index: Int) {
        for at in 0..<subtables[index].capacity { subtables[index].slots[at]?.pointee.subtable = Int32(index) }
    }

    private func subtable(for mask: FlowMask) -> Int {
        for index in 0..<subtableCount where subtables[index].mask == mask { return index }
        if subtableCount == subtableCapacity {
            let larger = UnsafeMutablePointer<Subtable>.allocate(capacity: subtableCapacity * 2)
            larger.moveInitialize(from: subtables, count: subtableCount)
            subtables.deallocate()
            subtables = larger
            subtableCapacity *= 2
        }
        var words = InlineArray<20, UInt8>(repeating: 0)
        var count = 0
        for word in 0..<FlowKey.wordCount where mask.bits.words[word] != 0 {
            words[count] = UInt8(word)
            count += 1
        }
        let capacity = 16
        let slots = UnsafeMutablePointer<FlowPointer?>.allocate(capacity: capacity)
        slots.initialize(repeating: nil, count: capacity)
        (subtables + subtableCount).initialize(
            to: Subtable(
                mask: mask, words: words, wordCount: count, slots: slots, capacity: capacity, count: 0, hits: 0))
        subtableCount += 1
        return subtableCount - 1
    }

    private func insert(_ flow: FlowPointer, _ index: Int) {
        let table = subtables + index
        if (table.pointee.count + 1) * 2 > table.pointee.capacity { grow(table) }
        place(flow, table)
        table.pointee.count += 1
    }

    private func place(_ flow: FlowPointer, _ table: UnsafeMutablePointer<Subtable>) {
        let capacity = table.pointee.capacity
        var at = Int(truncatingIfNeeded: FlowTable.hash(flow.pointee.key, table)) & (capacity - 1)
        while table.pointee.slots[at] != nil { at = (at + 1) & (capacity - 1) }
        table.pointee.slots[at] = flow
    }

    private func grow(_ table: UnsafeMutablePointer<Subtable>) {
        let old = table.pointee.slots
        let oldCapacity = table.pointee.capacity
        table.pointee.capacity = oldCapacity * 2
        table.pointee.slots = .allocate(capacity: oldCapacity * 2)
        table.pointee.slots.initialize(repeating: nil, count: oldCapacity * 2)
        for at in 0..<oldCapacity {
            if let flow = old[at] { place(flow, table) }
        }
        old.deallocate()
    }

    /// Takes a flow out of its subtable by shifting back what probed past it; an empty subtable goes.
    private func unlink(_ flow: FlowPointer) {
        let index = Int(flow.pointee.subtable)
        let table = subtables + index
        let wrap = table.pointee.capacity - 1
        var at = Int(truncatingIfNeeded: FlowTable.hash(flow.pointee.key, table)) & wrap
        while let found = table.pointee.slots[at], found != flow { at = (at + 1) & wrap }
        guard table.pointee.slots[at] != nil else { return }
        table.pointee.slots[at] = nil
        table.pointee.count -= 1
        var next = (at + 1) & wrap
        while let moved = table.pointee.slots[next] {
            table.pointee.slots[next] = nil
            place(moved, table)
            next = (next + 1) & wrap
        }
        if table.pointee.count == 0 {
            table.pointee.slots.deallocate()
            subtableCount -= 1
            if index != subtableCount {
                subtables[index] = subtables[subtableCount]
                renumber(index)
            }
        }
    }
}
