// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Consensus
import Foundation
import Glibc
import Node
import Store
import TLS

/// Snapshots, recovery, certificates and keys.
extension ClusterCommand {
    struct SnapshotCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "snapshot",
            abstract: "Save everything that the cluster agreed on, look at it, or begin with it.",
            subcommands: [Save.self, Inspect.self, Restore.self])

        struct Save: AsyncParsableCommand {
            static let configuration = CommandConfiguration(commandName: "save", abstract: "Save a snapshot to a file.")
            @OptionGroup var client: ClientOptions
            @Argument(help: "The file.") var file: String
            @Flag(help: "What the node knows, without asking the cluster.") var stale = false

            func run() async throws {
                try await reporting {
                    let answer = try await client.ask {
                        try await $0.call("GET", "/v1/cluster/snapshot", query: stale ? [("stale", "true")] : [])
                    }
                    // What can't be read back is no snapshot.
                    let (_, summary) = try SnapshotFile.decode(answer.body)
                    try Files.replace(file, answer.body)
                    print("\(file): revision \(summary.revision), \(summary.rows) rows, \(summary.size) bytes")
                }
            }
        }

        struct Inspect: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                commandName: "inspect", abstract: "Tell what is in a snapshot, and whether it is whole.")
            @OptionGroup var output: OutputOptions
            @Argument(help: "The file.") var file: String

            func run() async throws {
                try await reporting {
                    let (state, summary) = try SnapshotFile.read(file)
                    let rows = [
                        "cluster": "\(state.cluster?.name ?? "") (\(summary.cluster))",
                        "revision": "\(summary.revision)",
                        "index": "\(summary.info.position.index)", "term": "\(summary.info.position.term)",
                        "rows": "\(summary.rows)", "bytes": "\(summary.size)", "sha256": summary.hash,
                        "state": summary.digest.description,
                        "nodes": state.nodes.values.map(\.name).sorted().joined(separator: ", "),
                    ]
                    try output.show(rows) {
                        for (name, value) in rows.sorted(by: { $0.key < $1.key }) { print(pad(name, 10) + value) }
                    }
                }
            }
        }

        struct Restore: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                commandName: "restore", abstract: "Make a new cluster of one node that begins with a snapshot.",
                discussion: """
                    The new cluster has another id and another authority: nodes of the old one are refused. What tenants and
                    operators drew is there, with keys for programs; let the other nodes join anew.
                    """)
            @Argument(help: "The file.") var file: String
            @OptionGroup var node: NodeOptions
            @Option(help: "What to call the cluster; as before unless said.") var cluster: String?

            func run() async throws {
                try await reporting {
                    let done = try Founding.restore(
                        file, node.node, cluster: cluster, in: NodeDirectory(node.data))
                    print(
                        """
                        Cluster \(done.cluster) begins with revision \(done.revision); its first node is \(node.name).
                        Start it:             selvage node\(node.data == NodeDirectory.standard ? "" : " --data \(node.data)")
                        """)
                }
            }
        }
    }

    struct Recover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "recover",
            abstract: "Begin anew with one survivor, when a majority of the voters is lost for good.",
            discussion: """
                Stop the node of the survivor, then run this there. The survivor becomes the only node of a new cluster, with
                another id and another authority, and keeps all that it has; a change that was acknowledged by the others but
                had not reached it is lost. Everybody else has to be wiped and to join anew. Choose the survivor with the
                longest log: selvage cluster status shows it on each.
                """)
        @Option(help: "Directory of the node.") var data = NodeDirectory.standard
        @Option(help: "The cluster's id, as selvage cluster status shows it: you know what you do.") var cluster:
            String?
        @Flag(help: "Although a majority answers.") var force = false

        func run() async throws {
            try await reporting {
                let directory = NodeDirectory(data)
                let identity = try directory.identity()
                guard cluster == identity.cluster else {
                    FileHandle.standardError.write(
                        Data(
                            """
                            refused: recovering gives up every other node of the cluster
                                if that is what you want, say --cluster \(identity.cluster)

                            """.utf8))
                    throw ExitCode(ExitStatus.failed)
                }
                let survey = try await Founding.survey(directory)
                if !force, survey.isMajorityAlive {
                    let leader = survey.leader.map { "; \($0) leads" } ?? ""
                    FileHandle.standardError.write(
                        Data(
                            """
                            refused: a majority is alive: \(survey.answering.joined(separator: ", ")) answer\(survey.answering.count == 1 ? "s" : "")\(survey.votes ? ", and this node votes" : "")\(leader)
                                the cluster does not need to be recovered: start this node again, or remove it and let it join anew

                            """.utf8))
                    throw ExitCode(ExitStatus.failed)
                }
                let done = try Founding.recover(directory)
                print(
                    """
                    \(identity.name) is the only node of the new cluster \(done.cluster).
                    Kept: revision \(done.revision) of the topology\(done.unsure > 0 ? ", and \(done.unsure) entries of which nobody knows whether they were agreed on" : "").
                    Lost: whatever the others agreed on and \(identity.name) had not heard of.
                    Start it:             selvage node\(data == NodeDirectory.standard ? "" : " --data \(data)")
                    Wipe and join anew:   \(done.lost.isEmpty ? "nobody" : done.lost.joined(separator: ", "))
                    """)
            }
        }
    }

    struct Certs: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "certs",
            abstract: "Show authorities and certificates, make one for a client, or put another authority in place.",
            discussion: """
                Certificates of nodes renew themselves when a third of their time is left. With --rotate a new authority is
                trusted by all nodes, then signs, then every node gets a certificate of it, then the old one goes: no
                connection ends. A node that is down has to come back, or be removed, before the new one signs.
                """)
        @OptionGroup var client: ClientOptions
        @OptionGroup var output: OutputOptions
        @Flag(help: "Put another authority in place of the one that signs.") var rotate = false
        @Option(help: "Make a certificate for a client of this name: NAME.crt, NAME.key and authorities.pem.")
        var issue: String?
        @Option(help: "What the client may do: viewer, tenant:NAME or operator.") var role = "viewer"
        @Option(help: "Days that the client's certificate holds.") var days = 365
        @Option(help: "Directory for the files.") var out = "."

        func run() async throws {
            try await reporting {
                if rotate {
                    _ = try await client.ask { try await $0.call("POST", "/v1/cluster/authorities/rotate") }
                    return print("a new authority takes over; selvage cluster certs shows how far it is")
                }
                if let issue { return try await makeClient(issue) }
                let known: AuthoritiesAnswer = try await client.ask {
                    try await $0.value("GET", "/v1/cluster/authorities")
                }
                let cluster: ClusterAnswer = try await client.ask { try await $0.value("GET", "/v1/cluster") }
                struct Shown: Encodable {
                    var authorities: [AuthoritiesAnswer.Authority]
                    var nodes: [String: String]
                }
                let nodes = Dictionary(
                    cluster.nodes.map { ($0.name, $0.certificateExpires) }, uniquingKeysWith: { a, _ in a })
                try output.show(Shown(authorities: known.authorities, nodes: nodes)) {
                    LabPrinter.table(
                        ["AUTHORITY", "STATE", "ENDS"],
                        known.authorities.map { [String($0.fingerprint.prefix(32)), $0.state, $0.expires] })
                    print("")
                    LabPrinter.table(
                        ["NODE", "CERTIFICATE ENDS"], nodes.sorted { $0.key < $1.key }.map { [$0.key, $0.value] })
                }
            }
        }

        private func makeClient(_ name: String) async throws {
            let secret = try PrivateKey()
            let request = ClientCertificateRequest(
                name: name, role: role, days: days,
                certificateRequest: try CertificateRequest(key: secret, commonName: name).pem)
            let answer: ClientCertificateAnswer = try await client.ask {
                try await $0.value("POST", "/v1/cluster/clients", body: request)
            }
            try Files.replace("\(out)/\(name).key", Array(try secret.pem().utf8))
            try Files.replace("\(out)/\(name).crt", Array(answer.certificate.utf8), mode: 0o644)
            try Files.replace("\(out)/authorities.pem", Array(answer.authorities.utf8), mode: 0o644)
            print("\(out)/\(name).crt, \(out)/\(name).key, \(out)/authorities.pem: \(role) for \(days) days")
        }
    }

    struct Keys: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "keys", abstract: "Keys with which programs use the HTTP API: list, create, delete.",
            subcommands: [List.self, Create.self, Delete.self], defaultSubcommand: List.self)

        struct List: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                commandName: "list", abstract: "List the keys, without their secrets.")
            @OptionGroup var client: ClientOptions
            @OptionGroup var output: OutputOptions

            func run() async throws {
                try await reporting {
                    let keys: [KeyAnswer] = try await client.ask { try await $0.value("GET", "/v1/cluster/keys") }
                    try output.show(keys) {
                        LabPrinter.table(
                            ["NAME", "ROLE", "CREATED", "EXPIRES"],
                            keys.map { [$0.name, $0.role, $0.created, $0.expires ?? "never"] })
                    }
                }
            }
        }

        struct Create: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                commandName: "create", abstract: "Make a key, or another secret for one. It is shown once.")
            @OptionGroup var client: ClientOptions
            @OptionGroup var output: OutputOptions
            @Argument(help: "Its name.") var name: String
            @Option(help: "What it allows: viewer, tenant:NAME or operator.") var role = "viewer"
            @Option(help: "Days until it ends; never unless said.") var days: Int?

            func run() async throws {
                try await reporting {
                    let request = KeyRequest(name: name, role: role, days: days)
                    let key: KeyAnswer = try await client.ask {
                        try await $0.value("POST", "/v1/cluster/keys", body: request)
                    }
                    try output.show(key) { print(key.key ?? "") }
                }
            }
        }

        struct Delete: AsyncParsableCommand {
            static let configuration = CommandConfiguration(commandName: "delete", abstract: "Take a key away.")
            @OptionGroup var client: ClientOptions
            @Argument(help: "Its name.") var name: String

            func run() async throws {
                try await reporting {
                    _ = try await client.ask { try await $0.call("DELETE", "/v1/cluster/keys/\(percentEncoded(name))") }
                }
            }
        }
    }
}
