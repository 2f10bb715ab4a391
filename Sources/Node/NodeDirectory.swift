// SPDX-License-Identifier: Apache-2.0
import Consensus
import Foundation
import Store
import TLS

/// A node's files: who it is, its certificate, the authorities it trusts, and the databases of the store.
public struct NodeDirectory: Sendable {
    /// The directory.
    public let path: String

    /// Where a node's files are, unless said.
    public static let standard = "/var/lib/selvage"

    /// Files in a directory.
    public init(_ path: String) { self.path = path }

    /// Who a node is. Written once; what changes is in the store.
    public struct Identity: Codable, Sendable {
        /// The cluster's id.
        public var cluster: String
        /// The cluster's name.
        public var clusterName: String
        /// The node's id, hexadecimal.
        public var node: String
        /// The node's name: that of its host.
        public var name: String
        /// Where other nodes reach it, `address:port`.
        public var peerAddress: String
        /// Where clients reach it, `address:port`.
        public var apiAddress: String
        /// Its address for tunnels in the zone `default`.
        public var tunnelAddress: String?
        /// Whether it founded the cluster.
        public var isFounder: Bool
        /// Nodes to talk to before the store names any: id and peer address.
        public var peers: [String: String]

        /// The id.
        var id: NodeID { NodeID(UInt64(node, radix: 16) ?? 0) }
        /// As certificates name it.
        var peer: PeerIdentity { PeerIdentity(cluster: cluster, node: id) }
    }

    var identityFile: String { path + "/node.json" }
    var keyFile: String { path + "/node.key" }
    var certificateFile: String { path + "/node.crt" }
    var authoritiesFile: String { path + "/authorities.pem" }
    var stateKeysFile: String { path + "/flow-state.keys" }
    var journalFile: String { path + "/flowstate.db" }
    var logFile: String { path + "/log.db" }
    var stateFile: String { path + "/state.db" }

    /// Where the key of an authority is, on voters.
    func authorityKeyFile(_ fingerprint: String) -> String { path + "/authority-\(fingerprint.prefix(16)).key" }

    private var markFile: String { path + "/unfinished" }

    /// Notes that something has begun that must be ended before a node starts here.
    func mark(_ what: String) throws { try Files.replace(markFile, Array(what.utf8)) }

    /// It was ended.
    func unmark() { Files.remove(markFile) }

    /// What was begun and not ended.
    var unfinished: String? {
        ((try? Files.read(markFile)) ?? nil).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether a node lives here.
    public var isInUse: Bool { FileManager.default.fileExists(atPath: identityFile) }

    /// What says how the host is reached, where the node is told nothing else.
    private var underlayFile: String { path + "/underlay.yaml" }

    /// The file that says how the host is reached: the one that is named, or the one that is kept here; `nil`: there is none.
    public func underlayFile(_ named: String?) -> String? {
        named ?? (FileManager.default.fileExists(atPath: underlayFile) ? underlayFile : nil)
    }

    /// Keeps what says how the host is reached; it may have passwords.
    public func keepUnderlay(_ text: String) throws { try Files.replace(underlayFile, Array(text.utf8)) }

    /// Takes away what ``keepUnderlay(_:)`` kept.
    public func removeUnderlay() { unlink(underlayFile) }

    /// Where the files of the host's own routing daemon are.
    public var underlay: String { path + "/underlay" }

    /// Makes the directory.
    public func create() throws {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    /// Removes log and state, of something that was interrupted before a node lived here.
    func removeStore() {
        for file in [logFile, stateFile] {
            for suffix in ["", "-wal", "-shm"] { Files.remove(file + suffix) }
        }
    }

    /// Reads who the node is.
    public func identity() throws -> Identity {
        guard let bytes = try Files.read(identityFile) else {
            throw NodeError(
                "\(path): no node lives here",
                "selvage cluster init founds a cluster, selvage cluster join TOKEN joins one")
        }
        do {
            let identity = try JSONDecoder().decode(Identity.self, from: Data(bytes))
            guard identity.id.value != 0 else { throw NodeError("", "") }
            return identity
        } catch {
            throw NodeError(
                "\(identityFile): can't be read", "restore it from a copy, or remove the node and join anew")
        }
    }

    func write(_ identity: Identity) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try Files.replace(identityFile, Array(try encoder.encode(identity)) + [10])
    }

    /// The node's certificate and key.
    func credential() throws -> (certificate: Certificate, key: PrivateKey) {
        let certificate = try Certificate(pem: try text(certificateFile))
        let key = try PrivateKey(pem: try text(keyFile))
        guard certificate.isFor(key) else {
            throw NodeError(
                "\(certificateFile) is not for the key in \(keyFile)", "restore both from one copy, or join anew")
        }
        return (certificate, key)
    }

    func write(_ certificate: Certificate, _ key: PrivateKey) throws {
        // A crash between the two is mended by the start: the new pair stands beside the old one until both are there.
        try Files.replace(keyFile + ".next", Array(try key.pem().utf8))
        try Files.replace(certificateFile + ".next", Array(try certificate.pem().utf8), mode: 0o644)
        try finishRenewal()
    }

    /// Puts a new certificate and its key in place, if both are there.
    func finishRenewal() throws {
        let manager = FileManager.default
        guard manager.fileExists(atPath: certificateFile + ".next") else { return }
        if manager.fileExists(atPath: keyFile + ".next") { try Files.rename(keyFile + ".next", to: keyFile) }
        try Files.rename(certificateFile + ".next", to: certificateFile)
    }

    /// The authorities that the node trusts.
    func authorities() throws -> [Certificate] { Certificate.all(pem: try text(authoritiesFile)) }

    func write(authorities: [Certificate]) throws {
        let text = try authorities.map { try $0.pem() }.joined()
        try Files.replace(authoritiesFile, Array(text.utf8), mode: 0o644)
    }

    /// The authority whose key is here.
    func authority(_ certificate: Certificate) throws -> Authority? {
        guard let bytes = try Files.read(authorityKeyFile(hexadecimal(certificate.fingerprint))) else { return nil }
        return Authority(certificate: certificate, key: try PrivateKey(pem: String(decoding: bytes, as: UTF8.self)))
    }

    private func text(_ file: String) throws -> String {
        guard let bytes = try Files.read(file) else {
            throw NodeError("\(file) is missing", "restore it from a copy, or remove the node and join anew")
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Why a node does not start, or a cluster does not do what it is asked.
public struct NodeError: Error, Sendable, CustomStringConvertible {
    /// What is wrong, and beneath it what to do.
    public let description: String

    /// Whether others may only not be reached yet.
    public let isOfReaching: Bool

    init(_ reason: String, _ remedy: String, isOfReaching: Bool = false) {
        description = "\(reason)\n    \(remedy)"
        self.isOfReaching = isOfReaching
    }
}
