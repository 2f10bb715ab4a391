// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Linux
import Topology

/// Where a lab keeps its files, and how a tool finds it.
public struct LabDirectory: Sendable {
    /// Name of the lab.
    public let name: String
    /// The directory.
    public let path: String

    /// The directory of a lab of this user.
    ///
    /// - Throws: ``LabError`` for a name that is none, or where someone else could have put files in our place.
    public init(name: String) throws {
        guard isValidName(name) else {
            throw LabError(
                "\(name): not a name for a lab",
                "use 1 to 63 letters, digits, \"-\", \"_\" and \".\", first a letter or digit")
        }
        try LabDirectory.checkBase()
        self.name = name
        path = LabDirectory.base + "/" + name
    }

    /// A lab's directory by its path, as seen from inside the lab, where everyone is root.
    public init(path: String) {
        self.path = path
        name = path.split(separator: "/").last.map(String.init) ?? path
    }

    /// Where this user's labs are: below /run for root, below `XDG_RUNTIME_DIR` where that is set, else below /tmp.
    private static var base: String {
        if getuid() == 0 { return "/run/selvage-labs" }
        if let runtime = ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"], runtime.hasPrefix("/") {
            return runtime + "/selvage-labs"
        }
        return "/tmp/selvage-labs-\(getuid())"
    }

    /// In /tmp anyone may make our directory before us, and put files in it that tell us what to kill or to run.
    private static func checkBase() throws {
        guard isPrivateDirectory(base) ?? true else {
            throw LabError("\(base) is not yours alone", "remove it, or set XDG_RUNTIME_DIR to a directory of yours")
        }
    }

    /// Names of the labs that have a directory.
    public static func all() throws -> [String] {
        try checkBase()
        return ((try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []).filter { isValidName($0) }.sorted()
    }

    /// The manifest that is in force.
    public var manifest: String { path + "/manifest.yaml" }
    /// The supervisor's socket.
    public var socket: String { path + "/lab.sock" }
    /// Process id and start time of the supervisor.
    public var processFile: String { path + "/supervisor" }
    /// The socket of a host's node.
    public func nodeSocket(_ host: String) -> String { "\(path)/\(host).sock" }
    /// What a node reads that routes for its host.
    public func nodeUnderlay(_ host: String) -> String { "\(path)/\(host).underlay.yaml" }
    /// The files of a host's node.
    public func nodeData(_ host: String) -> String { "\(path)/\(host).data" }
    /// The log of a host's node.
    public func nodeLog(_ host: String) -> String { "\(path)/\(host).log" }
    /// The supervisor's log.
    public var log: String { path + "/lab.log" }
    /// Where namespaces are mounted; visible inside the lab only.
    public var namespaces: String { path + "/net" }
    /// The namespace of a host.
    public func hostNamespace(_ host: String) -> String { "\(namespaces)/host.\(host)" }
    /// The namespace of a machine.
    public func machineNamespace(_ port: PortPath) -> String {
        "\(namespaces)/" + port.description.replacingOccurrences(of: "/", with: ":")
    }

    /// Makes the directory, readable by nobody else.
    func create() throws {
        try FileManager.default.createDirectory(
            atPath: LabDirectory.base, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        // Someone else may have made it since we looked.
        try LabDirectory.checkBase()
        try FileManager.default.createDirectory(
            atPath: namespaces, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    func remove() { try? FileManager.default.removeItem(atPath: path) }

    /// The supervisor's process id, if it runs.
    public var supervisor: Int32? {
        guard let text = try? String(contentsOfFile: processFile, encoding: .utf8) else { return nil }
        let words = text.split(separator: " ")
        guard words.count == 2, let pid = Int32(words[0]), let start = LabDirectory.startTime(pid),
            start == String(words[1])
        else { return nil }
        return pid
    }

    /// When a process started, in the kernel's ticks; tells a process from a later one of the same id.
    static func startTime(_ pid: Int32) -> String? {
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        // A process that has ended but was not waited for is none.
        guard fields.count > 19, fields[0] != "Z" else { return nil }
        return String(fields[19])
    }
}

/// What a lab could not do.
public struct LabError: Error, Sendable, CustomStringConvertible {
    /// What happened, and beneath it what to do.
    public let description: String

    /// An error with a remedy.
    public init(_ reason: String, _ remedy: String) { description = "\(reason)\n    \(remedy)" }
}
