// SPDX-License-Identifier: Apache-2.0
import Wire

/// Translations as people write and read them.
extension TranslationRule: CustomStringConvertible {
    /// As in `masquerade protocol tcp, source 10.0.0.0/8`.
    public var description: String {
        let what = condition.description
        return what.isEmpty ? "\(action)" : "\(action) \(what)"
    }
}

extension TranslationRule.Action: CustomStringConvertible {
    /// How actions are written, for messages.
    public static let forms = "dnat ADDRESS [port PORT], snat ADDRESS [port PORTS], masquerade or accept"

    /// As in `dnat 10.0.1.11 port 8080`, `snat 203.0.113.1-203.0.113.4`, `masquerade`.
    public var description: String {
        switch self {
        case .destination(let target): "dnat \(target)"
        case .source(let target): "snat \(target)"
        case .masquerade(nil): "masquerade"
        case .masquerade(let ports?): "masquerade port \(ports)"
        case .accept: "accept"
        }
    }

    /// Reads what ``description`` writes. Ranges that end before they begin are read: validation tells.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        switch (words.first, words.count) {
        case ("accept"?, 1): self = .accept
        case ("masquerade"?, 1): self = .masquerade(nil)
        case ("masquerade"?, 3) where words[1] == "port":
            guard let ports = PortRange(words[2]) else { return nil }
            self = .masquerade(ports)
        case ("dnat"?, 2...), ("snat"?, 2...):
            guard let target = TranslationTarget(words.dropFirst().joined(separator: " ")) else { return nil }
            self = words[0] == "dnat" ? .destination(target) : .source(target)
        default: return nil
        }
    }
}

extension TranslationTarget: CustomStringConvertible {
    /// As in `10.0.1.11`, `203.0.113.1-203.0.113.4 port 1024-2047`.
    public var description: String {
        let addresses = first == last ? "\(first)" : "\(first)-\(last)"
        return ports.map { "\(addresses) port \($0)" } ?? addresses
    }

    /// Reads what ``description`` writes.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 1 || words.count == 3 && words[1] == "port" else { return nil }
        let ends = words[0].split(separator: "-", omittingEmptySubsequences: false).map { IPAddress(String($0)) }
        guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1] else { return nil }
        var ports: PortRange?
        if words.count == 3 {
            guard let range = PortRange(words[2]) else { return nil }
            ports = range
        }
        self.init(first, last, ports: ports)
    }
}

extension FloatingAddress: CustomStringConvertible {
    /// As in `203.0.113.20 -> 10.0.1.12`.
    public var description: String {
        "\(address) -> \(target)" + (port.map { " behind \($0)" } ?? "")
    }
}

extension Translation {
    /// A rule by its place in the order in which rules are counted: virtual addresses are behind the others.
    public func rule(_ place: Int) -> (list: String, id: String, text: String)? {
        if rules.indices.contains(place) { return ("nat", rules[place].id, rules[place].description) }
        guard virtual.indices.contains(place - rules.count) else { return nil }
        return ("vip", virtual[place - rules.count].id, virtual[place - rules.count].description)
    }

    /// What a plan tells of it.
    var fields: [(String, String)] {
        rules.map { ("nat \($0.id)", $0.description) }
            + floating.map { ("floating \($0.address)", "\($0.target)" + ($0.port.map { " behind \($0)" } ?? "")) }
            + virtual.map { ("vip \($0.id)", $0.description) }
    }
}
