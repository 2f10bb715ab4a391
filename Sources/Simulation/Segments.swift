// SPDX-License-Identifier: Apache-2.0
import Topology

/// Bridges that are joined by links between bridges, in either of two snapshots.
struct Segments {
    private let both: [Topology]

    init(_ old: Topology, _ new: Topology) { both = [old, new] }

    /// The bridges that share the segments of a port's bridge, or of the bridge that a router's port is linked to.
    func bridges(near port: Port) -> Set<DevicePath> {
        let device: DevicePath
        if port.kind == .bridge {
            device = port.path.device
        } else if case .peer(let other) = port.attachment, both.contains(where: { $0.ports[other]?.kind == .bridge }) {
            device = other.device
        } else {
            return []
        }
        var found: Set<DevicePath> = [device]
        var queue = [device]
        while let next = queue.popLast() {
            for topology in both {
                for link in topology.ports.linked(of: next) where link.kind == .bridge {
                    guard case .peer(let other) = link.attachment, topology.ports[other]?.kind == .bridge else {
                        continue
                    }
                    if found.insert(other.device).inserted { queue.append(other.device) }
                }
            }
        }
        return found
    }
}
