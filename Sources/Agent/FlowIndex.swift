// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// What an agent knows of a flow that it installed.
struct FlowRecord {
    var id: FlowID
    /// The key of the packet that it was decided for; deciding again begins here.
    var sample: FlowKey
    /// Position of the mask in the index's list.
    var mask: Int32
    var actions: [Action]
    var installed: UInt64
    var statistics = FlowStatistics()
    /// Installed beforehand for what may arrive by tunnel: it does not expire.
    var isStanding: Bool
    var set: Int32 = -1
    var nextInSet: Int32 = -1
    var previousInSet: Int32 = -1
    /// The rules that its packets meet.
    var way: Int32 = -1
    /// The first of its tags that are of connections.
    var firstOwn: Int32 = -1
    var isLive = true
}

/// The flows of one packet thread, found by id and by tag.
///
/// Flows of one path have the same tags and mostly the same actions, so both are kept once: a flow joins the **tag set** of
/// its path, and a tag leads to the sets that have it. Adding a flow costs two table look-ups and a place in a slab. Tags of
/// connections, which hardly any other flow has, lead to flows one by one.
struct FlowIndex: ~Copyable {
    private struct TagSet {
        var tags: [Tag]
        var hash: UInt64
        var firstFlow: Int32 = -1
        var count = 0
        /// Lists of actions that flows of the set have, the last few.
        var actions: [[Action]] = []
    }
    /// Lists of actions that a set remembers.
    private static let actionsPerSet = 8

    private var records = Slab<FlowRecord>()
    /// Places of the slab that hold a record, live or not, are below this.
    private var initialized: Int32 = 0
    /// Slots by folded id.
    private var byID = HashIndex()
    private var sets: [TagSet] = []
    private var freeSets: [Int32] = []
    /// Sets by the hash of their tags.
    private var setOfHash = HashIndex()
    private var setsOfTag: [Tag: Set<Int32>] = [:]
    /// A tag that a flow has of its own, in the list of the flow's and in that of the tag's.
    private struct OwnTag {
        var tag: UInt64
        var flow: Int32
        var nextOfFlow: Int32
        var nextOfTag: Int32
    }
    private var ownTags = Slab<OwnTag>()
    private var firstOfTag = HashIndex()
    /// Flows by port of ingress; port numbers are small.
    private var countOfPort: [Int] = []
    /// Distinct masks; records name theirs by position, since there are few.
    private var masks: [FlowMask] = []

    deinit {
        for slot in 0..<initialized { records[slot].deinitialize(count: 1) }
    }

    var count: Int { byID.count }

    /// Flows of packets that came in by a port.
    func count(ofPort port: UInt32) -> Int { countOfPort.indices.contains(Int(port)) ? countOfPort[Int(port)] : 0 }

    private mutating func countFlow(_ port: UInt32, _ change: Int) {
        let port = Int(port)
        if countOfPort.count <= port { countOfPort += Array(repeating: 0, count: port + 1 - countOfPort.count) }
        countOfPort[port] += change
    }

    /// Gives a flow other tags and leaves the rest as it is.
    mutating func retag(_ id: FlowID, _ tags: [Tag], own: [Tag] = []) {
        guard let slot = find(id) else { return }
        unlinkOwn(slot)
        linkOwn(slot, own)
        let set = self.set(of: tags)
        guard records[slot].pointee.set != set else { return }
        unlink(slot)
        link(slot, set)
    }

    func find(_ id: FlowID) -> Int32? { byID[id.folded].map { Int32($0) } }

    subscript(_ slot: Int32) -> FlowRecord { records[slot].pointee }

    func mask(of record: FlowRecord) -> FlowMask { masks[Int(record.mask)] }

    /// Notes what a flow carried so far; what that is more than before, with the rules that it met.
    @discardableResult
    func setStatistics(_ statistics: FlowStatistics, of id: FlowID) -> (way: Int32, packets: UInt64, bytes: UInt64) {
        guard let slot = find(id) else { return (-1, 0, 0) }
        let before = records[slot].pointee.statistics
        records[slot].pointee.statistics = statistics
        // One that was installed over itself begins again.
        guard statistics.packets >= before.packets, statistics.bytes >= before.bytes else {
            return (records[slot].pointee.way, statistics.packets, statistics.bytes)
        }
        return (records[slot].pointee.way, statistics.packets - before.packets, statistics.bytes - before.bytes)
    }

    /// Notes the rules that a flow's packets meet.
    func setWay(_ way: Int32, of id: FlowID) { if let slot = find(id) { records[slot].pointee.way = way } }

    /// Adds a flow, or gives the one of that id new actions and tags. The flow's actions become the instance that other
    /// flows like it have.
    mutating func put(_ flow: inout Flow, sample: FlowKey, now: UInt64, isStanding: Bool, tags: [Tag], own: [Tag] = [])
    {
        let set = self.set(of: tags)
        flow.actions = share(flow.actions, set)
        let slot: Int32
        if let known = find(flow.id) {
            slot = known
            // A set ends with its last flow: one that stays in its set must not leave it for a moment.
            if records[slot].pointee.set != set {
                unlink(slot)
                link(slot, set)
            }
            records[slot].pointee.actions = flow.actions
            records[slot].pointee.sample = sample
            if isStanding { records[slot].pointee.isStanding = true }
            unlinkOwn(slot)
        } else {
            slot = records.take()
            let record = FlowRecord(
                id: flow.id, sample: sample, mask: intern(flow.mask), actions: flow.actions, installed: now,
                isStanding: isStanding)
            if slot < initialized { records[slot].pointee = record } else { records[slot].initialize(to: record) }
            initialized = max(initialized, slot + 1)
            byID[flow.id.folded] = UInt64(slot)
            link(slot, set)
            countFlow(sample.inPort, 1)
        }
        linkOwn(slot, own)
    }

