// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import Store
import Topology

/// One page of a list.
struct Page: Encodable {
    /// The revision of the topology that it is of.
    var revision: UInt64
    var items: [Resource]
    /// Where the next page goes on; none: this was the last.
    var next: String?
}

/// What a change came to.
public struct ChangeAnswer: Codable, Sendable {
    /// The revision of the topology after it.
    public var revision: UInt64
    /// Who forwards by it, if that was waited for.
    public var wait: WaitAnswer?
}

extension ObjectKey.Kind.Naming {
    /// Names that make up one.
    var parts: Int {
        switch self {
        case .plain: 1
        case .ofTenant: 2
        case .ofDevice: 3
        }
    }
}

extension ObjectKey.Kind {
    /// The path of one object of the kind.
    var path: String {
        switch naming {
        case .ofTenant: "/v1/\(plural)/{tenant}/{name}"
        case .ofDevice: "/v1/\(plural)/{tenant}/{device}/{name}"
        case .plain: "/v1/\(plural)/{name}"
        }
    }

    var parameters: [Endpoint.Parameter] {
        switch naming {
        case .ofTenant: [.path("tenant", "The tenant."), .path("name", "The \(words)'s own name.")]
        case .ofDevice:
            [.path("tenant", "The tenant."), .path("device", "The device."), .path("name", "The \(words)'s own name.")]
        case .plain: [.path("name", "Its name.")]
        }
    }

    func key(_ call: Call) throws(APIError) -> ObjectKey {
        let name =
            switch naming {
            case .ofTenant: "\(call.part("tenant"))/\(call.part("name"))"
            case .ofDevice: "\(call.part("tenant"))/\(call.part("device"))/\(call.part("name"))"
            case .plain: call.part("name")
            }
        guard let key = ObjectKey(self, name) else { throw .notFound("\(rawValue) \(name)") }
        return key
    }
}

/// Reading and changing the topology's objects, the same for each kind.
struct ObjectEndpoints {
    let node: any NodeInterface

    var all: [Endpoint] {
        ObjectKey.Kind.allCases.flatMap { [list($0), create($0), read($0), replace($0), delete($0)] }
    }

    /// The state to answer from.
    static func state(_ call: Call, _ node: any NodeInterface) async throws -> ClusterState {
        if try !call.flag("stale") { try await node.replica.barrier() }
        return node.replica.state
    }

    /// Has a change made; returns its revision.
    static func submit(
        _ operations: [Transaction.Operation], _ preconditions: [Transaction.Precondition],
        _ node: any NodeInterface
    ) async throws -> UInt64 {
        switch try await node.replica.submit(operations, preconditions: preconditions) {
        case .done(let revision): return revision
        case .failed(let failure, let problems): throw APIError(failure, problems)
        }
    }

    /// Waits for the nodes, if that is wanted.
    static func wait(_ call: Call, _ revision: UInt64, _ node: any NodeInterface) async throws -> WaitAnswer? {
        guard try call.flag("wait") else { return nil }
        let seconds = try call.number("waitSeconds", 1...300) ?? 10
        return await node.wait(for: revision, seconds: Double(seconds))
    }

    // MARK: - Reading

    private func list(_ kind: ObjectKey.Kind) -> Endpoint {
        var parameters: [Endpoint.Parameter] = [
            .query("limit", .integer(1...5000), "Objects in one answer; 500 unless said."),
            .query(
                "after", .name(kind.naming.parts),
                "Go on behind the object of this name: `next` of the page before."), .stale,
        ]
        if kind.naming != .plain {
            parameters.insert(.query("tenant", .string(), "Only what belongs to this tenant."), at: 0)
        }
        if kind == .port {
            parameters.insert(.query("device", .string(), "Only ports of this device, `tenant/device`."), at: 1)
            parameters.insert(.query("host", .string(), "Only ports on this host."), at: 2)
        }
        return Endpoint(
            method: .get, path: "/v1/\(kind.plural)", id: "list-\(kind.plural)", tag: kind.plural,
            summary: "List \(kind.plural), in order of name.", access: .known, parameters: parameters,
            answers: [.init(status: 200, text: "A page.", schema: Schemas.page(kind))], problems: [400, 503]
        ) { [node] call in
            let limit = try call.number("limit", 1...5000) ?? 500
            if case .tenant(let own)? = call.caller.role, call.query["tenant"] != own {
                throw APIError(
                    403, "forbidden", "You may not", "\(call.caller.name) sees tenant \(own) only: say tenant=\(own)")
            }
            if kind.naming == .plain { try call.mayRead(nil) }
            let state = try await ObjectEndpoints.state(call, node)
            var keys = ObjectEndpoints.keys(kind, call, state.topology)
            if let after = call.query["after"] {
                guard let last = ObjectKey(kind, after) else {
                    throw APIError(
                        400, "bad-request", "The request can't be read",
                        "after=\(after): not the name of a \(kind.rawValue)")
                }
                keys.removeAll { $0 <= last }
            }
            let page = keys.prefix(limit)
            return try .json(
                Page(
                    revision: state.topology.revision,
                    items: page.compactMap { key in
                        state.topology[key].map { Resource($0.seen(by: call.caller), state.version(of: key)) }
                    }, next: keys.count > limit ? page.last?.name : nil))
        }
    }

