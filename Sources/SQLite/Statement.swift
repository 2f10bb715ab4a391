// SPDX-License-Identifier: Apache-2.0
import CSQLite

/// A prepared statement. Belongs to the thread of its database.
public final class Statement {
    private let handle: OpaquePointer
    private let database: Database
    private let sql: String

    init(_ handle: OpaquePointer, _ database: Database, _ sql: String) {
        self.handle = handle
        self.database = database
        self.sql = sql
    }

    deinit { sqlite3_finalize(handle) }

    /// A value of a parameter or a column.
    public enum Value: Sendable, Hashable {
        /// No value.
        case null
        /// A whole number.
        case integer(Int64)
        /// Text.
        case text(String)
        /// Bytes.
        case blob([UInt8])
    }

    /// Runs the statement with its parameters in order, without looking at rows.
    public func run(_ values: Value...) throws(SQLiteError) {
        try bind(values)
        defer { sqlite3_reset(handle) }
        let result = sqlite3_step(handle)
        guard result == SQLITE_DONE || result == SQLITE_ROW else { throw database.error(result, sql) }
    }

    /// Runs the statement with a number and some bytes as its parameters: the shortest way to add many rows.
    public func run(_ number: Int64, _ bytes: [UInt8], _ range: Range<Int>) throws(SQLiteError) {
        let result = bytes.withUnsafeBytes { raw -> Int32 in
            let bound = sqlite3_bind_int64(handle, 1, number)
            guard bound == SQLITE_OK, !range.isEmpty else { return bound == SQLITE_OK ? SQLITE_MISUSE : bound }
            // The bytes stay where they are until the step is done.
            let part = UnsafeRawBufferPointer(rebasing: raw[range])
            let blob = sqlite3_bind_blob(handle, 2, part.baseAddress, Int32(part.count), nil)
            return blob == SQLITE_OK ? sqlite3_step(handle) : blob
        }
        sqlite3_reset(handle)
        guard result == SQLITE_DONE else { throw database.error(result, sql) }
    }

    /// Runs the statement and hands each row to `body`, until that returns false.
    public func forEachRow(_ values: Value..., body: (Row) throws(SQLiteError) -> Bool) throws(SQLiteError) {
        try bind(values)
        defer { sqlite3_reset(handle) }
        while true {
            let result = sqlite3_step(handle)
            if result == SQLITE_DONE { return }
            guard result == SQLITE_ROW else { throw database.error(result, sql) }
            if try !body(Row(handle: handle)) { return }
        }
    }

    private func bind(_ values: [Value]) throws(SQLiteError) {
        for (offset, value) in values.enumerated() {
            let index = Int32(offset + 1)
            let result =
                switch value {
                case .null: sqlite3_bind_null(handle, index)
                case .integer(let number): sqlite3_bind_int64(handle, index, number)
                case .text(let text): csqlite_bind_text(handle, index, text, Int32(text.utf8.count))
                case .blob(let bytes):
                    bytes.withUnsafeBytes { raw in
                        // A null pointer would bind null instead of no bytes.
                        raw.baseAddress.map { csqlite_bind_blob(handle, index, $0, Int32(raw.count)) }
                            ?? sqlite3_bind_zeroblob(handle, index, 0)
                    }
                }
            if result != SQLITE_OK { throw database.error(result, sql) }
        }
    }

    /// A row at hand; valid in the call that it is given to.
    public struct Row {
        fileprivate let handle: OpaquePointer

        /// A column as a number; 0 when it is none.
        public func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }
        /// Whether a column has no value.
        public func isNull(_ column: Int32) -> Bool { sqlite3_column_type(handle, column) == SQLITE_NULL }
        /// A column as text.
        public func text(_ column: Int32) -> String {
            sqlite3_column_text(handle, column).map { String(cString: $0) } ?? ""
        }
        /// A column's bytes.
        public func blob(_ column: Int32) -> [UInt8] {
            let count = Int(sqlite3_column_bytes(handle, column))
            guard count > 0, let start = sqlite3_column_blob(handle, column) else { return [] }
            return [UInt8](UnsafeRawBufferPointer(start: start, count: count))
        }
    }
}
