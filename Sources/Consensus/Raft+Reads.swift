// SPDX-License-Identifier: Apache-2.0

/// Linearizable reads without the log: a leader notes its commit index, makes sure by a round of heartbeats that it still
/// leads, and lets the read be served once that index is applied (dissertation, section 6.4).
extension Raft {
    mutating func read(_ number: UInt64, _ effects: inout [Effect]) {
        if role == .leader { return addRead(id, number, &effects) }
        guard let leader else { return effects.append(.refused(number: number, .notLeader(nil))) }
        effects.append(.send(Message(from: id, to: leader, term: term, body: .read(number))))
    }

    mutating func addRead(_ reader: NodeID, _ number: UInt64, _ effects: inout [Effect]) {
        if has(.readsWithoutAsking), hasCommittedInTerm { return answerRead(reader, number, commit, &effects) }
        // Before its first commit a leader may not know what an earlier one has committed.
        let isReady = hasCommittedInTerm || has(.readsBeforeFirstCommit)
        reads.append(PendingRead(reader: reader, number: number, index: isReady ? commit : nil, round: round + 1))
        if isReady { askRound(&effects) }
    }

    /// Reads that came before this leader had committed in its term.
    mutating func addWaitingReads(_ effects: inout [Effect]) {
        guard hasCommittedInTerm, reads.contains(where: { $0.index == nil }) else { return }
        for index in reads.indices where reads[index].index == nil {
            reads[index].index = commit
            reads[index].round = round + 1
        }
        askRound(&effects)
    }

    /// A new round: answers to it show that this member led after the reads had come.
    private mutating func askRound(_ effects: inout [Effect]) {
        round += 1
        sendHeartbeats(&effects)
        confirmReads(&effects)
    }

    mutating func confirmReads(_ effects: inout [Effect]) {
        guard role == .leader, !reads.isEmpty else { return }
        let confirmed = members.committedIndex { $0 == id ? round : progress[$0]?.round ?? 0 }
        for read in reads where read.round <= confirmed {
            if let index = read.index { answerRead(read.reader, read.number, index, &effects) }
        }
        reads.removeAll { $0.round <= confirmed && $0.index != nil }
    }

    private func answerRead(_ reader: NodeID, _ number: UInt64, _ index: LogIndex, _ effects: inout [Effect]) {
        if reader == id {
            effects.append(.readable(number: number, index))
        } else {
            effects.append(
                .send(Message(from: id, to: reader, term: term, body: .readAnswer(number, index))))
        }
    }

    /// This member leads no more.
    mutating func failReads(_ effects: inout [Effect]) {
        for read in reads {
            if read.reader == id {
                effects.append(.refused(number: read.number, .notLeader(nil)))
            } else {
                effects.append(
                    .send(Message(from: id, to: read.reader, term: term, body: .readAnswer(read.number, nil))))
            }
        }
        reads.removeAll()
    }
}
