// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Lab
import Manifest
import Store
import TLS

/// Where a command finds the cluster, and how it shows what it was told.
struct ClientOptions: ParsableArguments {
    static let standardSocket = "/run/selvage.sock"

    @Option(help: "Socket of a node, where it is not a lab's and not \(standardSocket).")
    var socket: String?
    @Option(name: .customLong("lab"), help: "Name of the lab, where several run.")
    var labName: String?
    @Option(help: "Ask a node over the network instead: ADDRESS:PORT of its API.")
    var server: String?
    @Option(help: "With --server: file with the cluster's authorities (authorities.pem).")
    var ca: String?
    @Option(help: "With --server: file with a client certificate; --key has its key.")
    var cert: String?
    @Option(help: "With --server: file with the key of --cert.")
    var key: String?
    @Option(help: "With --server: file with an access key (selvage cluster keys create).")
    var accessKey: String?
    @Option(help: "Seconds to wait for an answer.")
    var timeout: Int64 = 30

    /// Clients of the nodes that may be asked; the first that answers will do.
    func clients() throws -> [APIClient] {
        if let server { return [try remote(server)] }
        if let socket { return [APIClient(.socket(socket), timeoutSeconds: timeout)] }
        if labName == nil, FileManager.default.fileExists(atPath: ClientOptions.standardSocket) {
            return [APIClient(.socket(ClientOptions.standardSocket), timeoutSeconds: timeout)]
        }
        let isThereALab = try labName != nil || !Lab.runningNames().isEmpty
        guard isThereALab else {
            return [APIClient(.socket(ClientOptions.standardSocket), timeoutSeconds: timeout)]
        }
        let lab = try Lab.running(labName)
        return try (lab.manifest().lab?.hosts ?? []).map {
            APIClient(.socket(lab.directory.nodeSocket($0)), timeoutSeconds: timeout)
        }
    }

    /// Has one of the nodes answer: one that does not run is passed over.
    func ask<Value>(_ body: (APIClient) async throws -> Value) async throws -> Value {
        var failure: any Error = Complaint("no node is known to ask")
        for client in try clients() {
            do { return try await body(client) } catch let error as ClientError { failure = error }
        }
        throw failure
    }

    private func remote(_ server: String) throws -> APIClient {
        guard let address = splitAddress(server) else {
            throw Complaint("--server \(server): write ADDRESS:PORT", ExitStatus.usage)
        }
        guard let ca else {
            throw Complaint("--server needs --ca: a file with the cluster's authorities", ExitStatus.usage)
        }
        let authorities = Certificate.all(pem: try text(ca))
        guard !authorities.isEmpty else { throw Complaint("--ca \(ca): has no certificate") }
        var identity: (certificate: Certificate, key: PrivateKey)?
        if let cert {
            identity = (try Certificate(pem: try text(cert)), try PrivateKey(pem: try text(key ?? cert)))
        }
        let bearer = try accessKey.map { try text($0).trimmingCharacters(in: .whitespacesAndNewlines) }
        return APIClient(
            .tls(
                host: address.host, port: address.port,
                try TLSContext(identity: identity, authorities: authorities, verification: .required),
                name: address.host), key: bearer, timeoutSeconds: timeout)
    }

    private func text(_ file: String) throws -> String {
        do { return try String(contentsOfFile: file, encoding: .utf8) } catch {
            throw Complaint("\(file): can't be read")
        }
    }
}

/// How something is shown.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
    case yaml
}

struct OutputOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: "How to show it: table, json or yaml.")
    var output = OutputFormat.table

    /// Shows a value: as a table of its own, or whole.
    func show(_ value: some Encodable, _ table: () -> Void) throws {
        switch output {
        case .table: table()
        case .json: try printJSON(value)
        case .yaml:
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            let any = try JSONSerialization.jsonObject(with: try encoder.encode(value), options: .fragmentsAllowed)
            print(YAMLText.write(any), terminator: "")
        }
    }
}

