// SPDX-License-Identifier: Apache-2.0
import Wire

/// Rules as people write and read them, the same in manifests, JSON and tables.
extension Rule: CustomStringConvertible {
    /// As in `drop source 10.0.0.0/8, protocol tcp, destinationPort 22`.
    public var description: String {
        let what = condition.description
        return what.isEmpty ? "\(action)" : "\(action) \(what)"
    }
}

extension Rule.Action: CustomStringConvertible {
    /// As in `accept`, `jump web`.
    public var description: String {
        switch self {
        case .accept: "accept"
        case .drop: "drop"
        case .reject: "reject"
        case .return: "return"
        case .continue: "continue"
        case .log: "log"
        case .jump(let chain): "jump \(chain)"
        }
    }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let simple: [Rule.Action] = [.accept, .drop, .reject, .return, .continue, .log]
        if let action = simple.first(where: { $0.description == text }) {
            self = action
            return
        }
        let words = text.split(separator: " ")
        guard words.count == 2, words[0] == "jump", isValidName(words[1]) else { return nil }
        self = .jump(String(words[1]))
    }
}

extension Condition: CustomStringConvertible {
    /// What must hold, with commas between; nothing for every packet.
    public var description: String {
        fields.map { "\($0.name) \($0.values.joined(separator: " "))" }.joined(separator: ", ")
    }

    /// What is said, field by field. A field that is inverted is named so: `notSource`.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = []
        func add<Value>(_ field: ConditionField, _ match: Match<Value>?, _ text: (Value) -> [String]) {
            guard let match else { return }
            list.append((match.isInverted ? field.inverted : field.rawValue, text(match.value)))
        }
        func sorted<Element>(_ elements: Set<Element>) -> [String]
        where Element: Comparable & CustomStringConvertible { elements.sorted().map(\.description) }
        func one(_ value: some CustomStringConvertible) -> [String] { [value.description] }
        add(.inPort, inPorts, sorted)
        add(.outPort, outPorts, sorted)
        add(.inPortGroup, inPortGroup, one)
        add(.outPortGroup, outPortGroup, one)
        add(.ingressPortGroup, ingressPortGroup, one)
        add(.traversed, traversed, one)
        add(.etherType, etherType) { [EtherType.name(of: $0)] }
        add(.sourceMAC, sourceMAC, one)
        add(.destinationMAC, destinationMAC, one)
        add(.vlan, vlan, one)
        add(.protocol, ipProtocol) { [IPProtocol.name(of: $0)] }
        add(.source, sources, sorted)
        add(.destination, destinations, sorted)
        add(.sourceGroup, sourceGroup, one)
        add(.destinationGroup, destinationGroup, one)
        add(.dscp, dscp, one)
        add(.fragment, fragment.map { Match($0) }) { [$0.rawValue] }
        add(.sourcePort, sourcePorts, sorted)
        add(.destinationPort, destinationPorts, sorted)
        add(.icmp, icmp, one)
        add(.tcpFlags, tcpFlags, one)
        add(.state, states.map { Match($0) }) { states in
            ConnectionState.allCases.filter(states.contains).map(\.rawValue)
        }
        add(.direction, direction.map { Match($0) }) { [$0.rawValue] }
        if isInverted { list.append(("inverted", ["true"])) }
        return list
    }
}

extension MaskedMAC: CustomStringConvertible {
    /// As in `02:00:00:00:00:01`, `02:00:00:00:00:00/ff:00:00:00:00:00`.
    public var description: String { mask.bits == 0xffff_ffff_ffff ? "\(address)" : "\(address)/\(mask)" }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = parts.first.flatMap({ MACAddress(String($0)) }) else { return nil }
        if parts.count == 1 {
            self.init(address)
        } else {
            guard let mask = MACAddress(String(parts[1])) else { return nil }
            self.init(address, mask: mask)
        }
    }
}

extension PortRange: CustomStringConvertible {
    /// As in `80`, `8000-8999`.
    public var description: String { first == last ? "\(first)" : "\(first)-\(last)" }
}

extension ICMPMatch: CustomStringConvertible {
    /// As in `8`, `3/4`.
    public var description: String { code.map { "\(type)/\($0)" } ?? "\(type)" }
}

extension FlagsMatch: CustomStringConvertible {
    /// Flags by name, FIN being the lowest (RFC 9293 section 3.1, RFC 3168, 3540).
    public static let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"]

    /// As in `syn,!ack`.
    public var description: String {
        FlagsMatch.names.enumerated().filter { mask >> UInt16($0.offset) & 1 == 1 }
            .map { (value >> UInt16($0.offset) & 1 == 1 ? "" : "!") + $0.element }.joined(separator: ",")
    }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        var (mask, value) = (UInt16(0), UInt16(0))
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let word = part.drop { $0 == " " }
            let isClear = word.hasPrefix("!")
            guard let bit = FlagsMatch.names.firstIndex(of: String(isClear ? word.dropFirst() : word)) else {
                return nil
            }
            mask |= 1 << UInt16(bit)
            if !isClear { value |= 1 << UInt16(bit) }
        }
        self.init(mask: mask, value: value)
    }
}

extension Filters {
    /// What a plan tells of them.
    var fields: [(String, String)] { [("inbound", inbound ?? ""), ("outbound", outbound ?? "")] }
}
