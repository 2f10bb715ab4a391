// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Topology
import Wire

/// BIRD 2 for one uplink.
struct BirdDaemon: RoutingDaemon {
    static let announcedTable = BirdConfiguration.announcedTable

    private let files: String
    private let farewell: Farewell?
    private var process: BirdProcess?

    init(files: String, farewell: Farewell?) {
        self.files = files
        self.farewell = farewell
    }

    private var socket: String { files + ".ctl" }
    private var configuration: String { files + ".conf" }

    var isRunning: Bool { process != nil }

    mutating func ended() -> Int32? {
        guard let status = process?.end() else { return nil }
        process = nil
        return status
    }

    mutating func configure(_ plan: UplinkPlan) throws -> String? {
        let candidate = files + ".new"
        var trouble: String?
        var snippet: String?
        if let text = plan.uplink.snippet {
            try writeFile(text, to: files + ".snippet")
            snippet = files + ".snippet"
        }
        try writeFile(BirdConfiguration(plan, snippet: snippet).text, to: candidate)
        if let reason = BirdProcess.check(candidate, output: files + ".check") {
            let words = reason.replacing(files + ".snippet", with: "snippet").replacing(
                candidate, with: "configuration")
            trouble = words
            // What is ours goes on without what is not a configuration.
            if snippet != nil {
                trouble = "the snippet is left out: \(words)"
                try writeFile(BirdConfiguration(plan, snippet: nil).text, to: candidate)
            }
            if snippet == nil || BirdProcess.check(candidate, output: files + ".check") != nil {
                throw GatewayError("the daemon can't be configured: \(words)")
            }
        }
        guard rename(candidate, configuration) == 0 else { throw SystemError(errno, "write \(configuration)") }
        guard isRunning else { return trouble }
        // It has just begun, or is about to end.
        guard let answer = try? BirdControl(path: socket).say("configure") else { throw DaemonBusy() }
        return answer.code >= 8000 ? "the daemon keeps its configuration: \(answer.lines.last ?? "")" : trouble
    }

    mutating func start(in namespace: NetworkNamespace, isRecovering: Bool, log: Int32) throws -> String? {
        process = try BirdProcess.start(
            configuration, socket: socket, in: namespace, isRecovering: isRecovering, log: log,
            farewell: farewell)
        return nil
    }

    mutating func stop() {
        process?.stop()
        process = nil
    }

    /// The kernel says it all: see ``BirdConfiguration``.
    func cost(of prefix: Prefix) -> UInt32? { nil }
    func followCosts(isUrgent: Bool, now: UInt64) -> Set<Prefix>? { [] }

    func removeFiles() { for file in [".conf", ".new", ".snippet", ".ctl", ".check"] { unlink(files + file) } }

    static func peers(of plan: UplinkPlan, files: String) throws -> [PeerStatus] {
        let control = BirdControl(path: files + ".ctl")
        var list = PeerStatus.read(try control.say("show protocols all").lines, plan.uplink.peers)
        PeerStatus.read(liveness: (try? control.say("show bfd sessions").lines) ?? [], into: &list)
        return list
    }
}
