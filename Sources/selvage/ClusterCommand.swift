// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Gateway
import Glibc
import Manifest
import Node
import Store
import TLS
import Wire

/// `selvage cluster`: the nodes and what they agree on.
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Found a cluster, let nodes join, and look after its members.",
        discussion: """
            Three nodes from nothing:
              n1$ selvage cluster init --name n1 --address 192.0.2.1 && selvage node &
              n1$ selvage cluster token
              n2$ selvage cluster join TOKEN --name n2 --address 192.0.2.2 && selvage node &
              n3$ (a token of its own)

            \(ExitStatus.help)
            """,
        subcommands: [
            Init.self, Token.self, Join.self, List.self, Status.self, Promote.self, Demote.self, Remove.self,
            Transfer.self, SnapshotCommand.self, Recover.self, Certs.self, Keys.self,
        ])

    /// What a node says of itself when it comes to be.
    struct NodeOptions: ParsableArguments {
        @Option(help: "Name of the node: that of its host.")
        var name: String = ClusterCommand.hostName
        @Option(help: "Address of this host for other nodes, clients and tunnels.")
        var address: String
        @Option(help: "Port for other nodes.") var peerPort = 7420
        @Option(help: "Port for clients.") var apiPort = 7421
        @Option(help: "Address for tunnels, where it is another one; \"none\" for a node that forwards nothing.")
        var tunnelAddress: String?
        @Option(help: "Directory of the node.") var data = NodeDirectory.standard

        var node: Founding.Node {
            let host = address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address
            return Founding.Node(
                name: name, peerAddress: "\(host):\(peerPort)", apiAddress: "\(host):\(apiPort)",
                tunnelAddress: tunnelAddress == "none" ? nil : tunnelAddress ?? address)
        }

        mutating func validate() throws {
            if !isName(name) { throw ValidationError("--name \(name): use up to 63 letters, digits, -, _ and .") }
            for port in [peerPort, apiPort] where !(1...65_535).contains(port) {
                throw ValidationError("\(port) is no port: use 1 to 65535")
            }
            for text in [address, tunnelAddress ?? address] where text != "none" {
                guard IPAddress(text) != nil else {
                    throw ValidationError("\(text) is no address: write one such as 192.0.2.1 or 2001:db8::1")
                }
            }
            if peerPort == apiPort { throw ValidationError("--peer-port and --api-port must differ") }
        }
    }

    static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, 255) == 0 else { return "node" }
        let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.split(separator: ".").first.map(String.init) ?? "node"
    }

    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init", abstract: "Found a cluster: make its authority and its first node.",
            discussion: "Run it once, on one host; then start the node: selvage node.")
        @OptionGroup var node: NodeOptions
        @Option(help: "What to call the cluster.") var cluster = "selvage"
        @Option(help: .hidden) var certificateSeconds = Founding.certificateLifetime

        func run() async throws {
            try await reporting {
                guard isName(cluster) else {
                    throw Complaint("--cluster \(cluster): use letters, digits, - and .", ExitStatus.usage)
                }
                let id = try Founding.found(
                    node.node, cluster: cluster, in: NodeDirectory(node.data), lifetime: certificateSeconds)
                print(
                    """
                    Cluster \(cluster) (\(id)) has its first node, \(node.name).
                    Start it:             selvage node\(node.data == NodeDirectory.standard ? "" : " --data \(node.data)")
                    Let others join:      selvage cluster token
                    """)
            }
        }
    }

    struct Token: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "token", abstract: "Make a token that lets one node join, once; or list or delete tokens.")
        @OptionGroup var client: ClientOptions
        @OptionGroup var output: OutputOptions
        @Option(help: "How long it holds: 90s, 10m, 1h, 2d.") var ttl = "1h"
        @Option(help: "What the node becomes: voter, learner, or auto (a voter while there are fewer than five).")
        var role = "auto"
        @Flag(help: "List the tokens there are.") var list = false
        @Option(help: "Take back the token of this id.") var delete: String?

        func run() async throws {
            try await reporting {
                if let delete {
                    _ = try await client.ask {
                        try await $0.call("DELETE", "/v1/cluster/tokens/\(percentEncoded(delete))")
                    }
                    return
                }
                if list {
                    let tokens: [TokenAnswer] = try await client.ask { try await $0.value("GET", "/v1/cluster/tokens") }
                    try output.show(tokens) {
                        LabPrinter.table(
                            ["ID", "ROLE", "EXPIRES", "USED BY"],
                            tokens.map { [$0.id, $0.role, $0.expires, $0.usedBy ?? "-"] })
                    }
                    return
                }
                let seconds = try parseDuration(ttl)
                let request = TokenRequest(seconds: seconds, role: role)
                let token: TokenAnswer = try await client.ask {
                    try await $0.value("POST", "/v1/cluster/tokens", body: request)
                }
                try output.show(token) { print(token.token ?? "") }
            }
        }
    }

    struct Join: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "join", abstract: "Make this host a node of a cluster, on the word of a token.",
            discussion:
                "Afterwards start the node: selvage node. A join that was cut off can be tried again with the same token."
        )
        @Argument(help: "What selvage cluster token printed.") var token: String
        @OptionGroup var node: NodeOptions
        @Option(help: "File that says by which routers this host is reached; the node has a copy of it. See README.")
        var underlay: String?

        func run() async throws {
            try await reporting {
                guard let parsed = Founding.Token(token) else {
                    throw Complaint("the token is not whole: copy all of what selvage cluster token printed")
                }
                let (cluster, role) = try await reachOthers { try await join(parsed, $0) }
                print(
                    """
                    \(node.name) joined cluster \(cluster) and becomes a \(role).
                    Start it:             selvage node\(node.data == NodeDirectory.standard ? "" : " --data \(node.data)")
                    """)
            }
        }

        /// Where the node is to route for its host, it has to before anybody is asked. What is not to be a node after all does not go
        /// on to be reached.
        private func reachOthers<Value: Sendable>(
            _ body: (UnderlayDaemon?) async throws -> Value
        ) async throws -> Value {
            let directory = NodeDirectory(node.data)
            // One that is a node already is let be.
            guard let file = directory.underlayFile(underlay), !directory.isInUse else { return try await body(nil) }
            let plan = try ManifestReader.readUnderlay(path: file)
            try directory.create()
            do {
                let daemon = try UnderlayDaemon(plan, directory: directory.underlay) { print($0) }
                defer { daemon.close() }
                let value = try await body(daemon)
                if let underlay { try directory.keepUnderlay(try String(contentsOfFile: underlay, encoding: .utf8)) }
                return value
            } catch {
                UnderlayDaemon.end(directory: directory.underlay) { _ in }
                throw error
            }
        }

        /// How long it may take until routers next to the host know it and the others.
        private static let patience = Duration.seconds(20)

        private func join(
            _ token: Founding.Token, _ daemon: UnderlayDaemon?
        ) async throws -> (cluster: String, role: String) {
            let deadline = ContinuousClock.now + Self.patience
            while true {
                do {
                    return try await Founding.join(token, node.node, in: NodeDirectory(node.data))
                } catch let error as NodeError {
                    guard let daemon, error.isOfReaching else { throw error }
                    if ContinuousClock.now < deadline {
                        try await Task.sleep(for: .milliseconds(200))
                        continue
                    }
                    let peers = daemon.status().peers.map {
                        "\($0.address) \($0.state)" + ($0.problem.map { " (\($0))" } ?? "")
                    }
                    throw Complaint("\(error)\nrouters next to this host: \(peers.joined(separator: ", "))")
                }
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "list", abstract: "List the nodes.")
        @OptionGroup var client: ClientOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await reporting {
                let cluster: ClusterAnswer = try await client.ask { try await $0.value("GET", "/v1/cluster") }
                try output.show(cluster.nodes) {
                    LabPrinter.table(
                        [
                            "NAME", "ID", "ROLE", "LEADER", "STATUS", "BEHIND", "LAST CONTACT", "GOSSIP",
                            "PEER ADDRESS",
                            "VERSION",
                        ],
                        cluster.nodes.map { node in
                            let wanted = node.role == node.wanted ? "" : " (to be \(node.wanted))"
                            return [
                                node.name, node.id, node.role + wanted, node.isLeader ? "yes" : "", node.status,
                                node.isLeader
                                    ? "0"
                                    : node.matchIndex.map { "\(cluster.lastIndex > $0 ? cluster.lastIndex - $0 : 0)" }
                                        ?? "-",
                                node.lastContactSeconds.map { "\(milliseconds($0)) ms" } ?? "-", node.gossip ?? "-",
                                node.peerAddress,
                                node.version,
                            ]
                        })
                }
                if cluster.leader == nil {
                    note("there is no leader: who is up is as this node knows it; selvage cluster status tells more")
                    throw ExitCode(ExitStatus.unavailable)
                }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show how the cluster is: agreement, disks, certificates, alarms.",
            discussion: "Exit status 1 when there is an alarm, 5 when there is no leader.")
        @OptionGroup var client: ClientOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            try await reporting {
                let cluster: ClusterAnswer = try await client.ask { try await $0.value("GET", "/v1/cluster") }
                try output.show(cluster) { ClusterPrinter.status(cluster) }
                if cluster.leader == nil { throw ExitCode(ExitStatus.unavailable) }
                if !cluster.alarms.isEmpty { throw ExitCode(ExitStatus.failed) }
            }
        }
    }

    /// Changes what a node is.
    static func setRole(_ name: String, _ role: String, _ force: Bool, _ client: ClientOptions) async throws {
        _ = try await client.ask {
            try await $0.call(
                "PUT", "/v1/cluster/nodes/\(percentEncoded(name))/role/\(role)",
                query: force ? [("force", "true")] : [])
        }
        // It happens as soon as the node has caught up; most of the time that is at once.
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            let cluster: ClusterAnswer = try await client.ask { try await $0.value("GET", "/v1/cluster") }
            if cluster.nodes.first(where: { $0.name == name })?.role == role {
                return print("\(name) is a \(role)")
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        print("\(name) becomes a \(role) as soon as it has caught up; selvage cluster list shows when")
    }

    struct Promote: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "promote", abstract: "Make a node a voter, as soon as it has caught up.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node.") var node: String
        @Flag(help: "Also if it does not answer.") var force = false

        func run() async throws {
            try await reporting { try await ClusterCommand.setRole(node, "voter", force, client) }
        }
    }

    struct Demote: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "demote", abstract: "Make a node a learner: it follows, and does not vote.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node.") var node: String
        @Flag(help: "Also if the voters that are left do not all answer.") var force = false

        func run() async throws {
            try await reporting { try await ClusterCommand.setRole(node, "learner", force, client) }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove", abstract: "Take a node out for ever: its certificate is refused from then on.",
            discussion: """
                A voter may have held the key of the cluster's authority. If you do not trust the node any more, put another
                authority in place: selvage cluster certs --rotate.
                """)
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node.") var node: String
        @Flag(help: "Also if the voters that are left can't agree.") var force = false
        @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false

        func run() async throws {
            try await reporting {
                try confirm("Remove \(node) for ever?", yes)
                _ = try await client.ask {
                    try await $0.call(
                        "DELETE", "/v1/cluster/nodes/\(percentEncoded(node))", query: force ? [("force", "true")] : [])
                }
                print("\(node) was removed; wipe its directory before it joins again")
            }
        }
    }

    struct Transfer: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "transfer", abstract: "Hand leadership over to another voter.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The voter that is to lead; the one that is furthest unless said.") var node: String?

        func run() async throws {
            try await reporting {
                let answer: [String: String] = try await client.ask {
                    try await $0.value("POST", "/v1/cluster/transfer", query: node.map { [("to", $0)] } ?? [])
                }
                print("\(answer["leader"] ?? "?") leads")
            }
        }
    }
}

