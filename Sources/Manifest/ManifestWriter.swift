// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Writes a topology as a manifest that reads back as the same topology, tunnel keys apart.
public enum ManifestWriter {
    /// The text of a manifest.
    ///
    /// - Parameter tenant: only this tenant's devices, without hosts and zones.
    public static func write(_ topology: Topology, tenant: String? = nil) -> String {
        var writer = Writer(topology)
        if tenant == nil { writer.writeFrame() }
        writer.line(0, "tenants:")
        let tenants = topology.tenants.filter { tenant == nil || $0 == tenant }
        if tenants.isEmpty { writer.text = String(writer.text.dropLast()) + " {}\n" }
        // Links of all first: what they stand for is not listed among the ports, whosever those are.
        for router in topology.routers.keys.sorted() where tenant == nil || router.tenant == tenant {
            writer.linksOf[router] = writer.links(of: router)
        }
        for name in tenants { writer.writeTenant(name, withSettings: tenant == nil) }
        return writer.text
    }

    private struct Writer {
        let topology: Topology
        var text = ""
        /// Ports that a link stands for.
        var linked: Set<PortPath> = []
        /// Links as they are written, by router.
        var linksOf: [DevicePath: [String]] = [:]

        init(_ topology: Topology) { self.topology = topology }

        mutating func line(_ depth: Int, _ content: String) {
            text += String(repeating: "  ", count: depth) + content + "\n"
        }

        mutating func writeFrame() {
            if let zone = topology.zones["default"] {
                line(0, "tunnel: \(zone.encapsulation.rawValue)")
                if zone.underlayMTU != 1500 { line(0, "mtu: \(zone.underlayMTU)") }
            }
            let zones = topology.zones.values.filter { $0.name != "default" }.sorted { $0.name < $1.name }
            if !zones.isEmpty { line(0, "zones:") }
            for zone in zones {
                line(1, "\(quoted(zone.name)): { tunnel: \(zone.encapsulation.rawValue), mtu: \(zone.underlayMTU) }")
            }
            if !topology.hosts.isEmpty { line(0, "hosts:") }
            for host in topology.hosts.values.sorted(by: { $0.name < $1.name }) {
                let zones = host.tunnelAddresses.sorted { $0.key < $1.key }
                let rate = host.rateText.map { ", rate: \($0)" } ?? ""
                if zones.count == 1, let address = zones.first, address.key == "default" {
                    line(1, "\(quoted(host.name)): { address: \(address.value)\(rate) }")
                } else {
                    let list = zones.map { "\(quoted($0.key)): \($0.value)" }.joined(separator: ", ")
                    line(1, "\(quoted(host.name)): { zones: {\(list.isEmpty ? "" : " \(list) ")}\(rate)}")
                }
            }
        }

        mutating func writeTenant(_ tenant: String, withSettings: Bool) {
            line(1, "\(quoted(tenant)):")
            if withSettings, let settings = topology.settings[tenant] { writeSettings(settings) }
            let bridges = topology.bridges.keys.filter { $0.tenant == tenant }.sorted()
            let routers = topology.routers.keys.filter { $0.tenant == tenant }.sorted()
            writePolicies(tenant)
            if !bridges.isEmpty { line(2, "bridges:") }
            for path in bridges { writeBridge(path) }
            if !routers.isEmpty { line(2, "routers:") }
            for path in routers { writeRouter(path, linksOf[path] ?? []) }
        }

        private mutating func writeSettings(_ settings: TenantSettings) {
            let limits = TenantSettings.Limit.allCases.compactMap { limit in
                settings.limits[limit].map { "\(limit.rawValue): \($0)" }
            }
            if !limits.isEmpty || settings.lifetimes.isEmpty {
                line(2, "limits: { \(limits.joined(separator: ", ")) }")
            }
            let lifetimes = TenantSettings.Lifetime.allCases.compactMap { lifetime in
                settings.lifetimes[lifetime].map { "\(lifetime.rawValue): \($0)" }
            }
            if !lifetimes.isEmpty { line(2, "lifetimes: { \(lifetimes.joined(separator: ", ")) }") }
        }

