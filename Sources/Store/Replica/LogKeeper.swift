// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import Synchronization

/// The log's disk, on a thread of its own: nothing else waits for it.
final class LogKeeper: Sendable {
    private let thread: SerialThread
    private let box: Box
    /// Durations of the latest writes, nanoseconds, as a ring.
    private let durations = Mutex<(ring: [UInt64], at: Int)>(([], 0))

    private final class Box: @unchecked Sendable {  // touched by jobs of `thread` only
        private var open: LogStore?
        init(_ store: LogStore) { open = store }

        var store: LogStore {
            get throws(StoreError) {
                guard let open else { throw .malformed("use of a log that is closed") }
                return open
            }
        }
        func close() { open = nil }
    }

    init(_ store: LogStore) throws(SystemError) {
        box = Box(store)
        thread = try SerialThread("sel-log")
    }

    /// Makes a write durable, then tells.
    func write(_ write: Write, done: @escaping @Sendable (StoreError?) -> Void) {
        thread.add { [self] in
            let begin = monotonicNanoseconds()
            do throws(StoreError) {
                try box.store.write(write)
                note(monotonicNanoseconds() - begin)
                done(nil)
            } catch { done(error) }
        }
    }

    func install(_ info: SnapshotInfo, done: @escaping @Sendable (StoreError?) -> Void) {
        thread.add { [self] in
            do throws(StoreError) {
                try box.store.install(info)
                done(nil)
            } catch { done(error) }
        }
    }

    func discard(_ info: SnapshotInfo, done: @escaping @Sendable (StoreError?) -> Void) {
        thread.add { [self] in
            do throws(StoreError) {
                try box.store.discard(info)
                done(nil)
            } catch { done(error) }
        }
    }

    /// Does what is left, then closes the file.
    func finish() {
        thread.add { [self] in box.close() }
        thread.finish()
    }

    private func note(_ duration: UInt64) {
        durations.withLock { durations in
            if durations.ring.count < 1024 {
                durations.ring.append(duration)
            } else {
                durations.ring[durations.at] = duration
                durations.at = (durations.at + 1) % 1024
            }
        }
    }

    /// The median and the 99th percentile of the latest writes, milliseconds.
    var latency: (median: Double, p99: Double)? {
        let sorted = durations.withLock { $0.ring }.sorted()
        guard !sorted.isEmpty else { return nil }
        return (Double(sorted[sorted.count / 2]) / 1e6, Double(sorted[(sorted.count - 1) * 99 / 100]) / 1e6)
    }
}
