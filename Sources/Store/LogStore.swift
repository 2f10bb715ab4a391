// SPDX-License-Identifier: Apache-2.0
import Consensus
import SQLite
import Wire

/// The log and the hard state of one member, in a SQLite file of its own. Each call is one transaction and durable when it
/// returns (WAL with `synchronous=FULL`); one connection, which nobody shares.
///
/// Each entry carries a CRC over its place, its term, its kind, its bytes and the CRC of the entry before it: one that was
/// damaged, lost or moved shows when the log is read. Belongs to one thread.
public final class LogStore {
    /// What a member begins with.
    public struct Contents: Sendable {
        /// Term and vote.
        public var hard: HardState
        /// What the log begins after.
        public var base: SnapshotInfo
        /// The log.
        public var entries: [Entry]
    }

    private static let format: Int64 = 1
    private let database: Database
    private let insert: Statement
    private let truncate: Statement
    private let setHard: Statement
    private let setBase: Statement
    private let discardEntries: Statement
    private let crcAt: Statement
    /// CRC of the last entry, or of the base.
    private var lastCRC: UInt32 = 0
    private var lastIndex: LogIndex = 0
    private var baseIndex: LogIndex = 0
    private var baseCRC: UInt32 = 0

    /// Makes the empty log of a new member.
    ///
    /// - Parameter members: those of the cluster before its first entry: the founder for the founder, nobody for who joins.
    public static func create(path: String, owner: PeerIdentity, members: Members) throws(StoreError) {
        let store = try LogStore(path: path)
        guard store.ownership == nil else { throw .inUse(path) }
        try store.own(owner, members)
    }

    /// Opens the log of a member, and makes sure that it is the one.
    public convenience init(path: String, owner: PeerIdentity) throws(StoreError) {
        guard Files.size(path) > 0 else { throw .lost(path) }
        try self.init(path: path)
        guard let found = ownership else { throw .lost(path) }
        guard found == owner else { throw .foreign(path, "node \(found.node) of cluster \(found.cluster)") }
    }

    /// Opens a log, or makes an empty one that is nobody's.
    init(path: String) throws(StoreError) {
        database = try LogStore.open(path)
        do throws(SQLiteError) {
            insert = try database.prepare("INSERT INTO log VALUES (?, ?, ?, ?, ?)")
            truncate = try database.prepare("DELETE FROM log WHERE idx >= ?")
            setHard = try database.prepare("UPDATE meta SET term = ?, vote = ?")
            setBase = try database.prepare(
                "UPDATE meta SET base_index = ?, base_term = ?, base_members = ?, base_crc = ?")
            discardEntries = try database.prepare("DELETE FROM log WHERE idx <= ?")
            crcAt = try database.prepare("SELECT crc FROM log WHERE idx = ?")
        } catch { throw .disk(error) }
    }

    private static func open(_ path: String) throws(StoreError) -> Database {
        let database: Database
        let found: Int64
        do throws(SQLiteError) {
            database = try Database(path: path)
            // EXCLUSIVE before WAL: no shared memory, and no second connection.
            try database.run(
                """
                PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
                PRAGMA journal_size_limit=67108864; PRAGMA temp_store=MEMORY;
                """)
            found = try database.userVersion()
            if found == 0 {
                try database.run(
                    """
                    BEGIN IMMEDIATE;
                    CREATE TABLE IF NOT EXISTS meta (
                        id INTEGER PRIMARY KEY CHECK (id = 1), term INTEGER NOT NULL, vote INTEGER,
                        base_index INTEGER NOT NULL, base_term INTEGER NOT NULL, base_members BLOB NOT NULL,
                        base_crc INTEGER NOT NULL, cluster TEXT NOT NULL, node INTEGER NOT NULL,
                        epoch INTEGER NOT NULL);
                    CREATE TABLE IF NOT EXISTS log (
                        idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, kind INTEGER NOT NULL, crc INTEGER NOT NULL,
                        data BLOB NOT NULL);
                    INSERT OR IGNORE INTO meta VALUES (1, 0, NULL, 0, 0, x'0000000000000000', 0, '', 0, 0);
                    PRAGMA user_version=\(format);
                    COMMIT;
                    """)
            }
        } catch { throw error.isBusy ? .inUse(path) : .disk(error) }
        guard found == 0 || found == format else { throw .version(path, found: found, known: format) }
        return database
    }

    /// Whose log it is; `nil` when it is nobody's.
    private var ownership: PeerIdentity? {
        var found: PeerIdentity?
        try? database.prepare("SELECT cluster, node FROM meta").forEachRow { row in
            let node = UInt64(bitPattern: row.integer(1))
            if node != 0 { found = PeerIdentity(cluster: row.text(0), node: NodeID(node)) }
            return false
        }
        return found
    }

