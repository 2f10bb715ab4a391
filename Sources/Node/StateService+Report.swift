// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Consensus
import FlowState
import Gossip
import Linux
import Store
import Synchronization

extension StateService {
    /// How this node's flow state and that of the others agree.
    func report() -> ReplicationAnswer {
        let state = node.replica.state
        let now = monotonicNanoseconds()
        var names: [UInt16: String] = [:]
        var answer = ReplicationAnswer(peers: [], kinds: [], secrets: [], counters: [], journalProblem: nil)
        for record in state.nodes.values.sorted(by: { $0.name < $1.name }) {
            let peer = PeerID(record.id.value)
            names[StateService.number(of: peer)] = record.name
            guard let status = replication.status(of: peer) else { continue }
            answer.peers.append(
                .init(
                    name: record.name, heardSeconds: status.heard.map { now > $0 ? Double(now - $0) / 1e9 : 0 },
                    backlog: status.backlog, unacknowledged: status.sent - status.acknowledged,
                    missing: status.missing, sent: status.sent, received: status.counts.received,
                    resent: status.counts.resent, asked: status.counts.asked, compared: status.counts.compared))
        }
        for kind in RowKind.allCases {
            let origins = node.agent.state.origins(kind)
            answer.kinds.append(
                .init(
                    kind: "\(kind)",
                    origins: Dictionary(
                        origins.map { (names[$0.key] ?? "a node that is gone", $0.value.count) },
                        uniquingKeysWith: +),
                    sums: (node.agent.state.sums[kind] ?? []).map { String($0, radix: 16) }))
        }
        answer.secrets = state.stateKeys.values.sorted { $0.number < $1.number }.map { record in
            .init(
                number: record.number, state: record.state.word, fingerprint: record.fingerprint,
                isHere: keys[record.fingerprint] != nil)
        }
        let (told, sealed, compared) = (replication.counters, port.counters, comparisons)
        var counters: [(String, UInt64)] = [
            ("datagrams sent", sealed.sent), ("not sent", sealed.unsent), ("datagrams received", sealed.received),
            ("dropped by the kernel, strangers' or without room", sealed.refused),
            ("of strangers", sealed.strangers), ("forged", sealed.forged), ("replayed", sealed.replayed),
            ("malformed", sealed.malformed &+ told.malformed), ("bytes told", told.bytes),
            ("pushed ahead of a packet", told.pushed), ("asked others for a packet", told.wanted),
            ("asked by others, and known", told.found), ("askers forgotten for want of room", told.forgottenAskers),
            ("tables compared", compared.compared),
            ("of those differed", compared.differed),
        ]
        if let status = journal.withLock({ $0 })?.status {
            counters += [
                ("journal rows read", UInt64(status.loaded)), ("journal rows written", status.written),
                ("journal rows dropped", status.dropped),
            ]
            answer.journalProblem = status.problem
        }
        answer.counters = counters.map { [$0.0, "\($0.1)"] }
        return answer
    }
}
