// SPDX-License-Identifier: Apache-2.0
import Wire

/// A router outside that one of ours speaks BGP with, and what is made of what it says.
public struct BGPPeer: Sendable, Hashable {
    /// Its address, in a network of the uplink unless ``isFar``.
    public var address: IPAddress
    /// Its autonomous system; our own for internal BGP.
    public var system: UInt32
    /// Whether it is not in the uplink's network, but behind other routers.
    public var isFar = false
    /// The password of the session (TCP MD5, RFC 2385).
    public var password: String?
    /// How long it may be silent before the session is over, seconds; ``holdTimes``.
    public var hold: UInt16 = 9
    /// How its end is seen in less than that (RFC 5880); `nil`: it is not.
    public var liveness: Liveness? = Liveness()
    /// Whether forwarding goes on while either end begins anew (RFC 4724).
    public var restartsGracefully = true
    /// Routes that are taken: those that one of these holds; of none, all.
    public var accepted: [PrefixMatch] = []
    /// Routes that are not, whatever else is said.
    public var refused: [PrefixMatch] = []
    /// Announcements that it hears: those that one of these holds; of none, all.
    public var told: [PrefixMatch] = []
    /// How many routes it may send before the session is ended; `nil`: as many as there is room for.
    public var limit: UInt32?
    /// How much its routes are preferred, in all of the system; 100 is usual (`LOCAL_PREF`).
    public var preference: UInt16 = 100
    /// How often our number stands in the path besides once, so that others prefer other ways; ``prependCounts``.
    public var prepend: UInt8 = 0
    /// What it is told how much we prefer this way among several to the same system, lower is better
    /// (`MULTI_EXIT_DISC`); `nil`: nothing.
    public var metric: UInt32?
    /// What announcements to it are marked with (RFC 1997).
    public var communities: [BGPCommunity] = []

    /// When a peer that says nothing is given up.
    public struct Liveness: Sendable, Hashable {
        /// From one packet to the next, milliseconds; ``intervals``.
        public var interval: UInt32 = 250
        /// How many may be missed; ``counts``.
        public var count: UInt8 = 3
        /// What ``interval`` may be.
        public static let intervals: ClosedRange<UInt32> = 10...60_000
        /// What ``count`` may be.
        public static let counts: ClosedRange<UInt8> = 2...50

        /// The usual: three quarters of a second.
        public init() {}
    }

    /// What ``hold`` may be, seconds.
    public static let holdTimes: ClosedRange<UInt16> = 3...65_535
    /// What ``prepend`` may be.
    public static let prependCounts: ClosedRange<UInt8> = 0...16
    /// What ``limit`` may be.
    public static let limits: ClosedRange<UInt32> = 1...1_000_000
    /// What ``preference`` may be.
    public static let preferences: ClosedRange<UInt16> = 0...4095
    /// Of each list, at most.
    public static let mostListed = 256
    /// The longest password, bytes.
    public static let longestPassword = 80

    /// A peer with the usual times.
    public init(_ address: IPAddress, system: UInt32) {
        self.address = address
        self.system = system
    }
}

/// Networks, by how long their prefixes are.
public struct PrefixMatch: Sendable, Hashable, CustomStringConvertible {
    /// What holds them.
    public var prefix: Prefix
    /// Lengths that are meant.
    public var lengths: ClosedRange<Int>

    /// As in `10.0.0.0/8`, `10.0.0.0/8 le 24` or `10.0.0.0/8 ge 16 le 24`.
    public var description: String {
        var text = "\(prefix)"
        if lengths.lowerBound > prefix.length { text += " ge \(lengths.lowerBound)" }
        if lengths.upperBound > lengths.lowerBound || lengths.upperBound > prefix.length {
            text += " le \(lengths.upperBound)"
        }
        return text
    }

    /// Reads what ``description`` writes; after `ge` alone all that is longer is meant.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard let first = words.first, let prefix = try? Prefix(parsing: first), words.count % 2 == 1 else {
            return nil
        }
        var (low, high): (Int?, Int?)
        for place in stride(from: 1, to: words.count, by: 2) {
            guard let number = Int(words[place + 1]) else { return nil }
            switch words[place] {
            case "ge" where low == nil: low = number
            case "le" where high == nil: high = number
            default: return nil
            }
        }
        let lower = low ?? prefix.length
        let upper = high ?? (low == nil ? prefix.length : prefix.family.width)
        guard lower >= prefix.length, upper >= lower, upper <= prefix.family.width else { return nil }
        self.init(prefix, lower...upper)
    }

    /// Networks in another one.
    public init(_ prefix: Prefix, _ lengths: ClosedRange<Int>) {
        self.prefix = prefix
        self.lengths = lengths
    }
}

/// What an announcement is marked with.
public struct BGPCommunity: Sendable, Hashable, CustomStringConvertible {
    /// Who says what it means.
    public var system: UInt32
    /// What.
    public var value: UInt32
    /// What besides, of a large one (RFC 8092).
    public var detail: UInt32?

    /// One of a system.
    init(system: UInt32, value: UInt32, detail: UInt32? = nil) {
        (self.system, self.value, self.detail) = (system, value, detail)
    }

