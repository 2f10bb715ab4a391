// SPDX-License-Identifier: Apache-2.0
import Consensus
import Foundation
import Glibc
import NIOCore
import Store
import Synchronization
import TLS
import Testing
import Topology

/// Replicas of one cluster on loopback, with real files and real TLS.
final class TestCluster: Sendable {
    let id = hexadecimal(Cryptography.random(16))
    let authority: Authority
    let directory: String
    private let nodes = Mutex<[UInt64: (replica: Replica, port: Int)]>([:])
    private let ports = Mutex<[UInt64: Int]>([:])
    let lines = Mutex<[String]>([])

    init() throws {
        let now = Int64(time(nil))
        authority = try Authority(commonName: "test", from: now - 60, until: now + 86_400)
        directory = NSTemporaryDirectory() + "selvage-cluster-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func identity(_ node: UInt64) -> PeerIdentity { PeerIdentity(cluster: id, node: NodeID(node)) }

    func credentials(_ node: UInt64) throws -> PeerCredentials {
        let key = try PrivateKey()
        var names = CertificateNames(commonName: "n\(node)")
        names.uris = [identity(node).uri]
        let now = Int64(time(nil))
        let certificate = try authority.sign(
            CertificateRequest(key: key, commonName: "request"), names: names, from: now - 60, until: now + 3600)
        return try PeerCredentials(certificate: certificate, key: key, authorities: [authority.certificate])
    }

    /// A free port of this machine; the same for the same node.
    func port(_ node: UInt64) -> Int {
        ports.withLock { ports in
            if let port = ports[node] { return port }
            let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(socket) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = bind(socket, $0, length)
                    _ = getsockname(socket, $0, &length)
                }
            }
            let port = Int(UInt16(bigEndian: address.sin_port))
            ports[node] = port
            return port
        }
    }

    func record(_ node: UInt64, _ role: NodeRecord.Role = .voter) -> NodeRecord {
        NodeRecord(
            id: NodeID(node), name: "n\(node)", role: role, peerAddress: "127.0.0.1:\(port(node))",
            apiAddress: "127.0.0.1:\(node)", version: "test")
    }

    func path(_ node: UInt64) -> String { directory + "/n\(node)" }

    /// Makes the files of a node: the founder's where there is none yet.
    func create(_ node: UInt64, founder: Bool = false) throws {
        try FileManager.default.createDirectory(atPath: path(node), withIntermediateDirectories: true)
        try LogStore.create(
            path: path(node) + "/log.db", owner: identity(node),
            members: founder ? Members(voters: [NodeID(node)]) : Members())
    }

    @discardableResult
    func start(_ node: UInt64, options: RaftOptions? = nil) async throws -> Replica {
        var configuration = Replica.Configuration(
            directory: path(node), identity: identity(node), listen: ("127.0.0.1", port(node)),
            address: "127.0.0.1:\(port(node))", program: "test", credentials: try credentials(node))
        configuration.bootstrap = [
            .setCluster(ClusterRecord(id: id, name: "test")), .putNode(record(node)),
            .put(.zone(TunnelZone(name: "default", encapsulation: .gre))),
        ]
        if let options { configuration.options = options }
        let replica = try Replica(configuration) { [self] line in lines.withLock { $0.append("n\(node): \(line)") } }
        try await replica.start()
        nodes.withLock { $0[node] = (replica, port(node)) }
        return replica
    }

    func stop(_ node: UInt64) async {
        let replica = nodes.withLock { $0.removeValue(forKey: node)?.replica }
        await replica?.stop()
    }

    func stopAll() async { for node in nodes.withLock({ Array($0.keys) }) { await stop(node) } }

    subscript(_ node: UInt64) -> Replica {
        get throws { try #require(nodes.withLock { $0[node]?.replica }, "n\(node) does not run") }
    }

    /// Waits for a condition.
    func wait(
        _ what: String, seconds: Double = 15, _ location: SourceLocation = #_sourceLocation,
        until condition: () async throws -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < deadline {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(
            "\(what) did not happen within \(seconds) s: \(lines.withLock { $0 }.suffix(20))", sourceLocation: location)
        throw CancellationError()
    }

    var running: [Replica] { nodes.withLock { $0.values.map(\.replica) } }

    func leader(_ location: SourceLocation = #_sourceLocation) async throws -> Replica {
        var found: Replica?
        try await wait("a leader", location) {
            found = running.first { $0.agreement.role == .leader && $0.state.cluster != nil }
            return found != nil
        }
        return try #require(found)
    }

    /// A cluster of voters that are all there.
    static func of(_ count: UInt64, options: RaftOptions? = nil) async throws -> TestCluster {
        let cluster = try TestCluster()
        try cluster.create(1, founder: true)
        try await cluster.start(1, options: options)
        _ = try await cluster.leader()
        for node in UInt64(2)...max(2, count) where node <= count {
            try cluster.create(node)
            _ = try await cluster[1].submit([.putNode(cluster.record(node))])
            try await cluster.start(node, options: options)
        }
        try await cluster.wait("\(count) voters") {
            cluster.running.allSatisfy { $0.state.members.voters.count == count && !$0.state.members.isJoint }
        }
        return cluster
    }
}

func bridge(_ name: String) -> Transaction.Operation {
    .put(.bridge(Bridge(path: DevicePath(tenant: "t", name: name))))
}

func wasDone(_ outcome: Outcome) -> Bool { if case .done = outcome { true } else { false } }
