// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import NIOCore
import Store
import TLS
import Wire

/// What nodes ask of each other, beside the agreement.
enum PeerMethod: UInt8 {
    /// Wait until a revision is in force: revision, milliseconds.
    case await = 1
    /// What the leader knows of the others: JSON of ``PeerKnowledge`` by id.
    case knowledge = 2
    /// Sign this request for the node that asks: PEM both ways.
    case sign = 3
    /// The key of an authority, for a voter: fingerprint, PEM.
    case authorityKey = 4
    /// Hand leadership over: id.
    case transfer = 5
    /// What a tool asks: JSON of ``NodeRequest`` and ``NodeResponse``.
    case tool = 6
    /// Sums of the state: count, then index and sum each.
    case digests = 7
    /// Whether the node has the key of an authority: fingerprint, 0 or 1.
    case hasKey = 8
    /// Whether the node trusts an authority: fingerprint, 0 or 1.
    case trusts = 9
    /// Which flow state differs: a place to go on from, the sums of the asker's; rows of what differs.
    case compareState = 10
    /// Rows of flow state.
    case offerState = 11
    /// A secret for flow state: fingerprint, secret.
    case stateSecret = 12
    /// Whether the node has a secret for flow state: fingerprint, 0 or 1.
    case hasStateSecret = 13
}

/// What a leader knows of another node.
struct PeerKnowledge: Codable, Sendable {
    var match: UInt64?
    var silenceSeconds: Double?
    var replication: String?
}

extension Node {
    /// Answers another node.
    func answer(_ node: NodeID, _ method: UInt8, _ bytes: [UInt8]) async throws -> [UInt8] {
        switch PeerMethod(rawValue: method) {
        case .await:
            var reader = ByteReader(bytes)
            let revision: UInt64 = try reader.number()
            let milliseconds: UInt32 = try reader.number()
            return [await follower.wait(for: revision, seconds: Double(milliseconds) / 1000) ? 1 : 0]
        case .knowledge: return Array(try JSONEncoder().encode(try await knowledge()))
        case .sign:
            guard let record = replica.state.nodes[node] else {
                throw StoreRefusal.refused("node \(node) is none of this cluster", "let it join")
            }
            let request = CertificateRequest(pem: String(decoding: bytes, as: UTF8.self))
            return Array(try certificates.sign(request, for: record, replica.state).pem().utf8)
        case .authorityKey:
            // Voters sign in each other's place; nobody else gets the key.
            guard replica.state.nodes[node]?.role == .voter else {
                throw StoreRefusal.refused("only voters are given the authority's key", "promote the node")
            }
            guard let key = try certificates.key(String(decoding: bytes, as: UTF8.self)) else {
                throw Certificates.noKey
            }
            return key
        case .transfer:
            var reader = ByteReader(bytes)
            try await replica.transfer(to: NodeID(try reader.number()))
            return []
        case .tool:
            let request = try JSONDecoder().decode(NodeRequest.self, from: Data(bytes))
            return Array(try JSONEncoder().encode(await answer(request)))
        case .digests:
            var out = ByteWriter()
            out.number(StateDigest.version)
            out.list(try await replica.status().digests) { out, entry in
                out.number(entry.index)
                out.text(entry.digest.description)
            }
            return out.bytes
        case .hasKey: return [certificates.hasKey(String(decoding: bytes, as: UTF8.self)) ? 1 : 0]
        case .trusts: return [certificates.trusts(String(decoding: bytes, as: UTF8.self)) ? 1 : 0]
        case .compareState: return try flowState.answer(bytes)
        case .offerState:
            flowState.take(offered: bytes)
            return []
        case .stateSecret:
            guard replica.state.nodes[node] != nil,
                let secret = flowState.keys[String(decoding: bytes, as: UTF8.self)]
            else { throw StoreRefusal.refused("there is no such secret here", "ask another node") }
            return secret
        case .hasStateSecret: return [flowState.keys[String(decoding: bytes, as: UTF8.self)] == nil ? 0 : 1]
        case nil: throw StoreRefusal.refused("method \(method) is not known to this version", "upgrade it")
        }
    }

    func ask(_ node: NodeID, _ method: PeerMethod, _ bytes: [UInt8] = [], seconds: Int64 = 3) async throws -> [UInt8] {
        try await replica.request(node, method: method.rawValue, bytes, timeout: .seconds(seconds))
    }

    /// What this node, which leads, knows of the others.
    func knowledge() async throws -> [String: PeerKnowledge] {
        var result: [String: PeerKnowledge] = [:]
        for peer in try await replica.status().peers {
            result[peer.id.description] = PeerKnowledge(
                match: peer.match, silenceSeconds: peer.silenceSeconds, replication: peer.replication)
        }
        return result
    }

    /// What the leader knows of the others; `nil` when none answers.
    func leaderKnowledge() async -> [String: PeerKnowledge]? {
        guard let leader = replica.agreement.leader else { return nil }
        if leader == replica.id { return try? await knowledge() }
        guard let bytes = try? await ask(leader, .knowledge, seconds: 2) else { return nil }
        return try? JSONDecoder().decode([String: PeerKnowledge].self, from: Data(bytes))
    }

    /// A certificate from a voter that has the authority's key: this node, or another one.
    func requestCertificate(_ request: CertificateRequest) async throws -> Certificate {
        let state = replica.state
        if let record = state.nodes[replica.id], try certificates.signer(state) != nil {
            return try certificates.sign(request, for: record, state)
        }
        var failure: any Error = StoreRefusal.noQuorum("no voter answers")
        for node in state.nodes.values.sorted(by: { $0.id < $1.id }) where node.role == .voter && node.id != replica.id
        {
            do {
                let bytes = try await ask(node.id, .sign, Array(request.pem.utf8))
                return try Certificate(pem: String(decoding: bytes, as: UTF8.self))
            } catch { failure = error }
        }
        throw failure
    }
}
