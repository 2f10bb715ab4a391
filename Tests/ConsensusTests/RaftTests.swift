// SPDX-License-Identifier: Apache-2.0
import Consensus
import Testing

/// One member, stepped by hand. Its disk is as quick as asked.
private struct Member {
    var raft: Raft
    var effects: [Effect] = []
    let ids: [NodeID]

    /// Member 1 of `count`, with a log of entries of these terms behind the entry that names the members.
    init(of count: Int, terms: [Term] = [], term: Term = 1, faults: Set<Fault> = []) {
        ids = (1...UInt64(count)).map(NodeID.init)
        var options = RaftOptions()
        options.electionTicks = 10
        options.heartbeatTicks = 2
        options.faults = faults
        var entries = [Entry(term: 1, index: 1, content: .members(Members(voters: ids)))]
        for (offset, term) in terms.enumerated() {
            entries.append(Entry(term: term, index: UInt64(offset + 2), content: .nothing))
        }
        raft = Raft(
            id: ids[0], hard: HardState(term: term), snapshot: SnapshotInfo(position: .zero, members: Members()),
            entries: entries, applied: 0, options: options, seed: 1)
    }

    /// Steps; what there is to write is durable at once, unless told otherwise.
    mutating func step(_ input: Input, writes: Bool = true) {
        effects.removeAll()
        raft.step(input, &effects)
        while writes, let number = lastWrite, number > written {
            written = number
            raft.step(.written(number), &effects)
        }
    }
    private var written: UInt64 = 0
    var lastWrite: UInt64? {
        effects.compactMap { effect in if case .write(let write) = effect { write.number } else { nil } }.last
    }
    var sent: [Message] {
        effects.compactMap { effect in if case .send(let message) = effect { message } else { nil } }
    }

    mutating func receive(_ from: Int, term: Term, _ body: Message.Body) {
        step(.receive(Message(from: ids[from - 1], to: ids[0], term: term, body: body)))
    }

    /// Waits until it stands for election and lets the others elect it.
    mutating func elect() {
        for _ in 0..<40 where raft.status.role == .follower { step(.tick) }
        for other in 2...max(2, ids.count) where raft.status.role == .preCandidate {
            receive(other, term: raft.status.term + 1, .preVoteAnswer(granted: true))
        }
        for other in 2...max(2, ids.count) where raft.status.role == .candidate {
            receive(other, term: raft.status.term, .voteAnswer(granted: true))
        }
    }
}

@Suite struct RaftTests {
    @Test(arguments: [false, true])
    func `counting commits entries of the leader's own term only`(_ isFaulty: Bool) {
        // The log has an entry of term 2 that an earlier leader left on a minority.
        var member = Member(of: 3, terms: [2], term: 2, faults: isFaulty ? [.commitsOldTerms] : [])
        member.elect()
        #expect(member.raft.status == Status(role: .leader, term: 3, leader: NodeID(1)))
        member.receive(2, term: 3, .appended(2))
        #expect(member.raft.commit == (isFaulty ? 2 : 0), "a majority has it, and yet it may be replaced")
        member.receive(2, term: 3, .appended(3))
        #expect(member.raft.commit == 3, "with an entry of its own all before are committed")
    }

    @Test(arguments: [false, true])
    func `the only voter leads when its vote is durable, not before`(_ isFaulty: Bool) {
        var member = Member(of: 1, faults: isFaulty ? [.countsOwnVoteBeforeWriting] : [])
        for _ in 0..<40 where member.raft.status.role == .follower { member.step(.tick, writes: false) }
        #expect(member.raft.status.role == (isFaulty ? .leader : .candidate))
        if let number = member.lastWrite { member.step(.written(number)) }
        #expect(member.raft.status.role == .leader)
    }

    @Test(arguments: [false, true])
    func `members whose entry is taken back are members no more`(_ isFaulty: Bool) {
        var member = Member(of: 3, faults: isFaulty ? [.keepsTakenBackMembers] : [])
        let old = member.raft.members
        let alone = Members(voters: [NodeID(1)])
        member.receive(
            2, term: 2,
            .append(
                previous: LogPosition(term: 1, index: 1),
                entries: [Entry(term: 2, index: 2, content: .members(alone))], commit: 1))
        #expect(member.raft.members == alone, "what the log says is in force before it is committed")
        member.receive(
            3, term: 3,
            .append(
                previous: LogPosition(term: 1, index: 1), entries: [Entry(term: 3, index: 2, content: .nothing)],
                commit: 1))
        #expect(member.raft.members == (isFaulty ? alone : old))
    }

