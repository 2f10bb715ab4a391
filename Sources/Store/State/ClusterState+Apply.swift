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
    /// Rows to write, or to take away; of one row the last counts.
    var rows: [(key: RowKey, bytes: [UInt8]?)] = []
    /// Whether nodes, tokens, authorities, keys or members changed.
    public var changesCluster = false
    /// Whether who holds which blocks changed.
    public var changesLeases: Bool { rows.contains { if case .lease = $0.key { true } else { false } } }
}

extension ClusterState {
    /// Applies the entry behind the last one.
    ///
    /// - Throws: ``MalformedBytes`` when the entry is not for this version: the node must stop, or it would be another cluster.
    public mutating func apply(_ entry: Entry) throws(MalformedBytes) -> Applied {
        guard entry.index == self.applied.index + 1 else {
            throw MalformedBytes("entry \(entry.index) behind entry \(self.applied.index)")
        }
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
        var change = Change(self)
        let outcome: Outcome
        if let failure = attempt(transaction, at: index, &change) {
            undo(change)
            change = Change(self)
            outcome = failure
        } else {
            note(&change, at: index, &applied)
            // What changed nothing is true since the last change: whoever waits for it waits for that.
            outcome = .done(topology.revision)
        }
        note(outcome, of: transaction.session, at: index, &applied)
        applied.outcome = outcome
        applied.objects = change.objects.keys.sorted()
        applied.changesCluster = change.changesCluster
    }

    /// What a transaction touched, as it was before.
    struct Change {
        var objects: [ObjectKey: ObjectChange] = [:]
        /// Other rows, with their bytes.
        var rows: [RowKey: [UInt8]?] = [:]
        var changesCluster: Bool { !rows.isEmpty }
        // Small things, kept whole: holding one costs a reference unless it is changed.
        let before: Small

        struct Small {
            var cluster: ClusterRecord?
            var nodes: [NodeID: NodeRecord]
            var removed: [NodeID: RemovedNode]
            var tokens: [String: JoinToken]
            var authorities: [String: AuthorityRecord]
            var keys: [String: AccessKey]
            var leases: [String: [Lease]]
            var stateKeys: [UInt8: StateKeyRecord]
            var nextTunnelKey: UInt32
            var revision: UInt64
        }

        init(_ state: ClusterState) {
            before = Small(
                cluster: state.cluster, nodes: state.nodes, removed: state.removed, tokens: state.tokens,
                authorities: state.authorities, keys: state.keys, leases: state.leases,
                stateKeys: state.stateKeys,
                nextTunnelKey: state.nextTunnelKey, revision: state.topology.revision)
        }
    }

    /// Makes an object what it is to be, and notes what it was.
    ///
    /// - Parameter before: what it is now.
    private mutating func set(
        _ key: ObjectKey, _ object: TopologyObject?, _ before: TopologyObject?, _ change: inout Change
    ) {
        topology[key] = object
        change.objects[key, default: ObjectChange(before: before, after: nil)].after = object
    }

    /// Notes that a row is about to change.
    func touch(_ row: RowKey, _ change: inout Change) {
        if change.rows[row] == nil { change.rows[row] = .some(self.row(row)) }
    }

    /// Makes everything as it was.
    private mutating func undo(_ change: Change) {
        // All go before any comes back: one may have had the key of another.
        for object in change.objects.values { release(object.after) }
        for (key, object) in change.objects.sorted(by: { $0.key < $1.key }) {
            topology[key] = object.before
            hold(object.before)
        }
        let small = change.before
        (cluster, nodes, removed, tokens) = (small.cluster, small.nodes, small.removed, small.tokens)
        (authorities, keys, leases) = (small.authorities, small.keys, small.leases)
        stateKeys = small.stateKeys
        nextTunnelKey = small.nextTunnelKey
    }

