// SPDX-License-Identifier: Apache-2.0

extension Raft {
    // MARK: - Becoming

    mutating func becomeFollower(_ newTerm: Term, _ newLeader: NodeID?, _ effects: inout [Effect]) {
        if newTerm > term { setHard(term: newTerm, vote: nil) }
        if role == .leader {
            failReads(&effects)
            for peer in progress.keys.sorted() {
                if case .snapshot = progress[peer]?.mode { effects.append(.closeSnapshot(to: peer)) }
            }
            progress.removeAll()
            if let number = transfer?.number { effects.append(.transferred(number: number)) }
            // The one who led proposes nothing more under this flag; a leader that left it set would refuse for ever.
            if !has(.neverEndsTransfer) { transfer = nil }
        }
        role = .follower
        leader = newLeader
        votes.removeAll()
        if newLeader != nil { hurried = 0 }
        drawTimeout()
    }

    /// Stands for election; first asks whether that would succeed, so that a member which was cut off does not depose a
    /// leader that all others hear (Raft dissertation, section 9.6).
    mutating func campaign(isPre: Bool, isForced: Bool = false, _ effects: inout [Effect]) {
        leader = nil
        drawTimeout()
        if isPre {
            role = .preCandidate
        } else {
            role = .candidate
            setHard(term: term + 1, vote: id)
        }
        // A member that forgot that it stood would stand again in the same term: its own vote, too, counts when it is durable.
        votes = isPre || has(.countsOwnVoteBeforeWriting) ? [id: true] : [:]
        ownVote = isPre ? nil : nextWrite
        let asked = isPre ? term + 1 : term
        let body: Message.Body = isPre ? .preVote(last: log.last) : .vote(last: log.last, isForced: isForced)
        for peer in members.all where peer != id && members.isVoter(peer) {
            let message = Message(from: id, to: peer, term: asked, body: body)
            // Nobody is to hear of the election before.
            if isPre { effects.append(.send(message)) } else { sendDurable(message, &effects) }
        }
        countVotes(&effects)
    }

    /// A write is durable; the own vote may have been in it.
    mutating func voteIsWritten(_ number: UInt64, _ effects: inout [Effect]) {
        guard role == .candidate, let ownVote, number >= ownVote else { return }
        self.ownVote = nil
        votes[id] = true
        countVotes(&effects)
    }

    private mutating func countVotes(_ effects: inout [Effect]) {
        let quorum = has(.forgetsOldMajority) ? Members(members.list) : members
        if quorum.hasQuorum({ votes[$0] == true }) {
            if role == .preCandidate { campaign(isPre: false, &effects) } else { becomeLeader(&effects) }
        } else if quorum.isLost({ votes[$0] == false }) {
            becomeFollower(term, nil, &effects)
        }
    }

    private mutating func becomeLeader(_ effects: inout [Effect]) {
        role = .leader
        hurried = 0
        leader = id
        elapsed = 0
        heartbeatElapsed = 0
        votes.removeAll()
        enteredJoint = false
        progress.removeAll()
        followMembers()
        // Only an entry of its own term tells a leader what is committed (section 5.4.2).
        appendToLog([Entry(term: term, index: log.lastIndex + 1, content: .nothing)])
        for peer in progress.keys.sorted() { replicate(to: peer, &effects) }
        advanceCommit(&effects)
    }

    // MARK: - Messages

