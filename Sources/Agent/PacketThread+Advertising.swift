// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation

/// Machines are told of routers by the first thread of a host.
extension PacketThread {
    /// Takes note of a new topology.
    func noteAdvertisements() { if index == 0 { advertised.note(epoch.fabric, now: now) } }

    /// Sends what is due.
    func advertise(_ thread: any DatapathThread) {
        guard index == 0, now >= advertised.next else { return }
        for (port, frames) in advertised.due(epoch.fabric, now: now) {
            for frame in frames { send(frame, leaving: port, isService: true, thread, generation: 1) }
        }
    }
}
