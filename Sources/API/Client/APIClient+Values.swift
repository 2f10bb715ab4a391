// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import Topology

/// What a node refused, as it told it.
public struct APIRefusal: Error, Sendable, CustomStringConvertible {
    /// The HTTP status.
    public var status: Int
    /// The kind, as in `conflict`.
    public var type: String
    /// What happened.
    public var detail: String
    /// What is wrong with which object.
    public var problems: [Problem]

    /// What happened, and what to do.
    public var description: String {
        if problems.isEmpty { return detail }
        return problems.map { problem in
            let object = problem.object.isEmpty ? "" : "\(problem.object): "
            return "\(object)\(problem.reason)\n    \(problem.remedy)"
        }
        .joined(separator: "\n")
    }
}

extension APIClient {
    /// Asks, and throws what is no success.
    @discardableResult
    public func call(
        _ method: String, _ path: String, query: [(String, String)] = [], headers: [(String, String)] = [],
        body: [UInt8] = [], type: String = "application/json"
    ) async throws -> Response {
        let response = try await send(method, path, query: query, headers: headers, body: body, type: type)
        guard (200..<300).contains(response.status) else { throw APIClient.refusal(response) }
        return response
    }

    /// Asks for a value.
    public func value<Value: Decodable>(
        _ method: String, _ path: String, query: [(String, String)] = [], body: (any Encodable & Sendable)? = nil,
        as type: Value.Type = Value.self
    ) async throws -> Value {
        let bytes = try body.map { Array(try JSONEncoder().encode($0)) } ?? []
        let response = try await call(method, path, query: query, body: bytes)
        do { return try JSONDecoder().decode(type, from: Data(response.body)) } catch {
            throw ClientError("the node answered what this version does not understand: \(error)")
        }
    }

    /// The refusal in an answer.
    public static func refusal(_ response: Response) -> APIRefusal {
        struct Wire: Decodable {
            struct Item: Decodable {
                var object: String
                var reason: String
                var remedy: String
            }
            var type: String
            var detail: String
            var problems: [Item]?
        }
        guard let wire = try? JSONDecoder().decode(Wire.self, from: Data(response.body)) else {
            let text = String(decoding: response.body.prefix(200), as: UTF8.self)
            return APIRefusal(
                status: response.status, type: "", detail: "status \(response.status): \(text)", problems: [])
        }
        return APIRefusal(
            status: response.status, type: wire.type.split(separator: ":").last.map(String.init) ?? wire.type,
            detail: wire.detail,
            problems: (wire.problems ?? []).map { Problem($0.object, $0.reason, remedy: $0.remedy) })
    }
}
