// SPDX-License-Identifier: Apache-2.0
import Wire

/// What can be wrong with security groups.
extension Topology {
    /// Whether a name is that of a group of ports, with rules or without.
    func isPortGroup(_ name: String, of tenant: String) -> Bool {
        let path = DevicePath(tenant: tenant, name: name)
        return portGroups[path] != nil || securityGroups[path] != nil
    }

    func check(_ group: SecurityGroup, _ found: inout [Problem]) {
        let tenant = group.path.tenant
        if portGroups[group.path] != nil {
            found.append(
                Problem(
                    "security group \(group.path)", "is a port group already",
                    remedy: "both share one set of names: choose another"))
        }
        for (word, rules) in [("in", group.inward), ("out", group.outward)] {
            let list = "security group \(group.path) \(word)"
            if rules.count > SecurityGroup.rulesPerGroup {
                found.append(
                    Problem(
                        list, "has \(rules.count) rules, \(SecurityGroup.rulesPerGroup) at most",
                        remedy: "use address groups, or several groups"))
            }
            var ids: Set<String> = []
            for rule in rules {
                let name = "\(list) rule \(rule.id)"
                if !ids.insert(rule.id).inserted {
                    found.append(Problem(name, "is there twice", remedy: "give each rule of a list an id of its own"))
                }
                if case .group(let other) = rule.remote,
                    securityGroups[DevicePath(tenant: tenant, name: other)] == nil
                {
                    found.append(
                        Problem(
                            name, "security group \(other) does not exist",
                            remedy: "add it to tenant \(tenant), or name another"))
                    continue
                }
                // Of what a chain can ask for, this is a part.
                var condition = rule.condition(isInward: word == "in") { _ in "" }
                if case .group = rule.remote {
                    (condition.ingressPortGroup, condition.destinationGroup) = (nil, nil)
                }
                check(condition, name, tenant, &found)
            }
        }
    }

    func checkSecurity(of port: Port, _ found: inout [Problem]) {
        let tenant = port.path.device.tenant
        func problem(_ reason: String, _ remedy: String) { found.append(Problem(port.path, reason, remedy: remedy)) }
        for name in port.security.sorted() where securityGroups[DevicePath(tenant: tenant, name: name)] == nil {
            problem(
                "security group \(name) does not exist", "add it to tenant \(tenant), or take the port out of it")
        }
        if port.security.count > SecurityGroup.groupsPerPort {
            problem(
                "is in \(port.security.count) security groups, \(SecurityGroup.groupsPerPort) at most",
                "put rules that go together into one group")
        }
        if port.allowed.count > SecurityGroup.allowedPerPort {
            problem(
                "has \(port.allowed.count) allowed addresses, \(SecurityGroup.allowedPerPort) at most",
                "allow networks in place of addresses")
        }
        var isLinked = false
        if case .peer = port.attachment { isLinked = true }
        if !port.security.isEmpty, port.kind == .router || isLinked {
            problem(
                "is in security groups and has no machine behind it",
                "filter ports of routers and links with chains: inbound and outbound")
        }
        if !port.allowed.isEmpty, port.security.isEmpty {
            problem(
                "has allowed addresses and is in no security group",
                "without a group everything is allowed: put it into one, or leave allowed out")
        }
    }
}
