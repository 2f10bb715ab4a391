// SPDX-License-Identifier: Apache-2.0
import Consensus
import TestSupport
import Testing
import Topology
import Wire

@testable import Store

/// Changes drawn from a seed: some right, some wrong, some for what is not there.
private struct Changes {
    var random: SeededRandom
    var serial: UInt64 = 0

    private mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }
    private mutating func device() -> DevicePath { DevicePath(tenant: "t\(below(2))", name: "d\(below(6))") }
    private mutating func path() -> PortPath { PortPath(device: device(), name: "p\(below(5))") }

    private mutating func operation(_ state: ClusterState) -> Transaction.Operation {
        switch below(13) {
        case 12:
            if below(3) == 0 { return .deleteStateKey(UInt8(below(4))) }
            return .putStateKey(
                StateKeyRecord(
                    number: UInt8(below(4)), fingerprint: "f\(below(9))",
                    state: [.installed, .active, .retiring][below(3)], since: Int64(below(100))))
        case 0, 1: return .put(.bridge(Bridge(path: device())))
        case 2:
            var router = Router(path: device())
            router.routes = (0..<below(3)).map { _ in
                Route(
                    destination: Prefix(IPAddress(IPv4Address(bits: UInt32(10 + below(3)) << 24)), length: 8),
                    nextHop: below(2) == 0 ? .blackhole : .port(PortPath(device: router.path, name: "p0")))
            }
            return .put(.router(router))
        case 3, 4, 5, 6:
            let path = path()
            let isRouter = below(10) == 0 ? below(2) == 0 : state.topology.routers[path.device] != nil
            var port = Port(path: path, kind: isRouter ? .router : .bridge)
            if below(3) > 0 {
                let host = IPAddress(IPv4Address(bits: 0x0a00_0000 | UInt32(below(3)) << 8 | UInt32(below(6) + 1)))
                port.addresses = [InterfaceAddress(host, length: 24)]
            }
            if below(4) == 0 { port.attachment = .exterior(host: "h\(below(3))", interface: "i\(below(4))") }
            if below(6) == 0 { port.attachment = .peer(self.path()) }
            if below(6) == 0 { port.vlan = .access(UInt16(below(3))) }
            if below(8) == 0 { port.mac = MACAddress(bits: 0x0e00_0000_0000 | UInt64(below(4))) }
            return .put(.port(port))
        case 7:
            let kind = below(3)
            let key: ObjectKey = kind == 0 ? .port(path()) : kind == 1 ? .bridge(device()) : .router(device())
            return .delete(key, cascade: below(2) == 0)
        case 8:
            return below(3) == 0
                ? .delete(.host("h\(below(3))"), cascade: false) : .put(.host(Host(name: "h\(below(3))")))
        case 9:
            let id = NodeID(UInt64(below(4) + 1))
            switch below(4) {
            case 0: return .removeNode(id)
            default:
                return .putNode(
                    NodeRecord(
                        id: id, name: "n\(below(5))", role: below(2) == 0 ? .voter : .learner,
                        peerAddress: "a:\(id.value)1",
                        apiAddress: "a:\(id.value)2", version: "\(below(3))"))
            }
        case 10:
            let node = NodeID(UInt64(below(4) + 1))
            return below(2) == 0
                ? .lease(pool: "x\(below(2))", blocks: 0..<6, count: UInt32(below(4)), node)
                : .release(pool: "x\(below(2))", [0, UInt32(below(6))], node)
        default:
            switch below(5) {
            case 0:
                return .putToken(JoinToken(id: "k\(below(3))", secretHash: [UInt8(below(3))], expires: 100, role: nil))
            case 1: return .deleteToken("k\(below(3))")
            case 2:
                return .join(
                    token: "k\(below(3))", secretHash: [UInt8(below(3))],
                    NodeRecord(
                        id: NodeID(UInt64(below(6) + 1)), name: "n\(below(6))", role: .learner,
                        peerAddress: "b:\(below(90) + 1)",
                        apiAddress: "b:\(below(90) + 100)", version: "j"), Host(name: "h\(below(4))"))
            case 3:
                return .putAuthority(
                    AuthorityRecord(
                        fingerprint: "f\(below(3))", certificate: "c", state: below(2) == 0 ? .active : .trusted,
                        notAfter: 5))
            default:
                return .putKey(
                    AccessKey(name: "k\(below(2))", role: .viewer, secretHash: [1], created: 1, expires: 0))
            }
        }
    }

    mutating func next(_ state: ClusterState) -> Transaction {
        serial += 1
        let operations = (0..<(below(4) == 0 ? below(5) : 1)).map { _ in operation(state) }
        var conditions: [Transaction.Precondition] = []
        if below(10) == 0 { conditions.append(.revision(.bridge(device()), UInt64(below(3)))) }
        let client = UInt64(below(3))
        return Transaction(
            session: .init(client: client, serial: serial, floor: serial > 20 ? serial - UInt64(below(20)) : 1),
            time: Int64(below(200)), preconditions: conditions, operations: operations)
    }
}

