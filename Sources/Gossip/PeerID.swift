// SPDX-License-Identifier: Apache-2.0

/// Names a node among those that tell each other of flows; the same number that the agreement knows it by.
public struct PeerID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The number.
    public let value: UInt64

    /// A name.
    public init(_ value: UInt64) { self.value = value }

    /// By number.
    public static func < (a: PeerID, b: PeerID) -> Bool { a.value < b.value }

    /// Sixteen hexadecimal digits.
    public var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
