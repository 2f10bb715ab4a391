// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Consensus
import Datapath
import FlowState
import Gossip
import Linux
import Simulation
import Store
import Synchronization
import Topology
import Wire

/// The node's figures for whoever watches many nodes: each bound with how full it is and what it turned away, each delay.
extension Node {
    func metrics() async -> String {
        var text = MetricsText()
        text.gauge(
            "selvage_node_info", "The node's version and name.",
            [.init(1, ("version", Founding.version), ("host", name), ("datapath", agent.datapath.kind.rawValue))])
        text.counter(
            "selvage_node_uptime_seconds_total", "Seconds since the node started.",
            [
                .init(Double(monotonicNanoseconds() - started) / 1e9)
            ])
        text.gauge("selvage_topology_revision", "The revision of the topology that is in force here.", follower.applied)
        await writeAgreement(&text)
        writePackets(&text)
        writeState(&text)
        writeReplication(&text)
        writeTunnels(&text)
        await writeUplinks(&text)
        healthMetrics(&text)
        return text.text
    }

    private func writeAgreement(_ text: inout MetricsText) async {
        guard let status = try? await replica.status() else { return }
        text.gauge(
            "selvage_raft_leaderless_seconds", "Seconds since a leader was heard of; 0 while there is one.",
            [.init(status.leaderlessSeconds ?? 0)])
        text.gauge(
            "selvage_raft_is_leader", "1 on the node that leads.",
            status.agreement.leader == status.id ? 1 : 0)
        text.gauge("selvage_raft_commit_index", "The last entry that is committed.", status.commit)
        text.gauge("selvage_raft_applied_index", "The last entry that the state has.", status.applied)
        if let latency = status.writeLatency {
            text.gauge(
                "selvage_raft_log_write_seconds", "How long the latest writes to the log took.",
                [
                    .init(latency.median / 1000, [("quantile", "0.5")]),
                    .init(latency.p99 / 1000, [("quantile", "0.99")]),
                ])
        }
        text.counter(
            "selvage_peer_dropped_total", "What nodes said to each other by TLS and was not sent or taken, by reason.",
            [
                .init(status.counters.dropped, ("reason", "too much waits")),
                .init(status.counters.refused, ("reason", "refused connection")),
                .init(status.counters.turnedAway, ("reason", "too many connections")),
                .init(status.counters.malformed, ("reason", "malformed")),
            ])
        text.gauge("selvage_alarms", "Matters that an operator should look at.", status.alarms.count)
    }

