// SPDX-License-Identifier: Apache-2.0
import Store
import Topology
import Wire

/// A chain of rules in JSON.
public struct ChainResource: Codable, Sendable, Equatable {
    /// `tenant/chain`.
    public var name: String?
    /// The rules, in order.
    public var rules: [RuleResource]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ chain: Chain, _ version: ClusterState.Version?) {
        name = chain.path.description
        rules = chain.rules.map(RuleResource.init)
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        var chain = Chain(path: path)
        for rule in rules ?? [] { chain.rules.append(try rule.read("chain \(path)", chain.rules.count + 1)) }
        return .chain(chain)
    }
}

/// A rule in JSON, of a chain or of a router's translations.
public struct RuleResource: Codable, Sendable, Equatable {
    /// Names the rule in its chain; its place unless said.
    public var id: String?
    /// `accept`, `drop`, `reject`, `return`, `continue`, `log` or `jump CHAIN`; of a translation `dnat ADDRESS [port PORT]`,
    /// `snat ADDRESS [port PORTS]`, `masquerade` or `accept`.
    public var action: String
    /// Which packets: field and values, `not` before a field that is inverted.
    public var match: [String: [String]]?

    private init(_ id: String, _ condition: Condition, _ action: String) {
        self.id = id
        self.action = action
        let fields = condition.fields
        match = fields.isEmpty ? nil : Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.values) })
    }

    init(_ rule: Rule) { self.init(rule.id, rule.condition, rule.action.description) }
    init(_ rule: TranslationRule) { self.init(rule.id, rule.condition, rule.action.description) }

    func read(_ chain: String, _ place: Int) throws(APIError) -> Rule {
        let forms = "accept, drop, reject, return, continue, log or jump CHAIN"
        let (id, condition, action) = try read(chain, place, forms, Rule.Action.init)
        return Rule(id: id, condition: condition, action: action)
    }

    func read(translation list: String, _ place: Int) throws(APIError) -> TranslationRule {
        let (id, condition, action) = try read(
            list, place, TranslationRule.Action.forms, TranslationRule.Action.init)
        return TranslationRule(id: id, condition: condition, action: action)
    }

    private func read<Action>(
        _ list: String, _ place: Int, _ forms: String, _ read: (String) -> Action?
    ) throws(APIError) -> (String, Condition, Action) {
        let id = id ?? "\(place)"
        let object = "\(list) rule \(id)"
        guard isValidName(id) else {
            throw .invalid(object, "id is \"\(id)\"", "use up to 63 letters, digits, -, _ and .")
        }
        guard let meant = read(action) else { throw .invalid(object, "action is \"\(action)\"", "use \(forms)") }
        let fields = (match ?? [:]).sorted { $0.key < $1.key }.map { (name: $0.key, values: $0.value) }
        do throws(RuleMistake) { return (id, try Condition(reading: fields), meant) } catch {
            throw .invalid(object, "\(error.field) \(error.reason)", error.remedy)
        }
    }
}

/// An address that stands for a machine, in JSON.
public struct FloatingResource: Codable, Sendable, Equatable {
    /// The address that others see.
    public var address: String
    /// The machine's own.
    public var target: String
    /// The router's port towards those others, by its own name; the one whose network holds the address unless said.
    public var port: String?

    init(_ floating: FloatingAddress) {
        (address, target, port) = (floating.address.description, floating.target.description, floating.port)
    }

    func read(_ router: DevicePath) throws(APIError) -> FloatingAddress {
        let reader = ResourceReader(object: "\(router) floating address \(address)")
        return FloatingAddress(
            try reader.address(address, "address"), target: try reader.address(target, "target"),
            port: try port.map { name throws(APIError) in try reader.name(name, "port") })
    }
}

/// A group of ports in JSON. Which ports are in it, the ports say.
public struct PortGroupResource: Codable, Sendable, Equatable {
    /// `tenant/group`.
    public var name: String?
    /// Whether its ports stand in for each other.
    public var stateful: Bool?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ group: PortGroup, _ version: ClusterState.Version?) {
        name = group.path.description
        stateful = group.isStateful
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        .portGroup(PortGroup(path: path, isStateful: stateful ?? false))
    }
}

/// A group of addresses in JSON.
public struct AddressGroupResource: Codable, Sendable, Equatable {
    /// `tenant/group`.
    public var name: String?
    /// Its members: addresses and networks.
    public var addresses: [String]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ group: AddressGroup, _ version: ClusterState.Version?) {
        name = group.path.description
        addresses = group.members.sorted().map(\.description)
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        let reader = ResourceReader(object: "address group \(path)")
        var group = AddressGroup(path: path)
        for text in addresses ?? [] {
            if let address = IPAddress(text) {
                group.members.insert(Prefix(address, length: address.family.width))
            } else {
                group.members.insert(try reader.prefix(text, "member"))
            }
        }
        return .addressGroup(group)
    }
}
