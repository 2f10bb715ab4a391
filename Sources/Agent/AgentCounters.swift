// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// Counters of a packet thread, by what was done or why not.
public struct AgentCounters: Sendable, Equatable {
    /// Packets simulated.
    public var simulated: UInt64 = 0
    /// Flows installed.
    public var installed: UInt64 = 0
    /// Flows that were replaced in place because the topology or the state changed.
    public var replaced: UInt64 = 0
    /// Flows that went for want of use.
    public var expired: UInt64 = 0
    /// Packets that were parked.
    public var parked: UInt64 = 0
    /// Packets that found no room to wait.
    public var parkingFull: UInt64 = 0
    /// Packets that waited for what another host knows of their connection.
    public var held: UInt64 = 0
    /// Those of them for which another host knew it.
    public var released: UInt64 = 0
    /// How long packets waited for that.
    public var heldTime = DurationCounts()
    /// Packets by tunnel for ports that were not here, held until they come.
    public var strays: UInt64 = 0
    /// Flows that found no room.
    public var tableFull: UInt64 = 0
    /// ICMP errors and answers over their rate.
    public var rateLimited: UInt64 = 0
    /// Packets of ports that are not bound.
    public var unbound: UInt64 = 0
    /// Lines that rules asked for.
    public var logged: UInt64 = 0
    /// Lines that there were too many of.
    public var unlogged: UInt64 = 0
    /// Packets dropped, by reason.
    public var drops: [DropReason: UInt64] = [:]

    /// All zeros.
    public init() {}

    /// Adds another thread's.
    public mutating func add(_ other: AgentCounters) {
        simulated += other.simulated
        installed += other.installed
        replaced += other.replaced
        expired += other.expired
        parked += other.parked
        parkingFull += other.parkingFull
        held += other.held
        released += other.released
        heldTime.add(other.heldTime)
        strays += other.strays
        tableFull += other.tableFull
        rateLimited += other.rateLimited
        unbound += other.unbound
        logged += other.logged
        unlogged += other.unlogged
        drops.merge(other.drops, uniquingKeysWith: +)
    }
}
