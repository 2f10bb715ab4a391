// SPDX-License-Identifier: Apache-2.0
import CSQLite

/// What SQLite refused.
public struct SQLiteError: Error, Sendable, Equatable, CustomStringConvertible {
    /// SQLite's extended result code.
    public var code: Int32
    /// What was being done, and what SQLite says of it.
    public var description: String

    /// An error that a caller found.
    public init(code: Int32, description: String) {
        self.code = code
        self.description = description
    }

    /// Whether the disk is full.
    public var isFull: Bool { code & 0xff == SQLITE_FULL }
    /// Whether the file is not as it was written, or is no database.
    public var isCorrupt: Bool { code & 0xff == SQLITE_CORRUPT || code & 0xff == SQLITE_NOTADB }
    /// Whether another process has the file.
    public var isBusy: Bool { code & 0xff == SQLITE_BUSY || code & 0xff == SQLITE_LOCKED }
}

/// One connection to one database file.
///
/// Belongs to one thread at a time. Whoever writes a file also checkpoints it, and no second connection writes: the SQLite
/// of Debian 12 can lose what two of them do at once (sqlite.org/wal.html, "the WAL-reset bug").
public final class Database {
    let handle: OpaquePointer
    /// The file.
    public let path: String

    /// Opens a file, or makes it.
    public init(path: String) throws(SQLiteError) {
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        let result = sqlite3_open_v2(path, &opened, flags, nil)
        guard result == SQLITE_OK, let opened else {
            let reason = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
            sqlite3_close(opened)
            throw SQLiteError(code: result, description: "open \(path): \(reason)")
        }
        handle = opened
        self.path = path
    }

    deinit { sqlite3_close_v2(handle) }

    /// The version of the library in use, as `3.40.1`.
    public static var version: String { String(cString: sqlite3_libversion()) }

    /// Runs statements without parameters or results.
    public func run(_ sql: String) throws(SQLiteError) {
        let result = sqlite3_exec(handle, sql, nil, nil, nil)
        if result != SQLITE_OK { throw error(result, sql) }
    }

    /// The number that the file's format is known by; 0 in a new file.
    public func userVersion() throws(SQLiteError) -> Int64 {
        var version: Int64 = 0
        try prepare("PRAGMA user_version").forEachRow { row in
            version = row.integer(0)
            return true
        }
        return version
    }

    /// Prepares a statement, to be used as often as wanted.
    public func prepare(_ sql: String) throws(SQLiteError) -> Statement {
        var prepared: OpaquePointer?
        let result = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &prepared, nil)
        guard result == SQLITE_OK, let prepared else { throw error(result, sql) }
        return Statement(prepared, self, sql)
    }

    /// Does several things, all or none of them; they are durable, as far as the connection's settings make them, when this
    /// returns.
    public func transaction(_ body: () throws(SQLiteError) -> Void) throws(SQLiteError) {
        try run("BEGIN IMMEDIATE")
        do {
            try body()
            try run("COMMIT")
        } catch {
            // After some errors SQLite has rolled back by itself.
            if sqlite3_get_autocommit(handle) == 0 { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
            throw error
        }
    }

    func error(_ code: Int32, _ sql: String) -> SQLiteError {
        SQLiteError(code: code, description: "\(path): \(String(cString: sqlite3_errmsg(handle))) (\(sql))")
    }
}
