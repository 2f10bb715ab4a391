// SPDX-License-Identifier: Apache-2.0

extension Raft {
    // MARK: - Time

    mutating func tickLeader(_ effects: inout [Effect]) {
        for peer in progress.keys { progress[peer]?.silence += 1 }
        if elapsed >= options.electionTicks {
            elapsed = 0
            let isHeard = members.hasQuorum { $0 == id || progress[$0]?.isActive == true }
            for peer in progress.keys { progress[peer]?.isActive = false }
            // One that a majority does not hear must not go on answering: another may lead already.
            if !isHeard { return becomeFollower(term, nil, &effects) }
        }
        if let running = transfer {
            transfer?.elapsed += 1
            if running.elapsed >= options.electionTicks, !has(.neverEndsTransfer) {
                transfer = nil
                effects.append(.transferred(number: running.number))
            }
        }
        heartbeatElapsed += 1
        if heartbeatElapsed >= options.heartbeatTicks { sendHeartbeats(&effects) }
        promote(&effects)
    }

    /// Heartbeats are small, name nothing that has to be written first, and so wait for nothing.
    func heartbeat(to peer: NodeID) -> Message {
        let match = progress[peer]?.match ?? 0
        // Past its match the member's log may differ.
        let known = has(.commitsPastMatch) ? commit : min(commit, match)
        return Message(from: id, to: peer, term: term, body: .heartbeat(commit: known, round: round))
    }

    mutating func sendHeartbeats(_ effects: inout [Effect]) {
        heartbeatElapsed = 0
        for peer in progress.keys.sorted() { effects.append(.send(heartbeat(to: peer))) }
    }

    mutating func heartbeatAnswered(_ peer: NodeID, _ answered: UInt64, _ effects: inout [Effect]) {
        guard var known = progress[peer] else { return }
        known.isActive = true
        known.silence = 0
        known.round = max(known.round, answered)
        // Messages get lost. What is under way and does not get on for a while begins again.
        known.beatsWithoutProgress += 1
        // Making a snapshot takes its time; asked for again too soon it would be made twice.
        let patience = if case .snapshot(nil, _) = known.mode { 40 } else { 4 }
        let isStuck = known.beatsWithoutProgress >= patience
        if isStuck { known.beatsWithoutProgress = 0 }
        switch known.mode {
        case .probe: known.isWaiting = false
        case .replicate: if isStuck, known.match < known.next - 1 { known.becomeProbe(leaks: has(.leaksInflight)) }
        case .snapshot(nil, _): if isStuck { effects.append(.openSnapshot(to: peer)) }
        case .snapshot: if isStuck { known.isWaiting = false }
        }
        progress[peer] = known
        replicate(to: peer, &effects)
        confirmReads(&effects)
    }

    // MARK: - Replication

    /// Makes the members that entries are sent to those of the log.
    mutating func followMembers() {
        let all = Set(members.all).subtracting([id])
        for peer in progress.keys where !all.contains(peer) { progress[peer] = nil }
        for peer in all where progress[peer] == nil {
            var new = Progress(next: log.lastIndex + 1)
            // Not heard of in this term: for all that is known it is down.
            new.silence = 2 * options.electionTicks
            progress[peer] = new
        }
    }

    /// Sends a member what it lacks, as far as the window allows.
    mutating func replicate(to peer: NodeID, _ effects: inout [Effect]) {
        guard var known = progress[peer] else { return }
        defer { progress[peer] = known }
        if case .snapshot = known.mode { return continueSnapshot(peer, &known, &effects) }
        while true {
            let isProbe = known.mode == .probe
            if isProbe {
                if known.isWaiting { return }
            } else {
                guard known.next <= log.lastIndex, known.inflight.count < options.inflightMessages,
                    known.inflightBytes < options.inflightBytes
                else { return }
            }
            guard let previous = log.term(at: known.next - 1) else {
                if has(.neverSendsSnapshot) { return }
                known.mode = .snapshot(nil, next: 0)
                known.isWaiting = true
                effects.append(.openSnapshot(to: peer))
                return
            }
            let entries = log.slice(from: known.next, bytes: options.appendBytes)
            effects.append(
                .send(
                    Message(
                        from: id, to: peer, term: term,
                        body: .append(
                            previous: LogPosition(term: previous, index: known.next - 1), entries: entries,
                            commit: commit))))
            if isProbe {
                known.isWaiting = true
                return
            }
            known.sent(last: known.next + UInt64(entries.count) - 1, bytes: entries.reduce(0) { $0 + $1.size })
        }
    }

