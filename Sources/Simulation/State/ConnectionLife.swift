// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// How long connections are known after their last packet, in nanoseconds.
public struct ConnectionLifetimes: Sendable, Equatable {
    private static let second: UInt64 = 1_000_000_000

    /// TCP that nobody answered yet.
    public var tcpOpening = 60 * second
    /// TCP that is open. Longer than the two hours after which hosts ask whether the other is there (RFC 9293 section 3.8.4).
    public var tcpEstablished = 8000 * second
    /// TCP of which one side or both have said FIN.
    public var tcpClosing = 60 * second
    /// TCP that was reset.
    public var tcpClosed = 10 * second
    /// UDP and others without an answer.
    public var unanswered = 30 * second
    /// UDP with an answer (RFC 4787 section 4.3 asks for two minutes at least).
    public var udp = 180 * second
    /// ICMP queries with an answer.
    public var icmp = 30 * second
    /// Other protocols with an answer.
    public var other = 600 * second

    /// As above.
    public init() {}

    /// As a tenant's settings say, and otherwise as above.
    public init(_ settings: TenantSettings) {
        for (lifetime, seconds) in settings.lifetimes {
            let value = UInt64(seconds) * ConnectionLifetimes.second
            switch lifetime {
            case .tcpOpening: tcpOpening = value
            case .tcpEstablished: tcpEstablished = value
            case .tcpClosing: tcpClosing = value
            case .tcpClosed: tcpClosed = value
            case .unanswered: unanswered = value
            case .udp: udp = value
            case .icmp: icmp = value
            case .other: other = value
            }
        }
    }
}

/// How far a connection has come.
public enum ConnectionPhase: String, Sendable, CaseIterable {
    /// TCP: nobody answered yet.
    case opening
    /// TCP: answered, and not ended by either side.
    case open
    /// TCP: a side has said FIN.
    case closing
    /// TCP: a side has said RST.
    case closed
    /// Nobody answered yet.
    case unanswered
    /// Packets came back.
    case answered
}

/// What packets made of a connection so far.
public struct ConnectionLife: Sendable {
    /// IP protocol.
    public var ipProtocol: UInt8
    /// TCP flags seen from who began it, and back.
    public var flags: (forward: UInt8, back: UInt8)
    /// Whether a packet came back.
    public var isAnswered = false
    /// Whether another host said last that it goes on. Those hear of it now and then only, and hold it longer.
    public var isHeard = false
    /// Last packet, nanoseconds of the clock that the caller keeps.
    public var used: UInt64
    /// When it began.
    public var created: UInt64
    /// When other hosts last heard of it.
    public var told: UInt64

    init(_ ipProtocol: UInt8, _ flags: UInt8, _ now: UInt64) {
        self.ipProtocol = ipProtocol
        self.flags = (flags, 0)
        (used, created, told) = (now, now, now)
    }

    /// How far it has come.
    public var phase: ConnectionPhase {
        guard ipProtocol == IPProtocol.tcp else { return isAnswered ? .answered : .unanswered }
        let both = flags.forward | flags.back
        if both & 0x04 != 0 { return .closed }
        if both & 0x01 != 0 { return .closing }
        return isAnswered ? .open : .opening
    }

    /// A SYN on ports whose last connection is over begins another one (RFC 9293 section 3.6.1), from either side.
    func isOver(for flags: UInt8) -> Bool {
        ipProtocol == IPProtocol.tcp && flags & 0x16 == 0x02 && (self.flags.forward | self.flags.back) & 0x05 != 0
    }

    /// What hosts tell each other of it: whether it was answered (bit 4), FIN and RST there (bits 0, 2) and back (1, 3).
    public var milestones: UInt8 {
        let forward = flags.forward & 0x01 | flags.forward & 0x04
        let back = flags.back & 0x01 | flags.back & 0x04
        return forward | back << 1 | (isAnswered ? 0x10 : 0)
    }

    /// What another host tells of it.
    init(_ ipProtocol: UInt8, milestones: UInt8, used: UInt64) {
        self.ipProtocol = ipProtocol
        flags = (milestones & 0x05, milestones >> 1 & 0x05)
        isAnswered = milestones & 0x10 != 0
        isHeard = true
        (self.used, created, told) = (used, used, used)
    }

    /// Takes in what another host tells of the same.
    mutating func merge(_ milestones: UInt8, used: UInt64) {
        flags.forward |= milestones & 0x05
        flags.back |= milestones >> 1 & 0x05
        if milestones & 0x10 != 0 { isAnswered = true }
        guard used > self.used else { return }
        (self.used, isHeard) = (used, true)
        told = max(told, used)
    }

    /// Whether everybody is to know it. What nobody answered is known where the answer may come in: a flood of it would
    /// otherwise be everybody's.
    public var isShared: Bool {
        switch phase {
        case .opening, .unanswered: false
        case .open, .closing, .closed, .answered: true
        }
    }

    /// Takes note of a packet, or of the flags of several.
    mutating func note(_ flags: UInt8, isReturn: Bool, now: UInt64) {
        if now >= used { (used, isHeard) = (now, false) }
        if isReturn {
            isAnswered = true
            self.flags.back |= flags
        } else {
            self.flags.forward |= flags
        }
    }
}

extension ConnectionLife {
    /// Whether this connection, which a host knows, gives way to another one of the same ports that it is told of. All hosts
    /// choose the same of those that everybody is told of: the later one.
    ///
    /// What nobody answered yet only few know, and whoever begins it elsewhere, or goes on with it there, can't make its stamp
    /// the later one: there, the one that is used stands.
    ///
    /// - Returns: `nil` when both began at once on hosts of one number.
    func givesWay(to other: ConnectionLife, _ otherStamp: RowStamp, from stamp: RowStamp) -> Bool? {
        switch (isShared, other.isShared) {
        case (false, false): other.used >= used
        case (false, true): otherStamp > stamp || other.used > used
        case (true, false): otherStamp > stamp && other.used >= used
        case (true, true): otherStamp == stamp ? nil : otherStamp > stamp
        }
    }
}

extension ConnectionLifetimes {
    /// When a connection's time is over.
    public func expiry(of life: ConnectionLife) -> UInt64 {
        let lifetime = lifetime(of: life)
        return life.used &+ (life.isHeard ? lifetime &+ lifetime / 4 : lifetime)
    }

    /// When its time is over for the host that keeps it alive: the others hold it a little longer.
    func end(of life: ConnectionLife) -> UInt64 { life.used &+ lifetime(of: life) }

    /// Until when the port of a translated connection is kept from others. Some host may have heard of it a quarter of its
    /// lifetime later than this one, and holds it a quarter longer; the rest is for hosts that are cut off.
    func reservation(of life: ConnectionLife) -> UInt64 { life.used &+ 2 * lifetime(of: life) }

    /// Whether something of such an age is still known to anybody.
    func isKnown(_ life: ConnectionLife, age: UInt64) -> Bool {
        let lifetime = lifetime(of: life)
        return age < lifetime + lifetime / 4
    }

    /// How often other hosts are to hear that a connection goes on.
    func tellInterval(of life: ConnectionLife) -> UInt64 { lifetime(of: life) / 4 }

    private func lifetime(of life: ConnectionLife) -> UInt64 {
        switch life.phase {
        case .opening: tcpOpening
        case .open: tcpEstablished
        case .closing: tcpClosing
        case .closed: tcpClosed
        case .unanswered: unanswered
        case .answered:
            switch life.ipProtocol {
            case IPProtocol.udp: udp
            case IPProtocol.icmp, IPProtocol.icmpv6: icmp
            default: other
            }
        }
    }
}
