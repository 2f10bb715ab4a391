// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser

/// `selvage state`.
struct StateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "state", abstract: "Show what hosts know of connections, and how they agree.",
        discussion: """
            Without a subcommand the connections are listed: selvage state :443 lists some of them.
            """, subcommands: [List.self, Peers.self, Diff.self, Rotate.self], defaultSubcommand: List.self)
}

extension StateCommand {
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List the connections that hosts know, what routers translate and bridges give.",
            discussion: """
                A connection is known where a rule asked for it, in the zone of the device that was filtered. A translated one is
                known in its router. An address that a bridge gave is known on all hosts until its lease ends, and who joined a multicast group as long as they say so. PORTS are those that a host may translate sources to; no other host has them meanwhile.
                """)

        @OptionGroup var node: NodeOptions
        @Argument(help: "Only connections of whose line this is part: an address, a port as in :443, a device.")
        var matching: String?
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let (answers, isComplete): ([(host: String, answer: StateAnswer)], Bool) = try await askAll(
                "state", node, matching.map { [("matching", $0)] } ?? [])
            if json {
                try printJSON(Dictionary(answers.map { ($0.host, $0.answer) }, uniquingKeysWith: { a, _ in a }))
            } else {
                for (host, answer) in answers {
                    let shown = answer.connections.count
                    print(
                        "\(host.isEmpty ? "" : "\(host)  ")\(answer.count) connection\(answer.count == 1 ? "" : "s")"
                            + (shown == answer.count ? "" : ", \(shown) shown"))
                    if !answer.connections.isEmpty {
                        LabPrinter.table(
                            ["ZONE", "CONNECTION", "STATE", "IDLE", "AGE", "LEFT"],
                            answer.connections.map { one in
                                [one.zone, one.connection, one.state]
                                    + [one.idleSeconds, one.ageSeconds, one.leftSeconds].map { "\(Int($0)) s" }
                            })
                    }
                    showTranslations(answer)
                }
            }
            if !isComplete { throw ExitCode(1) }
        }
    }
}

extension StateCommand.List {
    private func showTranslations(_ answer: StateAnswer) {
        let (list, count) = (answer.translations ?? [], answer.translationCount ?? 0)
        if count > 0 {
            print("\(count) translated" + (list.count == count ? "" : ", \(list.count) shown"))
        }
        if !list.isEmpty {
            LabPrinter.table(
                ["ROUTER", "CONNECTION", "BECOMES", "STATE", "IDLE", "AGE", "LEFT"],
                list.map { one in
                    [one.router, one.connection, one.becomes, one.state]
                        + [one.idleSeconds, one.ageSeconds, one.leftSeconds].map { "\(Int($0)) s" }
                })
        }
        if let tenants = answer.tenants, !tenants.isEmpty {
            LabPrinter.table(
                ["TENANT", "CONNECTIONS", "REFUSED", "TRANSLATED", "REFUSED"],
                tenants.map {
                    [
                        $0.name, "\($0.connections)", "\($0.connectionsRefused)", "\($0.translations)",
                        "\($0.translationsRefused)",
                    ]
                })
        }
        if let leases = answer.leases, !leases.isEmpty {
            LabPrinter.table(
                ["BRIDGE", "ADDRESS", "PORT", "LEFT"],
                leases.map { lease in
                    [
                        lease.bridge, lease.address, lease.isTaken ? lease.port : "in use by nobody that is known",
                        "\(Int(lease.leftSeconds)) s",
                    ]
                })
        }
        if let groups = answer.groups, !groups.isEmpty {
            LabPrinter.table(
                ["BRIDGE", "GROUP", "FROM", "PORT", "LEFT"],
                groups.map { one in
                    [
                        one.vlan == 0 ? one.bridge : "\(one.bridge) VLAN \(one.vlan)",
                        one.group ?? "all, for a router", one.source ?? "anybody", one.port,
                        "\(Int(one.leftSeconds)) s",
                    ]
                })
        }
        if let ports = answer.ports, !ports.isEmpty {
            LabPrinter.table(
                ["ROUTER", "ADDRESS", "USED", "PORTS"],
                ports.map { [$0.router, $0.address, "\($0.used)", $0.ports.joined(separator: " ")] })
        }
    }
}

