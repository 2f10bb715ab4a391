// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import Linux
import Store
import TLS
import Topology
import Wire

/// How nodes come to be: by founding a cluster, by joining one, by beginning anew with what is left of one.
public enum Founding {
    /// Version of the program.
    public static let version = "0.2.0"
    /// How long a cluster's authority holds, seconds: ten years.
    static let authorityLifetime: Int64 = 3650 * 86_400
    /// How long a node's certificate holds, seconds: ninety days. It renews itself when a third of that is left.
    public static let certificateLifetime: Int64 = 90 * 86_400
    /// Clocks may differ by so much, seconds.
    static let clockSkew: Int64 = 300

    /// What a node says of itself when it comes to be.
    public struct Node: Sendable {
        /// Its name: that of its host.
        public var name: String
        /// Where other nodes reach it, `address:port`.
        public var peerAddress: String
        /// Where clients reach it, `address:port`.
        public var apiAddress: String
        /// Its address for tunnels in the zone `default`.
        public var tunnelAddress: String?

        /// A node.
        public init(name: String, peerAddress: String, apiAddress: String, tunnelAddress: String?) {
            self.name = name
            self.peerAddress = peerAddress
            self.apiAddress = apiAddress
            self.tunnelAddress = tunnelAddress
        }
    }

    /// Names that a node's certificate speaks for.
    static func names(_ identity: PeerIdentity, _ name: String, _ addresses: [String]) -> CertificateNames {
        var names = CertificateNames(commonName: name)
        names.uris = [identity.uri]
        names.dns = [name, "localhost"]
        names.addresses = ["127.0.0.1"]
        for text in addresses {
            guard let host = splitAddress(text)?.host else { continue }
            if IPAddress(host) != nil {
                if !names.addresses.contains(host) { names.addresses.append(host) }
            } else if !names.dns.contains(host) {
                names.dns.append(host)
            }
        }
        return names
    }

    /// Founds a cluster of one node.
    ///
    /// - Returns: the cluster's id.
    public static func found(
        _ node: Node, cluster name: String, in directory: NodeDirectory, lifetime: Int64 = certificateLifetime
    ) throws -> String {
        guard !directory.isInUse else { throw inUse(directory) }
        try directory.create()
        let cluster = hexadecimal(Cryptography.random(16))
        let identity = PeerIdentity(cluster: cluster, node: NodeID(Cryptography.randomID()))
        let now = wallSeconds()
        let authority = try Authority(
            commonName: "Selvage \(name)", from: now - clockSkew, until: now + authorityLifetime)
        try write(authority, directory)
        let key = try PrivateKey()
        let certificate = try authority.sign(
            CertificateRequest(key: key, commonName: node.name),
            names: names(identity, node.name, [node.peerAddress, node.apiAddress]), from: now - clockSkew,
            until: now + lifetime)
        try directory.write(authorities: [authority.certificate])
        try directory.write(certificate, key)
        directory.removeStore()
        try LogStore.create(path: directory.logFile, owner: identity, members: Members(voters: [identity.node]))
        try directory.write(
            NodeDirectory.Identity(
                cluster: cluster, clusterName: name, node: identity.node.description, name: node.name,
                peerAddress: node.peerAddress, apiAddress: node.apiAddress, tunnelAddress: node.tunnelAddress,
                isFounder: true, peers: [:]))
        return cluster
    }

    static func write(_ authority: Authority, _ directory: NodeDirectory) throws {
        let file = directory.authorityKeyFile(hexadecimal(authority.certificate.fingerprint))
        try Files.replace(file, Array(try authority.keyPEM().utf8))
    }

    private static func inUse(_ directory: NodeDirectory) -> NodeError {
        let who =
            (try? directory.identity()).map {
                "node \($0.name) of cluster \($0.clusterName.isEmpty ? $0.cluster : $0.clusterName)"
            } ?? "a node"
        return NodeError(
            "\(directory.path): \(who) lives here already",
            "name another directory with --data; or remove it, if that node was removed from its cluster")
    }

    // MARK: - Joining

    /// What a token says.
    public struct Token: Sendable, Equatable {
        /// Where to ask, `address:port` of the API; several.
        public var addresses: [String]
        /// Names the token.
        public var id: String
        /// The secret.
        public var secret: [UInt8]
        /// SHA-256 of the authority's certificate: whoever answers must be of this cluster.
        public var fingerprint: [UInt8]

        /// As text: one word that can be copied.
        public var text: String {
            "selvage-join." + id + "." + hexadecimal(secret) + "." + hexadecimal(fingerprint) + "@"
                + addresses.joined(separator: ",")
        }

