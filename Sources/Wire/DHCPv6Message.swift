// SPDX-License-Identifier: Apache-2.0

/// A message of the Dynamic Host Configuration Protocol for IPv6 between client and server (RFC 8415 section 8). Any bytes may
/// come: reading never traps.
public struct DHCPv6Message: Sendable, Equatable {
    /// What a message is (section 7.3).
    public enum Kind: UInt8, Sendable {
        case solicit = 1
        case advertise = 2
        case request = 3
        case confirm = 4
        case renew = 5
        case rebind = 6
        case reply = 7
        case release = 8
        case decline = 9
        case reconfigure = 10
        case informationRequest = 11
    }

    /// Options by number (RFC 8415 section 21, 3646, 4075, 5970).
    public enum Option {
        /// The client's DUID.
        public static let client: UInt16 = 1
        /// The server's DUID.
        public static let server: UInt16 = 2
        /// An association of addresses that are not temporary.
        public static let association: UInt16 = 3
        /// One of temporary addresses.
        public static let temporary: UInt16 = 4
        /// An address of an association.
        public static let address: UInt16 = 5
        /// How something went.
        public static let status: UInt16 = 13
        /// Whether two messages are enough.
        public static let rapidCommit: UInt16 = 14
        /// Servers of names.
        public static let nameServers: UInt16 = 23
        /// Domains to try.
        public static let search: UInt16 = 24
        /// An association of delegated networks.
        public static let delegation: UInt16 = 25
        /// Time servers (RFC 4075).
        public static let timeServers: UInt16 = 31
        /// When to ask again for what is no address, seconds.
        public static let refresh: UInt16 = 32
        /// Where to start from, as a URL.
        public static let bootFile: UInt16 = 59
    }

    /// Options that say what the protocol itself needs, or what a subnet's other fields tell.
    public static let managed: Set<UInt8> = [
        1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 14, 18, 19, 20, 23, 24, 25, 26, 31, 32, 59,
    ]

    /// How something went (section 21.13).
    public enum Status: UInt16, Sendable {
        case success = 0
        case noAddresses = 2
        case noBinding = 3
        case notOnLink = 4
        case noPrefixes = 6
    }

    /// Addresses that a client has or wants together (section 21.4).
    public struct Association: Sendable, Equatable {
        /// Chosen by the client.
        public var id: UInt32
        /// Its addresses, and how long they are valid, seconds.
        public var addresses: [(address: IPv6Address, seconds: UInt32)] = []
        /// How it went, in answers; `nil`: well.
        public var status: Status?

        /// An association without addresses.
        public init(id: UInt32) { self.id = id }

        /// Whether they are the same.
        public static func == (a: Self, b: Self) -> Bool {
            a.id == b.id && a.status == b.status && a.addresses.elementsEqual(b.addresses, by: ==)
        }
    }

    /// The UDP port of servers.
    public static let serverPort: UInt16 = 547
    /// The UDP port of clients.
    public static let clientPort: UInt16 = 546
    /// Associations that are read of one message.
    public static let associationsRead = 4
    /// Addresses that are read of one association.
    public static let addressesRead = 8

    /// What it is.
    public var kind: Kind
    /// Chosen by the client, the same in answers; 24 bits.
    public var transaction: UInt32
    /// Options of which there is one each, by number.
    public var options: [UInt16: [UInt8]] = [:]
    /// Addresses by association.
    public var associations: [Association] = []
    /// Associations of delegated networks, which are not given.
    public var delegations: [UInt32] = []

    /// A message without options.
    public init(_ kind: Kind, transaction: UInt32) {
        self.kind = kind
        self.transaction = transaction
    }

