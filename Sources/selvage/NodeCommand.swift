// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc
import Linux
import Manifest
import Node

/// `selvage node`: runs the node of this host.
struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Run the node of this host until it is told to stop.",
        discussion: """
            selvage cluster init or selvage cluster join has to come first: they write who the node is. It forwards by what it
            knows from the first moment on, and takes part in the cluster as soon as it hears of it.
            """)

    @Option(help: "Directory of the node.")
    var data = NodeDirectory.standard
    @Option(help: "Where tools find the node.")
    var socket = ClientOptions.standardSocket
    @Option(help: "Engine that carries packets: auto, kernel or userspace.")
    var datapath: NodeConfiguration.DatapathChoice = .auto
    @Option(help: "Packet threads of the userspace engine.")
    var threads = 1
    @Option(
        help:
            "File that says by which routers this host is reached at its address: underlay.yaml of the directory, if there is one."
    )
    var underlay: String?
    @Option(help: .hidden) var certificateSeconds = Founding.certificateLifetime

    mutating func validate() throws {
        if !(1...64).contains(threads) { throw ValidationError("--threads: use 1 to 64") }
    }

    func run() async throws {
        try await reporting {
            var configuration = NodeConfiguration(directory: NodeDirectory(data), socket: socket)
            configuration.datapath = datapath
            configuration.threads = threads
            configuration.certificateLifetime = certificateSeconds
            configuration.underlay = try configuration.directory.underlayFile(underlay).map {
                try ManifestReader.readUnderlay(path: $0)
            }
            try Signals.startCatching()
            raiseOpenFiles()
            let node = try Node(configuration) { say($0) }
            try await node.start()
            say("node \(node.name) is ready")
            await waitForEnd()
            await node.stop()
        }
    }
}

extension NodeConfiguration.DatapathChoice: ExpressibleByArgument {}

/// Connections and checks of members need more open files than processes have unless they ask.
private func raiseOpenFiles() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 65_536)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

/// Waits for SIGTERM or SIGINT, on a thread that may wait.
private func waitForEnd() async {
    await withCheckedContinuation { continuation in
        let wait: @Sendable () -> Void = {
            while ![SIGTERM, SIGINT].contains(Signals.next()) {}
            continuation.resume()
        }
        if (try? NamedThread("sel-signals", wait)) == nil { continuation.resume() }
    }
}

/// A line for the log, written at once: standard output is a file or the journal here.
private func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = write(1, bytes, bytes.count)
}
