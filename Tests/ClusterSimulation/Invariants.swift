// SPDX-License-Identifier: Apache-2.0
import Consensus

/// What must hold after every step of every member.
struct Invariants {
    /// The first thing that did not.
    private(set) var violation: String?
    /// What is committed, by place; the first entry has place 1.
    var committed: [Entry] = []
    /// The term in which each was committed.
    var committedIn: [Term] = []
    private var leaders: [Term: NodeID] = [:]
    /// The highest term that each member's disk has had.
    private var terms: [NodeID: Term] = [:]

    mutating func fail(_ reason: String) { if violation == nil { violation = reason } }

    /// A member starts from its disk.
    mutating func started(_ node: SimulatedNode) {
        if node.disk.hard.term < terms[node.id] ?? 0 { fail("\(node.id) forgot its term") }
        terms[node.id] = node.disk.hard.term
    }

    mutating func stepped(
        _ node: SimulatedNode, before: (commit: LogIndex, status: Status, last: LogPosition), _ world: World
    ) {
        guard let raft = node.raft else { return }
        if raft.last.index < before.last.index { world.count("truncation") }
        if raft.commit < before.commit { return fail("\(node.id) takes back its commit index") }
        if raft.commit > raft.last.index { return fail("\(node.id) commits what it does not have") }
        if raft.status.role == .leader, before.status.role != .leader || before.status.term != raft.status.term {
            elected(node, raft, world)
        }
        if raft.commit > before.commit {
            commits(node, raft, before)
            // One that was a leader until this step may have it from the next leader, whose members it need not know yet; that
            // one was asked when it committed.
            if before.status.role == .leader, before.status.term == raft.status.term {
                checkQuorum(node, raft, world)
            }
        }
    }

    private mutating func elected(_ node: SimulatedNode, _ raft: Raft, _ world: World) {
        world.count("election")
        if let other = leaders[raft.status.term], other != node.id {
            return fail("\(other) and \(node.id) both lead in term \(raft.status.term)")
        }
        leaders[raft.status.term] = node.id
        // Leader completeness: everything that is committed is in its log.
        // One that was elected long ago and hears of it only now need not have what later terms committed.
        for (entry, term) in zip(committed, committedIn).reversed() where term < raft.status.term {
            if entry.index <= raft.base.position.index { break }
            if raft.term(at: entry.index) != entry.term {
                return fail("\(node.id) leads term \(raft.status.term) without the committed entry \(entry.index)")
            }
        }
    }

    private mutating func commits(
        _ node: SimulatedNode, _ raft: Raft, _ before: (commit: LogIndex, status: Status, last: LogPosition)
    ) {
        for index in before.commit + 1...raft.commit {
            guard let entry = raft.entry(at: index) else { continue }
            if index <= committed.count {
                if committed[Int(index) - 1] != entry {
                    return fail("\(node.id) commits \(entry) where \(committed[Int(index) - 1]) is committed")
                }
            } else {
                committed.append(entry)
                committedIn.append(raft.status.term)
            }
        }
    }

    mutating func applied(_ node: SimulatedNode, _ entry: Entry) {
        guard entry.index <= committed.count, committed[Int(entry.index) - 1] == entry else {
            return fail("\(node.id) applies \(entry), which is not committed")
        }
    }

    /// A leader that commits by counting must be right about the disks of a quorum.
    mutating func checkQuorum(_ node: SimulatedNode, _ raft: Raft, _ world: World) {
        let index = raft.commit
        guard let term = raft.term(at: index) else { return }
        let has = raft.members.hasQuorum { member in
            guard let disk = world.nodes[member]?.disk else { return false }
            return disk.base.position.index >= index || disk.term(at: index) == term
        }
        if !has { fail("\(node.id) commits \(index) of term \(term), which no quorum has") }
    }
}