    /// Keys in order of name, of what the filters leave.
    private static func keys(_ kind: ObjectKey.Kind, _ call: Call, _ topology: Topology) -> [ObjectKey] {
        let tenant = call.query["tenant"]
        func isWanted(_ path: DevicePath) -> Bool { tenant == nil || path.tenant == tenant }
        let keys: [ObjectKey]
        switch kind {
        case .bridge: keys = topology.bridges.keys.filter(isWanted).map(ObjectKey.bridge)
        case .router: keys = topology.routers.keys.filter(isWanted).map(ObjectKey.router)
        case .host: keys = topology.hosts.keys.map(ObjectKey.host)
        case .zone: keys = topology.zones.keys.map(ObjectKey.zone)
        case .chain: keys = topology.chains.keys.filter(isWanted).map(ObjectKey.chain)
        case .portGroup: keys = topology.portGroups.keys.filter(isWanted).map(ObjectKey.portGroup)
        case .addressGroup: keys = topology.addressGroups.keys.filter(isWanted).map(ObjectKey.addressGroup)
        case .securityGroup: keys = topology.securityGroups.keys.filter(isWanted).map(ObjectKey.securityGroup)
        case .pool: keys = topology.pools.keys.filter(isWanted).map(ObjectKey.pool)
        case .mirror: keys = topology.mirrors.keys.filter(isWanted).map(ObjectKey.mirror)
        case .tenant: keys = topology.settings.keys.map(ObjectKey.tenant)
        case .port:
            let paths: [PortPath]
            if let host = call.query["host"] {
                paths = topology.ports.bound(to: host).values.flatMap(\.self)
            } else if let device = call.query["device"] {
                paths = DevicePath(device).map { topology.ports.ports(of: $0).map(\.path) } ?? []
            } else {
                paths = Array(topology.ports.keys)
            }
            let device = call.query["device"]
            keys = paths.filter { isWanted($0.device) && (device == nil || $0.device.description == device) }
                .map(ObjectKey.port)
        }
        return keys.map { ($0, $0.name) }.sorted { $0.1 < $1.1 }.map(\.0)
    }

    private func read(_ kind: ObjectKey.Kind) -> Endpoint {
        Endpoint(
            method: .get, path: kind.path, id: "get-\(kind.rawValue)", tag: kind.plural,
            summary: "One \(kind.rawValue).", access: .known, parameters: kind.parameters + [.stale],
            answers: [.init(status: 200, text: "The \(kind.rawValue).", schema: Schemas.object(kind))],
            problems: [404, 503]
        ) { [node] call in
            let key = try kind.key(call)
            try call.mayRead(key.tenant)
            let state = try await ObjectEndpoints.state(call, node)
            return try ObjectEndpoints.reply(key, state, 200, caller: call.caller)
        }
    }

    private static func reply(
        _ key: ObjectKey, _ state: ClusterState, _ status: Int, _ wait: WaitAnswer? = nil, caller: Caller
    ) throws -> Reply {
        guard let object = state.topology[key] else { throw APIError.notFound("\(key)") }
        let version = state.version(of: key)
        var headers = [("ETag", "\"\(version?.modified ?? 0)\"")]
        if status == 201 { headers.append(("Location", "/v1/\(key.kind.plural)/\(key.name)")) }
        if let wait {
            headers.append(("Selvage-Applied", wait.applied.joined(separator: ",")))
            headers.append(("Selvage-Lagging", wait.lagging.joined(separator: ",")))
            headers.append(("Selvage-Unreachable", wait.unreachable.joined(separator: ",")))
        }
        return try .json(Resource(object.seen(by: caller), version), status: status, headers: headers)
    }

