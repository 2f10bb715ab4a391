// SPDX-License-Identifier: Apache-2.0
import Wire

/// What machines of a network on a bridge are told when they ask for an address, by DHCP (RFC 2131, 2132) or DHCPv6 (RFC 8415).
///
/// A machine gets the address that ``hosts`` or its port say; any other one an address of ``ranges``, for a time.
public struct DHCPSubnet: Sendable, Hashable {
    /// The network.
    public var subnet: Prefix
    /// Addresses for machines that have none of their own.
    public var ranges: [DHCPRange] = []
    /// Machines with addresses of their own, besides those that ports name.
    public var hosts: [DHCPHost] = []
    /// The address that answers come from; unless said the router's, or where there is none the network's first.
    public var server: IPAddress?
    /// The machines' router; unless said that of the bridge in the network, if there is one.
    public var router: IPAddress?
    /// Servers of names, of which the first is asked first.
    public var nameServers: [IPAddress] = []
    /// The domain of the machines' names.
    public var domain: String?
    /// Domains that are tried for names without one (RFC 3397).
    public var search: [String] = []
    /// Time servers.
    public var timeServers: [IPAddress] = []
    /// Bytes of the largest packet; unless said what tunnels leave room for.
    public var mtu: Int?
    /// How long a lease lasts, seconds.
    public var lease: UInt32 = 3600
    /// Networks behind other routers than ``router`` (RFC 3442).
    public var routes: [DHCPRoute] = []
    /// What to start a machine from over the network, and from which server; of IPv6 as a URL (RFC 5970).
    public var bootFile: String?
    /// See ``bootFile``.
    public var bootServer: IPAddress?
    /// Whether machines of an IPv6 network are told everything but addresses, which they make themselves.
    public var isStateless = false
    /// Options by number, as they go over the wire.
    public var options: [UInt8: [UInt8]] = [:]

    /// Networks of one bridge, at most.
    public static let perBridge = 16
    /// Addresses of ``ranges``, at most.
    public static let addressesPerSubnet = 65_536
    /// ``hosts``, at most.
    public static let hostsPerSubnet = 1024
    /// Servers of a kind, ``search`` domains and ``routes``, at most.
    public static let entries = 16
    /// Bounds of ``lease``: a minute to a year.
    public static let leases: ClosedRange<UInt32> = 60...31_536_000

    /// A network where nobody gets an address but by name of its port.
    public init(_ subnet: Prefix) { self.subnet = subnet }
}

/// Addresses one behind the other.
public struct DHCPRange: Sendable, Hashable, CustomStringConvertible {
    /// The first.
    public var first: IPAddress
    /// The last, not before the first.
    public var last: IPAddress

    /// A range.
    public init(_ first: IPAddress, _ last: IPAddress) {
        self.first = first
        self.last = last
    }

    /// As in `10.0.1.100-10.0.1.199`.
    public var description: String { first == last ? "\(first)" : "\(first)-\(last)" }

    /// How many there are; 0 where it ends before it begins, or in another /64.
    public var count: Int {
        if first.family == .ipv4 { return last.high < first.high ? 0 : Int((last.high - first.high) >> 32) + 1 }
        guard first.high == last.high, first.low <= last.low else { return 0 }
        return Int(min(last.low - first.low, 1 << 40)) + 1
    }

    init?(_ text: String) {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { IPAddress(String($0)) }
        guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1] else { return nil }
        self.init(first, last)
    }
}

/// A machine with an address of its own.
public struct DHCPHost: Sendable, Hashable, CustomStringConvertible {
    /// Its MAC.
    public var mac: MACAddress
    /// Its address.
    public var address: IPAddress
    /// Its name, if it is told one.
    public var name: String?

    /// A machine.
    public init(_ mac: MACAddress, _ address: IPAddress, name: String? = nil) {
        self.mac = mac
        self.address = address
        self.name = name
    }

    /// As in `02:00:00:00:00:01 10.0.1.5 printer`.
    public var description: String { "\(mac) \(address)" + (name.map { " \($0)" } ?? "") }

    init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 2 || words.count == 3, let mac = MACAddress(words[0]), let address = IPAddress(words[1]),
            words.count == 2 || isValidName(words[2])
        else { return nil }
        self.init(mac, address, name: words.count == 3 ? words[2] : nil)
    }
}

/// A network behind another router.
public struct DHCPRoute: Sendable, Hashable, CustomStringConvertible {
    /// The network.
    public var destination: Prefix
    /// The router.
    public var gateway: IPAddress

    /// A route.
    public init(_ destination: Prefix, via gateway: IPAddress) {
        self.destination = destination
        self.gateway = gateway
    }

    /// As in `10.9.0.0/16 via 10.0.1.9`.
    public var description: String { "\(destination) via \(gateway)" }

    init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 3, words[1] == "via", let destination = try? Prefix(parsing: words[0]),
            let gateway = IPAddress(words[2])
        else { return nil }
        self.init(destination, via: gateway)
    }
}
