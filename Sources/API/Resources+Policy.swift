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

/// A rule in JSON.
public struct RuleResource: Codable, Sendable, Equatable {
    /// Names the rule in its chain; its place unless said.
    public var id: String?
    /// `accept`, `drop`, `reject`, `return`, `continue`, `log` or `jump CHAIN`.
    public var action: String
    /// Which packets: field and values, `not` before a field that is inverted.
    public var match: [String: [String]]?

    init(_ rule: Rule) {
        id = rule.id
        action = rule.action.description
        let fields = rule.condition.fields
        match = fields.isEmpty ? nil : Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.values) })
    }

    func read(_ chain: String, _ place: Int) throws(APIError) -> Rule {
        let id = id ?? "\(place)"
        let object = "\(chain) rule \(id)"
        guard isValidName(id) else {
            throw .invalid(object, "id is \"\(id)\"", "use up to 63 letters, digits, -, _ and .")
        }
        guard let action = Rule.Action(action) else {
            throw .invalid(
                object, "action is \"\(action)\"", "use accept, drop, reject, return, continue, log or jump CHAIN")
        }
        let fields = (match ?? [:]).sorted { $0.key < $1.key }.map { (name: $0.key, values: $0.value) }
        do throws(RuleMistake) {
            return Rule(id: id, condition: try Condition(reading: fields), action: action)
        } catch { throw .invalid(object, "\(error.field) \(error.reason)", error.remedy) }
    }
}

/// A group of ports in JSON. Which ports are in it, the ports say.
public struct PortGroupResource: Codable, Sendable, Equatable {
    /// `tenant/group`.
    public var name: String?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ group: PortGroup, _ version: ClusterState.Version?) {
        name = group.path.description
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject { .portGroup(PortGroup(path: path)) }
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
