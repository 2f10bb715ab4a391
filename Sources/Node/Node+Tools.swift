// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Datapath
import FlowState
import Glibc
import Gossip
import Linux
import Simulation
import Store
import Topology
import Wire

/// What the tools show of this node.
extension Node {
    func answer(_ request: NodeRequest) async -> NodeResponse {
        switch request {
        case .status: .status(await status())
        case .flows: .flows(flows())
        case .datapath: datapath()
        case .state(let text): .state(connections(text))
        case .replication: .replication(flowState.report())
        case .rules(let text): .rules(rules(text))
        case .tunnels: .tunnels(tunnels)
        case .uplinks: .uplinks(await gatewayService.value?.uplinks() ?? [])
        case .members(let pool): .members(members(of: pool))
        case .metrics: .metrics(await metrics())
        case .trace(let port, let packet): Tracer(agent: agent).trace(port: port, packet: packet)
        }
    }

    private func status() async -> StatusAnswer {
        let replica = try? await replica.status()
        return StatusAnswer(
            host: name, revision: follower.applied, staleSeconds: replica?.leaderlessSeconds,
            datapath: agent.datapath.kind.rawValue,
            processID: getpid(), uptimeSeconds: Double(monotonicNanoseconds() - started) / 1e9,
            ports: agent.bindings().map {
                .init(
                    port: $0.port.description, interface: $0.interface, isBound: $0.number != nil, problem: $0.problem)
            },
            problems: [agent.tunnelProblem, agent.meterProblem, agent.queueProblem, agent.collectorProblem].compactMap(
                \.self)
                + (replica?.alarms ?? []))
    }

    private func flows() -> [FlowAnswer] {
        let names = portNames()
        return agent.flows().map { flow in
            FlowAnswer(
                match: flow.mask.describe(flow.key).map { [$0.field, $0.value] }, ingress: flow.ingress,
                actions: describe(flow.actions) { names[$0.value] ?? "port \($0)" }, packets: flow.statistics.packets,
                bytes: flow.statistics.bytes, ageSeconds: Double(flow.ageNanoseconds) / 1e9,
                idleSeconds: flow.idleNanoseconds.map { Double($0) / 1e9 }, isStanding: flow.isStanding)
        }
        .sorted { ($0.ingress, $1.packets) < ($1.ingress, $0.packets) }
    }

    private func rules(_ text: String?) -> [RuleAnswer] {
        agent.rules().compactMap { report in
            let name = report.name
            if let text, !"\(name.list) \(name.rule) \(name.text)".contains(text) { return nil }
            return RuleAnswer(
                list: name.list, rule: name.rule, text: name.text, packets: report.packets, bytes: report.bytes)
        }
    }

    private var tunnels: [TunnelAnswer] {
        agent.tunnels().map { report in
            TunnelAnswer(
                host: report.host, encapsulation: report.encapsulation, local: "\(report.local)",
                remote: "\(report.remote)", state: report.state.rawValue, seconds: report.seconds,
                sinceMilliseconds: wallMilliseconds() &- UInt64(report.seconds * 1000), failures: report.failures,
                detectionSeconds: report.detectionSeconds, sent: report.sent,
                received: report.received)
        }
    }

    /// Connections that are listed at once.
    private static let listedConnections = 1000

