// SPDX-License-Identifier: Apache-2.0
import Health
import Testing

/// How many checks a tenant gets.
@Suite struct CheckBudgetTests {
    @Test func `checks at once are bounded, and one that ends makes room`() {
        let budget = CheckBudget()
        var begun = 0
        for step in 0..<100 {
            for _ in 0..<100 where budget.begin(now: UInt64(step) * 100_000_000) { begun += 1 }
        }
        #expect(begun == CheckBudget.atOnce)
        budget.end()
        #expect(budget.begin(now: 20_000_000_000) && !budget.begin(now: 20_000_000_000))
    }

    @Test func `checks a second are bounded, whoever waits`() {
        let budget = CheckBudget()
        var begun = 0
        // Ten seconds, every millisecond as many as want to.
        for step in 1...10_000 {
            for _ in 0..<10 where budget.begin(now: UInt64(step) * 1_000_000) {
                begun += 1
                budget.end()
            }
        }
        #expect((10 * CheckBudget.perSecond...(10 * CheckBudget.perSecond + CheckBudget.perSecond / 5)).contains(begun))
    }
}
