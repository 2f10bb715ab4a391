// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import Linux
import NIOCore
import NIOPosix
import Store
import TLS
import Topology

/// When too few voters are left: one survivor, or a snapshot, becomes the first node of a new cluster with the old drawing.
extension Founding {
    /// Entries that are skipped when a snapshot is restored, so that no revision of the old cluster comes again.
    static let revisionGap: UInt64 = 1_000_000

    /// What recovering did.
    public struct Recovered: Sendable {
        /// The new cluster's id.
        public var cluster: String
        /// The last revision of the topology that is kept.
        public var revision: UInt64
        /// Entries of the log that nobody knows to have been agreed on; they are kept.
        public var unsure: Int
        /// Nodes that are out, and must be wiped before they join again.
        public var lost: [String]
    }

    /// What the other voters say, when the node that is to recover asks them.
    public struct Survey: Sendable {
        /// Voters that answer.
        public var answering: [String]
        /// Voters that do not.
        public var silent: [String]
        /// The leader that one of them has.
        public var leader: String?
        /// How many voters there are, this node included if it is one.
        public var voters: Int
        /// Whether this node is one.
        public var votes: Bool

        /// Whether those that live, this node started again, are a majority.
        public var isMajorityAlive: Bool {
            leader != nil || answering.count + (votes ? 1 : 0) >= voters / 2 + 1 && !answering.isEmpty
        }
    }

    /// Asks the other voters of the cluster whether they live.
    public static func survey(_ directory: NodeDirectory) async throws -> Survey {
        try directory.finishRenewal()
        let identity = try directory.identity()
        // What the log has beyond the state counts: the state is written now and then.
        var state = try loadState(directory)
        let contents = try LogStore.open(path: directory.logFile, of: identity.id).load()
        for entry in LogStore.tail(of: contents, behind: state.applied) { _ = try state.apply(entry) }
        let (certificate, key) = try directory.credential()
        let context = try TLSContext(
            identity: (certificate, key), authorities: try directory.authorities(), verification: .required)
        var survey = Survey(
            answering: [], silent: [], leader: nil, voters: state.nodes.values.count { $0.role == .voter },
            votes: state.nodes[identity.id]?.role == .voter)
        for node in state.nodes.values.sorted(by: { $0.name < $1.name })
        where node.role == .voter && node.id != identity.id {
            guard let address = splitAddress(node.apiAddress) else { continue }
            let client = APIClient(.tls(host: address.host, port: address.port, context, name: nil), timeoutSeconds: 3)
            do {
                let answer: ClusterAnswer = try await client.value("GET", "/v1/cluster")
                survey.answering.append(node.name)
                survey.leader = survey.leader ?? answer.leader
            } catch is APIRefusal { survey.answering.append(node.name) } catch {
                // Somebody who listens lives, even if our certificate has ended.
                let isThere = await listens(address)
                if isThere { survey.answering.append(node.name) } else { survey.silent.append(node.name) }
            }
        }
        return survey
    }

