// SPDX-License-Identifier: Apache-2.0
import Wire

/// Who has an address that a bridge gave.
public struct Lease: Sendable, Hashable {
    /// The machine, by its identity; 0: nobody, and nobody is to get it.
    public var client: UInt64
    /// How long from when it was given, seconds.
    public var seconds: UInt32

    /// A lease.
    public init(client: UInt64, seconds: UInt32) {
        self.client = client
        self.seconds = seconds
    }
}

extension Tag {
    /// An address that a bridge gives. No flow depends on whose it is.
    static func lease(_ address: IPAddress, bridge: Tag) -> Tag {
        Tag(bits: mix(address.high ^ bridge.bits, address.low ^ 0xd4c9_0000_0000_001d))
    }
}
