// SPDX-License-Identifier: Apache-2.0
import Synchronization
import Topology
import Wire

/// This host's end of tunnels of one kind: what the datapath has a port for.
package struct TunnelEnd: Hashable, Comparable, Sendable {
    var encapsulation: TunnelZone.Encapsulation
    var local: IPAddress

    package init(encapsulation: TunnelZone.Encapsulation, local: IPAddress) {
        (self.encapsulation, self.local) = (encapsulation, local)
    }

    package static func < (a: TunnelEnd, b: TunnelEnd) -> Bool {
        (a.encapsulation.rawValue, a.local) < (b.encapsulation.rawValue, b.local)
    }
}

/// A way from this host to another one through a tunnel.
struct TunnelPath: Hashable, Comparable, Sendable {
    var end: TunnelEnd
    var remote: IPAddress

    static func < (a: TunnelPath, b: TunnelPath) -> Bool { (a.end, a.remote) < (b.end, b.remote) }
}

/// Ways to other hosts that packets do not take, as probes found. Shared by all threads.
package final class AvoidedPaths: Sendable {
    private let paths = Mutex<Set<TunnelPath>>([])
    /// Whether there are any: hardly ever.
    private let isAny = Atomic<Bool>(false)

    /// None.
    package init() {}

    func set(_ avoided: Set<TunnelPath>) {
        paths.withLock {
            $0 = avoided
            isAny.store(!avoided.isEmpty, ordering: .releasing)
        }
    }

    func contains(_ path: TunnelPath) -> Bool {
        isAny.load(ordering: .acquiring) && paths.withLock { $0.contains(path) }
    }
}
