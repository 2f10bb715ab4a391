// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterSimulation
import Consensus
import Glibc

/// Lives of simulated clusters, one a seed.
@main
struct Simulator: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selvage-sim", abstract: "Live the lives of simulated clusters; each seed is one.")

    @Flag(help: "Lives of clusters that carry connections, instead of those that agree on what is drawn.") var flows =
        false
    @Flag(help: "What a cluster of very many hosts costs, by --hosts, --rate, --seconds, --loss and --connections.")
    var scale = false
    @Option(help: "With --scale: new connections a second, of all hosts.") var rate = 10_000.0
    @Option(help: "With --scale: for how long.") var seconds = 1.0
    @Option(help: "With --scale: the part of the datagrams that is lost.") var loss = 0.001
    @Option(help: "With --scale: connections in a table.") var connections = 1_000_000
    @Option(help: "With --flows: how many hosts each cluster has; the seed says, unless given.") var hosts: Int?
    @Option(help: "How many lives.") var seeds: UInt64 = 1000
    @Option(help: "The first seed.") var from: UInt64 = 1
    @Option(help: "Lives at a time.") var threads = 2
    @Option(help: "Tell one life in full.") var replay: UInt64?
    @Option(help: "With --flows --replay: CLIENT:PORT whose connections are told of at every turn.") var watch: String?
    @Option(
        help:
            "A bug to put in: \((Fault.allCases.map(\.rawValue) + FlowWorld.Bug.allCases.map(\.rawValue)).joined(separator: ", "))."
    )
    var fault: [String] = []
    @Flag(help: "Tell how many seeds it takes to find each bug.") var mutants = false

    private var watched: (client: Int, port: UInt16)? {
        let parts = watch?.split(separator: ":") ?? []
        guard parts.count == 2, let client = Int(parts[0]), let port = UInt16(parts[1]) else { return nil }
        return (client, port)
    }

    /// What a life came to.
    typealias Outcome = (violation: String?, counts: [String: Int])

    private func live(_ seed: UInt64, _ faults: [String], say: @escaping @Sendable (String) -> Void = { _ in })
        -> Outcome
    {
        if flows {
            let world = FlowWorld(seed: seed, hosts: hosts, bugs: Set(faults.compactMap(FlowWorld.Bug.init)), say: say)
            world.watched = watched
            let violation = world.live()
            return (violation, world.counts)
        }
        let outcome = World(seed: seed, faults: Set(faults.compactMap(Fault.init)), say: say).live()
        return (outcome.violation, outcome.counts)
    }

    func run() async throws {
        // A life is the same each time it is lived only if sets and dictionaries are.
        if getenv("SWIFT_DETERMINISTIC_HASHING") == nil {
            setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1)
            var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
            execv("/proc/self/exe", &arguments)
        }
        if scale {
            try Scale(hosts: hosts ?? 1000, rate: rate, seconds: seconds, loss: loss, connections: connections).run()
            return
        }
        let known = flows ? FlowWorld.Bug.allCases.map(\.rawValue) : Fault.allCases.map(\.rawValue)
        for name in fault where !known.contains(name) { throw ValidationError("no such bug: \(name)") }
        if watch != nil, watched == nil || replay == nil || !flows {
            throw ValidationError("--watch CLIENT:PORT tells of one life: give --flows and --replay, too")
        }
        if let replay {
            let outcome = live(replay, fault, say: { print($0) })
            print(outcome.violation.map { "seed \(replay): \($0)" } ?? "seed \(replay): all is well")
            for (name, count) in outcome.counts.sorted(by: { $0.key < $1.key }) { print("  \(name): \(count)") }
            if outcome.violation != nil { throw ExitCode(1) }
            return
        }
        if mutants {
            var isAllFound = true
            let seldom = Fault.seldom.map(\.rawValue)
            for name in known where flows || !seldom.contains(name) {
                let found = await lives([name], stopsAtFirst: true)
                print(
                    found.first.map { "\(name): seed \($0.seed), \($0.violation.prefix(90))" } ?? "\(name): NOT FOUND")
                if found.isEmpty { isAllFound = false }
            }
            if !isAllFound { throw ExitCode(1) }
            return
        }
        let found = await lives(fault, tellsCounts: true)
        for failure in found.prefix(5) {
            let mode = (flows ? " --flows" : "") + (hosts.map { " --hosts \($0)" } ?? "")
            print(
                "seed \(failure.seed): \(failure.violation)\n    .build/release/selvage-sim\(mode) --replay \(failure.seed)"
            )
        }
        if !found.isEmpty { throw ExitCode(1) }
    }

    struct Failure: Sendable {
        var seed: UInt64
        var violation: String
    }

    /// Lives from `from` on until one fails or all are lived.
    private func lives(_ faults: [String], tellsCounts: Bool = false, stopsAtFirst: Bool = false) async -> [Failure] {
        let (from, seeds, threads) = (from, seeds, UInt64(threads))
        return await withTaskGroup(of: ([Failure], [String: Int], UInt64).self) { group in
            for thread in 0..<threads {
                group.addTask {
                    var counts: [String: Int] = [:]
                    var lived: UInt64 = 0
                    for seed in stride(from: from + thread, to: from + seeds, by: Int(threads)) {
                        let outcome = live(seed, faults)
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
