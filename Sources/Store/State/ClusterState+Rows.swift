// SPDX-License-Identifier: Apache-2.0
import Consensus
import HashTreeCollections
import Topology
import Wire

/// Names a row of the state: what the database keeps, and what a snapshot carries.
enum RowKey: Hashable, Sendable {
    /// Position and members.
    case meta
    /// What counts up.
    case counters
    case cluster
    case object(ObjectKey)
    case node(NodeID)
    case removed(NodeID)
    case token(String)
    case authority(String)
    case key(String)
    case session(UInt64)
    case lease(String)
    case stateKey(UInt8)
    /// What a client was answered.
    case answer(UInt64, UInt64)

    /// The kind, as in the database.
    var code: UInt8 {
        switch self {
        case .meta: 0
        case .counters: 1
        case .cluster: 2
        case .object: 3
        case .node: 4
        case .removed: 5
        case .token: 6
        case .authority: 7
        case .key: 8
        case .session: 9
        case .lease: 10
        case .answer: 11
        case .stateKey: 12
        }
    }

    /// The name, as in the database.
    var name: String {
        switch self {
        case .meta, .counters, .cluster: ""
        case .object(let key): key.description
        case .node(let id), .removed(let id): id.description
        case .session(let client): String(client, radix: 16)
        case .stateKey(let number): String(number)
        case .answer(let client, let serial): String(client, radix: 16) + " " + String(serial)
        case .token(let name), .authority(let name), .key(let name), .lease(let name): name
        }
    }

    /// What goes before the bytes of the row in its hash.
    func feed(_ hasher: inout DigestHasher) {
        hasher.add(UInt64(code))
        switch self {
        case .meta, .counters, .cluster: break
        case .object(let key):
            switch key {
            case .bridge(let path), .router(let path), .chain(let path), .portGroup(let path), .addressGroup(let path),
                .securityGroup(let path), .pool(let path), .mirror(let path):
                hasher.add(UInt64(key.kind.code))
                hasher.add(path.tenant)
                hasher.add(path.name)
            case .port(let path):
                hasher.add(3)
                hasher.add(path.device.tenant)
                hasher.add(path.device.name)
                hasher.add(path.name)
            case .host(let name), .zone(let name), .tenant(let name):
                hasher.add(UInt64(key.kind.code))
                hasher.add(name)
            }
        case .node(let id), .removed(let id): hasher.add(id.value)
        case .session(let client): hasher.add(client)
        case .stateKey(let number): hasher.add(UInt64(number))
        case .answer(let client, let serial):
            hasher.add(client)
            hasher.add(serial)
        case .token(let name), .authority(let name), .key(let name), .lease(let name): hasher.add(name)
        }
    }
}

extension ClusterState {
    static let rowFormat: UInt8 = 1

    /// The bytes of a row; `nil` when there is none.
    func row(_ key: RowKey) -> [UInt8]? {
        var out = ByteWriter()
        out.number(ClusterState.rowFormat)
        switch key {
        case .meta:
            out.number(applied.term)
            out.number(applied.index)
            out.data(EntryCodec.encode(members))
        case .counters:
            // At first there is no such row, or a state that was read would not be the one that was written.
            guard nextTunnelKey != TunnelKeys.first || topology.revision != 0 else { return nil }
            out = ByteWriter()
            ClusterState.counters(nextTunnelKey, topology.revision, &out)
        case .cluster:
            guard let cluster else { return nil }
            out.cluster(cluster)
        case .object(let key):
            guard let object = topology[key], let stamp = versions[key] else { return nil }
            return ClusterState.row(object, stamp.version)
        case .node(let id):
            guard let node = nodes[id] else { return nil }
            out.node(node)
        case .removed(let id):
            guard let node = removed[id] else { return nil }
            out.number(node.id.value)
            out.text(node.name)
            out.number(UInt64(bitPattern: node.at))
        case .token(let id):
            guard let token = tokens[id] else { return nil }
            out.token(token)
        case .authority(let fingerprint):
            guard let authority = authorities[fingerprint] else { return nil }
            out.authority(authority)
        case .key(let name):
            guard let key = keys[name] else { return nil }
            out.key(key)
        case .session(let client):
            guard let session = sessions.clients[client] else { return nil }
            out.number(client)
            out.count(session.floor)
            out.count(session.used)
        case .answer(let client, let serial):
            guard let outcome = sessions.answer(client, serial) else { return nil }
            return ClusterState.row(client, serial, outcome)
        case .stateKey(let number):
            guard let key = stateKeys[number] else { return nil }
            out.stateKey(key)
        case .lease(let pool):
            guard let list = leases[pool] else { return nil }
            out.text(pool)
            out.list(list) { out, lease in
                out.number(lease.owner.value)
                out.list(lease.blocks) { $0.number($1) }
            }
        }
        return out.bytes
    }

    static func counters(_ nextTunnelKey: UInt32, _ revision: UInt64, _ out: inout ByteWriter) {
        out.number(rowFormat)
        out.number(nextTunnelKey)
        out.number(revision)
    }

