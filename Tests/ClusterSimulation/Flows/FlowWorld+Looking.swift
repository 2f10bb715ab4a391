// SPDX-License-Identifier: Apache-2.0
import Agent
import FlowState
import Simulation
import Wire

extension FlowWorld {
    /// What one host knows and another one does not, or otherwise, of what is not about to be forgotten.
    func difference() -> String? {
        struct Known: Hashable {
            var tuple: ConnectionTuple
            var zone: Simulation.Tag
            var isTranslation: Bool
        }
        var views: [(host: FlowHost, rows: [Known: (stamp: UInt64, life: ConnectionLife)])] = []
        for host in hosts {
            guard let table = host.node?.table else { continue }
            var rows: [Known: (stamp: UInt64, life: ConnectionLife)] = [:]
            for record in table.connections(limit: .max, where: { _ in true }) {
                // A host that picked it up may take its end for its beginning.
                let isReversed = record.tuple.destinationPort != 80
                rows[
                    Known(
                        tuple: isReversed ? record.tuple.reversed : record.tuple, zone: record.zone,
                        isTranslation: false)] = (
                        record.stamp.bits, record.life
                    )
            }
            for record in table.translations(limit: .max, where: { _ in true }) {
                rows[Known(tuple: record.original, zone: record.zone, isTranslation: true)] = (
                    record.stamp.bits, record.life
                )
            }
            views.append((host, rows))
        }
        for view in views {
            for (key, row) in view.rows.sorted(by: { $0.key.tuple.sourcePort < $1.key.tuple.sourcePort }) {
                // Others may have heard of it a quarter of its lifetime earlier, and forget it that much sooner.
                let left = row.life.phase == .open ? FlowWorld.longest / 2 : 5 * FlowWorld.second
                guard row.life.isShared, now < row.life.used + left - FlowWorld.second else { continue }
                for other in views {
                    guard let same = other.rows[key] else {
                        let idle = (now - min(now, row.life.used)) / FlowWorld.millisecond
                        say(
                            "\(view.host.name): \(row.life.phase), translated: \(key.isTranslation), idle \(idle) ms, began at \(row.stamp & 0xffff)"
                        )
                        return "\(other.host.name) does not know \(key.tuple), which \(view.host.name) knows"
                    }
                    // One that begins anew nobody else knows before it is answered.
                    if !same.life.isShared, same.stamp > row.stamp { continue }
                    if same.stamp != row.stamp || same.life.milestones != row.life.milestones {
                        for (name, row) in [(view.host.name, row), (other.host.name, same)] {
                            let idle = (now - min(now, row.life.used)) / FlowWorld.millisecond
                            say(
                                "\(name): stamp \(row.stamp), \(row.life.phase), \(row.life.milestones), idle \(idle) ms"
                            )
                        }
                        let kind = key.isTranslation ? "translation" : "connection"
                        return "\(other.host.name) and \(view.host.name) know the \(kind) of \(key.tuple) otherwise"
                    }
                }
            }
        }
        return nil
    }

    /// Flows of a host that would be decided otherwise by what is known and drawn now.
    func staleFlows(_ host: FlowHost) -> Set<String> {
        Set(
            (host.node?.thread.stale() ?? []).map { flow in
                let key = flow.key
                return
                    "a flow of \(flow.ingress), \(key.ipSource):\(key.sourcePort) > \(key.ipDestination):\(key.destinationPort), that is no longer right: \(flow.actions)"
            })
    }

    /// A connection that a host takes for younger than its last packet is.
    func younger(_ host: FlowHost) -> String? {
        guard let table = host.node?.table else { return nil }
        let slack = 2 * FlowWorld.second
        for record in table.translations(limit: .max, where: { _ in true }) {
            let client = FlowMachines.Seen(address: record.original.source, port: record.original.sourcePort)
            guard let sent = machines.lastSent[client], record.life.used > sent + slack else { continue }
            let milliseconds = (record.life.used - sent) / FlowWorld.millisecond
            return "\(host.name) has it that \(record.original) was used \(milliseconds) ms later than it was"
        }
        return nil
    }

    /// Tells of what each host knows of the connections of a client's port whenever that changes, if it is watched.
    func look(after event: Event) {
        guard let watched else { return }
        for host in hosts {
            let rows = host.node.map { describe(watched.client, watched.port, $0.table) } ?? ["no node"]
            guard rows != lastSeen[host.number] else { continue }
            lastSeen[host.number] = rows
            let (milliseconds, cause) = (now / FlowWorld.millisecond, String(describing: event).prefix(40))
            say("\(milliseconds) ms: \(host.name), \(cause): \(rows.joined(separator: "; "))")
        }
    }

    private func describe(_ client: Int, _ port: UInt16, _ table: StateTable) -> [String] {
        let address = FlowMachines.address(client)
        @Sendable func isMeant(_ tuple: ConnectionTuple) -> Bool {
            tuple.source == address && tuple.sourcePort == port
                || tuple.destination == address && tuple.destinationPort == port
        }
        func text(_ life: ConnectionLife, _ stamp: RowStamp) -> String {
            let used = life.used / FlowWorld.millisecond
            return "\(life.phase), used at \(used), began at h\(stamp.origin) at \(stamp.milliseconds)"
        }
        return table.connections(limit: .max) { isMeant($0.tuple) }.map {
            "\($0.tuple) in \($0.zone): \(text($0.life, $0.stamp))"
        }
            + table.translations(limit: .max) { isMeant($0.original) }.map {
                "\($0.original) as \($0.reply.destinationPort): \(text($0.life, $0.stamp))"
            }
    }
}
