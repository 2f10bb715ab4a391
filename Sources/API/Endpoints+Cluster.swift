// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import NIOCore
import Store
import TLS
import Topology

/// The cluster itself: nodes, tokens, certificates, keys, snapshots.
struct ClusterEndpoints {
    let node: any NodeInterface

    var all: [Endpoint] {
        [
            status, tokens, makeToken, deleteToken, join, authorities, rotate, rotateSecret, signClient, keys, makeKey,
            deleteKey,
            setRole, remove, transfer, snapshot,
        ]
    }

    private var status: Endpoint {
        Endpoint(
            method: .get, path: "/v1/cluster", id: "cluster", tag: "cluster", summary: "How the cluster is.",
            access: .known, answers: [.init(status: 200, text: "How it is.", schema: Schemas.cluster)], problems: [503]
        ) { [node] _ in try .json(try await node.clusterStatus()) }
    }

    // MARK: - Joining

    private var tokens: Endpoint {
        Endpoint(
            method: .get, path: "/v1/cluster/tokens", id: "list-tokens", tag: "cluster",
            summary: "Tokens, without their secrets.", access: .operator, parameters: [.stale],
            answers: [.init(status: 200, text: "Tokens.", schema: .array(Schemas.token))], problems: [503]
        ) { [node] call in
            let state = try await ObjectEndpoints.state(call, node)
            return try .json(
                state.tokens.values.sorted { $0.id < $1.id }.map { token in
                    TokenAnswer(
                        id: token.id, token: nil, expires: rfc3339(token.expires), role: token.role?.word ?? "auto",
                        usedBy: token.usedBy.map { state.nodes[$0]?.name ?? "node \($0)" })
                })
        }
    }

