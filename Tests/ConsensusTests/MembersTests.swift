// SPDX-License-Identifier: Apache-2.0
import Consensus
import TestSupport
import Testing

@Suite struct MembersTests {
    @Test func `a quorum is a majority, of both while there are two`() {
        let ids = (1...5).map { NodeID(UInt64($0)) }
        let three = Members(voters: Array(ids[..<3]))
        #expect(three.hasQuorum { $0 <= ids[1] })
        #expect(!three.hasQuorum { $0 <= ids[0] })
        let joint = Members(ids[2...].map { .init($0, .voter) }, outgoing: Array(ids[..<3]))
        #expect(!joint.hasQuorum { $0 >= ids[2] }, "the old majority is missing")
        #expect(joint.hasQuorum { $0 >= ids[1] })
        #expect(!Members([.init(ids[0], .learner)]).hasQuorum { _ in true }, "nobody elects nobody")
    }
}
