// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Lab
import Manifest
import Node
import Topology

/// Which node a tool asks about.
struct NodeOptions: ParsableArguments {
    @OptionGroup var client: ClientOptions
    @Option(help: "Host whose node is asked about; in a lab all of them unless said.")
    var host: String?

    /// Whom to ask about, and how: all hosts of a lab, or one node.
    func places() throws -> [(host: String, client: APIClient)] {
        let isLab =
            client.server == nil && client.socket == nil
            && (client.labName != nil || !FileManager.default.fileExists(atPath: ClientOptions.standardSocket))
        guard isLab else { return [(host ?? "", try client.clients()[0])] }
        let lab = try Lab.running(client.labName)
        let hosts = try lab.manifest().lab?.hosts ?? []
        if let host {
            guard hosts.contains(host) else {
                throw Complaint(
                    "\(host): no such host; there are \(hosts.joined(separator: ", "))", ExitStatus.notFound)
            }
        }
        return hosts.filter { host == nil || $0 == host }.map {
            ($0, APIClient(.socket(lab.directory.nodeSocket($0)), timeoutSeconds: client.timeout))
        }
    }
}

/// What several nodes answer. One that can't be reached is named, and the others answer all the same.
func askAll<Answer: Decodable>(
    _ tool: String, _ node: NodeOptions, _ more: [(String, String)] = [], as type: Answer.Type = Answer.self
) async throws -> (answers: [(host: String, answer: Answer)], isComplete: Bool) {
    let places = try node.places()
    var answers: [(host: String, answer: Answer)] = []
    for (host, client) in places {
        do {
            let query = places.count == 1 && !host.isEmpty ? [("host", host)] : []
            answers.append((host, try await client.value("GET", "/v1/node/\(tool)", query: query + more)))
        } catch let error where places.count > 1 && !(error is APIRefusal) {
            let remedy = "selvage lab status tells which nodes run; selvage lab start \(host) starts it again"
            note("\(host): \(error)\n    \(remedy)")
        }
    }
    return (answers, answers.count == places.count)
}

func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// `selvage trace`.
struct TraceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Tell, step by step, what happens to a packet and why.",
        discussion: """
            The packet goes through the same simulation that forwards; nothing is sent.

            Examples:
              selvage trace acme/web/vm1 'icmp to 10.0.2.21'
              selvage trace acme/web/vm1 'tcp 10.0.1.11:40000 > 10.0.2.21:5432'
              selvage trace acme/web/vm1 'udp to 10.0.2.21:53 ttl 1'
              selvage trace acme/web/vm1 'arp who-has 10.0.1.1'
            After it may come: from ADDRESS, ttl N, length BYTES, vlan ID, eth-src MAC, eth-dst MAC. A packet
            that was captured is said by its bytes: frame 0e00...
            """)

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false
    @Argument(help: "Port where the packet comes in, as tenant/device/port.") var port: String
    @Argument(help: "The packet, about as tcpdump prints it.") var packet: [String]

    func run() async throws {
        try await reporting {
            var query = [("port", port), ("packet", packet.joined(separator: " "))]
            if let host = node.host { query.append(("host", host)) }
            let sent = query
            let answer: TraceAnswer = try await node.client.ask {
                try await $0.value("GET", "/v1/node/trace", query: sent)
            }
            if json { return try printJSON(answer) }
            show(answer)
            for next in answer.next {
                print("\nas it comes back, if the service lets it pass unchanged:")
                show(next)
            }
        }
    }

    private func show(_ answer: TraceAnswer) {
        print("\(answer.host)  revision \(answer.revision)")
        let width = answer.steps.map { $0[1].count }.max() ?? 0
        for step in answer.steps {
            print("  " + pad(step[0], 7) + " " + pad(step[1], width) + "  " + step[2])
        }
        print("verdict  \(answer.verdict)")
        print("match    " + answer.match.map { "\($0[0])=\($0[1])" }.joined(separator: ", "))
        print("flow     \(answer.flow)")
    }
}

func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }

/// `selvage flows`.
struct FlowsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows", abstract: "List the flows that are installed, with what they carried.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false
    @Flag(help: "Also list the flows for what may arrive by tunnel.") var all = false

    func run() async throws {
        var everything: [String: [FlowAnswer]] = [:]
        let (answers, isComplete): ([(host: String, answer: [FlowAnswer])], Bool) = try await askAll("flows", node)
        for (host, flows) in answers {
            let shown = all ? flows : flows.filter { !$0.isStanding }
            everything[host] = shown
            if json { continue }
            if !host.isEmpty {
                print("\(host)  \(shown.count) flows" + (all ? "" : ", \(flows.count - shown.count) standing"))
            }
            for flow in shown {
                print(
                    "  \(flow.ingress)  \(flow.packets) packets, \(flow.bytes) bytes, age \(Int(flow.ageSeconds)) s"
                        + (flow.idleSeconds.map { ", idle \(Int($0)) s" } ?? ", never used"))
                print("    match    " + flow.match.map { "\($0[0])=\($0[1])" }.joined(separator: ", "))
                print("    actions  " + flow.actions)
            }
        }
        if json { try printJSON(everything) }
        if !isComplete { throw ExitCode(1) }
    }
}

