// SPDX-License-Identifier: Apache-2.0

/// A message of the Dynamic Host Configuration Protocol for IPv4 (RFC 2131). Any bytes may come: reading never traps.
public struct DHCPMessage: Sendable, Equatable {
    /// What a message is (RFC 2132 section 9.6).
    public enum Kind: UInt8, Sendable {
        case discover = 1
        case offer = 2
        case request = 3
        case decline = 4
        case ack = 5
        case nak = 6
        case release = 7
        case inform = 8
    }

    /// Options by number (RFC 2132, 3046, 3397, 3442).
    public enum Option {
        /// The subnet mask.
        public static let mask: UInt8 = 1
        /// Routers, the first preferred.
        public static let router: UInt8 = 3
        /// Servers of names.
        public static let nameServers: UInt8 = 6
        /// The client's name.
        public static let hostName: UInt8 = 12
        /// The domain of its name.
        public static let domain: UInt8 = 15
        /// Bytes of the largest packet.
        public static let mtu: UInt8 = 26
        /// NTP servers.
        public static let timeServers: UInt8 = 42
        /// The address that a client asks for.
        public static let requestedAddress: UInt8 = 50
        /// How long the address is its, seconds.
        public static let lease: UInt8 = 51
        /// Whether options go on in other fields.
        public static let overload: UInt8 = 52
        /// What the message is.
        public static let kind: UInt8 = 53
        /// The server that is meant, or that answers.
        public static let server: UInt8 = 54
        /// Options that the client asks for.
        public static let wanted: UInt8 = 55
        /// Bytes of the longest message that it takes.
        public static let largest: UInt8 = 57
        /// When to ask its server again, seconds.
        public static let renewal: UInt8 = 58
        /// When to ask any server, seconds.
        public static let rebinding: UInt8 = 59
        /// What the client calls itself.
        public static let client: UInt8 = 61
        /// What to start from.
        public static let bootFile: UInt8 = 67
        /// What a relay says of the client.
        public static let relay: UInt8 = 82
        /// Domains to try.
        public static let search: UInt8 = 119
        /// Routes without classes.
        public static let routes: UInt8 = 121
    }

    /// Options that say what the protocol itself needs, or what a subnet's other fields tell.
    public static let managed: Set<UInt8> = [
        Option.mask, Option.router, Option.nameServers, Option.hostName, Option.domain, Option.mtu, Option.timeServers,
        Option.requestedAddress, Option.lease, Option.overload, Option.kind, Option.server, Option.wanted,
        Option.largest, Option.renewal, Option.rebinding, Option.client, Option.bootFile, Option.relay, Option.search,
        Option.routes,
    ]

    /// The UDP port of servers and relays.
    public static let serverPort: UInt16 = 67
    /// The UDP port of clients.
    public static let clientPort: UInt16 = 68

    /// What it is.
    public var kind: Kind
    /// Whether a client sent it.
    public var isRequest: Bool
    /// Chosen by the client, the same in answers.
    public var transaction: UInt32
    /// Whether the client can't take unicast yet.
    public var isBroadcast: Bool
    /// The address that the client has and answers for, or 0.0.0.0 (`ciaddr`).
    public var clientAddress: IPv4Address
    /// The address that it gets (`yiaddr`).
    public var yourAddress: IPv4Address
    /// The server to start from (`siaddr`).
    public var bootServer: IPv4Address
    /// The relay that the client is behind, or 0.0.0.0 (`giaddr`).
    public var relay: IPv4Address
    /// The client's MAC.
    public var mac: MACAddress
    /// Options by number, ``Option/kind`` apart. What comes in several parts is one (RFC 3396).
    public var options: [UInt8: [UInt8]] = [:]

    private static let cookie: UInt32 = 0x6382_5363
    private static let fixed = 240

    /// A message without options.
    public init(_ kind: Kind, isRequest: Bool, transaction: UInt32, mac: MACAddress) {
        self.kind = kind
        self.isRequest = isRequest
        self.transaction = transaction
        self.mac = mac
        isBroadcast = false
        (clientAddress, yourAddress) = (IPv4Address(bits: 0), IPv4Address(bits: 0))
        (bootServer, relay) = (IPv4Address(bits: 0), IPv4Address(bits: 0))
    }

