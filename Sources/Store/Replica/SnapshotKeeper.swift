// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import Synchronization

/// Snapshots on disk, those that go out and those that come in, on a thread of their own.
final class SnapshotKeeper: Sendable {
    private let thread: SerialThread
    private let directory: String
    /// The snapshot that goes out, with its size.
    private let current = Mutex<(info: SnapshotInfo, size: UInt64)?>(nil)

    init(directory: String) throws(SystemError) {
        self.directory = directory
        thread = try SerialThread("sel-snapshot")
        // Of an earlier run.
        Files.remove(outgoing)
        Files.remove(incoming)
    }

    private var outgoing: String { directory + "/outgoing.snap" }
    private var incoming: String { directory + "/incoming.snap" }

    /// Makes a snapshot of a state, unless the one at hand will do.
    func open(
        _ state: ClusterState, first: LogIndex, done: @escaping @Sendable (Result<SnapshotInfo, SystemError>) -> Void
    ) {
        thread.add { [self] in
            if let info = current.withLock({ $0?.info }), info.position.index + 1 >= first {
                return done(.success(info))
            }
            let bytes = SnapshotFile.encode(state)
            let info = SnapshotInfo(position: state.applied, members: state.members)
            do throws(SystemError) {
                try Files.replace(outgoing, bytes)
                current.withLock { $0 = (info, UInt64(bytes.count)) }
                done(.success(info))
            } catch { done(.failure(error)) }
        }
    }

    /// Reads a piece; `nil` when that snapshot is no more.
    func read(
        _ position: LogPosition, offset: UInt64, limit: Int,
        done: @escaping @Sendable ((data: [UInt8], isLast: Bool)?) -> Void
    ) {
        thread.add { [self] in
            guard let current = current.withLock({ $0 }), current.info.position == position, offset <= current.size,
                let data = try? Files.read(outgoing, from: offset, count: limit)
            else {
                // What can't be read is not offered again.
                self.current.withLock { current in if current?.info.position == position { current = nil } }
                return done(nil)
            }
            done((data, offset + UInt64(data.count) >= current.size))
        }
    }

    /// Keeps a piece that came.
    func store(_ data: [UInt8], offset: UInt64, failed: @escaping @Sendable (SystemError) -> Void) {
        thread.add { [self] in
            if offset == 0 { Files.remove(incoming) }
            do throws(SystemError) { try Files.write(data, to: incoming, at: offset) } catch { failed(error) }
        }
    }

    /// Reads what came.
    func finish(_ info: SnapshotInfo, done: @escaping @Sendable (Result<ClusterState, any Error>) -> Void) {
        thread.add { [self] in
            do {
                let (state, summary) = try SnapshotFile.read(incoming)
                guard summary.info.position == info.position else {
                    throw StoreError.malformed("snapshot: another was announced")
                }
                Files.remove(incoming)
                done(.success(state))
            } catch { done(.failure(error)) }
        }
    }

    func stop() { thread.finish() }
}
