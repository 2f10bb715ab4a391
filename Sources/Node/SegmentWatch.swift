// SPDX-License-Identifier: Apache-2.0
import Agent
import HashTreeCollections
import Synchronization
import Topology

/// Tells networks outside which stations are reached by a port of this host, when it begins to carry for its segment.
final class SegmentWatch: Sendable {
    private unowned let node: Node
    private struct Carrying {
        /// Ports of the segment that work. Where others come back they may have carried meanwhile, as far as they knew.
        var working: Set<PortPath>
        var since: ContinuousClock.Instant
        var told = 0
    }
    /// Ports here that carry for their segments.
    private let carrying = Mutex<[PortPath: Carrying]>([:])
    /// Ports by which stations are being told of.
    private let announcing = Mutex<Set<PortPath>>([])

    /// How often it is looked where there are segments, and where there are none: switches outside are to learn of it soon.
    private static let (interval, idleInterval) = (Duration.milliseconds(50), Duration.seconds(1))
    /// When stations are told of, after the port began to carry: the switch there may not listen yet.
    private static let announcements: [Duration] = [
        .zero, .milliseconds(100), .milliseconds(300), .seconds(1), .seconds(3), .seconds(10), .seconds(30),
    ]

    init(_ node: Node) { self.node = node }

    func run() async {
        while !Task.isCancelled {
            let hasSegments = !node.agent.topology.ports.shared.isEmpty
            if hasSegments { look() } else { carrying.withLock { $0.removeAll() } }
            try? await Task.sleep(for: hasSegments ? Self.interval : Self.idleInterval)
        }
    }

    private func look() {
        let now = node.agent.carryingPorts()
        let (came, went, due) = carrying.withLock { carrying in
            let came = now.keys.filter { carrying[$0] == nil }
            let went = carrying.keys.filter { now[$0] == nil }
            for (path, working) in now {
                // Who comes back may have carried meanwhile; who goes has told nobody anything.
                if let old = carrying[path], working.isSubset(of: old.working) {
                    carrying[path]?.working = working
                } else {
                    carrying[path] = Carrying(working: working, since: .now)
                }
            }
            for path in went { carrying[path] = nil }
            var due: [PortPath] = []
            for (path, one) in carrying
            where one.told < Self.announcements.count && .now - one.since >= Self.announcements[one.told] {
                carrying[path]?.told += 1
                if announcing.withLock({ $0.insert(path).inserted }) { due.append(path) }
            }
            return (came, went, due)
        }
        for path in came.sorted() { node.say("\(path) carries for its segment") }
        for path in went.sorted() {
            node.say("\(path) carries no more for its segment")
            node.carriesNoMore(path)
        }
        for path in due {
            Task { [self, agent = node.agent] in
                await agent.announceStations(at: path)
                announcing.withLock { _ = $0.remove(path) }
            }
        }
    }
}