    mutating func appended(_ peer: NodeID, _ index: LogIndex, _ effects: inout [Effect]) {
        guard var known = progress[peer], index <= log.lastIndex else { return }
        known.isActive = true
        known.silence = 0
        if index > known.match {
            known.match = index
            known.beatsWithoutProgress = 0
        }
        known.next = max(known.next, known.match + 1)
        known.acknowledged(index, leaks: has(.leaksInflight))
        switch known.mode {
        case .probe: known.becomeReplicate(leaks: has(.leaksInflight))
        case .replicate: break
        case .snapshot(let info, _):
            // The log may have been compacted past the snapshot meanwhile: then the next one begins.
            if known.match + 1 >= log.first || known.match >= info?.position.index ?? .max {
                effects.append(.closeSnapshot(to: peer))
                known.becomeReplicate(leaks: has(.leaksInflight))
            }
        }
        progress[peer] = known
        advanceCommit(&effects)
        // The commit may have ended this member's leadership.
        guard role == .leader else { return }
        replicate(to: peer, &effects)
        tellCommit(peer, &effects)
        if let transfer, transfer.to == peer, progress[peer]?.match == log.lastIndex { sendCampaign(peer, &effects) }
    }

    mutating func refused(_ peer: NodeID, _ previous: LogIndex, _ hint: LogPosition, _ effects: inout [Effect]) {
        guard var known = progress[peer] else { return }
        known.isActive = true
        known.silence = 0
        switch known.mode {
        case .snapshot: return
        case .replicate:
            // An old message's; what came after it was taken.
            if previous <= known.match { return }
            known.becomeProbe(leaks: has(.leaksInflight))
        case .probe:
            if previous != known.next - 1 { return }
            let agreed = log.lastPlace(upTo: hint.index, term: hint.term)
            known.next = max(known.match + 1, min(previous, agreed.index + 1))
            known.isWaiting = false
        }
        progress[peer] = known
        replicate(to: peer, &effects)
    }

    // MARK: - Commit

    /// How far each member's log is durable and the same as this leader's.
    private func match(_ member: NodeID) -> LogIndex { member == id ? written : progress[member]?.match ?? 0 }

    mutating func advanceCommit(_ effects: inout [Effect]) {
        guard role == .leader else { return }
        var quorum = members
        if has(.forgetsOldMajority) { quorum.outgoing = [] }
        if has(.countsItselfWhenRemoved), quorum.role(of: id) != .voter { quorum.set(id, .voter) }
        let index = min(quorum.committedIndex(match), log.lastIndex)
        // Counting commits entries of the own term only; those before are committed with them (section 5.4.2).
        if index > commit, log.term(at: index) == term || has(.commitsOldTerms) {
            commit = index
            addWaitingReads(&effects)
            for peer in progress.keys.sorted() { tellCommit(peer, &effects) }
        }
        finishChange(&effects)
    }

    /// Tells a member at once of what is committed, as soon as its log has it: it would else wait for the next heartbeat. One
    /// that is sent more entries hears of it with those.
    private mutating func tellCommit(_ peer: NodeID, _ effects: inout [Effect]) {
        guard let known = progress[peer], known.next > log.lastIndex else { return }
        let news = min(commit, known.match)
        guard news > known.told else { return }
        progress[peer]?.told = news
        effects.append(.send(heartbeat(to: peer)))
    }

    // MARK: - Proposals

    mutating func propose(_ commands: [[UInt8]], _ number: UInt64, _ effects: inout [Effect]) {
        guard role == .leader else { return effects.append(.refused(number: number, .notLeader(leader))) }
        guard transfer == nil else { return effects.append(.refused(number: number, .transferring)) }
        let size = commands.reduce(0) { $0 + $1.count + 32 }
        guard uncommittedBytes == 0 || uncommittedBytes + size <= options.uncommittedBytes else {
            return effects.append(.refused(number: number, .busy))
        }
        let first = log.lastIndex + 1
        appendToLog(
            commands.enumerated().map {
                Entry(term: term, index: first + UInt64($0.offset), content: .command($0.element))
            })
        effects.append(.accepted(number: number, first: LogPosition(term: term, index: first)))
        for peer in progress.keys.sorted() { replicate(to: peer, &effects) }
    }

    private var uncommittedBytes: Int {
        commit < log.lastIndex ? log.slice(max(commit + 1, log.first)...log.lastIndex).reduce(0) { $0 + $1.size } : 0
    }

    // MARK: - Transfer

    mutating func beginTransfer(_ to: NodeID, _ number: UInt64, _ effects: inout [Effect]) {
        guard role == .leader else { return effects.append(.refused(number: number, .notLeader(leader))) }
        guard transfer == nil else { return effects.append(.refused(number: number, .transferring)) }
        guard to != id, members.role(of: to) == .voter, progress[to] != nil else {
            return effects.append(.refused(number: number, .notVoter))
        }
        transfer = (to, number, 0)
        if progress[to]?.match == log.lastIndex {
            sendCampaign(to, &effects)
        } else {
            replicate(to: to, &effects)
        }
    }

    func sendCampaign(_ to: NodeID, _ effects: inout [Effect]) {
        effects.append(.send(Message(from: id, to: to, term: term, body: .campaign)))
    }
}
