// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Lab
import Manifest
import Node
import Topology

/// Where a tool finds the node that it asks.
struct NodeOptions: ParsableArguments {
    @Option(help: "Socket of a node, where it is not a lab's and not /run/selvage.sock.")
    var socket: String?
    @Option(name: .customLong("lab"), help: "Name of the lab, where several run.")
    var labName: String?
    @Option(help: "Host whose node to ask, in a lab.")
    var host: String?

    /// The sockets to ask: one, or those of all hosts of the lab.
    func sockets() throws -> [(host: String, path: String)] {
        if let socket { return [("", socket)] }
        if labName == nil, host == nil, FileManager.default.fileExists(atPath: "/run/selvage.sock") {
            return [("", "/run/selvage.sock")]
        }
        let lab = try Lab.running(labName)
        let hosts = try lab.manifest().lab?.hosts ?? []
        if let host {
            guard hosts.contains(host) else {
                throw ValidationError("\(host): no such host; there are \(hosts.joined(separator: ", "))")
            }
            return [(host, lab.directory.nodeSocket(host))]
        }
        return hosts.map { ($0, lab.directory.nodeSocket($0)) }
    }

    /// The socket of the host that a port is bound to.
    func socket(of port: String) throws -> String {
        if let socket { return socket }
        if labName == nil, host == nil, FileManager.default.fileExists(atPath: "/run/selvage.sock") {
            return "/run/selvage.sock"
        }
        let lab = try Lab.running(labName)
        let manifest = try lab.manifest()
        guard let path = PortPath(port), let found = manifest.topology.ports[path] else {
            throw ValidationError("\(port): no such port; selvage topology lists them")
        }
        guard case .exterior(let owner, _) = found.attachment else {
            throw ValidationError("\(port): packets begin at ports of machines, and there is none behind this one")
        }
        if let host, host != owner {
            throw ValidationError("\(port): is on host \(owner), not on \(host); leave --host out")
        }
        return lab.directory.nodeSocket(owner)
    }
}

/// Asks a node; a refusal becomes an error.
func ask(_ request: NodeRequest, at path: String) throws -> NodeResponse {
    let response: NodeResponse = try ControlClient.ask(request, at: path)
    if case .failure(let reason) = response { throw Refusal(description: reason) }
    return response
}

/// What several nodes answer. One that can't be reached is named, and the others answer all the same.
func askAll(
    _ request: NodeRequest, _ sockets: [(host: String, path: String)]
) throws -> (answers: [(host: String, response: NodeResponse)], isComplete: Bool) {
    var answers: [(host: String, response: NodeResponse)] = []
    for (host, path) in sockets {
        do {
            answers.append((host, try ask(request, at: path)))
        } catch let error where sockets.count > 1 && !(error is Refusal) {
            let remedy = "selvage lab status tells which nodes run; selvage lab restart \(host) starts it again"
            FileHandle.standardError.write(Data("\(host): \(error)\n    \(remedy)\n".utf8))
        }
    }
    return (answers, answers.count == sockets.count)
}

struct Refusal: Error, CustomStringConvertible {
    let description: String
}

func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// `selvage trace`.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Tell, step by step, what happens to a packet and why.",
        discussion: """
            The packet goes through the same simulation that forwards; nothing is sent.

            Examples:
              selvage trace acme/web/vm1 'icmp to 10.0.2.21'
              selvage trace acme/web/vm1 'tcp 10.0.1.11:40000 > 10.0.2.21:5432'
              selvage trace acme/web/vm1 'udp to 10.0.2.21:53 ttl 1'
              selvage trace acme/web/vm1 'arp who-has 10.0.1.1'
            After it may come: from ADDRESS, ttl N, length BYTES, vlan ID, eth-src MAC, eth-dst MAC.
            """)

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false
    @Argument(help: "Port where the packet comes in, as tenant/device/port.") var port: String
    @Argument(help: "The packet, about as tcpdump prints it.") var packet: [String]

    mutating func run() throws {
        let text = packet.joined(separator: " ")
        guard case .trace(let answer) = try ask(.trace(port: port, packet: text), at: try node.socket(of: port)) else {
            return
        }
        if json { return try printJSON(answer) }
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
struct FlowsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows", abstract: "List the flows that are installed, with what they carried.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false
    @Flag(help: "Also list the flows for what may arrive by tunnel.") var all = false

    mutating func run() throws {
        var everything: [String: [FlowAnswer]] = [:]
        let (answers, isComplete) = try askAll(.flows, try node.sockets())
        for (host, response) in answers {
            guard case .flows(let flows) = response else { continue }
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

/// `selvage datapath`.
struct DatapathCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "datapath", abstract: "Show ports, counters, and why packets were dropped.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false

    mutating func run() throws {
        var everything: [String: DatapathAnswer] = [:]
        let (answers, isComplete) = try askAll(.datapath, try node.sockets())
        for (host, response) in answers {
            guard case .datapath(let answer) = response else { continue }
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
struct TopologyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology", abstract: "Show the virtual devices as a tree.")

    @OptionGroup var node: NodeOptions
    @Flag(help: "Print JSON.") var json = false

    mutating func run() throws {
        // Any node will do.
        let sockets = try node.sockets()
        var answered: NodeResponse?
        for (_, path) in sockets.dropLast() where answered == nil { answered = try? ask(.topology, at: path) }
        if answered == nil, let last = sockets.last { answered = try ask(.topology, at: last.path) }
        guard case .topology(let answer) = answered else { return }
        if json { return try printJSON(answer) }
        print("revision \(answer.revision)")
        for line in answer.lines { print(line) }
    }
}
