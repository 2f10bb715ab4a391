// SPDX-License-Identifier: Apache-2.0
import Store
import Topology
import Wire

/// A security group in JSON. Which ports are in it, the ports say.
public struct SecurityGroupResource: Codable, Sendable, Equatable {
    /// `tenant/group`.
    public var name: String?
    /// What its machines may get.
    public var inward: [SecurityRuleResource]?
    /// What its machines may send; anything unless said.
    public var outward: [SecurityRuleResource]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    enum CodingKeys: String, CodingKey {
        case name, created, revision
        case inward = "in"
        case outward = "out"
    }

    init(_ group: SecurityGroup, _ version: ClusterState.Version?) {
        name = group.path.description
        inward = group.inward.map(SecurityRuleResource.init)
        outward = group.outward.isEmpty ? nil : group.outward.map(SecurityRuleResource.init)
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        var group = SecurityGroup(path: path)
        for rule in inward ?? [] {
            group.inward.append(try rule.read("security group \(path) in", group.inward.count + 1))
        }
        for rule in outward ?? [] {
            group.outward.append(try rule.read("security group \(path) out", group.outward.count + 1))
        }
        return .securityGroup(group)
    }
}

/// A rule of a security group in JSON.
public struct SecurityRuleResource: Codable, Sendable, Equatable {
    /// Names the rule in its list; its place unless said.
    public var id: String?
    /// What it lets pass, as in a manifest: field and values.
    public var match: [String: [String]]?

    init(_ rule: SecurityRule) {
        id = rule.id
        let fields = rule.written
        match = fields.isEmpty ? nil : Dictionary(uniqueKeysWithValues: fields.map { ($0.name, $0.values) })
    }

    func read(_ list: String, _ place: Int) throws(APIError) -> SecurityRule {
        let id = id ?? "\(place)"
        let object = "\(list) rule \(id)"
        guard isValidName(id) else {
            throw .invalid(object, "id is \"\(id)\"", "use up to 63 letters, digits, -, _ and .")
        }
        let fields = (match ?? [:]).sorted { $0.key < $1.key }.map { (name: $0.key, values: $0.value) }
        do throws(RuleMistake) { return try SecurityRule(reading: fields, id: id) } catch {
            throw .invalid(object, "\(error.field) \(error.reason)", error.remedy)
        }
    }
}
