// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterSimulation
import Consensus

/// Lives of simulated clusters, one a seed.
@main
struct Simulator: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selvage-sim", abstract: "Live the lives of simulated clusters; each seed is one.")

    @Option(help: "How many lives.") var seeds: UInt64 = 1000
    @Option(help: "The first seed.") var from: UInt64 = 1
    @Option(help: "Lives at a time.") var threads = 2
    @Option(help: "Tell one life in full.") var replay: UInt64?
    @Option(help: "A bug to put in: \(Fault.allCases.map(\.rawValue).joined(separator: ", ")).") var fault: [String] =
        []
    @Flag(help: "Tell how many seeds it takes to find each bug.") var mutants = false

    func run() async throws {
        let faults = Set(
            try fault.map { name in
                guard let fault = Fault(rawValue: name) else { throw ValidationError("no such bug: \(name)") }
                return fault
            })
        if let replay {
            let outcome = World(seed: replay, faults: faults, say: { print($0) }).live()
            print(outcome.violation.map { "seed \(replay): \($0)" } ?? "seed \(replay): all is well")
            for (name, count) in outcome.counts.sorted(by: { $0.key < $1.key }) { print("  \(name): \(count)") }
            if outcome.violation != nil { throw ExitCode(1) }
            return
        }
        if mutants {
            var isAllFound = true
            for fault in Fault.allCases where !Fault.seldom.contains(fault) {
                let found = await lives(faults: [fault], stopsAtFirst: true)
                print(
                    found.first.map { "\(fault): seed \($0.seed), \($0.violation.prefix(90))" } ?? "\(fault): NOT FOUND"
                )
                if found.isEmpty { isAllFound = false }
            }
            if !isAllFound { throw ExitCode(1) }
            return
        }
        let found = await lives(faults: faults, tellsCounts: true)
        for failure in found.prefix(5) {
            print("seed \(failure.seed): \(failure.violation)\n    .build/release/selvage-sim --replay \(failure.seed)")
        }
        if !found.isEmpty { throw ExitCode(1) }
    }

    struct Failure: Sendable {
        var seed: UInt64
        var violation: String
    }

    /// Lives from `from` on until one fails or all are lived.
    private func lives(faults: Set<Fault>, tellsCounts: Bool = false, stopsAtFirst: Bool = false) async -> [Failure] {
        let (from, seeds, threads) = (from, seeds, UInt64(threads))
        return await withTaskGroup(of: ([Failure], [String: Int], UInt64).self) { group in
            for thread in 0..<threads {
                group.addTask {
                    var counts: [String: Int] = [:]
                    var lived: UInt64 = 0
                    for seed in stride(from: from + thread, to: from + seeds, by: Int(threads)) {
                        let outcome = World(seed: seed, faults: faults).live()
                        lived += 1
                        counts.merge(outcome.counts, uniquingKeysWith: +)
                        if let violation = outcome.violation {
                            return ([Failure(seed: seed, violation: violation)], counts, lived)
                        }
                        if Task.isCancelled { break }
                    }
                    return ([], counts, lived)
                }
            }
            var failures: [Failure] = []
            var counts: [String: Int] = [:]
            var lived: UInt64 = 0
            for await (failed, counted, number) in group {
                failures += failed
                if stopsAtFirst, !failed.isEmpty { group.cancelAll() }
                counts.merge(counted, uniquingKeysWith: +)
                lived += number
            }
            if tellsCounts {
                print(
                    "\(lived) lives: "
                        + counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
            }
            return failures.sorted { $0.seed < $1.seed }
        }
    }
}