    // MARK: - Changing

    private func create(_ kind: ObjectKey.Kind) -> Endpoint {
        Endpoint(
            method: .post, path: "/v1/\(kind.plural)", id: "create-\(kind.rawValue)", tag: kind.plural,
            summary: "Make a \(kind.rawValue) that is not there yet.", access: .known,
            parameters: [.wait, .waitSeconds],
            body: .init(type: "application/json", schema: Schemas.object(kind)),
            answers: [.init(status: 201, text: "It was made.", schema: Schemas.object(kind))],
            problems: [409, 422, 503]
        ) { [node] call in
            let name = try ObjectEndpoints.name(kind, call)
            guard let name, let key = ObjectKey(kind, name) else {
                throw APIError.invalid(
                    name ?? kind.rawValue, "is not the name of a \(kind.rawValue)",
                    "say name: \(kind == .port ? "tenant/device/port" : kind.naming == .plain ? "a name" : "tenant/name")"
                )
            }
            return try await ObjectEndpoints.put(key, call, [.revision(key, 0)], 201, node)
        }
    }

    private func replace(_ kind: ObjectKey.Kind) -> Endpoint {
        Endpoint(
            method: .put, path: kind.path, id: "put-\(kind.rawValue)", tag: kind.plural,
            summary: "Make a \(kind.rawValue), or replace it.", access: .known,
            parameters: kind.parameters + [.ifMatch, .wait, .waitSeconds],
            body: .init(type: "application/json", schema: Schemas.object(kind)),
            answers: [
                .init(status: 200, text: "It is so now.", schema: Schemas.object(kind)),
                .init(status: 201, text: "It was made.", schema: Schemas.object(kind)),
            ], problems: [404, 409, 412, 422, 503]
        ) { [node] call in
            let key = try kind.key(call)
            if let name = try ObjectEndpoints.name(kind, call), name != key.name {
                throw APIError.invalid(key.name, "the body is of \(name)", "leave name out, or say \(key.name)")
            }
            let condition = try ObjectEndpoints.condition(key, call)
            let isNew = node.replica.state.version(of: key) == nil
            return try await ObjectEndpoints.put(key, call, condition, isNew ? 201 : 200, node)
        }
    }

    /// The name in a body.
    private static func name(_ kind: ObjectKey.Kind, _ call: Call) throws(APIError) -> String? {
        struct Named: Decodable { var name: String? }
        return try call.decode(Named.self).name
    }

    private static func condition(_ key: ObjectKey, _ call: Call) throws(APIError) -> [Transaction.Precondition] {
        guard let text = call.ifMatch else { return [] }
        guard let revision = UInt64(text) else {
            throw APIError.badRequest("If-Match is \"\(text)\": use the revision that was read")
        }
        return [.revision(key, revision)]
    }

    /// The object that a body is.
    static func object(_ key: ObjectKey, _ call: Call, _ topology: Topology) throws(APIError) -> TopologyObject {
        switch key {
        case .bridge(let path): try call.decode(BridgeResource.self).object(path)
        case .router(let path): try call.decode(RouterResource.self).object(path)
        case .port(let path): try call.decode(PortResource.self).object(path, in: topology)
        case .host(let name): try call.decode(HostResource.self).object(name)
        case .zone(let name): try call.decode(ZoneResource.self).object(name)
        case .chain(let path): try call.decode(ChainResource.self).object(path)
        case .portGroup(let path): try call.decode(PortGroupResource.self).object(path)
        case .addressGroup(let path): try call.decode(AddressGroupResource.self).object(path)
        case .securityGroup(let path): try call.decode(SecurityGroupResource.self).object(path)
        case .pool(let path): try call.decode(PoolResource.self).object(path)
        case .mirror(let path): try call.decode(MirrorResource.self).object(path)
        case .tenant(let name): try call.decode(TenantResource.self).object(name)
        }
    }

