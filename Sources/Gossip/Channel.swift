// SPDX-License-Identifier: Apache-2.0
import DequeModule
import Wire

/// What the channels with a peer are at.
public struct ChannelStatus: Sendable, Equatable {
    /// Datagrams with rows that were sent.
    public var sent: UInt64
    /// Those of them that are acknowledged.
    public var acknowledged: UInt64
    /// Entries of the log that were not sent yet.
    public var backlog: UInt64
    /// Numbers of the peer's that are missing now.
    public var missing: UInt64
    /// What happened so far.
    public var counts: ChannelCounts
    /// When the peer was heard last, nanoseconds; `nil`: never.
    public var heard: UInt64?
}

/// What happened on the channels with a peer.
public struct ChannelCounts: Sendable, Equatable {
    /// Datagrams with rows that came.
    public var received: UInt64 = 0
    /// ... a second time.
    public var duplicates: UInt64 = 0
    /// Times that the peer was asked for what is missing.
    public var asked: UInt64 = 0
    /// Datagrams that it asked for.
    public var resent: UInt64 = 0
    /// Times that what was to be sent was forgotten, since the peer did not keep up.
    public var forgotten: UInt64 = 0
    /// Times that tables were to be compared.
    public var compared: UInt64 = 0
    /// How long it was until datagrams with rows were known to have come.
    public var acknowledged = DurationCounts()
}

/// The two channels between this node and a peer.
struct Channel: Sendable {
    /// One sent datagram: which entries it held.
    struct Sent: Sendable {
        var first: UInt64
        var count: UInt32
        var isPush: Bool
        /// When, nanoseconds.
        var at: UInt64
    }

    let id: PeerID

    // Out.
    /// The number of the next datagram.
    private var next: UInt64 = 1
    /// The first entry that was not sent with everybody's yet.
    private(set) var cursor: UInt64
    /// What was sent and not acknowledged; the first of them has the number `acknowledged`.
    private var sent = Deque<Sent>()
    /// Everything below was acknowledged.
    private var acknowledged: UInt64 = 1
    private var nextBeacon: UInt64 = 0
    private var beaconPause: UInt64

    // In.
    /// The next number; `nil` before the first word of this life of the peer.
    private var expected: UInt64?
    private var missing = NumberRanges()
    private var nextAsk: UInt64 = 0
    private var asks = 0
    private var owesWord: UInt64?
    private var heard: UInt64?
    private var isToCompare = false

    private var counts = ChannelCounts()

    init(_ id: PeerID, cursor: UInt64, _ options: ReplicatorOptions) {
        self.id = id
        self.cursor = cursor
        beaconPause = options.beacon
    }

    mutating func begin() {
        expected = nil
        missing = NumberRanges()
        asks = 0
        acknowledged = next
        sent.removeAll()
        nextBeacon = 0
    }

    func status(_ end: UInt64) -> ChannelStatus {
        ChannelStatus(
            sent: next - 1, acknowledged: acknowledged - 1, backlog: end - cursor, missing: missing.count,
            counts: counts, heard: heard)
    }

    /// Datagrams that were not acknowledged.
    var pending: Int { sent.count }
    /// Before this number everything came.
    private var contiguous: UInt64 { missing.ranges.first?.lowerBound ?? expected ?? 0 }

    func hears(_ now: UInt64, _ options: ReplicatorOptions) -> Bool {
        heard.map { now < $0 &+ options.silence } ?? false
    }

    // MARK: - Out

    /// Takes note of a datagram that is sent; its number.
    mutating func note(_ entries: Range<UInt64>, isPush: Bool, _ now: UInt64, _ options: ReplicatorOptions) -> UInt64 {
        sent.append(Sent(first: entries.lowerBound, count: UInt32(entries.count), isPush: isPush, at: now))
        beaconPause = options.beacon
        nextBeacon = now &+ options.beacon
        next += 1
        return next - 1
    }

    mutating func flush(
        _ log: RowLog, _ now: UInt64, _ options: ReplicatorOptions, _ effects: inout [Replicator.Effect]
    ) {
        guard cursor < log.end else { return }
        // Whoever is away is not waited for: what the log no longer has it gets by comparing.
        if cursor < log.first { forget(log.end) }
        guard hears(now, options) else { return }
        var datagrams = 0
        var start: UInt64?
        var held = 0
        var entry = cursor
        while entry < log.end, datagrams < options.datagramsPerFlush, sent.count < options.unacknowledged {
            if log.isShared(entry) {
                if start == nil { start = entry }
                held += 1
            }
            entry += 1
            if held == options.entriesPerDatagram || entry == log.end, let first = start {
                let number = note(first..<entry, isPush: false, now, options)
                effects.append(.rows(to: id, number: number, first..<entry, isPush: false))
                (start, held, datagrams) = (nil, 0, datagrams + 1)
            }
        }
        cursor = start ?? entry
    }

    /// What was sent and not acknowledged, and what waits, is told no more. The number that is left out tells the peer.
    private mutating func forget(_ end: UInt64) {
        cursor = end
        sent.removeAll()
        next += 1
        acknowledged = next
        counts.forgotten += 1
    }