private func entry(_ index: UInt64, _ transaction: Transaction) -> Entry {
    Entry(term: 1, index: index, content: .command(transaction.encode()))
}

@Suite struct ClusterStateTests {
    @Test func `any changes leave a right topology, keys of their own, and a sum that follows from the rows`() throws {
        let seed = SeededRandom.seed
        var changes = Changes(random: SeededRandom(seed: seed))
        var state = ClusterState()
        var done = 0
        var refused = 0
        for index in UInt64(1)...3000 {
            let before = state
            let transaction = changes.next(state)
            let applied = try state.apply(entry(index, transaction))
            switch applied.outcome {
            case .done?: done += 1
            case .failed(.sessionExpired, _)?, nil: break
            case .failed?:
                refused += 1
                #expect(state.topology == before.topology && state.nodes == before.nodes, "seed \(seed) \(index)")
                #expect(state.nextTunnelKey == before.nextTunnelKey, "seed \(seed) \(index)")
                #expect(applied.objects.isEmpty)
            }
            if index % 10 != 0 { continue }
            #expect(state.topology.problems().isEmpty, "seed \(seed) \(index)")
            let keys =
                state.topology.ports.values.map(\.tunnelKey) + state.topology.bridges.values.map(\.floodKey)
            #expect(Set(keys).count == keys.count && !keys.contains(0), "seed \(seed) \(index)")
            #expect(Set(keys) == Set(state.takenTunnelKeys), "seed \(seed) \(index)")
            // A state that is read back is the same, and goes on in the same way.
            let (copy, summary) = try SnapshotFile.decode(SnapshotFile.encode(state))
            #expect(copy.digest == state.digest, "seed \(seed) \(index)")
            #expect(summary.info.position == state.applied)
            #expect(copy.topology == state.topology && copy.nodes == state.nodes && copy.leases == state.leases)
            if index % 100 == 0 { state = copy }
        }
        #expect(done > 300 && refused > 300, "seed \(seed): \(done) done, \(refused) refused")
    }

    @Test func `what is written row by row is the state that was written from`() throws {
        let seed = SeededRandom.seed
        var changes = Changes(random: SeededRandom(seed: seed))
        var state = ClusterState()
        var rows: [RowKey: [UInt8]] = [:]
        for index in UInt64(1)...1500 {
            for row in try state.apply(entry(index, changes.next(state))).rows { rows[row.key] = row.bytes }
        }
        var copy = ClusterState()
        for (key, bytes) in rows { try copy.take(code: key.code, bytes) }
        #expect(copy.digest == state.digest, "seed \(seed)")
        #expect(Set(rows.keys) == Set(state.rowKeys.filter { $0 != .meta }), "seed \(seed)")
    }

    @Test func `what a change may have made wrong is all that is wrong`() throws {
        let seed = SeededRandom.seed
        var changes = Changes(random: SeededRandom(seed: seed))
        var state = ClusterState()
        for index in UInt64(1)...1500 {
            // Without the state machine's refusals: everything that is wrong after the change, found in both ways.
            for operation in changes.next(state).operations {
                var wrong = state.topology
                var touched: [ObjectKey: ObjectChange] = [:]
                switch operation {
                case .put(let object):
                    touched[object.key] = ObjectChange(before: wrong[object.key], after: object)
                    wrong[object.key] = object
                case .delete(let key, _):
                    touched[key] = ObjectChange(before: wrong[key], after: nil)
                    wrong[key] = nil
                default: continue
                }
                let found = wrong.problems(after: TopologyDifference(touched))
                #expect(Set(found.map(\.reason)) == Set(wrong.problems().map(\.reason)), "seed \(seed) \(index)")
            }
            _ = try state.apply(entry(index, changes.next(state)))
        }
    }

    @Test func `what is asked again is done once and answered alike`() throws {
        var state = ClusterState()
        func put(_ serial: UInt64, floor: UInt64 = 1) -> Transaction {
            Transaction(
                session: .init(client: 7, serial: serial, floor: floor), time: 1,
                operations: [.put(.bridge(Bridge(path: DevicePath(tenant: "t", name: "b\(serial)"))))])
        }
        let first = try state.apply(entry(1, put(1)))
        #expect(first.outcome == .done(1))
        _ = try state.apply(
            entry(
                2,
                Transaction(
                    time: 1, operations: [.delete(.bridge(DevicePath(tenant: "t", name: "b1")), cascade: false)])))
        let again = try state.apply(entry(3, put(1)))
        #expect(again.outcome == .done(1))
        #expect(state.topology.bridges.isEmpty)
        // What the client says that it knows is forgotten, and not done again.
        _ = try state.apply(entry(4, put(5, floor: 5)))
        guard case .failed(.sessionExpired, _)? = try state.apply(entry(5, put(2))).outcome else {
            Issue.record("an old serial was taken")
            return
        }
        // A session that was forgotten does not begin in its middle.
        let stranger = Transaction(
            session: .init(client: 8, serial: 9, floor: 9), time: 1,
            operations: [.put(.bridge(Bridge(path: DevicePath(tenant: "t", name: "x"))))])
        guard case .failed(.sessionExpired, _)? = try state.apply(entry(6, stranger)).outcome else {
            Issue.record("a forgotten session was taken")
            return
        }
    }