/// `selvage rules`.
struct RulesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rules", abstract: "Count what rules matched, on all hosts together.",
        discussion: """
            Rules of chains, security groups and translations that matched a packet, since the hosts' nodes started, by the
            host where packets come in. What flows carried is counted as it is read, within some seconds.
            """)

    @OptionGroup var node: NodeOptions
    @Argument(help: "Only rules of whose line this is part: a chain, an id, as in drop.")
    var matching: String?
    @Flag(help: "Print JSON, host by host.") var json = false

    func run() async throws {
        let (answers, isComplete): ([(host: String, answer: [RuleAnswer])], Bool) = try await askAll(
            "rules", node, matching.map { [("matching", $0)] } ?? [])
        if json {
            try printJSON(Dictionary(answers.map { ($0.host, $0.answer) }, uniquingKeysWith: { a, _ in a }))
        } else {
            var sums: [String: RuleAnswer] = [:]
            for one in answers.flatMap(\.answer) {
                let key = "\(one.list) \(one.rule) \(one.text)"
                if sums[key] == nil {
                    sums[key] = one
                } else {
                    sums[key]?.packets &+= one.packets
                    sums[key]?.bytes &+= one.bytes
                }
            }
            LabPrinter.table(
                ["LIST", "RULE", "PACKETS", "BYTES", "WHAT IT SAYS"],
                sums.values.sorted { ($0.list, $0.rule) < ($1.list, $1.rule) }.map {
                    [$0.list, $0.rule, "\($0.packets)", "\($0.bytes)", $0.text]
                })
        }
        if !isComplete { throw ExitCode(1) }
    }
}

/// `selvage tunnels`.
struct TunnelsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tunnels", abstract: "Show which tunnels between hosts work.",
        discussion: """
            Hosts send each other probes through the tunnels themselves (BFD, RFC 5880). DOWN AFTER is how long a host may be
            silent. Routes by a host that is down are left out while others are left.
            """)

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON, host by host.") var json = false

    func run() async throws {
        let (answers, isComplete): ([(host: String, answer: [TunnelAnswer])], Bool) = try await askAll("tunnels", node)
        if json {
            try printJSON(Dictionary(answers.map { ($0.host, $0.answer) }, uniquingKeysWith: { a, _ in a }))
        } else {
            LabPrinter.table(
                ["HOST", "TO", "BY", "STATE", "SINCE", "DOWN AFTER", "FAILURES", "SENT", "RECEIVED"],
                answers.flatMap { host, tunnels in
                    tunnels.map { tunnel in
                        [
                            host, tunnel.host, "\(tunnel.encapsulation) \(tunnel.local) - \(tunnel.remote)",
                            tunnel.state, "\(Int(tunnel.seconds)) s",
                            tunnel.detectionSeconds > 0 ? "\(Int(tunnel.detectionSeconds * 1000)) ms" : "-",
                            "\(tunnel.failures)", "\(tunnel.sent)", "\(tunnel.received)",
                        ]
                    }
                })
        }
        if !isComplete { throw ExitCode(1) }
    }
}

/// `selvage datapath`.
struct DatapathCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "datapath", abstract: "Show ports, counters, and why packets were dropped.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        var everything: [String: DatapathAnswer] = [:]
        let (answers, isComplete): ([(host: String, answer: DatapathAnswer)], Bool) = try await askAll("datapath", node)
        for (host, answer) in answers {
            everything[host] = answer
            if json { continue }
            print("\(host.isEmpty ? "datapath" : host)  \(answer.kind)")
            let width = answer.ports.map { $0.name.count }.max() ?? 0
            for port in answer.ports {
                print(
                    "  port " + pad("\(port.number)", 4) + pad(port.name, width)
                        + "  in \(port.receivedPackets) (\(port.receivedBytes) bytes), out \(port.sentPackets) (\(port.sentBytes) bytes)"
                        + (port.receiveDrops > 0 ? ", \(port.receiveDrops) came too fast" : "")
                        + (port.sendErrors > 0 ? ", \(port.sendErrors) not sent" : "")
                        + (port.bound.map { "  \($0)" } ?? ""))
                if let warning = port.warning { print("       warning: \(warning)") }
            }
            for counter in answer.counters { print("  " + pad(counter[0], 24) + counter[1]) }
            for drop in answer.drops { print("  dropped: " + pad(drop[0], 32) + drop[1]) }
        }
        if json { try printJSON(everything) }
        if !isComplete { throw ExitCode(1) }
    }
}

/// `selvage topology`.
struct TopologyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology", abstract: "Show the virtual devices as a tree.",
        discussion:
            "What the node that is asked knows, also without a quorum. selvage get and selvage export tell more.")

    @OptionGroup var client: ClientOptions

    func run() async throws {
        try await reporting {
            let answer = try await client.ask { try await $0.call("GET", "/v1/export", query: [("stale", "true")]) }
            let manifest = try ManifestReader.read(
                String(decoding: answer.body, as: UTF8.self), file: "export", isBounded: false)
            print("revision \(answer.headers["selvage-revision"] ?? "?")")
            for line in tree(manifest.topology) { print(line) }
        }
    }
}

/// `selvage status`.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how a node is: datapath, bindings, problems.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
        try await reporting {
            let (answers, isComplete): ([(host: String, answer: StatusAnswer)], Bool) = try await askAll("status", node)
            if json { try printJSON(answers.map(\.answer)) }
            for (_, status) in answers where !json {
                let stale = status.staleSeconds.map { ", STALE: no leader for \(Int($0)) s" } ?? ""
                print(
                    "\(status.host)  \(status.datapath) datapath, revision \(status.revision), up \(Int(status.uptimeSeconds)) s\(stale)"
                )
                for port in status.ports {
                    print(
                        "  \(port.port)  \(port.interface)"
                            + (port.isBound ? "" : "  not bound: \(port.problem ?? "?")"))
                }
                for problem in status.problems { print("  problem: \(problem)") }
            }
            if !isComplete { throw ExitCode(ExitStatus.unavailable) }
        }
    }
}
