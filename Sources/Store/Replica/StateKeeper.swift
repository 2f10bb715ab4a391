// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import Synchronization
import Topology
import Wire

/// The applied state: entries go in on a thread of their own, readers take the latest value without waiting.
final class StateKeeper: Sendable {
    /// A state, so that handing it on is handing on one reference.
    final class Published: Sendable {
        let state: ClusterState
        init(_ state: ClusterState) { self.state = state }
    }

    private let published: Mutex<Published>
    private let thread: SerialThread
    private let store: Box
    let history = History()
    /// Sums of the state at entries whose index is a multiple of ``digestInterval``, latest last.
    private let digests = Mutex<[(index: LogIndex, digest: StateDigest)]>([])
    static let digestInterval: UInt64 = 64
    static let digestCount = 64

    /// What only the thread touches.
    private final class Box: @unchecked Sendable {  // touched by jobs of `thread` only
        private var open: StateStore?
        var dirty: Set<RowKey> = []
        var checkpointed: LogIndex = 0
        init(_ store: StateStore) { open = store }

        var store: StateStore {
            get throws(StoreError) {
                guard let open else { throw .malformed("use of a state that is closed") }
                return open
            }
        }
        func close() { open = nil }
    }

    init(store: StateStore, state: ClusterState) throws(SystemError) {
        published = Mutex(Published(state))
        self.store = Box(store)
        thread = try SerialThread("sel-state")
        self.store.checkpointed = state.applied.index
        history.reset(to: state.topology.revision)
    }

    /// The latest state.
    var state: ClusterState { published.withLock { $0 }.state }

    /// The sums that are known, latest last.
    var knownDigests: [(index: LogIndex, digest: StateDigest)] { digests.withLock { $0 } }

    /// Applies entries.
    ///
    /// - Parameters:
    ///   - done: hears what became of each, before the state's own database does.
    ///   - durable: hears up to where the state is durable, now and then.
    ///   - failed: the node must not go on.
    func apply(
        _ entries: [Entry], done: @escaping @Sendable ([Applied], ClusterState) -> Void,
        durable: @escaping @Sendable (LogIndex) -> Void, failed: @escaping @Sendable (String) -> Void
    ) {
        thread.add { [self] in
            var state = self.state
            var applied: [Applied] = []
            var changes: [HistoryEntry] = []
            do throws(MalformedBytes) {
                for entry in entries {
                    let result = try state.apply(entry)
                    store.dirty.formUnion(result.rows)
                    if !result.objects.isEmpty {
                        changes.append(
                            HistoryEntry(
                                revision: entry.index, changes: result.objects.map { ($0, state.topology[$0]) }))
                    }
                    applied.append(result)
                    if entry.index % StateKeeper.digestInterval == 0 { note(entry.index, state.digest) }
                }
            } catch {
                let index = state.applied.index + 1
                return failed(
                    "entry \(index) can't be applied: \(error)\n    upgrade this node: it must not go on without it")
            }
            let box = Published(state)
            published.withLock { $0 = box }
            done(applied, state)
            if !changes.isEmpty { history.add(changes) }
            // What follows at once is written together.
            guard thread.backlog == 0 || store.dirty.count > 4096 else { return }
            do throws(StoreError) {
                try store.store.write(store.dirty, of: state)
                store.dirty.removeAll(keepingCapacity: true)
                if state.applied.index >= store.checkpointed + StoreLimits.checkpointEntries {
                    try store.store.makeDurable()
                    store.checkpointed = state.applied.index
                    durable(state.applied.index)
                }
            } catch { failed("\(error)") }
        }
    }

    private func note(_ index: LogIndex, _ digest: StateDigest) {
        digests.withLock { digests in
            digests.append((index, digest))
            if digests.count > StateKeeper.digestCount { digests.removeFirst() }
        }
    }

    /// Puts a whole state in place of this one, durably.
    func install(_ state: ClusterState, done: @escaping @Sendable (String?) -> Void) {
        thread.add { [self] in
            do throws(StoreError) {
                try store.store.replace(with: state)
                store.dirty.removeAll()
                store.checkpointed = state.applied.index
                let box = Published(state)
                published.withLock { $0 = box }
                history.reset(to: state.topology.revision)
                digests.withLock { $0.removeAll() }
                done(nil)
            } catch { done("\(error)") }
        }
    }

    /// Makes durable what there is and closes the file; for an orderly end.
    func finish() {
        thread.add { [self] in
            try? store.store.write(store.dirty, of: state)
            store.dirty.removeAll()
            try? store.store.makeDurable()
            store.close()
        }
        thread.finish()
    }
}