    private static func listens(_ address: (host: String, port: Int)) async -> Bool {
        let bootstrap = ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup).connectTimeout(.seconds(2))
        guard let channel = try? await bootstrap.connect(host: address.host, port: address.port).get() else {
            return false
        }
        try? await channel.close().get()
        return true
    }

    /// Makes the node of a directory, which does not run, the only one of a new cluster.
    ///
    /// One that is interrupted is done again: until the end the directory is marked, and no node starts in it.
    public static func recover(_ directory: NodeDirectory, lifetime: Int64 = certificateLifetime) throws -> Recovered {
        var identity = try directory.identity()
        let log = try LogStore.open(path: directory.logFile, of: identity.id)
        let contents = try log.load()
        let store = try StateStore(path: directory.stateFile)
        var state = try store.load()
        let lost = state.nodes.values.filter { $0.id != identity.id }.map(\.name).sorted()
        // Nobody knows which of these the others had agreed on: all are done, since losing one that was acknowledged is
        // worse. Who was a member then does not matter any more.
        let tail = LogStore.tail(of: contents, behind: state.applied)
        for entry in tail {
            var entry = entry
            if case .members = entry.content { entry.content = .nothing }
            _ = try state.apply(entry)
        }
        try directory.mark("recovering")
        let new = try refound(state, identity, directory, at: state.applied, lifetime)
        try store.overwrite(with: new.state)
        try log.refound(
            as: new.identity, at: state.applied, term: max(contents.hard.term, state.applied.term) + 1)
        identity.cluster = new.identity.cluster
        identity.isFounder = false
        identity.peers = [:]
        try directory.write(identity)
        directory.unmark()
        return Recovered(
            cluster: identity.cluster, revision: state.topology.revision, unsure: tail.count, lost: lost)
    }

    /// Makes a new cluster of one node that begins with a snapshot.
    public static func restore(
        _ file: String, _ node: Node, cluster name: String?, in directory: NodeDirectory,
        lifetime: Int64 = certificateLifetime
    ) throws -> Recovered {
        guard !directory.isInUse else {
            throw NodeError("\(directory.path): a node lives here already", "name another directory with --data")
        }
        let (state, summary) = try SnapshotFile.read(file)
        try directory.create()
        // Of a restore that was interrupted: nobody lives here.
        directory.removeStore()
        let identity = NodeDirectory.Identity(
            cluster: "", clusterName: name ?? state.cluster?.name ?? "selvage",
            node: NodeID(Cryptography.randomID()).description, name: node.name, peerAddress: node.peerAddress,
            apiAddress: node.apiAddress, tunnelAddress: node.tunnelAddress, isFounder: false, peers: [:])
        var position = summary.info.position
        position.index += revisionGap
        let new = try refound(state, identity, directory, at: position, lifetime)
        try LogStore.create(
            path: directory.logFile, owner: new.identity, members: Members(voters: [new.identity.node]))
        try StateStore(path: directory.stateFile).overwrite(with: new.state)
        var kept = identity
        kept.cluster = new.identity.cluster
        try directory.write(kept)
        return Recovered(
            cluster: kept.cluster, revision: summary.revision, unsure: 0,
            lost: state.nodes.values.map(\.name).sorted())
    }

    private static func loadState(_ directory: NodeDirectory) throws -> ClusterState {
        try StateStore(path: directory.stateFile).load()
    }

    /// A new authority and certificate, and the state as that of a new cluster.
    private static func refound(
        _ state: ClusterState, _ identity: NodeDirectory.Identity, _ directory: NodeDirectory,
        at position: LogPosition, _ lifetime: Int64
    ) throws -> (state: ClusterState, identity: PeerIdentity) {
        let cluster = hexadecimal(Cryptography.random(16))
        let peer = PeerIdentity(cluster: cluster, node: identity.id)
        let now = wallSeconds()
        let authority = try Authority(
            commonName: "Selvage \(identity.clusterName)", from: now - clockSkew, until: now + authorityLifetime)
        try write(authority, directory)
        let key = try PrivateKey()
        let certificate = try authority.sign(
            CertificateRequest(key: key, commonName: identity.name),
            names: names(peer, identity.name, [identity.peerAddress, identity.apiAddress]), from: now - clockSkew,
            until: now + lifetime)
        try directory.write(authorities: [authority.certificate])
        try directory.write(certificate, key)
        let fingerprint = hexadecimal(authority.certificate.fingerprint)
        var node = NodeRecord(
            id: identity.id, name: identity.name, role: .voter, peerAddress: identity.peerAddress,
            apiAddress: identity.apiAddress, version: version, joined: now)
        node.certificate = CertificateRecord(
            serial: certificate.serial, authority: fingerprint, notAfter: certificate.notAfter)
        let record = AuthorityRecord(
            fingerprint: fingerprint, certificate: try authority.certificate.pem(), state: .active,
            notAfter: authority.certificate.notAfter)
        let name = identity.clusterName.isEmpty ? state.cluster?.name ?? "selvage" : identity.clusterName
        return (
            state.refounded(
                as: ClusterRecord(id: cluster, name: name), node: node, authority: record,
                host: state.topology.host(identity.name, at: identity.tunnelAddress), at: position), peer
        )
    }
}
