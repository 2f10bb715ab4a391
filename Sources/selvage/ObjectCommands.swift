// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Manifest
import Topology

/// Waiting for the nodes, as several commands offer it.
struct WaitOptions: ParsableArguments {
    @Flag(help: "Return when all nodes that are up forward by the change.") var wait = false
    @Option(help: "Seconds to wait at most.") var waitSeconds = 10

    var query: [(String, String)] { wait ? [("wait", "true"), ("waitSeconds", "\(waitSeconds)")] : [] }

    /// Says who has not done so; a failure when somebody lags.
    func report(_ answer: WaitAnswer?) throws {
        guard let answer else { return }
        if !answer.unreachable.isEmpty { note("not reachable: \(answer.unreachable.joined(separator: ", "))") }
        if answer.lagging.isEmpty { return }
        note("not done within \(waitSeconds) s on \(answer.lagging.joined(separator: ", "))")
        throw ExitCode(ExitStatus.failed)
    }

    private func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}

/// `selvage apply`.
struct ApplyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Make tenants what a manifest draws.",
        discussion: """
            Devices and ports of the tenants in the manifest become exactly what it says; other tenants stay as they are, and
            so do hosts and zones that it does not name. All of it happens, or nothing. Applying it again changes nothing.

              selvage apply network.yaml --dry-run
              selvage apply network.yaml --wait

            \(ExitStatus.help)
            """)
    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var waiting: WaitOptions
    @Argument(help: "The manifest; \"-\" reads it from standard input.") var file: String
    @Flag(help: "Only tell what would happen.") var dryRun = false
    @Flag(help: "Devices and ports that the manifest does not draw stay.") var keep = false

    func run() async throws {
        try await reporting {
            let plan = try await Plans.ask(client, file, dryRun: dryRun, keep: keep, waiting.query)
            try output.show(plan) { Plans.show(plan) }
            try waiting.report(plan.wait)
        }
    }
}

/// `selvage diff`.
struct DiffCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Tell what applying a manifest would change.",
        discussion: "Exit status 0 when nothing would change, 1 when something would.")
    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @Argument(help: "The manifest; \"-\" reads it from standard input.") var file: String
    @Flag(help: "Devices and ports that the manifest does not draw stay.") var keep = false

    func run() async throws {
        try await reporting {
            let plan = try await Plans.ask(client, file, dryRun: true, keep: keep, [])
            try output.show(plan) { Plans.show(plan) }
            if !plan.items.isEmpty { throw ExitCode(1) }
        }
    }
}

enum Plans {
    static func ask(
        _ client: ClientOptions, _ file: String, dryRun: Bool, keep: Bool, _ more: [(String, String)]
    ) async throws -> PlanAnswer {
        let data: Data
        if file == "-" {
            data = try FileHandle.standardInput.readToEnd() ?? Data()
        } else {
            guard let content = FileManager.default.contents(atPath: file) else {
                throw Complaint("\(file): the file can't be read\n    check that it is there and that you may read it")
            }
            data = content
        }
        var query = more + [("file", file == "-" ? "standard input" : file)]
        if dryRun { query.append(("dryRun", "true")) }
        if keep { query.append(("keep", "true")) }
        let sent = query
        return try await client.ask { client in
            let response = try await client.call(
                "POST", "/v1/apply", query: sent, body: Array(data), type: "application/yaml")
            return try JSONDecoder().decode(PlanAnswer.self, from: Data(response.body))
        }
    }

    static func show(_ plan: PlanAnswer) {
        let signs = ["create": "+", "update": "~", "delete": "-"]
        let width = plan.items.map { $0.name.count }.max() ?? 0
        for item in plan.items {
            let line = "\(signs[item.action] ?? "?") \(pad(item.kind, 7))\(pad(item.name, width))"
            if item.action == "update", item.changes.count > 1 {
                print(line)
                for change in item.changes { print("            \(change)") }
            } else {
                print(item.changes.isEmpty ? line : "\(line)  \(item.changes.joined(separator: ", "))")
            }
        }
        let counts = ["create", "update", "delete"].map { action in plan.items.count { $0.action == action } }
        if let text = plan.note { note(text) }
        if plan.items.isEmpty { return print("nothing to change, revision \(plan.revision)") }
        let text = "\(counts[0]) to create, \(counts[1]) to change, \(counts[2]) to delete"
        print(
            plan.applied
                ? "done: \(text.replacingOccurrences(of: "to ", with: "")), revision \(plan.revision)" : "plan: \(text)"
        )
    }
}

