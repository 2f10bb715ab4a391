// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import Synchronization
import Topology
import Wire

/// The applied state: entries go in on a thread of their own, readers take the latest value.
final class StateKeeper: Sendable {
    /// The state. An entry is applied in place: what nobody holds need not be copied. Who reads waits for one entry at most.
    private let current: Mutex<ClusterState>
    private let appliedIndex: Atomic<LogIndex>
    private let thread: SerialThread
    private let store: Box
    let history = History()
    /// Sums of the state at entries whose index is a multiple of ``digestInterval``, latest last.
    private let digests = Mutex<[(index: LogIndex, digest: StateDigest)]>([])
    static let digestInterval: UInt64 = 64
    /// Rows that wait to be written to the database.
    private static let dirtyLimit = 4096
    /// Entries that wait to be applied.
    private let waiting = Mutex<[Entry]>([])
    private let outlets = Mutex<Outlets?>(nil)

    /// Who hears of what happens; called on the state's thread.
    struct Outlets: Sendable {
        /// What became of entries. The state may be past them already.
        var done: @Sendable ([Applied]) -> Void
        /// Up to where the state is durable, now and then.
        var durable: @Sendable (LogIndex) -> Void
        /// The node must not go on.
        var failed: @Sendable (String) -> Void
    }

    /// Says who hears of what happens; before anything is applied.
    func connect(_ outlets: Outlets) { self.outlets.withLock { $0 = outlets } }
    static let digestCount = 64

    /// What only the thread touches.
    private final class Box: @unchecked Sendable {  // touched by jobs of `thread` only
        private var open: StateStore?
        var dirty: [RowKey: [UInt8]?] = [:]
        var checkpointed: LogIndex = 0
        /// Bytes of entries since.
        var bytes = 0
        /// The last entry that the database has.
        var flushed: LogIndex = 0
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
        current = Mutex(state)
        appliedIndex = Atomic(state.applied.index)
        self.store = Box(store)
        thread = try SerialThread("sel-state")
        self.store.checkpointed = state.applied.index
        self.store.flushed = state.applied.index
        history.reset(to: state.topology.revision)
    }

    /// The latest state.
    var state: ClusterState { current.withLock { $0 } }

    /// The last entry that is in it. Waits for nobody.
    var applied: LogIndex { appliedIndex.load(ordering: .acquiring) }

    /// Hands the state to somebody, on the thread that applies entries.
    func read(_ body: @escaping @Sendable (ClusterState) -> Void) {
        thread.add { [self] in body(state) }
    }

    /// The sums that are known, latest last.
    var knownDigests: [(index: LogIndex, digest: StateDigest)] { digests.withLock { $0 } }

    /// Applies entries; those that wait for the thread are applied together.
    func apply(_ entries: [Entry]) {
        let isFirst = waiting.withLock { waiting in
            defer { waiting += entries }
            return waiting.isEmpty
        }
        if isFirst { thread.add { [self] in applyWaiting() } }
    }

    private func applyWaiting() {
        let entries = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        guard !entries.isEmpty, let outlets = outlets.withLock({ $0 }) else { return }
        var applied: [Applied] = []
        applied.reserveCapacity(entries.count)
        var changes: [HistoryEntry] = []
        for entry in entries {
            do throws(MalformedBytes) {
                let result = try current.withLock { state throws(MalformedBytes) in
                    let result = try state.apply(entry)
                    if !result.objects.isEmpty {
                        changes.append(
                            HistoryEntry(
                                revision: entry.index, changes: result.objects.map { ($0, state.topology[$0]) }))
                    }
                    if entry.index % StateKeeper.digestInterval == 0 { note(entry.index, state.digest) }
                    return result
                }
                appliedIndex.store(entry.index, ordering: .releasing)
                for row in result.rows { store.dirty[row.key] = .some(row.bytes) }
                store.bytes += entry.size
                applied.append(result)
            } catch {
                outlets.failed(
                    "entry \(entry.index) can't be applied: \(error)\n    upgrade this node: it must not go on without it"
                )
                break
            }
        }
        if !changes.isEmpty { history.add(changes) }
        if !applied.isEmpty { outlets.done(applied) }
        if store.dirty.count > StateKeeper.dirtyLimit { flush() }
    }

    /// Writes to the database what it does not have yet. The log has it all: this may wait, and takes many changes at once.
    func flushLater() {
        thread.add { [self] in flush() }
    }

    private func flush() {
        let state = self.state
        guard !store.dirty.isEmpty || state.applied.index > store.flushed else { return }
        do throws(StoreError) {
            try store.store.write(store.dirty, of: state)
            store.dirty.removeAll(keepingCapacity: true)
            store.flushed = state.applied.index
            guard
                state.applied.index >= store.checkpointed + StoreLimits.checkpointEntries
                    || store.bytes > StoreLimits.checkpointBytes
            else { return }
            try store.store.makeDurable()
            store.bytes = 0
            store.checkpointed = state.applied.index
            outlets.withLock { $0 }?.durable(state.applied.index)
        } catch { outlets.withLock { $0 }?.failed("\(error)") }
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
                store.flushed = state.applied.index
                current.withLock { $0 = state }
                appliedIndex.store(state.applied.index, ordering: .releasing)
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
        outlets.withLock { $0 = nil }
    }
}
