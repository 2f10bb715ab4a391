// SPDX-License-Identifier: Apache-2.0
import Consensus

/// A node's disk: a log store and a state store as the real ones promise to be. What is asked is done in order, each piece
/// whole or not at all; what is not done when the power goes is lost.
struct SimulatedDisk {
    enum Operation {
        case write(Write)
        /// A snapshot that was received takes the place of log and state.
        case install(SnapshotInfo, Registers)
        /// The state machine's state.
        case state(LogIndex, Registers)
        case discard(SnapshotInfo)
    }

    // What is durable.
    private(set) var hard: HardState
    private(set) var base: SnapshotInfo
    private(set) var entries: [Entry]
    private(set) var applied: LogIndex
    private(set) var registers = Registers()
    /// What is under way, oldest first.
    private(set) var pending: [Operation] = []

    init(hard: HardState, base: SnapshotInfo, entries: [Entry]) {
        self.hard = hard
        self.base = base
        self.entries = entries
        applied = base.position.index
    }

    mutating func ask(_ operation: Operation) { pending.append(operation) }

    /// Does the oldest piece of work.
    mutating func finishFirst() -> Operation {
        let operation = pending.removeFirst()
        carryOut(operation)
        return operation
    }

    /// The power goes; of what was under way `survivors` pieces were done, though nobody heard of it.
    mutating func losePower(survivors: Int) {
        for operation in pending.prefix(survivors) { carryOut(operation) }
        pending.removeAll()
    }

    private mutating func carryOut(_ operation: Operation) {
        switch operation {
        case .write(let write):
            if let hard = write.hard { self.hard = hard }
            if let first = write.entries.first {
                let kept = Int(first.index) - Int(base.position.index) - 1
                precondition(kept >= 0 && kept <= entries.count, "a write with a hole")
                entries.removeLast(entries.count - kept)
                entries += write.entries
            }
        case .install(let info, let registers):
            base = info
            entries = []
            applied = info.position.index
            self.registers = registers
        case .state(let index, let registers):
            guard index > applied else { return }
            applied = index
            self.registers = registers
        case .discard(let info):
            guard info.position.index > base.position.index else { return }
            entries.removeFirst(Int(info.position.index - base.position.index))
            base = info
        }
    }

    /// The term of a durable entry; `nil` when there is none, or a snapshot holds it.
    func term(at index: LogIndex) -> Term? {
        if index == base.position.index { return base.position.term }
        guard index > base.position.index, index - base.position.index <= entries.count else { return nil }
        return entries[Int(index - base.position.index) - 1].term
    }

    var lastIndex: LogIndex { base.position.index + UInt64(entries.count) }
}
