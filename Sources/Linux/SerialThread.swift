// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A thread that does one job after the other: for calls that block, such as those to a disk, kept in order.
public final class SerialThread: @unchecked Sendable {  // what varies is touched with `lock` held only
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var jobs: [@Sendable () -> Void] = []
    private var isEnding = false

    /// Starts a thread; it ends with ``finish()``.
    ///
    /// - Parameter name: up to 15 bytes.
    public init(_ name: String) throws(SystemError) {
        lock = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        pthread_cond_init(condition, nil)
        _ = try NamedThread(name) { self.run() }
    }

    deinit {
        pthread_mutex_destroy(lock)
        pthread_cond_destroy(condition)
        lock.deallocate()
        condition.deallocate()
    }

    /// Adds a job; the thread keeps itself alive until it has done all.
    public func add(_ job: @escaping @Sendable () -> Void) {
        pthread_mutex_lock(lock)
        jobs.append(job)
        pthread_cond_signal(condition)
        pthread_mutex_unlock(lock)
    }

    /// How many jobs wait.
    public var backlog: Int {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return jobs.count
    }

    /// Does what is left, then ends.
    public func finish() {
        let reply = Reply<Bool>()
        pthread_mutex_lock(lock)
        isEnding = true
        jobs.append { reply.put(true) }
        pthread_cond_signal(condition)
        pthread_mutex_unlock(lock)
        _ = reply.take()
    }

    private func run() {
        while true {
            pthread_mutex_lock(lock)
            while jobs.isEmpty, !isEnding { pthread_cond_wait(condition, lock) }
            let batch = jobs
            jobs.removeAll(keepingCapacity: true)
            let isOver = isEnding && batch.isEmpty
            pthread_mutex_unlock(lock)
            if isOver { return }
            for job in batch { job() }
        }
    }
}
