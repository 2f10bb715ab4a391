// SPDX-License-Identifier: Apache-2.0
import Synchronization
import Topology

/// What one revision changed.
public struct HistoryEntry: Sendable {
    /// The revision.
    public var revision: UInt64
    /// Objects as they are since; `nil`: gone.
    public var changes: [(key: ObjectKey, object: TopologyObject?)]
}

/// The latest changes, for whoever watches. Bounded: who asks for more than is left is told so.
public final class History: Sendable {
    private struct Contents {
        var entries: [HistoryEntry] = []
        /// Objects in them.
        var objects = 0
        /// Changes up to here are not known any more.
        var compacted: UInt64 = 0
        var watchers: [UInt64: AsyncStream<Void>.Continuation] = [:]
        var next: UInt64 = 0
    }
    private let contents = Mutex(Contents())

    /// What there is after a revision.
    public enum Answer: Sendable {
        /// Changes, in order; there may be none yet.
        case changes([HistoryEntry])
        /// Changes up to this revision are not known any more: read everything again.
        case compacted(UInt64)
    }

    /// Changes after a revision.
    public func changes(after revision: UInt64) -> Answer {
        contents.withLock { contents in
            guard revision >= contents.compacted else { return .compacted(contents.compacted) }
            // Entries are in order of revision.
            var low = 0
            var high = contents.entries.count
            while low < high {
                let middle = (low + high) / 2
                if contents.entries[middle].revision <= revision { low = middle + 1 } else { high = middle }
            }
            return .changes(Array(contents.entries[low...]))
        }
    }

    /// Yields whenever there may be something new.
    public func news() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let id = contents.withLock { contents in
            contents.next += 1
            contents.watchers[contents.next] = continuation
            return contents.next
        }
        continuation.onTermination = { [self] _ in contents.withLock { $0.watchers[id] = nil } }
        return stream
    }

    func add(_ entries: [HistoryEntry]) {
        let watchers = contents.withLock { contents in
            contents.entries += entries
            contents.objects += entries.reduce(0) { $0 + $1.changes.count }
            var surplus = contents.entries.count - StoreLimits.history
            // A tenth at once, so that not each change moves all.
            if surplus <= StoreLimits.history / 10 { surplus = 0 }
            if contents.objects > StoreLimits.historyObjects {
                // Down to half: the oldest go, whatever their number, but never the newest.
                var (left, count) = (contents.objects, 0)
                while left > StoreLimits.historyObjects / 2, count < contents.entries.count - 1 {
                    left -= contents.entries[count].changes.count
                    count += 1
                }
                surplus = max(surplus, count)
            }
            if surplus > 0 {
                contents.compacted = contents.entries[surplus - 1].revision
                contents.objects -= contents.entries[..<surplus].reduce(0) { $0 + $1.changes.count }
                contents.entries.removeFirst(surplus)
            }
            return Array(contents.watchers.values)
        }
        for watcher in watchers { watcher.yield() }
    }

    /// Begins anew: what changed up to a revision is not known.
    func reset(to revision: UInt64) {
        let watchers = contents.withLock { contents in
            contents.entries.removeAll()
            contents.objects = 0
            contents.compacted = revision
            return Array(contents.watchers.values)
        }
        for watcher in watchers { watcher.yield() }
    }
}