extension StateCommand {
    struct Peers: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "peers", abstract: "Show how each host tells the others what it knows, and hears from them.",
            discussion: """
                WAITING are changes that were not sent to the other host yet, UNHEARD datagrams that it has not acknowledged,
                MISSING those of it that did not come yet. AGAIN are datagrams that it asked for once more, COMPARED the times
                that both compared their tables.
                """)
        @OptionGroup var node: NodeOptions
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let (answers, isComplete): ([(host: String, answer: ReplicationAnswer)], Bool) = try await askAll(
                "replication", node)
            if json {
                try printJSON(Dictionary(answers.map { ($0.host, $0.answer) }, uniquingKeysWith: { a, _ in a }))
            } else {
                LabPrinter.table(
                    [
                        "HOST", "PEER", "HEARD", "WAITING", "UNHEARD", "MISSING", "SENT", "RECEIVED", "AGAIN",
                        "COMPARED",
                    ],
                    answers.flatMap { host, answer in
                        answer.peers.map { peer in
                            [
                                host, peer.name, peer.heardSeconds.map { "\(Int($0 * 1000)) ms ago" } ?? "never",
                                "\(peer.backlog)", "\(peer.unacknowledged)", "\(peer.missing)", "\(peer.sent)",
                                "\(peer.received)", "\(peer.resent)", "\(peer.compared)",
                            ]
                        }
                    })
                for (host, answer) in answers { show(host, answer) }
            }
            if !isComplete { throw ExitCode(1) }
        }

        private func show(_ host: String, _ answer: ReplicationAnswer) {
            print(
                "\(host.isEmpty ? "" : "\(host)  ")"
                    + answer.counters.map { "\($0[0]) \($0[1])" }.joined(separator: ", "))
            for kind in answer.kinds where !kind.origins.isEmpty {
                let parts = kind.origins.sorted { $0.key < $1.key }.map { "\($0.value) begun at \($0.key)" }
                print("    \(kind.kind)s: \(parts.joined(separator: ", "))")
            }
            for secret in answer.secrets {
                print(
                    "    secret \(secret.number) \(secret.state), \(secret.fingerprint.prefix(16))"
                        + (secret.isHere ? "" : ", not here yet"))
            }
            if let problem = answer.journalProblem { print("    the journal is not written: \(problem)") }
        }
    }

    struct Diff: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "diff", abstract: "Compare what two hosts know that everybody is to know.",
            discussion: """
                What changes while the two are asked shows as a difference; ask again. Exit status 1 when they differ. Lines
                are shown of what is among the thousand connections that a host lists.
                """)
        @OptionGroup var node: NodeOptions
        @Argument(help: "A host.") var one: String
        @Argument(help: "Another one.") var other: String

        func run() async throws {
            var differs = false
            let (a, b) = (try await replication(one), try await replication(other))
            for kind in a.kinds {
                guard let same = b.kinds.first(where: { $0.kind == kind.kind }) else { continue }
                let (left, right) = (kind.origins.values.reduce(0, +), same.origins.values.reduce(0, +))
                let buckets = zip(kind.sums, same.sums).filter { $0 != $1 }.count
                differs = differs || buckets > 0
                print(
                    "\(kind.kind)s: \(left) at \(one), \(right) at \(other)"
                        + (buckets == 0 ? ", the same" : ", different in \(buckets) of \(kind.sums.count) buckets"))
            }
            guard differs else { return }
            let (c, d) = (try await lines(one), try await lines(other))
            for line in c.subtracting(d).sorted() { print("< \(line)") }
            for line in d.subtracting(c).sorted() { print("> \(line)") }
            throw ExitCode(1)
        }

        private func ask<Answer: Decodable>(_ tool: String, _ host: String) async throws -> Answer {
            guard let (_, client) = try node.places().first else {
                throw ValidationError("there is no node to ask")
            }
            return try await client.value("GET", "/v1/node/\(tool)", query: [("host", host)])
        }
        private func replication(_ host: String) async throws -> ReplicationAnswer {
            try await ask("replication", host)
        }
        private func lines(_ host: String) async throws -> Set<String> {
            let state: StateAnswer = try await ask("state", host)
            // What nobody answered is known where its answer may come in only.
            let isShared = { (phase: String) in phase != "opening" && phase != "unanswered" }
            return Set(
                state.connections.filter { isShared($0.state) }.map { "\($0.zone)  \($0.connection)  \($0.state)" }
                    + (state.translations ?? []).filter { isShared($0.state) }
                    .map { "\($0.router)  \($0.connection)  \($0.becomes)  \($0.state)" })
        }
    }

    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate",
            abstract: "Put another secret in place of the one that seals what nodes tell each other.",
            discussion: """
                All nodes get the new one, then seal by it; two minutes later the old one is forgotten. It happens by itself when
                a node is removed. selvage state peers shows how far it is.
                """)
        @OptionGroup var client: ClientOptions

        func run() async throws {
            try await reporting {
                _ = try await client.ask { try await $0.call("POST", "/v1/cluster/state-secrets/rotate") }
                print("a new secret takes over; selvage state peers shows how far it is")
            }
        }
    }
}
