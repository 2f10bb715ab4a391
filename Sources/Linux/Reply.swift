// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// One value that a thread waits for and another gives. For control calls to dedicated threads; not for tasks.
public final class Reply<Value: Sendable>: @unchecked Sendable {  // `value` is touched with `lock` held only
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var value: Value?

    /// A reply that has not come.
    public init() {
        lock = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        pthread_cond_destroy(condition)
        lock.deallocate()
        condition.deallocate()
    }

    /// Gives the value.
    public func put(_ value: Value) {
        pthread_mutex_lock(lock)
        self.value = value
        pthread_cond_signal(condition)
        pthread_mutex_unlock(lock)
    }

    /// Waits for the value.
    public func take() -> Value {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while true {
            if let value { return value }
            pthread_cond_wait(condition, lock)
        }
    }
}
