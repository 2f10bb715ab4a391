// SPDX-License-Identifier: Apache-2.0
import FlowState
import Simulation
import TestSupport
import Topology
import Wire

/// What goes wrong between hosts.
struct FlowFaults {
    /// What was hurt, and is to heal.
    enum Wound {
        case cut([Int])
        case loss(Double)
        case node(Int)
    }

    var isOn = false
    /// Ways on which nothing arrives, from and to.
    var cuts: Set<[Int]> = []
    /// When a way from or to a host was cut last.
    var lastCut: [Int: UInt64] = [:]
    /// How much of what is sent is lost.
    var loss = 0.0

    func cuts(_ from: Int, _ to: Int) -> Bool { cuts.contains([from, to]) }

    /// Whether a host is cut off from another one, or was until a moment ago: what the others know it may not.
    func isApart(_ host: Int, _ now: UInt64) -> Bool {
        guard let last = lastCut[host] else { return false }
        return last == .max || now - last < 1_500_000_000
    }

    /// Whether a packet arrives.
    func lets(_ from: Int, _ to: Int, _ random: inout SeededRandom) -> Bool {
        if cuts.contains([from, to]) { return false }
        return loss == 0 || Double.random(in: 0..<1, using: &random) >= loss
    }
}

extension FlowWorld {
    /// Something goes wrong, or a machine moves.
    func hurt() {
        guard faults.isOn else { return }
        events.add(.fault, at: now + delay(300_000...4_000_000))
        let host = Int.random(in: 0..<hosts.count, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0:
            // Some on one side, the others on the other.
            let side = Set(hosts.indices.filter { _ in Bool.random(using: &random) })
            for a in side { for b in hosts.indices where !side.contains(b) { cut([[a, b], [b, a]]) } }
            count("partitions")
        case 1:
            let other = Int.random(in: 0..<hosts.count, using: &random)
            if other != host { cut([[host, other]]) }
            count("one-way cuts")
        case 2:
            faults.loss = Double.random(in: 0.05...0.4, using: &random)
            events.add(.heal(.loss(0)), at: now + delay(500_000...3_000_000))
            count("bursts of loss")
        case 3, 4: kill(host)
        case 5, 6: move()
        default:
            // The clock on the wall jumps, which a node sees when it starts.
            let jump = UInt64.random(in: 0...600, using: &random) * FlowWorld.second
            hosts[host].wall = Bool.random(using: &random) ? hosts[host].wall + jump : hosts[host].wall - jump
            count("clock jumps")
            kill(host)
        }
    }

    private func cut(_ ways: [[Int]]) {
        let time = delay(300_000...6_000_000)
        for way in ways where faults.cuts.insert(way).inserted {
            events.add(.heal(.cut(way)), at: now + time)
            for host in way { faults.lastCut[host] = .max }
        }
    }

    /// A node dies. What it forwards by stays in the kernel, as long as nobody changes it.
    private func kill(_ host: Int) {
        guard hosts[host].node != nil else { return }
        let life = hosts[host].life
        if Bool.random(using: &random) {
            // It ends in order: what it knows is written.
            if let node = hosts[host].node { hosts[host].journal = (node.table.allRows(now: now), now) }
        }
        if Bool.random(using: &random) { hosts[host].datapath.removeAll() }
        hosts[host].node = nil
        hosts[host].datapath.handler = nil
        excuse(host)
        count("deaths")
        say("\(now / FlowWorld.millisecond) ms: \(hosts[host].name) dies, life \(life)")
        events.add(.heal(.node(host)), at: now + delay(50_000...3_000_000))
    }

    /// Connections that only the dead knew can't go on.
    private func excuse(_ dead: Int) {
        for number in machines.connections.indices {
            let connection = machines.connections[number]
            guard connection.phase == .open || connection.phase == .closing, !connection.isExcused else { continue }
            let tuple = ConnectionTuple(
                source: FlowMachines.address(connection.client), destination: FlowMachines.server,
                sourcePort: connection.port, destinationPort: 80, ipProtocol: IPProtocol.tcp)
            let isKnown = hosts.contains { host in
                host.node?.table.translation(tuple, zone: FlowMachines.pool.zone) != nil
            }
            let isWritten = (hosts[dead].journal?.at ?? 0) > connection.openedAt
            if !isKnown, !isWritten {
                machines.connections[number].isExcused = true
                count("connections that only the dead knew")
            }
        }
    }

    /// A client moves to another host: its cable, and what the cluster says, in whichever order.
    private func move() {
        let client = Int.random(in: 0..<machines.count, using: &random)
        let target = Int.random(in: 0..<hosts.count, using: &random)
        let path = FlowMachines.client(client)
        guard hosts[target].node != nil, machines.cables[path] != target else { return }
        var next = topology
        next.ports[path]?.attachment = .exterior(host: hosts[target].name, interface: "v\(client)")
        topology = next
        machines.cables[path] = target
        for host in hosts.indices { events.add(.adopt(host, next), at: now + delay(500...60_000)) }
        count("moves")
        say("\(now / FlowWorld.millisecond) ms: client \(client) moves to \(hosts[target].name)")
    }

    func heal(_ wound: FlowFaults.Wound) {
        switch wound {
        case .cut(let way):
            faults.cuts.remove(way)
            for host in way { faults.lastCut[host] = faults.cuts.contains { $0.contains(host) } ? .max : now }
        case .loss: faults.loss = 0
        case .node(let host): if hosts[host].node == nil { start(host) }
        }
    }

    func healAll() {
        let healed = Set(faults.cuts.joined())
        faults = FlowFaults()
        for host in healed { faults.lastCut[host] = now }
        for host in hosts.indices where hosts[host].node == nil { start(host) }
        // Whoever was not told of the last changes is now.
        for host in hosts.indices { events.add(.adopt(host, topology), at: now + 100 * FlowWorld.millisecond) }
    }
}
