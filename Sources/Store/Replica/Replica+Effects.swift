// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import Synchronization

/// What the agreement wants done.
extension Replica {
    func perform(_ effect: Effect) {
        switch effect {
        case .write(let write): perform(write)
        case .send(let message): transport.send(message)
        case .apply(let entries): keeper.apply(entries)
        case .accepted(let number, _): accepted(number)
        case .refused(let number, let refusal): refused(number, refusal)
        case .readable(let number, let index): isReadable(number, index)
        case .transferred(let number): transfers.removeValue(forKey: number)?.succeed()
        case .changed(let status): changed(status)
        case .openSnapshot(let peer):
            let first = raft.base.position.index + 1
            keeper.read { [self] state in
                snapshots.open(state, first: first) { [self] result in
                    loop.execute { [self] in
                        switch result {
                        case .success(let info): step(.opened(info, to: peer))
                        // Asked for again when the member still lacks it after some heartbeats.
                        case .failure(let error): say("no snapshot for \(transport.name(of: peer)): \(error)")
                        }
                    }
                }
            }
        case .readChunk(let peer, let position, let offset, let limit):
            snapshots.read(position, offset: offset, limit: limit) { [self] piece in
                loop.execute { [self] in
                    if let piece {
                        step(.chunk(to: peer, position, offset: offset, data: piece.data, isLast: piece.isLast))
                    } else {
                        step(.closed(to: peer))
                    }
                }
            }
        case .closeSnapshot: break
        case .storeChunk(_, let offset, let data):
            snapshots.store(data, offset: offset) { [self] error in halt("\(error)") }
        case .install(let info): install(info)
        case .discard(let info):
            log.discard(info) { [self] error in if let error { halt("\(error)") } }
        case .stop(let reason): stopped(reason)
        }
    }

    private func perform(_ write: Write) {
        log.write(write) { [self] error in
            if let error { return halt("\(error)") }
            loop.execute { [self] in step(.written(write.number)) }
        }
    }

    /// A snapshot came: first the state, durably, then the log. What a crash leaves between the two the next start mends.
    private func install(_ info: SnapshotInfo) {
        snapshots.finish(info) { [self] result in
            switch result {
            case .failure(let error): halt("\(error)")
            case .success(let state):
                keeper.install(state) { [self] problem in
                    if let problem { return halt(problem) }
                    log.install(info) { [self] error in
                        if let error { return halt("\(error)") }
                        for observer in observers.withLock({ $0 }) { observer([]) }
                        loop.execute { [self] in
                            step(.installed(info))
                            follow(state)
                            answerBarriers(info.position.index)
                        }
                    }
                }
            }
        }
    }
}