    private func writePackets(_ text: inout MetricsText) {
        let counters = agent.counters()
        text.counter("selvage_packets_simulated_total", "Packets that were simulated.", counters.simulated)
        text.counter(
            "selvage_packets_dropped_total", "Packets that the simulation dropped, by reason.",
            counters.drops.sorted { $0.key.rawValue < $1.key.rawValue }.map {
                .init($0.value, ("reason", $0.key.rawValue))
            })
        text.counter(
            "selvage_flow_changes_total", "Flows, by what became of them.",
            [
                .init(counters.installed, ("change", "installed")), .init(counters.replaced, ("change", "replaced")),
                .init(counters.expired, ("change", "expired")), .init(counters.tableFull, ("change", "no room")),
            ])
        text.counter("selvage_packets_rate_limited_total", "Answers and errors over their rate.", counters.rateLimited)
        text.counter(
            "selvage_packets_parked_total", "Packets that waited for a neighbor's MAC, and that found no room to.",
            [.init(counters.parked, ("outcome", "parked")), .init(counters.parkingFull, ("outcome", "no room"))])
        text.counter(
            "selvage_packets_stray_total", "Packets by tunnel for ports that were not here, held until they come.",
            counters.strays)
        text.counter(
            "selvage_packets_held_total", "Packets that waited for what another host knows, and that another one knew.",
            [.init(counters.held, ("outcome", "held")), .init(counters.released, ("outcome", "known elsewhere"))])
        text.histogram(
            "selvage_packets_held_seconds", "How long packets waited for what another host knows.",
            [([], counters.heldTime)])
        if let statistics = try? agent.datapath.statistics() {
            text.gauge("selvage_datapath_flows", "Flows in the datapath.", statistics.flows)
            text.gauge("selvage_datapath_masks", "Masks in the datapath.", statistics.masks)
            text.counter(
                "selvage_datapath_packets_total", "Packets of the datapath, by what met them.",
                [
                    .init(statistics.hits, ("outcome", "flow")), .init(statistics.misses, ("outcome", "simulation")),
                    .init(statistics.lost, ("outcome", "lost")), .init(statistics.malformed, ("outcome", "malformed")),
                ])
            text.counter(
                "selvage_datapath_requests_refused_total", "Requests that the datapath did not do, by reason.",
                [
                    .init(statistics.refused, ("reason", "refused")),
                    .init(statistics.overlapping, ("reason", "another flow holds its packets")),
                    .init(statistics.unheard, ("reason", "not heard for want of room")),
                ])
        }
        if let exported = flowExporter.value?.counters {
            text.counter(
                "selvage_flow_records_total", "Records of flows that collectors were told.", [.init(exported.flows)])
            text.counter(
                "selvage_flow_record_messages_total", "Messages that told of flows.", [.init(exported.messages)])
            text.counter(
                "selvage_flow_records_lost_total", "Records that there was no room for, and packets of unknown ways.",
                [.init(agent.recorder.lost)])
        }
        let ports = (try? agent.ports()) ?? []
        func label(_ port: PortReport) -> (String, String) {
            ("port", port.bound?.description ?? describe(port.status.specification))
        }
        text.counter(
            "selvage_port_received_bytes_total", "Bytes that came in by a port of the datapath.",
            ports.map { .init($0.status.receivedBytes, label($0)) })
        text.counter(
            "selvage_port_sent_bytes_total", "Bytes that went out by a port of the datapath.",
            ports.map { .init($0.status.sentBytes, label($0)) })
        text.counter(
            "selvage_port_received_packets_total", "Packets that came in by a port of the datapath.",
            ports.map { .init($0.status.receivedPackets, label($0)) })
        text.counter(
            "selvage_port_sent_packets_total", "Packets that went out by a port of the datapath.",
            ports.map { .init($0.status.sentPackets, label($0)) })
        text.counter(
            "selvage_port_lost_packets_total", "Packets that came in faster than they were read, or could not be sent.",
            ports.map { .init($0.status.receiveDrops &+ $0.status.sendErrors, label($0)) })
        // What a rule said before counts to what it says now.
        var rules: [[String]: (packets: UInt64, bytes: UInt64)] = [:]
        for report in agent.rules() {
            let before = rules[[report.name.list, report.name.rule]] ?? (0, 0)
            rules[[report.name.list, report.name.rule]] = (
                before.packets &+ report.packets, before.bytes &+ report.bytes
            )
        }
        let told = rules.sorted { $0.key.lexicographicallyPrecedes($1.key) }.prefix(Node.mostRuleMetrics)
        text.counter(
            "selvage_rule_packets_total", "Packets that a rule matched, where they came in.",
            told.map { .init($0.value.packets, ("list", $0.key[0]), ("rule", $0.key[1])) })
        text.counter(
            "selvage_rule_bytes_total", "Bytes of the packets that a rule matched.",
            told.map { .init($0.value.bytes, ("list", $0.key[0]), ("rule", $0.key[1])) })
    }

    /// Rules that metrics tell of; `selvage rules` tells of all.
    private static let mostRuleMetrics = 4096

