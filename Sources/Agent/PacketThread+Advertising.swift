// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation

/// What bridges say to machines unasked is said by the first thread of a host.
extension PacketThread {
    /// Takes note of a new topology.
    func noteAdvertisements() {
        guard index == 0 else { return }
        advertised.note(epoch.fabric, now: now)
        groupSchedule.note(epoch.fabric, now: now)
    }

    /// Sends what is due.
    func advertise(_ thread: any DatapathThread) {
        guard index == 0 else { return }
        var due: [(port: PortIndex, frames: [[UInt8]])] = []
        if now >= advertised.next { due += advertised.due(epoch.fabric, now: now) }
        if now >= groupSchedule.next { due += groupSchedule.due(epoch.fabric, state, now: now) }
        for (port, frames) in due {
            for frame in frames { send(frame, leaving: port, isService: true, thread, generation: 1) }
        }
    }
}
