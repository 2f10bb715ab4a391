// SPDX-License-Identifier: Apache-2.0
import Consensus
import HashTreeCollections
import Topology
import Wire

/// What an entry did to the state.
public struct Applied: Sendable {
    /// The entry.
    public var position: LogPosition
    /// Who asked for it.
    public var session: Transaction.SessionID?
    /// What became of it.
    public var outcome: Outcome?
    /// Objects of the topology that changed.
    public var objects: [ObjectKey] = []
    /// Rows to write or to take away.
    var rows: Set<RowKey> = []
    /// Whether nodes, tokens, authorities, keys or members changed.
    public var changesCluster = false
}

extension ClusterState {
    /// Applies the entry behind the last one.
    ///
    /// - Throws: ``MalformedBytes`` when the entry is not for this version: the node must stop, or it would be another cluster.
    public mutating func apply(_ entry: Entry) throws(MalformedBytes) -> Applied {
        var applied = Applied(position: entry.position)
        switch entry.content {
        case .nothing: break
        case .members(let members):
            self.members = members
            applied.changesCluster = true
        case .command(let bytes):
            let transaction = try Transaction(decoding: bytes)
            apply(transaction, at: entry.index, &applied)
        }
        self.applied = entry.position
        applied.rows.insert(.meta)
        return applied
    }

    private mutating func apply(_ transaction: Transaction, at index: LogIndex, _ applied: inout Applied) {
        applied.session = transaction.session
        switch sessions.find(transaction.session) {
        case .answered(let outcome):
            applied.outcome = outcome
            return
        case .expired:
            applied.outcome = .failed(
                .sessionExpired,
                [
                    Problem(
                        "the change", "was asked for too long ago to know whether it was made",
                        remedy: "look whether it was, then try again")
                ])
            return
        case .new: break
        }
        let before = self
        var change = Change()
        let outcome: Outcome
        if let failure = attempt(transaction, at: index, &change) {
            self = before
            change = Change()
            outcome = failure
        } else {
            outcome = .done(index)
        }
        for client in sessions.note(transaction.session, outcome, at: index) { change.rows.insert(.session(client)) }
        for row in change.rows {
            // The row of the position changes with each entry and tells nothing.
            if row == .meta { continue }
            if let old = before.row(row) { digest.subtract(row.prefix + old) }
            if let new = self.row(row) { digest.add(row.prefix + new) }
        }
        applied.outcome = outcome
        applied.objects = change.objects.sorted()
        applied.rows = change.rows
        applied.changesCluster = change.changesCluster
    }

    /// What a transaction touched.
    struct Change {
        var objects: Set<ObjectKey> = []
        var rows: Set<RowKey> = []
        var changesCluster = false

        mutating func touch(_ key: ObjectKey) {
            objects.insert(key)
            rows.insert(.object(key))
        }

        mutating func touch(_ row: RowKey) {
            rows.insert(row)
            changesCluster = true
        }
    }

    private mutating func attempt(_ transaction: Transaction, at index: LogIndex, _ change: inout Change) -> Outcome? {
        for condition in transaction.preconditions {
            if let failure = check(condition) { return failure }
        }
        let before = topology
        for operation in transaction.operations {
            if let failure = perform(operation, transaction.time, &change) { return failure }
        }
        // What came out as it was is no change.
        change.objects = change.objects.filter { before[$0] != topology[$0] }
        change.rows = change.rows.filter { row in
            if case .object(let key) = row { change.objects.contains(key) } else { true }
        }
        guard !change.objects.isEmpty else { return nil }
        let difference = TopologyDifference(from: before, to: topology, among: change.objects)
        let problems = topology.problems(after: difference)
        if !problems.isEmpty { return .failed(.invalid, Array(problems.prefix(ClusterState.problemLimit))) }
        topology.revision = index
        for key in change.objects {
            if topology[key] == nil {
                versions[key] = nil
            } else {
                versions[key] = Version(created: versions[key]?.created ?? index, modified: index)
            }
        }
        change.rows.insert(.counters)
        return nil
    }

    /// Problems of one transaction that are told at once.
    static let problemLimit = 50

    private func check(_ condition: Transaction.Precondition) -> Outcome? {
        switch condition {
        case .topology(let revision):
            if revision == topology.revision { return nil }
            return .failed(
                .conflict,
                [
                    Problem(
                        "the topology", "was changed at revision \(topology.revision), after \(revision)",
                        remedy: "read it again, then decide again")
                ])
        case .revision(let key, let revision):
            let found = versions[key]?.modified ?? 0
            if found == revision { return nil }
            let reason =
                switch (found, revision) {
                case (0, _): "does not exist any more"
                case (_, 0): "exists already, since revision \(found)"
                default: "was changed at revision \(found), after \(revision)"
                }
            return .failed(.conflict, [Problem(key.name, reason, remedy: "read it again, then decide again")])
        }
    }

    private mutating func perform(
        _ operation: Transaction.Operation, _ time: Int64, _ change: inout Change
    ) -> Outcome? {
        switch operation {
        case .put(let object): return put(object, &change)
        case .delete(let key, let cascade): return delete(key, cascade, &change)
        case .lease(let pool, let size, let count, let node): return lease(pool, size, count, node, &change)
        case .release(let pool, let blocks, let node): return release(pool, blocks, node, &change)
        default: return performOnCluster(operation, time, &change)
        }
    }