    private func writeState(_ text: inout MetricsText) {
        let state = agent.state
        let (connections, translations) = (state.connectionCount, state.translationCount)
        let pools = state.withPorts { $0.pools }
        text.gauge(
            "selvage_state_rows", "Rows of flow state that the host knows.",
            [
                .init(connections.count, ("kind", "connection")), .init(translations.count, ("kind", "translation")),
                .init(state.count, ("kind", "learned")),
            ])
        text.gauge(
            "selvage_state_rows_limit", "How many rows of flow state find room.",
            [
                .init(StateLimits.connections, ("kind", "connection")),
                .init(StateLimits.translations, ("kind", "translation")),
                .init(StateLimits.learnedEntries, ("kind", "learned")),
            ])
        text.counter(
            "selvage_state_refused_total", "Rows that found no room, or were over what their tenant may have.",
            [
                .init(connections.refused, ("kind", "connection")),
                .init(translations.refused, ("kind", "translation")), .init(state.refused, ("kind", "learned")),
            ])
        let (own, translated) = state.countsByTenant
        let topology = agent.topology
        var counts: [MetricsText.Sample] = []
        var refused: [MetricsText.Sample] = []
        for name in topology.tenants {
            let tag = Simulation.Tag.tenant(name)
            for (kind, known) in [("connection", own), ("translation", translated)] {
                counts.append(.init(known.counts[tag] ?? 0, ("tenant", name), ("kind", kind)))
                refused.append(.init(known.refused[tag] ?? 0, ("tenant", name), ("kind", kind)))
            }
        }
        text.gauge("selvage_tenant_rows", "Rows that began at a tenant's ports on this host.", counts)
        text.counter("selvage_tenant_refused_total", "Rows of a tenant that were too many.", refused)
        text.gauge(
            "selvage_translation_ports", "Ports that the host may translate sources to.",
            pools.filter { !$0.blocks.isEmpty }.map { pool in
                .init(
                    pool.blocks.count * PortBlock.size, ("address", pool.key.address.description))
            })
        text.gauge(
            "selvage_translation_ports_used", "Connections that began here and have one of them.",
            pools.filter { !$0.blocks.isEmpty }.map { .init($0.used, ("address", $0.key.address.description)) })
        text.counter(
            "selvage_translation_ports_missed_total", "Connections that found no port at once.",
            state.withPorts { $0.missed })
        guard let journal = flowState.journal.withLock({ $0 })?.status else { return }
        text.counter(
            "selvage_journal_rows_total", "Rows of the journal, by what became of them.",
            [.init(journal.written, ("outcome", "written")), .init(journal.dropped, ("outcome", "dropped"))])
        text.gauge("selvage_journal_loaded_rows", "Rows that were read when the node started.", journal.loaded)
        text.gauge("selvage_journal_load_seconds", "How long that took.", [.init(journal.loadSeconds)])
        text.gauge(
            "selvage_journal_failed", "1 when the journal is not written any more.", journal.problem == nil ? 0 : 1)
    }

