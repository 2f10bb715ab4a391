// SPDX-License-Identifier: Apache-2.0
import Consensus
import Foundation
import Testing
import Topology
import Wire

@testable import Store

/// What a version wrote every later one reads, and makes the same state of.
///
/// The files in Fixtures were written by the version that their names end with; they are never written anew. When a command,
/// a row or the log gets another form, a file of that version comes beside them: SELVAGE_WRITE_FIXTURES=N writes those of
/// version N that are not there yet.
@Suite struct CompatibilityTests {
    private static let directory =
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures").path

    /// One command of each kind that version 1 knows, in an order that makes sense.
    private static var commands: [Transaction] {
        let device = DevicePath(tenant: "acme", name: "web")
        let router = DevicePath(tenant: "acme", name: "gw")
        func port(_ device: DevicePath, _ name: String) -> PortPath { PortPath(device: device, name: name) }
        func address(_ text: String) -> InterfaceAddress? { try? InterfaceAddress(parsing: text) }
        var bridge = Bridge(path: device)
        bridge.subnets = [(try? Prefix(parsing: "10.0.0.0/24")), try? Prefix(parsing: "fd00::/64")].compactMap(\.self)
        var exterior = Port(path: port(device, "vm"), kind: .bridge)
        exterior.attachment = .exterior(host: "n1", interface: "tap1")
        exterior.addresses = ["10.0.0.7/24", "fd00::7/64"].compactMap(address)
        exterior.vlan = .trunk(allowed: [10, 20], native: 7)
        var near = Port(path: port(router, "web"), kind: .router)
        var far = Port(path: port(device, "gw"), kind: .bridge)
        (near.attachment, far.attachment) = (.peer(far.path), .peer(near.path))
        near.addresses = ["10.0.0.1/24"].compactMap(address)
        var gateway = Router(path: router)
        for (text, hop) in [
            ("10.9.0.0/16", NextHop.blackhole), ("10.8.0.0/16", .reject), ("10.7.0.0/16", .port(near.path)),
            ("10.6.0.0/16", .gateway(IPAddress(IPv4Address(bits: 0x0a00_0009)), port: nil)),
        ] {
            if let prefix = try? Prefix(parsing: text) {
                gateway.routes.append(Route(destination: prefix, nextHop: hop))
            }
        }
        func node(_ id: UInt64, _ name: String) -> NodeRecord {
            var node = NodeRecord(
                id: NodeID(id), name: name, role: .voter, peerAddress: "192.0.2.\(id):7420",
                apiAddress: "192.0.2.\(id):7421", version: "0.2.0", format: 1, joined: 1000)
            node.certificate = CertificateRecord(serial: "0\(id)", authority: "aa", notAfter: 5000)
            return node
        }
        var host = Host(name: "n2")
        host.tunnelAddresses["default"] = IPAddress(IPv4Address(bits: 0xc000_0202))
        let secret = [UInt8](repeating: 7, count: 32)
        let operations: [[Transaction.Operation]] = [
            [
                .setCluster(ClusterRecord(id: "c1", name: "lab")),
                .put(.zone(TunnelZone(name: "default", encapsulation: .vxlan))), .put(.host(Host(name: "n1"))),
                .putNode(node(1, "n1")),
                .putAuthority(AuthorityRecord(fingerprint: "aa", certificate: "PEM", state: .active, notAfter: 9000)),
            ],
            [
                .put(.bridge(bridge)), .put(.router(gateway)), .put(.port(near)), .put(.port(far)),
                .put(.port(exterior)),
            ],
            [.putToken(JoinToken(id: "t1", secretHash: secret, expires: 2000, role: .learner))],
            [.join(token: "t1", secretHash: secret, node(2, "n2"), host)],
            [.setRole(NodeID(2), .voter)],
            [.putToken(JoinToken(id: "t2", secretHash: secret, expires: 2000, role: nil)), .deleteToken("t2")],
            [.putAuthority(AuthorityRecord(fingerprint: "bb", certificate: "PEM", state: .trusted, notAfter: 9000))],
            [.deleteAuthority("bb")],
            [
                .putKey(AccessKey(name: "k", role: .tenant("acme"), secretHash: secret, created: 5, expires: 0)),
                .putKey(AccessKey(name: "l", role: .viewer, secretHash: secret, created: 5, expires: 7)),
                .deleteKey("l"),
            ],
            [.lease(pool: "nat", blocks: 0..<64, count: 3, NodeID(1)), .release(pool: "nat", [1], NodeID(1))],
            [.delete(.port(exterior.path), cascade: false)], [.removeNode(NodeID(2))],
        ]
        return operations.enumerated().map { number, operations in
            Transaction(
                session: .init(client: 77, serial: UInt64(number + 1), floor: UInt64(max(1, number - 2))), time: 1500,
                preconditions: number == 10 ? [.revision(.port(exterior.path), 4), .topology(6)] : [],
                operations: operations)
        }
    }

