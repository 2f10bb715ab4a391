// SPDX-License-Identifier: Apache-2.0
import Consensus
import TestSupport

/// What goes wrong in a life, and what the operator does meanwhile.
extension World {
    func makeFault() {
        let pause: ClosedRange<UInt64> = isStormy ? 10_000...350_000 : 20_000...500_000
        schedule(.fault, in: UInt64.random(in: pause, using: &faultRandom))
        let alive = nodes.values.filter { $0.raft != nil }.sorted { $0.id < $1.id }
        guard var victim = alive.randomElement(using: &faultRandom) else { return }
        // The leader is where it hurts most.
        if isStormy, let leader = alive.first(where: { $0.raft?.status.role == .leader }) { victim = leader }
        let longest: UInt64 = isStormy ? 120_000 : 900_000
        switch Int.random(in: 0..<16, using: &faultRandom) {
        case 0, 1:
            crash(victim)
            schedule(.restart(victim.id), in: UInt64.random(in: 1_000...longest, using: &faultRandom))
        case 2:
            // The power of all goes: seldom, since a cluster that is down finds nothing.
            guard Int.random(in: 0..<4, using: &faultRandom) == 0 else { return }
            count("blackout")
            for node in alive { crash(node) }
            for node in alive {
                schedule(.restart(node.id), in: UInt64.random(in: 1_000...500_000, using: &faultRandom))
            }
        case 3: partition()
        case 4:
            // Alone it goes on for a while, with what clients ask of it.
            count("isolation")
            let isOneWay = Bool.random(using: &faultRandom)
            let companion = alive.randomElement(using: &faultRandom)?.id ?? victim.id
            for id in nodes.keys where id != victim.id && id != companion {
                for own in [victim.id, companion] {
                    cuts.insert(Cut(from: own, to: id))
                    if !isOneWay { cuts.insert(Cut(from: id, to: own)) }
                }
            }
            note("\(victim.id) is cut off\(isOneWay ? " one way" : ""), with \(companion)")
            // A change of members that only these hear of, and that will be taken back.
            if Bool.random(using: &faultRandom) { operate(on: victim) }
            schedule(.heal, in: UInt64.random(in: 100_000...600_000, using: &faultRandom))
        case 5, 6: schedule(.heal, in: 0)
        case 7:
            count("pause")
            victim.pausedUntil = now + UInt64.random(in: 10_000...700_000, using: &faultRandom)
            note("\(victim.id) pauses")
        case 8:
            count("disk failure")
            victim.step(.diskFailed, self)
            crash(victim)
            schedule(.restart(victim.id), in: UInt64.random(in: 1_000...longest, using: &faultRandom))
        case 9:
            guard let leader = alive.first(where: { $0.raft?.status.role == .leader }) else { return }
            crash(leader)
            schedule(.restart(leader.id), in: UInt64.random(in: 1_000...longest, using: &faultRandom))
        case 10:
            // The clock jumps: much time passes at once.
            count("clock jump")
            note("the clock of \(victim.id) jumps")
            let life = victim.life
            for _ in 0..<Int.random(in: 1...40, using: &faultRandom) where victim.life == life {
                victim.step(.tick, self)
            }
        case 11:
            // Connections break; most of the time the one to the leader is what matters.
            count("connection lost")
            let gone = alive.first { $0.raft?.status.role == .leader }?.id ?? victim.id
            for node in alive where Bool.random(using: &faultRandom) { node.step(.lost(gone), self) }
        case 12:
            // The disk is full: the write fails, nothing is lost, and somebody makes room.
            count("disk full")
            victim.step(.halt("the disk is full"), self)
            schedule(.repair(victim.id, life: victim.life), in: UInt64.random(in: 1_000...longest, using: &faultRandom))
        case 13: wipe(victim)
        default: victim.checkpoint(self)
        }
    }

