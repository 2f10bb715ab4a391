// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import FlowState
import Simulation
import Store
import Topology
import Wire

/// How members of pools are.
extension Node {
    func members(of name: String) -> [MemberAnswer] {
        let topology = replica.state.topology
        guard let path = DevicePath(name), let pool = topology.pools[path] else { return [] }
        let routers = topology.routers.values.filter { $0.balances(path) }.sorted { $0.path < $1.path }
        return pool.members.map { member in
            MemberAnswer(
                member: PoolMemberResource(member), views: routers.map { view(of: member, of: pool, from: $0) })
        }
    }

    /// Ports of a member by which its connections are counted, at most.
    private static let countedPorts = 256

    private func view(of member: PoolMember, of pool: Pool, from router: Router) -> MemberAnswer.View {
        let known =
            pool.monitor == nil
            ? nil : agent.state.health(of: member.identity, pool: .balance(pool.path, router: router.path))
        // A member without a port of its own has those that are asked for.
        var ports: Set<UInt32> = []
        for virtual in router.translation.virtual where virtual.pool == pool.path.name {
            if let own = member.port {
                ports.insert(UInt32(virtual.ipProtocol) << 16 | UInt32(own))
                continue
            }
            for range in virtual.ports.sorted() where range.last >= range.first {
                for asked in Int(range.first)...Int(range.last) where ports.count < Node.countedPorts {
                    ports.insert(UInt32(virtual.ipProtocol) << 16 | UInt32(asked))
                }
            }
        }
        let connections = ports.reduce(0) { sum, one in
            sum
                + agent.state.connections(
                    to: member.address, port: UInt16(truncatingIfNeeded: one), ipProtocol: UInt8(one >> 16),
                    zone: .router(router.path))
        }
        return MemberAnswer.View(
            router: router.path.description, health: known.map { $0.isUp ? "up" : "down" } ?? "unknown",
            reason: known?.reason ?? (pool.monitor == nil ? "not checked" : nil),
            since: known.map { rfc3339(Int64($0.since / 1000)) }, connections: connections)
    }

    /// Members that are checked, as whoever watches many nodes has them.
    func healthMetrics(_ text: inout MetricsText) {
        let topology = replica.state.topology
        var samples: [MetricsText.Sample] = []
        for router in topology.routers.values.sorted(by: { $0.path < $1.path }) {
            for pool in topology.monitored(by: router) {
                for member in pool.members {
                    guard
                        let health = agent.state.health(
                            of: member.identity, pool: .balance(pool.path, router: router.path))
                    else { continue }
                    samples.append(
                        .init(
                            UInt64(health.isUp ? 1 : 0), ("pool", pool.path.description),
                            ("router", router.path.description), ("member", member.name)))
                }
            }
        }
        text.gauge("selvage_pool_member_up", "Whether a member that is checked gets new connections.", samples)
    }
}
