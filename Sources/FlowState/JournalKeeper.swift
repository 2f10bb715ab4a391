// SPDX-License-Identifier: Apache-2.0
import Foundation
import Gossip
import Linux
import SQLite
import Simulation
import Synchronization
import Wire

/// Rows that wait to be written.
final class JournalInbox: Sendable {
    /// Bytes that wait at most; what is more is not written, and a restarted node hears it from others.
    static let most = 64 << 20

    private struct Waiting {
        var bytes: [UInt8] = []
        var ends: [Int] = []
        var dropped: UInt64 = 0
    }
    private let waiting = Mutex(Waiting())

    func add(_ bytes: [UInt8], _ ends: [Int]) {
        waiting.withLock { waiting in
            guard waiting.bytes.count + bytes.count <= JournalInbox.most else {
                waiting.dropped &+= UInt64(ends.count)
                return
            }
            let start = waiting.bytes.count
            waiting.bytes += bytes.prefix(ends.last ?? 0)
            for end in ends { waiting.ends.append(start + end) }
        }
    }

    func take() -> (bytes: [UInt8], ends: [Int]) {
        waiting.withLock { waiting in
            defer { (waiting.bytes, waiting.ends) = ([], []) }
            return (waiting.bytes, waiting.ends)
        }
    }

    var dropped: UInt64 { waiting.withLock { $0.dropped } }
}

/// What the journal counts.
public struct JournalStatus: Sendable, Equatable {
    /// Rows that were read when the node was started.
    public var loaded = 0
    /// How long that took, seconds.
    public var loadSeconds = 0.0
    /// Rows that were written since.
    public var written: UInt64 = 0
    /// Rows that were not written, since too many waited.
    public var dropped: UInt64 = 0
    /// Why nothing is written any more.
    public var problem: String?
}

/// Keeps a table's journal, on a thread of its own.
public final class JournalKeeper: Sendable {
    private let table: StateTable
    private let path: String
    private let inbox = JournalInbox()
    private let state = Mutex(JournalStatus())
    private let isStopping = Atomic<Bool>(false)
    private let ended = Reply<Bool>()
    private let say: @Sendable (String) -> Void
    /// How often what waits is written.
    private static let interval: UInt32 = 100_000

    /// Reads what an earlier run left, and begins to write what changes. Returns when the table knows what was read.
    public init(_ table: StateTable, path: String, say: @escaping @Sendable (String) -> Void) throws {
        self.table = table
        self.path = path
        self.say = say
        let ready = Reply<Bool>()
        _ = try NamedThread("sel-journal") { [self] in
            keep(ready)
            ended.put(true)
        }
        _ = ready.take()
    }

    /// What was counted.
    public var status: JournalStatus {
        var status = state.withLock { $0 }
        status.dropped = inbox.dropped
        return status
    }

    /// Writes what waits, and ends.
    public func stop() {
        if isStopping.exchange(true, ordering: .acquiringAndReleasing) { return }
        _ = ended.take()
    }

    private static func uptime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    private static func clock() -> Journal.Clock {
        let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
        return Journal.Clock(
            boot: boot.trimmingCharacters(in: .whitespacesAndNewlines), offset: wallSeconds() * 1000 - uptime())
    }

    private func keep(_ ready: Reply<Bool>) {
        var journal: Journal?
        do throws(SQLiteError) { journal = try load() } catch {
            // Nothing is lost that other nodes do not know: it is set aside, for whoever wants to see why.
            let aside = "\(path).\(wallSeconds()).corrupt"
            say("flow state: \(error.description): set aside as \(aside); other nodes tell what it held")
            rename(path, aside)
            for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
            do throws(SQLiteError) { journal = try load() } catch { fail(error) }
        }
        table.setJournal(journal == nil ? nil : inbox)
        // From here on everything is written: also what is learned before this thread goes on.
        var cursor = table.head + 1
        ready.put(true)
        guard let journal else { return }
        while true {
            let isLast = isStopping.load(ordering: .acquiring)
            do throws(SQLiteError) {
                try write(journal, &cursor)
                let now = monotonicNanoseconds()
                try journal.turn(now: now, uptime: JournalKeeper.uptime()) { row, until, out in
                    table.renew(row, before: until, now: now, into: &out)
                }
            } catch { return fail(error) }
            if isLast { return }
            usleep(JournalKeeper.interval)
        }
    }

