// SPDX-License-Identifier: Apache-2.0
import Consensus
import TLS

/// What a node's certificate says: which node of which cluster.
public struct PeerIdentity: Sendable, Equatable {
    /// The cluster.
    public var cluster: String
    /// The node.
    public var node: NodeID

    /// A node of a cluster.
    public init(cluster: String, node: NodeID) {
        self.cluster = cluster
        self.node = node
    }

    /// As a URI in the certificate: `selvage://CLUSTER/node/ID`.
    public var uri: String { "selvage://\(cluster)/node/\(node)" }

    /// Reads a certificate; `nil` when it is not that of a node.
    public init?(_ certificate: Certificate) {
        for uri in certificate.uris {
            guard uri.hasPrefix("selvage://") else { continue }
            let parts = uri.dropFirst(10).split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 3, parts[1] == "node", let id = UInt64(parts[2], radix: 16), id != 0 else { continue }
            self.init(cluster: String(parts[0]), node: NodeID(id))
            return
        }
        return nil
    }
}

/// The two contexts of a node's TLS; others take their place when certificates change.
public struct PeerCredentials: Sendable {
    /// For connections that we open.
    public var client: TLSContext
    /// For those that come.
    public var server: TLSContext

    /// Contexts of an own certificate and the authorities that are trusted.
    public init(certificate: Certificate, key: PrivateKey, authorities: [Certificate]) throws(TLSError) {
        client = try TLSContext(
            identity: (certificate, key), authorities: authorities, verification: .required)
        server = try TLSContext(
            identity: (certificate, key), authorities: authorities, verification: .required)
    }
}
