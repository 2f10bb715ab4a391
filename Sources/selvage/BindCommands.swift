// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation

/// What a hypervisor's hooks call when a machine starts, stops or moves.
private enum Binding {
    /// Reads a port, changes it, and writes it back; what somebody else changed meanwhile is not undone.
    static func change(
        _ name: String, _ client: ClientOptions, _ query: [(String, String)],
        _ body: (inout PortResource) throws -> Void
    ) async throws -> ChangeAnswer {
        let kind = try Objects.kind("port")
        let path = "/v1/ports/\(percentEncoded(try Objects.name(name, of: kind)))"
        var port: PortResource = try await client.ask { try await $0.value("GET", path) }
        if let peer = port.peer {
            throw ValidationError("\(name) is linked to \(peer): only ports of machines are bound to an interface")
        }
        try body(&port)
        let revision = port.revision ?? 0
        (port.created, port.revision) = (nil, nil)
        let sent = Array(try JSONEncoder().encode(port))
        let response = try await client.ask {
            try await $0.call("PUT", path, query: query, headers: [("If-Match", "\(revision)")], body: sent)
        }
        return try JSONDecoder().decode(ChangeAnswer.self, from: Data(response.body))
    }

    /// Tells why a port is not at work on its host, if it is not.
    static func noteProblem(of port: String, on host: String, _ client: ClientOptions) async {
        let status: StatusAnswer? = try? await client.ask {
            try await $0.value("GET", "/v1/node/status", query: [("host", host)])
        }
        guard let problem = status?.ports.first(where: { $0.port == port })?.problem else { return }
        note("\(host): \(problem): nothing reaches \(port) there yet")
    }
}

/// `selvage bind`.
struct BindCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bind", abstract: "Bind a port to an interface of a host.",
        discussion: """
            For hooks of hypervisors: when a machine starts, with its tap device. The interface may come later than the
            binding. A port that is bound elsewhere moves; see selvage migrate.

            """ + ExitStatus.help)
    @OptionGroup var client: ClientOptions
    @OptionGroup var waiting: WaitOptions
    @Argument(help: "The port, as tenant/device/port.") var port: String
    @Argument(help: "The host.") var host: String
    @Argument(help: "The interface there.") var interface: String

    func run() async throws {
        try await reporting {
            let answer = try await Binding.change(port, client, waiting.query) {
                ($0.host, $0.interface) = (host, interface)
            }
            print("\(port) is bound to \(interface) of \(host), revision \(answer.revision)")
            try waiting.report(answer.wait)
            if answer.wait != nil { await Binding.noteProblem(of: port, on: host, client) }
        }
    }
}

/// `selvage unbind`.
struct UnbindCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unbind", abstract: "Take a port off its interface.",
        discussion: "For hooks of hypervisors: when a machine has stopped.\n\n" + ExitStatus.help)
    @OptionGroup var client: ClientOptions
    @OptionGroup var waiting: WaitOptions
    @Argument(help: "The port, as tenant/device/port.") var port: String
    @Option(help: "Only if it is bound to this host: a machine that has moved stays where it is.") var from: String?

    func run() async throws {
        try await reporting {
            var isElsewhere = false
            let answer = try await Binding.change(port, client, waiting.query) { resource in
                isElsewhere = from.map { $0 != resource.host } ?? false
                if !isElsewhere { (resource.host, resource.interface) = (nil, nil) }
            }
            print(
                isElsewhere
                    ? "\(port) is not bound to \(from ?? "")"
                    : "\(port) is bound to nothing, revision \(answer.revision)")
            try waiting.report(answer.wait)
        }
    }
}

/// `selvage migrate`.
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Move a port to another host, its connections with it.",
        discussion: """
            The other host knows the connections before the port moves; then every host that has flows to the port sends
            them there. No gratuitous ARP is needed. Returns when all nodes that are up forward by it.

            Call it when the machine has stopped at the old host and is about to go on at the new one. The interface there
            may come later.

            """ + ExitStatus.help)
    @OptionGroup var client: ClientOptions
    @Option(help: "Seconds to wait at most.") var waitSeconds = 10
    @Argument(help: "The port, as tenant/device/port.") var port: String
    @Argument(help: "The host that it moves to.") var host: String
    @Option(help: "The interface there, where it has another name.") var interface: String?

    func run() async throws {
        try await reporting {
            var old = ""
            try await waitForState()
            let query = [("wait", "true"), ("waitSeconds", "\(waitSeconds)")]
            let answer = try await Binding.change(port, client, query) { resource in
                guard let from = resource.host, let name = resource.interface else {
                    throw ValidationError(
                        "\(port) is bound to no host: selvage bind \(port) \(host) INTERFACE binds it")
                }
                old = from
                (resource.host, resource.interface) = (host, interface ?? name)
            }
            print(
                old == host
                    ? "\(port) is at \(host) already"
                    : "\(port) moved from \(old) to \(host), revision \(answer.revision)")
            var options = WaitOptions()
            options.waitSeconds = waitSeconds
            try options.report(answer.wait)
            await Binding.noteProblem(of: port, on: host, client)
        }
    }

    /// Waits until the host knows what the node that is asked knows.
    private func waitForState() async throws {
        for _ in 0..<30 {
            let known: ReplicationAnswer? = try? await client.ask {
                try await $0.value("GET", "/v1/node/replication", query: [("host", host)])
            }
            // A host that can't be reached may still be bound to: the interface counts when it is there.
            guard let known else { return }
            if known.peers.allSatisfy({ $0.missing == 0 && $0.backlog == 0 }) { return }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
