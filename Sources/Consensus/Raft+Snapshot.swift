// SPDX-License-Identifier: Apache-2.0

/// Snapshots that go out, in pieces: each follows the answer to the one before, so that a slow member holds nobody up and a
/// transfer goes on where it stopped.
extension Raft {
    mutating func opened(_ info: SnapshotInfo, _ peer: NodeID, _ effects: inout [Effect]) {
        guard role == .leader, var known = progress[peer], case .snapshot(nil, _) = known.mode else {
            return effects.append(.closeSnapshot(to: peer))
        }
        // Entries after it must still be here, or it would be of no use.
        guard info.position.index + 1 >= log.first, info.position.index <= commit else {
            effects.append(.closeSnapshot(to: peer))
            return effects.append(.openSnapshot(to: peer))
        }
        known.mode = .snapshot(info, next: 0)
        known.isWaiting = false
        continueSnapshot(peer, &known, &effects)
        progress[peer] = known
    }

    func continueSnapshot(_ peer: NodeID, _ known: inout Progress, _ effects: inout [Effect]) {
        guard case .snapshot(let info, let next) = known.mode, let info, !known.isWaiting else { return }
        known.isWaiting = true
        effects.append(.readChunk(to: peer, info.position, offset: next, limit: options.chunkBytes))
    }

    mutating func sendChunk(
        _ peer: NodeID, _ position: LogPosition, _ offset: UInt64, _ data: [UInt8], _ isLast: Bool,
        _ effects: inout [Effect]
    ) {
        guard role == .leader, case .snapshot(let info?, offset)? = progress[peer]?.mode, info.position == position
        else { return }
        effects.append(
            .send(
                Message(
                    from: id, to: peer, term: term,
                    body: .chunk(info, offset: offset, data: data, isLast: isLast))))
    }

    mutating func chunkAnswered(
        _ peer: NodeID, _ position: LogPosition, _ next: UInt64, _ effects: inout [Effect]
    ) {
        guard var known = progress[peer], case .snapshot(let info?, let before) = known.mode,
            info.position == position
        else { return }
        known.isActive = true
        known.silence = 0
        // A late answer to an earlier piece says nothing new, unless the receiver began anew.
        if next != before { known.beatsWithoutProgress = 0 }
        known.mode = .snapshot(info, next: next)
        known.isWaiting = false
        continueSnapshot(peer, &known, &effects)
        progress[peer] = known
    }

    mutating func closed(_ peer: NodeID, _ effects: inout [Effect]) {
        guard role == .leader, var known = progress[peer], case .snapshot = known.mode else { return }
        known.mode = .snapshot(nil, next: 0)
        known.isWaiting = true
        progress[peer] = known
        effects.append(.openSnapshot(to: peer))
    }
}
