// SPDX-License-Identifier: Apache-2.0
import Store
import Topology

/// A mirror in JSON.
public struct MirrorResource: Codable, Sendable, Equatable {
    /// `tenant/mirror`.
    public var name: String?
    /// Whether it copies; yes unless said.
    public var enabled: Bool?
    /// Ports as `device/port`, and devices.
    public var from: [String]?
    /// `in`, `out` or `both`; both unless said.
    public var direction: String?
    /// `tenant/bridge/port`, `gre ADDRESS key NUMBER`, `erspan ADDRESS session NUMBER` or `ipfix ADDRESS port NUMBER`.
    public var to: String?
    /// Which packets, as conditions of rules; all unless said.
    public var match: [[String: [String]]]?
    /// Bytes of each frame that are copied; all unless said.
    public var length: Int?
    /// Bits a second of all copies of one host, as in `100M`.
    public var limit: String?
    /// Of so many packets one is copied; where flows are told of 100 unless said, else 1.
    public var sample: Int?
    /// Seconds after its last packet when a flow is told of; 15 unless said.
    public var idle: Int?
    /// Seconds after which a flow is told of that goes on; 60 unless said.
    public var active: Int?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ mirror: Mirror, _ version: ClusterState.Version?) {
        name = mirror.path.description
        enabled = mirror.isEnabled
        from = mirror.sources.sorted()
        direction = mirror.direction.rawValue
        to = mirror.target.description
        match = mirror.conditions.isEmpty ? nil : mirror.conditions.map { byName($0.fields) }
        length = mirror.length.map { Int($0) }
        limit = mirror.limit?.text
        sample = mirror.sample.map { Int($0) }
        if mirror.target.isRecord { (idle, active) = (Int(mirror.times.idle), Int(mirror.times.active)) }
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        var fields: [String: [String]] = ["from": from ?? []]
        if let enabled { fields["enabled"] = ["\(enabled)"] }
        if let direction { fields["direction"] = [direction] }
        if let to { fields["to"] = [to] }
        if let length { fields["length"] = ["\(length)"] }
        if let limit { fields["limit"] = [limit] }
        for (name, number) in [("sample", sample), ("idle", idle), ("active", active)] {
            if let number { fields[name] = ["\(number)"] }
        }
        var mirror = try readFields(fields, of: "mirror \(path)") { list throws(RuleMistake) in
            try Mirror(reading: list, path: path)
        }
        mirror.conditions = try readConditions(match, of: "mirror \(path)")
        return .mirror(mirror)
    }
}

/// Conditions, one of which has to hold.
func readConditions(_ match: [[String: [String]]]?, of object: String) throws(APIError) -> [Condition] {
    var conditions: [Condition] = []
    for (place, condition) in (match ?? []).enumerated() {
        conditions.append(
            try readFields(condition, of: "\(object) match \(place + 1)") { list throws(RuleMistake) in
                try Condition(reading: list)
            })
    }
    return conditions
}

/// What mirrors look like in JSON.
extension Schemas {
    static var mirror: Schema {
        .named(
            "Mirror",
            [
                Property("name", .name(2), "`tenant/mirror`."),
                Property("enabled", .boolean, "Whether it copies; yes unless said."),
                Property(
                    "from", .array(.string()), required: true,
                    "What is copied: ports as `device/port`, and devices, of which all that comes into them is meant."),
                Property(
                    "direction", .string(values: Mirror.Direction.allCases.map(\.rawValue)),
                    "Of ports, whether what comes into the device by them, what leaves it, or both; both unless said."),
                Property(
                    "to", .string(), required: true,
                    "Where copies go: `tenant/bridge/port`, `gre ADDRESS key NUMBER`, `erspan ADDRESS session NUMBER`; or who is told of flows: `ipfix ADDRESS port NUMBER`."
                ),
                Property(
                    "match", .array(.map(.array(.string()))),
                    "Which packets: those that one of these conditions holds for; all unless said."),
                Property(
                    "length", .integer(Int(Mirror.lengths.lowerBound)...Int(Mirror.lengths.upperBound)),
                    "Bytes of each frame that are copied; all unless said."),
                Property("limit", .string(), "Bits a second of all copies of one host, as in 100M."),
                Property(
                    "sample", .integer(Int(Mirror.samples.lowerBound)...Int(Mirror.samples.upperBound)),
                    "Of so many packets one is copied, by chance; where flows are told of \(Mirror.usualSample) unless said, else 1."
                ),
                Property(
                    "idle", .integer(1...3600), "Seconds after its last packet when a flow is told of; 15 unless said."),
                Property(
                    "active", .integer(1...3600), "Seconds after which a flow is told of that goes on; 60 unless said."),
            ] + versions())
    }
}
