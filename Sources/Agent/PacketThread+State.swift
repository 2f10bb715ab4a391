// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// What agents tell each other through the tunnels, until the replicated flow state does.
extension PacketThread {
    /// Tells the other hosts what was learned here.
    func tell(_ learned: Learned, _ thread: any DatapathThread) {
        guard !epoch.allTunnels.isEmpty else { return }
        // An answer that finds a host without its connection is dropped; a MAC that is not told is flooded for.
        let isWithin: Bool
        switch learned {
        case .connection, .translation: isWithin = connectionBudget.take(now: now)
        case .mac, .neighbor: isWithin = tellBudget.take(now: now)
        // Fragments come where their first one came.
        case .fragment: return
        }
        guard isWithin else {
            counters.untold &+= 1
            return
        }
        let packet = OwnedPacket(bytes: StateMessage.encode(.learned(learned)))
        for tunnel in epoch.allTunnels { send(packet, to: tunnel, thread) }
    }

    /// Asks the hosts that were not asked yet for what they learned: a host that starts would otherwise flood and ask for
    /// what the others know until their entries end.
    func greet(_ thread: any DatapathThread) {
        let packet = OwnedPacket(bytes: StateMessage.encode(.greeting))
        for tunnel in epoch.allTunnels where greeted.insert(tunnel.remote).inserted { send(packet, to: tunnel, thread) }
        greeted.formIntersection(epoch.allTunnels.map(\.remote))
    }

    /// A frame under the key of such messages.
    func receive(_ bytes: UnsafeRawBufferPointer, _ key: FlowKey, _ thread: any DatapathThread) {
        let source = IPAddress(
            high: key.tunnelSourceWords.0, low: key.tunnelSourceWords.1, family: .ipv4)
        guard let tunnel = epoch.allTunnels.first(where: { $0.remote == source }),
            let message = StateMessage.decode(bytes)
        else {
            counters.strangers &+= 1
            return
        }
        switch message {
        case .learned(let learned):
            if state.learn(learned, isOwn: false, now: now) == .news { announce(Set(learned.tags)) }
        case .greeting:
            guard greetingBudget.take(now: now) else { return }
            for learned in state.own(limit: AgentLimits.tellsPerGreeting) {
                send(OwnedPacket(bytes: StateMessage.encode(.learned(learned))), to: tunnel, thread)
            }
        }
    }

    private func send(_ packet: OwnedPacket, to tunnel: Epoch.Tunnel, _ thread: any DatapathThread) {
        thread.execute(
            [
                .setTunnel(TunnelHeader(id: ReservedKeys.state, source: tunnel.local, destination: tunnel.remote)),
                .output(tunnel.port),
            ], on: packet)
    }

    /// Sees whether what will be forgotten is still so: a station from which flows come is there, and a neighbor to which
    /// flows go is asked.
    func confirm(_ expiring: [Learned], _ thread: any DatapathThread) {
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
                if isThere, case .known(isDue: true) = state.learn(learned, now: now) { tell(learned, thread) }
            case .connection, .translation, .fragment: break
            case .neighbor(let address, _, let port):
                if !users.isEmpty { ask(.init(address: address, port: port), thread) }
            }
        }
    }
}
