// SPDX-License-Identifier: Apache-2.0
import Consensus
import NIOCore
import Store
import Synchronization
import Testing
import Topology

@Suite(.serialized) struct ReplicaTests {
    @Test func `three nodes agree, and each has everything`() async throws {
        let cluster = try await TestCluster.of(3)
        for number in 0..<50 {
            // Through any of them.
            let outcome = try await cluster[UInt64(number % 3 + 1)].submit([bridge("b\(number)")])
            #expect(wasDone(outcome))
        }
        for node in UInt64(1)...3 {
            let replica = try cluster[node]
            try await replica.barrier()
            #expect(replica.state.topology.bridges.count == 50)
        }
        try await cluster.wait("equal sums") { Set(cluster.running.map(\.state.digest)).count == 1 }
        await cluster.stopAll()
    }

    @Test func `a lost leader is replaced, and what was begun is done once`() async throws {
        let cluster = try await TestCluster.of(3)
        let leader = try await cluster.leader()
        let other = try #require(cluster.running.first { $0.id != leader.id })
        async let outcome = other.submit([bridge("meanwhile")], timeout: .seconds(10))
        await cluster.stop(leader.id.value)
        #expect(wasDone(try await outcome))
        #expect(wasDone(try await other.submit([bridge("after")], timeout: .seconds(10))))
        // And back again.
        try await cluster.start(leader.id.value)
        try await cluster.wait("the old leader follows") {
            try cluster[leader.id.value].state.topology.bridges.count == 2
        }
        await cluster.stopAll()
    }

    @Test func `without a majority changes are refused and what is known can be read`() async throws {
        let cluster = try await TestCluster.of(3)
        _ = try await cluster[1].submit([bridge("b")])
        try await cluster.wait("n3 has it") { try cluster[3].state.topology.bridges.count == 1 }
        await cluster.stop(1)
        await cluster.stop(2)
        let left = try cluster[3]
        try await cluster.wait("no leader") { left.agreement.leader == nil }
        await #expect(throws: StoreRefusal.self) { try await left.submit([bridge("c")], timeout: .seconds(1)) }
        await #expect(throws: StoreRefusal.self) { try await left.barrier(timeout: .seconds(1)) }
        #expect(left.state.topology.bridges.count == 1)
        await cluster.stopAll()
    }

