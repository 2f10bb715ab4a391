// SPDX-License-Identifier: Apache-2.0
import Gossip
import Simulation
import Synchronization

/// Who asked for a connection that was not known here, a moment ago. The asker drops its packets for a while without asking
/// again; if the connection begins here meanwhile, by a client that uses its ports again, it is to hear of it at once.
final class Askers: Sendable {
    private struct Asked {
        var recent: [Tag: [PeerID]] = [:]
        var older: [Tag: [PeerID]] = [:]
        var turnsAt: UInt64 = 0

        /// What was recent becomes older when its time is over, and what was older goes: each is kept for one to two times that
        /// long, and nothing is looked for.
        mutating func turn(_ now: UInt64) {
            guard now >= turnsAt else { return }
            older = now < turnsAt &+ StateLimits.askedNanoseconds ? recent : [:]
            recent = [:]
            turnsAt = now &+ StateLimits.askedNanoseconds
        }
        var isEmpty: Bool { recent.isEmpty && older.isEmpty }
    }
    private let asked = Mutex(Asked())
    /// Whether there may be any: who begins a connection asks each time.
    private let isUsed = Atomic<Bool>(false)

    /// Keeps who asked for what; how many of that there was no room for.
    func note(_ peer: PeerID, _ tags: Set<Tag>, now: UInt64) -> Int {
        if tags.isEmpty { return 0 }
        return asked.withLock { asked in
            asked.turn(now)
            var left = 0
            for tag in tags {
                if let peers = asked.recent[tag] {
                    if !peers.contains(peer) { asked.recent[tag]?.append(peer) }
                } else if asked.recent.count < StateLimits.askedEntries {
                    asked.recent[tag] = [peer]
                } else {
                    left += 1
                }
            }
            isUsed.store(true, ordering: .relaxed)
            return left
        }
    }

    func find(_ tags: Set<Tag>, now: UInt64) -> [PeerID] {
        guard isUsed.load(ordering: .relaxed) else { return [] }
        return asked.withLock { asked in
            asked.turn(now)
            var peers: [PeerID] = []
            for tag in tags {
                for peer in (asked.recent.removeValue(forKey: tag) ?? []) + (asked.older.removeValue(forKey: tag) ?? [])
                where !peers.contains(peer) { peers.append(peer) }
            }
            if asked.isEmpty { isUsed.store(false, ordering: .relaxed) }
            return peers
        }
    }
}
