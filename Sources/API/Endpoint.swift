// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTPTypes
import NIOCore
import Store
import Topology

/// Who asks.
struct Caller: Sendable {
    /// A name for the log.
    var name: String
    /// What the caller may do; `nil`: nothing is known of it.
    var role: AccessRole?
}

/// A request that was read.
struct Call: Sendable {
    var caller: Caller
    /// Parts of the path by name.
    var path: [String: String]
    /// What stands behind the question mark; of two of one name the first.
    var query: [String: String]
    /// `If-Match`, without quotes.
    var ifMatch: String?
    var body: ByteBuffer
    /// Whether the caller still is who it was: keys end, nodes are removed.
    var isStillKnown: @Sendable () -> Bool = { true }

    func part(_ name: String) -> String { path[name] ?? "" }

    func flag(_ name: String) throws(APIError) -> Bool {
        switch query[name] {
        case nil, "false"?: return false
        case "true"?: return true
        case let other?: throw .badRequest("\(name) is \"\(other)\": use true or false")
        }
    }

    func number(_ name: String, _ range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let text = query[name] else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw .badRequest("\(name) is \"\(text)\": use \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The body as a value of a type.
    func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws(APIError) -> Value {
        do { return try JSONDecoder().decode(type, from: Data(body.readableBytesView)) } catch {
            throw .badRequest("the body is not what is expected: \(error)")
        }
    }

    /// Makes sure that the caller may see everything, or what belongs to a tenant.
    func mayRead(_ tenant: String?) throws(APIError) {
        switch caller.role {
        case .operator?, .viewer?: return
        case .tenant(let own)?: if tenant == own { return }
        case nil: break
        }
        throw .init(403, "forbidden", "You may not", "\(caller.name) may not see this")
    }

    /// Makes sure that the caller may make an object what it is to be. What a host's interface is used for is the operator's.
    func mayPut(_ object: TopologyObject, _ topology: Topology) throws(APIError) {
        if case .port(let port) = object, port.isMonitor {
            throw .invalid(
                port.path.description, "is the port that the cluster checks members of pools by", "choose another name")
        }
        guard case .tenant? = caller.role else { return }
        func refusal(_ text: String) -> APIError {
            .init(403, "forbidden", "You may not", "\(caller.name) may not \(text)")
        }
        switch object {
        case .bridge(let bridge):
            let resolvers = bridge.names?.resolvers ?? []
            if !resolvers.isEmpty, topology.bridges[bridge.path]?.names?.resolvers != resolvers {
                throw refusal("name servers that hosts ask: \(bridge.path) dns forward is the operator's")
            }
        case .port(let port):
            let known = topology.ports[port.path]
            if port.quality != known?.quality ?? PortQuality() {
                throw refusal(
                    "change what \(port.path) may send and get: qos is the operator's, leave it as it is")
            }
            // What the operator put in the way neither comes nor goes by the tenant.
            func others(_ services: [ServiceHop]?) -> [ServiceHop] {
                (services ?? []).filter { $0.ports.contains { $0.device.tenant != port.path.device.tenant } }
            }
            if others(port.services) != others(known?.services) {
                throw refusal(
                    "change services of \(port.path) at ports of other tenants: that is the operator's, leave them as they are"
                )
            }
            if port.segment != known?.segment || known?.segment != nil && port.vlan != known?.vlan
                || known?.vxlan != nil && port.vlan != known?.vlan
            {
                throw refusal(
                    "change segment and VLANs of \(port.path): what leads outside is the operator's, leave them as they are"
                )
            }
            if port.vxlan != known?.vxlan {
                throw refusal(
                    "change vxlan of \(port.path): end points outside are the operator's, leave them as they are")
            }
            // It is a program on the host, and what it says is said to the world.
            if port.uplink != known?.uplink {
                throw refusal(
                    "change peers, snippet and daemon of \(port.path): uplinks are the operator's, leave them as they are"
                )
            }
            if case .exterior = port.attachment, known?.attachment != port.attachment {
                throw refusal("bind \(port.path) to an interface: that is the operator's")
            }
        case .router(let router):
            if router.bgp != topology.routers[router.path]?.bgp {
                throw refusal("change bgp of \(router.path): that is the operator's, leave it as it is")
            }
        case .mirror(let mirror):
            switch mirror.target {
            case .port(let port) where port.device.tenant == mirror.path.tenant: break
            case .port(let port): try mayWrite(port.device.tenant)
            case .gre, .erspan, .ipfix:
                // To look at more packets is work for all who share the hosts.
                if mirror.target.isRecord, var known = topology.mirrors[mirror.path], known.target == mirror.target {
                    known.isEnabled = mirror.isEnabled
                    if known != mirror {
                        throw refusal(
                            "change what \(mirror.path) tells of: that is the operator's; you may switch it on and off")
                    }
                }
                if topology.mirrors[mirror.path]?.target != mirror.target {
                    throw refusal("have hosts send copies to \(mirror.target): that is the operator's")
                }
            }
        default: break
        }
    }

    /// Makes sure that the caller may delete what goes with an object: the far ends of links may be others'.
    func mayDelete(_ key: ObjectKey, cascade: Bool, _ topology: Topology) throws(APIError) {
        guard cascade, case .tenant? = caller.role else { return }
        let ports: [Port] =
            switch key {
            case .port(let path): topology.ports[path].map { [$0] } ?? []
            case .bridge(let path), .router(let path): Array(topology.ports.linked(of: path))
            case .host, .zone, .chain, .portGroup, .addressGroup, .securityGroup, .pool, .mirror, .tenant: []
            }
        for port in ports {
            if case .peer(let other) = port.attachment { try mayWrite(other.device.tenant) }
        }
    }

    /// Makes sure that the caller may change what belongs to a tenant, or to the operator.
    func mayWrite(_ tenant: String?) throws(APIError) {
        switch caller.role {
        case .operator?: return
        case .tenant(let own)?: if tenant == own { return }
        case .viewer?, nil: break
        }
        throw .init(
            403, "forbidden", "You may not",
            "\(caller.name) may not change \(tenant.map { "what belongs to tenant \($0)" } ?? "this")")
    }
}

/// What is answered.
struct Reply: Sendable {
    enum Body: Sendable {
        case none
        case bytes(ByteBuffer)
        case stream(@Sendable (@Sendable (ByteBuffer) async throws -> Void) async throws -> Void)
    }
    var status: Int
    var type: String
    var headers: [(String, String)] = []
    var body: Body

    static let empty = Reply(status: 204, type: "", body: .none)

    static func json(_ value: some Encodable, status: Int = 200, headers: [(String, String)] = []) throws -> Reply {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Reply(
            status: status, type: "application/json", headers: headers,
            body: .bytes(ByteBuffer(bytes: try encoder.encode(value))))
    }

    static func error(_ error: APIError) -> Reply {
        var members: [String: JSON] = [
            "type": .string("urn:selvage:problem:\(error.type)"), "title": .string(error.title),
            "status": .integer(error.status), "detail": .string(error.detail),
        ]
        if !error.problems.isEmpty {
            members["problems"] = .array(
                error.problems.map {
                    ["object": .string($0.object), "reason": .string($0.reason), "remedy": .string($0.remedy)]
                })
        }
        var reply =
            (try? Reply.json(JSON.object(members), status: error.status))
            ?? Reply(status: error.status, type: "", body: .none)
        reply.type = "application/problem+json"
        if error.status == 401 { reply.headers.append(("WWW-Authenticate", "Bearer realm=\"selvage\"")) }
        if error.status == 503 { reply.headers.append(("Retry-After", "1")) }
        return reply
    }
}

/// One thing that can be asked: how it is found, how it is told in OpenAPI, and what does it. The document is made from what
/// is served, so that it is true.
struct Endpoint: Sendable {
    /// Who may ask at all; what of it is then seen or changed, the handler looks after.
    enum Access: Sendable {
        /// Anybody.
        case open
        /// Whoever has a role.
        case known
        /// Operators.
        case `operator`
    }

    struct Parameter: Sendable {
        enum Place: String, Sendable {
            case path
            case query
            case header
        }
        var name: String
        var place: Place
        var schema: Schema
        var text: String
    }

    struct Body: Sendable {
        var type: String
        var schema: Schema
    }

    struct Answer: Sendable {
        var status: Int
        var text: String
        var type = "application/json"
        var schema: Schema?
    }

    var method: HTTPRequest.Method
    var path: String
    var id: String
    var tag: String
    var summary: String
    var access: Access
    var parameters: [Parameter] = []
    var body: Body?
    var answers: [Answer]
    /// Statuses of problems that may come, besides those that every request may meet.
    var problems: [Int] = []
    var handle: @Sendable (Call) async throws -> Reply

    var segments: [Substring] { path.split(separator: "/") }
}

extension Endpoint.Parameter {
    static func query(_ name: String, _ schema: Schema, _ text: String) -> Self {
        .init(name: name, place: .query, schema: schema, text: text)
    }
    static func path(_ name: String, _ text: String) -> Self {
        .init(name: name, place: .path, schema: .string(), text: text)
    }
    static let stale = query(
        "stale", .boolean, "Answer from what this node knows, without asking the cluster. Works without a quorum.")
    static let wait = query(
        "wait", .boolean, "Answer when all nodes that are up forward by the change, or the time is over.")
    static let waitSeconds = query("waitSeconds", .integer(1...300), "How long to wait; 10 unless said.")
    static let ifMatch = Self(
        name: "If-Match", place: .header, schema: .string(pattern: "^(\"[0-9]{1,18}\"|[0-9]{1,18})$"),
        text: "The revision that the object must have; 0: there must be none.")
}
