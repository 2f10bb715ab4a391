// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

/// What `make bench` measures from inside: the simulation alone, and small packets between two namespaces.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selvage-bench",
        subcommands: [
            SimulateCommand.self, StateCommand.self, HostileCommand.self, BlastCommand.self, ConnectionsCommand.self,
            LogCommand.self,
            ApplyCommand.self,
            StoreCommand.self,
            EtcdCommand.self,
        ])
}
