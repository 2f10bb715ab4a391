// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// What tools and operators ask.
extension StateTable {
    /// Sets what tenants may have, and how long connections in zones of theirs are known.
    public func set(
        connections bounds: [Tag: ConnectionBounds], translations: [Tag: ConnectionBounds],
        lifetimes: [Tag: ConnectionLifetimes]
    ) {
        connections.state.withLock { state in
            state.table.setBounds(StateLimits.connectionBounds, byTenant: bounds)
            state.table.lifetimesByZone = lifetimes
        }
        self.translations.state.withLock { state in
            state.table.setBounds(StateLimits.translationBounds, byTenant: translations)
            state.table.lifetimesByZone = lifetimes
        }
    }

    /// Connections that are known and meant, at most `limit` of them, in no order.
    public func connections(
        limit: Int, where isMeant: @Sendable (ConnectionTable.Record) -> Bool
    ) -> [ConnectionTable.Record] {
        connections.state.withLock { state in
            var list: [ConnectionTable.Record] = []
            state.table.forEach { if list.count < limit, isMeant($0) { list.append($0) } }
            return list
        }
    }

    /// Translated connections that are known and meant, at most `limit` of them, in no order.
    public func translations(
        limit: Int, where isMeant: @Sendable (TranslationTable.Record) -> Bool
    ) -> [TranslationTable.Record] {
        translations.state.withLock { state in
            var list: [TranslationTable.Record] = []
            state.table.forEach { if list.count < limit, isMeant($0) { list.append($0) } }
            return list
        }
    }

    /// Connections by tenant, and how many found no room; those that routers translate besides.
    public var countsByTenant:
        (
            connections: (counts: [Tag: Int], refused: [Tag: UInt64]),
            translations: (counts: [Tag: Int], refused: [Tag: UInt64])
        )
    {
        (
            connections.state.withLock { $0.table.countsByTenant },
            translations.state.withLock { $0.table.countsByTenant }
        )
    }

    /// Stations of a bridge that were learned, in no order: each one's VLAN and MAC, and the port that it is at.
    public func stations(of bridge: Tag) -> [(vlan: UInt16, mac: MACAddress, port: Tag)] {
        var list: [(vlan: UInt16, mac: MACAddress, port: Tag)] = []
        stations.forEach { key, port, _ in if key.bridge == bridge { list.append((key.vlan, key.mac, port)) } }
        return list
    }

    /// How long connections in a zone are known.
    public func lifetimes(in zone: Tag) -> ConnectionLifetimes {
        connections.state.withLock { $0.table.lifetimesByZone[zone] ?? $0.table.lifetimes }
    }

    /// Connections that are known, and how many found no room.
    public var connectionCount: (count: Int, refused: UInt64) {
        connections.state.withLock { ($0.table.count, $0.table.refused) }
    }

    /// Translated connections that are known, and how many found no room.
    public var translationCount: (count: Int, refused: UInt64) {
        translations.state.withLock { ($0.table.count, $0.table.refused) }
    }

    /// Addresses that bridges gave, in no order: to whom, at which port, and when that is over.
    public var givenAddresses: [(address: IPAddress, bridge: Tag, lease: Lease, port: Tag, ends: UInt64)] {
        var list: [(address: IPAddress, bridge: Tag, lease: Lease, port: Tag, ends: UInt64)] = []
        leases.forEach { key, value, ends in list.append((key.address, key.bridge, value.lease, value.port, ends)) }
        return list
    }

    /// Who joined multicast groups, and until when.
    public var groupMembers: [(member: GroupMember, ends: UInt64)] {
        var list: [(member: GroupMember, ends: UInt64)] = []
        groups.forEach { key, _, ends in list.append((key.member, ends)) }
        return list
    }

    /// Stations and neighbors that found no room.
    public var refused: UInt64 { bounds.refused }
    /// Learned MACs and neighbors, those that did not answer included.
    public var count: Int { stations.count + neighbors.count + unreachable.withLock { $0.count } }

    /// Steps what is known of the ports that this host may translate to.
    public func withPorts<Result: Sendable>(_ body: (inout sending TranslationPorts) -> sending Result) -> Result {
        translations.state.withLock { state in
            var ports = state.table.ports
            state.table.ports = TranslationPorts()
            let result = body(&ports)
            state.table.ports = ports
            return result
        }
    }
}

extension StateTable {
    /// Sums of what everybody is to know, by kind: equal where hosts know the same.
    public var sums: [RowKind: [UInt64]] {
        Dictionary(uniqueKeysWithValues: RowKind.allCases.map { ($0, table($0).digest.sums) })
    }

    /// How many rows that everybody is to know began at each host, by the host's number, and their sum.
    public func origins(_ kind: RowKind) -> [UInt16: (count: Int, sum: UInt64)] { table(kind).digest.origins }
}