    private static func entries() -> [Entry] {
        var entries = [
            Entry(term: 1, index: 1, content: .nothing),
            Entry(
                term: 1, index: 2,
                content: .members(
                    Members(
                        [.init(NodeID(1), .voter), .init(NodeID(2), .joining), .init(NodeID(3), .learner)],
                        outgoing: [NodeID(1)]))),
        ]
        for command in commands {
            entries.append(Entry(term: 2, index: UInt64(entries.count + 1), content: .command(command.encode())))
        }
        return entries
    }

    private static func applied(_ entries: [Entry]) throws -> ClusterState {
        var state = ClusterState()
        for entry in entries {
            if case .failed(_, let problems)? = try state.apply(entry).outcome {
                Issue.record("entry \(entry.index): \(problems)")
            }
        }
        return state
    }

    private func temporaryDirectory() -> String {
        let path = NSTemporaryDirectory() + "selvage-fixture-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    private static let owner = PeerIdentity(cluster: "c1", node: NodeID(1))

    /// Writes what is not there yet, when asked to.
    private static func writeFixtures(_ version: String) throws {
        let log = "\(directory)/log-\(version).db"
        guard !FileManager.default.fileExists(atPath: log) else { return }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        do {
            try LogStore.create(path: log, owner: owner, members: Members(voters: [NodeID(1)]))
            let store = try LogStore(path: log, owner: owner)
            try store.write(Write(number: 1, hard: HardState(term: 2, vote: NodeID(1)), entries: entries()))
        }
        let snapshot = SnapshotFile.encode(try applied(entries()))
        try Files.replace("\(directory)/snapshot-\(version).snap", snapshot)
    }

    @Test(arguments: ["1"]) func `the log and the snapshot of a version are read, and make the same state`(
        _ version: String
    ) throws {
        if let wanted = ProcessInfo.processInfo.environment["SELVAGE_WRITE_FIXTURES"], wanted == version {
            try Self.writeFixtures(version)
        }
        let directory = temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let copy = directory + "/log.db"
        try FileManager.default.copyItem(atPath: "\(Self.directory)/log-\(version).db", toPath: copy)
        let contents = try LogStore(path: copy, owner: Self.owner).load()
        #expect(contents.hard == HardState(term: 2, vote: NodeID(1)))
        let state = try Self.applied(contents.entries)
        let (read, summary) = try SnapshotFile.read("\(Self.directory)/snapshot-\(version).snap")
        #expect(SnapshotFile.encode(read) == SnapshotFile.encode(state))
        #expect(summary.cluster == "c1" && read.topology == state.topology && read.members == state.members)
    }

    @Test func `this version still writes what version 1 wrote`() throws {
        let directory = temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let copy = directory + "/log.db"
        try FileManager.default.copyItem(atPath: "\(Self.directory)/log-1.db", toPath: copy)
        let contents = try LogStore(path: copy, owner: Self.owner).load()
        #expect(contents.entries == Self.entries())
    }
}
