// SPDX-License-Identifier: Apache-2.0

extension Raft {
    /// Takes entries that follow a place which both logs have (section 5.3).
    mutating func append(
        _ message: Message, _ sentPrevious: LogPosition, _ sent: [Entry], _ leaderCommit: LogIndex,
        _ effects: inout [Effect]
    ) {
        // While a snapshot is put in force there is no log to compare with.
        if isInstalling { return }
        var previous = sentPrevious
        var entries = sent[...]
        // What the snapshot holds is committed, so it agrees.
        if previous.index < log.base.position.index {
            entries = entries.drop { $0.index <= log.base.position.index }
            previous = log.base.position
            if entries.isEmpty { return acknowledge(message, log.base.position.index, &effects) }
        }
        guard log.term(at: previous.index) == previous.term else {
            let hint = log.lastPlace(upTo: previous.index, term: previous.term)
            return reply(message, .refused(previous: previous.index, hint: hint), &effects)
        }
        let last = previous.index + UInt64(entries.count)
        if has(.truncatesWhatAgrees), last < log.lastIndex, last >= commit {
            truncateLog(from: last + 1)
        }
        while let entry = entries.first {
            guard let own = log.term(at: entry.index) else { break }
            if own != entry.term {
                guard entry.index > commit else {
                    return stop(
                        "\(message.from) would take back the committed entry \(entry.index) of term \(own)", &effects)
                }
                truncateLog(from: entry.index)
                break
            }
            entries = entries.dropFirst()
        }
        appendToLog(Array(entries))
        // Past the last entry of the message the logs may differ.
        commit = max(commit, min(leaderCommit, last))
        acknowledge(message, last, &effects)
    }

    private mutating func acknowledge(_ message: Message, _ index: LogIndex, _ effects: inout [Effect]) {
        let answer = Message(from: id, to: message.from, term: term, body: .appended(index))
        if written >= index || has(.acknowledgesBeforeWriting) {
            effects.append(.send(answer))
        } else {
            sendDurable(answer, &effects)
        }
    }

    // MARK: - Snapshots that come

    mutating func takeChunk(
        _ message: Message, _ info: SnapshotInfo, _ offset: UInt64, _ data: [UInt8], _ isLast: Bool,
        _ effects: inout [Effect]
    ) {
        if isInstalling { return }
        // A log that has the snapshot's last entry needs no snapshot; what follows it may be acknowledged and must stay.
        if info.position.index <= commit || log.term(at: info.position.index) == info.position.term {
            commit = max(commit, min(info.position.index, log.lastIndex))
            incoming = nil
            return acknowledge(message, info.position.index, &effects)
        }
        if incoming?.info.position != info.position { incoming = (info, 0) }
        guard let known = incoming else { return }
        guard offset == known.next, !data.isEmpty || isLast else {
            return reply(message, .chunkAnswer(info.position, next: known.next), &effects)
        }
        effects.append(.storeChunk(info, offset: offset, data: data))
        incoming?.next += UInt64(data.count)
        if isLast {
            isInstalling = true
            installer = message.from
            effects.append(.install(info))
        } else {
            reply(message, .chunkAnswer(info.position, next: known.next + UInt64(data.count)), &effects)
        }
    }

    mutating func installed(_ info: SnapshotInfo, _ effects: inout [Effect]) {
        guard isInstalling else { return }
        isInstalling = false
        incoming = nil
        forgetWrites()
        log.restart(from: info)
        commit = info.position.index
        handed = info.position.index
        written = info.position.index
        if let leader = installer, role == .follower {
            let answer = Message(from: id, to: leader, term: term, body: .appended(info.position.index))
            sendDurable(answer, &effects)
        }
        installer = nil
    }

    // MARK: - Compaction

    /// Forgets entries that the state machine has durably, but for some that members who lag may want.
    mutating func compact(_ applied: LogIndex, _ effects: inout [Effect]) {
        if isInstalling { return }
        let durable = min(applied, handed, written)
        guard durable > log.base.position.index else { return }
        var index = max(
            durable - min(durable, options.trailingEntries), log.index(keeping: options.trailingBytes, upTo: durable))
        // What follows a snapshot that is on its way is wanted next; but a member that never gets done must not keep it all.
        for known in progress.values {
            guard case .snapshot(let info?, _) = known.mode else { continue }
            if info.position.index + 20 * (options.trailingEntries + 100) > durable {
                index = min(index, info.position.index)
            }
        }
        guard index > log.base.position.index, let term = log.term(at: index) else { return }
        let info = SnapshotInfo(
            position: LogPosition(term: term, index: index), members: log.members(upTo: index))
        log.compact(to: info)
        effects.append(.discard(info))
    }
}