    mutating func receive(_ message: Message, _ effects: inout [Effect]) {
        // A message for another life of this address, or of itself.
        guard message.to == id, message.from != id else { return }
        if message.term > term {
            switch message.body {
            case .preVote: break
            case .preVoteAnswer(granted: true): break
            case .vote(_, let isForced):
                if isSatisfied, !isForced { return }
                becomeFollower(message.term, nil, &effects)
            case .append, .heartbeat, .chunk: becomeFollower(message.term, message.from, &effects)
            default: becomeFollower(message.term, nil, &effects)
            }
        } else if message.term < term {
            switch message.body {
            case .preVote: reply(message, .preVoteAnswer(granted: false), &effects)
            // One that led in an earlier term, or asks for it, learns of this one.
            case .append, .heartbeat, .chunk: reply(message, .heartbeatAnswer(round: 0), &effects)
            case .read(let number): reply(message, .readAnswer(number, nil), &effects)
            default: break
            }
            return
        }
        switch message.body {
        case .preVote(let last): answerPreVote(message, last, &effects)
        case .preVoteAnswer(let granted):
            if role == .preCandidate, message.term == term + 1 || !granted {
                votes[message.from] = granted
                countVotes(&effects)
            } else if role == .candidate, granted, has(.countsPreVotes) {
                votes[message.from] = true
                countVotes(&effects)
            }
        case .vote(let last, _): answerVote(message, last, &effects)
        case .voteAnswer(let granted):
            guard role == .candidate, votes[message.from] == nil else { return }
            votes[message.from] = granted
            countVotes(&effects)
        case .append(let previous, let entries, let commit):
            guard heed(message, &effects) else { return }
            append(message, previous, entries, commit, &effects)
        case .heartbeat(let commit, let round):
            guard heed(message, &effects) else { return }
            self.commit = max(self.commit, min(commit, log.lastIndex))
            reply(message, .heartbeatAnswer(round: round), &effects)
        case .chunk(let info, let offset, let data, let isLast):
            guard heed(message, &effects) else { return }
            takeChunk(message, info, offset, data, isLast, &effects)
        case .appended(let index): if role == .leader { appended(message.from, index, &effects) }
        case .refused(let previous, let hint):
            if role == .leader { refused(message.from, previous, hint, &effects) }
        case .heartbeatAnswer(let round): if role == .leader { heartbeatAnswered(message.from, round, &effects) }
        case .chunkAnswer(let position, let next):
            if role == .leader { chunkAnswered(message.from, position, next, &effects) }
        case .read(let number):
            if role == .leader {
                addRead(message.from, number, &effects)
            } else {
                reply(message, .readAnswer(number, nil), &effects)
            }
        case .readAnswer(let number, let index):
            if let index {
                effects.append(.readable(number: number, index))
            } else {
                effects.append(.refused(number: number, .notLeader(leader)))
            }
        case .campaign:
            if role != .leader, mayCampaign {
                campaign(isPre: false, isForced: true, &effects)
            }
        }
    }

    func reply(_ message: Message, _ body: Message.Body, _ effects: inout [Effect]) {
        effects.append(.send(Message(from: id, to: message.from, term: term, body: body)))
    }

    /// Follows the leader of this term. False when the message is to be ignored.
    private mutating func heed(_ message: Message, _ effects: inout [Effect]) -> Bool {
        if role == .leader {
            stop("\(message.from) leads in term \(term), as this member does: two leaders in one term", &effects)
            return false
        }
        if role != .follower { becomeFollower(term, message.from, &effects) }
        if leader != message.from || hurried > 0 {
            hurried = 0
            drawTimeout()
        }
        leader = message.from
        elapsed = 0
        return true
    }

    private mutating func answerPreVote(_ message: Message, _ last: LogPosition, _ effects: inout [Effect]) {
        let isGranted =
            message.term > term && !isSatisfied && (last >= log.last || has(.votesForShorterLogs))
        let answer = Message(
            from: id, to: message.from, term: isGranted ? message.term : term,
            body: .preVoteAnswer(granted: isGranted))
        effects.append(.send(answer))
    }

    private mutating func answerVote(_ message: Message, _ last: LogPosition, _ effects: inout [Effect]) {
        // Who may vote is the candidate's to know: by this member's own log it may not be a voter yet.
        let isFree = vote == message.from || (vote == nil && leader == nil)
        let isGranted = isFree && (last >= log.last || has(.votesForShorterLogs))
        if isGranted {
            if vote == nil { setHard(term: term, vote: message.from) }
            drawTimeout()
        }
        let answer = Message(from: id, to: message.from, term: term, body: .voteAnswer(granted: isGranted))
        if has(.votesBeforeWriting) { effects.append(.send(answer)) } else { sendDurable(answer, &effects) }
    }
}
