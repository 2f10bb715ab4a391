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
        control.withLock { control in
            var learned = control.fabric.learned
            var tags: Set<Tag> = []
            var isChanged = false
            for key in keys {
                guard let router = control.uplinks[key.port],
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
            control.fabric = Fabric(control.fabric, learned: learned)
            _ = publish(&control, changed: tags)
        }
    }

    /// Takes routes in by uplinks that are new in a topology, and out by those that are gone.
    func followUplinks(_ control: inout Control) {
        var uplinks: [Tag: Tag] = [:]
        for path in control.topology.ports.uplinks { uplinks[.port(path)] = .router(path.device) }
        if uplinks == control.uplinks { return }
        let isOnlyMore = control.uplinks.allSatisfy { uplinks[$0.key] == $0.value }
        var learned = isOnlyMore ? control.fabric.learned : LearnedRoutes()
        for (key, route) in state.allRoutes {
            guard let router = uplinks[key.port], !isOnlyMore || control.uplinks[key.port] == nil else { continue }
            _ = learned.set(key.prefix, port: key.port, router: router, route)
        }
        control.uplinks = uplinks
        // Flows by uplinks that came or went have the tags of these ports, and those of their networks.
        control.fabric = Fabric(control.fabric, learned: learned)
    }

    /// How many destinations routers with uplinks learned from daemons.
    public var learnedRoutes: [DevicePath: Int] {
        control.withLock { control in
            let routers = Set(control.topology.ports.uplinks.map(\.device))
            return Dictionary(uniqueKeysWithValues: routers.map { ($0, control.fabric.learned.count(of: .router($0))) })
        }
    }
}
