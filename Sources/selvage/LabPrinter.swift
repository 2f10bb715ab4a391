// SPDX-License-Identifier: Apache-2.0
import Foundation
import Lab
import Manifest
import Topology
import Wire

/// Tables that a person likes to read.
enum LabPrinter {
    static func headline(_ status: LabStatus) {
        let kinds = Set(status.hosts.compactMap(\.datapath)).sorted().joined(separator: " and ")
        print(
            "Lab \(status.name) is up: \(count(status.hosts.count, "host")), \(count(status.machines.count, "machine")), \(kinds) datapath."
        )
        for host in status.hosts {
            for problem in host.problems { print("  \(host.name): \(problem)") }
        }
    }

    private static func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }

    static func status(_ status: LabStatus) {
        print("lab \(status.name), \(status.manifest)\n")
        table(
            ["HOST", "ADDRESS", "NODE", "CLUSTER", "REVISION", "HEARS", "PROBLEMS"],
            status.hosts.map {
                [
                    $0.name, $0.address, $0.datapath ?? "down", $0.role ?? "-", $0.revision.map(String.init) ?? "-",
                    $0.group?.joined(separator: ",") ?? "all",
                    $0.problems.isEmpty ? "none" : $0.problems.joined(separator: "; "),
                ]
            })
        print("")
        table(
            ["MACHINE", "HOST", "MAC", "ADDRESSES"],
            status.machines.map { [$0.port, $0.host, $0.mac, $0.addresses.joined(separator: ", ")] })
    }

    /// Runs the expectations and prints what became of them; true when all are right.
    static func check(_ lab: Lab) throws -> Bool {
        guard case .check(let results) = try lab.ask(.check) else { return false }
        print("")
        table(
            ["  FROM", "TO", "WHAT", "RESULT", "RTT", ""],
            results.map { result in
                [
                    (result.isRight ? "  " : "! ") + result.from, result.to, result.probe,
                    result.reached ? "reached" : "blocked",
                    result.milliseconds.map { format($0) + " ms" } ?? "",
                    result.isRight
                        ? (result.expected ? result.note : "as expected")
                        : (result.expected ? "but must be reached" : "but must be blocked")
                            + (result.note.isEmpty ? "" : ": \(result.note)"),
                ]
            })
        let right = results.filter(\.isRight).count
        print("\n\(right) of \(results.count) as expected.")
        let wrong = results.filter { !$0.isRight }
        if !wrong.isEmpty { print("\nWhy? These tell each step:") }
        for result in wrong {
            if let packet = result.packet { print("  selvage trace \(result.from) '\(packet)'") }
        }
        return right == results.count
    }

    private static func format(_ milliseconds: Double) -> String {
        let hundredths = Int((milliseconds * 100).rounded())
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }

    static func hints(_ lab: Lab) {
        guard let plan = try? lab.manifest().lab, let first = plan.machines.keys.sorted().first else { return }
        let target = plan.expectations.first { $0.from == first && $0.reaches }
        var address = ""
        if case .machine(let path)? = target?.to {
            address = plan.machines[path]?.addresses.first?.address.description ?? ""
        }
        if address.isEmpty { address = plan.machines[first]?.gateways.first?.description ?? "10.0.0.1" }
        // Where it is the only one, it need not be named.
        let isOnly = ((try? Lab.runningNames()) ?? []).count < 2
        let name = isOnly ? "" : " --lab \(lab.directory.name)"
        print(
            """

            Try:  selvage lab exec\(name) \(first) -- ping \(address)
                  selvage trace\(name) \(first) 'icmp to \(address)'
                  selvage flows\(name)
                  selvage lab down\(name)
            """)
    }

    static func table(_ header: [String], _ rows: [[String]]) {
        var widths = header.map(\.count)
        for row in rows {
            for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.count) }
        }
        for row in [header] + rows {
            let line = row.enumerated().map { pad($0.element, widths[$0.offset]) }.joined(separator: "  ")
            print(line[...(line.lastIndex { $0 != " " } ?? line.startIndex)])
        }
    }
}
