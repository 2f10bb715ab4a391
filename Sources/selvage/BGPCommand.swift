// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Lab

/// `selvage bgp`.
struct BGPCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bgp", abstract: "Show what uplinks hear from routers outside, and tell them.",
        subcommands: [Status.self], defaultSubcommand: Status.self)

    /// `selvage bgp status`.
    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show uplinks, their sessions, and why one is not there.",
            discussion: """
                RECEIVED are routes that a peer sends, ACCEPTED those of them that are taken, TOLD announcements that it gets.
                """)

        @OptionGroup var node: NodeOptions
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let (answers, isComplete): ([(host: String, answer: [UplinkAnswer])], Bool) = try await askAll(
                "uplinks", node)
            if json {
                try printJSON(Dictionary(answers.map { ($0.host, $0.answer) }, uniquingKeysWith: { a, _ in a }))
            } else {
                show(answers)
            }
            if !isComplete { throw ExitCode(1) }
        }

        private func show(_ answers: [(host: String, answer: [UplinkAnswer])]) {
            let uplinks = answers.flatMap { host, list in list.map { (host, $0) } }
            if uplinks.isEmpty { return print("there are no uplinks") }
            for (host, uplink) in uplinks {
                let daemon =
                    uplink.isRunning
                    ? "\(uplink.routes) routes" + (uplink.failures > 0 ? ", daemon ended \(uplink.failures) times" : "")
                    : "the daemon does not run"
                print("\(uplink.port)" + (host.isEmpty ? "" : " on \(host)") + ": \(daemon)")
                if uplink.port != UplinkAnswer.evpn {
                    print(
                        "  announces "
                            + (uplink.announced.isEmpty ? "nothing" : uplink.announced.joined(separator: ", ")))
                }
                if let problem = uplink.problem { print("  problem: \(problem)") }
                if uplink.peers.isEmpty { continue }
                LabPrinter.table(
                    ["PEER", "AS", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "TOLD", "BFD", "LAST ERROR"],
                    uplink.peers.map { peer in
                        [
                            peer.address, "\(peer.system)", peer.state, age(peer.sinceMilliseconds), "\(peer.received)",
                            "\(peer.accepted)", "\(peer.announced)", peer.liveness ?? "-", peer.problem ?? "-",
                        ]
                    })
            }
        }

        private func age(_ since: UInt64?) -> String {
            guard let since else { return "-" }
            let seconds = Int(Date().timeIntervalSince1970) - Int(since / 1000)
            return seconds < 0 ? "0 s" : "\(seconds) s"
        }
    }
}
