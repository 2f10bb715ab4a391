// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTPTypes
import Manifest
import NIOCore
import Store
import Topology

/// What a manifest leads to.
public struct PlanAnswer: Codable, Sendable {
    /// What happens to one object.
    public struct Item: Codable, Sendable {
        /// `create`, `update` or `delete`.
        public var action: String
        /// Its kind.
        public var kind: String
        /// Its name.
        public var name: String
        /// What is different, in words.
        public var changes: [String]
    }
    /// What happens, in order.
    public var items: [Item]
    /// The revision of the topology after it, or of now in a dry run.
    public var revision: UInt64
    /// Whether it was done.
    public var applied: Bool
    /// Who forwards by it, if that was waited for.
    public var wait: WaitAnswer?
    /// What in the manifest counted for nothing.
    public var note: String?
}

/// Several objects at once: transactions, manifests, and what changes.
struct ChangeEndpoints {
    let node: any NodeInterface

    var all: [Endpoint] { [transaction, apply, export, watch] }

    private struct TransactionRequest: Decodable {
        struct Condition: Decodable {
            var kind: String
            var name: String
            var revision: UInt64
        }
        struct Operation: Decodable {
            var kind: String
            var name: String
            var action: String
            var cascade: Bool?
            var bridge: BridgeResource?
            var router: RouterResource?
            var port: PortResource?
            var host: HostResource?
            var zone: ZoneResource?
            var chain: ChainResource?
            var portGroup: PortGroupResource?
            var addressGroup: AddressGroupResource?
            var securityGroup: SecurityGroupResource?
            var pool: PoolResource?
            var mirror: MirrorResource?
            var tenant: TenantResource?
        }
        var preconditions: [Condition]?
        var operations: [Operation]
    }

    private static func key(_ kind: String, _ name: String) throws(APIError) -> ObjectKey {
        guard let kind = ObjectKey.Kind(rawValue: kind), let key = ObjectKey(kind, name) else {
            throw .invalid(name, "is not the name of a \(kind)", "write tenant/device/port, tenant/device or a name")
        }
        return key
    }

    private var transaction: Endpoint {
        Endpoint(
            method: .post, path: "/v1/transactions", id: "transact", tag: "changes",
            summary: "Change several objects: all of them, or none.", access: .known,
            parameters: [.wait, .waitSeconds],
            body: .init(type: "application/json", schema: Schemas.transaction),
            answers: [.init(status: 200, text: "It was done.", schema: Schemas.change)],
            problems: [404, 409, 422, 503]
        ) { [node] call in
            let request: TransactionRequest = try call.decode()
            var conditions: [Transaction.Precondition] = []
            for condition in request.preconditions ?? [] {
                let key = try ChangeEndpoints.key(condition.kind, condition.name)
                try call.mayRead(key.tenant)
                conditions.append(.revision(key, condition.revision))
            }
            var operations: [Transaction.Operation] = []
            let topology = node.replica.state.topology
            for operation in request.operations {
                let key = try ChangeEndpoints.key(operation.kind, operation.name)
                try call.mayWrite(key.tenant)
                let made = try ChangeEndpoints.operation(operation, key, topology)
                if case .put(let object) = made { try call.mayPut(object, topology) }
                if case .delete(_, let cascade) = made { try call.mayDelete(key, cascade: cascade, topology) }
                if case .delete(_, let cascade) = made {
                    operations += ObjectEndpoints.deletion(key, cascade, topology)
                } else {
                    operations.append(made)
                }
            }
            let revision = try await ObjectEndpoints.submit(operations, conditions, node)
            return try .json(
                ChangeAnswer(revision: revision, wait: try await ObjectEndpoints.wait(call, revision, node)))
        }
    }

    private static func operation(
        _ operation: TransactionRequest.Operation, _ key: ObjectKey, _ topology: Topology
    ) throws(APIError) -> Transaction.Operation {
        if operation.action == "delete" { return .delete(key, cascade: operation.cascade ?? false) }
        switch key {
        case .bridge(let path): if let bridge = operation.bridge { return .put(try bridge.object(path)) }
        case .router(let path): if let router = operation.router { return .put(try router.object(path)) }
        case .port(let path): if let port = operation.port { return .put(try port.object(path, in: topology)) }
        case .host(let name): if let host = operation.host { return .put(try host.object(name)) }
        case .zone(let name): if let zone = operation.zone { return .put(try zone.object(name)) }
        case .chain(let path): if let chain = operation.chain { return .put(try chain.object(path)) }
        case .portGroup(let path): if let group = operation.portGroup { return .put(try group.object(path)) }
        case .addressGroup(let path): if let group = operation.addressGroup { return .put(try group.object(path)) }
        case .securityGroup(let path): if let group = operation.securityGroup { return .put(try group.object(path)) }
        case .pool(let path): if let pool = operation.pool { return .put(try pool.object(path)) }
        case .mirror(let path): if let mirror = operation.mirror { return .put(try mirror.object(path)) }
        case .tenant(let name): if let tenant = operation.tenant { return .put(try tenant.object(name)) }
        }
        throw .invalid(
            key.name, "there is nothing to put", "say \(key.kind.rawValue): {...} beside kind, name and action")
    }