    private var makeToken: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/tokens", id: "create-token", tag: "cluster",
            summary: "A token that lets one node join, once.", access: .operator,
            body: .init(type: "application/json", schema: Schemas.tokenRequest),
            answers: [.init(status: 201, text: "The token.", schema: Schemas.token)], problems: [409, 503]
        ) { [node] call in try .json(try await node.makeToken(try call.decode()), status: 201) }
    }

    private var deleteToken: Endpoint {
        Endpoint(
            method: .delete, path: "/v1/cluster/tokens/{id}", id: "delete-token", tag: "cluster",
            summary: "Take a token back.", access: .operator, parameters: [.path("id", "The token's id.")],
            answers: [.init(status: 204, text: "It is gone.")], problems: [404, 503]
        ) { [node] call in
            _ = try await ObjectEndpoints.submit([.deleteToken(call.part("id"))], [], node)
            return .empty
        }
    }

    private var join: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/join", id: "join", tag: "cluster",
            summary: "Join on the word of a token. The token is all that is asked for.", access: .open,
            body: .init(type: "application/json", schema: Schemas.joinRequest),
            answers: [.init(status: 200, text: "The node is taken in.", schema: Schemas.join)],
            problems: [409, 422, 502, 503]
        ) { [node] call in try .json(try await node.join(try call.decode())) }
    }

    private var authorities: Endpoint {
        Endpoint(
            method: .get, path: "/v1/cluster/authorities", id: "authorities", tag: "cluster",
            summary: "The authorities of the cluster. No secret: a token names the fingerprint.", access: .open,
            answers: [.init(status: 200, text: "The authorities.", schema: Schemas.authorities)]
        ) { [node] _ in
            let state = node.replica.state
            return try .json(
                AuthoritiesAnswer(
                    cluster: state.cluster?.id ?? "",
                    authorities: state.authorities.values.sorted { $0.fingerprint < $1.fingerprint }.map {
                        .init(
                            fingerprint: $0.fingerprint, state: $0.state.word, expires: rfc3339($0.notAfter),
                            certificate: $0.certificate)
                    }))
        }
    }

    // MARK: - Certificates and keys

    private var rotate: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/authorities/rotate", id: "rotate-authority", tag: "cluster",
            summary: "Put another authority in place of the one that signs. Nodes change over by themselves.",
            access: .operator, answers: [.init(status: 204, text: "It has begun.")], problems: [409, 502, 503]
        ) { [node] _ in
            try await node.rotateAuthority()
            return .empty
        }
    }

    private var rotateSecret: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/state-secrets/rotate", id: "rotate-state-secret", tag: "cluster",
            summary: "Put another secret in place of the one that seals flow state between nodes.",
            access: .operator, answers: [.init(status: 204, text: "It has begun.")], problems: [409, 502, 503]
        ) { [node] _ in
            try await node.rotateStateSecret()
            return .empty
        }
    }

    private var signClient: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/clients", id: "sign-client", tag: "cluster",
            summary: "A certificate for a client of this API.", access: .operator,
            body: .init(type: "application/json", schema: Schemas.clientRequest),
            answers: [.init(status: 201, text: "The certificate.", schema: Schemas.client)],
            problems: [409, 422, 502, 503]
        ) { [node] call in try .json(try await node.signClient(try call.decode()), status: 201) }
    }

    private static func answer(_ key: AccessKey, _ text: String? = nil) -> KeyAnswer {
        KeyAnswer(
            name: key.name, role: key.role.description, created: rfc3339(key.created),
            expires: key.expires == 0 ? nil : rfc3339(key.expires), key: text)
    }

    private var keys: Endpoint {
        Endpoint(
            method: .get, path: "/v1/cluster/keys", id: "list-keys", tag: "cluster",
            summary: "Keys for programs, without their secrets.", access: .operator, parameters: [.stale],
            answers: [.init(status: 200, text: "Keys.", schema: .array(Schemas.key))], problems: [503]
        ) { [node] call in
            let state = try await ObjectEndpoints.state(call, node)
            return try .json(state.keys.values.sorted { $0.name < $1.name }.map { ClusterEndpoints.answer($0) })
        }
    }

    private var makeKey: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/keys", id: "create-key", tag: "cluster",
            summary: "A key for programs, or another secret for one.", access: .operator,
            body: .init(type: "application/json", schema: Schemas.keyRequest),
            answers: [.init(status: 201, text: "The key.", schema: Schemas.key)], problems: [422, 503]
        ) { [node] call in
            let request: KeyRequest = try call.decode()
            guard isValidName(request.name) else {
                throw APIError.invalid(request.name, "is no name", "use up to 63 letters, digits, -, _ and .")
            }
            guard let role = AccessRole(request.role) else {
                throw APIError.invalid(
                    request.name, "role is \"\(request.role)\"", "use viewer, tenant:NAME or operator")
            }
            let secret = Cryptography.random(24)
            let now = wallClock()
            let key = AccessKey(
                name: request.name, role: role, secretHash: Cryptography.sha256(secret), created: now,
                expires: request.days.map { now + Int64($0) * 86_400 } ?? 0)
            _ = try await ObjectEndpoints.submit([.putKey(key)], [], node)
            let text = AccessKeys.text(name: key.name, secret: secret)
            return try .json(ClusterEndpoints.answer(key, text), status: 201)
        }
    }

    private var deleteKey: Endpoint {
        Endpoint(
            method: .delete, path: "/v1/cluster/keys/{name}", id: "delete-key", tag: "cluster",
            summary: "Take a key away.", access: .operator, parameters: [.path("name", "The key's name.")],
            answers: [.init(status: 204, text: "It is gone.")], problems: [404, 503]
        ) { [node] call in
            _ = try await ObjectEndpoints.submit([.deleteKey(call.part("name"))], [], node)
            return .empty
        }
    }

    // MARK: - Members

    private static let force = Endpoint.Parameter.query(
        "force", .boolean, "Do it although nodes that are needed do not answer.")

    private var setRole: Endpoint {
        Endpoint(
            method: .put, path: "/v1/cluster/nodes/{name}/role/{role}", id: "set-role", tag: "cluster",
            summary: "Make a node a voter or a learner.", access: .operator,
            parameters: [
                .path("name", "The node's name."),
                .init(name: "role", place: .path, schema: .string(values: ["voter", "learner"]), text: "Its role."),
                ClusterEndpoints.force,
            ], answers: [.init(status: 204, text: "It is so, or becomes so as soon as it has caught up.")],
            problems: [404, 409, 503]
        ) { [node] call in
            let role: NodeRecord.Role
            switch call.part("role") {
            case "voter": role = .voter
            case "learner": role = .learner
            case let other: throw APIError.badRequest("role is \"\(other)\": use voter or learner")
            }
            try await node.setRole(of: call.part("name"), to: role, force: try call.flag("force"))
            return .empty
        }
    }

    private var remove: Endpoint {
        Endpoint(
            method: .delete, path: "/v1/cluster/nodes/{name}", id: "remove-node", tag: "cluster",
            summary: "Take a node out for ever.", access: .operator,
            parameters: [.path("name", "The node's name."), ClusterEndpoints.force],
            answers: [.init(status: 204, text: "It is none any more.")], problems: [404, 409, 503]
        ) { [node] call in
            try await node.remove(call.part("name"), force: try call.flag("force"))
            return .empty
        }
    }

    private var transfer: Endpoint {
        Endpoint(
            method: .post, path: "/v1/cluster/transfer", id: "transfer", tag: "cluster",
            summary: "Hand leadership over.", access: .operator,
            parameters: [.query("to", .string(), "The voter that is to lead; the one that is furthest unless said.")],
            answers: [
                .init(
                    status: 200, text: "Who leads now.",
                    schema: .object([.init("leader", .string(), required: true, "The leader's name.")]))
            ], problems: [404, 409, 502, 503]
        ) { [node] call in
            try .json(["leader": try await node.transferLeadership(to: call.query["to"])])
        }
    }

    private var snapshot: Endpoint {
        Endpoint(
            method: .get, path: "/v1/cluster/snapshot", id: "snapshot", tag: "cluster",
            summary: "Everything that the cluster agreed on, as one file.", access: .operator, parameters: [.stale],
            answers: [
                .init(
                    status: 200, text: "A snapshot.", type: "application/octet-stream",
                    schema: .string(format: "binary"))
            ], problems: [503]
        ) { [node] call in
            let state = try await ObjectEndpoints.state(call, node)
            return Reply(
                status: 200, type: "application/octet-stream",
                body: .bytes(ByteBuffer(bytes: SnapshotFile.encode(state))))
        }
    }
}