    mutating func remove(_ id: FlowID) {
        guard let slot = find(id) else { return }
        byID[id.folded] = nil
        unlink(slot)
        unlinkOwn(slot)
        countFlow(records[slot].pointee.sample.inPort, -1)
        records[slot].pointee.isLive = false
        records[slot].pointee.actions = []
        records.give(back: slot)
    }

    /// Ids of the flows that have any of the tags.
    func flows(with tags: Set<Tag>) -> [FlowID] {
        var found: Set<Int32> = []
        for tag in tags { found.formUnion(setsOfTag[tag] ?? []) }
        var ids: [FlowID] = []
        var own: Set<Int32> = []
        for tag in tags {
            var node = firstOfTag[tag.bits].map { Int32($0) } ?? -1
            while node >= 0 {
                if own.insert(ownTags[node].pointee.flow).inserted {
                    ids.append(records[ownTags[node].pointee.flow].pointee.id)
                }
                node = ownTags[node].pointee.nextOfTag
            }
        }
        for set in found {
            var slot = sets[Int(set)].firstFlow
            while slot >= 0 {
                if own.isEmpty || !own.contains(slot) { ids.append(records[slot].pointee.id) }
                slot = records[slot].pointee.nextInSet
            }
        }
        return ids
    }

    func forEach(_ body: (borrowing FlowRecord) -> Void) {
        for slot in 0..<initialized where records[slot].pointee.isLive { body(records[slot].pointee) }
    }

    private mutating func intern(_ mask: FlowMask) -> Int32 {
        for (index, known) in masks.enumerated().reversed() where known == mask { return Int32(index) }
        masks.append(mask)
        return Int32(masks.count - 1)
    }

    private mutating func share(_ actions: [Action], _ set: Int32) -> [Action] {
        for known in sets[Int(set)].actions where known == actions { return known }
        if sets[Int(set)].actions.count == FlowIndex.actionsPerSet { sets[Int(set)].actions.removeFirst() }
        sets[Int(set)].actions.append(actions)
        return actions
    }

    /// The set of these tags, in the order in which the path was walked.
    private mutating func set(of tags: [Tag]) -> Int32 {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for tag in tags { hash = mix(hash ^ tag.bits, 0xe703_7ed1_a0b4_28db) }
        while let known = setOfHash[hash] {
            if sets[Int(known)].tags == tags { return Int32(known) }
            hash = mix(hash, 0x8ebc_6af0_9c88_c6e3)
        }
        let set = TagSet(tags: tags, hash: hash)
        let index: Int32
        if let free = freeSets.popLast() {
            index = free
            sets[Int(free)] = set
        } else {
            index = Int32(sets.count)
            sets.append(set)
        }
        setOfHash[hash] = UInt64(index)
        for tag in tags { setsOfTag[tag, default: []].insert(index) }
        return index
    }

    private mutating func linkOwn(_ slot: Int32, _ tags: [Tag]) {
        for tag in tags {
            let node = ownTags.take()
            let head = firstOfTag[tag.bits].map { Int32($0) } ?? -1
            ownTags[node].initialize(
                to: OwnTag(
                    tag: tag.bits, flow: slot, nextOfFlow: records[slot].pointee.firstOwn, nextOfTag: head))
            firstOfTag[tag.bits] = UInt64(node)
            records[slot].pointee.firstOwn = node
        }
    }

    private mutating func unlinkOwn(_ slot: Int32) {
        var node = records[slot].pointee.firstOwn
        records[slot].pointee.firstOwn = -1
        while node >= 0 {
            let own = ownTags[node].pointee
            let head = firstOfTag[own.tag].map { Int32($0) } ?? -1
            if head == node {
                firstOfTag[own.tag] = own.nextOfTag >= 0 ? UInt64(own.nextOfTag) : nil
            } else {
                var before = head
                while before >= 0, ownTags[before].pointee.nextOfTag != node {
                    before = ownTags[before].pointee.nextOfTag
                }
                if before >= 0 { ownTags[before].pointee.nextOfTag = own.nextOfTag }
            }
            ownTags.give(back: node)
            node = own.nextOfFlow
        }
    }

    private mutating func link(_ slot: Int32, _ set: Int32) {
        let head = sets[Int(set)].firstFlow
        records[slot].pointee.set = set
        records[slot].pointee.nextInSet = head
        records[slot].pointee.previousInSet = -1
        if head >= 0 { records[head].pointee.previousInSet = slot }
        sets[Int(set)].firstFlow = slot
        sets[Int(set)].count += 1
    }

    private mutating func unlink(_ slot: Int32) {
        let record = records[slot]
        let set = record.pointee.set
        let next = record.pointee.nextInSet
        let previous = record.pointee.previousInSet
        if previous >= 0 { records[previous].pointee.nextInSet = next } else { sets[Int(set)].firstFlow = next }
        if next >= 0 { records[next].pointee.previousInSet = previous }
        sets[Int(set)].count -= 1
        if sets[Int(set)].count == 0 { drop(set) }
    }

    private mutating func drop(_ set: Int32) {
        // Should another set have clashed with this one's hash, it is not found any more and made once again: that costs
        // memory for a while, no correctness.
        setOfHash[sets[Int(set)].hash] = nil
        for tag in sets[Int(set)].tags {
            setsOfTag[tag]?.remove(set)
            if setsOfTag[tag]?.isEmpty == true { setsOfTag[tag] = nil }
        }
        sets[Int(set)] = TagSet(tags: [], hash: 0)
        freeSets.append(set)
    }
}
