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

/// Which ways to other hosts do not work: what probes found, for those who send. Shared by all threads.
package final class DownPaths: Sendable {
    private let paths = Mutex<Set<TunnelPath>>([])
    /// Whether there are any: hardly ever.
    private let isAny = Atomic<Bool>(false)

    /// All work.
    package init() {}

    func set(_ down: Set<TunnelPath>) {
        paths.withLock {
            $0 = down
            isAny.store(!down.isEmpty, ordering: .releasing)
        }
    }

    func contains(_ path: TunnelPath) -> Bool {
        isAny.load(ordering: .acquiring) && paths.withLock { $0.contains(path) }
    }
}
