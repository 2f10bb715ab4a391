// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Foundation
import Linux
import Simulation
import Topology
import Wire

/// Writes what rules ask for, a JSON object a line, on a thread that may wait for the log: packets must not.
struct RuleLogger: Sendable {
    /// Lines that wait to be written; what comes then is left out.
    private static let backlog = 1000
    private let host: String
    private let thread: SerialThread
    private let say: @Sendable (String) -> Void

    init(_ host: String, _ thread: SerialThread, _ say: @escaping @Sendable (String) -> Void) {
        self.host = host
        self.thread = thread
        self.say = say
    }

    private struct Line: Encodable {
        var time: String
        var host: String
        var tenant: String
        var chain: String
        var rule: String
        var port: String
        var packet: String
        var verdict: String
    }

    /// Takes a line, from a packet thread.
    func write(_ log: RuleLog) {
        guard thread.backlog < RuleLogger.backlog else { return }
        let time = wallSeconds()
        thread.add { [self] in
            let line = Line(
                time: rfc3339(time), host: host, tenant: log.chain.tenant, chain: log.chain.name, rule: log.rule,
                port: log.port.description, packet: log.packet, verdict: log.verdict)
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            guard let data = try? encoder.encode(line) else { return }
            say(String(decoding: data, as: UTF8.self))
        }
    }
}