        /// Made by the node.
        public init(addresses: [String], id: String, secret: [UInt8], fingerprint: [UInt8]) {
            self.addresses = addresses
            self.id = id
            self.secret = secret
            self.fingerprint = fingerprint
        }

        /// Reads a token.
        public init?(_ text: String) {
            let halves = text.split(separator: "@", maxSplits: 1)
            guard halves.count == 2 else { return nil }
            let parts = halves[0].split(separator: ".")
            guard parts.count == 4, parts[0] == "selvage-join", let secret = bytes(hexadecimal: parts[2]),
                let fingerprint = bytes(hexadecimal: parts[3]), fingerprint.count == 32
            else { return nil }
            self.init(
                addresses: halves[1].split(separator: ",").map(String.init), id: String(parts[1]), secret: secret,
                fingerprint: fingerprint)
            guard !addresses.isEmpty, addresses.allSatisfy({ splitAddress($0) != nil }) else { return nil }
        }
    }

    /// Joins a cluster: asks one of its nodes for a certificate, and writes what a node needs to start.
    ///
    /// - Returns: the cluster's id and what the node becomes.
    public static func join(
        _ token: Token, _ node: Node, in directory: NodeDirectory
    ) async throws -> (cluster: String, role: String) {
        guard !directory.isInUse else { throw inUse(directory) }
        try directory.create()
        var failures: [String] = []
        for text in token.addresses {
            guard let address = splitAddress(text) else { continue }
            do { return try await join(token, node, directory, address) } catch let error as APIRefusal {
                // One that has no quorum or no key: another may.
                guard error.status >= 500 || error.detail.contains("does not have the key") else { throw error }
                failures.append("\(address.host):\(address.port): \(error)")
            } catch {
                failures.append("\(error)")
            }
        }
        throw NodeError(
            "no node of the cluster could be asked: \(failures.joined(separator: "; "))",
            "check that \(token.addresses.joined(separator: " or ")) can be reached from here", isOfReaching: true)
    }

    private static func join(
        _ token: Token, _ node: Node, _ directory: NodeDirectory, _ address: (host: String, port: Int)
    ) async throws -> (cluster: String, role: String) {
        // First whom to trust: what anybody says, if it has the fingerprint that the token names.
        let stranger = try TLSContext(identity: nil, authorities: [], verification: .none)
        let told: AuthoritiesAnswer = try await APIClient(
            .tls(host: address.host, port: address.port, stranger, name: nil)
        ).value("GET", "/v1/cluster/authorities")
        guard
            let authority = told.authorities.compactMap({ try? Certificate(pem: $0.certificate) })
                .first(where: { $0.fingerprint == token.fingerprint })
        else {
            throw NodeError(
                "the cluster that answers at \(address.host):\(address.port) is not the one of the token",
                "check the address, or make a new token: selvage cluster token")
        }
        // Then the secret, to whoever has a certificate of that authority.
        let context = try TLSContext(identity: nil, authorities: [authority], verification: .required)
        let client = APIClient(.tls(host: address.host, port: address.port, context, name: nil))
        let key = try PrivateKey()
        let id = try persistentID(directory)
        let request = JoinRequest(
            token: token.id, secret: hexadecimal(token.secret), node: id.description, name: node.name,
            peerAddress: node.peerAddress, apiAddress: node.apiAddress, tunnelAddress: node.tunnelAddress,
            version: version, certificateRequest: try CertificateRequest(key: key, commonName: node.name).pem)
        let answer: JoinAnswer = try await client.value("POST", "/v1/cluster/join", body: request)
        let identity = PeerIdentity(cluster: answer.cluster, node: id)
        try directory.write(authorities: Certificate.all(pem: answer.authorities))
        try directory.write(try Certificate(pem: answer.certificate), key)
        // Of a join that was interrupted: nobody lives here yet.
        directory.removeStore()
        try LogStore.create(path: directory.logFile, owner: identity, members: Members())
        try directory.write(
            NodeDirectory.Identity(
                cluster: answer.cluster, clusterName: "", node: id.description, name: node.name,
                peerAddress: node.peerAddress, apiAddress: node.apiAddress, tunnelAddress: node.tunnelAddress,
                isFounder: false, peers: answer.peers))
        try? FileManager.default.removeItem(atPath: directory.path + "/joining")
        return (answer.cluster, answer.role)
    }

    /// The id that the node will have: kept until it has joined, so that a join that is tried again is the same one.
    private static func persistentID(_ directory: NodeDirectory) throws -> NodeID {
        let file = directory.path + "/joining"
        if let bytes = try Files.read(file), let id = UInt64(String(decoding: bytes, as: UTF8.self), radix: 16), id != 0
        {
            return NodeID(id)
        }
        let id = NodeID(Cryptography.randomID())
        try Files.replace(file, Array(id.description.utf8))
        return id
    }
}
