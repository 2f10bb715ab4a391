// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import Topology

/// Members follow the records of the nodes: a change is agreed on like any other, and whoever leads carries it out. So a
/// leader that is lost halfway leaves nothing undone.
extension Replica {
    /// What the members are to be.
    static func target(_ members: Members, _ state: ClusterState) -> [Members.Member] {
        state.nodes.values.sorted { $0.id < $1.id }.map { node in
            switch (node.role, members.role(of: node.id)) {
            case (.learner, _): .init(node.id, .learner)
            case (.voter, .voter?): .init(node.id, .voter)
            case (.voter, _): .init(node.id, .joining)
            }
        }
    }

    /// A leader makes the members what the records say; the founder of a cluster first of all makes the records.
    func reconcileMembers() {
        guard raft.status.role == .leader, raft.canChange else { return }
        // An older state would take in again who was removed meanwhile. And where nothing is left to apply, nobody has the
        // state locked.
        guard keeper.applied >= raft.commit else { return }
        let state = keeper.state
        guard state.cluster != nil else { return bootstrap() }
        let target = Replica.target(raft.members, state)
        guard !target.isEmpty, Members(target) != Members(raft.members.list) else { return }
        let number = nextNumber
        nextNumber += 1
        step(.change(target, number: number))
    }

    private func bootstrap() {
        guard !isBootstrapping, !configuration.bootstrap.isEmpty else { return }
        isBootstrapping = true
        let promise = loop.makePromise(of: Void.self)
        promise.completeWithTask { [self] in
            let outcome = try await submit(configuration.bootstrap)
            if case .failed(_, let problems) = outcome {
                say("the cluster could not be founded: \(problems.map(\.reason).joined(separator: "; "))")
            }
        }
        promise.futureResult.whenComplete { [self] _ in isBootstrapping = false }
    }

    /// Hands leadership over to another voter. Only the leader can.
    public func transfer(to id: NodeID) async throws {
        try await loop.flatSubmit { [self] in
            let promise = loop.makePromise(of: Void.self)
            let number = nextNumber
            nextNumber += 1
            transfers[number] = promise
            step(.transfer(to: id, number: number))
            if stopReason != nil { transfers.removeValue(forKey: number)?.fail(StoreRefusal.stopped("it stopped")) }
            return promise.futureResult
        }
        .get()
    }
}
