// SPDX-License-Identifier: Apache-2.0
import Store

/// What the HTTP API needs of the node that it is a part of.
public protocol NodeInterface: Sendable {
    /// The agreement.
    var replica: Replica { get }
    /// The node's name.
    var name: String { get }

    /// Answers about this node, or has another one answer about itself.
    func answer(_ request: NodeRequest, host: String?) async throws -> NodeResponse
    /// The cluster as this node, and the leader, see it.
    func clusterStatus() async throws -> ClusterAnswer
    /// Waits until all nodes that are up have put a revision in force.
    func wait(for revision: UInt64, seconds: Double) async -> WaitAnswer

    /// Makes a token.
    func makeToken(_ request: TokenRequest) async throws -> TokenAnswer
    /// Takes a node in.
    func join(_ request: JoinRequest) async throws -> JoinAnswer
    /// Makes a node a voter or a learner.
    func setRole(of node: String, to role: NodeRecord.Role, force: Bool) async throws
    /// Takes a node out for ever.
    func remove(_ node: String, force: Bool) async throws
    /// Hands leadership over; to the best voter unless said.
    func transferLeadership(to node: String?) async throws -> String
    /// Puts another secret in place of the one that seals flow state.
    func rotateStateSecret() async throws
    /// Puts another authority in place of the one that signs.
    func rotateAuthority() async throws
    /// Signs a client's certificate.
    func signClient(_ request: ClientCertificateRequest) async throws -> ClientCertificateAnswer
    /// Why this node should get no work; `nil` when it is ready.
    func whyNotReady() async -> String?
}
