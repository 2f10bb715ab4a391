// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// What packets taught this host, and what other hosts told of theirs: learned MACs and neighbors, with lifetimes.
///
/// It stands where the replicated flow state will stand, behind the same seam: the simulation reads through
/// ``FlowStateView``, and what is learned is written through ``learn(_:now:)``.
public final class LocalState: FlowStateView {
    private struct MACKey: Hashable {
        var mac: MACAddress
        var vlan: UInt16
        var bridge: Tag
    }
    private struct NeighborKey: Hashable {
        var address: IPAddress
        var port: Tag
    }
    private struct Entry<Value: Sendable>: Sendable {
        var value: Value
        var expires: UInt64
    }
    private struct Tables {
        var macs: [MACKey: Entry<Tag>] = [:]
        var neighbors: [NeighborKey: Entry<NeighborState>] = [:]
        var refused: UInt64 = 0
    }

    private let tables = Mutex(Tables())

    /// An empty state.
    public init() {}

    /// The port at which a MAC was seen.
    public func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag? {
        tables.withLock { $0.macs[MACKey(mac: mac, vlan: vlan, bridge: bridge)]?.value }
    }

    /// What a neighbor told.
    public func neighbor(_ address: IPAddress, port: Tag) -> NeighborState {
        tables.withLock { $0.neighbors[NeighborKey(address: address, port: port)]?.value ?? .unknown }
    }

    /// Takes note; true when it is news, so that what was decided without it has to be decided again.
    public func learn(_ learned: Learned, now: UInt64) -> Bool {
        tables.withLock { tables in
            switch learned {
            case .mac(let mac, let vlan, let bridge, let port):
                let key = MACKey(mac: mac, vlan: vlan, bridge: bridge)
                let old = tables.macs[key]
                if old == nil, tables.macs.count >= AgentLimits.learnedEntries {
                    tables.refused &+= 1
                    return false
                }
                tables.macs[key] = Entry(value: port, expires: now &+ AgentLimits.macLifetimeNanoseconds)
                return old?.value != port
            case .neighbor(let address, let mac, let port):
                let key = NeighborKey(address: address, port: port)
                let old = tables.neighbors[key]
                if old == nil, tables.neighbors.count >= AgentLimits.learnedEntries {
                    tables.refused &+= 1
                    return false
                }
                tables.neighbors[key] = Entry(
                    value: .at(mac), expires: now &+ AgentLimits.neighborLifetimeNanoseconds)
                return old?.value != .at(mac)
            }
        }
    }

    /// Notes that a neighbor did not answer.
    func markUnreachable(_ address: IPAddress, port: Tag, now: UInt64) {
        tables.withLock { tables in
            let key = NeighborKey(address: address, port: port)
            // Without room it is asked again by the next packet, which costs time but never room.
            if tables.neighbors[key] == nil, tables.neighbors.count >= AgentLimits.learnedEntries {
                tables.refused &+= 1
                return
            }
            tables.neighbors[key] = Entry(
                value: .unreachable, expires: now &+ AgentLimits.unreachableNanoseconds)
        }
    }

    /// Forgets what is past its time and returns the tags of all that.
    func expire(now: UInt64) -> Set<Tag> {
        tables.withLock { tables in
            var tags: Set<Tag> = []
            for (key, entry) in tables.macs where entry.expires <= now {
                tables.macs[key] = nil
                tags.insert(.mac(key.mac, vlan: key.vlan, bridge: key.bridge))
            }
            for (key, entry) in tables.neighbors where entry.expires <= now {
                tables.neighbors[key] = nil
                tags.insert(.neighbor(key.address, port: key.port))
            }
            return tags
        }
    }

    /// Entries that found no room.
    public var refused: UInt64 { tables.withLock { $0.refused } }
    /// Learned MACs and neighbors.
    public var count: Int { tables.withLock { $0.macs.count + $0.neighbors.count } }
}
