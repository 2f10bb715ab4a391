// SPDX-License-Identifier: Apache-2.0
import Agent
import FlowState
import Gossip
import Simulation
import Synchronization

extension FlowWorld {
    func ask(_ host: Int, _ peer: PeerID, isFull: Bool) {
        guard let node = hosts[host].node, !bugs.contains(.neverCompares) else { return }
        let question = node.table.question(isFull: isFull, now: now)
        events.add(
            .ask(from: host, to: Int(peer.value) - 1, question: question, cursor: 0, isFull: isFull),
            at: now + delay(100...3000))
    }

    func compare(_ event: Event) {
        switch event {
        case .ask(let from, let to, let question, let cursor, let isFull):
            guard isConnected(from, to), let node = hosts[to].node,
                let bytes = try? node.table.answer(question, from: cursor, now: now)
            else { return }
            events.add(
                .answer(from: to, to: from, question: question, cursor: cursor, bytes: bytes, isFull: isFull),
                at: now + delay(100...3000))
        case .answer(let from, let to, let question, let cursor, let bytes, let isFull):
            guard isConnected(from, to), let node = hosts[to].node, let answer = try? StateTable.read(answer: bytes)
            else { return }
            if cursor == 0 {
                for rows in node.table.offers(for: answer, now: now) {
                    events.add(.offer(to: from, rows), at: now + delay(100...3000))
                }
            }
            merge(answer.rows, at: to)
            if !answer.isEqual { count("comparisons that differed") }
            if answer.next != 0 {
                events.add(
                    .ask(from: to, to: from, question: question, cursor: answer.next, isFull: isFull),
                    at: now + delay(100...3000))
            } else if isFull {
                node.owed.removeAll { $0 == hosts[from].id }
                node.replication.setCaughtUp()
            }
        case .offer(let to, let rows): merge(rows, at: to)
        default: break
        }
    }

    private func merge(_ rows: [UInt8], at host: Int) {
        guard let node = hosts[host].node else { return }
        var news: Set<Simulation.Tag> = []
        try? node.table.merge(rows, now: now, &news)
        if !news.isEmpty { node.notes.messages.withLock { $0.append(.invalidate(news)) } }
        settle(host)
    }
}
