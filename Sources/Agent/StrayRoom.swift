// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// Packets that came by tunnel for a port that is not here: it may be on its way, and their sender may know of it before this
/// host does. Pure: it is told the time.
struct StrayRoom {
    private struct Stray {
        var packet: OwnedPacket
        var port: Tag
        var until: UInt64
    }

    private var strays: [Stray] = []
    private var ofPort: [Tag: Int] = [:]
    /// Packets that wait.
    var count: Int { strays.count }

    /// Holds a packet for a port; false when there is no room.
    mutating func hold(_ packet: borrowing UpcallPacket, for port: Tag, now: UInt64) -> Bool {
        guard strays.count < AgentLimits.straysPerThread, ofPort[port, default: 0] < AgentLimits.straysPerPort else {
            return false
        }
        strays.append(
            Stray(packet: packet.owned(), port: port, until: now &+ AgentLimits.strayNanoseconds))
        ofPort[port, default: 0] += 1
        return true
    }

    /// Takes out, in the order in which they came, the packets of ports that are here now, and those that have waited long
    /// enough.
    mutating func take(now: UInt64, isHere: (Tag) -> Bool) -> [OwnedPacket] {
        if strays.isEmpty { return [] }
        var taken: [OwnedPacket] = []
        strays.removeAll { stray in
            guard stray.until <= now || isHere(stray.port) else { return false }
            taken.append(stray.packet)
            let left = (ofPort[stray.port] ?? 0) - 1
            ofPort[stray.port] = left > 0 ? left : nil
            return true
        }
        return taken
    }
}

extension PacketThread {
    /// Whether the packet in hand, which came under a tunnel key, is held until the key's port is here.
    func holdsStray(_ packet: borrowing UpcallPacket) -> Bool {
        guard let port = epoch.absentPort(of: packet.key),
            strays.hold(packet, for: epoch.fabric.tag(port), now: now)
        else { return false }
        counters.strays &+= 1
        return true
    }

    /// Decides packets that were held for ports that have come, or long enough.
    func releaseStrays(_ thread: any DatapathThread) {
        let taken = strays.take(now: now) { tag in
            epoch.fabric.port(tag).map { epoch.number(of: $0) != nil } ?? true
        }
        for packet in taken {
            packet.bytes.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                let key = packet.parsed(bytes, &layout)
                let actions = decideArrival(
                    SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: 0), thread)
                thread.execute(actions, on: packet)
            }
        }
    }
}
