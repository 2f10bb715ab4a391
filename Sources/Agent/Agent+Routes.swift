// SPDX-License-Identifier: Apache-2.0
import FlowState
import Glibc
import Linux
import Simulation
import Synchronization
import Topology
import Wire

/// Routes that daemons of uplinks learn, on this host and on others: what changes in the table is put into the fabric.
extension Agent {
    /// Begins to follow them.
    func followRoutes() {
        state.onRouteNews { [routeWorker] in
            routeWorker.add { [weak self] in
                guard let self else { return }
                let began = monotonicNanoseconds()
                takeRoutes()
                // Many changes in a row are put in force together, so that this takes a share of one processor only.
                let took = monotonicNanoseconds() - began
                usleep(UInt32(min(max(AgentLimits.routesPauseNanoseconds, 2 * took), 1_000_000_000) / 1000))
            }
        }
        routeWorker.add { [weak self] in self?.takeRoutes() }
    }

    /// Puts in force what changed since the last time.
    func takeRoutes() {
        let keys = state.takeRouteNews()
        if keys.isEmpty { return }
        // The tries are made without keeping others from what is in force: nobody else makes any but with other uplinks.
        let (before, uplinks) = control.withLock { ($0.fabric.learned, $0.uplinks) }
        var learned = before
        var tags: Set<Tag> = []
        var isChanged = false
        for key in keys {
            guard let router = uplinks[key.port],
                learned.set(key.prefix, port: key.port, router: router, state.route(key) ?? .withdrawn)
            else { continue }
            isChanged = true
            if keys.count <= AgentLimits.routesInvalidatedOneByOne {
                tags.formUnion(LearnedRoutes.tags(of: key.prefix, router: router))
            } else {
                // All of the router's flows are looked at: that costs less than to look for each.
                tags.insert(.routes(router: router))
            }
        }
        guard isChanged else { return }
        let isDone = control.withLock { control in
            guard control.uplinks == uplinks else { return false }
            control.fabric = Fabric(control.fabric, learned: learned)
            _ = publish(&control, changed: tags)
            return true
        }
        if !isDone { state.retakeRouteNews(keys) }
    }

    /// Takes routes in by uplinks that are new in a topology, and out by those that are gone.
    ///
    /// - Returns: the tags of what was decided without them, or by them.
    func followUplinks(_ control: inout Control) -> Set<Tag> {
        var uplinks: [Tag: Tag] = [:]
        for path in control.topology.ports.uplinks { uplinks[.port(path)] = .router(path.device) }
        if uplinks == control.uplinks { return [] }
        let changed = Set(uplinks.filter { control.uplinks[$0.key] != $0.value }.values)
            .union(control.uplinks.filter { uplinks[$0.key] != $0.value }.values)
        let isOnlyMore = control.uplinks.allSatisfy { uplinks[$0.key] == $0.value }
        var learned = isOnlyMore ? control.fabric.learned : LearnedRoutes()
        for (key, route) in state.allRoutes {
            guard let router = uplinks[key.port], !isOnlyMore || control.uplinks[key.port] == nil else { continue }
            _ = learned.set(key.prefix, port: key.port, router: router, route)
        }
        control.uplinks = uplinks
        control.fabric = Fabric(control.fabric, learned: learned)
        return Set(changed.map { .routes(router: $0) })
    }

    /// How many destinations routers with uplinks learned from daemons.
    public var learnedRoutes: [DevicePath: Int] {
        control.withLock { control in
            let routers = Set(control.topology.ports.uplinks.map(\.device))
            return Dictionary(uniqueKeysWithValues: routers.map { ($0, control.fabric.learned.count(of: .router($0))) })
        }
    }
}
