// SPDX-License-Identifier: Apache-2.0
import ClusterSimulation
import TestSupport
import Testing

@Suite struct FlowLivesTests {
    @Test func `connections live through whatever comes to the hosts that carry them`() {
        for offset in 0..<3 as Range<UInt64> {
            let seed = SeededRandom.seed &+ offset
            let violation = FlowWorld(seed: seed).live()
            #expect(
                violation == nil,
                "seed \(seed); SWIFT_DETERMINISTIC_HASHING=1, or selvage-sim --flows --replay \(seed), tells it again")
        }
    }
}
