// SPDX-License-Identifier: Apache-2.0
import ClusterSimulation
import Consensus
import TestSupport
import Testing

@Suite struct ClusterTests {
    /// A few lives on the way to work; `make sim` lives thousands.
    @Test func `clusters live through whatever comes`() {
        let first = SeededRandom.seed % 1_000_000_000
        var counts: [String: Int] = [:]
        for seed in first..<first + 40 {
            let outcome = World(seed: seed).live()
            #expect(outcome.violation == nil, "selvage-sim --replay \(seed)")
            counts.merge(outcome.counts, uniquingKeysWith: +)
        }
        // Lives in which nothing happens show nothing.
        for wanted in ["election", "crash", "partition", "snapshot installed", "truncation", "member change", "write"] {
            #expect(counts[wanted, default: 0] > 0, "no \(wanted): \(counts)")
        }
    }

    @Test func `a seed is one life`() {
        func tell(_ seed: UInt64) -> [String] {
            var lines: [String] = []
            _ = World(seed: seed, say: { lines.append($0) }).live()
            return lines
        }
        #expect(tell(7) == tell(7))
        #expect(tell(7) != tell(8))
    }

    @Test(arguments: [Fault.acknowledgesBeforeWriting, .forgetsOldMajority, .neverSendsSnapshot, .leaksInflight])
    func `a life finds bugs that are put in`(_ fault: Fault) {
        let found = (1...40 as ClosedRange<UInt64>).contains {
            World(seed: $0, faults: [fault]).live().violation != nil
        }
        #expect(found)
    }
}

@Suite struct LinearizabilityTests {
    private func write(_ value: UInt64, _ begin: UInt64, _ end: UInt64) -> Operation {
        Operation(kind: .write(value), begin: begin, end: end)
    }
    private func read(_ value: UInt64, _ begin: UInt64, _ end: UInt64) -> Operation {
        Operation(kind: .read(value), begin: begin, end: end)
    }

    @Test func `a read after a write sees it`() {
        #expect(isLinearizable([write(1, 0, 1), read(1, 2, 3)]))
        #expect(!isLinearizable([write(1, 0, 1), read(0, 2, 3)]))
    }

    @Test func `what happens at one time may be in either order, but in one`() {
        #expect(isLinearizable([write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)]))
        #expect(!isLinearizable([write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)]), "the value goes back")
        #expect(isLinearizable([write(1, 0, 10), write(2, 0, 10), read(2, 11, 12)]))
        #expect(!isLinearizable([write(1, 0, 10), write(2, 0, 10), read(2, 11, 12), read(1, 13, 14)]))
    }

    @Test func `a write without an answer may have happened at any time, or not`() {
        let lost = write(1, 0, .max)
        #expect(isLinearizable([lost, read(0, 5, 6), read(1, 7, 8)]))
        #expect(isLinearizable([lost, read(0, 5, 6)]))
        #expect(!isLinearizable([lost, read(1, 5, 6), read(0, 7, 8)]))
    }
}
