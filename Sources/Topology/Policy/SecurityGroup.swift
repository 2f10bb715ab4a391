// SPDX-License-Identifier: Apache-2.0
import Wire

/// A group of ports, with what their machines may get and send.
///
/// A machine in a group gets what a rule of one of its groups lets in and the answers to what it sent, and nothing else. It
/// sends what it likes, unless a group of it has rules for that: then it sends what they let out, and answers. What its
/// machine says of itself is held to the port's MAC and addresses. Which ports are in a group, the ports say: see
/// ``Port/security``. Rules of chains may name it as a port group.
public struct SecurityGroup: Sendable, Equatable {
    /// Its name; security groups and port groups of a tenant share one set of names.
    public var path: DevicePath
    /// What its machines may get.
    public var inward: [SecurityRule] = []
    /// What its machines may send; anything when it is empty.
    public var outward: [SecurityRule] = []

    /// Rules of one group, at most, either way.
    public static let rulesPerGroup = 512
    /// Groups that one port is in, at most.
    public static let groupsPerPort = 8
    /// What a port's machine may send as besides its own addresses, at most.
    public static let allowedPerPort = 64

    /// A group that lets nothing in.
    public init(path: DevicePath) { self.path = path }
}

/// Something that a security group lets pass: everything that is said must hold.
public struct SecurityRule: Sendable, Hashable {
    /// Who is on the other side.
    public enum Remote: Sendable, Hashable {
        /// Anybody.
        case anyone
        /// Whoever has one of these addresses.
        case networks(Set<Prefix>)
        /// Machines of a security group of the tenant.
        case group(String)
        /// Whoever has an address of an address group of the tenant.
        case addressGroup(String)
    }

    /// Names the rule in its list.
    public var id: String
    /// IP protocol; any unless said.
    public var ipProtocol: UInt8?
    /// Destination ports of TCP, UDP or SCTP; all unless said.
    public var ports: Set<PortRange> = []
    /// ICMP or ICMPv6 type.
    public var icmp: ICMPMatch?
    /// Who is on the other side.
    public var remote = Remote.anyone

    /// A rule for everything.
    public init(id: String) { self.id = id }
}

/// An address, or a network of them, that a machine may send from besides its own.
public struct AllowedAddress: Sendable, Hashable, Comparable {
    /// The addresses.
    public var prefix: Prefix
    /// The MAC that goes with them; the port's own unless said.
    public var mac: MACAddress?

    /// An address, or a network of them.
    public init(_ prefix: Prefix, mac: MACAddress? = nil) {
        self.prefix = prefix
        self.mac = mac
    }

    /// By prefix, then by MAC.
    public static func < (a: AllowedAddress, b: AllowedAddress) -> Bool {
        a.prefix == b.prefix ? (a.mac?.bits ?? 0) < (b.mac?.bits ?? 0) : a.prefix < b.prefix
    }
}

extension AllowedAddress: CustomStringConvertible {
    /// As in `10.0.0.9/32`, `10.0.0.9/32 02:00:00:00:00:09`.
    public var description: String { mac.map { "\(prefix) \($0)" } ?? "\(prefix)" }

    /// Reads what ``description`` writes; an address alone is a network of one.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 1 || words.count == 2 else { return nil }
        if let address = IPAddress(words[0]) {
            prefix = Prefix(address, length: address.family.width)
        } else {
            guard let network = try? Prefix(parsing: words[0]) else { return nil }
            prefix = network
        }
        if words.count == 2 {
            guard let own = MACAddress(words[1]) else { return nil }
            mac = own
        }
    }
}

extension SecurityRule: CustomStringConvertible {
    /// As in `tcp 80 443 group web`.
    public var description: String {
        var words: [String] = []
        words.append(ipProtocol.map { IPProtocol.name(of: $0) } ?? "any")
        words += ports.sorted().map(\.description)
        if let icmp { words.append(icmp.description) }
        switch remote {
        case .anyone: break
        case .networks(let networks): words += networks.sorted().map(\.description)
        case .group(let name): words += ["group", name]
        case .addressGroup(let name): words += ["addressGroup", name]
        }
        return words.joined(separator: " ")
    }
}

extension SecurityGroup {
    /// What a plan tells of it.
    var fields: [(String, String)] {
        inward.map { ("in \($0.id)", $0.description) } + outward.map { ("out \($0.id)", $0.description) }
    }
}

// MARK: - As written

extension SecurityRule {
    /// What a rule may say, by the name that people write.
    public static let names = ["id", "protocol", "port", "icmp", "network", "group", "addressGroup"]