    @Test func `a node that joins late gets a snapshot, in pieces`() async throws {
        var options = RaftOptions()
        options.trailingEntries = 50
        options.chunkBytes = 4096
        let cluster = try await TestCluster.of(1, options: options)
        let founder = try cluster[1]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<5000 {
                if number >= 64 { _ = try await group.next() }
                group.addTask { _ = try await founder.submit([bridge("b\(number)")], timeout: .seconds(60)) }
            }
            try await group.waitForAll()
        }
        try await cluster.wait("a shorter log") { try await founder.status().first > 1000 }
        try cluster.create(2)
        _ = try await founder.submit([.putNode(cluster.record(2, .learner))])
        try await cluster.start(2, options: options)
        try await cluster.wait("n2 has all") { try cluster[2].state.topology.bridges.count == 5000 }
        _ = try await founder.submit([bridge("last")])
        try await cluster.wait("n2 follows") { try cluster[2].state.topology.bridges.count == 5001 }
        #expect(try cluster[2].state.digest == founder.state.digest)
        await cluster.stopAll()
    }

    @Test func `what was agreed on is there after a restart of all`() async throws {
        let cluster = try await TestCluster.of(3)
        for number in 0..<20 { _ = try await cluster[1].submit([bridge("b\(number)")]) }
        await cluster.stopAll()
        for node in UInt64(1)...3 { try await cluster.start(node) }
        let leader = try await cluster.leader()
        try await leader.barrier()
        #expect(leader.state.topology.bridges.count == 20)
        await cluster.stopAll()
    }

    @Test func `a node that is removed is refused, and told that it was`() async throws {
        let cluster = try await TestCluster.of(3)
        _ = try await cluster[1].submit([.removeNode(NodeID(3))])
        try await cluster.wait("two members") { try cluster[1].state.members.all.count == 2 }
        try await cluster.wait("n3 hears that it was removed") {
            cluster.lines.withLock { $0 }.contains { $0.hasPrefix("n3:") && $0.contains("revoked: node 3 was removed") }
        }
        await cluster.stopAll()
    }

    @Test func `of two voters one can be removed, and the one that is left goes on`() async throws {
        let cluster = try await TestCluster.of(2)
        let leader = try await cluster.leader()
        let other = try #require(cluster.running.first { $0.id != leader.id })
        _ = try await leader.submit([.removeNode(other.id)])
        try await cluster.wait("one member") { leader.state.members.all == [leader.id] }
        #expect(wasDone(try await leader.submit([bridge("alone")])))
        await cluster.stopAll()
    }

    @Test func `a leader that is removed leaves the others one that leads`() async throws {
        let cluster = try await TestCluster.of(3)
        let leader = try await cluster.leader()
        let other = try #require(cluster.running.first { $0.id != leader.id })
        _ = try await other.submit([.removeNode(leader.id)])
        try await cluster.wait("two members") { other.state.members.all.count == 2 && !other.state.members.isJoint }
        #expect(wasDone(try await other.submit([bridge("without")], timeout: .seconds(10))))
        await cluster.stopAll()
    }

    @Test func `a node whose first change found no majority can make the next`() async throws {
        let cluster = try await TestCluster.of(3)
        for node in UInt64(1)...3 { await cluster.stop(node) }
        try await cluster.start(3)
        await #expect(throws: StoreRefusal.self) {
            try await cluster[3].submit([bridge("early")], timeout: .milliseconds(300))
        }
        try await cluster.start(1)
        try await cluster.start(2)
        #expect(wasDone(try await cluster[3].submit([bridge("late")], timeout: .seconds(10))))
        await cluster.stopAll()
    }

    @Test func `a copy of a node that runs is refused`() async throws {
        let cluster = try await TestCluster.of(2)
        // The copy has the id and, as it starts, a later count of starts.
        let directory = cluster.path(2)
        let copy = cluster.path(9)
        await cluster.stop(2)
        try copyFiles(directory, copy)
        try await cluster.start(2)
        _ = try await cluster[1].submit([bridge("b")], timeout: .seconds(10))
        try bumpEpoch(copy, cluster.identity(2))
        var configuration = Replica.Configuration(
            directory: copy, identity: cluster.identity(2), listen: ("127.0.0.1", cluster.port(9)),
            address: "127.0.0.1:\(cluster.port(9))", program: "test", credentials: try cluster.credentials(2))
        configuration.peers = [NodeID(1): ("127.0.0.1", cluster.port(1))]
        let replica = try Replica(configuration) { line in cluster.lines.withLock { $0.append("copy: \(line)") } }
        try await replica.start()
        try await cluster.wait("the copy hears that it is one") {
            cluster.lines.withLock { $0 }.contains { $0.hasPrefix("copy:") && $0.contains("copied id") }
        }
        #expect(wasDone(try await cluster[2].submit([bridge("c")])))
        await replica.stop()
        await cluster.stopAll()
    }

    @Test func `a node whose log is gone does not start`() async throws {
        let cluster = try await TestCluster.of(2)
        await cluster.stop(2)
        try removeLog(cluster.path(2))
        await #expect(throws: StoreError.lost(cluster.path(2) + "/log.db")) { try await cluster.start(2) }
        await cluster.stopAll()
    }

    @Test func `leadership is handed over`() async throws {
        let cluster = try await TestCluster.of(3)
        let leader = try await cluster.leader()
        let other = try #require(cluster.running.first { $0.id != leader.id })
        try await leader.transfer(to: other.id)
        try await cluster.wait("the other leads") { other.agreement.role == .leader }
        await #expect(throws: StoreRefusal.self) { try await leader.transfer(to: other.id) }
        await cluster.stopAll()
    }
}
