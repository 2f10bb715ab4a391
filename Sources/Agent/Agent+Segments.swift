// SPDX-License-Identifier: Apache-2.0
import FlowState
import Simulation
import Synchronization
import Topology
import Wire

/// Ports that lead to networks outside, of which one of several carries.
extension Agent {
    /// Ports here that carry for their segments, as of now; of each the ports of the segment that work.
    public func carryingPorts() -> [PortPath: Set<PortPath>] {
        let fabric = control.withLock { $0.fabric }
        return fabric.carrying(state)
    }

    /// Whether some port of a port's segment carries.
    public func isCarried(segmentOf path: PortPath) -> Bool {
        let fabric = control.withLock { $0.fabric }
        return fabric.isCarried(segmentOf: path, state)
    }

    /// Stations that are told of at once, at most: a switch outside learns the rest as they speak.
    private static let mostAnnounced = 4096

    /// Tells the network behind a port that its bridge's stations are to be reached by it now: switches there send to where they
    /// heard a station last. As hypervisors do it for a machine that moved, by RARP requests (RFC 903) in the stations' names.
    public func announceStations(at path: PortPath) {
        let fabric = control.withLock { $0.fabric }
        let own = Set(fabric.topology.members(ofSegmentAt: path).map(Tag.port))
        var stations = fabric.stations(beyond: path)
        for station in state.stations(of: .bridge(path.device)) where !own.contains(station.port) {
            stations.append((station.vlan, station.mac))
        }
        for (vlan, mac) in stations.prefix(Self.mostAnnounced) {
            guard let tag = fabric.tag(of: vlan, at: path) else { continue }
            deliver(Frame.reverseARP(for: mac, vlan: tag), by: .port(path))
        }
    }
}
