// SPDX-License-Identifier: Apache-2.0
import FlowState
import Simulation

extension StateTable {
    /// Learns on a host that has nobody to tell.
    func learn(_ learned: Learned, now: UInt64) -> LearnOutcome {
        var told = ToldEntries()
        return learn(learned, now: now, told: &told)
    }
}
