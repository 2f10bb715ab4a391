// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

/// The command. It parses, asks and prints; everything else is below.
@main
struct Selvage: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selvage",
        abstract: "Virtual networks for clusters: bridges, routers and ports, without a database.",
        discussion: """
            Try it on this machine, without root:
              selvage lab up cluster-examples/hello.yaml
              selvage lab check
              selvage trace acme/web/vm1 'icmp to 10.0.1.12'
              selvage lab down
            """,
        version: "0.1.0",
        subcommands: [
            LabCommand.self, TraceCommand.self, FlowsCommand.self, DatapathCommand.self, TopologyCommand.self,
            NodeCommand.self,
        ])
}
