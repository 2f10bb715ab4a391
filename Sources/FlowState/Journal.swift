// SPDX-License-Identifier: Apache-2.0
import SQLite
import Simulation
import Wire

/// Rows in a database file, so that a node that is started again knows what it knew. The table in memory is what counts;
/// nobody waits for the file, and what it lacks other nodes tell.
///
/// Rows are added to the table of the bucket at hand, each with the time when it was written. A bucket that is old enough goes
/// as a whole; what is still so in it, and was not written since, is copied into the bucket at hand. So the file holds little
/// more than what is known. The view `rows` shows it all to whoever opens the file read-only.
///
/// Belongs to one thread.
final class Journal {
    /// Rows of one bucket.
    static let bucketRows = 500_000
    /// How long a bucket is written to.
    static let bucketNanoseconds: UInt64 = 60_000_000_000
    /// How far clocks of two boots may differ, milliseconds.
    static let clockSlack: Int64 = 2000
    /// Buckets that are kept besides the one at hand.
    static let buckets = 3

    private let database: Database
    /// Numbers of buckets, oldest first, and until when each was written to; 0: by an earlier run.
    private var buckets: [(number: Int64, until: UInt64)] = []
    private var began: UInt64
    private let started: UInt64
    private(set) var rowsInBucket = 0
    private var insert: Statement?
    /// Rows that were written so far.
    private(set) var written: UInt64 = 0

    /// Opens a file, or makes it.
    ///
    /// - Parameter now: nanoseconds of the monotonic clock.
    init(path: String, now: UInt64) throws(SQLiteError) {
        database = try Database(path: path)
        (began, started) = (now, now)
        // What is lost in a power cut, or with the file, other nodes tell.
        try database.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=4000;")
        let version = try database.userVersion()
        if version == 0 {
            try database.run("CREATE TABLE IF NOT EXISTS clock(boot TEXT, offset INTEGER); PRAGMA user_version=1;")
        } else if version != 1 {
            throw SQLiteError(code: 26, description: "\(path) is of format \(version), this version knows 1")
        }
        var numbers: [Int64] = []
        try database.prepare("SELECT name FROM sqlite_schema WHERE type='table' AND name GLOB 'bucket_*'").forEachRow {
            if let number = Int64($0.text(0).dropFirst(7)) { numbers.append(number) }
            return true
        }
        buckets = numbers.sorted().map { ($0, 0) }
    }

    /// What a bucket's times are counted by: the boot that they were written in, and what to add to have the time since 1970.
    struct Clock: Equatable {
        var boot: String
        /// Milliseconds.
        var offset: Int64
    }

    /// Reads all rows in the order in which they were written; how many there were.
    ///
    /// - Parameters:
    ///   - clock: the clock now, with the time since boot in milliseconds.
    ///   - body: takes rows and how long ago they were written, milliseconds.
    func load(_ clock: Clock, _ uptime: Int64, _ body: ([UInt8], UInt64) -> Void) throws(SQLiteError) -> Int {
        var past: Clock?
        try database.prepare("SELECT boot, offset FROM clock").forEachRow { row in
            past = Clock(boot: row.text(0), offset: row.integer(1))
            return true
        }
        // The clock of the same boot does not jump; after another one there is the wall clock's word only.
        let shift = past.map { $0.boot == clock.boot ? 0 : $0.offset &- clock.offset } ?? 0
        var count = 0
        for bucket in buckets {
            try database.prepare("SELECT at, row FROM bucket_\(bucket.number) ORDER BY rowid").forEachRow { row in
                // What seems to come from the future is of an age that nobody knows: a clock was set back. Other nodes know.
                let age = uptime &- (row.integer(0) &+ shift)
                if age >= -Journal.clockSlack {
                    body(row.blob(1), UInt64(max(0, age)))
                    count += 1
                }
                return true
            }
        }
        return count
    }

    /// Begins to write: from now on times are counted by this clock. What an earlier boot wrote is to be rewritten first.
    func begin(_ clock: Clock, now: UInt64) throws(SQLiteError) {
        try database.run("DELETE FROM clock")
        try database.prepare("INSERT INTO clock VALUES(?, ?)").run(.text(clock.boot), .integer(clock.offset))
        try next(now)
    }

    /// Whether an earlier boot wrote.
    func isOfBoot(_ boot: String) throws(SQLiteError) -> Bool {
        var isSame = true
        try database.prepare("SELECT boot FROM clock").forEachRow { row in
            isSame = row.text(0) == boot
            return true
        }
        return isSame
    }

    /// Removes all buckets.
    func clear() throws(SQLiteError) {
        for bucket in buckets { try database.run("DROP TABLE bucket_\(bucket.number)") }
        buckets = []
    }

    private func next(_ now: UInt64) throws(SQLiteError) {
        if let last = buckets.last, last.until == 0 { buckets[buckets.count - 1].until = now }
        let number = (buckets.last?.number ?? 0) + 1
        try database.run("CREATE TABLE bucket_\(number)(at INTEGER, row BLOB)")
        buckets.append((number, 0))
        insert = try database.prepare("INSERT INTO bucket_\(number) VALUES(?, ?)")
        (began, rowsInBucket) = (now, 0)
        try makeView()
    }

    /// Appends rows, all or none.
    func write(_ bytes: [UInt8], _ ends: [Int], at uptime: Int64) throws(SQLiteError) {
        guard !ends.isEmpty, let insert else { return }
        try database.transaction { () throws(SQLiteError) in
            var start = 0
            for end in ends {
                try insert.run(uptime, bytes, start..<end)
                start = end
            }
        }
        rowsInBucket += ends.count
        written &+= UInt64(ends.count)
    }

    /// Takes the next bucket when it is time, and lets the oldest one go.
    ///
    /// - Parameter renew: takes an old row and a time; appends what is to be written of it again.
    func turn(now: UInt64, uptime: Int64, _ renew: ([UInt8], UInt64, inout ByteWriter) -> Void) throws(SQLiteError) {
        guard rowsInBucket >= Journal.bucketRows || rowsInBucket > 0 && now >= began &+ Journal.bucketNanoseconds else {
            return
        }
        try next(now)
        while buckets.count > Journal.buckets + 1, let oldest = buckets.first {
            // What an earlier run wrote is renewed unless this run wrote it again.
            let until = oldest.until == 0 ? started : oldest.until
            var out: [UInt8] = []
            var ends: [Int] = []
            // A row that was written several times comes out the same each time.
            var seen: Set<[UInt8]> = []
            try database.prepare("SELECT row FROM bucket_\(oldest.number)").forEachRow { row in
                var one = ByteWriter()
                renew(row.blob(0), until, &one)
                if !one.bytes.isEmpty, seen.insert(one.bytes).inserted {
                    out += one.bytes
                    ends.append(out.count)
                }
                return true
            }
            try write(out, ends, at: uptime)
            try makeView(without: oldest.number)
            try database.run("DROP TABLE bucket_\(oldest.number)")
            buckets.removeFirst()
        }
    }

    /// The view that people read: addresses as text, times as dates.
    private func makeView(without left: Int64? = nil) throws(SQLiteError) {
        let tables = buckets.filter { $0.number != left }.map { "SELECT at, row FROM bucket_\($0.number)" }
        guard !tables.isEmpty else { return }
        try database.run(
            "DROP VIEW IF EXISTS rows; CREATE VIEW rows AS \(JournalView.select) FROM (\(tables.joined(separator: " UNION ALL ")))"
        )
    }
}
