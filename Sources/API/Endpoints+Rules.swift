// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import Store
import Topology

/// Single rules of chains: changed in their place, so that who changes one need not say the others.
struct RuleEndpoints {
    let node: any NodeInterface
    /// How often a change is made anew that met another of the same chain.
    private static let attempts = 16

    var all: [Endpoint] { [put, delete] }

    private static let parameters: [Endpoint.Parameter] = [
        .path("tenant", "The tenant."), .path("name", "The chain's own name."), .path("rule", "The rule's id."),
    ]

    private var put: Endpoint {
        Endpoint(
            method: .put, path: "/v1/chains/{tenant}/{name}/rules/{rule}", id: "put-rule", tag: "chains",
            summary: "Change a rule of a chain in its place, or add one.", access: .known,
            parameters: RuleEndpoints.parameters + [
                .query(
                    "before", .string(), "The rule to put it before; where it is unless said, a new one at the end."),
                .wait, .waitSeconds,
            ],
            body: .init(type: "application/json", schema: Schemas.rule),
            answers: [.init(status: 200, text: "It is so now.", schema: Schemas.change)],
            problems: [404, 409, 422, 503]
        ) { [node] call in
            let id = call.part("rule")
            var body: RuleResource = try call.decode()
            if let said = body.id, said != id {
                throw APIError.invalid(id, "the body is of rule \(said)", "leave id out, or say \(id)")
            }
            body.id = id
            let before = call.query["before"]
            return try await RuleEndpoints.change(call, node) { chain throws(APIError) in
                let rule = try body.read("chain \(chain.path)", 0)
                let place = chain.rules.firstIndex { $0.id == id }
                if before == nil, let place {
                    chain.rules[place] = rule
                    return
                }
                if let place { chain.rules.remove(at: place) }
                guard let before else {
                    chain.rules.append(rule)
                    return
                }
                guard let next = chain.rules.firstIndex(where: { $0.id == before }) else {
                    throw .invalid(
                        "chain \(chain.path)", "has no rule \(before) to put it before", "name one of its rules")
                }
                chain.rules.insert(rule, at: next)
            }
        }
    }

    private var delete: Endpoint {
        Endpoint(
            method: .delete, path: "/v1/chains/{tenant}/{name}/rules/{rule}", id: "delete-rule", tag: "chains",
            summary: "Take a rule out of a chain.", access: .known,
            parameters: RuleEndpoints.parameters + [.wait, .waitSeconds],
            answers: [.init(status: 200, text: "It is gone.", schema: Schemas.change)], problems: [404, 409, 422, 503]
        ) { [node] call in
            let id = call.part("rule")
            return try await RuleEndpoints.change(call, node) { chain throws(APIError) in
                guard let place = chain.rules.firstIndex(where: { $0.id == id }) else {
                    throw .notFound("chain \(chain.path) rule \(id)")
                }
                chain.rules.remove(at: place)
            }
        }
    }

    /// Changes a chain as it is when the change is made: what another changes meanwhile stays.
    private static func change(
        _ call: Call, _ node: any NodeInterface, _ body: (inout Chain) throws(APIError) -> Void
    ) async throws -> Reply {
        let path = DevicePath(tenant: call.part("tenant"), name: call.part("name"))
        let key = ObjectKey.chain(path)
        try call.mayWrite(path.tenant)
        var attempt = 0
        while true {
            attempt += 1
            let state = node.replica.state
            guard var chain = state.topology.chains[path], let version = state.version(of: key) else {
                throw APIError.notFound("\(key)")
            }
            try body(&chain)
            do {
                let revision = try await ObjectEndpoints.submit(
                    [.put(.chain(chain))], [.revision(key, version.modified)], node)
                return try .json(
                    ChangeAnswer(revision: revision, wait: try await ObjectEndpoints.wait(call, revision, node)))
            } catch let error as APIError where error.type == "conflict" && attempt < attempts {
                continue
            }
        }
    }
}
