// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Gateway

/// What runs when a node with uplinks was killed; who began it is gone.
struct FarewellCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: Farewell.subcommand, abstract: "Ends the routing daemons of a node that was killed.",
        shouldDisplay: false)

    @Argument var uplink: String
    @Argument var daemon: String
    @Argument var processes: [Int32]

    func run() { Farewell(uplink: uplink, daemon: daemon).run(processes) }
}
