// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

@testable import Topology

@Suite struct FingerprintCountsTests {
    @Test func `it counts as a dictionary does, also hashes that were made to clash`() {
        for seed in UInt64(1)...20 {
            var random = SeededRandom(seed: seed)
            var counts = FingerprintCounts()
            var model: [UInt64: Int] = [:]
            var held: (counts: FingerprintCounts, model: [UInt64: Int])?
            // Few different halves: many hashes share a table and a place in it.
            let names = (0..<3000).map { _ -> UInt64 in
                let upper = UInt64.random(in: 0..<4, using: &random)
                return seed % 2 == 0 ? random.next() : upper << 32 | UInt64.random(in: 0..<3000, using: &random) << 12
            }
            for step in 0..<20_000 {
                guard let name = names.randomElement(using: &random) else { continue }
                if Bool.random(using: &random) || step < 5000 {
                    counts.add(name)
                    model[name, default: 0] += 1
                } else {
                    counts.remove(name)
                    model[name] = (model[name] ?? 0) > 1 ? (model[name] ?? 0) - 1 : nil
                }
                if step == 10_000 { held = (counts, model) }
            }
            for name in names where counts[name] != model[name] ?? 0 { Issue.record("seed \(seed): \(name)") }
            // A copy that was taken stays what it was.
            for name in names where held?.counts[name] != held?.model[name] ?? 0 {
                Issue.record("seed \(seed): \(name), in the copy")
            }
        }
    }
}