    private mutating func acknowledge(before end: UInt64, _ now: UInt64, _ options: ReplicatorOptions) {
        guard end > acknowledged, end <= next else { return }
        for one in sent.prefix(Int(end - acknowledged)) { counts.acknowledged.add(now > one.at ? now - one.at : 0) }
        sent.removeFirst(Int(end - acknowledged))
        acknowledged = end
        if acknowledged == next { nextBeacon = now &+ options.idle }
    }

    /// Sends again what the peer misses.
    private mutating func send(
        again ranges: [Range<UInt64>], _ log: RowLog, _ options: ReplicatorOptions,
        _ effects: inout [Replicator.Effect]
    ) {
        var budget = options.datagramsPerFlush
        for range in ranges where range.lowerBound < next {
            for number in range.lowerBound..<min(range.upperBound, next) {
                guard budget > 0 else { return }
                if number >= acknowledged, case let one = sent[Int(number - acknowledged)], one.first >= log.first {
                    budget -= 1
                    counts.resent += 1
                    let entries = one.first..<one.first + UInt64(one.count)
                    effects.append(.rows(to: id, number: number, entries, isPush: one.isPush))
                } else {
                    // It is not known any more, and neither is what was before.
                    var end = max(acknowledged, number + 1)
                    while end < next, sent[Int(end - acknowledged)].first < log.first { end += 1 }
                    effects.append(.frame(to: id, .forgotten(before: end)))
                    return
                }
            }
        }
    }

    // MARK: - In

    mutating func receive(_ number: UInt64, _ now: UInt64, _ options: ReplicatorOptions) -> Bool {
        guard number < .max else { return false }
        heard = now
        if owesWord == nil { owesWord = now &+ options.acknowledge }
        guard let expected else {
            // What was before the first word is compared.
            expected = number + 1
            isToCompare = true
            counts.received += 1
            return true
        }
        if number >= expected {
            miss(expected..<number, now, options)
            self.expected = number + 1
        } else if missing.remove(number) {
            asks = 0
        } else {
            counts.duplicates += 1
            return false
        }
        counts.received += 1
        return true
    }

    /// Numbers are missing: they are asked for soon.
    private mutating func miss(_ numbers: Range<UInt64>, _ now: UInt64, _ options: ReplicatorOptions) {
        if numbers.isEmpty { return }
        nextAsk = missing.isEmpty ? now &+ options.reorder : min(nextAsk, now &+ options.reorder)
        if missing.isEmpty { asks = 0 }
        missing.append(numbers)
    }

    mutating func receive(
        _ frame: GossipFrame, _ log: RowLog, _ now: UInt64, _ options: ReplicatorOptions
    ) -> [Replicator.Effect] {
        var effects: [Replicator.Effect] = []
        heard = now
        switch frame {
        case .heads(let sent, let received, let isAsking):
            acknowledge(before: received, now, options)
            if let expected {
                if sent >= expected, sent < .max {
                    miss(expected..<sent + 1, now, options)
                    self.expected = sent + 1
                }
            } else if sent < .max {
                expected = sent + 1
                isToCompare = true
            }
            if isAsking { owesWord = now }
        case .missing(let ranges): send(again: ranges, log, options, &effects)
        case .forgotten(let end):
            guard let expected else { break }
            if missing.remove(upTo: end) { isToCompare = true }
            if end > expected {
                self.expected = end
                isToCompare = true
            }
            owesWord = now
        case .rows, .wanted, .unknown, .found, .membership, .clock: break
        }
        compareIfDue(&effects)
        return effects
    }

    private mutating func compareIfDue(_ effects: inout [Replicator.Effect]) {
        guard isToCompare else { return }
        isToCompare = false
        counts.compared += 1
        effects.append(.compare(id))
    }

    // MARK: - Time

    mutating func tick(_ now: UInt64, _ options: ReplicatorOptions, _ effects: inout [Replicator.Effect]) {
        compareIfDue(&effects)
        if !missing.isEmpty, now >= nextAsk { ask(now, options, &effects) }
        let isDue = now >= nextBeacon
        guard isDue || owesWord.map({ now >= $0 }) ?? false else { return }
        let isUnheard = acknowledged < next
        effects.append(.frame(to: id, .heads(sent: next - 1, received: contiguous, asks: isUnheard && isDue)))
        owesWord = nil
        guard isDue else { return }
        beaconPause = isUnheard && hears(now, options) ? min(beaconPause * 3, options.idle) : options.idle
        nextBeacon = now &+ beaconPause
    }

    private mutating func ask(_ now: UInt64, _ options: ReplicatorOptions, _ effects: inout [Replicator.Effect]) {
        guard asks < options.asks else {
            // It does not come: its sender is overwhelmed, or gone.
            _ = missing.remove(upTo: .max)
            asks = 0
            counts.compared += 1
            effects.append(.compare(id))
            return
        }
        effects.append(.frame(to: id, .missing(Array(missing.ranges.prefix(GossipFrame.rangesAtMost)))))
        counts.asked += 1
        nextAsk = now &+ options.askAgain << UInt64(asks)
        asks += 1
    }

    var nextDue: UInt64 {
        var due = isToCompare ? 0 : nextBeacon
        if let owesWord { due = min(due, owesWord) }
        if !missing.isEmpty { due = min(due, nextAsk) }
        return due
    }
}