        private mutating func writeBridge(_ path: DevicePath) {
            guard let bridge = topology.bridges[path] else { return }
            line(3, "\(quoted(path.name)):")
            if !bridge.isEnabled { line(4, "enabled: false") }
            if !bridge.subnets.isEmpty {
                line(4, "subnet: [\(bridge.subnets.map { "\"\($0)\"" }.joined(separator: ", "))]")
            }
            writeFilters(bridge.filters)
            writeNetworks("dhcp", bridge.dhcp.map(\.fields))
            writeNetworks("ra", bridge.advertised.map(\.fields))
            if let multicast = bridge.multicast { line(4, "multicast: \(inBraces(multicast.fields))") }
            if let names = bridge.names { line(4, "dns: \(inBraces(names.fields))") }
            writePorts(path)
            if bridge.isEnabled, bridge.subnets.isEmpty, text.hasSuffix("\(quoted(path.name)):\n") {
                text = String(text.dropLast()) + " {}\n"
            }
        }

        private mutating func writeNetworks(_ key: String, _ list: [[(name: String, values: [String])]]) {
            if !list.isEmpty { line(4, "\(key):") }
            for fields in list { line(5, "- \(inBraces(fields))") }
        }

        private func inBraces(_ fields: [(name: String, values: [String])]) -> String {
            let parts = fields.map { field in
                "\(field.name): [\(field.values.map(Writer.inQuotes).joined(separator: ", "))]"
            }
            return "{ \(parts.joined(separator: ", ")) }"
        }

        private mutating func writePorts(_ device: DevicePath) {
            let ports = topology.ports(of: device).filter { !linked.contains($0.path) && !$0.isMonitor }
            if ports.isEmpty { return }
            line(4, "ports:")
            for port in ports { line(5, "\(quoted(port.path.name)): {\(properties(port))}") }
        }

        private func properties(_ port: Port) -> String {
            var parts: [String] = []
            if port.mac != Port.derivedMAC(for: port.path) { parts.append("mac: \"\(port.mac)\"") }
            if !port.addresses.isEmpty {
                parts.append("address: [\(port.addresses.map { "\"\($0)\"" }.joined(separator: ", "))]")
            }
            switch port.vlan {
            case .access(0): break
            case .access(let id): parts.append("vlan: \(id)")
            case .trunk(let allowed, let native):
                let list = allowed.map { "[\($0.sorted().map(String.init).joined(separator: ", "))]" } ?? "all"
                parts.append("trunk: \(list)")
                if native != 0 { parts.append("native: \(native.map(String.init) ?? "none")") }
            }
            switch port.attachment {
            case .none: break
            case .exterior(let host, let interface) where port.vxlan != nil && interface == port.path.vxlanInterface:
                parts.append("host: \(quoted(host))")
            case .exterior(let host, let interface):
                parts.append("host: \(quoted(host)), interface: \(quoted(interface))")
            case .peer(let other): parts.append("peer: \(other)")
            }
            if !port.isEnabled { parts.append("enabled: false") }
            parts += policy(port)
            return parts.isEmpty ? "" : " " + parts.joined(separator: ", ") + " "
        }

        private mutating func writeRouter(_ path: DevicePath, _ links: [String]) {
            guard let router = topology.routers[path] else { return }
            line(3, "\(quoted(path.name)):")
            let start = text.utf8.count
            if !router.isEnabled { line(4, "enabled: false") }
            writeFilters(router.filters)
            if let speaker = router.bgp { line(4, "bgp: \(inBraces(speaker.fields))") }
            if !links.isEmpty { line(4, "links:") }
            for link in links { line(5, "- { \(link) }") }
            writePorts(path)
            if !router.routes.isEmpty { line(4, "routes:") }
            for route in router.routes { line(5, "- { \(properties(route)) }") }
            writeTranslation(router.translation)
            if text.utf8.count == start { text = String(text.dropLast()) + " {}\n" }
        }

        private func properties(_ route: Route) -> String {
            var parts = ["to: \"\(route.destination)\""]
            if let source = route.source { parts.append("from: \"\(source)\"") }
            switch route.nextHop {
            case .gateway(let gateway, let port):
                parts.append("via: \"\(gateway)\"")
                if let port { parts.append("port: \(quoted(port.name))") }
            case .port(let port): parts.append("port: \(quoted(port.name))")
            case .blackhole: parts.append("type: blackhole")
            case .reject: parts.append("type: reject")
            }
            if route.weight != 100 { parts.append("weight: \(route.weight)") }
            return parts.joined(separator: ", ")
        }

        private mutating func writePolicies(_ tenant: String) {
            let groups = topology.addressGroups.values(of: tenant).sorted { $0.path < $1.path }
            if !groups.isEmpty { line(2, "addressGroups:") }
            for group in groups {
                let members = group.members.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
                line(3, "\(quoted(group.path.name)): [\(members)]")
            }
            let sets = topology.portGroups.values(of: tenant).sorted { $0.path < $1.path }.map { group in
                let name = quoted(group.path.name)
                return group.isStateful ? "{ name: \(name), stateful: true }" : name
            }
            if !sets.isEmpty { line(2, "portGroups: [\(sets.joined(separator: ", "))]") }
            let security = topology.securityGroups.values(of: tenant).sorted { $0.path < $1.path }
            if !security.isEmpty { line(2, "securityGroups:") }
            for group in security {
                line(3, "\(quoted(group.path.name)):\(group.inward.isEmpty && group.outward.isEmpty ? " {}" : "")")
                for (word, rules) in [("in", group.inward), ("out", group.outward)] where !rules.isEmpty {
                    line(4, "\(word):")
                    for (place, rule) in rules.enumerated() {
                        var parts = rule.id == "\(place + 1)" ? [] : ["id: \(quoted(rule.id))"]
                        parts += rule.written.map {
                            "\($0.name): [\($0.values.map { "\"\($0)\"" }.joined(separator: ", "))]"
                        }
                        line(5, "- {\(parts.isEmpty ? "" : " \(parts.joined(separator: ", ")) ")}")
                    }
                }
            }
            writePools(tenant)
            writeMirrors(tenant)
            let chains = topology.chains.values(of: tenant).sorted { $0.path < $1.path }
            if !chains.isEmpty { line(2, "chains:") }
            for chain in chains {
                line(3, "\(quoted(chain.path.name)):\(chain.rules.isEmpty ? " []" : "")")
                for (place, rule) in chain.rules.enumerated() {
                    line(4, written(rule.id, place, rule.condition, "\(rule.action)"))
                }
            }
        }

        private func written(_ id: String, _ place: Int, _ condition: Condition, _ action: String) -> String {
            var parts = id == "\(place + 1)" ? [] : ["id: \(quoted(id))"]
            for field in condition.fields {
                let values = field.values.map { "\"\($0)\"" }
                parts.append(
                    "\(field.name): " + (values.count == 1 ? values[0] : "[\(values.joined(separator: ", "))]"))
            }
            // What has a colon, as IPv6 addresses do, stands in quotes.
            parts.append("action: " + (action.contains(":") ? "\"\(action)\"" : action))
            return "- { \(parts.joined(separator: ", ")) }"
        }

        private mutating func writeMirrors(_ tenant: String) {
            let mirrors = topology.mirrors.values(of: tenant).sorted { $0.path < $1.path }
            if !mirrors.isEmpty { line(2, "mirrors:") }
            for var mirror in mirrors {
                // Names that stand for nothing any more would be mistakes in a manifest.
                mirror.sources.subtract(topology.missingSources(of: mirror))
                line(3, "\(quoted(mirror.path.name)):")
                for field in mirror.fields {
                    line(4, "\(field.name): [\(field.values.map(Writer.inQuotes).joined(separator: ", "))]")
                }
                if !mirror.conditions.isEmpty { line(4, "match:") }
                for condition in mirror.conditions { line(5, "- \(inBraces(condition.fields))") }
            }
        }

        private mutating func writePools(_ tenant: String) {
            let pools = topology.pools.values(of: tenant).sorted { $0.path < $1.path }
            if !pools.isEmpty { line(2, "pools:") }
            for pool in pools {
                line(3, "\(quoted(pool.path.name)):")
                line(4, "algorithm: \(pool.algorithm.rawValue)")
                if let seconds = pool.persistence { line(4, "persistence: \(seconds)") }
                if let monitor = pool.monitor {
                    let parts = monitor.said.map { field in
                        let values = field.values.map(quoted)
                        return field.name + ": "
                            + (values.count == 1 ? values[0] : "[\(values.joined(separator: ", "))]")
                    }
                    line(4, "monitor: { \(parts.joined(separator: ", ")) }")
                }
                if !pool.members.isEmpty { line(4, "members:") }
                for member in pool.members {
                    var parts = ["address: \"\(member.address)\""]
                    if let port = member.port { parts.append("port: \(port)") }
                    if member.weight != 1 { parts.append("weight: \(member.weight)") }
                    if member.state != .up { parts.append("state: \(member.state.rawValue)") }
                    line(5, "- { \(parts.joined(separator: ", ")) }")
                }
            }
        }

        private mutating func writeTranslation(_ translation: Translation) {
            if !translation.rules.isEmpty { line(4, "nat:") }
            for (place, rule) in translation.rules.enumerated() {
                line(5, written(rule.id, place, rule.condition, "\(rule.action)"))
            }
            if !translation.floating.isEmpty { line(4, "floating:") }
            for floating in translation.floating {
                let target = "\"\(floating.target)\""
                line(
                    5,
                    "\"\(floating.address)\": "
                        + (floating.port.map { "{ target: \(target), port: \(quoted($0)) }" } ?? target))
            }
            if !translation.virtual.isEmpty { line(4, "vips:") }
            for (place, virtual) in translation.virtual.enumerated() {
                var parts = virtual.id == "\(place + 1)" ? [] : ["id: \(quoted(virtual.id))"]
                parts.append("address: \"\(virtual.address)\"")
                parts.append("protocol: \"\(IPProtocol.name(of: virtual.ipProtocol))\"")
                parts.append("port: [\(virtual.ports.sorted().map(\.description).joined(separator: ", "))]")
                parts.append("pool: \(quoted(virtual.pool))")
                line(5, "- { \(parts.joined(separator: ", ")) }")
            }
        }

        private func service(_ hop: ServiceHop) -> String {
            let said = inBraces(hop.fields)
            if hop.conditions.isEmpty { return said }
            let conditions = hop.conditions.map { inBraces($0.fields) }.joined(separator: ", ")
            return "\(said.dropLast(2)), match: [\(conditions)] }"
        }

        private mutating func writeFilters(_ filters: Filters) {
            if let chain = filters.inbound { line(4, "inbound: \(quoted(chain))") }
            if let chain = filters.outbound { line(4, "outbound: \(quoted(chain))") }
        }

        private func policy(_ port: Port) -> [String] {
            var parts: [String] = []
            if let chain = port.filters.inbound { parts.append("inbound: \(quoted(chain))") }
            if let chain = port.filters.outbound { parts.append("outbound: \(quoted(chain))") }
            if !port.groups.isEmpty {
                parts.append("groups: [\(port.groups.sorted().map(quoted).joined(separator: ", "))]")
            }
            if !port.security.isEmpty {
                parts.append("security: [\(port.security.sorted().map(quoted).joined(separator: ", "))]")
            }
            if !port.allowed.isEmpty {
                parts.append("allowed: [\(port.allowed.sorted().map { "\"\($0)\"" }.joined(separator: ", "))]")
            }
            if !port.quality.isEmpty { parts.append("qos: \(inBraces(port.quality.fields))") }
            if !port.services.isEmpty {
                parts.append("services: [\(port.services.map(service).joined(separator: ", "))]")
            }
            if let end = port.vxlan { parts.append("vxlan: \(inBraces(end.fields))") }
            if let segment = port.segment {
                parts.append("segment: \(quoted(segment.name))")
                if segment.preference != 100 { parts.append("preference: \(segment.preference)") }
            }
            if let peers = port.uplink?.peers, !peers.isEmpty {
                parts.append("peers: [\(peers.map { inBraces($0.fields) }.joined(separator: ", "))]")
            }
            if let snippet = port.uplink?.snippet { parts.append("snippet: \(Writer.inQuotes(snippet))") }
            if let daemon = port.uplink?.daemon, daemon != .bird { parts.append("daemon: \(daemon.rawValue)") }
            return parts
        }

        /// The links of a router that say everything about both of their ends.
        mutating func links(of router: DevicePath) -> [String] {
            var result: [String] = []
            for near in topology.ports(of: router) where !linked.contains(near.path) {
                guard case .peer(let other) = near.attachment, let far = topology.ports[other],
                    let text = link(near, far)
                else { continue }
                linked.formUnion([near.path, far.path])
                result.append(text)
            }
            return result
        }

        private func link(_ near: Port, _ far: Port) -> String? {
            // A link's far end is what the reader makes of it; one that is anything else is written as a port.
            let isSameTenant = near.path.device.tenant == far.path.device.tenant
            let short = isSameTenant ? far.path.device.name : far.path.device.description
            let plain = ManifestReader.portName(on: near.path.device, to: far.path.device)
            let back = ManifestReader.portName(on: far.path.device, to: near.path.device)
            let name = near.path.name == plain ? nil : near.path.name
            guard far.path.name == back + (name.map { "-" + $0 } ?? ""), far.isEnabled, policy(far).isEmpty,
                far.mac == Port.derivedMAC(for: far.path)
            else { return nil }
            var parts: [String] = []
            if far.kind == .bridge {
                guard far.addresses.isEmpty, case .access(let vlan) = far.vlan else { return nil }
                parts.append("bridge: \(quoted(short))")
                if vlan != 0 { parts.append("vlan: \(vlan)") }
                if near.addresses.isEmpty { return nil }
            } else {
                guard !far.addresses.isEmpty, !near.addresses.isEmpty else { return nil }
                parts.append("router: \(quoted(short))")
                parts.append("peer: [\(far.addresses.map { "\"\($0)\"" }.joined(separator: ", "))]")
            }
            if let name { parts.append("name: \(quoted(name))") }
            parts.append("address: [\(near.addresses.map { "\"\($0)\"" }.joined(separator: ", "))]")
            if near.mac != Port.derivedMAC(for: near.path) { parts.append("mac: \"\(near.mac)\"") }
            if !near.isEnabled { parts.append("enabled: false") }
            parts += policy(near)
            return parts.joined(separator: ", ")
        }

        /// A name that YAML would take for something else stands in quotes.
        private func quoted(_ name: String) -> String {
            let isPlain =
                name.utf8.first.map { (97...122).contains($0) || (65...90).contains($0) } == true
                && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(name.lowercased())
                && name.utf8.allSatisfy {
                    (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
                        || [UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "/")].contains($0)
                }
            return isPlain ? name : Writer.inQuotes(name)
        }

        private static func inQuotes(_ name: String) -> String {
            var escaped = ""
            // By scalars: what is one character to a reader, as CR LF is, is two here.
            for scalar in name.unicodeScalars {
                switch scalar {
                case "\\": escaped += "\\\\"
                case "\"": escaped += "\\\""
                case "\n": escaped += "\\n"
                case "\r": escaped += "\\r"
                case "\t": escaped += "\\t"
                case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                    escaped += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
                default: escaped.unicodeScalars.append(scalar)
                }
            }
            return "\"\(escaped)\""
        }
    }
}
