// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import Linux
import Store
import Synchronization
import TLS

/// The node's certificate, the authorities it trusts, and on voters the keys of those authorities. Certificates renew
/// themselves, and everything changes without ending a connection.
final class Certificates: Sendable {
    private let directory: NodeDirectory
    private let identity: NodeDirectory.Identity
    private let lifetime: Int64
    private struct Current {
        var certificate: Certificate
        var key: PrivateKey
        var trusted: [Certificate]
    }
    private let current: Mutex<Current>

    init(_ directory: NodeDirectory, _ identity: NodeDirectory.Identity, lifetime: Int64) throws {
        try directory.finishRenewal()
        let (certificate, key) = try directory.credential()
        let now = wallSeconds()
        guard certificate.notAfter > now else {
            throw NodeError(
                "the certificate of this node ended at \(rfc3339(certificate.notAfter))",
                "its clock may be wrong; else remove the node (selvage cluster remove \(identity.name)), wipe \(directory.path) and join anew"
            )
        }
        self.directory = directory
        self.identity = identity
        self.lifetime = lifetime
        current = Mutex(Current(certificate: certificate, key: key, trusted: try directory.authorities()))
    }

    /// What is known of the node's own certificate.
    var record: CertificateRecord {
        let (certificate, trusted) = current.withLock { ($0.certificate, $0.trusted) }
        let authority = trusted.first { $0.hasSigned(certificate) }
        return CertificateRecord(
            serial: certificate.serial, authority: authority.map { hexadecimal($0.fingerprint) } ?? "",
            notAfter: certificate.notAfter)
    }

    /// For connections to other nodes.
    func peerCredentials() throws -> PeerCredentials {
        let current = current.withLock { $0 }
        return try PeerCredentials(
            certificate: current.certificate, key: current.key, authorities: current.trusted)
    }

    /// For the HTTP API: clients may have certificates, or keys.
    func apiContext() throws -> TLSContext {
        let current = current.withLock { $0 }
        return try TLSContext(
            identity: (current.certificate, current.key), authorities: current.trusted, verification: .optional)
    }

    /// Trusts what the cluster trusts; true when that is something else than before.
    func trust(_ records: [AuthorityRecord]) throws -> Bool {
        let certificates = records.sorted { $0.fingerprint < $1.fingerprint }.compactMap {
            try? Certificate(pem: $0.certificate)
        }
        // Before its first entry a cluster names nobody.
        guard !certificates.isEmpty else { return false }
        let before = current.withLock { Set($0.trusted.map(\.fingerprint)) }
        guard before != Set(certificates.map(\.fingerprint)) else { return false }
        try directory.write(authorities: certificates)
        current.withLock { $0.trusted = certificates }
        return true
    }

    /// Whether it is time for another certificate: a third of its life is left, or its authority signs no more.
    func needsRenewal(active: String) -> Bool {
        let record = record
        // One that was made while a clock was ahead is taken by nobody yet.
        if current.withLock({ $0.certificate.notBefore }) > wallSeconds() { return true }
        return record.notAfter - wallSeconds() < lifetime / 3 || (!active.isEmpty && record.authority != active)
    }

    /// Gets another certificate from whoever can sign, and puts it in place.
    func renew(_ sign: (CertificateRequest) async throws -> Certificate) async throws {
        let key = try PrivateKey()
        let certificate = try await sign(try CertificateRequest(key: key, commonName: identity.name))
        guard certificate.isFor(key), PeerIdentity(certificate) == identity.peer else {
            throw NodeError("the new certificate is not for this node", "report it: this is a fault of Selvage")
        }
        try directory.write(certificate, key)
        current.withLock { current in
            current.certificate = certificate
            current.key = key
        }
    }

    // MARK: - On voters

    /// The authority that signs, if its key is here.
    func signer(_ state: ClusterState) throws -> Authority? {
        guard let active = state.activeAuthority else { return nil }
        return try directory.authority(try Certificate(pem: active.certificate))
    }

    /// Whether an authority is trusted here.
    func trusts(_ fingerprint: String) -> Bool {
        current.withLock { $0.trusted.contains { hexadecimal($0.fingerprint) == fingerprint } }
    }

    func hasKey(_ fingerprint: String) -> Bool { Files.size(directory.authorityKeyFile(fingerprint)) > 0 }

    func key(_ fingerprint: String) throws -> [UInt8]? { try Files.read(directory.authorityKeyFile(fingerprint)) }

    /// Keeps the key of an authority that another voter gave.
    func keep(_ key: [UInt8], for record: AuthorityRecord) throws {
        let pem = String(decoding: key, as: UTF8.self)
        guard try Certificate(pem: record.certificate).isFor(try PrivateKey(pem: pem)) else {
            throw NodeError("a key came that is not that of the authority", "report it: this is a fault of Selvage")
        }
        try Files.replace(directory.authorityKeyFile(record.fingerprint), key)
    }

    /// Forgets the keys of authorities that are none any more, or that this node has no right to.
    func forgetKeys(except fingerprints: Set<String>) {
        for file in (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? [] {
            guard file.hasPrefix("authority-"), file.hasSuffix(".key"),
                !fingerprints.contains(where: { file == "authority-\($0.prefix(16)).key" })
            else { continue }
            try? FileManager.default.removeItem(atPath: directory.path + "/" + file)
        }
    }

    /// A certificate for a node of the cluster.
    func sign(_ request: CertificateRequest, for node: NodeRecord, _ state: ClusterState) throws -> Certificate {
        guard let authority = try signer(state), let cluster = state.cluster else { throw Certificates.noKey }
        let now = wallSeconds()
        return try authority.sign(
            request,
            names: Founding.names(
                PeerIdentity(cluster: cluster.id, node: node.id), node.name, [node.peerAddress, node.apiAddress]),
            from: now - Founding.clockSkew, until: min(now + lifetime, authority.certificate.notAfter))
    }

    /// A certificate for a client of the API.
    func sign(
        _ request: CertificateRequest, client: ClientIdentity, days: Int, _ state: ClusterState
    ) throws -> Certificate {
        guard let authority = try signer(state) else { throw Certificates.noKey }
        let now = wallSeconds()
        var names = CertificateNames(commonName: client.name)
        names.uris = [client.uri]
        return try authority.sign(
            request, names: names, from: now - Founding.clockSkew,
            until: min(now + Int64(days) * 86_400, authority.certificate.notAfter))
    }

    static let noKey = StoreRefusal.refused(
        "this node does not have the key of the authority", "ask a voter; selvage cluster list shows them")
}
