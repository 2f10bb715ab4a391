// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology

/// Blocks of pools that nodes hold, such as ports for address translation.
extension ClusterState {
    mutating func lease(
        _ pool: String, _ size: UInt32, _ count: UInt32, _ node: NodeID, _ change: inout Change
    ) -> Outcome? {
        guard nodes[node] != nil else { return unknownNode(node) }
        var list = leases[pool] ?? []
        let taken = Set(list.flatMap(\.blocks))
        guard UInt64(taken.count) + UInt64(count) <= UInt64(size) else {
            return .failed(
                .refused,
                [
                    Problem(
                        pool, "has \(Int(size) - taken.count) of \(size) blocks left, \(count) are wanted",
                        remedy: "give blocks back, or make the pool larger")
                ])
        }
        var found: [UInt32] = []
        var block: UInt32 = 0
        while found.count < count {
            if !taken.contains(block) { found.append(block) }
            block += 1
        }
        touch(.lease(pool), &change)
        if let at = list.firstIndex(where: { $0.owner == node }) {
            list[at].blocks = (list[at].blocks + found).sorted()
        } else {
            list.append(Lease(owner: node, blocks: found))
            list.sort { $0.owner < $1.owner }
        }
        leases[pool] = list
        return nil
    }

    mutating func release(
        _ pool: String, _ blocks: [UInt32], _ node: NodeID, _ change: inout Change
    ) -> Outcome? {
        guard let at = leases[pool]?.firstIndex(where: { $0.owner == node }) else { return nil }
        touch(.lease(pool), &change)
        leases[pool]?[at].blocks.removeAll { blocks.contains($0) }
        if leases[pool]?[at].blocks.isEmpty == true { leases[pool]?.remove(at: at) }
        if leases[pool]?.isEmpty == true { leases[pool] = nil }
        return nil
    }
}