private func isName(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 63 && text.first.map { $0.isASCII && ($0.isLetter || $0.isNumber) } == true
        && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
}

func milliseconds(_ seconds: Double) -> Int { Int((seconds * 1000).rounded()) }

/// `90s`, `10m`, `1h`, `2d` as seconds.
func parseDuration(_ text: String) throws -> Int {
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
    guard let unit = text.last.flatMap({ units[$0] }), let count = Int(text.dropLast()), count > 0 else {
        throw ValidationError("\(text): write a time like 90s, 10m, 1h or 2d")
    }
    return count * unit
}

/// Tables about the cluster.
enum ClusterPrinter {
    static func status(_ cluster: ClusterAnswer) {
        let rows: [(String, String)] = [
            ("cluster", "\(cluster.name) (\(cluster.cluster))"),
            (
                "leader",
                cluster.leader
                    ?? "none\(cluster.leaderlessSeconds.map { " for \(Int($0)) s: what \(cluster.node) knows may be stale" } ?? "")"
            ), ("term", "\(cluster.term)"),
            ("voters", "may lose \(cluster.failureTolerance)\(cluster.isChanging ? ", changing" : "")"),
            (
                "log of \(cluster.node)",
                "\(cluster.firstIndex) to \(cluster.lastIndex), agreed on to \(cluster.commitIndex), applied to \(cluster.appliedIndex)"
            ),
            (
                "writes",
                cluster.writeP99Milliseconds.map {
                    "median \(hundredths(cluster.writeMedianMilliseconds ?? 0)) ms, p99 \(hundredths($0)) ms"
                } ?? "none yet"
            ), ("topology", "revision \(cluster.revision)"), ("state", cluster.digest),
            ("connections", "\(cluster.refusedConnections) refused, \(cluster.droppedFrames) frames dropped"),
        ]
        for (name, value) in rows { print(pad(name, 16) + value) }
        print("")
        LabPrinter.table(
            ["NODE", "ROLE", "STATUS", "REPLICATION", "CERTIFICATE ENDS"],
            cluster.nodes.map { node in
                [
                    node.name, node.isLeader ? "leader" : node.role, node.status,
                    node.replication ?? node.problem ?? "-", node.certificateExpires,
                ]
            })
        for refusal in cluster.refusals { print("refusal  \(refusal)") }
        for alarm in cluster.alarms { print("ALARM    \(alarm)") }
    }

    static func hundredths(_ value: Double) -> String {
        let number = Int((value * 100).rounded())
        return "\(number / 100).\(number % 100 < 10 ? "0" : "")\(number % 100)"
    }
}