    private func connections(_ text: String?) -> StateAnswer {
        let topology = agent.topology
        var names: [Simulation.Tag: String] = [:]
        for path in topology.bridges.keys { names[.bridge(path)] = path.description }
        for path in topology.routers.keys { names[.router(path)] = path.description }
        let zones = names
        let now = monotonicNanoseconds()
        let records = agent.state.connections(limit: Node.listedConnections) { record in
            guard let text else { return true }
            return "\(zones[record.zone] ?? "") \(record.tuple)".contains(text)
        }
        let (count, refused) = agent.state.connectionCount
        func seconds(_ from: UInt64, _ to: UInt64) -> Double { to > from ? Double(to - from) / 1e9 : 0 }
        var answer = StateAnswer(
            connections: records.sorted { $0.life.used > $1.life.used }.map { record in
                .init(
                    zone: zones[record.zone] ?? "a device that is gone", connection: record.tuple.description,
                    state: record.life.phase.rawValue, idleSeconds: seconds(record.life.used, now),
                    ageSeconds: seconds(record.life.created, now),
                    leftSeconds: seconds(now, agent.state.lifetimes(in: record.zone).expiry(of: record.life)))
            }, count: count, refused: refused)
        let shown = agent.state.translations(limit: Node.listedConnections) { record in
            guard let text else { return true }
            return "\(zones[record.zone] ?? "") \(record.original) \(record.reply.reversed)".contains(text)
        }
        answer.translations = shown.sorted { $0.life.used > $1.life.used }.map { record in
            .init(
                router: zones[record.zone] ?? "a router that is gone", connection: record.original.description,
                becomes: record.reply.reversed.description, state: record.life.phase.rawValue,
                idleSeconds: seconds(record.life.used, now), ageSeconds: seconds(record.life.created, now),
                leftSeconds: seconds(now, agent.state.lifetimes(in: record.zone).expiry(of: record.life)))
        }
        (answer.translationCount, answer.translationsRefused) = agent.state.translationCount
        answer.ports = agent.state.withPorts { $0.pools }
            .filter { !$0.blocks.isEmpty }
            .map { pool in
                .init(
                    router: zones[pool.key.zone] ?? "a router that is gone", address: pool.key.address.description,
                    ports: PortBlock.ranges(of: pool.blocks).map(\.description), used: pool.used)
            }
            .filter { ports in text.map { "\(ports.router) \(ports.address)".contains($0) } ?? true }
            .sorted { ($0.router, $0.address) < ($1.router, $1.address) }
        let ports = Dictionary(
            topology.ports.keys.map { (Simulation.Tag.port($0), $0.description) },
            uniquingKeysWith: { first, _ in first })
        answer.leases = agent.state.givenAddresses.filter { $0.lease.seconds > 1 }
            .sorted { ($0.bridge.bits, $0.address) < ($1.bridge.bits, $1.address) }
            .map { lease in
                .init(
                    bridge: zones[lease.bridge] ?? "a bridge that is gone", address: lease.address.description,
                    port: ports[lease.port] ?? "a port that is gone", isTaken: lease.lease.client != 0,
                    leftSeconds: seconds(now, lease.ends))
            }
            .filter { lease in text.map { "\(lease.bridge) \(lease.address) \(lease.port)".contains($0) } ?? true }
            .prefix(Node.listedConnections).map(\.self)
        answer.groups = agent.state.groupMembers
            .map { member, ends in
                StateAnswer.Group(
                    bridge: zones[member.bridge] ?? "a bridge that is gone", vlan: member.vlan,
                    group: member.isRouter ? nil : member.group.description,
                    source: member.isAnySource ? nil : member.source.description,
                    port: ports[member.port] ?? "a port that is gone", leftSeconds: seconds(now, ends))
            }
            .filter { group in text.map { "\(group.bridge) \(group.group ?? "") \(group.port)".contains($0) } ?? true }
            .sorted { ($0.bridge, $0.vlan, $0.group ?? "", $0.port) < ($1.bridge, $1.vlan, $1.group ?? "", $1.port) }
            .prefix(Node.listedConnections).map(\.self)
        let (own, translated) = agent.state.countsByTenant
        answer.tenants = topology.tenants.compactMap { name in
            let tag = Simulation.Tag.tenant(name)
            let tenant = StateAnswer.Tenant(
                name: name, connections: own.counts[tag] ?? 0, connectionsRefused: own.refused[tag] ?? 0,
                translations: translated.counts[tag] ?? 0, translationsRefused: translated.refused[tag] ?? 0)
            let isQuiet =
                tenant.connections == 0 && tenant.translations == 0 && tenant.connectionsRefused == 0
                && tenant.translationsRefused == 0
            return isQuiet ? nil : tenant
        }
        return answer
    }

    private func portNames() -> [UInt32: String] {
        let ports = (try? agent.ports()) ?? []
        return Dictionary(
            ports.map { ($0.status.number.value, $0.bound?.description ?? describe($0.status.specification)) },
            uniquingKeysWith: { a, _ in a })
    }

    private func datapath() -> NodeResponse {
        do {
            let ports = try agent.ports()
            let statistics = try agent.datapath.statistics()
            let counters = agent.counters()
            let rows: [(String, UInt64)] = [
                ("flow hits", statistics.hits), ("flow misses", statistics.misses), ("upcalls lost", statistics.lost),
                ("upcall overflows", statistics.overflows), ("malformed", statistics.malformed),
                ("held for state", counters.held), ("known elsewhere", counters.released),
                ("held for a port that may come", counters.strays), ("refused", statistics.refused),
                ("not learned, full", agent.state.refused),
                ("flows", statistics.flows), ("masks", statistics.masks), ("simulated", counters.simulated),
                ("installed", counters.installed), ("replaced", counters.replaced), ("expired", counters.expired),
                ("parked", counters.parked), ("parking full", counters.parkingFull),
                ("flow table full", counters.tableFull), ("rate limited", counters.rateLimited),
                ("from unbound ports", counters.unbound),
                ("connections", UInt64(agent.state.connectionCount.count)),
                ("connections refused, full", agent.state.connectionCount.refused),
                ("translations", UInt64(agent.state.translationCount.count)),
                ("translations refused, full", agent.state.translationCount.refused),
                ("ports not found at once", agent.state.withPorts { $0.missed }),
                ("rules logged", counters.logged), ("rules not logged, too many", counters.unlogged),
            ]
            return .datapath(
                DatapathAnswer(
                    kind: agent.datapath.kind.rawValue,
                    ports: ports.map {
                        .init(
                            number: $0.status.number.value, name: describe($0.status.specification),
                            bound: $0.bound?.description, receivedPackets: $0.status.receivedPackets,
                            receivedBytes: $0.status.receivedBytes, sentPackets: $0.status.sentPackets,
                            sentBytes: $0.status.sentBytes, sendErrors: $0.status.sendErrors,
                            receiveDrops: $0.status.receiveDrops, warning: $0.status.warning)
                    },
                    counters: rows.map { [$0.0, String($0.1)] }
                        + (statistics.lastRefusal.isEmpty ? [] : [["last refusal", statistics.lastRefusal]]),
                    drops: counters.drops.sorted { $0.value > $1.value }.map { [$0.key.rawValue, String($0.value)] }))
        } catch {
            return .failure("\(error)")
        }
    }
}
