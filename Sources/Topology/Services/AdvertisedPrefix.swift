// SPDX-License-Identifier: Apache-2.0
import Wire

/// What machines of an IPv6 network on a bridge are told of it by router advertisements (RFC 4861): they make themselves
/// addresses in it (RFC 4862), and send what is for elsewhere to the bridge's router.
public struct AdvertisedPrefix: Sendable, Hashable {
    /// The network. Machines make themselves addresses in one of /64 only.
    public var prefix: Prefix
    /// Whether the bridge's router that has an address in it says that it is the way to everywhere.
    public var isRouted = true
    /// Servers of names (RFC 8106).
    public var nameServers: [IPAddress] = []
    /// Domains that are tried for names without one (RFC 8106).
    public var search: [String] = []
    /// Bytes of the largest packet; unless said what tunnels leave room for.
    public var mtu: Int?
    /// How long addresses last that machines made themselves, from the last advertisement on, seconds. For half as long they
    /// are taken for what is new.
    public var lifetime: UInt32 = 86_400

    /// Networks of one bridge, at most: what is said of all fits one packet.
    public static let perBridge = 8
    /// ``nameServers`` and ``search`` domains, at most.
    public static let entries = 8
    /// Bounds of ``lifetime``: an hour to a year. Less than the time between some advertisements would not last.
    public static let lifetimes: ClosedRange<UInt32> = 3600...31_536_000

    /// A network.
    public init(_ prefix: Prefix) { self.prefix = prefix }
}

/// As people write and read them, the same in manifests, JSON and tables.
extension AdvertisedPrefix {
    /// What may be said of one.
    public static let fieldNames = ["prefix", "router", "dns", "search", "mtu", "lifetime"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = [("prefix", [prefix.description])]
        if !isRouted { list.append(("router", ["false"])) }
        if !nameServers.isEmpty { list.append(("dns", nameServers.map(\.description))) }
        if !search.isEmpty { list.append(("search", search)) }
        if let mtu { list.append(("mtu", ["\(mtu)"])) }
        if lifetime != 86_400 { list.append(("lifetime", ["\(lifetime)"])) }
        return list
    }

    /// Reads what ``fields`` writes.
    ///
    /// - Parameter standard: the network, unless said.
    public init(
        reading fields: [(name: String, values: [String])], standard: Prefix? = nil
    ) throws(RuleMistake) {
        var prefix = standard
        if let own = fields.first(where: { $0.name == "prefix" }) {
            let text = try RuleMistake.one("prefix", own.values)
            guard let read = try? Prefix(parsing: text) else {
                throw RuleMistake(
                    field: "prefix", reason: "is \"\(text)\"", remedy: "write a network such as fd00:1::/64")
            }
            prefix = read
        }
        guard let prefix else {
            throw RuleMistake(
                field: "prefix", reason: "is missing", remedy: "name a network, or give the bridge an IPv6 subnet")
        }
        self.init(prefix)
        for (name, values) in fields where name != "prefix" {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "router":
                isRouted = try field.one("true or false") { $0 == "true" ? true : $0 == "false" ? false : nil }
            case "dns": nameServers = try field.all("an address such as fd00:1::53", { IPAddress($0) })
            case "search": search = values
            case "mtu": mtu = try field.one("1280 to 65535") { Int($0) }
            case "lifetime": lifetime = try field.one("seconds") { UInt32($0) }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of an advertised network",
                    remedy: "use \(AdvertisedPrefix.fieldNames.joined(separator: ", "))")
            }
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func advertised(_ list: [AdvertisedPrefix]) {
        self.list(list) { out, one in
            out.prefix(one.prefix)
            out.flag(one.isRouted)
            out.list(one.nameServers) { $0.address($1) }
            out.list(one.search) { $0.text($1) }
            out.optional(one.mtu) { $0.count($1) }
            out.number(one.lifetime)
        }
    }
}

extension ByteReader {
    mutating func advertised() throws(MalformedBytes) -> [AdvertisedPrefix] {
        try list { reader throws(MalformedBytes) in
            var one = AdvertisedPrefix(try reader.prefix())
            one.isRouted = try reader.flag()
            one.nameServers = try reader.list { reader throws(MalformedBytes) in try reader.address() }
            one.search = try reader.list { reader throws(MalformedBytes) in try reader.text() }
            one.mtu = try reader.flag() ? try reader.count16() : nil
            one.lifetime = try reader.number()
            return one
        }
    }
}

/// What can be wrong with them.
extension Topology {
    func checkAdvertised(of bridge: Bridge, _ found: inout [Problem]) {
        if bridge.advertised.count > AdvertisedPrefix.perBridge {
            found.append(
                Problem(
                    bridge.path,
                    "advertises \(bridge.advertised.count) networks, \(AdvertisedPrefix.perBridge) at most",
                    remedy: "draw another bridge"))
        }
        for (place, one) in bridge.advertised.enumerated() {
            let name = "\(bridge.path) ra \(one.prefix)"
            func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
            if one.prefix.family != .ipv6 || !(16...126).contains(one.prefix.length) || one.prefix.address.isMulticast
                || one.prefix.address.v6?.isLinkLocal == true
            {
                problem("is no IPv6 network of machines", "use a network such as fd00:1::/64")
            }
            if bridge.advertised[..<place].contains(where: { $0.prefix.overlaps(one.prefix) }) {
                problem("overlaps another", "name each network once")
            }
            if let mtu = one.mtu, !(1280...65_535).contains(mtu) { problem("mtu is \(mtu)", "use 1280 to 65535") }
            if !AdvertisedPrefix.lifetimes.contains(one.lifetime) {
                problem("lifetime is \(one.lifetime) s", "use an hour to a year")
            }
            if one.nameServers.contains(where: { $0.family != .ipv6 }) {
                problem("names a server of names by IPv4", "name it by IPv6, or by dhcp")
            }
            if one.nameServers.count > AdvertisedPrefix.entries || one.search.count > AdvertisedPrefix.entries {
                problem("names too many servers or domains", "use up to \(AdvertisedPrefix.entries)")
            }
            if let domain = one.search.first(where: { DHCPSubnet.domain($0) == nil }) {
                problem("search \"\(domain)\" is no domain", "write one such as example.com")
            }
        }
    }
}
