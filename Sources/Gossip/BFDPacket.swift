// SPDX-License-Identifier: Apache-2.0
import Wire

/// How a path between two ends is (RFC 5880 section 4.1).
public enum BFDState: UInt8, Sendable {
    /// An end holds it down on purpose.
    case adminDown = 0
    /// It does not work, or was not seen to.
    case down = 1
    /// The other end is heard, and has not said that it hears this one.
    case initializing = 2
    /// Both ends hear each other.
    case up = 3
}

/// Why a path went down last (RFC 5880 section 4.1). Codes that are not named here are kept as they came.
public struct BFDDiagnostic: Sendable, Hashable, RawRepresentable {
    /// The code, 0 to 31.
    public let rawValue: UInt8

    /// A code.
    public init(rawValue: UInt8) { self.rawValue = rawValue & 0x1f }

    /// It did not.
    public static let none = BFDDiagnostic(rawValue: 0)
    /// Nothing came for the detection time.
    public static let timeExpired = BFDDiagnostic(rawValue: 1)
    /// The other end said that it is down.
    public static let neighborDown = BFDDiagnostic(rawValue: 3)
    /// On purpose.
    public static let administrativelyDown = BFDDiagnostic(rawValue: 7)
}

/// A BFD control packet (RFC 5880 section 4.1). Times are microseconds.
public struct BFDPacket: Sendable, Equatable {
    /// Why the sender's session went down last.
    public var diagnostic = BFDDiagnostic.none
    /// The sender's state.
    public var state = BFDState.down
    /// Whether an answer with ``isFinal`` is wanted at once.
    public var isPoll = false
    /// Whether it answers a poll.
    public var isFinal = false
    /// Packets that may be missed: so many intervals without one are the detection time.
    public var multiplier: UInt8 = 3
    /// The sender's number for the session; not 0.
    public var own: UInt32 = 0
    /// The receiver's number for it; 0 when the sender does not know it.
    public var yours: UInt32 = 0
    /// The least interval at which the sender would like to send.
    public var desiredMinTx: UInt32 = 0
    /// The least interval at which the sender can receive; 0: it wants none.
    public var requiredMinRx: UInt32 = 0

    /// A packet of a session that is down.
    public init() {}

    /// Bytes of one.
    public static let length = 24

    /// As it goes into a UDP datagram.
    public var bytes: [UInt8] {
        var out = ByteWriter()
        out.number(1 << 5 | diagnostic.rawValue)
        out.number(state.rawValue << 6 | (isPoll ? 0x20 : 0) | (isFinal ? 0x10 : 0))
        out.number(multiplier)
        out.number(UInt8(BFDPacket.length))
        out.number(own)
        out.number(yours)
        out.number(desiredMinTx)
        out.number(requiredMinRx)
        // No echo packets.
        out.number(UInt32(0))
        return out.bytes
    }

    /// Reads what a UDP datagram holds, by the rules of RFC 5880 section 6.8.6 that need no session.
    ///
    /// - Throws: when it is to be discarded. Sessions here have no authentication and one end each.
    public init(reading bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let first: UInt8 = try reader.number()
        let second: UInt8 = try reader.number()
        guard first >> 5 == 1 else { throw MalformedBytes("BFD version \(first >> 5)") }
        multiplier = try reader.number()
        let length: UInt8 = try reader.number()
        guard length >= BFDPacket.length, Int(length) <= bytes.count else {
            throw MalformedBytes("BFD length \(length)")
        }
        guard second & 0x04 == 0 else { throw MalformedBytes("BFD with authentication") }
        guard second & 0x01 == 0 else { throw MalformedBytes("multipoint BFD") }
        guard multiplier > 0 else { throw MalformedBytes("BFD with multiplier 0") }
        own = try reader.number()
        yours = try reader.number()
        desiredMinTx = try reader.number()
        requiredMinRx = try reader.number()
        guard own != 0 else { throw MalformedBytes("BFD without a discriminator") }
        diagnostic = BFDDiagnostic(rawValue: first)
        state = BFDState(rawValue: second >> 6) ?? .down
        isPoll = second & 0x20 != 0
        isFinal = second & 0x10 != 0
        guard yours != 0 || state == .down || state == .adminDown else {
            throw MalformedBytes("BFD that names no session")
        }
        guard !(isPoll && isFinal) else { throw MalformedBytes("BFD that polls and answers") }
    }
}