    private func fail(_ error: SQLiteError) {
        say("flow state: \(error.description): it is written no more, and comes from other nodes after a restart")
        table.setJournal(nil)
        state.withLock { $0.problem = error.description }
    }

    private func load() throws(SQLiteError) -> Journal {
        let now = monotonicNanoseconds()
        let journal = try Journal(path: path, now: now)
        let clock = JournalKeeper.clock()
        let count = try journal.load(clock, JournalKeeper.uptime()) { rows, age in
            table.restore(rows, age: age, now: now)
        }
        if try !journal.isOfBoot(clock.boot) {
            // Times of another boot mean nothing beside those of this one: what is known is written anew.
            try journal.clear()
            try journal.begin(clock, now: now)
            let rows = table.allRows(now: now)
            var ends: [Int] = []
            table.measure(rows, &ends)
            try journal.write(rows, ends, at: JournalKeeper.uptime())
        } else {
            try journal.begin(clock, now: now)
        }
        state.withLock { state in
            state.loaded = count
            state.loadSeconds = Double(monotonicNanoseconds() - now) / 1e9
        }
        if count > 0 {
            let seconds = state.withLock { $0.loadSeconds }
            say("flow state: read \(count) rows of an earlier run in \(Int(seconds * 1000)) ms")
        }
        return journal
    }

    private func write(_ journal: Journal, _ cursor: inout UInt64) throws(SQLiteError) {
        var (bytes, ends) = inbox.take()
        let head = table.head
        // What this host told itself.
        while cursor <= head {
            let end = min(cursor + 4096, head + 1)
            table.rows(of: cursor..<end, now: monotonicNanoseconds(), into: &bytes, &ends)
            cursor = end
        }
        try journal.write(bytes, ends, at: JournalKeeper.uptime())
        state.withLock { $0.written = journal.written }
    }
}

extension StateTable {
    /// The last entry of the log.
    var head: UInt64 { telling.replicator.withLock { $0.head } }

    /// Rows that this host told everybody of, as they are now, and where each ends.
    func rows(of entries: Range<UInt64>, now: UInt64, into bytes: inout [UInt8], _ ends: inout [Int]) {
        let rows = rows(of: entries, isPush: false, now: now)
        let start = bytes.count
        bytes += rows
        var own: [Int] = []
        measure(rows, &own)
        for end in own { ends.append(start + end) }
    }

    /// Where each of some rows ends.
    func measure(_ rows: [UInt8], _ ends: inout [Int]) {
        var reader = ByteReader(rows)
        while let form = try? reader.number(UInt8.self), let kind = RowKind(rawValue: form & RowForm.kind) {
            let isV6 = form & RowForm.v6 != 0
            let length =
                switch kind {
                case .connection: 18 + (isV6 ? 36 : 12)
                case .translation: 18 + 2 * (isV6 ? 36 : 12)
                case .station: 32
                case .neighbor: 22 + (isV6 ? 16 : 4)
                case .affinity: 28 + (isV6 ? 16 : 4)
                case .lease: 36 + (isV6 ? 16 : 4)
                case .health: 36
                case .group: 30 + 2 * (isV6 ? 16 : 4)
                // Up to how many routers lead there.
                case .route: 13 + (isV6 ? 16 : 4)
                }
            guard (try? reader.raw(length)) != nil, kind != .route || (try? reader.skipGateways()) != nil,
                (try? reader.age()) != nil
            else { return }
            ends.append(rows.count - reader.left)
        }
    }

    /// Takes in a row that an earlier run wrote.
    ///
    /// - Parameter age: how long ago, milliseconds.
    func restore(_ row: [UInt8], age: UInt64, now: UInt64) {
        var news: Set<Tag> = []
        var ends: [Int] = []
        let (nanoseconds, overflows) = age.multipliedReportingOverflow(by: 1_000_000)
        try? read(row, older: overflows ? .max : nanoseconds, now: now, &news, &ends)
    }

    /// Appends what is known now of an old row, if it was neither told nor heard of after a time.
    func renew(_ row: [UInt8], before: UInt64, now: UInt64, into out: inout ByteWriter) {
        var reader = ByteReader(row)
        guard let form = try? reader.number(UInt8.self), let kind = RowKind(rawValue: form & RowForm.kind) else {
            return
        }
        try? table(kind).renew(&reader, form, before: before, now: now, into: &out)
    }
}