    /// The tunnel key of an object is taken.
    private mutating func hold(_ object: TopologyObject?) {
        switch object {
        case .port(let port)?: takenTunnelKeys.insert(port.tunnelKey)
        case .bridge(let bridge)?: takenTunnelKeys.insert(bridge.floodKey)
        default: break
        }
    }

    /// The tunnel key of an object is free again.
    private mutating func release(_ object: TopologyObject?) {
        switch object {
        case .port(let port)?: takenTunnelKeys.remove(port.tunnelKey)
        case .bridge(let bridge)?: takenTunnelKeys.remove(bridge.floodKey)
        default: break
        }
    }

    private mutating func attempt(_ transaction: Transaction, at index: LogIndex, _ change: inout Change) -> Outcome? {
        for condition in transaction.preconditions {
            if let failure = check(condition) { return failure }
        }
        for operation in transaction.operations {
            if let failure = perform(operation, transaction.time, &change) { return failure }
        }
        // What came out as it was is no change.
        for (key, object) in change.objects where object.before == object.after { change.objects[key] = nil }
        guard !change.objects.isEmpty else { return nil }
        let difference = TopologyDifference(change.objects)
        let problems = topology.problems(after: difference)
        return problems.isEmpty ? nil : .failed(.invalid, Array(problems.prefix(ClusterState.problemLimit)))
    }

    /// Problems of one transaction that are told at once.
    static let problemLimit = 50

    /// Gives what changed its version, its place in the sum, and the rows to write.
    private mutating func note(_ change: inout Change, at index: LogIndex, _ applied: inout Applied) {
        if !change.objects.isEmpty { topology.revision = index }
        for (key, changed) in change.objects {
            let old = versions[key]
            if let old { digest.subtract(old.hash) }
            let row = RowKey.object(key)
            guard let object = changed.after else {
                versions[key] = nil
                applied.rows.append((row, nil))
                continue
            }
            let version = Version(created: old?.version.created ?? index, modified: index)
            let bytes = ClusterState.row(object, version)
            let hash = StateDigest(of: bytes, named: row)
            versions[key] = Stamp(version: version, hash: hash)
            digest.add(hash)
            applied.rows.append((row, bytes))
        }
        if nextTunnelKey != change.before.nextTunnelKey || topology.revision != change.before.revision {
            var old = ByteWriter()
            let isFirst = change.before.nextTunnelKey == TunnelKeys.first && change.before.revision == 0
            ClusterState.counters(change.before.nextTunnelKey, change.before.revision, &old)
            swap(.counters, isFirst ? nil : old.bytes, &applied)
        }
        for (key, old) in change.rows { swap(key, old, &applied) }
    }

    /// Puts a row's new bytes in place of the old ones, in the sum and in what is written.
    private mutating func swap(_ key: RowKey, _ old: [UInt8]?, _ applied: inout Applied) {
        let new = row(key)
        guard new != old else { return }
        if let old { digest.subtract(StateDigest(of: old, named: key)) }
        if let new { digest.add(StateDigest(of: new, named: key)) }
        applied.rows.append((key, new))
    }

    /// Keeps an answer until its client says that it knows it.
    private mutating func note(
        _ outcome: Outcome, of id: Transaction.SessionID, at index: LogIndex, _ applied: inout Applied
    ) {
        guard id.client != 0 else { return }
        let before = row(.session(id.client))
        var session = sessions.clients[id.client] ?? .init(floor: 0, answers: [], used: index)
        sessions.clients[id.client] = nil
        session.floor = max(session.floor, id.floor)
        session.used = index
        while let known = session.answers.first, known.serial < session.floor {
            session.answers.removeFirst()
            let key = RowKey.answer(id.client, known.serial)
            digest.subtract(StateDigest(of: ClusterState.row(id.client, known.serial, known.outcome), named: key))
            applied.rows.append((key, nil))
        }
        session.answers.insert((id.serial, outcome), at: session.place(of: id.serial))
        sessions.clients[id.client] = session
        let key = RowKey.answer(id.client, id.serial)
        let bytes = ClusterState.row(id.client, id.serial, outcome)
        digest.add(StateDigest(of: bytes, named: key))
        applied.rows.append((key, bytes))
        swap(.session(id.client), before, &applied)
        if before == nil { forgetOldest(&applied) }
    }