    /// A disk is replaced by an empty one. Its member stays down and is removed, while the others still are a majority.
    private func wipe(_ victim: SimulatedNode) {
        guard wiped == nil, Int.random(in: 0..<4, using: &faultRandom) == 0 else { return }
        // Every configuration that may be in force must do without it.
        let configurations = nodes.values.compactMap { $0.raft?.members }
        guard configurations.count == nodes.count,
            configurations.allSatisfy({ !$0.isJoint && ($0.voters.count >= 3 || !$0.isVoter(victim.id)) }),
            Set(configurations.map(\.voters)).count == 1
        else { return }
        count("wiped disk")
        note("\(victim.id) loses its disk")
        crash(victim)
        wiped = victim.id
    }

    private func partition() {
        count("partition")
        cuts.removeAll()
        let ids = nodes.keys.sorted()
        let isOneWay = Bool.random(using: &faultRandom)
        let side = Set(ids.filter { _ in Bool.random(using: &faultRandom) })
        for a in ids where side.contains(a) {
            for b in ids where !side.contains(b) {
                cuts.insert(Cut(from: a, to: b))
                if !isOneWay { cuts.insert(Cut(from: b, to: a)) }
            }
        }
        if isStormy { schedule(.heal, in: UInt64.random(in: 100_000...600_000, using: &faultRandom)) }
        note("partition \(isOneWay ? "one way " : "")\(side.sorted())")
    }

    /// The operator adds, removes, hands over, whatever the cluster makes of it.
    func operate() {
        // A member that is gone for good is removed also when all else is quiet.
        guard isFaulty || wiped != nil else { return }
        let pause: ClosedRange<UInt64> = isStormy ? 20_000...300_000 : 100_000...900_000
        schedule(.operate, in: UInt64.random(in: pause, using: &faultRandom))
        let leaders = nodes.values.filter { $0.raft?.status.role == .leader && $0.pausedUntil <= now }.sorted {
            $0.id < $1.id
        }
        if let leader = leaders.randomElement(using: &faultRandom) { operate(on: leader) }
    }

    private func addEmptyNode() -> NodeID {
        let id = NodeID(nextNodeID)
        nextNodeID += 1
        addNode(
            id,
            SimulatedDisk(hard: HardState(), base: SnapshotInfo(position: .zero, members: Members()), entries: []))
        return id
    }

    private func operate(on leader: SimulatedNode) {
        guard let members = leader.raft?.members else { return }
        var target = members
        if let wiped {
            // First things first: nobody else goes while one is gone for good.
            guard members.all.contains(wiped) else { return }
            target.set(wiped, nil)
            count("removal of a wiped member")
            return leader.step(.change(target.list, number: leader.nextNumber()), self)
        }
        let others = members.list.map(\.id).filter { $0 != leader.id }
        switch Int.random(in: 0..<7, using: &faultRandom) {
        case 0, 1:
            guard members.list.count < 6 else { return }
            let id = addEmptyNode()
            target.set(id, Bool.random(using: &faultRandom) ? .joining : .voter)
        case 2:
            guard members.voters.count > 2, let gone = others.randomElement(using: &faultRandom) else { return }
            target.set(gone, nil)
        case 3:
            guard members.voters.count > 2 else { return }
            target.set(leader.id, nil)
        case 4:
            // Several at once: one goes, one comes, one only listens from now on.
            guard let gone = others.randomElement(using: &faultRandom) else { return }
            let id = addEmptyNode()
            target.set(gone, .learner)
            target.set(id, .voter)
        case 5:
            guard let learner = members.list.first(where: { $0.role == .learner }) else { return }
            target.set(learner.id, .voter)
        default:
            guard let to = others.randomElement(using: &faultRandom) else { return }
            count("transfer")
            note("\(leader.id) is to hand over to \(to)")
            return leader.step(.transfer(to: to, number: leader.nextNumber()), self)
        }
        count("member change")
        note("\(leader.id) is to change members to \(target.list.map { "\($0.id) \($0.role)" })")
        leader.step(.change(target.list, number: leader.nextNumber()), self)
    }
}
