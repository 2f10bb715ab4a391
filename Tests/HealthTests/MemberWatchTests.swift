// SPDX-License-Identifier: Apache-2.0
import Health
import Simulation
import TestSupport
import Testing

/// What checks in a row make of a member.
@Suite struct MemberWatchTests {
    private let good = CheckResult(.answered)
    private let bad = CheckResult(.refused)

    @Test func `a member that nobody knows is up with its first good answer, and down when it failed often enough`() {
        var watch = MemberWatch(known: nil)
        #expect(watch.health == nil)
        let isUp = watch.take(good, rise: 3, fall: 2, now: 5)
        #expect(isUp)
        #expect(watch.health == MemberHealth(isUp: true, .answered, since: 5))
        watch = MemberWatch(known: nil)
        let isSoon = watch.take(bad, rise: 3, fall: 2, now: 5)
        #expect(!isSoon)
        #expect(watch.health == nil)
        let isDown = watch.take(bad, rise: 3, fall: 2, now: 7)
        #expect(isDown)
        #expect(watch.health == MemberHealth(isUp: false, .refused, since: 7))
    }

    @Test func `what it fails by may change while it is down, since when does not`() {
        var watch = MemberWatch(known: MemberHealth(isUp: false, .refused, since: 7))
        let isNews = watch.take(CheckResult(.status, detail: 503), rise: 2, fall: 2, now: 9)
        #expect(!isNews)
        #expect(watch.health == MemberHealth(isUp: false, .status, detail: 503, since: 7))
        #expect(watch.health?.reason == "answered with status 503")
    }

    @Test func `only so many results in a row change a member, whoever watched it before`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for _ in 0..<200 {
            let rise = UInt8.random(in: 1...4, using: &random)
            let fall = UInt8.random(in: 1...4, using: &random)
            let known = MemberHealth(isUp: Bool.random(using: &random), .answered, since: 1)
            var watch = MemberWatch(known: known)
            var (isUp, last, run) = (known.isUp, known.isUp, 0)
            for now in 2..<100 as Range<UInt64> {
                let isGood = Int.random(in: 0...2, using: &random) > 0
                run = isGood == last ? run + 1 : 1
                last = isGood
                let isNews = watch.take(isGood ? good : bad, rise: rise, fall: fall, now: now)
                let changes = isGood != isUp && run >= Int(isUp ? fall : rise)
                if changes { isUp = isGood }
                #expect(isNews == changes && watch.health?.isUp == isUp, "seed \(seed)")
                if changes { #expect(watch.health?.since == now) }
            }
        }
    }
}