    // MARK: - Manifests

    private var apply: Endpoint {
        Endpoint(
            method: .post, path: "/v1/apply", id: "apply", tag: "changes",
            summary: "Make tenants what a manifest draws.", access: .known,
            parameters: [
                .query("dryRun", .boolean, "Only tell what would happen."),
                .query("keep", .boolean, "Devices and ports that the manifest does not draw stay."),
                .query(
                    "lab", .boolean,
                    "The manifest's lab part counts, and tenants that it does not draw go: for whoever runs a lab."),
                .query("file", .string(), "How to call the manifest in errors."), .wait, .waitSeconds,
            ], body: .init(type: "application/yaml", schema: .string()),
            answers: [.init(status: 200, text: "What happens, or happened.", schema: Schemas.plan)],
            problems: [409, 422, 503]
        ) { [node] call in
            // Who may change nothing need not have a manifest read.
            if case .viewer? = call.caller.role { try call.mayWrite(nil) }
            guard let text = String(validating: call.body.readableBytesView, as: UTF8.self) else {
                throw APIError.badRequest("the manifest is not text")
            }
            let dryRun = try call.flag("dryRun")
            let keep = try call.flag("keep")
            // What changed between plan and deed makes a new plan.
            for attempt in 0... {
                try await node.replica.barrier()
                let state = node.replica.state
                let (plan, note) = try ChangeEndpoints.plan(text, call, state, keep)
                let items = plan.items.map {
                    PlanAnswer.Item(
                        action: $0.action.rawValue, kind: $0.key.kind.rawValue, name: $0.key.name, changes: $0.changes)
                }
                if dryRun || plan.isEmpty {
                    let waited = dryRun ? nil : try await ObjectEndpoints.wait(call, state.topology.revision, node)
                    return try .json(
                        PlanAnswer(
                            items: items, revision: state.topology.revision, applied: !dryRun, wait: waited, note: note)
                    )
                }
                let conditions = plan.items.map {
                    Transaction.Precondition.revision($0.key, state.version(of: $0.key)?.modified ?? 0)
                }
                let operations = plan.items.map { item in
                    item.object.map(Transaction.Operation.put) ?? .delete(item.key, cascade: false)
                }
                do {
                    let revision = try await ObjectEndpoints.submit(operations, conditions, node)
                    let waited = try await ObjectEndpoints.wait(call, revision, node)
                    return try .json(
                        PlanAnswer(items: items, revision: revision, applied: true, wait: waited, note: note))
                } catch let error as APIError where error.type == "conflict" && attempt < 5 { continue }
            }
            return .empty
        }
    }

    private static func plan(_ text: String, _ call: Call, _ state: ClusterState, _ keep: Bool) throws -> (
        Plan, note: String?
    ) {
        let isLab = try call.flag("lab")
        let file = call.query["file"] ?? "manifest"
        let manifest: Manifest
        do throws(ManifestError) {
            manifest = try ManifestReader.read(text, file: file, known: state.topology, includesLab: isLab)
        } catch {
            throw APIError(
                422, "invalid", "The manifest is not right", "\(error)",
                problems: error.items.map {
                    Problem(
                        "\(file):\($0.line):\($0.column): \($0.object)", $0.reason, remedy: $0.remedy)
                })
        }
        var tenants = manifest.tenants
        if isLab { tenants.formUnion(state.topology.keys.compactMap(\.tenant)) }
        let plan = Plan(
            from: state.topology, to: manifest.topology, tenants: tenants, others: manifest.others,
            removes: !keep)
        for item in plan.items {
            try call.mayWrite(item.key.tenant)
            if let object = item.object { try call.mayPut(object, state.topology) }
        }
        let note =
            manifest.lab == nil || isLab
            ? nil : "the lab part is for selvage lab: its hosts and machines count for nothing here"
        return (plan, note)
    }

    private var export: Endpoint {
        Endpoint(
            method: .get, path: "/v1/export", id: "export", tag: "changes",
            summary: "The topology as a manifest that makes it again.", access: .known,
            parameters: [.query("tenant", .string(), "Only this tenant's devices."), .stale],
            answers: [.init(status: 200, text: "A manifest.", type: "application/yaml", schema: .any)],
            problems: [503]
        ) { [node] call in
            let tenant = call.query["tenant"]
            try call.mayRead(tenant)
            let state = try await ObjectEndpoints.state(call, node)
            let text = ManifestWriter.write(state.topology.seen(by: call.caller), tenant: tenant)
            return Reply(
                status: 200, type: "application/yaml",
                headers: [("Selvage-Revision", "\(state.topology.revision)")],
                body: .bytes(ByteBuffer(string: text)))
        }
    }

