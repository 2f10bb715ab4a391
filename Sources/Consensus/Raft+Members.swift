// SPDX-License-Identifier: Apache-2.0

/// Who belongs to the cluster (section 6). What the log says last is in force, committed or not, so that two majorities
/// that overlap are needed all the way.
extension Raft {
    /// Whether a change of members may begin: the last one is over, and this leader has committed in its term. Without the
    /// latter two leaders could each change from a configuration that the other never had.
    public var canChange: Bool {
        role == .leader && transfer == nil && !members.isJoint && log.membersIndex <= commit && hasCommittedInTerm
    }

    var hasCommittedInTerm: Bool { log.term(at: commit) == term }

    mutating func change(_ list: [Members.Member], _ number: UInt64, _ effects: inout [Effect]) {
        guard role == .leader else { return effects.append(.refused(number: number, .notLeader(leader))) }
        guard canChange else { return effects.append(.refused(number: number, .changing)) }
        let target = Members(list)
        guard !target.voters.isEmpty else { return effects.append(.refused(number: number, .noVoters)) }
        effects.append(
            .accepted(number: number, first: LogPosition(term: term, index: log.lastIndex + 1)))
        enter(target, &effects)
    }

    private mutating func enter(_ target: Members, _ effects: inout [Effect]) {
        var next = target
        // Learners alone decide nothing; voters change through both majorities.
        if target.voters != members.voters { next.outgoing = members.voters }
        enteredJoint = next.isJoint
        appendMembers(next, &effects)
    }

    private mutating func appendMembers(_ members: Members, _ effects: inout [Effect]) {
        appendToLog([Entry(term: term, index: log.lastIndex + 1, content: .members(members))])
        let before = progress.keys.sorted()
        followMembers()
        for peer in before where progress[peer] == nil { effects.append(.closeSnapshot(to: peer)) }
        for peer in progress.keys.sorted() { replicate(to: peer, &effects) }
    }

    /// Goes on with a change as soon as its entry is committed: leaves the joint configuration, whoever entered it; and
    /// steps down when this member votes no more.
    mutating func finishChange(_ effects: inout [Effect]) {
        guard role == .leader, log.membersIndex <= commit else { return }
        if members.isJoint {
            if has(.staysJoint), !enteredJoint { return }
            // Not before an entry of this term is committed: until then this leader does not know what is.
            guard hasCommittedInTerm else { return }
            appendMembers(Members(members.list), &effects)
            return advanceCommit(&effects)
        }
        if members.role(of: id) != .voter, !has(.countsItselfWhenRemoved), hasCommittedInTerm {
            // The one who is furthest goes on, without waiting for the time of an election.
            let best = members.voters.max {
                (progress[$0]?.match ?? 0, $1) < (progress[$1]?.match ?? 0, $0)
            }
            for peer in progress.keys.sorted() { effects.append(.send(heartbeat(to: peer))) }
            if let best { sendCampaign(best, &effects) }
            becomeFollower(term, nil, &effects)
        }
    }

    /// Makes members that wait for it voters when they have caught up and stayed so.
    mutating func promote(_ effects: inout [Effect]) {
        var ready: [NodeID] = []
        for member in members.list where member.role == .joining {
            guard var known = progress[member.id] else { continue }
            let isClose =
                known.mode == .replicate && known.silence <= 2 * options.heartbeatTicks
                && known.match + options.promotionLag >= log.lastIndex
            known.closeTicks = isClose ? known.closeTicks + 1 : 0
            if known.closeTicks >= options.promotionTicks { ready.append(member.id) }
            progress[member.id] = known
        }
        guard !ready.isEmpty, canChange else { return }
        var target = members
        for member in ready { target.set(member, .voter) }
        enter(target, &effects)
    }
}