    // MARK: - Topology

    private mutating func put(_ object: TopologyObject, _ change: inout Change) -> Outcome? {
        let key = object.key
        change.touch(key)
        switch object {
        case .bridge(var bridge):
            if topology.routers[bridge.path] != nil { return taken(key, "router") }
            bridge.floodKey = topology.bridges[bridge.path]?.floodKey ?? 0
            if bridge.floodKey == 0 {
                guard let allocated = takeTunnelKey() else { return noTunnelKey(key) }
                bridge.floodKey = allocated
            }
            topology.bridges[bridge.path] = bridge
        case .port(var port):
            port.tunnelKey = topology.ports[port.path]?.tunnelKey ?? 0
            if port.tunnelKey == 0 {
                guard let allocated = takeTunnelKey() else { return noTunnelKey(key) }
                port.tunnelKey = allocated
            }
            topology.ports[port.path] = port
        case .router(let router):
            if topology.bridges[router.path] != nil { return taken(key, "bridge") }
            topology.routers[router.path] = router
        case .host(let host): topology.hosts[host.name] = host
        case .zone(let zone): topology.zones[zone.name] = zone
        }
        return nil
    }

    private func taken(_ key: ObjectKey, _ kind: String) -> Outcome {
        .failed(
            .invalid,
            [
                Problem(
                    key.name, "is a \(kind) already",
                    remedy: "bridges and routers of a tenant share one set of names: choose another")
            ])
    }

    private func noTunnelKey(_ key: ObjectKey) -> Outcome {
        .failed(
            .refused,
            [Problem(key.name, "all 24-bit tunnel keys are taken", remedy: "delete ports that are not used any more")])
    }

    private mutating func takeTunnelKey() -> UInt32? {
        let span = Int(TunnelKeys.last - TunnelKeys.first) + 1
        guard takenTunnelKeys.count < span else { return nil }
        while true {
            let candidate = nextTunnelKey
            nextTunnelKey = candidate == TunnelKeys.last ? TunnelKeys.first : candidate + 1
            if takenTunnelKeys.insert(candidate).inserted { return candidate }
        }
    }

    private mutating func delete(_ key: ObjectKey, _ cascade: Bool, _ change: inout Change) -> Outcome? {
        guard let object = topology[key] else {
            return .failed(
                .notFound, [Problem(key.name, "there is no such \(key.kind.rawValue)", remedy: "nothing to delete")])
        }
        switch object {
        case .bridge(let bridge):
            takenTunnelKeys.remove(bridge.floodKey)
            if cascade { deletePorts(of: bridge.path, &change) }
        case .router(let router): if cascade { deletePorts(of: router.path, &change) }
        case .port(let port): deletePort(port, cascade, &change)
        case .host, .zone: break
        }
        topology[key] = nil
        change.touch(key)
        return nil
    }

    private mutating func deletePorts(of device: DevicePath, _ change: inout Change) {
        for port in topology.ports(of: device) { deletePort(port, true, &change) }
    }

    /// A link is one thing with two ends: neither can be without the other.
    private mutating func deletePort(_ port: Port, _ cascade: Bool, _ change: inout Change) {
        takenTunnelKeys.remove(port.tunnelKey)
        topology.ports[port.path] = nil
        change.touch(.port(port.path))
        if cascade, case .peer(let other) = port.attachment, let peer = topology.ports[other] {
            takenTunnelKeys.remove(peer.tunnelKey)
            topology.ports[other] = nil
            change.touch(.port(other))
        }
    }

    // MARK: - Leases

    private mutating func lease(
        _ pool: String, _ size: UInt32, _ count: UInt32, _ node: NodeID, _ change: inout Change
    ) -> Outcome? {
        guard nodes[node] != nil else { return unknownNode(node) }
        var list = leases[pool] ?? []
        let taken = Set(list.flatMap(\.blocks))
        guard UInt64(taken.count) + UInt64(count) <= UInt64(size) else {
            return .failed(
                .refused,
                [
                    Problem(
                        pool, "has \(Int(size) - taken.count) of \(size) blocks left, \(count) are wanted",
                        remedy: "give blocks back, or make the pool larger")
                ])
        }
        var found: [UInt32] = []
        var block: UInt32 = 0
        while found.count < count {
            if !taken.contains(block) { found.append(block) }
            block += 1
        }
        if let at = list.firstIndex(where: { $0.owner == node }) {
            list[at].blocks = (list[at].blocks + found).sorted()
        } else {
            list.append(Lease(owner: node, blocks: found))
            list.sort { $0.owner < $1.owner }
        }
        leases[pool] = list
        change.touch(.lease(pool))
        return nil
    }

    private mutating func release(
        _ pool: String, _ blocks: [UInt32], _ node: NodeID, _ change: inout Change
    ) -> Outcome? {
        guard let at = leases[pool]?.firstIndex(where: { $0.owner == node }) else { return nil }
        leases[pool]?[at].blocks.removeAll { blocks.contains($0) }
        if leases[pool]?[at].blocks.isEmpty == true { leases[pool]?.remove(at: at) }
        if leases[pool]?.isEmpty == true { leases[pool] = nil }
        change.touch(.lease(pool))
        return nil
    }

    func unknownNode(_ id: NodeID) -> Outcome {
        .failed(
            .notFound,
            [Problem("node \(id)", "is none of this cluster", remedy: "selvage cluster list shows which there are")])
    }
}
