// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// Machines are told of routers before what they know of them is over (RFC 4861 section 6.2.4), and soon when it is otherwise.
extension PacketThread {
    /// Takes note of a new topology.
    func noteAdvertisements() {
        guard index == 0 else { return }
        let programs = epoch.fabric.advertisementPrograms
        if programs == advertised.programs { return }
        advertised.programs = programs
        // So that many changes in a row are told once.
        advertised.next = programs.isEmpty ? .max : min(advertised.next, now &+ AgentLimits.advertisementDelay)
    }

    /// Sends what is due.
    func advertise(_ thread: any DatapathThread) {
        guard index == 0, now >= advertised.next else { return }
        for (port, frames) in epoch.fabric.advertisements {
            for frame in frames { send(frame, leaving: port, thread, generation: 1) }
        }
        // Hosts that began at once do not go on at once.
        let longest = Fabric.advertisementInterval
        advertised.next = now &+ longest / 2 &+ mix(now, 0xad5e_0000_0000_0027) % (longest / 2)
    }
}
