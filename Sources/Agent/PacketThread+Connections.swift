// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation

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
            stateful[id] = StatefulFlow(
                uses: simulator.verdict.connections, translations: simulator.verdict.translations)
        }
    }

    /// Tells connections what their flows carried since the last time.
    func keepConnections(_ thread: any DatapathThread) {
        for (id, flow) in stateful {
            guard let slot = flows.find(id) else {
                stateful[id] = nil
                continue
            }
            let statistics = flows[slot].statistics
            guard statistics.usedNanoseconds > flow.told || statistics.tcpFlags & ~flow.flags != 0 else { continue }
            stateful[id]?.told = statistics.usedNanoseconds
            stateful[id]?.flags = statistics.tcpFlags
            for use in flow.uses {
                let learned = Learned.connection(use.tuple, zone: use.zone, flags: statistics.tcpFlags)
                // One whose time was over begins with its next packet that is decided, not with what a flow carried.
                guard state.connection(use.tuple, zone: use.zone, flags: 0) != nil else { continue }
                if case .known(isDue: true) = state.learn(learned, now: now) { tell(learned, thread) }
            }
            for use in flow.translations {
                let learned = Learned.translation(use, flags: statistics.tcpFlags)
                guard state.translation(use.original, zone: use.zone) != nil else { continue }
                if case .known(isDue: true) = state.learn(learned, now: now) { tell(learned, thread) }
            }
        }
    }
}
