// SPDX-License-Identifier: Apache-2.0
import Gossip
import Simulation
import Synchronization

/// Who asked for a connection that was not known here, a moment ago. The asker drops its packets for a while without asking
/// again; if the connection begins here meanwhile, by a client that uses its ports again, it is to hear of it at once.
final class Askers: Sendable {
    private struct Asked {
        var peers: [PeerID]
        var until: UInt64
    }
    private let asked = Mutex<[Tag: Asked]>([:])
    /// Whether there may be any: who begins a connection asks each time.
    private let isUsed = Atomic<Bool>(false)

    func note(_ peer: PeerID, _ tags: Set<Tag>, now: UInt64) {
        if tags.isEmpty { return }
        asked.withLock { asked in
            if asked.count >= StateLimits.askedEntries { asked = asked.filter { $0.value.until > now } }
            for tag in tags where asked.count < StateLimits.askedEntries || asked[tag] != nil {
                var one = asked[tag] ?? Asked(peers: [], until: 0)
                if !one.peers.contains(peer) { one.peers.append(peer) }
                one.until = now &+ StateLimits.askedNanoseconds
                asked[tag] = one
            }
        }
        isUsed.store(true, ordering: .relaxed)
    }

    func find(_ tags: Set<Tag>, now: UInt64) -> [PeerID] {
        guard isUsed.load(ordering: .relaxed) else { return [] }
        return asked.withLock { asked in
            var peers: [PeerID] = []
            for tag in tags {
                guard let one = asked.removeValue(forKey: tag), one.until > now else { continue }
                peers += one.peers.filter { !peers.contains($0) }
            }
            if asked.isEmpty { isUsed.store(false, ordering: .relaxed) }
            return peers
        }
    }
}