    // MARK: - Watching

    /// One change, as a server-sent event tells it.
    private struct Event: Encodable {
        var action: String
        var kind: String
        var name: String
        var object: Resource?
    }

    private var watch: Endpoint {
        Endpoint(
            method: .get, path: "/v1/watch", id: "watch", tag: "changes",
            summary: "What changes from now on, or after a revision, as server-sent events.", access: .known,
            parameters: [
                .query("revision", .integer(0...Int.max), "Begin after this revision; with now unless said."),
                .query("kind", .string(values: ObjectKey.Kind.allCases.map(\.rawValue)), "Only objects of this kind."),
                .query("tenant", .string(), "Only what belongs to this tenant."),
                .query("seconds", .integer(0...86_400), "End after so long; never unless said."),
            ],
            answers: [
                .init(
                    status: 200,
                    text:
                        "Events `put` and `delete` with id = revision; `progress` says that everything up to a revision was told; `compacted` says that changes after the one that was asked for are not known any more: read everything again.",
                    type: "text/event-stream", schema: .string())
            ], problems: [503]
        ) { [node] call in
            let tenant = call.query["tenant"]
            if case .tenant(let own)? = call.caller.role, tenant != own {
                throw APIError(
                    403, "forbidden", "You may not", "\(call.caller.name) sees tenant \(own) only: say tenant=\(own)")
            }
            var kind: ObjectKey.Kind?
            if let text = call.query["kind"] {
                guard let known = ObjectKey.Kind(rawValue: text) else {
                    throw APIError.badRequest("kind is \"\(text)\": use bridge, router, port, host or zone")
                }
                kind = known
            }
            let start = try call.number("revision", 0...Int.max).map(UInt64.init)
            let seconds = try call.number("seconds", 0...86_400)
            let wanted = kind
            return Reply(
                status: 200, type: "text/event-stream",
                body: .stream { send in
                    try await ChangeEndpoints.follow(
                        node.replica, caller: call.caller, after: start, seconds: seconds,
                        isStillKnown: call.isStillKnown,
                        isWanted: { key in
                            (wanted == nil || key.kind == wanted) && (tenant == nil || key.tenant == tenant)
                        }, send)
                })
        }
    }

    private static func follow(
        _ replica: Replica, caller: Caller, after start: UInt64?, seconds: Int?, isStillKnown: @Sendable () -> Bool,
        isWanted: @Sendable (ObjectKey) -> Bool,
        _ send: @Sendable (ByteBuffer) async throws -> Void
    ) async throws {
        let deadline = seconds.map { ContinuousClock.now + .seconds($0) }
        let news = replica.history.news()
        // A heartbeat keeps what is between from taking the silence for an end.
        let clock = AsyncStream<Void> { continuation in
            let task = Task {
                while !Task.isCancelled {
                    try? await Task.sleep(for: .seconds(min(10, max(1, seconds ?? 10))))
                    continuation.yield()
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
        var revision = start ?? replica.state.topology.revision
        try await send(ByteBuffer(string: "event: progress\nid: \(revision)\ndata: {\"revision\":\(revision)}\n\n"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        for await isNews in merge(news, clock) {
            guard isStillKnown() else { return }
            // On the clock's word, too: news may be dropped while a client does not read.
            switch replica.history.changes(after: revision) {
            case .compacted(let until):
                try await send(
                    ByteBuffer(string: "event: compacted\ndata: {\"revision\":\(until)}\n\n"))
                return
            case .changes(let entries):
                var text = ""
                for entry in entries {
                    for (key, object) in entry.changes where isWanted(key) {
                        let event = Event(
                            action: object == nil ? "delete" : "put", kind: key.kind.rawValue, name: key.name,
                            object: object.map {
                                Resource($0.seen(by: caller), .init(created: 0, modified: entry.revision))
                            })
                        let data = String(decoding: try encoder.encode(event), as: UTF8.self)
                        text += "event: \(event.action)\nid: \(entry.revision)\ndata: \(data)\n\n"
                    }
                    revision = entry.revision
                }
                if !text.isEmpty { try await send(ByteBuffer(string: text)) }
            }
            if !isNews {
                try await send(
                    ByteBuffer(string: "event: progress\nid: \(revision)\ndata: {\"revision\":\(revision)}\n\n"))
            }
            if let deadline, ContinuousClock.now >= deadline { return }
        }
    }

    /// Elements of two streams as they come: true for the first's.
    private static func merge(_ news: AsyncStream<Void>, _ clock: AsyncStream<Void>) -> AsyncStream<Bool> {
        AsyncStream(bufferingPolicy: .bufferingNewest(2)) { continuation in
            // There may be something already.
            continuation.yield(true)
            let one = Task { for await _ in news { continuation.yield(true) } }
            let other = Task { for await _ in clock { continuation.yield(false) } }
            continuation.onTermination = { _ in
                one.cancel()
                other.cancel()
            }
        }
    }
}
