// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc
import Node

/// `selvage node`: runs the node of this host.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Run the node of this host until it is told to stop.",
        discussion: "A manifest says which ports are bound to this host's interfaces. SIGHUP reads it again.")

    @Option(help: "Name of this host in the manifest.")
    var host: String
    @Option(help: "The manifest.")
    var manifest: String
    @Option(help: "Where tools find the node.")
    var socket = "/run/selvage.sock"
    @Option(help: "Engine that carries packets: auto, kernel or userspace.")
    var datapath: NodeConfiguration.DatapathChoice = .auto
    @Option(help: "Packet threads of the userspace engine.")
    var threads = 1

    mutating func validate() throws {
        if !(1...64).contains(threads) { throw ValidationError("--threads: use 1 to 64") }
    }

    mutating func run() throws {
        var configuration = NodeConfiguration(host: host, manifest: manifest, socket: socket)
        configuration.datapath = datapath
        configuration.threads = threads
        try runNode(configuration)
    }
}

extension NodeConfiguration.DatapathChoice: ExpressibleByArgument {}

/// Runs a node until SIGTERM or SIGINT.
private func runNode(_ configuration: NodeConfiguration) throws {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, number) }
    sigprocmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)
    let node = try Node(configuration) { say($0) }
    try node.start()
    say("node \(configuration.host) is ready")
    while true {
        var number: Int32 = 0
        sigwait(&signals, &number)
        guard number == SIGHUP else { break }
        if let problem = node.reload() { say(problem) }
    }
    node.stop()
}

/// A line for the log, written at once: standard output is a file or the journal here.
private func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = write(1, bytes, bytes.count)
}
