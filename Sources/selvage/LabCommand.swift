// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Glibc
import Lab
import Linux
import Manifest
import Topology
import Wire

/// `selvage lab`: a whole cluster on this machine.
struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab", abstract: "A whole cluster on this machine, without root and without kernel modules.",
        discussion: """
            Hosts and machines become network namespaces inside one user namespace; each host runs a node of its own.

              selvage lab up cluster-examples/two-tenants.yaml
              selvage lab check
              selvage lab exec acme/web/vm1 -- ping 10.0.2.21
              selvage lab kill h1                  and see what goes on
              selvage lab partition h1 h2,h3
              selvage lab down
            """,
        subcommands: [
            Up.self, Down.self, Status.self, Check.self, Apply.self, Exec.self, Ping.self, Kill.self,
            Start.self, Partition.self, Heal.self, Supervise.self,
        ])

    struct Options: ParsableArguments {
        @Option(name: .customLong("lab"), help: "Name of the lab, where several run.")
        var name: String?

        /// What a command that follows has to say to mean the same lab.
        var again: String { name.map { " --lab \($0)" } ?? "" }
    }

    /// A name for a lab made of its file's name.
    static func defaultName(_ file: String) -> String {
        let base = URL(fileURLWithPath: file).deletingPathExtension().lastPathComponent
        let name = String(base.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") ? $0 : "-" }.prefix(32))
        return name.first.map { $0.isLetter || $0.isNumber } == true ? name : "lab"
    }

    struct Up: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "up", abstract: "Start a lab, check what its manifest expects, and leave it running.")
        @Argument(help: "A manifest with a lab part.") var file: String
        @Option(name: .customLong("lab"), help: "Name of the lab; the file's name unless said.") var name: String?
        @Flag(help: "Start only; do not check.") var noCheck = false
        @Flag(help: "Stay, and end the lab on Ctrl-C.") var attach = false

        mutating func run() throws {
            if attach { try Signals.startCatching() }
            let lab = try Lab.up(file: file, name: name ?? LabCommand.defaultName(file))
            var isRight = true
            do {
                if case .status(let status) = try lab.ask(.status) { LabPrinter.headline(status) }
                if !noCheck { isRight = try LabPrinter.check(lab) }
            } catch {
                lab.down()
                throw error
            }
            LabPrinter.hints(lab)
            if attach {
                while Signals.next() == SIGCHLD {}
                lab.down()
            }
            if !isRight { throw ExitCode(1) }
        }
    }

    struct Down: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "down", abstract: "End a lab. Nothing is left behind.")
        @OptionGroup var options: Options
        @Flag(help: "End all labs.") var all = false

        mutating func run() throws {
            let names = try LabDirectory.all()
            if all {
                for name in names { try end(name) }
            } else if let name = options.name {
                try end(name)
            } else if names.count > 1 {
                throw LabError(
                    "there are several labs: \(names.joined(separator: ", "))", "say which with --lab NAME, or --all")
            } else if let only = names.first {
                try end(only)
            }
        }

        private func end(_ name: String) throws {
            let lab = try Lab(name: name)
            let wasThere = lab.isThere
            lab.down()
            print(wasThere ? "lab \(name) has ended" : "no lab \(name) is running")
        }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "status", abstract: "Show hosts and machines.")
        @OptionGroup var options: Options
        @Flag(help: "Print JSON.") var json = false

        mutating func run() throws {
            guard case .status(let status) = try Lab.running(options.name).ask(.status) else { return }
            if json { return try printJSON(status) }
            LabPrinter.status(status)
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "check", abstract: "Run what the manifest expects: who reaches whom, and who must not.",
            discussion: "Exit status 0 when everything is as expected, 1 when something is not.")
        @OptionGroup var options: Options
        @Flag(help: "Print JSON.") var json = false

        mutating func run() throws {
            let lab = try Lab.running(options.name)
            if json {
                guard case .check(let results) = try lab.ask(.check) else { return }
                try printJSON(results)
                if !results.allSatisfy(\.isRight) { throw ExitCode(1) }
            } else if try !LabPrinter.check(lab) {
                throw ExitCode(1)
            }
        }
    }

    struct Apply: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "apply", abstract: "Change the running lab to what a manifest says.",
            discussion: "The whole manifest is checked first; if anything is wrong, nothing changes.")
        @Argument(help: "The manifest.") var file: String
        @OptionGroup var options: Options

        mutating func run() throws {
            let lab = try Lab.running(options.name)
            _ = try ManifestReader.read(path: file)
            _ = try lab.ask(.apply(text: try String(contentsOfFile: file, encoding: .utf8), file: file))
            print("applied")
        }
    }

    struct Exec: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "exec", abstract: "Run a command in a machine or on a host.",
            discussion: """
                selvage lab exec acme/web/vm1 -- ping 10.0.2.21
                selvage lab exec h1 -- tcpdump -Z root -ni eth0    (in a lab that root started)
                """)
        @OptionGroup var options: Options
        @Argument(help: "A machine, as tenant/device/port, or a host.") var place: String
        @Argument(parsing: .postTerminator, help: "The command; a shell unless said.") var command: [String] = []

        mutating func run() throws {
            let status = try Lab.running(options.name).execute(in: place, command.isEmpty ? [Lab.shell] : command)
            if status != 0 { throw ExitCode(status) }
        }
    }

    struct Ping: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "ping", abstract: "Ping one machine from another.")
        @OptionGroup var options: Options
        @Argument(help: "Who pings.") var from: String
        @Argument(help: "A machine or an address.") var to: String
        @Option(name: .shortAndLong, help: "How many times.") var count = 4

        mutating func run() throws {
            let lab = try Lab.running(options.name)
            let machines = try lab.manifest().lab?.machines ?? [:]
            let machine = machines.first { $0.key.description == to }?.value
            guard machine != nil || IPAddress(to) != nil else {
                let known = machines.keys.map(\.description).sorted().joined(separator: ", ")
                throw LabError("\(to): no such machine, and no address", "there are \(known)")
            }
            let address = machine?.addresses.first?.address.description ?? to
            let status = try lab.execute(in: from, ["ping", "-c", "\(count)", "-i", "0.2", address])
            if status != 0 { throw ExitCode(status) }
        }
    }

    struct Start: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "start", abstract: "Start the node of a host again after it ended.")
        @OptionGroup var options: Options
        @Argument(help: "The host.") var host: String

        mutating func run() throws {
            _ = try Lab.running(options.name).ask(.start(host: host))
            print("the node of \(host) runs")
        }
    }

    struct Kill: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "kill", abstract: "End the node of a host at once, as a power cut would.",
            discussion: "Machines on the host live on; what they send goes nowhere until selvage lab start.")
        @OptionGroup var options: Options
        @Argument(help: "The host.") var host: String

        mutating func run() throws {
            _ = try Lab.running(options.name).ask(.kill(host: host))
            print("the node of \(host) is dead; selvage lab start \(host)\(options.again) starts it again")
        }
    }

    struct Partition: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "partition", abstract: "Cut the underlay: hosts of different groups do not hear each other.",
            discussion: """
                Hosts that are not named form a group of their own. With --zone it is cut in one tunnel zone only, as where one of
                several switches or cables dies. selvage lab heal ends it.

                  selvage lab partition h1,h2 h3
                  selvage lab partition 'h1,h2 | h3'
                  selvage lab partition --zone second h1 h2 h3
                """)
        @OptionGroup var options: Options
        @Option(help: "The tunnel zone that is cut; all unless said.") var zone: String?
        @Argument(help: "Groups of hosts: names with commas between them.") var groups: [String]

        mutating func run() throws {
            let groups = groups.flatMap { $0.split(whereSeparator: { $0 == "|" || $0 == " " }) }
                .map { $0.split(separator: ",").map(String.init) }.filter { !$0.isEmpty }
            _ = try Lab.running(options.name).ask(.partition(groups, zone: zone))
            print("the underlay\(zone.map { " of zone \($0)" } ?? "") is cut; selvage lab heal\(options.again) ends it")
        }
    }

    struct Heal: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "heal", abstract: "End a partition: all hosts hear each other again.")
        @OptionGroup var options: Options

        mutating func run() throws {
            _ = try Lab.running(options.name).ask(.heal)
            print("all hosts hear each other")
        }
    }

    struct Supervise: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "supervise", abstract: "Process 1 of a lab; lab up runs it.", shouldDisplay: false)
        @Option var directory: String
        @Option var file: String
        @Option var ready: Int32

        mutating func run() async throws {
            let (directory, file, ready) = (directory, file, ready)
            // The supervisor waits for answers of nodes, which come by tasks: on a machine of one CPU there is one thread for
            // tasks, and it must not be this one.
            let code = try await withCheckedThrowingContinuation { (done: CheckedContinuation<Int32, any Error>) in
                do {
                    _ = try NamedThread("sel-lab") {
                        done.resume(returning: Supervisor.run(directory: directory, file: file, ready: ready))
                    }
                } catch { done.resume(throwing: error) }
            }
            throw ExitCode(code)
        }
    }
}
