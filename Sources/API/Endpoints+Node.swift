// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTPTypes
import NIOCore
import Store
import Topology

/// One node: health, and what its tools show.
struct NodeEndpoints {
    let node: any NodeInterface

    var all: [Endpoint] {
        [health, ready, metrics, status, flows, datapath, state, replication, tunnels, uplinks, rules, trace]
    }

    private var health: Endpoint {
        Endpoint(
            method: .get, path: "/healthz", id: "health", tag: "node",
            summary: "Whether the node lives.", access: .open,
            answers: [
                .init(
                    status: 200, text: "It lives.",
                    schema: .object([.init("status", .string(values: ["ok"]), required: true, "`ok`.")]))
            ]
        ) { _ in try .json(["status": "ok"]) }
    }

    private var ready: Endpoint {
        Endpoint(
            method: .get, path: "/readyz", id: "ready", tag: "node",
            summary: "Whether the node knows the topology, forwards by it, and hears a leader.", access: .open,
            answers: [
                .init(
                    status: 200, text: "It is ready.",
                    schema: .object([.init("status", .string(values: ["ready"]), required: true, "`ready`.")]))
            ], problems: [503]
        ) { [node] _ in
            if let reason = await node.whyNotReady() { throw APIError(503, "not-ready", "Not ready", reason) }
            return try .json(["status": "ready"])
        }
    }

    private var metrics: Endpoint {
        Endpoint(
            method: .get, path: "/metrics", id: "metrics", tag: "node",
            summary:
                "Figures of the node in the text format of Prometheus: bounds and how full they are, delays, drops.",
            access: .known, parameters: [NodeEndpoints.host],
            answers: [.init(status: 200, text: "The figures.", type: "text/plain", schema: .string())],
            problems: [403, 404, 502, 503]
        ) { [node] call in
            // They name tenants.
            try call.mayRead(nil)
            guard case .metrics(let text) = try await node.answer(.metrics, host: call.query["host"]) else {
                throw APIError(502, "node", "The node can't answer that", "it is of another version: upgrade it")
            }
            return Reply(status: 200, type: MetricsText.type, body: .bytes(ByteBuffer(string: text)))
        }
    }

    private static let host = Endpoint.Parameter.query(
        "host", .string(), "Ask the node of this host; this node unless said.")
    /// The node answers with more than is told here; it is for Selvage's own tools, and may grow.
    private static let anything = Schema.any

    private func tool(_ name: String, _ summary: String, _ request: NodeRequest) -> Endpoint {
        Endpoint(
            method: .get, path: "/v1/node/\(name)", id: "node-\(name)", tag: "node", summary: summary,
            access: .operator,
            parameters: [NodeEndpoints.host],
            answers: [.init(status: 200, text: "The answer.", schema: NodeEndpoints.anything)],
            problems: [404, 502, 503]
        ) { [node] call in
            try NodeEndpoints.reply(try await node.answer(request, host: call.query["host"]))
        }
    }

    private var status: Endpoint { tool("status", "How a node is: datapath, ports, problems.", .status) }
    private var flows: Endpoint { tool("flows", "The flows that are installed, with what they carried.", .flows) }
    private var datapath: Endpoint { tool("datapath", "Ports, counters, and why packets were dropped.", .datapath) }

    private var state: Endpoint {
        Endpoint(
            method: .get, path: "/v1/node/state", id: "node-state", tag: "node",
            summary: "Connections that a node knows, a thousand at most.", access: .operator,
            parameters: [
                .query(
                    "matching", .string(),
                    "Only connections of whose text this is part, as in `10.0.0.1` or `acme/web`."),
                NodeEndpoints.host,
            ], answers: [.init(status: 200, text: "The answer.", schema: NodeEndpoints.anything)],
            problems: [404, 502, 503]
        ) { [node] call in
            try NodeEndpoints.reply(
                try await node.answer(.state(matching: call.query["matching"]), host: call.query["host"]))
        }
    }

    private var replication: Endpoint {
        tool("replication", "How a node's flow state and that of the other nodes agree.", .replication)
    }

    private var tunnels: Endpoint {
        tool("tunnels", "How the tunnels from a node's host to the other hosts are.", .tunnels)
    }

    private var uplinks: Endpoint {
        tool("uplinks", "How the uplinks of a node's host and their sessions with routers outside are.", .uplinks)
    }

    private var rules: Endpoint {
        Endpoint(
            method: .get, path: "/v1/node/rules", id: "node-rules", tag: "node",
            summary: "What rules of chains, security groups and translations matched on a node since it started.",
            access: .operator,
            parameters: [
                .query("matching", .string(), "Only rules of whose line this is part, as in `acme/web` or `drop`."),
                NodeEndpoints.host,
            ], answers: [.init(status: 200, text: "The answer.", schema: NodeEndpoints.anything)],
            problems: [404, 502, 503]
        ) { [node] call in
            try NodeEndpoints.reply(
                try await node.answer(.rules(matching: call.query["matching"]), host: call.query["host"]))
        }
    }

    /// Services that a trace follows a packet through.
    private static let mostDetours = 16

    private var trace: Endpoint {
        Endpoint(
            method: .get, path: "/v1/node/trace", id: "node-trace", tag: "node",
            summary: "What happens to a packet, step by step. Nothing is sent.", access: .operator,
            parameters: [
                .query("port", .string(), "Where it comes in, `tenant/device/port`."),
                .query(
                    "packet", .string(),
                    "The packet, about as tcpdump prints it, or `frame` and its bytes in hexadecimal."),
                NodeEndpoints.host,
            ], answers: [.init(status: 200, text: "The answer.", schema: NodeEndpoints.anything)],
            problems: [404, 422, 502, 503]
        ) { [node] call in
            guard let port = call.query["port"], let packet = call.query["packet"] else {
                throw APIError.badRequest("port and packet are needed")
            }
            // Packets begin at the host of the port; where that is not known, this node says what is wrong.
            func ask(_ port: String, _ packet: String, host: String? = nil) async throws -> NodeResponse {
                var host = host
                if host == nil, let path = PortPath(port),
                    case .exterior(let owner, _)? = node.replica.state.topology.ports[path]?.attachment
                {
                    host = owner
                }
                return try await node.answer(.trace(port: port, packet: packet), host: host)
            }
            let first = try await ask(port, packet, host: call.query["host"])
            guard case .trace(var answer) = first else { return try NodeEndpoints.reply(first) }
            // Through services and on.
            var left = answer.detours
            while !left.isEmpty, answer.next.count < NodeEndpoints.mostDetours {
                let detour = left.removeFirst()
                guard case .trace(let next) = try await ask(detour.port, "frame \(detour.frame)") else { continue }
                answer.next.append(next)
                left += next.detours
            }
            return try NodeEndpoints.reply(.trace(answer))
        }
    }

    private static func reply(_ response: NodeResponse) throws -> Reply {
        switch response {
        case .failure(let reason): throw APIError(422, "invalid", "The node can't answer that", reason)
        case .status(let answer): try .json(answer)
        case .flows(let answer): try .json(answer)
        case .datapath(let answer): try .json(answer)
        case .trace(let answer): try .json(answer)
        case .state(let answer): try .json(answer)
        case .replication(let answer): try .json(answer)
        case .rules(let answer): try .json(answer)
        case .tunnels(let answer): try .json(answer)
        case .uplinks(let answer): try .json(answer)
        case .members(let answer): try .json(answer)
        case .metrics(let text): try .json(text)
        }
    }
}
