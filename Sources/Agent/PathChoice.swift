// SPDX-License-Identifier: Apache-2.0
import Gossip
import Topology

/// What is made of what is known of the ways to other hosts: which of them packets take.
struct PathChoice: Equatable {
    /// Hosts that do not answer by any way.
    var dead: Set<String> = []
    /// Ways that packets do not take: those that do not work, and while one to the same host is known to work, those of which nothing is
    /// known. Of a host that is dead, one is left, that which worked last: where its node is gone, its datapath may go on.
    var avoided: Set<TunnelPath> = []
    /// How to reach hosts of whose addresses some are down and another one works.
    var detours: [String: Detour] = [:]

    init() {}

    /// - Parameter ways: of each way its host, its state, and since when it is so.
    init(_ ways: [(host: String, path: TunnelPath, state: PathState, since: UInt64)]) {
        for (host, ways) in Dictionary(grouping: ways, by: \.host) {
            let working = ways.filter { $0.state == .up }
            if working.isEmpty {
                let down = ways.filter { $0.state == .down }
                guard down.count == ways.count else {
                    avoided.formUnion(down.map(\.path))
                    continue
                }
                dead.insert(host)
                let last = ways.max { ($0.since, $1.path) < ($1.since, $0.path) }?.path
                avoided.formUnion(down.map(\.path).filter { $0 != last })
                continue
            }
            avoided.formUnion(ways.filter { $0.state != .up }.map(\.path))
            let down = ways.filter { $0.state == .down }
            guard !down.isEmpty, let way = working.map(\.path).min() else { continue }
            var detour = Detour()
            detour.address = way.remote
            // One address may be reached by another way.
            detour.down = Set(down.map(\.path.remote)).subtracting(working.map(\.path.remote))
            if !detour.down.isEmpty { detours[host] = detour }
        }
    }
}
