// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Consensus
import Linux
import Store
import Topology
import Wire

/// What one entry costs a member when it is agreed on: the state alone, on one processor.
struct ApplyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Nanoseconds to apply an agreed change of one port.")

    @Option(help: "Entries.") var entries = 300_000

    mutating func run() throws {
        var state = ClusterState()
        var index: UInt64 = 1
        func entry(_ operation: Transaction.Operation) -> Entry {
            let session = Transaction.SessionID(client: 7, serial: index, floor: index > 16 ? index - 16 : 1)
            let transaction = Transaction(session: session, time: 0, preconditions: [], operations: [operation])
            defer { index += 1 }
            return Entry(term: 1, index: index, content: .command(transaction.encode()))
        }
        _ = try state.apply(entry(.put(.bridge(Bridge(path: StoreCommand.device)))))
        let all = (0..<entries).map { entry(StoreCommand.change($0)) }
        let begin = monotonicNanoseconds()
        for entry in all { _ = try state.apply(entry) }
        let took = monotonicNanoseconds() - begin
        print("{\"name\": \"apply\", \"ns\": \(took / UInt64(entries))}")
    }
}
