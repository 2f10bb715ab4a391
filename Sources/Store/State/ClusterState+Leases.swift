// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology

/// Blocks of pools that nodes hold, such as ports for address translation.
extension ClusterState {
    /// Blocks of one pool, at most.
    static let blocksOfPool = 65_536

    mutating func lease(
        _ pool: String, _ blocks: Range<UInt32>, _ count: UInt32, _ node: NodeID, _ change: inout Change
    ) -> Outcome? {
        guard nodes[node] != nil else { return unknownNode(node) }
        // What nobody can want would only cost time on every node.
        guard blocks.count <= ClusterState.blocksOfPool else {
            return .failed(
                .refused,
                [
                    Problem(
                        pool, "a pool of \(blocks.count) blocks is too large",
                        remedy: "use \(ClusterState.blocksOfPool) at most")
                ])
        }
        if let (path, _) = PortBlock.read(pool: pool), topology.routers[path]?.translation.isEmpty != false {
            return .failed(
                .notFound,
                [
                    Problem(
                        pool, "router \(path) translates nothing", remedy: "give it nat rules, or lease no ports of it")
                ])
        }
        var list = leases[pool] ?? []
        let taken = Set(list.flatMap(\.blocks))
        let found = blocks.lazy.filter { !taken.contains($0) }.prefix(Int(count))
        guard !found.isEmpty || count == 0 else {
            return .failed(
                .refused,
                [
                    Problem(
                        pool, "all \(blocks.count) blocks are taken",
                        remedy: "give blocks back, or make the pool larger")
                ])
        }
        touch(.lease(pool), &change)
        if let at = list.firstIndex(where: { $0.owner == node }) {
            list[at].blocks = (list[at].blocks + Array(found)).sorted()
        } else {
            list.append(Lease(owner: node, blocks: Array(found)))
            list.sort { $0.owner < $1.owner }
        }
        leases[pool] = list
        return nil
    }

    /// Takes back the ports of a router that goes.
    mutating func releasePorts(of router: DevicePath, _ change: inout Change) {
        if leases.isEmpty { return }
        for pool in leases.keys.sorted() where PortBlock.read(pool: pool)?.router == router {
            touch(.lease(pool), &change)
            leases[pool] = nil
        }
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