    private static func put(
        _ key: ObjectKey, _ call: Call, _ conditions: [Transaction.Precondition], _ status: Int,
        _ node: any NodeInterface
    ) async throws -> Reply {
        try call.mayWrite(key.tenant)
        let topology = node.replica.state.topology
        let object = try object(key, call, topology)
        try call.mayPut(object, topology)
        let revision: UInt64
        do { revision = try await submit([.put(object)], conditions, node) } catch let error as APIError {
            // What the caller said must be so is a precondition; that it must not be there yet is not.
            if error.type == "conflict", call.ifMatch != nil {
                throw APIError(412, error.type, error.title, error.detail, problems: error.problems)
            }
            throw error
        }
        let waited = try await wait(call, revision, node)
        return try reply(key, node.replica.state, status, waited, caller: call.caller)
    }

    /// What a device can't be taken away with, in words; `nil` when it is empty.
    private static func ports(of key: ObjectKey, _ state: ClusterState) -> String? {
        let device: DevicePath
        switch key {
        case .bridge(let path), .router(let path): device = path
        default: return nil
        }
        let names = state.topology.ports(of: device).filter { !$0.isMonitor }.map(\.path.name)
        if names.isEmpty { return nil }
        let listed = names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", ..." : "")
        return "\(names.count) port\(names.count == 1 ? "" : "s"): \(listed)"
    }

    /// What takes an object away: a router's own port for checks goes with it.
    static func deletion(_ key: ObjectKey, _ cascade: Bool, _ topology: Topology) -> [Transaction.Operation] {
        var own: [PortPath] = []
        switch key {
        case .router(let path) where !cascade:
            let port = PortPath(device: path, name: Port.monitorName)
            if topology.ports[port] != nil { own = [port] }
        case .host(let name):
            // Others check from then on.
            own = topology.ports.bound(to: name).values.flatMap { $0 }.filter(\.isMonitor).sorted()
        default: break
        }
        return own.map { .delete(.port($0), cascade: false) } + [.delete(key, cascade: cascade)]
    }

    /// Takes an object away, with what the cluster has made of it: that may come and go meanwhile.
    private static func delete(
        _ key: ObjectKey, _ cascade: Bool, _ conditions: [Transaction.Precondition], _ node: any NodeInterface
    ) async throws -> UInt64 {
        for _ in 0..<3 {
            let operations = deletion(key, cascade, node.replica.state.topology)
            do { return try await submit(operations, conditions, node) } catch {
                // What it was refused by is known here by now.
                let now = deletion(key, cascade, node.replica.state.topology)
                if now.count == operations.count { throw error }
            }
        }
        return try await submit(deletion(key, cascade, node.replica.state.topology), conditions, node)
    }

    private func delete(_ kind: ObjectKey.Kind) -> Endpoint {
        Endpoint(
            method: .delete, path: kind.path, id: "delete-\(kind.rawValue)", tag: kind.plural,
            summary: "Take a \(kind.rawValue) away.", access: .known,
            parameters: kind.parameters + [
                .query(
                    "cascade", .boolean, "Also take away what can't be without it: ports, and the other ends of links."),
                .ifMatch, .wait, .waitSeconds,
            ], answers: [.init(status: 200, text: "It is gone.", schema: Schemas.change)],
            problems: [404, 409, 412, 422, 503]
        ) { [node] call in
            let key = try kind.key(call)
            try call.mayWrite(key.tenant)
            let cascade = try call.flag("cascade")
            try call.mayDelete(key, cascade: cascade, node.replica.state.topology)
            let conditions = try ObjectEndpoints.condition(key, call)
            let revision: UInt64
            do {
                revision = try await ObjectEndpoints.delete(key, cascade, conditions, node)
            } catch let error as APIError {
                if error.type == "conflict", call.ifMatch != nil {
                    throw APIError(412, error.type, error.title, error.detail, problems: error.problems)
                }
                if !cascade, error.type == "invalid", let left = ObjectEndpoints.ports(of: key, node.replica.state) {
                    throw APIError.invalid(key.name, "has \(left)", "delete them first, or with it: cascade")
                }
                throw error
            }
            return try .json(
                ChangeAnswer(revision: revision, wait: try await ObjectEndpoints.wait(call, revision, node)))
        }
    }
}
