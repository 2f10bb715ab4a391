// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// What packets taught this host, and what other hosts told of theirs: learned MACs and neighbors, with lifetimes.
///
/// It stands where the replicated flow state will stand, behind the same seam: the simulation reads through
/// ``FlowStateView``, and what is learned is written through ``learn(_:isOwn:now:)``.
public final class LocalState: FlowStateView {
    /// What learning something came to.
    public enum Outcome: Sendable, Equatable {
        /// It was not known, or otherwise: what was decided without it has to be decided again.
        case news
        /// It was known, and has a new lifetime. `isDue` when the other hosts have not heard of it for a while.
        case known(isDue: Bool)
        /// There was no room.
        case refused
        /// Somebody else has what it says.
        case conflict
    }

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
        /// When other hosts last heard of it.
        var told: UInt64
        /// Whether this host learned it from packets, not from another host.
        var isOwn: Bool
        /// Whether those who use it were asked to confirm it before it expires.
        var isConfirming = false
    }
    private struct Tables {
        var macs: [MACKey: Entry<Tag>] = [:]
        var neighbors: [NeighborKey: Entry<NeighborState>] = [:]
        /// Entries by the port that they are at: one port must not fill the tables for all.
        var countOfPort: [Tag: Int] = [:]
        var unreachableCount = 0
        var refused: UInt64 = 0

        mutating func take(_ port: Tag) -> Bool {
            guard macs.count + neighbors.count - unreachableCount < AgentLimits.learnedEntries,
                countOfPort[port, default: 0] < AgentLimits.learnedPerPort
            else {
                refused &+= 1
                return false
            }
            countOfPort[port, default: 0] += 1
            return true
        }

        mutating func give(back port: Tag) {
            let left = (countOfPort[port] ?? 0) - 1
            countOfPort[port] = left > 0 ? left : nil
        }
    }

    private let tables = Mutex(Tables())
    private let connections = Mutex(Connections())
    /// Connections, and what time it is: who looks one up has no clock.
    private struct Connections: ~Copyable {
        var table = ConnectionTable(
            seed: .random(in: .min ... .max), limit: AgentLimits.connections)
        var now: UInt64 = 0
    }

    let translations = Mutex(Translations())
    /// Called when this host wants ports to translate to.
    let onPortsWanted: @Sendable () -> Void

    /// An empty state.
    ///
    /// - Parameter onPortsWanted: called when this host wants ports to translate to; must be quick.
    public init(onPortsWanted: @escaping @Sendable () -> Void = {}) { self.onPortsWanted = onPortsWanted }

    /// The port at which a MAC was seen.
    public func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag? {
        tables.withLock { $0.macs[MACKey(mac: mac, vlan: vlan, bridge: bridge)]?.value }
    }

    /// What a neighbor told.
    public func neighbor(_ address: IPAddress, port: Tag) -> NeighborState {
        tables.withLock { $0.neighbors[NeighborKey(address: address, port: port)]?.value ?? .unknown }
    }

    /// The connection of a packet.
    public func connection(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16) -> ConnectionMatch? {
        connections.withLock { $0.table.find(tuple, zone: zone, flags: flags, now: $0.now) }
    }

    /// Whether two addresses have a connection.
    public func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool {
        connections.withLock { $0.table.hasConnections(pair, zone: zone) }
    }

    /// Takes note of a packet of a connection, or of packets that a flow carried.
    ///
    /// - Parameter isOwn: whether packets told it here; otherwise another host told it.
    private func learn(
        _ tuple: ConnectionTuple, _ zone: Tag, _ flags: UInt16, isOwn: Bool, _ owner: ConnectionOwner?, now: UInt64
    ) -> Outcome {
        connections.withLock { connections in
            connections.now = max(connections.now, now)
            let outcome = connections.table.note(
                tuple, zone: zone, flags: flags, owner: owner,
                telling: isOwn ? AgentLimits.connectionTellNanoseconds : nil, now: now)
            // The others hear how far the connection has come, and now and then that it goes on.
            switch outcome {
            case .new: return .news
            case .known(let isDue): return .known(isDue: isDue)
            case .refused: return .refused
            }
        }
    }

    /// Connections that are known and meant, at most `limit` of them, in no order.
    public func connections(
        limit: Int, where isMeant: @Sendable (ConnectionTable.Record) -> Bool
    ) -> [ConnectionTable.Record] {
        connections.withLock { connections in
            var list: [ConnectionTable.Record] = []
            connections.table.forEach { if list.count < limit, isMeant($0) { list.append($0) } }
            return list
        }
    }

    /// Sets what tenants may have, and how long connections in zones of theirs are known.
    func set(
        connections bounds: [Tag: ConnectionBounds], translations: [Tag: ConnectionBounds],
        lifetimes: [Tag: ConnectionLifetimes]
    ) {
        connections.withLock { connections in
            connections.table.setBounds(AgentLimits.connectionBounds, byTenant: bounds)
            connections.table.lifetimesByZone = lifetimes
        }
        self.translations.withLock { state in
            state.table.setBounds(AgentLimits.translationBounds, byTenant: translations)
            state.table.lifetimesByZone = lifetimes
        }
    }

    /// Connections by tenant, and how many found no room; those that routers translate besides.
    public var countsByTenant:
        (
            connections: (counts: [Tag: Int], refused: [Tag: UInt64]),
            translations: (counts: [Tag: Int], refused: [Tag: UInt64])
        )
    {
        (connections.withLock { $0.table.countsByTenant }, translations.withLock { $0.table.countsByTenant })
    }

    /// How long connections in a zone are known.
    public func lifetimes(in zone: Tag) -> ConnectionLifetimes {
        connections.withLock { $0.table.lifetimesByZone[zone] ?? $0.table.lifetimes }
    }

    /// Connections that are known, and how many found no room.
    public var connectionCount: (count: Int, refused: UInt64) {
        connections.withLock { ($0.table.count, $0.table.refused) }
    }

    /// Takes note of something, or that it is still so.
    ///
    /// - Parameters:
    ///   - isOwn: whether packets told it here; otherwise another host told it.
    ///   - owner: who a connection is counted to that begins.
    public func learn(
        _ learned: Learned, isOwn: Bool = true, owner: ConnectionOwner? = nil, now: UInt64
    ) -> Outcome {
        switch learned {
        case .connection(let tuple, let zone, let flags): learn(tuple, zone, flags, isOwn: isOwn, owner, now: now)
        case .translation(let use, let flags): learn(use, flags, isOwn: isOwn, owner, now: now)
        case .fragment(let name, let zone, let tuple): learn(name, zone: zone, tuple, now: now)
        case .mac(let mac, let vlan, let bridge, let port):
            learn(MACKey(mac: mac, vlan: vlan, bridge: bridge), port, isOwn: isOwn, now: now)
        case .neighbor(let address, let mac, let port):
            learn(NeighborKey(address: address, port: port), mac, isOwn: isOwn, now: now)
        }
    }

    private func learn(_ key: MACKey, _ port: Tag, isOwn: Bool, now: UInt64) -> Outcome {
        tables.withLock { tables in
            let old = tables.macs[key]
            if old?.value != port {
                guard tables.take(port) else { return .refused }
                if let old { tables.give(back: old.value) }
            }
            let (told, outcome) = Self.outcome(old?.value == port, old?.told, isOwn, now)
            tables.macs[key] = Entry(
                value: port, expires: now &+ AgentLimits.macLifetimeNanoseconds, told: told, isOwn: isOwn)
            return outcome
        }
    }

    private func learn(_ key: NeighborKey, _ mac: MACAddress, isOwn: Bool, now: UInt64) -> Outcome {
        tables.withLock { tables in
            let old = tables.neighbors[key]
            switch old?.value {
            case .at: break
            case .unreachable, .unknown, nil:
                guard tables.take(key.port) else { return .refused }
                if old != nil { tables.unreachableCount -= 1 }
            }
            let (told, outcome) = Self.outcome(old?.value == .at(mac), old?.told, isOwn, now)
            tables.neighbors[key] = Entry(
                value: .at(mac), expires: now &+ AgentLimits.neighborLifetimeNanoseconds, told: told, isOwn: isOwn)
            return outcome
        }
    }

    private static func outcome(_ isKnown: Bool, _ told: UInt64?, _ isOwn: Bool, _ now: UInt64) -> (UInt64, Outcome) {
        guard isKnown, let told else { return (now, .news) }
        // Another host's word was heard by all; only our own has to be passed on.
        if isOwn, now >= told &+ AgentLimits.tellIntervalNanoseconds { return (now, .known(isDue: true)) }
        return (isOwn ? told : now, .known(isDue: false))
    }

    /// Notes that a neighbor did not answer.
    func markUnreachable(_ address: IPAddress, port: Tag, now: UInt64) {
        tables.withLock { tables in
            let key = NeighborKey(address: address, port: port)
            switch tables.neighbors[key]?.value {
            case .at: tables.give(back: port)
            case .unreachable, .unknown: tables.unreachableCount -= 1
            case nil:
                // Without room it is asked again by the next packet: that costs time, and keeps a scan of addresses from
                // growing the table.
                guard tables.unreachableCount < AgentLimits.unreachableEntries else {
                    tables.refused &+= 1
                    return
                }
            }
            tables.unreachableCount += 1
            tables.neighbors[key] = Entry(
                value: .unreachable, expires: now &+ AgentLimits.unreachableNanoseconds, told: now, isOwn: true)
        }
    }

    /// What will be forgotten soon: each is named once, so that those who use it can see whether it is still so.
    func expiring(now: UInt64) -> [Learned] {
        let soon = now &+ AgentLimits.confirmNanoseconds
        return tables.withLock { tables in
            var list: [Learned] = []
            for (key, entry) in tables.macs where entry.expires <= soon && !entry.isConfirming {
                tables.macs[key]?.isConfirming = true
                list.append(.mac(key.mac, vlan: key.vlan, bridge: key.bridge, port: entry.value))
            }
            for (key, entry) in tables.neighbors where entry.expires <= soon && !entry.isConfirming {
                guard case .at(let mac) = entry.value else { continue }
                tables.neighbors[key]?.isConfirming = true
                list.append(.neighbor(key.address, mac: mac, port: key.port))
            }
            return list
        }
    }

    /// Forgets what is past its time and returns the tags of all that.
    func expire(now: UInt64) -> Set<Tag> {
        var gone = connections.withLock { connections in
            connections.now = max(connections.now, now)
            return connections.table.expire(now: now, looking: AgentLimits.connectionsLookedAt)
        }
        gone += expireTranslations(now: now)
        let ended = gone
        return tables.withLock { tables in
            var tags = Set(ended)
            for (key, entry) in tables.macs where entry.expires <= now {
                tables.macs[key] = nil
                tables.give(back: entry.value)
                tags.insert(.mac(key.mac, vlan: key.vlan, bridge: key.bridge))
            }
            for (key, entry) in tables.neighbors where entry.expires <= now {
                tables.neighbors[key] = nil
                if case .at = entry.value { tables.give(back: key.port) } else { tables.unreachableCount -= 1 }
                tags.insert(.neighbor(key.address, port: key.port))
            }
            return tags
        }
    }

    /// What packets taught this host, at most `limit` entries of it.
    func own(limit: Int) -> [Learned] {
        tables.withLock { tables in
            var list: [Learned] = []
            for (key, entry) in tables.macs where entry.isOwn && list.count < limit {
                list.append(.mac(key.mac, vlan: key.vlan, bridge: key.bridge, port: entry.value))
            }
            for (key, entry) in tables.neighbors where entry.isOwn && list.count < limit {
                guard case .at(let mac) = entry.value else { continue }
                list.append(.neighbor(key.address, mac: mac, port: key.port))
            }
            return list
        }
    }

    /// Entries that found no room.
    public var refused: UInt64 { tables.withLock { $0.refused } }
    /// Learned MACs and neighbors.
    public var count: Int { tables.withLock { $0.macs.count + $0.neighbors.count } }
}
