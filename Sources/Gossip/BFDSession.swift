// SPDX-License-Identifier: Apache-2.0

/// Times and counts of a ``BFDSession``. Times are nanoseconds.
public struct BFDOptions: Sendable, Equatable {
    /// How often a packet goes once the path is up, and how often one is wanted.
    public var interval: UInt64 = 80_000_000
    /// So many intervals without a packet are the detection time.
    public var multiplier: UInt8 = 3
    /// How often a packet goes while the path is not up; no less than a second (RFC 5880 section 6.8.3).
    public var slowInterval: UInt64 = 1_000_000_000

    /// As above: a path that dies is known within 240 ms.
    public init() {}
}

/// One end of a path that is watched: the state machine of RFC 5880, asynchronous mode, without authentication and echo.
/// Inputs in, packets out; it has no clock.
public struct BFDSession: Sendable {
    private let options: BFDOptions
    /// This end's number for the session.
    public let discriminator: UInt32
    /// How the path is.
    public private(set) var state = BFDState.down
    /// Why it went down last.
    public private(set) var diagnostic = BFDDiagnostic.none
    /// What the other end said of itself last.
    public private(set) var remote: BFDPacket?
    private var remoteDiscriminator: UInt32 = 0
    /// When the next packet is to go.
    private var sendAt: UInt64
    private var isSendingNow = true
    /// When nothing will have come for too long; `.max` while that says nothing new.
    private var expiresAt = UInt64.max
    private var isPolling = false
    private var owesFinal = false
    private var random: UInt64
    /// Packets that came and were of this session.
    public private(set) var received: UInt64 = 0
    /// Packets that went.
    public private(set) var sent: UInt64 = 0

    /// A session that is down, and sends its first packet at once.
    ///
    /// - Parameters:
    ///   - discriminator: not 0, unlike those of this host's other sessions, and not to be guessed.
    ///   - seed: of the jitter.
    public init(discriminator: UInt32, options: BFDOptions, seed: UInt64, now: UInt64) {
        precondition(discriminator != 0, "0 names no session")
        self.discriminator = discriminator
        self.options = options
        random = seed
        sendAt = now
    }

    /// Nanoseconds without a packet after which the path is down.
    public var detectionTime: UInt64 {
        guard let remote else { return 0 }
        return UInt64(remote.multiplier) * max(options.interval, UInt64(remote.desiredMinTx) * 1000)
    }

    /// When ``tick(now:)`` has something to do.
    public var nextDue: UInt64 { min(isSendingNow || owesFinal ? 0 : sendAt, expiresAt) }

    private var interval: UInt64 {
        let own = state == .up ? options.interval : max(options.interval, options.slowInterval)
        return max(own, UInt64(remote?.requiredMinRx ?? 1) * 1000)
    }

    /// A packet came (RFC 5880 section 6.8.6).
    ///
    /// - Returns: false when it is of no such session.
    public mutating func receive(_ packet: BFDPacket, now: UInt64) -> Bool {
        guard packet.yours == 0 || packet.yours == discriminator else { return false }
        received &+= 1
        remote = packet
        remoteDiscriminator = packet.own
        if packet.isFinal { isPolling = false }
        if packet.isPoll { owesFinal = true }
        if state != .adminDown { follow(packet.state, now) }
        // While an end holds the path down, silence says nothing new.
        expiresAt = packet.state == .adminDown ? .max : now &+ detectionTime
        // A packet wanted sooner goes sooner.
        sendAt = min(sendAt, now &+ interval)
        return true
    }

    private mutating func follow(_ other: BFDState, _ now: UInt64) {
        switch (state, other) {
        case (.down, .adminDown): break
        case (_, .adminDown): become(.down, .neighborDown)
        case (.down, .down): become(.initializing, nil)
        case (.down, .initializing), (.initializing, .initializing), (.initializing, .up): become(.up, nil)
        case (.up, .down): become(.down, .neighborDown)
        default: break
        }
    }

    /// What is said of the session changes: the other end is told at once.
    private mutating func become(_ next: BFDState, _ why: BFDDiagnostic?) {
        if next == state { return }
        state = next
        if let why { diagnostic = why }
        if next == .up {
            diagnostic = .none
            // The interval becomes another one, which a poll says.
            isPolling = true
        }
        isSendingNow = true
    }

    /// Holds the path down on purpose, as when this end stops.
    public mutating func holdDown() {
        state = .adminDown
        diagnostic = .administrativelyDown
        isSendingNow = true
    }

    /// What is due now: the detection time may be over, a packet may be to go.
    public mutating func tick(now: UInt64) -> BFDPacket? {
        if now >= expiresAt {
            expiresAt = .max
            // Nothing came for long: the other end may have begun anew (RFC 5880 section 6.8.1, bfd.RemoteDiscr).
            remoteDiscriminator = 0
            isPolling = false
            if state == .up || state == .initializing { become(.down, .timeExpired) }
        }
        guard isSendingNow || owesFinal || now >= sendAt else { return nil }
        // One that wants no packets gets none but answers and news (RFC 5880 section 6.8.7).
        guard isSendingNow || owesFinal || remote?.requiredMinRx != 0 else {
            sendAt = now &+ options.slowInterval
            return nil
        }
        if isSendingNow || now >= sendAt { sendAt = now &+ jittered(interval) }
        var packet = BFDPacket()
        packet.diagnostic = diagnostic
        packet.state = state
        packet.isFinal = owesFinal
        packet.isPoll = isPolling && !owesFinal
        packet.multiplier = options.multiplier
        packet.own = discriminator
        packet.yours = remoteDiscriminator
        let wanted = state == .up ? options.interval : max(options.interval, options.slowInterval)
        packet.desiredMinTx = UInt32(clamping: wanted / 1000)
        packet.requiredMinRx = UInt32(clamping: options.interval / 1000)
        isSendingNow = false
        owesFinal = false
        sent &+= 1
        return packet
    }

    /// An interval less up to a quarter of it, so that ends do not come to send in step; with a multiplier of 1 at least a
    /// tenth less (RFC 5880 section 6.8.7).
    private mutating func jittered(_ interval: UInt64) -> UInt64 {
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let least: UInt64 = options.multiplier == 1 ? 10 : 0
        return interval - interval * (least + (random >> 33) % (26 - least)) / 100
    }
}
