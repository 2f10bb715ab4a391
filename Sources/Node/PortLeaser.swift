// SPDX-License-Identifier: Apache-2.0
import Agent
import Consensus
import Linux
import Store
import Synchronization
import Topology

/// Gets this node the blocks of ports that its agent wants for translating sources, and gives back those that are idle. The
/// cluster agrees on who has which: no two nodes ever translate to one port of an address at a time.
final class PortLeaser: Sendable {
    private unowned let node: Node
    private let wanted: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation
    private struct Progress {
        /// What this node held when it was last told to the agent.
        var held: [String: [UInt32]] = [:]
        /// Blocks that are being given back: the agent must not use them again.
        var leaving: [String: Set<UInt32>] = [:]
        /// Pools that have none left.
        var exhausted: Set<String> = []
        /// Blocks that an earlier life of this node had: it may have given their ports to connections that it does not know
        /// again, for nobody told it of those that were not answered. They rest until nobody knows those any more.
        var resting: [String: Set<UInt32>] = [:]
        /// Pools of which this life has blocks of its own.
        var renewed: Set<String> = []
        /// Pools of which there is nothing but what rests.
        var released: Set<String> = []
    }
    private let progress = Mutex(Progress())
    private static let idleRounds = Duration.seconds(10)
    private static let pause = Duration.milliseconds(500)
    /// How long blocks of an earlier life rest: longer than anybody remembers what was not answered.
    private static let rest: UInt64 = 120_000_000_000
    /// How long it may take to get others.
    private static let patience: UInt64 = 3_000_000_000
    private let began = monotonicNanoseconds()
    /// Pools that an alarm names.
    private static let named = 3

