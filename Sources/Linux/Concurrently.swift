// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Calls `body` with 0 to `count` - 1, many at a time, each on a thread of its own: for calls of which each waits for the
/// kernel, and does so no longer when many wait together. Returns when all are done.
public func concurrently(_ count: Int, atMost limit: Int = 64, _ body: @escaping @Sendable (Int) -> Void) {
    let next = Counter()
    let work = { @Sendable in
        while true {
            let index = next.value.add(1, ordering: .relaxed).oldValue
            if index >= count { return }
            body(index)
        }
    }
    var threads: [NamedThread] = []
    for _ in 1..<max(1, min(count, limit)) {
        guard let thread = try? NamedThread("sel-many", work) else { break }
        threads.append(thread)
    }
    work()
    for thread in threads { thread.join() }
}

private final class Counter: Sendable { let value = Atomic<Int>(0) }
