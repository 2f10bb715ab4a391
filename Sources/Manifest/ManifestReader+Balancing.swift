// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Pools of servers, and the addresses behind which they are.
extension ManifestReader {
    mutating func readPools(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "pool") {
            var pool = Pool(path: DevicePath(tenant: tenant, name: entry.key))
            let object = "pool \(pool.path)"
            yaml.note(object, at: entry.node)
            for field in yaml.entries(entry.value, object, known: ["algorithm", "persistence", "monitor", "members"]) {
                switch field.key {
                case "algorithm":
                    guard let text = yaml.text(field.value, object, "algorithm") else { continue }
                    if let algorithm = Pool.Algorithm(rawValue: text) {
                        pool.algorithm = algorithm
                    } else {
                        let known = Pool.Algorithm.allCases.map(\.rawValue).joined(separator: ", ")
                        yaml.mistake(field.value, object, "algorithm is \"\(text)\"", "use \(known)")
                    }
                case "persistence":
                    let longest = Int(Pool.longestPersistence)
                    pool.persistence = yaml.number(field.value, object, "persistence", 1...longest).map { UInt32($0) }
                case "monitor": pool.monitor = readMonitor(field.value, "\(object) monitor")
                default:
                    for (place, item) in yaml.items(field.value).enumerated() {
                        if let member = readMember(item, "\(object) member \(place + 1)") {
                            yaml.note("\(object) member \(member.name)", at: item)
                            pool.members.append(member)
                        }
                    }
                }
            }
            topology.pools[pool.path] = pool
        }
    }

    /// How members are checked: its kind alone, or a mapping.
    private mutating func readMonitor(_ node: Node, _ object: String) -> HealthMonitor? {
        var fields: [(name: String, values: [String])] = []
        var nodes: [String: Node] = [:]
        if node.mapping == nil {
            guard let text = yaml.text(node, object, "type") else { return nil }
            fields = [("type", [text])]
        } else {
            (fields, nodes) = readFields(node, object, HealthMonitor.fields)
        }
        yaml.note(object, at: node)
        do throws(RuleMistake) { return try HealthMonitor(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    private mutating func readMember(_ node: Node, _ object: String) -> PoolMember? {
        if node.mapping == nil {
            return yaml.address(node, object, "address").map { PoolMember($0) }
        }
        let (fields, nodes) = readFields(node, object, PoolMember.fields)
        do throws(RuleMistake) { return try PoolMember(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// `vips` of a router: one is called by its place unless it has an id.
    mutating func readVirtualAddresses(_ node: Node, _ router: DevicePath) -> [VirtualAddress] {
        var list: [VirtualAddress] = []
        for (place, item) in yaml.items(node).enumerated() {
            let own = "\(router) virtual address \(place + 1)"
            var (fields, nodes) = readFields(item, own, ["id"] + VirtualAddress.fields)
            var id = "\(place + 1)"
            if let at = fields.firstIndex(where: { $0.name == "id" }) {
                guard let text = fields.remove(at: at).values.first,
                    yaml.name(text, nodes["id"] ?? item, "virtual address")
                else { continue }
                id = text
            }
            let object = "\(router) virtual address \(id)"
            yaml.note(object, at: item)
            do throws(RuleMistake) { list.append(try VirtualAddress(reading: fields, id: id)) } catch {
                yaml.mistake(nodes[error.field] ?? item, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
        return list
    }

    /// Reads what is said field by field; `nil` where there is a mistake in it, which is told.
    mutating func readSaid<Value>(
        _ node: Node, _ object: String, _ known: [String],
        _ read: ([(name: String, values: [String])]) throws(RuleMistake) -> Value
    ) -> Value? {
        let (fields, nodes) = readFields(node, object, known)
        yaml.note(object, at: node)
        do throws(RuleMistake) { return try read(fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// Fields with their values as they stand, and where each is.
    mutating func readFields(
        _ node: Node, _ object: String, _ known: [String]
    ) -> (fields: [(name: String, values: [String])], nodes: [String: Node]) {
        var fields: [(name: String, values: [String])] = []
        var nodes: [String: Node] = [:]
        for field in yaml.entries(node, object, known: known) {
            nodes[field.key] = field.value
            var values: [String] = []
            for item in yaml.items(field.value) {
                if let text = yaml.text(item, object, field.key) { values.append(text) }
            }
            fields.append((field.key, values))
        }
        return (fields, nodes)
    }
}
