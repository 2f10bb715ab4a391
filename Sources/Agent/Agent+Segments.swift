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

    /// Whether a host answers by some way.
    public func canReach(host: String) -> Bool { state.canReach(.host(host)) }

    /// Whether some port of a port's segment carries.
    public func isCarried(segmentOf path: PortPath) -> Bool {
        let fabric = control.withLock { $0.fabric }
        return fabric.isCarried(segmentOf: path, state)
    }

    /// Stations that are told of, at most: a switch outside learns the rest as they speak.
    private static let mostAnnounced = 4096
    /// Frames that are sent at once, and the pause between: packets have their turn meanwhile.
    private static let announcedAtOnce = 64
    private static let pause = Duration.milliseconds(10)

    /// Tells the network behind a port that the stations of its bridge which can be reached from here are to be reached by it now:
    /// switches there send to where they heard a station last. As hypervisors do it for a machine that moved, by RARP requests (RFC 903)
    /// in the stations' names.
    public func announceStations(at path: PortPath) async {
        let fabric = control.withLock { $0.fabric }
        let learned = state.stations(of: .bridge(path.device))
        var frames: [[UInt8]] = []
        for (vlan, mac) in fabric.stations(beyond: path, learned: learned, state).prefix(Self.mostAnnounced) {
            guard let tag = fabric.tag(of: vlan, at: path) else { continue }
            frames.append(Frame.reverseARP(for: mac, vlan: tag))
        }
        for start in stride(from: 0, to: frames.count, by: Self.announcedAtOnce) {
            if start > 0 { try? await Task.sleep(for: Self.pause) }
            if Task.isCancelled { return }
            deliver(Array(frames[start..<min(frames.count, start + Self.announcedAtOnce)]), by: .port(path))
        }
    }
}