    /// Reads the payload of a datagram; `nil` when it is no message between client and server.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count >= 4, let kind = Kind(rawValue: bytes[0]) else { return nil }
        self.init(kind, transaction: UInt32(bytes[1]) << 16 | UInt32(bytes[2]) << 8 | UInt32(bytes[3]))
        let isRead = DHCPv6Message.eachOption(bytes[4...]) { code, value in
            switch code {
            case Option.association:
                guard let one = Association(value) else { return false }
                if associations.count < DHCPv6Message.associationsRead { associations.append(one) }
            case Option.delegation:
                guard value.count >= 12 else { return false }
                if delegations.count < DHCPv6Message.associationsRead { delegations.append(value.word(0)) }
            default:
                // The first of several counts.
                if options[code] == nil { options[code] = Array(value) }
            }
            return true
        }
        if !isRead { return nil }
    }

    /// The message as the payload of a datagram.
    public func encoded() -> [UInt8] {
        var out: [UInt8] = [kind.rawValue]
        out += [transaction >> 16, transaction >> 8, transaction].map { UInt8(truncatingIfNeeded: $0) }
        for (code, value) in options.sorted(by: { $0.key < $1.key }) { out.append(option: code, value) }
        for one in associations { one.encode(into: &out) }
        for id in delegations {
            var value: [UInt8] = []
            value.append(network: id)
            value += [UInt8](repeating: 0, count: 8)
            value.append(option: Option.status, DHCPv6Message.status(.noPrefixes))
            out.append(option: Option.delegation, value)
        }
        return out
    }

    /// The name of a client or server by its MAC (section 11.4).
    public static func identifier(_ mac: MACAddress) -> [UInt8] {
        var out: [UInt8] = [0, 3, 0, 1]
        out.append(mac: mac)
        return out
    }

    /// Where clients send: all relays and servers of a link (section 7.1).
    public static let servers = IPv6Address(high: 0xff02 << 48, low: 0x1_0002)

    /// The value of a status option.
    public static func status(_ status: Status) -> [UInt8] {
        [UInt8(status.rawValue >> 8), UInt8(status.rawValue & 0xff)]
    }

    /// Reads options one by one; false when they do not end where they should, or when `body` says so.
    fileprivate static func eachOption(
        _ bytes: ArraySlice<UInt8>, _ body: (UInt16, ArraySlice<UInt8>) -> Bool
    ) -> Bool {
        var left = bytes
        while !left.isEmpty {
            guard left.count >= 4 else { return false }
            let size = Int(left.half(2))
            guard left.count >= 4 + size else { return false }
            let value = left.dropFirst(4).prefix(size)
            guard body(left.half(0), value) else { return false }
            left = left.dropFirst(4 + size)
        }
        return true
    }
}

extension DHCPv6Message.Association {
    fileprivate init?(_ bytes: ArraySlice<UInt8>) {
        guard bytes.count >= 12 else { return nil }
        self.init(id: bytes.word(0))
        let isRead = DHCPv6Message.eachOption(bytes.dropFirst(12)) { code, value in
            if code == DHCPv6Message.Option.status, value.count >= 2 {
                status = DHCPv6Message.Status(rawValue: value.half(0))
            }
            guard code == DHCPv6Message.Option.address else { return true }
            guard value.count >= 24 else { return false }
            if addresses.count < DHCPv6Message.addressesRead {
                let halves = (0..<4).map { UInt64(value.word(4 * $0)) }
                addresses.append(
                    (IPv6Address(high: halves[0] << 32 | halves[1], low: halves[2] << 32 | halves[3]), value.word(20)))
            }
            return true
        }
        if !isRead { return nil }
    }

    fileprivate func encode(into out: inout [UInt8]) {
        var value: [UInt8] = []
        value.append(network: id)
        // When to ask again: after half the shortest time, and any server after four fifths (section 21.4).
        let shortest = addresses.map(\.seconds).filter { $0 > 0 }.min() ?? 0
        value.append(network: shortest / 2)
        value.append(network: shortest / 5 * 4)
        for (address, seconds) in addresses {
            var one: [UInt8] = []
            one.append(network: address.high)
            one.append(network: address.low)
            one.append(network: seconds)
            one.append(network: seconds)
            value.append(option: DHCPv6Message.Option.address, one)
        }
        if let status { value.append(option: DHCPv6Message.Option.status, DHCPv6Message.status(status)) }
        out.append(option: DHCPv6Message.Option.association, value)
    }
}

extension [UInt8] {
    fileprivate mutating func append(option code: UInt16, _ value: [UInt8]) {
        append(network: code)
        append(network: UInt16(truncatingIfNeeded: value.count))
        self += value
    }
}

extension ArraySlice<UInt8> {
    /// 16 bits at an offset that is there.
    fileprivate func half(_ at: Int) -> UInt16 {
        UInt16(self[startIndex + at]) << 8 | UInt16(self[startIndex + at + 1])
    }

    fileprivate func word(_ at: Int) -> UInt32 { UInt32(half(at)) << 16 | UInt32(half(at + 2)) }
}
