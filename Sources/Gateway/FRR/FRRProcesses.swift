// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// Running daemons of FRRouting that have one directory. They are one: when one ends, all do.
struct FRRProcesses {
    /// Where they have their files.
    let place: FRRPlace
    private let files: String
    private var running: [(name: String, pid: Int32)] = []
    private let farewell: Farewell?
    /// Ends them when this process is gone.
    private var watch: ProcessWatch?

    /// - Parameters:
    ///   - files: what the names of their files begin with.
    ///   - farewell: how they end when this process is gone; `nil`: at once.
    init(files: String, farewell: Farewell? = nil) {
        self.files = files
        self.farewell = farewell
        place = FRRPlace(files: files)
    }

    /// Whether they run.
    var isRunning: Bool { !running.isEmpty }

    /// Whether one of them runs.
    func runs(_ name: String) -> Bool { running.contains { $0.name == name } }

    /// Starts daemons, in order, and has them configured; they end with the thread that calls.
    ///
    /// - Parameters:
    ///   - namespace: where they are to be; `nil`: in this one.
    ///   - more: what daemons are told besides, by name.
    mutating func start(
        _ names: [String], in namespace: NetworkNamespace?, configuration: String, log: Int32,
        more: [String: [String]] = [:]
    ) throws {
        try place.make()
        do {
            for name in names {
                guard let program = FRRPlace.program(name) else { throw GatewayError(FRRPlace.missing) }
                let pid = try Spawn(
                    program: program, arguments: place.arguments(name) + (more[name] ?? []),
                    namespaces: namespace.map { [$0.descriptor.number] } ?? [], output: log, error: log,
                    niceness: routingNiceness
                )
                .start()
                running.append((name, pid))
                // From the first on: this process may be gone at any time.
                let next = try ProcessWatch(running.map(\.pid), farewell: farewell)
                unwatch()
                watch = next
                if name == "zebra" { try wait(for: place.routes) }
            }
            for (name, _) in running { try wait(for: place.terminal(name)) }
            try tell(configuration)
        } catch {
            stop(SIGKILL)
            throw error
        }
    }

    private mutating func unwatch() {
        watch?.end()
        watch = nil
    }

    /// Waits until something can be asked there.
    private mutating func wait(for socket: String) throws {
        for _ in 0..<500 {
            if access(socket, F_OK) == 0 { return }
            if let (name, status) = reap() { throw GatewayError("\(name) ended at once, with status \(status)") }
            usleep(10_000)
        }
        throw GatewayError("the daemon does not make \(socket)")
    }

    /// Looks whether one ended by itself; how, once.
    mutating func ended() -> Int32? {
        guard let (_, status) = reap() else { return nil }
        // Who tells the kernel ends before it sees that nobody tells it anything any more.
        stop(SIGKILL)
        return status
    }

    /// One that ended, and how.
    private mutating func reap() -> (name: String, status: Int32)? {
        for (name, pid) in running {
            var status: Int32 = 0
            guard cl_wait(pid, 1, &status) != 0 else { continue }
            running.removeAll { $0.name == name }
            // For what it says when it crashes.
            FRRPlace.removeDirectory("/var/tmp/frr/\(name).\(pid)")
            return (name, status)
        }
        return nil
    }

    /// How long they may take to end in good order, hundredths of a second.
    private static let patience = 100

    /// Ends them.
    mutating func stop(_ signal: Int32) {
        unwatch()
        for (_, pid) in running { Glibc.kill(pid, signal) }
        var turn = 0
        while !running.isEmpty {
            while reap() != nil {}
            if turn == Self.patience { for (_, pid) in running { Glibc.kill(pid, SIGKILL) } }
            if !running.isEmpty { usleep(10_000) }
            turn += 1
        }
    }

    // MARK: - Configuration

    /// Why a configuration is none, in FRRouting's words; `nil` when it is one.
    func check(_ text: String) throws -> String? {
        let (status, words) = try shell(["-C"], text)
        if status == 0 { return nil }
        return words.split(separator: "\n").first.map(String.init) ?? "FRRouting refuses it, and does not say why"
    }

    /// Says lines of configuration to the daemons that run.
    func tell(_ text: String) throws {
        let (status, words) = try shell(["--vty_socket", place.directory], text)
        if status == 0 { return }
        let lines = words.split(separator: "\n")
        // The daemon's own words, rather than vtysh's of the line.
        let reason = lines.first { !$0.hasPrefix("line ") } ?? lines.last ?? "it does not say why"
        throw GatewayError("the daemon does not take its configuration: \(reason)")
    }

    private func shell(_ options: [String], _ text: String) throws -> (status: Int32, words: String) {
        guard let shell = FRRPlace.shell else { throw GatewayError(FRRPlace.missing) }
        try writeFile(text, to: files + ".new")
        return try ShortProgram.run(shell, ["vtysh"] + options + ["-f", files + ".new"], output: files + ".check")
    }

    func removeFiles() {
        place.remove()
        for file in [".new", ".check"] { unlink(files + file) }
    }
}