    private func own(_ owner: PeerIdentity, _ members: Members) throws(StoreError) {
        do throws(SQLiteError) {
            try database.prepare("UPDATE meta SET cluster = ?, node = ?, base_members = ?").run(
                .text(owner.cluster), .integer(Int64(bitPattern: owner.node.value)),
                .blob(EntryCodec.encode(members)))
        } catch { throw .disk(error) }
    }

    /// Bytes to have in the write-ahead log before anything waits for it: what it holds between two checkpoints.
    private static let preallocated = 4_200_000

    /// Makes the write-ahead log as large as it gets. It is written from its beginning again then, and a write that lengthens
    /// no file is on the disk a tenth sooner.
    private func preallocate() {
        do throws(SQLiteError) {
            try database.run(
                """
                DROP TABLE IF EXISTS spare;
                BEGIN IMMEDIATE;
                CREATE TABLE spare (data BLOB);
                INSERT INTO spare VALUES (zeroblob(\(LogStore.preallocated)));
                COMMIT;
                DROP TABLE spare;
                """)
        } catch {
            // Whoever has no room for this may have it for an entry.
            try? database.run("ROLLBACK")
            try? database.run("DROP TABLE IF EXISTS spare")
        }
    }

    /// Counts this start; others tell it from earlier ones by the number.
    public func beginEpoch() throws(StoreError) -> UInt64 {
        preallocate()
        var epoch: UInt64 = 0
        do throws(SQLiteError) {
            try database.run("UPDATE meta SET epoch = epoch + 1")
            try database.prepare("SELECT epoch FROM meta").forEachRow { row in
                epoch = UInt64(bitPattern: row.integer(0))
                return false
            }
        } catch { throw .disk(error) }
        return epoch
    }

    /// Opens the log of a node that is to begin anew, whatever cluster it is of.
    public static func open(path: String, of node: NodeID) throws(StoreError) -> LogStore {
        guard Files.size(path) > 0 else { throw .lost(path) }
        let store = try LogStore(path: path)
        guard let found = store.ownership else { throw .lost(path) }
        guard found.node == node else { throw .foreign(path, "node \(found.node) of cluster \(found.cluster)") }
        return store
    }

    /// What a log has beyond a state. A state that came by a snapshot may be of a later term than what the log has in its
    /// place: that never was committed.
    public static func tail(of contents: Contents, behind applied: LogPosition) -> [Entry] {
        let at =
            applied.index == contents.base.position.index
            ? contents.base.position : contents.entries.first { $0.index == applied.index }?.position
        guard let at, at.term == applied.term else { return [] }
        return contents.entries.filter { $0.index > applied.index }
    }

    /// Begins anew behind a place, in a later term, as the log of a cluster's only member; all or nothing.
    public func refound(as new: PeerIdentity, at position: LogPosition, term: Term) throws(StoreError) {
        try durably { () throws(SQLiteError) in
            try truncate.run(.integer(0))
            try put(SnapshotInfo(position: position, members: Members(voters: [new.node])), crc: 0)
            try setHard.run(.integer(Int64(bitPattern: term)), .null)
            try database.prepare("UPDATE meta SET cluster = ?, node = ?").run(
                .text(new.cluster), .integer(Int64(bitPattern: new.node.value)))
        }
        (baseIndex, lastIndex) = (position.index, position.index)
        (baseCRC, lastCRC) = (0, 0)
    }

    /// Reads everything, and makes sure that it is what was written.
    public func load() throws(StoreError) -> Contents {
        var hard = HardState()
        var base = SnapshotInfo(position: .zero, members: Members())
        var members: [UInt8] = []
        var entries: [Entry] = []
        var failure: StoreError?
        do throws(SQLiteError) {
            try database.prepare("SELECT term, vote, base_index, base_term, base_members, base_crc FROM meta")
                .forEachRow { row in
                    hard = HardState(
                        term: UInt64(bitPattern: row.integer(0)),
                        vote: row.isNull(1) ? nil : NodeID(UInt64(bitPattern: row.integer(1))))
                    base.position = LogPosition(
                        term: UInt64(bitPattern: row.integer(3)), index: UInt64(bitPattern: row.integer(2)))
                    members = row.blob(4)
                    baseCRC = UInt32(truncatingIfNeeded: row.integer(5))
                    return true
                }
            baseIndex = base.position.index
            lastIndex = baseIndex
            lastCRC = baseCRC
            try database.prepare("SELECT idx, term, kind, crc, data FROM log ORDER BY idx").forEachRow { row in
                do throws(StoreError) {
                    entries.append(try entry(row))
                    return true
                } catch {
                    failure = error
                    return false
                }
            }
        } catch { throw .disk(error) }
        if let failure { throw failure }
        base.members = try EntryCodec.decodeMembers(members)
        return Contents(hard: hard, base: base, entries: entries)
    }