    /// Reads what ``written`` writes.
    public init(reading fields: [(name: String, values: [String])], id: String) throws(RuleMistake) {
        self.init(id: id)
        var remotes: [String] = []
        for (name, values) in fields {
            func one(_ form: String) throws(RuleMistake) -> String {
                guard values.count == 1 else {
                    throw RuleMistake(field: name, reason: "has \(values.count) values", remedy: "write \(form)")
                }
                return values[0]
            }
            func bad(_ text: String, _ form: String) -> RuleMistake {
                RuleMistake(field: name, reason: "is \"\(text)\"", remedy: "write \(form)")
            }
            switch name {
            case "protocol":
                let form = "tcp, udp, sctp, icmp, icmpv6 or a number"
                let text = try one(form)
                guard let number = IPProtocol.number(text) else { throw bad(text, form) }
                ipProtocol = number
            case "port":
                for text in values {
                    guard let range = PortRange(text) else { throw bad(text, "80, or 8000-8999") }
                    ports.insert(range)
                }
            case "icmp":
                let form = "a type such as 8, or 3/4 with its code"
                let text = try one(form)
                guard let match = ICMPMatch(text) else { throw bad(text, form) }
                icmp = match
            case "network":
                remotes.append(name)
                var networks: Set<Prefix> = []
                for text in values { networks.insert(try readNetwork(text, field: name)) }
                if networks.isEmpty {
                    throw RuleMistake(field: name, reason: "is empty", remedy: "name one at least, or leave it out")
                }
                remote = .networks(networks)
            case "group", "addressGroup":
                remotes.append(name)
                let text = try one("a name")
                guard isValidName(text) else { throw bad(text, "a name") }
                remote = name == "group" ? .group(text) : .addressGroup(text)
            default:
                throw RuleMistake(
                    field: name, reason: "is no field of a rule",
                    remedy: "use \(SecurityRule.names.joined(separator: ", "))")
            }
        }
        if remotes.count > 1 {
            throw RuleMistake(
                field: remotes[1], reason: "stands beside \(remotes[0])", remedy: "make two rules of it")
        }
    }

    /// What is said, field by field.
    public var written: [(name: String, values: [String])] {
        var fields: [(name: String, values: [String])] = []
        if let ipProtocol { fields.append(("protocol", [IPProtocol.name(of: ipProtocol)])) }
        if !ports.isEmpty { fields.append(("port", ports.sorted().map(\.description))) }
        if let icmp { fields.append(("icmp", [icmp.description])) }
        switch remote {
        case .anyone: break
        case .networks(let networks): fields.append(("network", networks.sorted().map(\.description)))
        case .group(let name): fields.append(("group", [name]))
        case .addressGroup(let name): fields.append(("addressGroup", [name]))
        }
        return fields
    }

    /// The rule as a condition of a chain.
    ///
    /// - Parameter members: names the address group that has the addresses of a security group's machines.
    public func condition(isInward: Bool, members: (String) -> String) -> Condition {
        var condition = Condition()
        condition.ipProtocol = ipProtocol.map { Match($0) }
        if !ports.isEmpty { condition.destinationPorts = Match(ports) }
        condition.icmp = icmp.map { Match($0) }
        switch (remote, isInward) {
        case (.anyone, _): break
        case (.networks(let networks), true): condition.sources = Match(networks)
        case (.networks(let networks), false): condition.destinations = Match(networks)
        case (.addressGroup(let name), true): condition.sourceGroup = Match(name)
        case (.addressGroup(let name), false): condition.destinationGroup = Match(name)
        // Who sends is known by where it came in, whatever its address became on the way.
        case (.group(let name), true): condition.ingressPortGroup = Match(name)
        case (.group(let name), false): condition.destinationGroup = Match(members(name))
        }
        return condition
    }
}

/// A network, or an address alone, which is a network of one.
func readNetwork(_ text: String, field: String) throws(RuleMistake) -> Prefix {
    if let address = IPAddress(text) { return Prefix(address, length: address.family.width) }
    func bad(_ form: String) -> RuleMistake {
        RuleMistake(field: field, reason: "is \"\(text)\"", remedy: "write \(form)")
    }
    do { return try Prefix(parsing: text) } catch {
        switch error {
        case .malformed: throw bad("an address, or a network such as 10.0.0.0/24")
        case .length(let max): throw bad("a length from 0 to \(max)")
        case .hostBits(let network): throw bad("\(network)")
        }
    }
}
