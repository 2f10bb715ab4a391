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

    private var socket: String { BirdFiles(files).socket }
    private var configuration: String { BirdFiles(files).configuration }

    var isRunning: Bool { process != nil }

    mutating func ended() -> Int32? {
        guard let status = process?.end() else { return nil }
        process = nil
        return status
    }

    mutating func configure(_ plan: UplinkPlan) throws -> String? {
        let trouble = try BirdFiles(files).write(plan.uplink.snippet) { BirdConfiguration(plan, snippet: $0).text }
        guard isRunning else { return trouble }
        return try BirdControl(path: socket).configure() ?? trouble
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

    func removeFiles() { BirdFiles(files).remove() }

    static func peers(of plan: UplinkPlan, files: String) throws -> [PeerStatus] {
        try BirdControl(path: BirdFiles(files).socket).peers(plan.uplink.peers)
    }
}