    private mutating func forgetOldest(_ applied: inout Applied) {
        guard sessions.clients.count > SessionTable.limit,
            let oldest = sessions.clients.min(by: { ($0.value.used, $0.key) < ($1.value.used, $1.key) })?.key,
            let session = sessions.clients[oldest]
        else { return }
        for answer in session.answers {
            let key = RowKey.answer(oldest, answer.serial)
            digest.subtract(StateDigest(of: ClusterState.row(oldest, answer.serial, answer.outcome), named: key))
            applied.rows.append((key, nil))
        }
        let bytes = row(.session(oldest))
        sessions.clients[oldest] = nil
        swap(.session(oldest), bytes, &applied)
    }

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
            let found = versions[key]?.version.modified ?? 0
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
        case .lease(let pool, let blocks, let count, let node): return lease(pool, blocks, count, node, &change)
        case .release(let pool, let blocks, let node): return release(pool, blocks, node, &change)
        default: return performOnCluster(operation, time, &change)
        }
    }

    // MARK: - Topology

    mutating func put(_ object: TopologyObject, _ change: inout Change) -> Outcome? {
        let key = object.key
        let before = topology[key]
        var object = object
        switch object {
        case .bridge(var bridge):
            if topology.routers[bridge.path] != nil { return taken(key, "router") }
            bridge.floodKey = if case .bridge(let bridge)? = before { bridge.floodKey } else { 0 }
            if bridge.floodKey == 0 {
                guard let allocated = takeTunnelKey() else { return noTunnelKey(key) }
                bridge.floodKey = allocated
            }
            object = .bridge(bridge)
        case .port(var port):
            port.tunnelKey = if case .port(let port)? = before { port.tunnelKey } else { 0 }
            if port.tunnelKey == 0 {
                guard let allocated = takeTunnelKey() else { return noTunnelKey(key) }
                port.tunnelKey = allocated
            }
            object = .port(port)
        case .router(let router): if topology.bridges[router.path] != nil { return taken(key, "bridge") }
        case .host, .zone, .chain, .portGroup, .addressGroup, .securityGroup, .pool, .mirror, .tenant: break
        }
        set(key, object, before, &change)
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
            [Problem(key.name, "all tunnel keys are taken", remedy: "delete ports that are not used any more")])
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
        case .router(let router):
            releasePorts(of: router.path, &change)
            if cascade { deletePorts(of: router.path, &change) }
        case .port(let port):
            deletePort(port, cascade, &change)
            return nil
        case .host, .zone, .chain, .portGroup, .addressGroup, .securityGroup, .pool, .mirror, .tenant: break
        }
        set(key, nil, object, &change)
        return nil
    }

    private mutating func deletePorts(of device: DevicePath, _ change: inout Change) {
        for port in topology.ports(of: device) { deletePort(port, true, &change) }
    }

    /// A link is one thing with two ends: neither can be without the other.
    private mutating func deletePort(_ port: Port, _ cascade: Bool, _ change: inout Change) {
        takenTunnelKeys.remove(port.tunnelKey)
        set(.port(port.path), nil, .port(port), &change)
        if cascade, case .peer(let other) = port.attachment, let peer = topology.ports[other] {
            takenTunnelKeys.remove(peer.tunnelKey)
            set(.port(other), nil, .port(peer), &change)
        }
    }

    func unknownNode(_ id: NodeID) -> Outcome {
        .failed(
            .notFound,
            [Problem("node \(id)", "is none of this cluster", remedy: "selvage cluster list shows which there are")])
    }
}
