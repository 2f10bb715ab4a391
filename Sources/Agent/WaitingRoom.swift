// SPDX-License-Identifier: Apache-2.0
import Datapath
import FlowState
import Simulation
import Wire

/// Packets that nothing here lets through, while the other hosts are asked whether they know their connection: the answer of a
/// connection that left by another host may be faster than the word of it. Pure: it is told the time.
struct WaitingRoom {
    /// A packet that waits, and the port where it came in.
    struct Guest {
        var packet: OwnedPacket
        var port: Tag
        /// What it waits for.
        var missed: [MissedState]
        var until: UInt64
        /// How often it has waited: a translation that is known at last leads to a filter that asks for a connection.
        var times = 1
    }

    private var guests: [Guest] = []
    /// What nobody knew a moment ago: who comes with the same does not wait again.
    private var unknown: [Tag: UInt64] = [:]
    private var ofPort: [Tag: Int] = [:]
    private var ofTag: [Tag: Int] = [:]
    /// Packets that wait.
    var count: Int { guests.count }
    /// When the first of them has waited long enough.
    private(set) var due = UInt64.max

    /// Whether a packet is to wait. What nobody knew a moment ago nobody knows now.
    func admits(_ missed: [MissedState], at port: Tag, now: UInt64) -> Bool {
        guards(port) && !missed.isEmpty && missed.contains { (unknown[$0.tag] ?? 0) <= now }
    }

    private func guards(_ port: Tag) -> Bool {
        guests.count < AgentLimits.heldPerThread && ofPort[port, default: 0] < AgentLimits.heldPerPort
    }

    mutating func hold(_ guest: Guest) {
        guests.append(guest)
        ofPort[guest.port, default: 0] += 1
        for missed in guest.missed { ofTag[missed.tag, default: 0] += 1 }
        due = min(due, guest.until)
    }

    private mutating func leave(_ guest: Guest) {
        let left = (ofPort[guest.port] ?? 0) - 1
        ofPort[guest.port] = left > 0 ? left : nil
        for missed in guest.missed {
            let left = (ofTag[missed.tag] ?? 0) - 1
            ofTag[missed.tag] = left > 0 ? left : nil
        }
    }

    /// Whether somebody waits for the same already, so that the others were asked.
    func isAsked(_ missed: [MissedState]) -> Bool { missed.allSatisfy { ofTag[$0.tag] != nil } }

    /// Takes out those that waited for one of these.
    mutating func take(_ tags: Set<Tag>) -> [Guest] {
        if !unknown.isEmpty { for tag in tags { unknown[tag] = nil } }
        if guests.isEmpty { return [] }
        let taken = guests.filter { guest in guest.missed.contains { tags.contains($0.tag) } }
        if taken.isEmpty { return [] }
        guests.removeAll { guest in guest.missed.contains { tags.contains($0.tag) } }
        for guest in taken { leave(guest) }
        due = guests.map(\.until).min() ?? .max
        return taken
    }

    /// Takes out those that have waited long enough: nobody knows what they need, or nobody says so.
    mutating func takeDue(now: UInt64) -> [Guest] {
        due <= now ? takeUnknown(now) { $0.until <= now } : []
    }

    /// Takes out those that wait for nothing but these, which all others have said that they don't know.
    mutating func take(unknown tags: Set<Tag>, now: UInt64) -> [Guest] {
        takeUnknown(now) { guest in guest.missed.allSatisfy { tags.contains($0.tag) } }
    }

    private mutating func takeUnknown(_ now: UInt64, _ isTaken: (Guest) -> Bool) -> [Guest] {
        let taken = guests.filter(isTaken)
        if taken.isEmpty { return [] }
        guests.removeAll(where: isTaken)
        if unknown.count > AgentLimits.unknownStates { unknown.removeAll() }
        for guest in taken {
            leave(guest)
            for missed in guest.missed { unknown[missed.tag] = now &+ AgentLimits.unknownStateNanoseconds }
        }
        due = guests.map(\.until).min() ?? .max
        return taken
    }
}

extension PacketThread {
    /// Whether the packet in hand, which nobody here knows, would begin a translation amid a TCP connection: by another port
    /// than it has, where another host knows it.
    func picksUp(_ key: FlowKey) -> Bool {
        key.ipProtocol == IPProtocol.tcp && !simulator.verdict.missed.isEmpty
            && simulator.verdict.translations.contains { $0.isNew }
    }

    /// Whether the packet in hand goes nowhere for want of what another host may know, or goes on as it is and may be an answer
    /// that is to be translated.
    var lacksState: Bool {
        if simulator.verdict.missed.isEmpty { return false }
        if simulator.verdict.outputs.isEmpty { return true }
        return simulator.verdict.missed.contains { missed in
            guard case .translation(_, let zone) = missed else { return false }
            return !simulator.verdict.translations.contains { $0.zone == zone }
        }
    }

    /// Whether the packet in hand is answered with an address, which others may have given to another machine.
    var givesAddress: Bool {
        simulator.verdict.learned.contains { learned in if case .lease = learned { true } else { false } }
    }

    /// Whether this host may begin a translation amid a connection: not while the others may well know it and can't have been
    /// asked. The sender sends its segment again.
    var mayPickUp: Bool { epoch.replication?.isCaughtUp ?? true }

    /// Whether the packet in hand may wait for what another host knows of its connection.
    func mayWaitForState(_ port: Tag) -> Bool {
        // Field by field: a copy of the verdict would be one of all its lists.
        guard epoch.replication != nil, epoch.hasPeers, simulator.verdict.wait == nil else { return false }
        return waiting.admits(simulator.verdict.missed, at: port, now: now) && wantBudget.take(now: now)
    }

    /// Lets a packet wait, and asks the other hosts.
    ///
    /// - Parameter before: how it waited until now, if it did: it does not wait longer in all for waiting again.
    func waitForState(_ packet: OwnedPacket, _ port: Tag, after before: (until: UInt64, times: Int)? = nil) {
        let missed = simulator.verdict.missed
        let isAsked = waiting.isAsked(missed)
        var keys: [UInt8] = []
        for one in missed {
            switch one {
            case .connection(let tuple, let zone): keys += FlowReplication.key(ofConnection: tuple, zone: zone)
            case .translation(let tuple, let zone): keys += FlowReplication.key(ofTranslation: tuple, zone: zone)
            }
        }
        waiting.hold(
            .init(
                packet: packet, port: port, missed: missed,
                until: before?.until ?? now &+ AgentLimits.heldNanoseconds, times: (before?.times ?? 0) + 1))
        if before == nil { counters.held &+= 1 }
        if !isAsked { epoch.replication?.want(keys, Set(missed.map(\.tag)), from: epoch.allPeers, now: now) }
    }

    /// Decides packets that waited.
    ///
    /// - Parameter isOver: whether they have waited long enough, and are not to wait again.
    func decide(_ guests: [WaitingRoom.Guest], isOver: Bool, _ thread: any DatapathThread) {
        for guest in guests {
            guard let port = epoch.fabric.port(guest.port) else { continue }
            let mayWait = !isOver && guest.until > now && guest.times < AgentLimits.heldTimes
            let isAgain = resume(
                guest.packet, at: port, guest.port, thread, waited: mayWait ? (guest.until, guest.times) : nil)
            if isAgain { continue }
            if !isOver { counters.released &+= 1 }
            counters.heldTime.add(now &+ AgentLimits.heldNanoseconds &- guest.until)
        }
    }
}
