// SPDX-License-Identifier: Apache-2.0
import Topology

/// A service that traffic of a port goes through, in JSON.
public struct ServiceResource: Codable, Sendable, Equatable {
    /// The service's port as `tenant/bridge/port`, or two: the one on the machine's side, and the one on the network's.
    public var through: [String]
    /// The VLAN that frames carry there and back; none unless said.
    public var vlan: Int?
    /// `in`, `out` or `both`; both unless said.
    public var direction: String?
    /// Which packets, as conditions of rules; all unless said.
    public var match: [[String: [String]]]?
    /// `open` or `closed`: whether packets go past the service while it is down; closed unless said.
    public var fail: String?

    init(_ hop: ServiceHop) {
        through = hop.ports.map(\.description)
        vlan = hop.vlan == 0 ? nil : Int(hop.vlan)
        direction = hop.direction.rawValue
        match = hop.conditions.isEmpty ? nil : hop.conditions.map { byName($0.fields) }
        fail = hop.isOpen ? "open" : "closed"
    }

    func hop(_ object: String, _ tenant: String) throws(APIError) -> ServiceHop {
        var fields: [String: [String]] = ["through": through]
        if let vlan { fields["vlan"] = ["\(vlan)"] }
        if let direction { fields["direction"] = [direction] }
        if let fail { fields["fail"] = [fail] }
        var hop = try readFields(fields, of: object) { list throws(RuleMistake) in
            try ServiceHop(reading: list, tenant: tenant)
        }
        hop.conditions = try readConditions(match, of: object)
        return hop
    }
}

/// What services look like in JSON.
extension Schemas {
    static let service = Schema.named(
        "PortService",
        [
            Property(
                "through", .array(.string()), required: true,
                "The service's port as `tenant/bridge/port`, or two: the one on the machine's side, and the one on the network's."
            ),
            Property("vlan", .integer(1...4094), "The VLAN that frames carry there and back; none unless said."),
            Property(
                "direction", .string(values: Mirror.Direction.allCases.map(\.rawValue)),
                "Whether what the machine sends goes through it, what it gets, or both; both unless said."),
            Property(
                "match", .array(.map(.array(.string()))),
                "Which packets: those that one of these conditions holds for; all unless said."),
            Property(
                "fail", .string(values: ["open", "closed"]),
                "Whether packets go past the service while it is down; closed unless said."),
        ])
}
