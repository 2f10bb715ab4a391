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

    /// What operators set for a tenant.
    mutating func readSettings(_ tenant: String, _ part: String, _ node: Node) {
        let object = "tenant \(tenant)"
        yaml.note(object, at: node)
        var settings = topology.settings[tenant] ?? TenantSettings(name: tenant)
        let known =
            part == "limits"
            ? TenantSettings.Limit.allCases.map(\.rawValue) : TenantSettings.Lifetime.allCases.map(\.rawValue)
        let largest = part == "limits" ? TenantSettings.largestLimit : TenantSettings.longestLifetime
        for field in yaml.entries(node, object, known: known) {
            guard let value = yaml.number(field.value, object, field.key, 1...Int(largest)) else { continue }
            if let limit = TenantSettings.Limit(rawValue: field.key) { settings.limits[limit] = UInt32(value) }
            if let lifetime = TenantSettings.Lifetime(rawValue: field.key) {
                settings.lifetimes[lifetime] = UInt32(value)
            }
        }
        topology.settings[tenant] = settings
        others.insert(.tenant(tenant))
    }

    mutating func readSecurityGroups(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "security group") {
            var group = SecurityGroup(path: DevicePath(tenant: tenant, name: entry.key))
            let object = "security group \(group.path)"
            yaml.note(object, at: entry.node)
            for list in yaml.entries(entry.value, object, known: ["in", "out"]) {
                for (place, item) in yaml.items(list.value).enumerated() {
                    guard let rule = readSecurityRule(item, "\(object) \(list.key)", place + 1) else { continue }
                    if list.key == "in" { group.inward.append(rule) } else { group.outward.append(rule) }
                }
            }
            topology.securityGroups[group.path] = group
        }
    }

    private mutating func readSecurityRule(_ node: Node, _ list: String, _ place: Int) -> SecurityRule? {
        var object = "\(list) rule \(place)"
        var id = "\(place)"
        var fields: [(name: String, values: [String])] = []
        var nodes: [String: Node] = [:]
        for field in yaml.entries(node, object, known: SecurityRule.names) {
            if field.key == "id" {
                guard let text = yaml.text(field.value, object, "id"), yaml.name(text, field.value, "rule") else {
                    continue
                }
                id = text
                object = "\(list) rule \(id)"
                continue
            }
            nodes[field.key] = field.value
            var values: [String] = []
            for item in yaml.items(field.value) {
                if let text = yaml.text(item, object, field.key) { values.append(text) }
            }
            fields.append((field.key, values))
        }
        yaml.note(object, at: node)
        do throws(RuleMistake) { return try SecurityRule(reading: fields, id: id) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    mutating func readAllowed(_ node: Node, _ object: String) -> Set<AllowedAddress> {
        var list: Set<AllowedAddress> = []
        for item in yaml.items(node) {
            guard let text = yaml.text(item, object, "allowed") else { continue }
            if let address = AllowedAddress(text) {
                list.insert(address)
            } else {
                yaml.mistake(
                    item, object, "allowed \"\(text)\" is no address",
                    "write 10.0.0.9, 10.0.9.0/24 or \"10.0.0.9 02:00:00:00:00:09\"")
            }
        }
        return list
    }

    mutating func readPortGroups(_ tenant: String, _ node: Node) {
        for item in yaml.items(node) {
            var isStateful = false
            var name: String?
            if item.mapping != nil {
                for field in yaml.entries(item, "port group of \(tenant)", known: ["name", "stateful"]) {
                    switch field.key {
                    case "name": name = yaml.text(field.value, tenant, "name")
                    default: isStateful = yaml.bool(field.value, "port group of \(tenant)", "stateful") ?? false
                    }
                }
                if name == nil {
                    yaml.mistake(item, tenant, "a port group has no name", "write { name: NAME, stateful: true }")
                }
            } else {
                name = yaml.text(item, tenant, "portGroups")
            }
            guard let name, yaml.name(name, item, "port group") else { continue }
            let path = DevicePath(tenant: tenant, name: name)
            yaml.note("port group \(path)", at: item)
            topology.portGroups[path] = PortGroup(path: path, isStateful: isStateful)
        }
    }

    mutating func readChains(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "chain") {
            var chain = Chain(path: DevicePath(tenant: tenant, name: entry.key))
            let object = "chain \(chain.path)"
            yaml.note(object, at: entry.node)
            for (place, item) in yaml.items(entry.value).enumerated() {
                let forms = "accept, drop, reject, return, continue, log or jump CHAIN"
                if let rule = readRule(item, object, place + 1, forms, Rule.Action.init) {
                    chain.rules.append(Rule(id: rule.id, condition: rule.condition, action: rule.action))
                }
            }
            topology.chains[chain.path] = chain
        }
    }

    /// The rules of `nat` of a router.
    mutating func readTranslations(_ node: Node, _ router: DevicePath) -> [TranslationRule] {
        var rules: [TranslationRule] = []
        for (place, item) in yaml.items(node).enumerated() {
            let rule = readRule(
                item, "\(router) nat", place + 1, TranslationRule.Action.forms, TranslationRule.Action.init)
            if let rule {
                rules.append(TranslationRule(id: rule.id, condition: rule.condition, action: rule.action))
            }
        }
        return rules
    }

    /// `floating` of a router: addresses with the machines that they stand for.
    mutating func readFloating(_ node: Node, _ router: DevicePath) -> [FloatingAddress] {
        var list: [FloatingAddress] = []
        for entry in yaml.entries(node, router.description) {
            let object = "\(router) floating address \(entry.key)"
            yaml.note(object, at: entry.node)
            guard let address = yaml.address(entry.node, object, "the address") else { continue }
            var target: Node? = entry.value
            var port: String?
            if case .mapping = entry.value {
                target = nil
                for field in yaml.entries(entry.value, object, known: ["target", "port"]) {
                    if field.key == "target" {
                        target = field.value
                    } else {
                        port = yaml.text(field.value, object, "port")
                    }
                }
            }
            guard let target else {
                yaml.mistake(entry.value, object, "stands for nothing", "say target: 10.0.0.12")
                continue
            }
            guard let own = yaml.address(target, object, "target") else { continue }
            list.append(FloatingAddress(address, target: own, port: port))
        }
        return list.sorted { $0.address < $1.address }
    }

    /// A rule is called by its place unless it has an id.
    private mutating func readRule<Action>(
        _ node: Node, _ list: String, _ place: Int, _ forms: String, _ read: (String) -> Action?
    ) -> (id: String, condition: Condition, action: Action)? {
        let known = ["id", "action", "inverted"] + ConditionField.names
        var object = "\(list) rule \(place)"
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
                object = "\(list) rule \(id)"
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
        guard let action else {
            yaml.mistake(node, object, "has no action", "write action: \(forms)")
            return nil
        }
        guard let meant = read(action.text) else {
            yaml.mistake(action.node, object, "action is \"\(action.text)\"", "use \(forms)")
            return nil
        }
        return (id, condition, meant)
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
            for rule in chain.rules {
                checkNames(in: rule.condition, "chain \(chain.path) rule \(rule.id)", chain.path.tenant, known)
            }
        }
        for router in topology.routers.values.sorted(by: { $0.path < $1.path }) {
            for rule in router.translation.rules {
                checkNames(in: rule.condition, "\(router.path) nat rule \(rule.id)", router.path.tenant, known)
            }
        }
    }

    private mutating func checkNames(
        in condition: Condition, _ object: String, _ tenant: String, _ known: Topology
    ) {
        let ports = (condition.inPorts?.value ?? []).union(condition.outPorts?.value ?? [])
        for port in ports.sorted() {
            guard let path = PortPath("\(tenant)/\(port)"), topology.ports[path] == nil, known.ports[path] == nil
            else { continue }
            let all = topology.ports.keys.filter { $0.device.tenant == tenant }.map { "\($0.device.name)/\($0.name)" }
            yaml.mistake(Problem(object, "port \(port) does not exist", remedy: yaml.suggestion(port, all.sorted())))
        }
        guard let device = condition.traversed?.value else { return }
        let path = DevicePath(tenant: tenant, name: device)
        if topology.bridges[path] == nil, topology.routers[path] == nil {
            yaml.mistake(
                Problem(object, "device \(device) does not exist", remedy: "name a bridge or router of \(tenant)"))
        }
    }
}
