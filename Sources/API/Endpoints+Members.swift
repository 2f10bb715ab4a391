// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import Store
import Topology

/// How members of pools are.
struct MemberEndpoints {
    let node: any NodeInterface

    var all: [Endpoint] { [members] }

    private var members: Endpoint {
        Endpoint(
            method: .get, path: "/v1/pools/{tenant}/{name}/members", id: "list-members", tag: "pools",
            summary: "How the members of a pool are: what checks found, since when, and how many connections each has.",
            access: .known, parameters: ObjectKey.Kind.pool.parameters + [.stale],
            answers: [.init(status: 200, text: "The members, in their order.", schema: .array(Schemas.memberView))],
            problems: [404, 503]
        ) { [node] call in
            let key = try ObjectKey.Kind.pool.key(call)
            try call.mayRead(key.tenant)
            let state = try await ObjectEndpoints.state(call, node)
            guard state.version(of: key) != nil else { throw APIError.notFound("pool \(key.name)") }
            guard case .members(let answer) = try await node.answer(.members(pool: key.name), host: nil) else {
                throw APIError(502, "node", "The node can't answer that", "it is of another version: upgrade it")
            }
            return try .json(answer)
        }
    }
}