    static func row(_ object: TopologyObject, _ version: Version) -> [UInt8] {
        var out = ByteWriter()
        out.number(rowFormat)
        out.count(version.created)
        out.count(version.modified)
        object.encode(&out)
        return out.bytes
    }

    static func row(_ client: UInt64, _ serial: UInt64, _ outcome: Outcome) -> [UInt8] {
        var out = ByteWriter()
        out.number(rowFormat)
        out.number(client)
        out.count(serial)
        out.outcome(outcome)
        return out.bytes
    }

    /// Names of all rows, in an order that is the same everywhere.
    var rowKeys: [RowKey] {
        var keys: [RowKey] = [.meta, .counters]
        if cluster != nil { keys.append(.cluster) }
        keys += topology.keys.sorted().map(RowKey.object)
        keys += nodes.keys.sorted().map(RowKey.node)
        keys += removed.keys.sorted().map(RowKey.removed)
        keys += tokens.keys.sorted().map(RowKey.token)
        keys += authorities.keys.sorted().map(RowKey.authority)
        keys += self.keys.keys.sorted().map(RowKey.key)
        keys += sessions.clients.keys.sorted().map(RowKey.session)
        for (client, session) in sessions.clients.sorted(by: { $0.key < $1.key }) {
            keys += session.answers.map { RowKey.answer(client, $0.serial) }
        }
        keys += leases.keys.sorted().map(RowKey.lease)
        keys += stateKeys.keys.sorted().map(RowKey.stateKey)
        return keys
    }

    /// Takes a row in, as when a database or a snapshot is read.
    mutating func take(code: UInt8, _ bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let format: UInt8 = try reader.number()
        guard format == ClusterState.rowFormat else {
            throw MalformedBytes("a row of format \(format), which a later version wrote")
        }
        let key: RowKey
        switch code {
        case 0:
            applied = LogPosition(term: try reader.number(), index: try reader.number())
            do { members = try EntryCodec.decodeMembers(try reader.data()) } catch {
                throw MalformedBytes("\(error)")
            }
            key = .meta
        case 1:
            nextTunnelKey = try reader.number()
            topology.revision = try reader.number()
            key = .counters
        case 2:
            cluster = try reader.cluster()
            key = .cluster
        case 3:
            let version = Version(created: try reader.longCount(), modified: try reader.longCount())
            let object = try TopologyObject(from: &reader)
            topology[object.key] = object
            versions[object.key] = Stamp(
                version: version, hash: StateDigest(of: bytes, named: .object(object.key)))
            switch object {
            case .port(let port): takenTunnelKeys.insert(port.tunnelKey)
            case .bridge(let bridge): takenTunnelKeys.insert(bridge.floodKey)
            default: break
            }
            key = .object(object.key)
        case 4:
            let node = try reader.node()
            nodes[node.id] = node
            key = .node(node.id)
        case 5:
            let node = RemovedNode(id: NodeID(try reader.number()), name: try reader.text(), at: try reader.time())
            removed[node.id] = node
            key = .removed(node.id)
        case 6:
            let token = try reader.token()
            tokens[token.id] = token
            key = .token(token.id)
        case 7:
            let authority = try reader.authority()
            authorities[authority.fingerprint] = authority
            key = .authority(authority.fingerprint)
        case 8:
            let access = try reader.key()
            keys[access.name] = access
            key = .key(access.name)
        case 9:
            let client: UInt64 = try reader.number()
            var session = sessions.clients[client] ?? .init(floor: 0, answers: [], used: 0)
            (session.floor, session.used) = (try reader.longCount(), try reader.longCount())
            sessions.clients[client] = session
            key = .session(client)
        case 10: key = .lease(try takeLease(&reader))
        case 11: key = try takeAnswer(&reader)
        case 12:
            let secret = try reader.stateKey()
            stateKeys[secret.number] = secret
            key = .stateKey(secret.number)
        default: throw MalformedBytes("a row of kind \(code), which a later version wrote")
        }
        try reader.finish()
        if key != .meta { digest.add(StateDigest(of: bytes, named: key)) }
    }

    private mutating func takeAnswer(_ reader: inout ByteReader) throws(MalformedBytes) -> RowKey {
        let client: UInt64 = try reader.number()
        let serial = try reader.longCount()
        let outcome = try reader.outcome()
        var session = sessions.clients[client] ?? .init(floor: 0, answers: [], used: 0)
        session.answers.insert((serial, outcome), at: session.place(of: serial))
        sessions.clients[client] = session
        return .answer(client, serial)
    }

    private mutating func takeLease(_ reader: inout ByteReader) throws(MalformedBytes) -> String {
        let pool = try reader.text()
        leases[pool] = try reader.list { reader throws(MalformedBytes) in
            Lease(
                owner: NodeID(try reader.number()),
                blocks: try reader.list { reader throws(MalformedBytes) in try reader.number(UInt32.self) })
        }
        return pool
    }
}
