// SPDX-License-Identifier: Apache-2.0
import Datapath
import DequeModule
import FlowState
import Gossip
import Simulation
import Wire

/// What packets teach goes to the other hosts, and what is about to be forgotten is looked after.
extension PacketThread {
    /// Tells the other hosts what was learned here: what is news, before the packet goes on, to those that may see its answer.
    func tell(_ told: ToldEntries, news: Set<Tag>) {
        guard !told.isEmpty, let replication = epoch.replication else { return }
        replication.tell(told, first: news.isEmpty ? [] : interested(news, replication), now: now)
    }

    /// The nodes where the next packet of the connection may come in: those that the packet in hand goes to, those of ports
    /// that stand in for the ones where it came in and goes out, and those that asked for it a moment ago.
    private func interested(_ news: Set<Tag>, _ replication: FlowReplication) -> [PeerID] {
        var peers = replication.askers(of: news, now: now)
        func add(_ host: HostIndex) {
            guard let peer = epoch.peer(of: host), !peers.contains(peer) else { return }
            peers.append(peer)
        }
        let fabric = epoch.fabric
        for output in simulator.verdict.outputs {
            switch output.destination {
            case .remote(let host, let key):
                add(host)
                guard fabric.hasStandIns, let port = fabric.port(ofKey: key) else { continue }
                fabric.standIns(of: port).forEach(add)
            case .local(let port): if fabric.hasStandIns { fabric.standIns(of: port).forEach(add) }
            }
        }
        if fabric.hasStandIns, let port = simulator.ingress { fabric.standIns(of: port).forEach(add) }
        return peers
    }

    /// Sees whether what will be forgotten is still so: a station from which flows come is there, and a neighbor to which
    /// flows go is asked.
    func confirm(_ expiring: [Learned], _ thread: any DatapathThread) {
        var told = ToldEntries()
        for learned in expiring {
            let users = flows.flows(with: [learned.tag])
            switch learned {
            case .mac(let mac, _, _, _):
                let isThere = users.contains { id in
                    guard let slot = flows.find(id) else { return false }
                    let record = flows[slot]
                    guard !record.isStanding, record.sample.etherSource == mac,
                        case .exterior = epoch.ingress(record.sample.inPort)
                    else { return false }
                    return true
                }
                if isThere { _ = state.learn(learned, now: now, told: &told) }
            case .connection, .translation, .fragment, .lease, .member: break
            case .neighbor(let address, _, let port):
                if !users.isEmpty { ask(.init(address: address, port: port), thread) }
            }
        }
        if !told.isEmpty { epoch.replication?.tell(told, first: [], now: now) }
    }

    /// Notes whether the flow that was made of the last simulation lets nothing through for want of a connection.
    func noteMissed(of id: FlowID) {
        if missesState {
            provisional[id] = now
            provisionalQueue.append((id, now))
        } else if !provisional.isEmpty {
            provisional[id] = nil
        }
    }

    /// Removes flows that let nothing through because nobody knew their connection, a while after: the host that knows it
    /// may not have been heard. Their next packets have the others asked again.
    func removeProvisional(_ thread: any DatapathThread) {
        // All last equally long, so that they end in the order in which they were decided.
        var left = AgentLimits.removedAtOnce
        while left > 0, let (id, decided) = provisionalQueue.first,
            now >= decided &+ AgentLimits.unknownStateNanoseconds
        {
            provisionalQueue.removeFirst()
            // One that was decided again since has a later place.
            guard provisional[id] == decided else { continue }
            provisional[id] = nil
            guard flows.find(id) != nil else { continue }
            thread.remove(id)
            flows.remove(id)
            left -= 1
        }
    }

    /// Whether what was simulated last goes nowhere for want of a connection that another host may know.
    var missesState: Bool {
        !simulator.verdict.missed.isEmpty && simulator.verdict.outputs.isEmpty && epoch.replication != nil
            && epoch.hasPeers
    }
}