    @Test func `a token lets one node join, once and in time`() throws {
        var state = ClusterState()
        func run(_ index: UInt64, _ operation: Transaction.Operation, time: Int64 = 10) throws -> Outcome? {
            try state.apply(entry(index, Transaction(time: time, operations: [operation]))).outcome
        }
        func node(_ id: UInt64, _ name: String) -> NodeRecord {
            NodeRecord(
                id: NodeID(id), name: name, role: .learner, peerAddress: "x:\(id)1", apiAddress: "x:\(id)2",
                version: "1")
        }
        func isRefused(_ outcome: Outcome?, _ text: String) -> Bool {
            guard case .failed(.refused, let problems)? = outcome else { return false }
            return problems.contains { $0.reason.contains(text) }
        }
        _ = try run(1, .putToken(JoinToken(id: "k", secretHash: [1], expires: 100, role: nil)))
        #expect(isRefused(try run(2, .join(token: "k", secretHash: [2], node(5, "a"), nil)), "none of this cluster"))
        #expect(try run(3, .join(token: "k", secretHash: [1], node(5, "a"), Host(name: "a"))) == .done(3))
        #expect(state.topology.hosts["a"] != nil)
        #expect(state.nodes[NodeID(5)]?.role == .voter)
        // The same node may ask again; another one may not.
        #expect(try run(4, .join(token: "k", secretHash: [1], node(5, "a"), nil)) == .done(3))
        #expect(isRefused(try run(5, .join(token: "k", secretHash: [1], node(6, "b"), nil)), "used already"))
        _ = try run(6, .putToken(JoinToken(id: "l", secretHash: [1], expires: 100, role: .learner)))
        #expect(
            isRefused(try run(7, .join(token: "l", secretHash: [1], node(6, "b"), nil), time: 101), "ended 1 s ago"))
        #expect(isRefused(try run(8, .join(token: "l", secretHash: [1], node(6, "a"), nil)), "is the name of node 5"))
        // Who was removed stays out.
        _ = try run(9, .putNode(node(7, "c")))
        _ = try run(10, .removeNode(NodeID(7)))
        #expect(isRefused(try run(11, .join(token: "l", secretHash: [1], node(7, "c"), nil)), "was removed"))
        #expect(isRefused(try run(12, .putNode(node(7, "c"))), "was removed"))
        #expect(isRefused(try run(13, .removeNode(NodeID(5))), "only voter"))
    }

    @Test func `a command of a later version stops, and says so`() {
        var state = ClusterState()
        #expect(throws: MalformedBytes.self) {
            _ = try state.apply(Entry(term: 1, index: 1, content: .command([9, 1, 2, 3])))
        }
        do { _ = try state.apply(Entry(term: 1, index: 1, content: .command([9]))) } catch {
            #expect(error.description.contains("format 9"))
        }
    }
}

@Suite struct CodecTests {
    @Test func `commands survive their bytes`() throws {
        let seed = SeededRandom.seed
        var changes = Changes(random: SeededRandom(seed: seed))
        var state = ClusterState()
        for index in UInt64(1)...1000 {
            let transaction = changes.next(state)
            #expect(try Transaction(decoding: transaction.encode()) == transaction, "seed \(seed) \(index)")
            _ = try state.apply(entry(index, transaction))
        }
    }

    @Test func `any bytes are read or refused, and never trap`() throws {
        let seed = SeededRandom.seed
        var changes = Changes(random: SeededRandom(seed: seed))
        var random = SeededRandom(seed: seed ^ 1)
        let state = ClusterState()
        for _ in 0..<3000 {
            var bytes = changes.next(state).encode()
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                switch Int.random(in: 0...2, using: &random) {
                case 0: bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
                case 1: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
                default: bytes.append(.random(in: 0...255, using: &random))
                }
                if bytes.isEmpty { bytes = [1] }
            }
            _ = try? Transaction(decoding: bytes)
            _ = try? Frame(decoding: bytes)
            _ = try? MessageCodec.decode(bytes)
            _ = try? SnapshotFile.decode(bytes)
            var copy = ClusterState()
            try? copy.take(code: UInt8(bytes.count % 13), bytes)
        }
    }

    @Test func `a snapshot that was damaged or cut off is refused`() throws {
        var state = ClusterState()
        _ = try state.apply(
            entry(
                1, Transaction(time: 1, operations: [.put(.bridge(Bridge(path: DevicePath(tenant: "t", name: "b"))))])))
        let bytes = SnapshotFile.encode(state)
        for at in stride(from: 0, to: bytes.count, by: 3) {
            var damaged = bytes
            damaged[at] ^= 1
            #expect(throws: StoreError.self) { _ = try SnapshotFile.decode(damaged) }
            #expect(throws: StoreError.self) { _ = try SnapshotFile.decode(Array(bytes[..<at])) }
        }
    }
}
