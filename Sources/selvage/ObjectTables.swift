// SPDX-License-Identifier: Apache-2.0
import Foundation
import Topology

/// Objects of each kind as tables.
extension Objects {
    static func table(_ kind: ObjectKey.Kind, _ objects: [[String: Any]]) {
        func text(_ object: [String: Any], _ name: String) -> String {
            switch object[name] {
            case let list as [Any]: list.map { "\($0)" }.joined(separator: ", ")
            case let value?: "\(value)"
            case nil: ""
            }
        }
        func state(_ object: [String: Any]) -> String { (object["enabled"] as? Bool ?? true) ? "yes" : "no" }
        switch kind {
        case .bridge:
            LabPrinter.table(
                ["NAME", "ENABLED", "SUBNETS", "REVISION"],
                objects.map { [text($0, "name"), state($0), text($0, "subnets"), text($0, "revision")] })
        case .router:
            LabPrinter.table(
                ["NAME", "ENABLED", "ROUTES", "REVISION"],
                objects.map {
                    [text($0, "name"), state($0), "\(($0["routes"] as? [Any])?.count ?? 0)", text($0, "revision")]
                })
        case .port:
            LabPrinter.table(
                ["NAME", "ENABLED", "ADDRESSES", "WHERE", "KEY", "REVISION"],
                objects.map { port in
                    let host = text(port, "host")
                    let place = host.isEmpty ? text(port, "peer") : "\(host) \(text(port, "interface"))"
                    return [
                        text(port, "name"), state(port), text(port, "addresses"), place, text(port, "tunnelKey"),
                        text(port, "revision"),
                    ]
                })
        case .host:
            LabPrinter.table(
                ["NAME", "TUNNEL ADDRESSES", "RATE", "REVISION"],
                objects.map { host in
                    let zones = (host["tunnelAddresses"] as? [String: Any] ?? [:]).sorted { $0.key < $1.key }
                    return [
                        text(host, "name"), zones.map { "\($0.key) \($0.value)" }.joined(separator: ", "),
                        text(host, "rate"), text(host, "revision"),
                    ]
                })
        case .chain:
            func rules(_ object: [String: Any]) -> [[String: Any]] { object["rules"] as? [[String: Any]] ?? [] }
            // One chain is told rule by rule.
            if objects.count == 1 {
                LabPrinter.table(
                    ["RULE", "ACTION", "MATCH"],
                    rules(objects[0]).map { rule in
                        let match = (rule["match"] as? [String: [String]] ?? [:]).sorted { $0.key < $1.key }
                        return [
                            text(rule, "id"), text(rule, "action"),
                            match.map { "\($0.key) \($0.value.joined(separator: " "))" }.joined(separator: ", "),
                        ]
                    })
            } else {
                LabPrinter.table(
                    ["NAME", "RULES", "REVISION"],
                    objects.map { [text($0, "name"), "\(rules($0).count)", text($0, "revision")] })
            }
        case .tenant:
            func list(_ object: [String: Any], _ key: String) -> String {
                let values = object[key] as? [String: Any] ?? [:]
                return values.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            }
            LabPrinter.table(
                ["NAME", "LIMITS", "LIFETIMES", "REVISION"],
                objects.map { [text($0, "name"), list($0, "limits"), list($0, "lifetimes"), text($0, "revision")] })
        case .mirror:
            LabPrinter.table(
                ["NAME", "FROM", "DIRECTION", "TO", "STATE", "REVISION"],
                objects.map { mirror in
                    let from = mirror["from"] as? [String] ?? []
                    let shown = from.prefix(4).joined(separator: ", ") + (from.count > 4 ? ", ..." : "")
                    return [
                        text(mirror, "name"), shown, text(mirror, "direction"), text(mirror, "to"),
                        mirror["enabled"] as? Bool == false ? "off" : "on", text(mirror, "revision"),
                    ]
                })
        case .pool:
            func members(_ pool: [String: Any]) -> [[String: Any]] { pool["members"] as? [[String: Any]] ?? [] }
            if objects.count == 1 {
                LabPrinter.table(
                    ["MEMBER", "PORT", "WEIGHT", "STATE"],
                    members(objects[0]).map {
                        [text($0, "address"), text($0, "port"), text($0, "weight"), text($0, "state")]
                    })
            } else {
                LabPrinter.table(
                    ["NAME", "ALGORITHM", "PERSISTENCE", "MEMBERS", "REVISION"],
                    objects.map {
                        [
                            text($0, "name"), text($0, "algorithm"), text($0, "persistence"), "\(members($0).count)",
                            text($0, "revision"),
                        ]
                    })
            }
        case .securityGroup:
            func rules(_ group: [String: Any], _ way: String) -> [[String: Any]] {
                group[way] as? [[String: Any]] ?? []
            }
            if objects.count == 1 {
                LabPrinter.table(
                    ["WAY", "ID", "LETS PASS"],
                    ["in", "out"].flatMap { way in
                        rules(objects[0], way).map { rule in
                            let match = (rule["match"] as? [String: [String]] ?? [:]).sorted { $0.key < $1.key }
                            return [
                                way, text(rule, "id"),
                                match.isEmpty
                                    ? "everything"
                                    : match.map { "\($0.key) \($0.value.joined(separator: " "))" }.joined(
                                        separator: ", "),
                            ]
                        }
                    })
            } else {
                LabPrinter.table(
                    ["NAME", "IN", "OUT", "REVISION"],
                    objects.map {
                        [
                            text($0, "name"), "\(rules($0, "in").count)",
                            rules($0, "out").isEmpty ? "everything" : "\(rules($0, "out").count)", text($0, "revision"),
                        ]
                    })
            }
        case .portGroup:
            LabPrinter.table(
                ["NAME", "STATEFUL", "REVISION"],
                objects.map {
                    [text($0, "name"), $0["stateful"] as? Bool == true ? "yes" : "no", text($0, "revision")]
                })
        case .addressGroup:
            LabPrinter.table(
                ["NAME", "MEMBERS", "ADDRESSES", "REVISION"],
                objects.map { group in
                    let members = group["addresses"] as? [String] ?? []
                    let shown = members.prefix(4).joined(separator: ", ") + (members.count > 4 ? ", ..." : "")
                    return [text(group, "name"), "\(members.count)", shown, text(group, "revision")]
                })
        case .zone:
            LabPrinter.table(
                ["NAME", "TUNNEL", "MTU", "REVISION"],
                objects.map { [text($0, "name"), text($0, "tunnel"), text($0, "mtu"), text($0, "revision")] })
        }
    }
}

extension OutputOptions {
    /// Shows JSON that came from a node.
    func showJSON(_ value: Any, _ table: () -> Void) throws {
        switch output {
        case .table: table()
        case .yaml: print(YAMLText.write(value), terminator: "")
        case .json:
            let data = try JSONSerialization.data(
                withJSONObject: value, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
            print(String(decoding: data, as: UTF8.self))
        }
    }
}
