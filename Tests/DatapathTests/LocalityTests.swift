// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Datapath

@Suite struct LocalityTests {
    private func sample(
        wakes: Int = 30, packets: Int = 60, arrivals: [Int: UInt64], on processor: Int, waited: UInt64 = 0,
        now: UInt64 = 0
    ) -> LocalityPolicy.Sample {
        .init(wakes: wakes, packets: packets, arrivals: arrivals, processor: processor, waited: waited, now: now)
    }

    @Test func `single packets draw the thread to where they come from, and keep it there`() {
        var policy = LocalityPolicy()
        #expect(policy.decide(sample(arrivals: [0: 30, 1: 90], on: 1)) == .move(0))
        #expect(policy.decide(sample(arrivals: [0: 120, 1: 2], on: 0)) == .stay)
        #expect(policy.isHeld)
        // The sender moved.
        #expect(policy.decide(sample(arrivals: [0: 90, 1: 29], on: 0)) == .move(1))
        // Two senders on two processors: no place is better.
        #expect(policy.decide(sample(arrivals: [0: 15, 1: 75], on: 1)) == .stay)
    }

    @Test func `a thread that is where its packets come from is kept there`() {
        var policy = LocalityPolicy()
        #expect(policy.decide(sample(arrivals: [0: 1, 1: 120], on: 1)) == .move(1))
    }

    @Test func `bursts and silence set it free`() {
        var policy = LocalityPolicy()
        _ = policy.decide(sample(arrivals: [0: 30, 1: 90], on: 1))
        #expect(policy.decide(sample(packets: 900, arrivals: [0: 900], on: 0)) == .free)
        #expect(!policy.isHeld)
        _ = policy.decide(sample(arrivals: [0: 30, 1: 90], on: 1))
        #expect(policy.decide(sample(wakes: 1, packets: 1, arrivals: [0: 1], on: 0)) == .free)
        #expect(policy.decide(sample(wakes: 0, packets: 0, arrivals: [:], on: 0)) == .stay)
    }

    @Test func `a busy processor is left, and tried again later and later`() {
        var policy = LocalityPolicy()
        var now: UInt64 = 0
        var tries: [UInt64] = []
        while tries.count < 6 {
            now += 100_000_000
            if policy.decide(sample(arrivals: [0: 30, 1: 90], on: 1, now: now)) == .move(0) {
                tries.append(now)
                now += 100_000_000
                let busy = sample(arrivals: [0: 120], on: 0, waited: 30 * 2 * LocalityPolicy.tolerableWait, now: now)
                #expect(policy.decide(busy) == .free)
            }
        }
        let pauses = zip(tries.dropFirst(), tries).map { $0 - $1 }
        #expect(zip(pauses.dropFirst(), pauses).allSatisfy { $0 > $1 }, "\(pauses)")
    }

    @Test func `the kernel's tables are read`() {
        let table = """
            009d22c9 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
            00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000003

            """
        #expect(Locality.arrivals(in: table) == [0: 0x9d22c9, 3: 16])
        #expect(Locality.arrivals(in: "00000001 0\n0000000a 0\nnoise\n") == [0: 1, 1: 10])
        #expect(Locality.wait(in: "123 61171 1\n") == 61171)
        #expect(Locality.wait(in: "") == 0)
    }
}
