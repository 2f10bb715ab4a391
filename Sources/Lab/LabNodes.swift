// SPDX-License-Identifier: Apache-2.0
import API
import Foundation
import Glibc
import Linux
import Node
import Store

/// The nodes of a lab as its supervisor asks them: over their Unix sockets, and from threads that may wait.
struct LabNodes: Sendable {
    let directory: LabDirectory

    /// Port of nodes for each other, and for clients, on every host of a lab.
    static let peerPort = 7420
    static let apiPort = 7421

    private func client(_ host: String, seconds: Int64 = 30) -> APIClient {
        APIClient(.socket(directory.nodeSocket(host)), timeoutSeconds: seconds)
    }

    /// Waits for what is asynchronous. Never call it from a thread that is in another network namespace.
    static func wait<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value {
        let reply = Reply<Result<Value, any Error>>()
        Task {
            do { reply.put(.success(try await body())) } catch { reply.put(.failure(error)) }
        }
        return try reply.take().get()
    }

    func status(_ host: String) -> StatusAnswer? {
        try? LabNodes.wait { try await client(host, seconds: 3).value("GET", "/v1/node/status") }
    }

    func cluster(_ host: String) -> ClusterAnswer? {
        try? LabNodes.wait { try await client(host, seconds: 3).value("GET", "/v1/cluster") }
    }

    /// Whether a node has heard the flow state of all others.
    func hearsAll(_ host: String) -> Bool {
        let answer: ReplicationAnswer? = try? LabNodes.wait {
            try await client(host, seconds: 3).value("GET", "/v1/node/replication")
        }
        return answer?.peers.allSatisfy { $0.heardSeconds != nil } == true
    }

    /// Why a node gets no work yet; `nil` when it is ready.
    func whyNotReady(_ host: String) -> String? {
        do {
            return try LabNodes.wait {
                let answer = try await client(host, seconds: 3).send("GET", "/readyz")
                return answer.status == 200 ? nil : APIClient.refusal(answer).detail
            }
        } catch { return "\(error)" }
    }

    func token(_ host: String) throws -> String {
        let answer: TokenAnswer = try LabNodes.wait {
            try await client(host).value("POST", "/v1/cluster/tokens", body: TokenRequest(seconds: 600, role: nil))
        }
        guard let token = answer.token else {
            throw LabError("\(host) made no token", "see \(directory.nodeLog(host))")
        }
        return token
    }

    func remove(_ node: String, asking host: String) throws {
        _ = try LabNodes.wait {
            try await client(host).call("DELETE", "/v1/cluster/nodes/\(node)", query: [("force", "true")])
        }
    }

    /// Makes the cluster what a manifest draws, or only finds out whether that can be.
    func apply(_ text: String, file: String, asking host: String, dryRun: Bool = false) throws {
        let answer: PlanAnswer = try LabNodes.wait {
            let response = try await client(host).call(
                "POST", "/v1/apply", query: [("file", file), ("lab", "true"), (dryRun ? "dryRun" : "wait", "true")],
                body: Array(text.utf8),
                type: "application/yaml")
            return try JSONDecoder().decode(PlanAnswer.self, from: Data(response.body))
        }
        if let late = answer.wait?.lagging, !late.isEmpty {
            throw LabError(
                "\(late.joined(separator: ", ")) did not put revision \(answer.revision) in force in time",
                "their logs are \(late.map { directory.nodeLog($0) }.joined(separator: ", "))")
        }
    }
}
