// SPDX-License-Identifier: Apache-2.0

/// How one node tells the others of rows: inputs in, effects out, nothing else. It knows where rows are, not what they say.
///
/// Each pair of nodes has a channel each way with numbers of its own. A datagram holds the rows of a range of the sender's
/// log; a number that is missing is asked for within milliseconds, and the rows are then sent as they are by that time.
/// Some rows are first pushed to few peers, ahead of the others'. A peer that was away longer than the log reaches back, or
/// begins anew, compares tables (``Effect/compare(_:)``): no queue grows for it.
public struct Replicator: Sendable {
    /// What is to be done.
    public enum Effect: Sendable, Equatable {
        /// Send the rows of these entries under a number. Entries that are not for everybody are meant only if pushed.
        case rows(to: PeerID, number: UInt64, Range<UInt64>, isPush: Bool)
        /// Send a frame.
        case frame(to: PeerID, GossipFrame)
        /// Compare tables with a peer: what it sent did not all come, and will not.
        case compare(PeerID)
    }

    private let asGiven: ReplicatorOptions
    /// As they are for so many peers.
    private var options: ReplicatorOptions
    private var log: RowLog
    private var peers: [Channel] = []
    private var places: [PeerID: Int] = [:]
    /// No channel has anything to do before, nanoseconds; it may be later.
    private var due: UInt64 = 0
    /// Whether there may be a peer that was not sent all yet.
    private var hasUnsent = false

    /// One that has told nothing.
    public init(options: ReplicatorOptions = ReplicatorOptions()) {
        asGiven = options
        self.options = options
        log = RowLog(limit: options.entries)
    }

    // MARK: - Who

    /// Sets who the others are. A new one gets what is told from now on, and compares tables for the rest.
    public mutating func setPeers(_ ids: Set<PeerID>) {
        options = asGiven.paced(for: ids.count)
        due = 0
        peers.removeAll { !ids.contains($0.id) }
        for id in ids where places[id] == nil { peers.append(Channel(id, cursor: log.end, options)) }
        peers.sort { $0.id < $1.id }
        places = Dictionary(uniqueKeysWithValues: peers.enumerated().map { ($1.id, $0) })
    }

    /// A peer runs another time: its numbers begin anew, and it has nothing of what its last life was sent.
    public mutating func began(_ id: PeerID) {
        guard let place = places[id] else { return }
        peers[place].begin()
        due = 0
    }

    /// How long what is for everybody may wait for more of its kind, nanoseconds.
    public var gather: UInt64 { options.gather }

    /// Takes note that a channel may have something to do.
    private mutating func changed(_ place: Int) { due = min(due, peers[place].nextDue) }

    /// What the channels with a peer are at.
    public func status(of id: PeerID) -> ChannelStatus? { places[id].map { peers[$0].status(log.end) } }

    // MARK: - Telling

    /// The row of an entry, if the entry is kept.
    public func handle(_ entry: UInt64) -> UInt64? { log.handle(entry) }
    /// Whether an entry's row is for everybody.
    public func isShared(_ entry: UInt64) -> Bool { log.isShared(entry) }
    /// Entries that were made so far.
    public var head: UInt64 { log.end - 1 }

    /// Takes note that a row changed.
    ///
    /// - Parameter isShared: whether everybody is to hear of it, or only those that it is pushed to.
    /// - Returns: the number of its entry; the row's owner keeps the last.
    public mutating func append(_ handle: UInt64, isShared: Bool) -> UInt64 {
        hasUnsent = true
        return log.append(handle, isShared: isShared)
    }

    /// A number for entries that go to a peer at once; `nil` when it is not there, or does not keep up.
    public mutating func push(_ entries: Range<UInt64>, to id: PeerID, now: UInt64) -> UInt64? {
        guard let place = places[id], peers[place].hears(now, options),
            peers[place].pending < options.unacknowledged
        else { return nil }
        defer { changed(place) }
        return peers[place].note(entries, isPush: true, now, options)
    }

    /// Whether a peer was heard a moment ago.
    public func hears(_ id: PeerID, now: UInt64) -> Bool { places[id].map { peers[$0].hears(now, options) } ?? false }

    /// Whether there is something to ``flush(now:)``: it is new, there was no room for it, or its peer was not heard.
    public func isPending(now: UInt64) -> Bool {
        hasUnsent && peers.contains { $0.cursor < log.end && $0.hears(now, options) }
    }

    /// Sends what is for everybody and was not sent yet.
    public mutating func flush(now: UInt64) -> [Effect] {
        var effects: [Effect] = []
        for place in peers.indices {
            peers[place].flush(log, now, options, &effects)
            changed(place)
        }
        hasUnsent = peers.contains { $0.cursor < log.end }
        return effects
    }

    // MARK: - Hearing

    /// A datagram with rows came; false when it came before, and its rows are not news.
    public mutating func received(number: UInt64, from id: PeerID, now: UInt64) -> Bool {
        guard let place = places[id] else { return false }
        defer { changed(place) }
        return peers[place].receive(number, now, options)
    }

    /// A frame other than rows came.
    public mutating func received(_ frame: GossipFrame, from id: PeerID, now: UInt64) -> [Effect] {
        guard let place = places[id] else { return [] }
        defer { changed(place) }
        return peers[place].receive(frame, log, now, options)
    }

    /// What is due now; see ``nextDue``.
    public mutating func tick(now: UInt64) -> [Effect] {
        guard now >= due else { return [] }
        var effects: [Effect] = []
        due = .max
        for place in peers.indices {
            peers[place].tick(now, options, &effects)
            changed(place)
        }
        return effects
    }

    /// When to call ``tick(now:)`` next; there may be nothing to do then.
    public var nextDue: UInt64 { due }
}