/// JSON values as YAML.
enum YAMLText {
    static func write(_ value: Any, _ depth: Int = 0) -> String {
        let indent = String(repeating: "  ", count: depth)
        switch value {
        case let object as [String: Any] where !object.isEmpty:
            return object.sorted { $0.key < $1.key }.map { key, value in
                isSimple(value) ? "\(indent)\(key): \(scalar(value))\n" : "\(indent)\(key):\n" + write(value, depth + 1)
            }
            .joined()
        case let list as [Any] where !list.isEmpty:
            return list.map { value in
                if isSimple(value) { return "\(indent)- \(scalar(value))\n" }
                let text = write(value, depth + 1)
                return "\(indent)- " + text.dropFirst(2 * (depth + 1))
            }
            .joined()
        default: return indent + scalar(value) + "\n"
        }
    }

    private static func isSimple(_ value: Any) -> Bool {
        if let object = value as? [String: Any] { return object.isEmpty }
        if let list = value as? [Any] { return list.isEmpty }
        return true
    }

    private static func scalar(_ value: Any) -> String {
        switch value {
        case is [String: Any]: return "{}"
        case is [Any]: return "[]"
        case let text as String:
            let isPlain =
                text.first.map { $0.isLetter || $0 == "/" } == true
                && text.allSatisfy { $0.isLetter || $0.isNumber || "-_./ ".contains($0) } && !text.hasSuffix(" ")
                && !["true", "false", "yes", "no", "on", "off", "null"].contains(text.lowercased())
            let encoder = JSONEncoder()
            encoder.outputFormatting = .withoutEscapingSlashes
            guard !isPlain, let data = try? encoder.encode(text) else { return text }
            return String(decoding: data, as: UTF8.self)
        case let number as NSNumber:
            return CFBooleanLike.isBoolean(number) ? (number.boolValue ? "true" : "false") : "\(number)"
        default: return "null"
        }
    }
}

/// Foundation keeps JSON's booleans and numbers in one class.
private enum CFBooleanLike {
    static func isBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
}

/// What a command says when it does not do what it was asked for.
struct Complaint: Error, CustomStringConvertible {
    var description: String
    var status: Int32

    init(_ text: String, _ status: Int32 = ExitStatus.failed) {
        description = text
        self.status = status
    }
}

/// Exit statuses that scripts can use.
enum ExitStatus {
    /// It was refused, or failed.
    static let failed: Int32 = 1
    /// There is no such thing.
    static let notFound: Int32 = 3
    /// It was changed meanwhile, or exists already.
    static let conflict: Int32 = 4
    /// The cluster, or the node, can't be reached or can't agree.
    static let unavailable: Int32 = 5
    /// The command was called wrongly.
    static let usage: Int32 = 64

    static let help = """
        Exit status: 0 done, 1 refused or failed, 3 no such thing, 4 changed meanwhile or there already, 5 the node can't be
        reached or the cluster can't agree, 64 wrong usage.
        """

    static func of(_ error: any Error) -> Int32 {
        switch error {
        case let refusal as APIRefusal:
            switch refusal.status {
            case 404: notFound
            case 412: conflict
            case 409 where refusal.type == "conflict": conflict
            case 502, 503: unavailable
            default: failed
            }
        case is ClientError: unavailable
        case let complaint as Complaint: complaint.status
        default: failed
        }
    }
}

/// Runs a command; what goes wrong is said in our words, with a status of ours.
func reporting(_ body: () async throws -> Void) async throws {
    do { try await body() } catch let error as ExitCode { throw error } catch {
        FileHandle.standardError.write(Data("\(error)\n".utf8))
        throw ExitCode(ExitStatus.of(error))
    }
}

/// Says something beside the answer.
func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// Asks before something that can't be taken back, unless nobody is there to answer.
func confirm(_ question: String, _ isSure: Bool) throws {
    guard !isSure, isatty(0) == 1 else { return }
    print("\(question) [y/N] ", terminator: "")
    guard let answer = readLine(), ["y", "yes"].contains(answer.lowercased()) else {
        print("nothing was done")
        throw ExitCode(ExitStatus.failed)
    }
}
