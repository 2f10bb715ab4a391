// SPDX-License-Identifier: Apache-2.0
import FlowState
import Linux
import Simulation
import Topology
import Wire

/// Ports that this host may translate sources to: the agent says what it wants and what it has no use for, and is told what
/// the cluster gave it.
extension Agent {
    /// Blocks of ports that are wanted.
    public struct PortDemand: Sendable, Equatable {
        /// The pool: an address of a router.
        public var pool: String
        /// Blocks that are of use.
        public var blocks: Range<UInt32>
        /// How many of them.
        public var count: UInt32
        /// Whether packets need them: otherwise they are of use only if there are plenty.
        public var isNeeded: Bool
    }

    /// What is wanted now; it counts as asked for.
    public func takePortDemand() -> [PortDemand] {
        let wanted = state.withPorts { $0.takeWanted() }
        if wanted.isEmpty { return [] }
        let (names, topology) = translators
        return wanted.compactMap { key, count, isNeeded in
            guard let router = names[key.zone], let blocks = Agent.blocks(of: key.address, topology.routers[router])
            else { return nil }
            return PortDemand(
                pool: PortBlock.pool(key.address, of: router), blocks: blocks, count: UInt32(count),
                isNeeded: isNeeded)
        }
    }

    /// These blocks are this host's now, by pool; all others are not.
    public func setPortBlocks(_ blocks: [String: [UInt32]]) {
        let now = monotonicNanoseconds()
        var held: [TranslationPorts.Key: [UInt32]] = [:]
        for (pool, list) in blocks { if let key = Agent.key(of: pool) { held[key] = list } }
        let all = held
        state.withPorts { ports in
            for key in ports.pools.map(\.key) where all[key] == nil { ports.set(key, [], now: now) }
            for (key, list) in all { ports.set(key, list, now: now) }
        }
    }

    /// What was wanted of a pool could not be had: there is no more of it, or nobody to ask.
    ///
    /// - Parameter again: how many blocks to ask for again soon; `nil` when there are none.
    public func notePortsMissing(_ pool: String, again: UInt32?) {
        guard let key = Agent.key(of: pool) else { return }
        let now = monotonicNanoseconds()
        state.withPorts { ports in
            if let again { ports.wantAgain(key, Int(again)) } else { ports.noteExhausted(key, now: now) }
        }
    }

    /// Blocks that nobody used for a while, by pool: this host does without them from now on.
    ///
    /// - Parameter isScarce: whether all of a pool's blocks that are of use are somebody's.
    public func takeIdlePorts(
        isScarce: (_ pool: String, _ blocks: Range<UInt32>) -> Bool
    ) -> [(pool: String, blocks: [UInt32])] {
        let now = monotonicNanoseconds()
        let needed = neededAddresses
        let (names, topology) = translators
        let held = state.withPorts { ports in ports.pools.filter { !$0.blocks.isEmpty }.map(\.key) }
        let scarce = held.filter { key in
            guard let router = names[key.zone], let blocks = Agent.blocks(of: key.address, topology.routers[router])
            else { return false }
            return isScarce(PortBlock.pool(key.address, of: router), blocks)
        }
        let idle = state.withPorts { ports in
            ports.forgetExhausted(before: now &- min(now, AgentLimits.exhaustedNanoseconds))
            return ports.takeIdle(
                before: now &- min(now, AgentLimits.idlePortsNanoseconds), scarce: Set(scarce),
                before: now &- min(now, AgentLimits.scarcePortsNanoseconds)
            ) { needed.contains($0) }
        }
        return idle.compactMap { key, blocks in
            // Of a router that is gone the cluster takes the blocks back by itself.
            names[key.zone].map { (PortBlock.pool(key.address, of: $0), blocks) }
        }
    }

    private static func key(of pool: String) -> TranslationPorts.Key? {
        PortBlock.read(pool: pool).map { TranslationPorts.Key(zone: .router($0.router), address: $0.address) }
    }

    /// Blocks of an address that rules of its router have use for.
    private static func blocks(of address: IPAddress, _ router: Router?) -> Range<UInt32>? {
        guard let router, !router.translation.isEmpty else { return nil }
        var ranges: [PortRange] = []
        for rule in router.translation.rules {
            switch rule.action {
            case .source(let target)
            where target.first.family == address.family && target.first <= address
                && address <= target.last:
                ranges.append(target.ports ?? .translation)
            case .masquerade(let ports): ranges.append(ports ?? .translation)
            default: break
            }
        }
        // What comes back by the port that it went is masqueraded by itself.
        if ranges.isEmpty { ranges = [.translation] }
        let all = ranges.map(PortBlock.blocks)
        return (all.map(\.lowerBound).min() ?? 0)..<(all.map(\.upperBound).max() ?? PortBlock.count)
    }

    /// Addresses of a router that this host is likely to translate sources to.
    static func likelyAddresses(of router: Router, in topology: Topology) -> Set<TranslationPorts.Key> {
        var addresses: Set<IPAddress> = []
        // Connections to members come from the router's own addresses, where checks are from here or a client is beside.
        if !router.translation.virtual.isEmpty {
            for port in topology.ports(of: router.path) where !port.isMonitor {
                addresses.formUnion(port.addresses.map(\.address))
            }
        }
        for rule in router.translation.rules {
            switch rule.action {
            case .source(let target):
                for index in 0..<min(target.count, AgentLimits.preparedAddresses) {
                    addresses.insert(target.address(index))
                }
            case .masquerade:
                for port in topology.ports(of: router.path) {
                    let name = "\(router.path.name)/\(port.path.name)"
                    if let out = rule.condition.outPorts, out.value.contains(name) == out.isInverted { continue }
                    addresses.formUnion(port.addresses.map(\.address))
                }
            case .destination, .accept: break
            }
        }
        let zone = Tag.router(router.path)
        return Set(addresses.map { TranslationPorts.Key(zone: zone, address: $0) })
    }
}
