// SPDX-License-Identifier: Apache-2.0
import Datapath
import Netlink
import Simulation
import Topology
import Wire

/// What is promised to machines here waits in queues of its own where it leaves for other hosts.
extension Agent {
    /// Makes queues what ports that are bound here are promised, before flows that use them are installed.
    ///
    /// - Returns: tags of the ports whose queues came or went.
    func reconcileQueues(_ control: inout Control) -> Set<Tag> {
        control.queueProblem = nil
        var promised: [PortPath: UInt32] = [:]
        for path in control.numbers.keys {
            if let guarantee = control.topology.ports[path]?.quality.guarantee { promised[path] = guarantee }
        }
        let place = control.topology.hosts[host]
        if place?.rate == nil, let path = promised.keys.min() {
            control.queueProblem =
                "\(path): what it is promised is not kept: this host's rate is not known (rate of hosts)"
            promised = [:]
        }
        var queues = control.queues.filter { promised[$0.key] != nil }
        var next: UInt16 = 2
        // Numbers that go are nobody's until flows were decided without them.
        let taken = Set(control.queues.values)
        for path in promised.keys.sorted() where queues[path] == nil && queues.count < UnderlayQueues.most {
            while taken.contains(next) { next += 1 }
            queues[path] = next
            next += 1
        }
        if let left = promised.keys.filter({ queues[$0] == nil }).min() {
            control.queueProblem =
                "\(left): what it is promised is not kept: there are \(UnderlayQueues.most) queues already"
        }
        let changed = Set(queues.keys).symmetricDifference(control.queues.keys)
        let wanted = place?.rate.flatMap { rate -> UnderlayQueues? in
            if queues.isEmpty { return nil }
            let guarantees = queues.map { ($0.value, promised[$0.key] ?? 0) }
            return UnderlayQueues(
                locals: Set((place?.tunnelAddresses ?? [:]).values.compactMap(\.v4)), rate: rate,
                guarantees: Dictionary(guarantees, uniquingKeysWith: { a, _ in a }))
        }
        if control.queuesMade != .some(wanted) {
            do {
                try datapath.setQueues(wanted)
                control.queuesMade = .some(wanted)
            } catch {
                // It is tried again with the next change.
                control.queuesMade = nil
                if wanted != nil { control.queueProblem = "what machines are promised is not kept: \(error)" }
            }
        }
        control.queues = queues
        return Set(changed.map { .port($0) })
    }
}
