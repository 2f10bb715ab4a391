// SPDX-License-Identifier: Apache-2.0
import Datapath
import FlowState
import Simulation
import Wire

/// A flow of one or several connections.
struct StatefulFlow {
    var uses: [ConnectionUse]
    var translations: [TranslationUse]
    /// When its connections last heard that it was used.
    var told: UInt64 = 0
    var flags: UInt16 = 0
}

/// Connections live as long as packets come, and most packets come by flows: what those carried is read now and then.
extension PacketThread {
    /// Notes what connections the last simulation rests on, for the flow that was made of it.
    func noteConnections(of id: FlowID) {
        if simulator.verdict.connections.isEmpty, simulator.verdict.translations.isEmpty {
            if !stateful.isEmpty { stateful[id] = nil }
        } else {
            // What a flow carried before it was decided again is told already.
            let before = stateful[id]
            stateful[id] = StatefulFlow(
                uses: simulator.verdict.connections, translations: simulator.verdict.translations,
                told: before?.told ?? 0, flags: before?.flags ?? 0)
        }
    }

    /// Installs the way back of the connection that the last simulation was about, where its answers come in on this host:
    /// what the answer will look like is known but for its TTL, which is that of most systems. A wrong guess is a flow that
    /// is never used.
    func installReturn(_ thread: any DatapathThread) {
        guard flows.count < AgentLimits.flowsPerThread / 4, simulator.verdict.outputs.count == 1,
            let output = simulator.verdict.outputs.first, case .local(let port) = output.destination,
            let number = epoch.number(of: port), simulator.verdict.isCacheable, !simulator.verdict.beginsConnection
        else { return }
        let sent = simulator.verdict.headers[Int(output.header)].key
        let carriers = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp]
        guard carriers.contains(sent.ipProtocol), sent.ipFragment == FragmentKind.none else { return }
        var key = sent
        for word in 0..<7 { key.words[word] = 0 }
        key.inPort = number.value
        (key.etherSource, key.etherDestination) = (sent.etherDestination, sent.etherSource)
        (key.ipSourceWords, key.ipDestinationWords) = (sent.ipDestinationWords, sent.ipSourceWords)
        (key.sourcePort, key.destinationPort) = (sent.destinationPort, sent.sourcePort)
        key.ipTTL = 64
        // The answer to what opens a connection.
        if sent.ipProtocol == IPProtocol.tcp { key.tcpFlags = 0x12 }
        resimulate(key)
        installKnown(key, thread)
    }

    /// Tells connections what their flows carried since the last time.
    func keepConnections() {
        var told = ToldEntries()
        for (id, flow) in stateful {
            guard let slot = flows.find(id) else {
                stateful[id] = nil
                continue
            }
            let statistics = flows[slot].statistics
            guard statistics.usedNanoseconds > flow.told || statistics.tcpFlags & ~flow.flags != 0 else { continue }
            stateful[id]?.told = statistics.usedNanoseconds
            stateful[id]?.flags = statistics.tcpFlags
            // Some of it may have come while no node ran.
            let used = min(now, statistics.usedNanoseconds)
            for use in flow.uses {
                let learned = Learned.connection(use.tuple, zone: use.zone, flags: statistics.tcpFlags)
                // One whose time was over begins with its next packet that is decided, not with what a flow carried.
                guard state.connection(use.tuple, zone: use.zone, flags: 0) != nil else { continue }
                _ = state.learn(learned, now: used, told: &told)
            }
            for use in flow.translations {
                let learned = Learned.translation(use, flags: statistics.tcpFlags)
                // Its ports may be another connection's by now, which is translated otherwise.
                guard state.translation(use.original, zone: use.zone)?.reply == use.reply else { continue }
                _ = state.learn(learned, now: used, told: &told)
            }
        }
        epoch.replication?.tell(told, first: [], now: now)
    }
}
