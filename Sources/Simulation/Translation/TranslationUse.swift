// SPDX-License-Identifier: Apache-2.0
import Wire

/// A translated connection that a verdict rests on.
public struct TranslationUse: Sendable, Hashable {
    /// The router.
    public var zone: Tag
    /// As its first packet came to the router.
    public var original: ConnectionTuple
    /// As answers come to the router.
    public var reply: ConnectionTuple
    /// Whether nobody knew it: it begins with this packet, if the packet goes on.
    public var isNew: Bool
    /// Whether the packet goes back to who began it.
    public var isReturn: Bool
    /// The member of a pool that it goes to, if it begins so.
    public var balance: BalanceChoice?

    /// A use.
    public init(zone: Tag, original: ConnectionTuple, reply: ConnectionTuple, isNew: Bool, isReturn: Bool) {
        self.zone = zone
        self.original = original
        self.reply = reply
        self.isNew = isNew
        self.isReturn = isReturn
    }
}

/// Names the fragments of one packet (RFC 791 section 3.2, RFC 8200 section 4.5).
public struct FragmentName: Sendable, Hashable {
    /// Source address.
    public var source: IPAddress
    /// Destination address.
    public var destination: IPAddress
    /// IP protocol.
    public var ipProtocol: UInt8
    /// Identification.
    public var id: UInt32
}

extension Tag {
    /// The fragments of one packet in a router.
    static func fragment(_ name: FragmentName, zone: Tag) -> Tag {
        let addresses = mix(name.source.high ^ name.destination.low, name.source.low &+ name.destination.high)
        return Tag(bits: mix(addresses ^ UInt64(name.id) << 8 ^ UInt64(name.ipProtocol), zone.bits ^ 0xf4a6_0015))
    }
}

/// What a translator changes inside a packet, where no flow reaches.
public struct PayloadEdit: Sendable, Hashable {
    /// The identifier of the ICMP query.
    public var queryID: UInt16?
    /// What the packet that an ICMP error quotes says.
    public var quoted: EmbeddedPacket.Identity?

    /// Changes a frame, its ICMP checksum as well.
    public func apply(to frame: inout [UInt8]) {
        frame.withUnsafeMutableBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: UnsafeRawBufferPointer(bytes).bytes, layout: &layout)
            guard layout.transport != 0 else { return }
            let network = Int(layout.network)
            let end = network + layout.networkLength
            if let queryID {
                let identity = EmbeddedPacket.Identity(
                    source: key.ipSource, destination: key.ipDestination, queryID: queryID)
                EmbeddedPacket(bytes, from: network, to: end).write(identity)
            }
            if let quoted, bytes.count >= Int(layout.transport) + 8 {
                EmbeddedPacket(
                    bytes, from: Int(layout.transport) + 8, to: end, outerChecksum: Int(layout.transport) + 2
                ).write(quoted)
            }
        }
    }
}
