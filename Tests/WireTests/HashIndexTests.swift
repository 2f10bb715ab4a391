// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct HashIndexTests {
    @Test func `it agrees with a dictionary through any number of changes`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        var index = HashIndex()
        var reference: [UInt64: UInt64] = [:]
        for round in 0..<50_000 {
            // Few distinct keys with equal low bits, so that chains form and wrap.
            let key = random.next() & 0x3f << 32 | random.next() & 0xf | 1
            if round % 3 == 0 {
                index[key] = nil
                reference[key] = nil
            } else {
                index[key] = UInt64(round)
                reference[key] = UInt64(round)
            }
            let probe = random.next() & 0x3f << 32 | random.next() & 0xf | 1
            #expect(index[probe] == reference[probe], "seed \(SeededRandom.seed) round \(round)")
        }
        #expect(index.count == reference.count)
        var values: [UInt64] = []
        index.forEachValue { values.append($0) }
        #expect(values.sorted() == reference.values.sorted())
    }
}