    init(_ node: Node) {
        self.node = node
        (wanted, wake) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// The agent wants something.
    func notice() { wake.yield() }

    /// Tells the agent what this node holds by a state, if that is something else than before.
    func follow(_ state: ClusterState) {
        let own = node.replica.id
        var held: [String: [UInt32]] = [:]
        for (pool, leases) in state.leases {
            if let lease = leases.first(where: { $0.owner == own }) { held[pool] = lease.blocks }
        }
        let news: [String: [UInt32]]? = progress.withLock { progress in
            guard held != progress.held else { return nil }
            progress.held = held
            for (pool, blocks) in held where !progress.renewed.contains(pool) { progress.resting[pool] = Set(blocks) }
            for (pool, blocks) in progress.leaving {
                let left = blocks.intersection(held[pool] ?? [])
                progress.leaving[pool] = left.isEmpty ? nil : left
            }
            return usable(progress)
        }
        if let news { node.agent.setPortBlocks(news) }
    }

    private func usable(_ progress: Progress) -> [String: [UInt32]] {
        progress.held.reduce(into: [:]) { result, entry in
            var unusable = progress.leaving[entry.key] ?? []
            if !progress.released.contains(entry.key) { unusable.formUnion(progress.resting[entry.key] ?? []) }
            let blocks = unusable.isEmpty ? entry.value : entry.value.filter { !unusable.contains($0) }
            if !blocks.isEmpty { result[entry.key] = blocks }
        }
    }

    /// Asks for what is wanted, as it is wanted.
    func run() async {
        for await _ in wanted {
            if Task.isCancelled { return }
            for demand in node.agent.takePortDemand() { await ask(demand) }
        }
    }

    /// Blocks of a pool that are nobody's.
    private func free(_ pool: String, _ blocks: Range<UInt32>, _ state: ClusterState) -> Int {
        (state.leases[pool] ?? []).reduce(blocks.count) { $0 - $1.blocks.count(where: blocks.contains) }
    }

    private func ask(_ demand: Agent.PortDemand) async {
        let state = node.replica.state
        // Where there is hardly a block for every host, those have them who need them.
        if !demand.isNeeded, free(demand.pool, demand.blocks, state) <= 2 * state.topology.hosts.count { return }
        let outcome = try? await node.replica.submit(
            [.lease(pool: demand.pool, blocks: demand.blocks, count: demand.count, node.replica.id)])
        switch outcome {
        case .done:
            progress.withLock { progress in
                guard progress.renewed.insert(demand.pool).inserted else { return }
                progress.resting[demand.pool] = Set(
                    state.leases[demand.pool]?.first { $0.owner == node.replica.id }?.blocks ?? [])
                // What is usable is told anew.
                progress.held[demand.pool] = nil
            }
            follow(node.replica.state)
            note(demand.pool, isExhausted: false)
        case .failed(.refused, _):
            release(demand.pool)
            node.agent.notePortsMissing(demand.pool, again: nil)
            note(demand.pool, isExhausted: true)
        case .failed:
            // The router or this node is gone, or is not known here yet.
            node.agent.notePortsMissing(demand.pool, again: nil)
        case nil:
            // Nobody to ask now: what is here is used until there is.
            try? await Task.sleep(for: PortLeaser.pause)
            if monotonicNanoseconds() - began > PortLeaser.patience { release(demand.pool) }
            node.agent.notePortsMissing(demand.pool, again: demand.count)
            notice()
        }
    }

    /// There are no others: what an earlier life had is used.
    private func release(_ pool: String) {
        let news: [String: [UInt32]]? = progress.withLock { progress in
            guard progress.resting[pool]?.isEmpty == false, progress.released.insert(pool).inserted else { return nil }
            return usable(progress)
        }
        if let news { node.agent.setPortBlocks(news) }
    }

    /// What an earlier life had has rested long enough.
    private func endRest() {
        let news: [String: [UInt32]]? = progress.withLock { progress in
            guard !progress.resting.isEmpty else { return nil }
            progress.renewed.formUnion(progress.resting.keys)
            progress.resting = [:]
            return usable(progress)
        }
        if let news { node.agent.setPortBlocks(news) }
    }

    private func note(_ pool: String, isExhausted: Bool) {
        let pools = progress.withLock { progress in
            if isExhausted { progress.exhausted.insert(pool) } else { progress.exhausted.remove(pool) }
            return progress.exhausted.sorted()
        }
        let names = pools.prefix(PortLeaser.named).compactMap { PortBlock.read(pool: $0) }
            .map { "\($0.router) \($0.address)" }.joined(separator: ", ")
        let more = pools.count > PortLeaser.named ? " and \(pools.count - PortLeaser.named) more" : ""
        node.replica.alarm(
            "ports",
            pools.isEmpty
                ? nil
                : "no ports left to translate sources to: \(names)\(more); give the rule more addresses, or a wider range of ports"
        )
    }

    /// Gives back what is idle, now and then.
    func returnIdle() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: PortLeaser.idleRounds)
            let state = node.replica.state
            if monotonicNanoseconds() - began > PortLeaser.rest { endRest() }
            for (pool, blocks) in node.agent.takeIdlePorts(isScarce: { free($0, $1, state) == 0 }) {
                progress.withLock { progress in progress.leaving[pool, default: []].formUnion(blocks) }
                let outcome = try? await node.replica.submit([.release(pool: pool, blocks, node.replica.id)])
                if case .done = outcome {
                    note(pool, isExhausted: false)
                } else {
                    let left: [String: [UInt32]] = progress.withLock { progress in
                        progress.leaving[pool]?.subtract(blocks)
                        return usable(progress)
                    }
                    node.agent.setPortBlocks(left)
                }
            }
            // What is nobody's any more is asked for in vain no more.
            let held = Set(node.replica.state.leases.keys)
            let exhausted: Set<String> = progress.withLock { $0.exhausted }
            for pool in exhausted where !held.contains(pool) { note(pool, isExhausted: false) }
        }
    }
}

/// A place for what is made later than those who ask for it.
final class Late<Value: AnyObject & Sendable>: Sendable {
    private let place = Mutex<Value?>(nil)
    var value: Value? {
        get { place.withLock { $0 } }
        set { place.withLock { $0 = newValue } }
    }
}
