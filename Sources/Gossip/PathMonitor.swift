// SPDX-License-Identifier: Apache-2.0

/// Whether what is sent on a path arrives.
public enum PathState: String, Sendable {
    /// Not found out yet, or the other end has said that it stops looking: what it forwards it may forward still.
    case unknown
    /// Both ends hear each other.
    case up
    /// They do not.
    case down
}

/// Watches the paths from one host to the others, each by a ``BFDSession``, and says which work. Inputs in, effects out.
public struct PathMonitor<Path: Hashable & Comparable & Sendable>: Sendable {
    /// What is to be done.
    public enum Effect: Sendable, Equatable {
        /// Send this on a path.
        case send(Path, BFDPacket)
        /// A path is otherwise than it was.
        case changed(Path, PathState)
    }

    /// How one path is.
    public struct Status: Sendable {
        /// The path.
        public var path: Path
        /// Whether it works.
        public var state: PathState
        /// Since when, on the caller's clock.
        public var since: UInt64
        /// Why it went down last.
        public var diagnostic: BFDDiagnostic
        /// How often it went down.
        public var failures: UInt64
        /// Nanoseconds without a packet after which it is down; 0: the other end was never heard.
        public var detectionTime: UInt64
        /// Packets that went.
        public var sent: UInt64
        /// Packets that came.
        public var received: UInt64
    }

    private struct Watched: Sendable {
        var session: BFDSession
        var state = PathState.unknown
        var since: UInt64
        var failures: UInt64 = 0
        /// When what is not known counts as down.
        var doubtUntil: UInt64
    }

    /// How long a path of which nothing is known counts as one that may work, nanoseconds.
    public static var patience: UInt64 { 3_000_000_000 }
    /// The same where the other end said that it stops, as for an upgrade.
    public static var patienceWithStopped: UInt64 { 30_000_000_000 }

    private let options: BFDOptions
    private var watched: [Path: Watched] = [:]
    private var random: UInt64

    /// One that watches nothing.
    ///
    /// - Parameter seed: of the sessions' numbers and jitter; not to be guessed.
    public init(options: BFDOptions = BFDOptions(), seed: UInt64) {
        self.options = options
        random = seed
    }

    private mutating func next() -> UInt64 {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        random &+= 0x9e37_79b9_7f4a_7c15
        var value = random
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    /// Sets which paths there are. What is known of those that stay stays.
    public mutating func setPaths(_ paths: Set<Path>, now: UInt64) {
        for path in watched.keys where !paths.contains(path) { watched[path] = nil }
        for path in paths.sorted() where watched[path] == nil {
            var discriminator = UInt32(truncatingIfNeeded: next())
            while discriminator == 0 || watched.values.contains(where: { $0.session.discriminator == discriminator }) {
                discriminator = UInt32(truncatingIfNeeded: next())
            }
            let session = BFDSession(discriminator: discriminator, options: options, seed: next(), now: now)
            watched[path] = Watched(session: session, since: now, doubtUntil: now &+ PathMonitor.patience)
        }
    }

    /// A packet came on a path.
    public mutating func receive(_ packet: BFDPacket, on path: Path, now: UInt64) -> [Effect] {
        guard watched[path]?.session.receive(packet, now: now) == true else { return [] }
        if packet.state == .adminDown { watched[path]?.doubtUntil = now &+ PathMonitor.patienceWithStopped }
        return settle(path, now, isStopping: packet.state == .adminDown)
    }

    /// What is due; see ``nextDue``.
    public mutating func tick(now: UInt64) -> [Effect] {
        var effects: [Effect] = []
        for path in watched.keys.sorted() {
            if let packet = watched[path]?.session.tick(now: now) { effects.append(.send(path, packet)) }
            effects += settle(path, now)
        }
        return effects
    }

    private mutating func settle(_ path: Path, _ now: UInt64, isStopping: Bool = false) -> [Effect] {
        guard var entry = watched[path] else { return [] }
        let state: PathState
        switch (entry.session.state, entry.state) {
        case (.up, _): state = .up
        case (_, .up): state = isStopping ? .unknown : .down
        case (_, .unknown): state = now >= entry.doubtUntil ? .down : .unknown
        case (_, .down): state = .down
        }
        guard state != entry.state else { return [] }
        if state == .down { entry.failures &+= 1 }
        (entry.state, entry.since) = (state, now)
        watched[path] = entry
        return [.changed(path, state)]
    }

    /// When ``tick(now:)`` has something to do.
    public var nextDue: UInt64 {
        watched.values.reduce(.max) { due, entry in
            min(due, entry.session.nextDue, entry.state == .unknown ? entry.doubtUntil : .max)
        }
    }

    /// This host stops: the others are told, so that they do not take it for a path that died.
    public mutating func stop(now: UInt64) -> [Effect] {
        return watched.keys.sorted().compactMap { path in
            watched[path]?.session.holdDown()
            return watched[path]?.session.tick(now: now).map { .send(path, $0) }
        }
    }

    /// How all paths are, in their order.
    public var statuses: [Status] {
        watched.sorted { $0.key < $1.key }.map { path, entry in
            Status(
                path: path, state: entry.state, since: entry.since, diagnostic: entry.session.diagnostic,
                failures: entry.failures, detectionTime: entry.session.detectionTime, sent: entry.session.sent,
                received: entry.session.received)
        }
    }
}
