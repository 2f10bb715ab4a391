// SPDX-License-Identifier: Apache-2.0
import SQLite

/// Why a store can't go on. None of these is to be tried again: what was acknowledged must not be claimed on the word of a
/// disk that has lied once.
public enum StoreError: Error, Sendable, Equatable, CustomStringConvertible {
    /// SQLite, or the disk under it, failed.
    case disk(SQLiteError)
    /// The log of a member is not there any more.
    case lost(String)
    /// The log is that of another member.
    case foreign(String, String)
    /// The state is not one that this log makes.
    case mismatch(String)
    /// Another process has the file.
    case inUse(String)
    /// The file is of another version.
    case version(String, found: Int64, known: Int64)
    /// An entry is not as it was written.
    case corrupt(String, index: UInt64, reason: String)
    /// Something was written by a later version.
    case unknownKind(UInt8)
    /// Bytes that are not what they should be.
    case malformed(String)

    /// What happened, and what to do.
    public var description: String {
        switch self {
        case .disk(let error): "\(error)"
        case .lost(let path):
            """
            \(path) is gone or empty: this member has lost its log, and with it its votes
                remove the member (selvage cluster remove), wipe its directory and let it join as a new node
            """
        case .foreign(let path, let owner):
            "\(path) is the log of \(owner)\n    give each node a directory of its own"
        case .mismatch(let reason):
            "\(reason)\n    remove this member, wipe its directory and let it join again"
        case .inUse(let path): "\(path) is in use: another node runs on this directory"
        case .version(let path, let found, let known):
            "\(path) is of format \(found), this version knows \(known): run the version that wrote it"
        case .corrupt(let path, let index, let reason):
            """
            \(path): entry \(index) is not as it was written: \(reason)
                the disk or the file is damaged; remove this member, wipe its directory and let it join again
            """
        case .unknownKind(let kind): "an entry of kind \(kind) was written by a later version: upgrade this node"
        case .malformed(let what): "malformed \(what)"
        }
    }
}