    private func entry(_ row: Statement.Row) throws(StoreError) -> Entry {
        let index = UInt64(bitPattern: row.integer(0))
        let term = UInt64(bitPattern: row.integer(1))
        let kind = UInt8(truncatingIfNeeded: row.integer(2))
        let data = row.blob(4)
        guard index == lastIndex + 1 else {
            throw .corrupt(database.path, index: lastIndex + 1, reason: "it is missing; the next one is \(index)")
        }
        let crc = LogStore.crc(lastCRC, index, term, kind, data)
        guard crc == UInt32(truncatingIfNeeded: row.integer(3)) else {
            throw .corrupt(database.path, index: index, reason: "its checksum does not hold")
        }
        let content = try EntryCodec.decode(kind: kind, data)
        lastIndex = index
        lastCRC = crc
        return Entry(term: term, index: index, content: content)
    }

    private static func crc(
        _ previous: UInt32, _ index: UInt64, _ term: UInt64, _ kind: UInt8, _ data: [UInt8]
    ) -> UInt32 {
        var crc = CRC32C(after: previous)
        crc.add(index)
        crc.add(term)
        crc.add(CollectionOfOne(kind))
        crc.add(data)
        return crc.value
    }

    /// Makes a write durable: hard state, what is taken back and what is new, all or nothing.
    public func write(_ write: Write) throws(StoreError) {
        if let first = write.entries.first, first.index <= baseIndex || first.index > lastIndex + 1 {
            throw .malformed("write: entry \(first.index) does not follow what is there, \(baseIndex) to \(lastIndex)")
        }
        var crc = lastCRC
        var last = lastIndex
        try durably { () throws(SQLiteError) in
            if let hard = write.hard {
                try setHard.run(
                    .integer(Int64(bitPattern: hard.term)),
                    hard.vote.map { .integer(Int64(bitPattern: $0.value)) } ?? .null)
            }
            guard let first = write.entries.first else { return }
            if first.index <= last {
                try truncate.run(.integer(Int64(bitPattern: first.index)))
                crc = try self.crc(at: first.index - 1)
            }
            for entry in write.entries {
                let (kind, data) = EntryCodec.encode(entry.content)
                crc = LogStore.crc(crc, entry.index, entry.term, kind, data)
                try insert.run(
                    .integer(Int64(bitPattern: entry.index)), .integer(Int64(bitPattern: entry.term)),
                    .integer(Int64(kind)), .integer(Int64(crc)), .blob(data))
                last = entry.index
            }
        }
        lastCRC = crc
        lastIndex = last
    }

    private func crc(at index: LogIndex) throws(SQLiteError) -> UInt32 {
        if index == baseIndex { return baseCRC }
        var crc: UInt32 = 0
        try crcAt.forEachRow(.integer(Int64(bitPattern: index))) { row in
            crc = UInt32(truncatingIfNeeded: row.integer(0))
            return false
        }
        return crc
    }

    /// Empties the log: it begins anew behind a snapshot that is in force.
    public func install(_ info: SnapshotInfo) throws(StoreError) {
        try durably { () throws(SQLiteError) in
            try truncate.run(.integer(0))
            try put(info, crc: 0)
        }
        (baseIndex, lastIndex) = (info.position.index, info.position.index)
        (baseCRC, lastCRC) = (0, 0)
    }

    /// Forgets the entries up to a snapshot's place. The state machine must have them durably.
    public func discard(_ info: SnapshotInfo) throws(StoreError) {
        guard info.position.index > baseIndex else { return }
        var crc: UInt32 = 0
        try durably { () throws(SQLiteError) in
            crc = try self.crc(at: info.position.index)
            try put(info, crc: crc)
            try discardEntries.run(.integer(Int64(bitPattern: info.position.index)))
        }
        baseIndex = info.position.index
        baseCRC = crc
    }

    private func put(_ info: SnapshotInfo, crc: UInt32) throws(SQLiteError) {
        try setBase.run(
            .integer(Int64(bitPattern: info.position.index)), .integer(Int64(bitPattern: info.position.term)),
            .blob(EntryCodec.encode(info.members)), .integer(Int64(crc)))
    }

    private func durably(_ body: () throws(SQLiteError) -> Void) throws(StoreError) {
        do throws(SQLiteError) { try database.transaction(body) } catch { throw .disk(error) }
    }
}
