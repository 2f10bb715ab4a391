// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// What an agent knows of a flow that it installed.
struct FlowRecord {
    var id: FlowID
    /// The key of the packet that it was decided for; deciding again begins here.
    var sample: FlowKey
    var mask: FlowMask
    var actions: [Action]
    var installed: UInt64
    var statistics = FlowStatistics()
    /// Installed beforehand for what may arrive by tunnel: it does not expire.
    var isStanding: Bool
    var firstCell: Int32 = -1
    var isLive = true
}

/// The flows of one packet thread, found by id and by tag. Records and the links between flows and tags lie in slabs;
/// adding a flow costs a few cache lines and no allocation of its own but its actions.
struct FlowIndex: ~Copyable {
    private struct Cell {
        var flow: Int32
        var tag: Tag
        var nextOfFlow: Int32
        var nextOfTag: Int32
        var previousOfTag: Int32
    }

    private var records: [FlowRecord] = []
    private var freeRecords: [Int32] = []
    private var cells: [Cell] = []
    private var freeCells: [Int32] = []
    private var byID: [FlowID: Int32] = [:]
    private var firstOfTag: [Tag: Int32] = [:]

    var count: Int { byID.count }

    func find(_ id: FlowID) -> Int32? { byID[id] }
    subscript(_ slot: Int32) -> FlowRecord {
        get { records[Int(slot)] }
        set { records[Int(slot)] = newValue }
    }

    mutating func setStatistics(_ statistics: FlowStatistics, of id: FlowID) {
        if let slot = byID[id] { records[Int(slot)].statistics = statistics }
    }

    /// Adds a flow, or gives the one of that id new actions and tags.
    mutating func put(_ record: FlowRecord, tags: [Tag]) {
        let slot: Int32
        if let known = byID[record.id] {
            slot = known
            unlink(slot)
            let old = records[Int(slot)]
            records[Int(slot)] = record
            records[Int(slot)].installed = old.installed
            records[Int(slot)].statistics = old.statistics
            records[Int(slot)].isStanding = old.isStanding || record.isStanding
        } else {
            if let free = freeRecords.popLast() {
                slot = free
                records[Int(slot)] = record
            } else {
                slot = Int32(records.count)
                records.append(record)
            }
            byID[record.id] = slot
        }
        link(slot, tags)
    }

    mutating func remove(_ id: FlowID) {
        guard let slot = byID.removeValue(forKey: id) else { return }
        unlink(slot)
        records[Int(slot)].isLive = false
        records[Int(slot)].actions = []
        freeRecords.append(slot)
    }

    /// Ids of the flows that have any of the tags.
    func flows(with tags: Set<Tag>) -> [FlowID] {
        var found: Set<FlowID> = []
        for tag in tags {
            var cell = firstOfTag[tag] ?? -1
            while cell >= 0 {
                found.insert(records[Int(cells[Int(cell)].flow)].id)
                cell = cells[Int(cell)].nextOfTag
            }
        }
        return Array(found)
    }

    func forEach(_ body: (FlowRecord) -> Void) {
        for record in records where record.isLive { body(record) }
    }

    private mutating func link(_ slot: Int32, _ tags: [Tag]) {
        var first: Int32 = -1
        for (index, tag) in tags.enumerated() {
            // Tags repeat when a packet crosses a device twice; lists are short, so looking back is cheapest.
            if tags[..<index].contains(tag) { continue }
            let head = firstOfTag[tag] ?? -1
            let cell = Cell(flow: slot, tag: tag, nextOfFlow: first, nextOfTag: head, previousOfTag: -1)
            let at: Int32
            if let free = freeCells.popLast() {
                at = free
                cells[Int(at)] = cell
            } else {
                at = Int32(cells.count)
                cells.append(cell)
            }
            if head >= 0 { cells[Int(head)].previousOfTag = at }
            firstOfTag[tag] = at
            first = at
        }
        records[Int(slot)].firstCell = first
    }

    private mutating func unlink(_ slot: Int32) {
        var at = records[Int(slot)].firstCell
        while at >= 0 {
            let cell = cells[Int(at)]
            if cell.previousOfTag >= 0 {
                cells[Int(cell.previousOfTag)].nextOfTag = cell.nextOfTag
            } else if cell.nextOfTag >= 0 {
                firstOfTag[cell.tag] = cell.nextOfTag
            } else {
                firstOfTag[cell.tag] = nil
            }
            if cell.nextOfTag >= 0 { cells[Int(cell.nextOfTag)].previousOfTag = cell.previousOfTag }
            freeCells.append(at)
            at = cell.nextOfFlow
        }
        records[Int(slot)].firstCell = -1
    }
}
