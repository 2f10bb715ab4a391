// SPDX-License-Identifier: Apache-2.0

/// A network: an address whose bits past `length` are zero.
@frozen
public struct Prefix: Hashable, Sendable, Comparable {
    /// The network's address; bits past ``length`` are zero.
    public let address: IPAddress
    /// Leading bits that count: 0 to 32 (IPv4) or 128 (IPv6).
    public let length: Int

    /// The network of `length` bits that `address` lies in. `length` must fit the family.
    public init(_ address: IPAddress, length: Int) {
        precondition((0...address.family.width).contains(length), "prefix length \(length) out of range")
        self.address = address.masked(length)
        self.length = length
    }

    /// The family of the network.
    @inlinable public var family: AddressFamily { address.family }

    /// Whether an address lies in it.
    @inlinable
    public func contains(_ other: IPAddress) -> Bool {
        other.family == address.family && address.commonPrefix(other) >= length
    }

    /// Whether the two share an address.
    @inlinable
    public func overlaps(_ other: Prefix) -> Bool {
        contains(other.address) || other.contains(address)
    }

    /// 0.0.0.0/0 or ::/0.
    public static func all(_ family: AddressFamily) -> Prefix {
        Prefix(IPAddress(high: 0, low: 0, family: family), length: 0)
    }

    /// By address, then shorter first.
    public static func < (a: Prefix, b: Prefix) -> Bool {
        a.address == b.address ? a.length < b.length : a.address < b.address
    }
}

/// An address together with the length of its network, as an interface has it: `10.0.1.11/24`.
@frozen
public struct InterfaceAddress: Hashable, Sendable {
    /// The interface's own address.
    public let address: IPAddress
    /// Bits of the network's prefix.
    public let length: Int

    /// `length` must fit the family of `address`.
    public init(_ address: IPAddress, length: Int) {
        precondition((0...address.family.width).contains(length), "prefix length \(length) out of range")
        self.address = address
        self.length = length
    }

    /// The network that the interface is on.
    public var network: Prefix { Prefix(address, length: length) }
}

/// Why a text is no prefix.
public enum PrefixError: Error, Equatable {
    /// Not an address, or no length where one is needed.
    case malformed
    /// The length does not fit the family; the payload is the largest that does.
    case length(max: Int)
    /// Bits past the length are set; the payload is the network that was probably meant.
    case hostBits(Prefix)
}

extension InterfaceAddress: CustomStringConvertible {
    /// `address/length`.
    public var description: String { "\(address)/\(length)" }

    /// Reads `address/length`.
    public init(parsing text: String) throws(PrefixError) {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(String(Substring(parts[0]))),
            (1...3).contains(parts[1].count), parts[1].allSatisfy({ (48...57).contains($0) }),
            let length = Int(String(Substring(parts[1])))
        else { throw .malformed }
        guard length <= address.family.width else { throw .length(max: address.family.width) }
        self.init(address, length: length)
    }
}

extension Prefix: CustomStringConvertible {
    /// `address/length`.
    public var description: String { "\(address)/\(length)" }

    /// Reads `network/length`; bits past the length must be zero.
    public init(parsing text: String) throws(PrefixError) {
        let interface = try InterfaceAddress(parsing: text)
        guard interface.network.address == interface.address else { throw .hostBits(interface.network) }
        self = interface.network
    }
}
