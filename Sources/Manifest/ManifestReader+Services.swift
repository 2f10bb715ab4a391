// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Addresses that bridges give.
extension ManifestReader {
    /// `dhcp` of a bridge: `true` for its network (of several the first of IPv4), or what is said of one network or of several.
    mutating func readDHCP(_ node: Node, _ bridge: Bridge) -> [DHCPSubnet] {
        let standard = bridge.subnets.first { $0.family == .ipv4 } ?? bridge.subnets.first
        let object = "\(bridge.path) dhcp"
        if node.mapping == nil, node.sequence == nil {
            guard let isOn = yaml.bool(node, object, "dhcp"), isOn else { return [] }
            guard let standard else {
                yaml.mistake(
                    node, object, "has no network", "give the bridge a subnet, or write dhcp: { subnet: 10.0.1.0/24 }")
                return []
            }
            return [DHCPSubnet(standard)]
        }
        var list: [DHCPSubnet] = []
        for item in yaml.items(node) {
            let (fields, nodes) = readFields(item, object, DHCPSubnet.fieldNames)
            do throws(RuleMistake) {
                let subnet = try DHCPSubnet(reading: fields, standard: standard)
                yaml.note("\(object) \(subnet.subnet)", at: item)
                list.append(subnet)
            } catch {
                yaml.mistake(nodes[error.field] ?? item, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
        return list
    }

    /// `ra` of a bridge: `true` for its IPv6 networks, or what is said of one network or of several.
    mutating func readAdvertised(_ node: Node, _ bridge: Bridge) -> [AdvertisedPrefix] {
        let own = bridge.subnets.filter { $0.family == .ipv6 }
        let object = "\(bridge.path) ra"
        if node.mapping == nil, node.sequence == nil {
            guard let isOn = yaml.bool(node, object, "ra"), isOn else { return [] }
            if own.isEmpty {
                yaml.mistake(
                    node, object, "has no network", "give the bridge a subnet, or write ra: { prefix: \"fd00:1::/64\" }"
                )
            }
            return own.map { AdvertisedPrefix($0) }
        }
        var list: [AdvertisedPrefix] = []
        for item in yaml.items(node) {
            let (fields, nodes) = readFields(item, object, AdvertisedPrefix.fieldNames)
            do throws(RuleMistake) {
                let one = try AdvertisedPrefix(reading: fields, standard: own.first)
                yaml.note("\(object) \(one.prefix)", at: item)
                list.append(one)
            } catch {
                yaml.mistake(nodes[error.field] ?? item, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
        return list
    }

    /// `dns` of a bridge: `true` for the names of the tenant's ports, or more.
    mutating func readNames(_ node: Node, _ path: DevicePath) -> NameService? {
        let object = "\(path) dns"
        if node.mapping == nil {
            guard let isOn = yaml.bool(node, object, "dns"), isOn else { return nil }
            return NameService(domain: NameService.domain(of: path.tenant))
        }
        let (fields, nodes) = readFields(node, object, NameService.fieldNames)
        do throws(RuleMistake) {
            yaml.note(object, at: node)
            return try NameService(reading: fields, tenant: path.tenant)
        } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// `multicast` of a bridge: `true`, or more.
    mutating func readMulticast(_ node: Node, _ path: DevicePath) -> MulticastService? {
        let object = "\(path) multicast"
        if node.mapping == nil {
            return yaml.bool(node, object, "multicast") == true ? MulticastService() : nil
        }
        let (fields, nodes) = readFields(node, object, MulticastService.fieldNames)
        do throws(RuleMistake) { return try MulticastService(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// `mirrors` of a tenant.
    mutating func readMirrors(_ tenant: String, _ node: Node) {
        for entry in yaml.entries(node, tenant) where yaml.name(entry.key, entry.node, "mirror") {
            let path = DevicePath(tenant: tenant, name: entry.key)
            let object = "mirror \(path)"
            yaml.note(object, at: entry.node)
            let (said, conditions, nodes) = readMatching(entry.value, object, Mirror.fieldNames)
            do throws(RuleMistake) {
                var mirror = try Mirror(reading: said, path: path)
                mirror.conditions = conditions
                topology.mirrors[path] = mirror
            } catch {
                yaml.mistake(
                    nodes[error.field] ?? entry.value, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
    }

    /// `qos` of a port.
    mutating func readQuality(_ node: Node, _ port: String) -> PortQuality {
        readSaid(node, "\(port) qos", PortQuality.fieldNames) { fields throws(RuleMistake) in
            try PortQuality(reading: fields)
        } ?? PortQuality()
    }

    /// `services` of a port.
    mutating func readServices(_ node: Node, _ port: PortPath) -> [ServiceHop] {
        var services: [ServiceHop] = []
        for (place, item) in yaml.items(node).enumerated() {
            let object = "\(port) services \(place + 1)"
            yaml.note(object, at: item)
            let (said, conditions, nodes) = readMatching(item, object, ServiceHop.fieldNames)
            do throws(RuleMistake) {
                var hop = try ServiceHop(reading: said, tenant: port.device.tenant)
                hop.conditions = conditions
                services.append(hop)
            } catch {
                yaml.mistake(nodes[error.field] ?? item, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
        return services
    }

    /// Something said field by field, with `match`: conditions, one of which has to hold.
    private mutating func readMatching(
        _ node: Node, _ object: String, _ known: [String]
    ) -> (said: [(name: String, values: [String])], conditions: [Condition], nodes: [String: Node]) {
        var conditions: [Condition] = []
        var said: [(name: String, values: [String])] = []
        var nodes: [String: Node] = [:]
        for field in yaml.entries(node, object, known: known + ["match"]) {
            if field.key != "match" {
                nodes[field.key] = field.value
                said.append((field.key, yaml.items(field.value).compactMap { yaml.text($0, object, field.key) }))
                continue
            }
            for (place, item) in yaml.items(field.value).enumerated() {
                let name = "\(object) match \(place + 1)"
                yaml.note(name, at: item)
                let (fields, nodes) = readFields(item, name, ["inverted"] + ConditionField.names)
                do throws(RuleMistake) { conditions.append(try Condition(reading: fields)) } catch {
                    yaml.mistake(nodes[error.field] ?? item, name, "\(error.field) \(error.reason)", error.remedy)
                }
            }
        }
        return (said, conditions, nodes)
    }
}
