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

/// What operators set for a tenant, in JSON.
public struct TenantResource: Codable, Sendable, Equatable {
    /// The tenant.
    public var name: String?
    /// Bounds of what one host keeps for it.
    public var limits: [String: Int]?
    /// How long its connections are known after their last packet, seconds.
    public var lifetimes: [String: Int]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ settings: TenantSettings, _ version: ClusterState.Version?) {
        name = settings.name
        limits = Dictionary(uniqueKeysWithValues: settings.limits.map { ($0.key.rawValue, Int($0.value)) })
        lifetimes = Dictionary(uniqueKeysWithValues: settings.lifetimes.map { ($0.key.rawValue, Int($0.value)) })
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ name: String) throws(APIError) -> TopologyObject {
        var settings = TenantSettings(name: name)
        func number(_ key: String, _ value: Int) throws(APIError) -> UInt32 {
            guard let number = UInt32(exactly: value) else {
                throw .invalid("tenant \(name)", "\(key) is \(value)", "use a number from 1")
            }
            return number
        }
        for (key, value) in (limits ?? [:]).sorted(by: { $0.key < $1.key }) {
            guard let limit = TenantSettings.Limit(rawValue: key) else {
                let known = TenantSettings.Limit.allCases.map(\.rawValue).joined(separator: ", ")
                throw .invalid("tenant \(name)", "\(key) is no limit", "use \(known)")
            }
            settings.limits[limit] = try number(key, value)
        }
        for (key, value) in (lifetimes ?? [:]).sorted(by: { $0.key < $1.key }) {
            guard let lifetime = TenantSettings.Lifetime(rawValue: key) else {
                let known = TenantSettings.Lifetime.allCases.map(\.rawValue).joined(separator: ", ")
                throw .invalid("tenant \(name)", "\(key) is no lifetime", "use \(known)")
            }
            settings.lifetimes[lifetime] = try number(key, value)
        }
        return .tenant(settings)
    }
}
