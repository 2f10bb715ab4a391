// SPDX-License-Identifier: Apache-2.0

/// What a leader knows of a member that it replicates to.
struct Progress: Sendable {
    enum Mode: Sendable, Equatable {
        /// Where its log agrees is not known yet: one message at a time.
        case probe
        /// Its log agrees: messages follow each other without waiting.
        case replicate
        /// It gets a snapshot, from `next` of its bytes on; `nil` until the state machine has opened one.
        case snapshot(SnapshotInfo?, next: UInt64)
    }
    var mode = Mode.probe
    /// Up to here its log is durable and the same.
    var match: LogIndex = 0
    /// What to send next.
    var next: LogIndex
    /// The last commit that it was told of by a heartbeat.
    var told: LogIndex = 0
    /// Last index and size of the messages that are under way.
    var inflight: [(last: LogIndex, bytes: Int)] = []
    var inflightBytes = 0
    /// Whether a probe, or the next piece of a snapshot, is under way; another goes out with the next heartbeat's answer.
    var isWaiting = false
    /// Whether it was heard from since the last check.
    var isActive = true
    /// Ticks since it was heard from.
    var silence = 0
    /// The latest heartbeat that it answered.
    var round: UInt64 = 0
    /// Heartbeats that it answered since its log got on.
    var beatsWithoutProgress = 0
    /// For how many ticks it has been close enough to become a voter.
    var closeTicks = 0

    init(next: LogIndex) { self.next = next }

    mutating func becomeProbe(leaks: Bool) { become(.probe, leaks) }

    mutating func becomeReplicate(leaks: Bool) { become(.replicate, leaks) }

    private mutating func become(_ mode: Mode, _ leaks: Bool) {
        self.mode = mode
        next = match + 1
        isWaiting = false
        inflight.removeAll()
        if !leaks { inflightBytes = 0 }
    }

    mutating func sent(last: LogIndex, bytes: Int) {
        inflight.append((last, bytes))
        inflightBytes += bytes
        next = last + 1
    }

    /// Messages up to a place have arrived.
    mutating func acknowledged(_ index: LogIndex, leaks: Bool) {
        while let first = inflight.first, first.last <= index {
            if !leaks { inflightBytes -= first.bytes }
            inflight.removeFirst()
        }
    }
}
