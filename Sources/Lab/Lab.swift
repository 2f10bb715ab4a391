// SPDX-License-Identifier: Apache-2.0
import CLinux
import Foundation
import Glibc
import Linux
import Manifest
import Node
import Topology

/// A lab as the command line sees it: it is begun, asked and ended from outside its world.
public struct Lab: Sendable {
    /// Its files.
    public let directory: LabDirectory

    /// The lab of a name.
    public init(name: String) throws { directory = try LabDirectory(name: name) }

    /// Names of the labs of this user that run.
    public static func runningNames() throws -> [String] {
        try LabDirectory.all().filter { try LabDirectory(name: $0).supervisor != nil }
    }

    /// The only lab that runs, or the one of that name.
    public static func running(_ name: String?) throws -> Lab {
        let running = try runningNames()
        if let name {
            guard running.contains(name) else {
                throw LabError(
                    "no lab \(name) is running",
                    running.isEmpty ? "selvage lab up FILE starts one" : "running: \(running.joined(separator: ", "))")
            }
            return try Lab(name: name)
        }
        guard let only = running.first else { throw LabError("no lab is running", "selvage lab up FILE starts one") }
        guard running.count == 1 else {
            throw LabError("several labs are running: \(running.joined(separator: ", "))", "say which with --lab NAME")
        }
        return try Lab(name: only)
    }

    /// Starts a lab and returns when it is ready.
    public static func up(file: String, name: String) throws -> Lab {
        let manifest = try ManifestReader.read(path: file)
        guard manifest.lab != nil else {
            throw LabError(
                "\(file): has no lab part", "add lab: with hosts and machines; cluster-examples/hello.yaml shows how")
        }
        let lab = try Lab(name: name)
        if lab.directory.supervisor != nil {
            throw LabError(
                "lab \(name) is running already",
                "selvage lab down --lab \(name) ends it; selvage lab apply \(file) changes it")
        }
        lab.directory.remove()
        try lab.directory.create()
        try String(contentsOfFile: file, encoding: .utf8).write(
            toFile: lab.directory.manifest, atomically: true, encoding: .utf8)
        do {
            try lab.begin(file)
        } catch {
            lab.down()
            throw error
        }
        return lab
    }