    /// Reads the payload of a datagram; `nil` when it is no message of DHCP over Ethernet.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count >= DHCPMessage.fixed, bytes[0] == 1 || bytes[0] == 2, bytes[1] == 1, bytes[2] == 6 else {
            return nil
        }
        func word(_ at: Int) -> UInt32 { bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } }
        guard word(236) == DHCPMessage.cookie else { return nil }
        guard var read = DHCPMessage.options(bytes[DHCPMessage.fixed...]) else { return nil }
        // Where there was no room, options go on in the fields of the file's and the server's name.
        if let overload = read.removeValue(forKey: Option.overload), overload.count == 1 {
            for (bit, range) in [(UInt8(1), 108..<236), (UInt8(2), 44..<108)] where overload[0] & bit != 0 {
                guard let more = DHCPMessage.options(bytes[range]) else { return nil }
                read.merge(more) { $0 + $1 }
            }
        }
        guard let code = read.removeValue(forKey: Option.kind), code.count == 1, let kind = Kind(rawValue: code[0])
        else {
            return nil
        }
        self.kind = kind
        isRequest = bytes[0] == 1
        transaction = word(4)
        isBroadcast = bytes[10] & 0x80 != 0
        clientAddress = IPv4Address(bits: word(12))
        yourAddress = IPv4Address(bits: word(16))
        bootServer = IPv4Address(bits: word(20))
        relay = IPv4Address(bits: word(24))
        mac = MACAddress(bits: UInt64(word(28)) << 16 | UInt64(bytes[32]) << 8 | UInt64(bytes[33]))
        options = read
    }

    private static func options(_ bytes: ArraySlice<UInt8>) -> [UInt8: [UInt8]]? {
        var options: [UInt8: [UInt8]] = [:]
        var at = bytes.startIndex
        while at < bytes.endIndex {
            let code = bytes[at]
            at += 1
            if code == 0 { continue }
            if code == 255 { return options }
            guard at < bytes.endIndex else { return nil }
            let count = Int(bytes[at])
            guard bytes.endIndex - at > count else { return nil }
            options[code, default: []] += bytes[at + 1..<at + 1 + count]
            at += 1 + count
        }
        // The end is not always said.
        return options
    }

    /// As the payload of a datagram: options in the order that is given, those that find no room left out.
    ///
    /// - Parameters:
    ///   - order: numbers of options; ``Option/kind`` goes first anyway.
    ///   - largest: bytes of the whole IPv4 packet, at most.
    public func encoded(_ order: [UInt8], largest: Int = 576) -> [UInt8] {
        var out: [UInt8] = [isRequest ? 1 : 2, 1, 6, 0]
        func add(_ word: UInt32) {
            for shift in [24, 16, 8, 0] { out.append(UInt8(truncatingIfNeeded: word >> UInt32(shift))) }
        }
        add(transaction)
        out += [0, 0, isBroadcast ? 0x80 : 0, 0]
        for address in [clientAddress, yourAddress, bootServer, relay] { add(address.bits) }
        for shift in stride(from: 40, through: 0, by: -8) {
            out.append(UInt8(truncatingIfNeeded: mac.bits >> UInt64(shift)))
        }
        out += [UInt8](repeating: 0, count: 10 + 64 + 128)
        add(DHCPMessage.cookie)
        out += [Option.kind, 1, kind.rawValue]
        // IPv4 and UDP header, and the end's mark.
        let room = max(largest, 576) - 28 - 1
        for code in order {
            guard let value = options[code], !value.isEmpty else { continue }
            // In parts, where it is longer than one may be.
            let parts = stride(from: 0, to: value.count, by: 255).map { value[$0..<min($0 + 255, value.count)] }
            guard out.count + value.count + 2 * parts.count <= room else { continue }
            for part in parts { out += [code, UInt8(part.count)] + part }
        }
        out.append(255)
        // Some clients take nothing shorter than BOOTP's (RFC 1542 section 2.1).
        if out.count < 300 { out += [UInt8](repeating: 0, count: 300 - out.count) }
        return out
    }
}
