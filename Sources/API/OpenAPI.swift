// SPDX-License-Identifier: Apache-2.0
import HTTPTypes

extension APIServer {
    /// Everything that can be asked, the description of it included.
    static func endpoints(of node: any NodeInterface) -> [Endpoint] {
        var all = ObjectEndpoints(node: node).all + RuleEndpoints(node: node).all
        all += ChangeEndpoints(node: node).all
        all += MemberEndpoints(node: node).all
        all += ClusterEndpoints(node: node).all
        all += NodeEndpoints(node: node).all
        var own = Endpoint(
            method: .get, path: "/v1/openapi.json", id: "openapi", tag: "node", summary: "This document.",
            access: .open,
            answers: [.init(status: 200, text: "OpenAPI 3.1.", schema: .any)]
        ) { _ in .empty }
        let document = OpenAPI.document(all + [own])
        own.handle = { _ in try .json(document) }
        return all + [own]
    }
}

/// The description of the API, made of what is served.
enum OpenAPI {
    static func document(_ endpoints: [Endpoint]) -> JSON {
        var named: [String: JSON] = [:]
        var paths: [String: JSON] = [:]
        for endpoint in endpoints {
            var item: [String: JSON] = [:]
            if case .object(let known)? = paths[endpoint.path] { item = known }
            item[endpoint.method.rawValue.lowercased()] = operation(endpoint, &named)
            paths[endpoint.path] = .object(item)
        }
        _ = Schemas.problem.json(&named)
        return [
            "openapi": "3.1.0",
            "info": [
                "title": "Selvage", "version": "1",
                "description":
                    "Virtual networks for clusters. Names are the same everywhere: tenant/device/port. Errors come in the form of RFC 9457.",
                "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
            ], "paths": .object(paths),
            "components": [
                "schemas": .object(named),
                "securitySchemes": [
                    "key": ["type": "http", "scheme": "bearer"], "certificate": ["type": "mutualTLS"],
                ],
            ],
        ]
    }

    private static func operation(_ endpoint: Endpoint, _ named: inout [String: JSON]) -> JSON {
        var operation: [String: JSON] = [
            "operationId": .string(endpoint.id), "summary": .string(endpoint.summary),
            "tags": .array([.string(endpoint.tag)]),
        ]
        if endpoint.access == .open {
            operation["security"] = .array([])
        } else {
            operation["security"] = [["key": []], ["certificate": []]]
        }
        let parameters = endpoint.parameters.map { parameter -> JSON in
            [
                "name": .string(parameter.name), "in": .string(parameter.place.rawValue),
                "required": .boolean(parameter.place == .path), "description": .string(parameter.text),
                "schema": parameter.schema.json(&named),
            ]
        }
        if !parameters.isEmpty { operation["parameters"] = .array(parameters) }
        if let body = endpoint.body {
            operation["requestBody"] = [
                "required": true, "content": .object([body.type: ["schema": body.schema.json(&named)]]),
            ]
        }
        var responses: [String: JSON] = [:]
        for answer in endpoint.answers {
            var response: [String: JSON] = ["description": .string(answer.text)]
            if let schema = answer.schema {
                response["content"] = .object([answer.type: ["schema": schema.json(&named)]])
            }
            responses["\(answer.status)"] = .object(response)
        }
        for status in problems(endpoint) {
            responses["\(status)"] = [
                "description": .string(text(status)),
                "content": ["application/problem+json": ["schema": Schemas.problem.json(&named)]],
            ]
        }
        operation["responses"] = .object(responses)
        return .object(operation)
    }

    /// Problems that the endpoint tells of, and those that every request may meet.
    private static func problems(_ endpoint: Endpoint) -> Set<Int> {
        var all = Set(endpoint.problems).union([400, 413])
        if endpoint.access != .open { all.formUnion([401, 403]) }
        if endpoint.parameters.contains(where: { $0.place == .path }) { all.insert(404) }
        if endpoint.body != nil { all.insert(415) }
        return all
    }

    private static func text(_ status: Int) -> String {
        switch status {
        case 400: "The request can't be read."
        case 401: "It is not known who asks."
        case 403: "The caller may not."
        case 404: "There is no such thing."
        case 409: "It was changed meanwhile, or something forbids it."
        case 412: "It is not at the revision that If-Match says."
        case 413: "The request is too large."
        case 415: "The content type is not understood."
        case 422: "What would come out is wrong."
        case 502: "Another node can't be reached, or refused."
        case 503: "The cluster can't agree at the moment."
        default: "It did not work."
        }
    }
}