    private func begin(_ file: String) throws {
        var ends: [Int32] = [0, 0]
        if pipe(&ends) < 0 { throw SystemError(errno, "make a pipe") }
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        let log = Glibc.open(directory.log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        let null = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
        defer {
            close(log)
            close(null)
        }
        let spawn = Spawn(
            program: "/proc/self/exe",
            arguments: [
                "selvage", "lab", "supervise", "--directory", directory.path, "--file", file, "--ready", "\(ends[1])",
            ],
            input: null, output: log, error: log, ownSession: true, kept: ends[1])
        var stage: Int32 = 0
        var pid = spawn.startWorld(mapUser: true, stage: &stage)
        // Root needs no user namespace where there is none to be had.
        if pid < 0, stage <= 2, getuid() == 0 { pid = spawn.startWorld(mapUser: false, stage: &stage) }
        close(ends[1])
        defer { close(ends[0]) }
        if pid < 0 { throw Lab.refusal(pid, stage) }
        try "\(pid) \(LabDirectory.startTime(pid) ?? "")".write(
            toFile: directory.processFile, atomically: true, encoding: .utf8)
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(ends[0], &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            text += String(decoding: buffer[..<count], as: UTF8.self)
            if text == "ready\n" { return }
        }
        throw LabError(
            text.isEmpty ? "the lab did not start" : text.trimmingCharacters(in: .newlines),
            "more may be in \(directory.log)")
    }

    /// Why no world could be made, and what to type.
    private static func refusal(_ code: Int32, _ stage: Int32) -> LabError {
        let error = SystemError(code, stage == 1 || stage == 2 ? "make a user namespace" : "make the lab's namespaces")
        guard stage <= 3 else { return LabError("\(error)", "this is a fault of Selvage: please report it") }
        for (name, wanted) in [
            ("kernel.unprivileged_userns_clone", "1"), ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ] {
            let path = "/proc/sys/" + name.replacingOccurrences(of: ".", with: "/")
            if let value = try? String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(
                in: .whitespacesAndNewlines),
                value != wanted
            {
                return LabError(
                    "\(error): this system keeps unprivileged users from making user namespaces (\(name) is \(value))",
                    "type: sudo sysctl -w \(name)=\(wanted)    or run the lab as root")
            }
        }
        if let value = try? String(contentsOfFile: "/proc/sys/user/max_user_namespaces", encoding: .utf8),
            Int(value.filter(\.isNumber)) == 0
        {
            return LabError(
                "\(error): user namespaces are switched off (user.max_user_namespaces is 0)",
                "type: sudo sysctl -w user.max_user_namespaces=10000    or run the lab as root")
        }
        return LabError("\(error)", "a container may forbid it: allow it there, or run the lab as root on the host")
    }

    /// Whether it runs.
    public var isThere: Bool { directory.supervisor != nil }

    /// Ends the lab. Works in whatever state it is.
    public func down() {
        if let pid = directory.supervisor {
            kill(pid, SIGTERM)
            let deadline = monotonicNanoseconds() + 3_000_000_000
            while directory.supervisor != nil {
                if monotonicNanoseconds() > deadline { kill(pid, SIGKILL) }
                usleep(5000)
            }
        }
        directory.remove()
    }

    /// Asks the supervisor.
    public func ask(_ request: LabRequest, timeoutSeconds: Int = 120) throws -> LabResponse {
        let response: LabResponse = try ControlClient.ask(request, at: directory.socket, timeoutSeconds: timeoutSeconds)
        if case .failure(let reason) = response { throw LabError(reason, "nothing else was changed") }
        return response
    }

    /// The manifest in force.
    public func manifest() throws -> Manifest { try ManifestReader.read(path: directory.manifest) }

    /// Runs a program in a machine or on a host, with this terminal; returns its exit status.
    public func execute(in place: String, _ command: [String]) throws -> Int32 {
        guard let pid = directory.supervisor else {
            throw LabError("lab \(directory.name) is not running", "selvage lab up FILE starts it")
        }
        let plan = try manifest().lab ?? LabPlan()
        let path: String
        if let port = PortPath(place), plan.machines[port] != nil {
            path = directory.machineNamespace(port)
        } else if plan.hosts.contains(place) || plan.places.contains(place) {
            path = directory.hostNamespace(place)
        } else {
            let known = plan.machines.keys.sorted().map(\.description) + plan.hosts + plan.places
            throw LabError("\(place): no such machine or host", "there are \(known.joined(separator: ", "))")
        }
        let world = "/proc/\(pid)"
        var descriptors: [Descriptor] = []
        for file in ["\(world)/ns/user", "\(world)/ns/pid", "\(world)/ns/mnt"] {
            // Root without a user namespace of the lab's own is in it already.
            if file.hasSuffix("user"), targetOfLink(file) == targetOfLink("/proc/self/ns/user") { continue }
            descriptors.append(Descriptor(try SystemError.check(cl_open_path(file), "enter the lab")))
        }
        descriptors.append(Descriptor(try SystemError.check(cl_open_path("\(world)/root\(path)"), "enter \(place)")))
        let program = Lab.find(command.first ?? "sh")
        signal(SIGINT, SIG_IGN)
        signal(SIGQUIT, SIG_IGN)
        let child = try Spawn(
            program: program, arguments: command, namespaces: descriptors.map(\.number), relays: true
        )
        .start()
        var status: Int32 = 0
        cl_wait(child, 0, &status)
        return status
    }

    /// What `exec` runs without a command. Where there is bash: dash does not know its terminal's group in the lab's world.
    public static var shell: String { access("/bin/bash", X_OK) == 0 ? "bash" : "sh" }

    private static func find(_ program: String) -> String {
        if program.contains("/") { return program }
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
        for directory in path.split(separator: ":") {
            let candidate = "\(directory)/\(program)"
            if access(candidate, X_OK) == 0 { return candidate }
        }
        return program
    }
}
