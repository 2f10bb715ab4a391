// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Chains, groups, and what filters devices and ports.
extension ManifestReader {
    mutating func readAddressGroups(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "address group") {
            var group = AddressGroup(path: DevicePath(tenant: tenant, name: entry.key))
            let object = "address group \(group.path)"
            yaml.note(object, at: entry.node)
            for item in yaml.items(entry.value) {
                guard let text = yaml.text(item, object, "an address") else { continue }
                if let address = IPAddress(text) {
                    group.members.insert(Prefix(address, length: address.family.width))
                } else if let prefix = yaml.prefix(item, object, "a member") {
                    group.members.insert(prefix)
                }
            }
            topology.addressGroups[group.path] = group
        }
    }

    mutating func readPortGroups(_ tenant: String, _ node: Node) {
        for item in yaml.items(node) {
            guard let name = yaml.text(item, tenant, "portGroups"), yaml.name(name, item, "port group") else {
                continue
            }
            let path = DevicePath(tenant: tenant, name: name)
            yaml.note("port group \(path)", at: item)
            topology.portGroups[path] = PortGroup(path: path)
        }
    }

    mutating func readChains(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "chain") {
            var chain = Chain(path: DevicePath(tenant: tenant, name: entry.key))
            let object = "chain \(chain.path)"
            yaml.note(object, at: entry.node)
            for (place, item) in yaml.items(entry.value).enumerated() {
                if let rule = readRule(item, object, place + 1) { chain.rules.append(rule) }
            }
            topology.chains[chain.path] = chain
        }
    }

    /// A rule is called by its place unless it has an id.
    private mutating func readRule(_ node: Node, _ chain: String, _ place: Int) -> Rule? {
        let known = ["id", "action", "inverted"] + ConditionField.names
        var object = "\(chain) rule \(place)"
        var id = "\(place)"
        var action: (node: Node, text: String)?
        var fields: [(name: String, values: [String])] = []
        var nodes: [String: Node] = [:]
        for field in yaml.entries(node, object, known: known) {
            switch field.key {
            case "id":
                guard let text = yaml.text(field.value, object, "id"), yaml.name(text, field.value, "rule") else {
                    continue
                }
                id = text
                object = "\(chain) rule \(id)"
            case "action":
                if let text = yaml.text(field.value, object, "action") { action = (field.value, text) }
            default:
                nodes[field.key] = field.value
                var values: [String] = []
                for item in yaml.items(field.value) {
                    if let text = yaml.text(item, object, field.key) { values.append(text) }
                }
                fields.append((field.key, values))
            }
        }
        yaml.note(object, at: node)
        let condition: Condition
        do throws(RuleMistake) { condition = try Condition(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
        let actions = "accept, drop, reject, return, continue, log or jump CHAIN"
        guard let action else {
            yaml.mistake(node, object, "has no action", "write action: \(actions)")
            return nil
        }
        guard let meant = Rule.Action(action.text) else {
            yaml.mistake(action.node, object, "action is \"\(action.text)\"", "use \(actions)")
            return nil
        }
        return Rule(id: id, condition: condition, action: meant)
    }

    /// `inbound` or `outbound` of a device or port.
    mutating func readFilter(_ name: String, _ node: Node, _ object: String, _ filters: inout Filters) {
        guard let chain = yaml.text(node, object, name), yaml.name(chain, node, "chain") else { return }
        if name == "inbound" { filters.inbound = chain } else { filters.outbound = chain }
    }

    mutating func readGroups(_ node: Node, _ object: String) -> Set<String> {
        var groups: Set<String> = []
        for item in yaml.items(node) {
            if let name = yaml.text(item, object, "groups"), yaml.name(name, item, "port group") { groups.insert(name) }
        }
        return groups
    }

    /// Ports and devices that rules name are drawn, or were there before: a name that is mistyped would never match.
    mutating func checkNames(_ known: Topology) {
        for chain in topology.chains.values.sorted(by: { $0.path < $1.path }) {
            let tenant = chain.path.tenant
            for rule in chain.rules {
                let object = "chain \(chain.path) rule \(rule.id)"
                let ports = (rule.condition.inPorts?.value ?? []).union(rule.condition.outPorts?.value ?? [])
                for port in ports.sorted() {
                    guard let path = PortPath("\(tenant)/\(port)"), topology.ports[path] == nil,
                        known.ports[path] == nil
                    else { continue }
                    let all = topology.ports.keys.filter { $0.device.tenant == tenant }
                        .map { "\($0.device.name)/\($0.name)" }
                    yaml.mistake(
                        Problem(object, "port \(port) does not exist", remedy: yaml.suggestion(port, all.sorted())))
                }
                guard let device = rule.condition.traversed?.value else { continue }
                let path = DevicePath(tenant: tenant, name: device)
                if topology.bridges[path] == nil, topology.routers[path] == nil {
                    yaml.mistake(
                        Problem(
                            object, "device \(device) does not exist", remedy: "name a bridge or router of \(tenant)"))
                }
            }
        }
    }
}
