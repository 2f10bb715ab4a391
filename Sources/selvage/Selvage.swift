// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Glibc
import Node

/// The command. It parses, asks and prints; everything else is below.
@main
struct Selvage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selvage",
        abstract: "Virtual networks for clusters: bridges, routers and ports, without a database to run.",
        discussion: """
            Try it on this machine, without root:
              selvage lab up cluster-examples/hello.yaml
              selvage lab check
              selvage trace acme/web/vm1 'icmp to 10.0.1.12'
              selvage lab down
            """,
        version: Founding.version,
        subcommands: [FarewellCommand.self],
        groupedSubcommands: [
            CommandGroup(
                name: "Topology",
                subcommands: [
                    ApplyCommand.self, DiffCommand.self, GetCommand.self, DescribeCommand.self, DeleteCommand.self,
                    BindCommand.self, UnbindCommand.self, MigrateCommand.self, MemberCommand.self, ExportCommand.self,
                    WatchCommand.self,
                    TopologyCommand.self,
                ]),
            CommandGroup(
                name: "Why",
                subcommands: [
                    TraceCommand.self, FlowsCommand.self, StateCommand.self, RulesCommand.self, DatapathCommand.self,
                    TunnelsCommand.self, BGPCommand.self, StatusCommand.self,
                ]),
            CommandGroup(
                name: "Running", subcommands: [ClusterCommand.self, NodeCommand.self, LabCommand.self]),
        ])

    /// Signals are blocked before the first thread starts: all that start later inherit that, and whoever waits for signals
    /// gets them.
    static func main() async {
        if CommandLine.arguments.dropFirst().first == "node" {
            var signals = sigset_t()
            sigemptyset(&signals)
            for number in [SIGTERM, SIGINT] { sigaddset(&signals, number) }
            sigprocmask(SIG_BLOCK, &signals, nil)
        }
        await main(nil)
    }
}