    private func writeReplication(_ text: inout MetricsText) {
        let (told, sealed, compared) = (
            flowState.replication.counters, flowState.port.counters, flowState.comparisons
        )
        text.counter(
            "selvage_state_datagrams_total", "Datagrams of flow state.",
            [.init(sealed.sent, ("way", "sent")), .init(sealed.received, ("way", "received"))])
        text.counter("selvage_state_told_bytes_total", "Bytes of rows that were told.", told.bytes)
        text.counter(
            "selvage_state_datagrams_dropped_total", "Datagrams of flow state that were dropped, by reason.",
            [
                .init(sealed.unsent, ("reason", "not sent")), .init(sealed.refused, ("reason", "by the kernel")),
                .init(sealed.strangers, ("reason", "stranger")), .init(sealed.forged, ("reason", "forged")),
                .init(sealed.replayed, ("reason", "replayed")),
                .init(sealed.malformed &+ told.malformed, ("reason", "malformed")),
            ])
        text.counter("selvage_state_pushed_total", "Rows pushed ahead of a packet.", told.pushed)
        text.counter(
            "selvage_state_questions_total", "Questions for what a packet needs.",
            [
                .init(told.wanted, ("outcome", "asked")), .init(told.found, ("outcome", "answered")),
                .init(told.forgottenAskers, ("outcome", "asker forgotten for want of room")),
            ])
        text.counter(
            "selvage_state_compared_total", "Times that tables were compared.",
            [
                .init(compared.compared &- compared.differed, ("outcome", "equal")),
                .init(compared.differed, ("outcome", "differed")),
            ])
        text.histogram(
            "selvage_state_comparing_seconds", "How long it took to compare tables.", [([], flowState.comparingTime)])
        var peers: [(name: String, status: ChannelStatus)] = []
        for record in replica.state.nodes.values.sorted(by: { $0.name < $1.name }) {
            guard let status = flowState.replication.status(of: PeerID(record.id.value)) else { continue }
            peers.append((record.name, status))
        }
        let now = monotonicNanoseconds()
        func each(_ value: (ChannelStatus) -> UInt64) -> [MetricsText.Sample] {
            peers.map { .init(value($0.status), ("peer", $0.name)) }
        }
        text.gauge(
            "selvage_state_peer_silence_seconds", "Seconds since a node was heard.",
            peers.compactMap { peer in
                peer.status.heard.map { .init(now > $0 ? Double(now - $0) / 1e9 : 0, [("peer", peer.name)]) }
            })
        text.gauge("selvage_state_peer_backlog", "Changes that were not sent to a node yet.", each(\.backlog))
        text.gauge(
            "selvage_state_peer_unacknowledged", "Datagrams that a node did not acknowledge yet.",
            each { $0.sent &- $0.acknowledged })
        text.gauge("selvage_state_peer_missing", "Datagrams of a node that are missing.", each { UInt64($0.missing) })
        text.counter("selvage_state_peer_resent_total", "Datagrams that a node asked for again.", each(\.counts.resent))
        text.counter(
            "selvage_state_peer_asked_total", "Times that a node was asked for what is missing.", each(\.counts.asked))
        text.counter(
            "selvage_state_peer_forgotten_total",
            "Times that a node did not keep up, and tables were compared instead.",
            each(\.counts.forgotten))
        text.histogram(
            "selvage_state_peer_acknowledged_seconds", "How long it was until rows were known to have come to a node.",
            peers.map { ([("peer", $0.name)], $0.status.counts.acknowledged) })
    }

    private func writeTunnels(_ text: inout MetricsText) {
        let tunnels = agent.tunnels().map { tunnel in
            let labels = [
                ("host", tunnel.host), ("encapsulation", tunnel.encapsulation), ("local", "\(tunnel.local)"),
                ("remote", "\(tunnel.remote)"),
            ]
            return (tunnel, labels)
        }
        text.gauge(
            "selvage_tunnel_up", "1 while the way through a tunnel to a host works.",
            tunnels.map { .init($0.0.state.rawValue == "up" ? 1 : 0, $0.1) })
        text.counter(
            "selvage_tunnel_failures_total", "Times that it stopped working.",
            tunnels.map { .init(Double($0.0.failures), $0.1) })
        text.gauge(
            "selvage_tunnel_detection_seconds", "Seconds without an answer after which it is down.",
            tunnels.map { .init($0.0.detectionSeconds, $0.1) })
    }

    private func writeUplinks(_ text: inout MetricsText) async {
        text.gauge(
            "selvage_learned_routes", "Destinations that a router learned by all of its uplinks, as known here.",
            agent.learnedRoutes.sorted { $0.key < $1.key }.map { .init($0.value, ("router", $0.key.description)) })
        let uplinks = await gatewayService.value?.uplinks() ?? []
        text.gauge(
            "selvage_uplink_routes", "Destinations that the daemon of an uplink here leads to.",
            uplinks.map { .init($0.routes, ("port", $0.port)) })
        text.gauge(
            "selvage_uplink_announced", "Networks that an uplink here announces.",
            uplinks.map { .init($0.announced.count, ("port", $0.port)) })
        text.counter(
            "selvage_uplink_daemon_failures_total", "Times that the daemon of an uplink here ended by itself.",
            uplinks.map { .init($0.failures, ("port", $0.port)) })
        text.gauge(
            "selvage_bgp_session_up", "1 while a session with a router outside is established.",
            uplinks.flatMap { uplink in
                uplink.peers.map {
                    .init($0.state == "established" ? 1 : 0, [("port", uplink.port), ("peer", $0.address)])
                }
            })
    }
}