    /// `65001:77`, or a large one `4200000001:1:2`.
    public var description: String { "\(system):\(value)" + (detail.map { ":\($0)" } ?? "") }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let names = ["no-export": 0xff01, "no-advertise": 0xff02] as [String: UInt32]
        if let value = names[text] {
            (system, self.value) = (65535, value)
            return
        }
        let numbers = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt32($0) }
        guard numbers.count == 2 || numbers.count == 3, let first = numbers[0], let second = numbers[1] else {
            return nil
        }
        if numbers.count == 3 {
            guard let third = numbers[2] else { return nil }
            detail = third
        } else if first > 0xffff || second > 0xffff {
            return nil
        }
        (system, value) = (first, second)
    }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension BGPPeer {
    /// What may be said of it.
    public static let fieldNames = [
        "address", "as", "far", "password", "hold", "bfd", "gracefulRestart", "accept", "refuse", "tell", "defaultOnly",
        "limit", "preference", "prepend", "metric", "communities",
    ]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        let usual = BGPPeer(address, system: system)
        var list = [(name: "address", values: ["\(address)"]), ("as", ["\(system)"])]
        if isFar { list.append(("far", ["true"])) }
        if let password { list.append(("password", [password])) }
        if hold != usual.hold { list.append(("hold", ["\(hold)"])) }
        if liveness != usual.liveness {
            list.append(("bfd", liveness.map { ["\($0.interval)", "\($0.count)"] } ?? ["false"]))
        }
        if !restartsGracefully { list.append(("gracefulRestart", ["false"])) }
        for (name, matches) in [("accept", accepted), ("refuse", refused), ("tell", told)] where !matches.isEmpty {
            list.append((name, matches.map(\.description)))
        }
        if let limit { list.append(("limit", ["\(limit)"])) }
        if preference != usual.preference { list.append(("preference", ["\(preference)"])) }
        if prepend != 0 { list.append(("prepend", ["\(prepend)"])) }
        if let metric { list.append(("metric", ["\(metric)"])) }
        if !communities.isEmpty { list.append(("communities", communities.map(\.description))) }
        return list
    }

    /// What it is, in words, without its password.
    public var text: String {
        // What tells one password from another tells nobody what it is.
        let secret = password.map { "password no. \(stableHash($0) % 4096)" }
        return fields.map {
            $0.name == "password" ? secret ?? "" : "\($0.name) \($0.values.joined(separator: " and "))"
        }
        .joined(separator: ", ")
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        func field(_ name: String, _ remedy: String) throws(RuleMistake) -> FieldValues {
            guard let field = fields.first(where: { $0.name == name }) else {
                throw RuleMistake(field: name, reason: "is missing", remedy: remedy)
            }
            return FieldValues(name: name, values: field.values)
        }
        self.init(
            try field("address", "write address: 100.64.0.1").one("an address", { IPAddress($0) }),
            system: try field("as", "write as: 65100, the peer's system").system())
        let matches = "networks, such as 10.0.0.0/8 or 10.0.0.0/8 ge 16 le 24"
        for (name, values) in fields where name != "address" && name != "as" {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "far": isFar = try field.flag()
            case "password": password = try field.one("a password") { $0.isEmpty ? nil : $0 }
            case "hold": hold = try field.number(BGPPeer.holdTimes)
            case "bfd": liveness = try Liveness.read(field)
            case "gracefulRestart": restartsGracefully = try field.flag()
            case "accept": accepted = try field.all(matches, PrefixMatch.init)
            case "refuse": refused = try field.all(matches, PrefixMatch.init)
            case "tell": told = try field.all(matches, PrefixMatch.init)
            case "defaultOnly":
                guard try field.flag() else { continue }
                accepted = [
                    PrefixMatch(Prefix(IPAddress(high: 0, low: 0, family: .ipv4), length: 0), 0...0),
                    PrefixMatch(Prefix(IPAddress(high: 0, low: 0, family: .ipv6), length: 0), 0...0),
                ]
            case "limit": limit = try field.number(BGPPeer.limits)
            case "preference": preference = try field.number(BGPPeer.preferences)
            case "prepend": prepend = try field.number(BGPPeer.prependCounts)
            case "metric": metric = try field.number(0...UInt32.max)
            case "communities":
                communities = try field.all("communities, such as 65001:77 or no-export", BGPCommunity.init)
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of peers",
                    remedy: "use \(BGPPeer.fieldNames.joined(separator: ", "))")
            }
        }
        if fields.contains(where: { $0.name == "defaultOnly" }), fields.contains(where: { $0.name == "accept" }) {
            throw RuleMistake(
                field: "defaultOnly", reason: "is said besides accept", remedy: "leave one of them out")
        }
    }
}

extension BGPPeer.Liveness {
    /// `false`, `true`, milliseconds, or milliseconds and how many may be missed.
    fileprivate static func read(_ field: FieldValues) throws(RuleMistake) -> BGPPeer.Liveness? {
        if field.values == ["false"] { return nil }
        var liveness = BGPPeer.Liveness()
        if field.values == ["true"] { return liveness }
        guard let first = field.values.first, field.values.count <= 2, let interval = UInt32(first),
            intervals.contains(interval)
        else {
            throw RuleMistake(
                field: field.name, reason: "is \(field.values.joined(separator: ", "))",
                remedy: "write true, false, or milliseconds and how many may be missed, such as [100, 3]")
        }
        liveness.interval = interval
        if let last = field.values.dropFirst().first {
            liveness.count = try FieldValues(name: field.name, values: [last]).number(counts)
        }
        return liveness
    }
}

extension FieldValues {
    func flag() throws(RuleMistake) -> Bool { try one("true or false") { ["true": true, "false": false][$0] } }
}
