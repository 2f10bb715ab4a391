// SPDX-License-Identifier: Apache-2.0

/// Events in order of time, and of their making where times are equal: a binary heap.
struct EventQueue<Event> {
    private var heap: [(time: UInt64, number: UInt64, event: Event)] = []
    private var next: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }

    mutating func add(_ event: Event, at time: UInt64) {
        heap.append((time, next, event))
        next += 1
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if isBefore(parent, child) { break }
            heap.swapAt(parent, child)
            child = parent
        }
    }

    mutating func take() -> (time: UInt64, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(least, parent)
                parent = least
            }
        }
        return (first.time, first.event)
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool {
        (heap[a].time, heap[a].number) < (heap[b].time, heap[b].number)
    }
}
