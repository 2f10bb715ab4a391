// SPDX-License-Identifier: Apache-2.0
import Consensus
import SQLite
import Wire

/// The applied state of one member, in a SQLite file of its own: a row for each object, and the position of the last entry
/// in the same transaction. It may be behind the log after a power cut, never ahead of it, and never torn.
///
/// One connection, which nobody shares; belongs to one thread.
public final class StateStore {
    private static let format: Int64 = 1
    private let database: Database
    private let put: Statement
    private let delete: Statement

    /// Opens a state, or makes an empty one.
    public init(path: String) throws(StoreError) {
        do throws(SQLiteError) {
            database = try Database(path: path)
            try database.run(
                """
                PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
                PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;
                """)
            let found = try database.userVersion()
            guard found == 0 || found == StateStore.format else {
                throw SQLiteError.version(path, found: found, known: StateStore.format)
            }
            try database.run(
                """
                CREATE TABLE IF NOT EXISTS rows (
                    kind INTEGER NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, name)
                ) WITHOUT ROWID;
                PRAGMA user_version=\(StateStore.format);
                """)
            put = try database.prepare("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)")
            delete = try database.prepare("DELETE FROM rows WHERE kind = ? AND name = ?")
        } catch { throw error.isBusy ? .inUse(path) : .disk(error) }
    }

    /// Reads everything.
    public func load() throws(StoreError) -> ClusterState {
        var state = ClusterState()
        var failure: StoreError?
        do throws(SQLiteError) {
            try database.prepare("SELECT kind, data, name FROM rows").forEachRow { row in
                let code = UInt8(truncatingIfNeeded: row.integer(0))
                do throws(MalformedBytes) {
                    try state.take(code: code, row.blob(1))
                    return true
                } catch {
                    failure = .malformed("row \(row.text(2)) of \(database.path): \(error)")
                    return false
                }
            }
        } catch { throw .disk(error) }
        if let failure { throw failure }
        return state
    }

    /// Writes what some entries changed, all or nothing.
    func write(_ rows: [RowKey: [UInt8]?], of state: ClusterState) throws(StoreError) {
        do throws(SQLiteError) {
            try database.transaction { () throws(SQLiteError) in
                if let meta = state.row(.meta) { try put.run(.integer(0), .text(""), .blob(meta)) }
                for (key, bytes) in rows {
                    if let bytes {
                        try put.run(.integer(Int64(key.code)), .text(key.name), .blob(bytes))
                    } else {
                        try delete.run(.integer(Int64(key.code)), .text(key.name))
                    }
                }
            }
        } catch { throw .disk(error) }
    }

    /// Puts another state in place of this one, all or nothing, durably.
    func replace(with state: ClusterState) throws(StoreError) {
        do throws(SQLiteError) {
            try database.transaction { () throws(SQLiteError) in
                try database.run("DELETE FROM rows")
                for key in state.rowKeys {
                    guard let bytes = state.row(key) else { continue }
                    try put.run(.integer(Int64(key.code)), .text(key.name), .blob(bytes))
                }
            }
        } catch { throw .disk(error) }
        try makeDurable()
    }

    /// Makes durable what was written: after that the log before it is not needed any more.
    public func makeDurable() throws(StoreError) {
        do throws(SQLiteError) {
            var isBusy = false
            try database.prepare("PRAGMA wal_checkpoint(FULL)").forEachRow { row in
                isBusy = row.integer(0) != 0
                return false
            }
            if isBusy {
                throw SQLiteError(code: 5, description: "\(database.path): the checkpoint was not complete")
            }
        } catch { throw .disk(error) }
    }
}

extension SQLiteError {
    fileprivate static func version(_ path: String, found: Int64, known: Int64) -> SQLiteError {
        SQLiteError(
            code: 26,
            description: "\(path) is of format \(found), this version knows \(known): run the version that wrote it")
    }
}