/// `selvage get`.
struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "List objects of a kind, or show one.",
        discussion: """
            Kinds: bridges, routers, ports, hosts, zones, chains, port-groups, address-groups, security-groups, pools, mirrors, tenants (or
            in the singular), and nodes.

              selvage get ports --tenant acme
              selvage get port acme/web/vm1 -o yaml
            """)
    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @Argument(help: "The kind.") var kind: String
    @Argument(help: "The object, as tenant/device/port, tenant/device or a name.") var name: String?
    @Option(help: "Only what belongs to this tenant.") var tenant: String?
    @Option(help: "Only ports of this device.") var device: String?
    @Option(help: "Only ports on this host.") var host: String?
    @Flag(help: "What the node knows, without asking the cluster: works without a quorum.") var stale = false

    func run() async throws {
        if kind == "node" || kind == "nodes" {
            var list = ClusterCommand.List()
            list = try ClusterCommand.List.parse([])
            list.client = client
            list.output = output
            return try await list.run()
        }
        try await reporting {
            let kind = try Objects.kind(kind)
            var query = stale ? [("stale", "true")] : []
            if let name {
                let object = try await Objects.one(client, kind, name, query)
                return try output.showJSON(object) { Objects.table(kind, [object]) }
            }
            for (key, value) in [("tenant", tenant), ("device", device), ("host", host)] {
                if let value { query.append((key, value)) }
            }
            let all = try await Objects.list(client, kind, query)
            try output.showJSON(all) {
                if all.isEmpty { return note("no \(kind.plural)") }
                Objects.table(kind, all)
            }
        }
    }
}

/// `selvage describe`.
struct DescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe", abstract: "Show one object with what belongs to it.")
    @OptionGroup var client: ClientOptions
    @Argument(help: "The kind.") var kind: String
    @Argument(help: "The object.") var name: String
    @Flag(help: "What the node knows, without asking the cluster.") var stale = false

    func run() async throws {
        try await reporting {
            let kind = try Objects.kind(kind)
            let query = stale ? [("stale", "true")] : []
            let object = try await Objects.one(client, kind, name, query)
            print(YAMLText.write(object), terminator: "")
            switch kind {
            case .bridge, .router:
                let ports = try await Objects.list(client, .port, query + [("device", name)])
                print("ports: \(ports.isEmpty ? "none" : "")")
                if !ports.isEmpty { Objects.table(.port, ports) }
            case .host:
                let ports = try await Objects.list(client, .port, query + [("host", name)])
                print("ports on it: \(ports.isEmpty ? "none" : "")")
                if !ports.isEmpty { Objects.table(.port, ports) }
            default: break
            }
        }
    }
}

/// `selvage delete`.
struct DeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Take an object away.", discussion: ExitStatus.help)
    @OptionGroup var client: ClientOptions
    @OptionGroup var waiting: WaitOptions
    @Argument(help: "The kind.") var kind: String
    @Argument(help: "The object.") var name: String
    @Flag(help: "Also what can't be without it: ports, and the other ends of links.") var cascade = false

    func run() async throws {
        try await reporting {
            let kind = try Objects.kind(kind)
            let query = waiting.query + (cascade ? [("cascade", "true")] : [])
            let answer: ChangeAnswer = try await client.ask {
                try await $0.value(
                    "DELETE", "/v1/\(kind.plural)/\(percentEncoded(try Objects.name(name, of: kind)))", query: query)
            }
            print("\(kind.rawValue) \(name) is gone, revision \(answer.revision)")
            try waiting.report(answer.wait)
        }
    }
}

/// `selvage export`.
struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Print the topology as a manifest that makes it again.")
    @OptionGroup var client: ClientOptions
    @Option(help: "Only this tenant's devices.") var tenant: String?
    @Flag(help: "What the node knows, without asking the cluster.") var stale = false

    func run() async throws {
        try await reporting {
            var query = stale ? [("stale", "true")] : []
            if let tenant { query.append(("tenant", tenant)) }
            let sent = query
            let answer = try await client.ask { try await $0.call("GET", "/v1/export", query: sent) }
            print(String(decoding: answer.body, as: UTF8.self), terminator: "")
        }
    }
}