    @Test(arguments: [false, true])
    func `a member that is removed stands for election until that is committed`(_ isFaulty: Bool) {
        // The others may lack the entry that removes it, and then its log is the only one that they can follow.
        var member = Member(of: 3, faults: isFaulty ? [.resignsTooSoon] : [])
        let others = Members(voters: [NodeID(2), NodeID(3)])
        let removal = Entry(term: 2, index: 2, content: .members(others))
        let before = LogPosition(term: 1, index: 1)
        member.receive(2, term: 2, .append(previous: before, entries: [removal], commit: 1))
        for _ in 0..<40 where member.raft.status.role == .follower { member.step(.tick) }
        #expect(member.raft.status.role == (isFaulty ? .follower : .preCandidate))
        member.receive(2, term: 3, .heartbeat(commit: 2, round: 0))
        member.receive(2, term: 3, .append(previous: LogPosition(term: 2, index: 2), entries: [], commit: 2))
        for _ in 0..<40 where member.raft.status.role == .follower { member.step(.tick) }
        #expect(member.raft.status.role == .follower, "what removed it is committed")
    }

    @Test func `a vote and an acknowledgement leave when they are durable`() {
        var member = Member(of: 3)
        member.step(
            .receive(
                Message(
                    from: NodeID(2), to: NodeID(1), term: 2,
                    body: .vote(last: LogPosition(term: 1, index: 1), isForced: false))), writes: false)
        #expect(member.sent.isEmpty)
        let number = member.lastWrite ?? 0
        member.step(.written(number), writes: false)
        #expect(member.sent.map(\.body) == [.voteAnswer(granted: true)])
        member.step(
            .receive(
                Message(
                    from: NodeID(2), to: NodeID(1), term: 2,
                    body: .append(
                        previous: LogPosition(term: 1, index: 1),
                        entries: [Entry(term: 2, index: 2, content: .nothing)], commit: 0))), writes: false)
        #expect(member.sent.isEmpty)
        member.step(.written(number + 1), writes: false)
        #expect(member.sent.map(\.body) == [.appended(2)])
    }

    @Test func `a member that hears its leader is not moved by one that does not`() {
        var member = Member(of: 3)
        member.receive(2, term: 2, .heartbeat(commit: 0, round: 0))
        member.receive(3, term: 3, .preVote(last: LogPosition(term: 9, index: 9)))
        #expect(member.sent.map(\.body) == [.preVoteAnswer(granted: false)])
        member.receive(3, term: 9, .vote(last: LogPosition(term: 9, index: 9), isForced: false))
        #expect(member.sent.isEmpty)
        #expect(member.raft.status.term == 2)
        // The leader itself may ask for it.
        member.receive(3, term: 9, .vote(last: LogPosition(term: 9, index: 9), isForced: true))
        #expect(member.sent.map(\.body) == [.voteAnswer(granted: true)])
    }

    @Test func `a leader that no majority hears leads no more`() {
        var member = Member(of: 3)
        member.elect()
        for _ in 0..<25 { member.step(.tick) }
        #expect(member.raft.status.role != .leader)
    }

    @Test(arguments: [
        (LogPosition(term: 0, index: 0), true), (LogPosition(term: 1, index: 1), true),
        (LogPosition(term: 2, index: 2), true), (LogPosition(term: 1, index: 2), false),
        (LogPosition(term: 3, index: 3), false),
    ])
    func `entries are taken behind a place that both logs have, and nowhere else`(
        _ previous: LogPosition, _ isTaken: Bool
    ) {
        var member = Member(of: 3, terms: [2], term: 2)
        member.receive(2, term: 3, .append(previous: previous, entries: [], commit: 0))
        let isRefused = member.sent.contains { if case .refused = $0.body { true } else { false } }
        #expect(isRefused == !isTaken)
    }
}
