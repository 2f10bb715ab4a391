// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a router says of itself to routers outside, by all of its uplinks alike (BGP-4, RFC 4271).
public struct BGPSpeaker: Sendable, Hashable {
    /// Its autonomous system (RFC 6793).
    public var system: UInt32
    /// Its identifier; `nil`: each uplink has its own, its first IPv4 address.
    public var identifier: IPv4Address?
    /// Destinations behind it that others are told of.
    public var announced: [Announcement] = []
    /// Routes of equal cost to one destination by one uplink, at most; ``pathCounts``.
    public var maxPaths: UInt8 = 8
    /// Whether a host with uplinks of its own sends by these, as long as none elsewhere costs less; otherwise by all alike.
    public var prefersNear = false
    /// How long an uplink that is cut off from the other hosts goes on announcing, milliseconds; ``patienceTimes``.
    public var patience: UInt32 = 100
    /// How long an uplink whose host hears of no leader goes on announcing, milliseconds; ``patienceTimes``. What the host knows stays
    /// right for a while: others can't change it either, unless the host is left behind.
    public var leaderless = usualLeaderless

    /// What ``leaderless`` is unless said.
    static let usualLeaderless: UInt32 = 60_000

    /// What ``maxPaths`` may be.
    public static let pathCounts: ClosedRange<UInt8> = 1...32
    /// What ``patience`` and ``leaderless`` may be, milliseconds.
    public static let patienceTimes: ClosedRange<UInt32> = 0...3_600_000
    /// Of one router, at most.
    public static let mostAnnounced = 1024

    /// A router of an autonomous system that announces nothing.
    public init(system: UInt32) { self.system = system }

    /// Whether a number may be that of an autonomous system: 0, 23456 and the last ones are reserved (RFC 7607, 6793, 7300).
    public static func isSystem(_ number: UInt32) -> Bool {
        number != 0 && number != 23456 && number != 65535 && number != .max
    }
}

/// Destinations that a router announces.
public struct Announcement: Sendable, Hashable {
    /// In what pieces.
    public enum Form: String, Sendable, CaseIterable {
        /// All of it as one, as long as the router has any of it.
        case whole
        /// Each network and each address that the router has there.
        case each
        /// Each floating address there of a machine on the uplink's own host: what is for it comes there straight.
        case local
    }

    /// The destinations.
    public var prefix: Prefix
    /// In what pieces.
    public var form: Form

    /// Destinations, as one unless said.
    public init(_ prefix: Prefix, _ form: Form = .whole) {
        self.prefix = prefix
        self.form = form
    }
}

extension Announcement: CustomStringConvertible {
    /// As in `203.0.113.0/24` or `203.0.113.0/24 each`.
    public var description: String { "\(prefix)" + (form == .whole ? "" : " \(form.rawValue)") }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard let first = words.first, let prefix = try? Prefix(parsing: first), words.count <= 2 else { return nil }
        guard let form = words.count == 2 ? Form(rawValue: words[1]) : .whole else { return nil }
        self.init(prefix, form)
    }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension BGPSpeaker {
    /// What may be said of it.
    public static let fieldNames = ["as", "id", "announce", "maxPaths", "near", "patience", "leaderless"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list = [(name: "as", values: ["\(system)"])]
        if let identifier { list.append(("id", ["\(identifier)"])) }
        if !announced.isEmpty { list.append(("announce", announced.map(\.description))) }
        let usual = BGPSpeaker(system: system)
        if maxPaths != usual.maxPaths { list.append(("maxPaths", ["\(maxPaths)"])) }
        if prefersNear { list.append(("near", ["true"])) }
        if patience != usual.patience { list.append(("patience", ["\(patience)"])) }
        if leaderless != usual.leaderless { list.append(("leaderless", ["\(leaderless)"])) }
        return list
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        guard let number = fields.first(where: { $0.name == "as" }) else {
            throw RuleMistake(field: "as", reason: "is missing", remedy: "write as: 65001, the router's own system")
        }
        self.init(system: try FieldValues(name: "as", values: number.values).system())
        for (name, values) in fields where name != "as" {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "id":
                identifier = try field.one("an IPv4 address", { IPv4Address($0).flatMap { $0.bits == 0 ? nil : $0 } })
            case "announce":
                announced = try field.all(
                    "networks, such as 203.0.113.0/24, 203.0.113.0/24 each or 203.0.113.0/24 local", Announcement.init)
            case "maxPaths": maxPaths = try field.number(BGPSpeaker.pathCounts)
            case "near": prefersNear = try field.flag()
            case "patience": patience = try field.number(BGPSpeaker.patienceTimes)
            case "leaderless": leaderless = try field.number(BGPSpeaker.patienceTimes)
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of bgp",
                    remedy: "use \(BGPSpeaker.fieldNames.joined(separator: ", "))")
            }
        }
    }
}

extension FieldValues {
    /// The number of an autonomous system.
    func system() throws(RuleMistake) -> UInt32 {
        try one("the number of an autonomous system, such as 65001") {
            UInt32($0).flatMap { BGPSpeaker.isSystem($0) ? $0 : nil }
        }
    }

    /// A number of a range.
    func number<Number: FixedWidthInteger>(_ range: ClosedRange<Number>) throws(RuleMistake) -> Number {
        try one("\(range.lowerBound) to \(range.upperBound)") {
            Number($0).flatMap { range.contains($0) ? $0 : nil }
        }
    }
}
