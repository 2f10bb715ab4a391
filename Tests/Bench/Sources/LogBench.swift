// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Consensus
import Glibc
import Linux
import Store

/// The disk of the log: how often a second something gets durable, alone and in groups, by our log store and by a bare
/// file that is as long from the start as it will ever be.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "log", abstract: "Durable writes a second.")

    @Option(help: "A directory on the disk.") var directory: String
    @Option(help: "Seconds for each figure.") var seconds = 2.0

    mutating func run() throws {
        for group in [1, 16, 64] {
            let path = "\(directory)/bench-log-\(group).db"
            let owner = PeerIdentity(cluster: "bench", node: NodeID(1))
            try LogStore.create(path: path, owner: owner, members: Members())
            let store = try LogStore(path: path, owner: owner)
            _ = try store.load()
            var index: UInt64 = 0
            let payload = [UInt8](repeating: 7, count: 256)
            let rate = measure {
                let entries = (0..<group).map { offset in
                    Entry(term: 1, index: index + UInt64(offset) + 1, content: .command(payload))
                }
                index += UInt64(group)
                try? store.write(Write(number: index, entries: entries))
            }
            print(
                "{\"name\": \"log.sqlite.\(group)\", \"writes_per_second\": \(rate), \"entries_per_second\": \(rate * Double(group))}"
            )
            unlink(path)
            unlink(path + "-wal")
        }
        let path = "\(directory)/bench-log.raw"
        let file = open(path, O_CREAT | O_RDWR, 0o600)
        defer {
            close(file)
            unlink(path)
        }
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        for _ in 0..<16 { _ = write(file, zeros, zeros.count) }
        fsync(file)
        var at = 0
        let rate = measure {
            _ = pwrite(file, zeros, 512, off_t(at))
            at = (at + 512) % (15 << 20)
            fdatasync(file)
        }
        print("{\"name\": \"log.file\", \"writes_per_second\": \(rate)}")
    }

    private func measure(_ body: () -> Void) -> Double {
        let begin = monotonicNanoseconds()
        var count = 0
        while Double(monotonicNanoseconds() - begin) < seconds * 1e9 {
            body()
            count += 1
        }
        return (Double(count) / (Double(monotonicNanoseconds() - begin) / 1e9)).rounded()
    }
}