/// `selvage watch`.
struct WatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Print what changes, as it changes.",
        discussion:
            "Exit status 4 when changes after --revision are not known any more: read everything again, then watch from there."
    )
    @OptionGroup var client: ClientOptions
    @Option(help: "Begin after this revision; with now unless said.") var revision: UInt64?
    @Option(help: "Only objects of this kind.") var kind: String?
    @Option(help: "Only what belongs to this tenant.") var tenant: String?
    @Option(name: .shortAndLong, help: "How to show it: table or json (one object a line).") var output = OutputFormat
        .table

    func run() async throws {
        try await reporting {
            var query: [(String, String)] = []
            if let revision { query.append(("revision", "\(revision)")) }
            if let kind { query.append(("kind", try Objects.kind(kind).rawValue)) }
            if let tenant { query.append(("tenant", tenant)) }
            var text = ""
            for try await part in try client.clients()[0].stream("GET", "/v1/watch", query: query) {
                switch part {
                case .head(let status, let headers):
                    guard status == 200 else {
                        throw APIClient.refusal(.init(status: status, headers: headers, body: []))
                    }
                case .body(let bytes):
                    text += String(decoding: bytes, as: UTF8.self)
                    while let end = text.range(of: "\n\n") {
                        try show(String(text[..<end.lowerBound]))
                        text = String(text[end.upperBound...])
                    }
                }
            }
        }
    }

    private func show(_ event: String) throws {
        var fields: [String: String] = [:]
        for line in event.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { fields[String(parts[0])] = parts[1].trimmingCharacters(in: .whitespaces) }
        }
        let data = fields["data"] ?? "{}"
        switch fields["event"] {
        case "compacted":
            FileHandle.standardError.write(
                Data("changes after revision \(revision ?? 0) are not known any more: read everything again\n".utf8))
            throw ExitCode(ExitStatus.conflict)
        case "put", "delete":
            if output == .json { return say(data) }
            let object = try JSONSerialization.jsonObject(with: Data(data.utf8)) as? [String: Any] ?? [:]
            let sign = fields["event"] == "put" ? "~" : "-"
            say("\(fields["id"] ?? "?")  \(sign) \(object["kind"] ?? "") \(object["name"] ?? "")")
        default: break
        }
    }

    /// A line at once, whatever standard output is.
    private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
}

/// Objects as JSON, for printing.
enum Objects {
    static func kind(_ word: String) throws -> ObjectKey.Kind {
        guard let kind = ObjectKey.Kind(word: word) else {
            throw Complaint(
                "\(word): no such kind; there are \(ObjectKey.Kind.allCases.map(\.plural).joined(separator: ", ")) and nodes",
                ExitStatus.usage)
        }
        return kind
    }

    /// A name as it must be of such objects.
    static func name(_ text: String, of kind: ObjectKey.Kind) throws -> String {
        if ObjectKey(kind, text) != nil { return text }
        let form =
            switch kind.naming {
            case .ofTenant: "tenant/\(kind.rawValue)"
            case .ofDevice: "tenant/device/port"
            case .plain: "its name alone"
            }
        throw Complaint("\(text): not the name of a \(kind.rawValue): write \(form)", ExitStatus.usage)
    }

    static func one(
        _ client: ClientOptions, _ kind: ObjectKey.Kind, _ name: String, _ query: [(String, String)]
    ) async throws -> [String: Any] {
        let body = try await client.ask {
            try await $0.call(
                "GET", "/v1/\(kind.plural)/\(percentEncoded(try Objects.name(name, of: kind)))", query: query
            ).body
        }
        return try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any] ?? [:]
    }

    static func list(
        _ client: ClientOptions, _ kind: ObjectKey.Kind, _ query: [(String, String)]
    ) async throws -> [[String: Any]] {
        var all: [[String: Any]] = []
        var after: String?
        repeat {
            let sent = query + [("limit", "5000")] + (after.map { [("after", $0)] } ?? [])
            let body = try await client.ask { try await $0.call("GET", "/v1/\(kind.plural)", query: sent).body }
            let page = try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any] ?? [:]
            all += page["items"] as? [[String: Any]] ?? []
            after = page["next"] as? String
        } while after != nil
        return all
    }
}
