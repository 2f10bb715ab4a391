// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a condition may ask for, by the name that people write.
public enum ConditionField: String, Sendable, CaseIterable {
    case inPort, outPort, inPortGroup, outPortGroup, ingressPortGroup, traversed
    case etherType, vlan
    case sourceMAC = "sourceMac"
    case destinationMAC = "destinationMac"
    case `protocol`, source, destination, sourceGroup, destinationGroup, dscp, fragment
    case sourcePort, destinationPort, icmp, tcpFlags
    case state, direction

    /// As in `notSource`.
    public var inverted: String { "not" + rawValue.prefix(1).uppercased() + rawValue.dropFirst() }

    /// Whether everything else may be asked for.
    public var isInvertible: Bool {
        switch self {
        case .fragment, .state, .direction: false
        default: true
        }
    }

    /// Whether several values may be named, one of which is enough.
    public var takesSeveral: Bool {
        switch self {
        case .inPort, .outPort, .source, .destination, .sourcePort, .destinationPort, .state: true
        default: false
        }
    }

    /// All names, inverted ones as well.
    public static let names = allCases.map(\.rawValue) + allCases.filter(\.isInvertible).map(\.inverted)
}

/// What is wrong with a rule as somebody wrote it.
public struct RuleMistake: Error, Sendable {
    /// The field.
    public var field: String
    /// What is wrong with it.
    public var reason: String
    /// What to write instead.
    public var remedy: String
}

extension Condition {
    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        self.init()
        for (name, values) in fields {
            if name == "inverted" {
                guard values == ["true"] || values == ["false"] else {
                    throw RuleMistake(field: name, reason: "is neither true nor false", remedy: "write inverted: true")
                }
                isInverted = values == ["true"]
                continue
            }
            let inverted = ConditionField.allCases.first { $0.inverted == name }
            guard let field = ConditionField(rawValue: name) ?? inverted else {
                throw RuleMistake(
                    field: name, reason: "is no field of a rule",
                    remedy:
                        "use id, action, inverted, \(ConditionField.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            if inverted != nil, !field.isInvertible {
                throw RuleMistake(
                    field: name, reason: "can't be inverted", remedy: "name those that are meant, or use inverted: true"
                )
            }
            if values.isEmpty || values.count > 1 && !field.takesSeveral {
                throw RuleMistake(
                    field: name, reason: values.isEmpty ? "is empty" : "has \(values.count) values",
                    remedy: field.takesSeveral ? "say one at least" : "say one: make several rules of it")
            }
            try read(FieldReader(field: name, values: values, isInverted: inverted != nil), field)
        }
    }

    private mutating func read(_ field: FieldReader, _ kind: ConditionField) throws(RuleMistake) {
        switch kind {
        case .inPort: inPorts = try field.several("device/port") { isLocalPort($0) ? $0 : nil }
        case .outPort: outPorts = try field.several("device/port") { isLocalPort($0) ? $0 : nil }
        case .inPortGroup: inPortGroup = try field.name()
        case .outPortGroup: outPortGroup = try field.name()
        case .ingressPortGroup: ingressPortGroup = try field.name()
        case .traversed: traversed = try field.name()
        case .etherType: etherType = try field.one("ipv4, ipv6, arp or a number such as 0x88cc", EtherType.number)
        case .sourceMAC: sourceMAC = try field.one("02:00:00:00:00:01, or ADDRESS/MASK", MaskedMAC.init)
        case .destinationMAC: destinationMAC = try field.one("02:00:00:00:00:01, or ADDRESS/MASK", MaskedMAC.init)
        case .vlan: vlan = try field.one("1 to 4094, or 0 for untagged") { UInt16($0) }
        case .protocol: ipProtocol = try field.one("tcp, udp, sctp, icmp, icmpv6 or a number", IPProtocol.number)
        case .source: sources = try field.prefixes()
        case .destination: destinations = try field.prefixes()
        case .sourceGroup: sourceGroup = try field.name()
        case .destinationGroup: destinationGroup = try field.name()
        case .dscp: dscp = try field.one("0 to 63") { UInt8($0) }
        case .fragment:
            fragment = try field.one("any, unfragmented, header or nonheader", FragmentPolicy.init(rawValue:)).value
        case .sourcePort: sourcePorts = try field.several("80, or 8000-8999", PortRange.init)
        case .destinationPort: destinationPorts = try field.several("80, or 8000-8999", PortRange.init)
        case .icmp: icmp = try field.one("a type such as 8, or 3/4 with its code", ICMPMatch.init)
        case .tcpFlags: tcpFlags = try field.one("flags such as syn,!ack", FlagsMatch.init)
        case .state:
            states = try field.several("new, established, related or invalid", ConnectionState.init(rawValue:)).value
        case .direction: direction = try field.one("forward or return", ConnectionDirection.init(rawValue:)).value
        }
    }
}

/// The values of one field.
private struct FieldReader {
    var field: String
    var values: [String]
    var isInverted: Bool

    private func bad(_ value: String, _ form: String) -> RuleMistake {
        RuleMistake(field: field, reason: "is \"\(value)\"", remedy: "write \(form)")
    }

    func one<Value>(_ form: String, _ read: (String) -> Value?) throws(RuleMistake) -> Match<Value> {
        guard let value = read(values[0]) else { throw bad(values[0], form) }
        return Match(value, isInverted: isInverted)
    }

    func several<Value: Hashable>(_ form: String, _ read: (String) -> Value?) throws(RuleMistake) -> Match<Set<Value>> {
        var set: Set<Value> = []
        for text in values {
            guard let value = read(text) else { throw bad(text, form) }
            set.insert(value)
        }
        return Match(set, isInverted: isInverted)
    }

    func name() throws(RuleMistake) -> Match<String> { try one("a name") { isValidName($0) ? $0 : nil } }

    func prefixes() throws(RuleMistake) -> Match<Set<Prefix>> {
        var set: Set<Prefix> = []
        for text in values { set.insert(try readNetwork(text, field: field)) }
        return Match(set, isInverted: isInverted)
    }
}

extension PortRange {
    /// Reads what ``description`` writes. What ends before it begins is read: validation tells.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard let first = parts.first.flatMap({ UInt16($0) }), parts.count <= 2 else { return nil }
        if parts.count == 1 {
            self.init(first, first)
        } else {
            guard let last = UInt16(parts[1]) else { return nil }
            self.init(first, last)
        }
    }
}

extension ICMPMatch {
    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let type = parts.first.flatMap({ UInt8($0) }), parts.count <= 2 else { return nil }
        if parts.count == 1 {
            self.init(type: type)
        } else {
            guard let code = UInt8(parts[1]) else { return nil }
            self.init(type: type, code: code)
        }
    }
}
