// SPDX-License-Identifier: Apache-2.0
import Wire

/// Who talks to whom, as one packet says it.
@frozen
public struct ConnectionTuple: Hashable, Sendable {
    // Both addresses are of one family, so that it is said once.
    @usableFromInline var sourceWords: (high: UInt64, low: UInt64)
    @usableFromInline var destinationWords: (high: UInt64, low: UInt64)
    /// Source port, or 0 where the protocol has none; of an ICMP query its type.
    public var sourcePort: UInt16
    /// Destination port; of the answer to an ICMP query the query's type.
    public var destinationPort: UInt16
    /// IP protocol.
    public var ipProtocol: UInt8
    /// Family of both addresses.
    public let family: AddressFamily

    /// Source address.
    @inlinable public var source: IPAddress {
        get { IPAddress(high: sourceWords.high, low: sourceWords.low, family: family) }
        set { sourceWords = (newValue.high, newValue.low) }
    }
    /// Destination address.
    @inlinable public var destination: IPAddress {
        get { IPAddress(high: destinationWords.high, low: destinationWords.low, family: family) }
        set { destinationWords = (newValue.high, newValue.low) }
    }

    /// A tuple. Both addresses must be of one family.
    @inlinable
    public init(
        source: IPAddress, destination: IPAddress, sourcePort: UInt16, destinationPort: UInt16, ipProtocol: UInt8
    ) {
        sourceWords = (source.high, source.low)
        destinationWords = (destination.high, destination.low)
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.ipProtocol = ipProtocol
        family = source.family
    }

    /// Field by field.
    @inlinable
    public static func == (a: ConnectionTuple, b: ConnectionTuple) -> Bool {
        a.sourceWords == b.sourceWords && a.destinationWords == b.destinationWords && a.sourcePort == b.sourcePort
            && a.destinationPort == b.destinationPort && a.ipProtocol == b.ipProtocol && a.family == b.family
    }

    /// Field by field.
    @inlinable
    public func hash(into hasher: inout Hasher) { hasher.combine(directedHash(0)) }

    /// What an answer says.
    @inlinable public var reversed: ConnectionTuple {
        ConnectionTuple(
            source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort,
            ipProtocol: ipProtocol)
    }

    /// The two and their protocol alone.
    @inlinable public var pair: ConnectionTuple {
        ConnectionTuple(
            source: source, destination: destination, sourcePort: 0, destinationPort: 0, ipProtocol: ipProtocol)
    }

    /// A hash that is the same for both directions.
    @inlinable
    public func hash(_ seed: UInt64) -> UInt64 {
        let one = mix(sourceWords.high ^ seed, sourceWords.low &+ UInt64(sourcePort) << 32 ^ 0x9e37_79b9_7f4a_7c15)
        let two = mix(
            destinationWords.high ^ seed,
            destinationWords.low &+ UInt64(destinationPort) << 32 ^ 0x9e37_79b9_7f4a_7c15)
        // Neither factor is zero for one who talks to itself.
        let kind = UInt64(ipProtocol) | UInt64(family.rawValue) << 8
        return mix((one &+ two) ^ seed, (one ^ two) ^ kind ^ 0xe703_7ed1_a0b4_28db)
    }

    /// A hash that tells directions apart.
    @inlinable
    public func directedHash(_ seed: UInt64) -> UInt64 {
        let one = mix(sourceWords.high ^ seed, sourceWords.low &+ UInt64(sourcePort) << 32 ^ 0x9e37_79b9_7f4a_7c15)
        let two = mix(
            destinationWords.high ^ ~seed,
            destinationWords.low &+ UInt64(destinationPort) << 32 ^ 0x8ebc_6af0_9c88_c6e3)
        let kind = UInt64(ipProtocol) | UInt64(family.rawValue) << 8
        return mix(one ^ seed, two ^ kind ^ 0xe703_7ed1_a0b4_28db)
    }
}

/// What is known of a packet's connection.
public struct ConnectionMatch: Sendable, Equatable {
    /// Whether the packet goes back to who began it.
    public var isReturn: Bool

    /// A match.
    public init(isReturn: Bool) { self.isReturn = isReturn }
}

/// A connection that a verdict rests on.
public struct ConnectionUse: Sendable, Equatable {
    /// The device in which it is known.
    public var zone: Tag
    /// As the packet says it there.
    public var tuple: ConnectionTuple
    /// Whether nobody knew it: it begins with this packet, if the packet goes on.
    public var isNew: Bool
    /// Whether the packet goes back to who began it.
    public var isReturn: Bool
}

extension Tag {
    /// A connection in a zone, whichever way its packets go.
    @inlinable
    public static func connection(_ tuple: ConnectionTuple, zone: Tag) -> Tag {
        Tag(bits: mix(tuple.hash(0xc099_0000_0000_0011), zone.bits))
    }
}
