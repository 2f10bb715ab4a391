// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// The `lab` part: hosts and machines that `selvage lab` makes, and what it expects of them.
extension ManifestReader {
    /// Underlay addresses of lab hosts, zone by zone: TEST-NET-1, 2 and 3 (RFC 5737).
    private static let underlays: [UInt32] = [0xc000_0200, 0xc633_6400, 0xcb00_7100]

    mutating func readLab(_ node: Node) {
        var plan = LabPlan()
        let fields = Dictionary(
            yaml.entries(node, "lab", known: ["hosts", "fabric", "machines", "outside", "lans", "expect"]).map {
                ($0.key, $0.value)
            },
            uniquingKeysWith: { a, _ in a })
        let zones = ["default"] + topology.zones.keys.filter { $0 != "default" }.sorted()
        if zones.count > LabPlan.mostZones {
            yaml.mistake(node, "lab", "has \(zones.count) zones", "a lab has at most \(LabPlan.mostZones)")
        }
        for item in yaml.items(fields["hosts"]) {
            guard let name = yaml.text(item, "lab", "hosts"), yaml.name(name, item, "host") else { continue }
            if plan.hosts.contains(name) {
                yaml.mistake(item, name, "is there twice", "name each host once")
            } else if plan.hosts.count == 250 {
                yaml.mistake(item, name, "is host number 251", "a lab has at most 250 hosts")
            } else {
                plan.hosts.append(name)
                var host = topology.hosts[name] ?? Host(name: name)
                // Who says in which zones a host is means just those.
                let isSaid = host.tunnelAddresses.keys.contains { $0 != "default" }
                for (zone, network) in zip(zones, Self.underlays) where zone == "default" || !isSaid {
                    let address = IPv4Address(bits: network + UInt32(plan.hosts.count))
                    host.tunnelAddresses[zone] = IPAddress(address)
                }
                topology.hosts[name] = host
                others.insert(.host(name))
            }
        }
        if plan.hosts.isEmpty { yaml.mistake(node, "lab", "has no hosts", "write hosts: [h1, h2]") }
        for item in yaml.items(fields["fabric"]) {
            guard let name = yaml.text(item, "lab", "fabric"), yaml.name(name, item, "router") else { continue }
            if plan.hosts.contains(name) || plan.fabric.contains(name) || name == "outside" {
                yaml.mistake(item, name, "is there already", "choose another name for the router")
            } else if plan.fabric.count == LabPlan.mostRouters {
                yaml.mistake(
                    item, name, "is router number \(LabPlan.mostRouters + 1)",
                    "there are at most \(LabPlan.mostRouters) between hosts")
            } else {
                plan.fabric.append(name)
            }
        }
        for entry in yaml.entries(fields["machines"], "lab") { readMachine(entry.key, entry.node, entry.value, &plan) }
        if let node = fields["outside"] { readOutside(node, &plan) }
        if let node = fields["lans"] { readLANs(node, &plan) }
        for (path, machine) in plan.machines {
            plan.machines[path]?.gateways = gateways(of: machine, on: path.device)
        }
        for item in yaml.items(fields["expect"]) {
            if let expectation = readExpectation(item, plan) { plan.expectations.append(expectation) }
        }
        lab = plan
    }

    private mutating func readMachine(_ name: String, _ key: Node, _ node: Node, _ plan: inout LabPlan) {
        guard let path = PortPath(name), var port = topology.ports[path] else {
            let known = topology.ports.values.filter { $0.attachment == .none }.map(\.path.description).sorted()
            return yaml.mistake(
                key, name, "no such port",
                known.isEmpty ? "a machine is named tenant/device/port" : yaml.suggestion(name, known))
        }
        guard port.attachment == .none else {
            return yaml.mistake(key, name, "the port is linked or bound already", "put the machine behind a free port")
        }
        var host: String?
        var addresses: [InterfaceAddress] = []
        var vlans: [UInt16: [InterfaceAddress]] = [:]
        var isDeclared = true
        var wire: LabPlan.Machine.Wire?
        for field in yaml.entries(node, name, known: ["host", "address", "vlans", "declared", "wire"]) {
            switch field.key {
            case "host": host = yaml.text(field.value, name, "host")
            case "address": addresses = self.addresses(field.value, name)
            case "declared": isDeclared = yaml.bool(field.value, name, "declared") ?? true
            case "wire": wire = readWire(field.value, of: path)
            default: vlans = readVLANAddresses(field.value, name)
            }
        }
        guard let host, plan.hosts.contains(host) else {
            return yaml.mistake(
                key, name, host.map { "host \($0) does not exist" } ?? "has no host",
                "use host: with one of \(plan.hosts.joined(separator: ", "))")
        }
        if let wire { topology.ports[wire.port]?.attachment = .exterior(host: host, interface: wire.interface) }
        let interface = Self.interfaceName(for: path)
        port.attachment = .exterior(host: host, interface: interface)
        let mac = port.mac
        if isDeclared {
            if port.addresses.isEmpty { port.addresses = addresses }
        } else {
            // The topology must not know the machine: it gets a MAC that the machine does not have.
            port.mac = Port.derivedMAC(for: PortPath(device: path.device, name: path.name + "-undeclared"))
        }
        topology.ports[path] = port
        plan.machines[path] = LabPlan.Machine(
            host: host, interface: interface, mac: mac, addresses: addresses, vlans: vlans, isDeclared: isDeclared,
            wire: wire)
    }

    /// Addresses by VLAN.
    mutating func readVLANAddresses(_ node: Node, _ name: String) -> [UInt16: [InterfaceAddress]] {
        var vlans: [UInt16: [InterfaceAddress]] = [:]
        for vlan in yaml.entries(node, name) {
            guard let id = yaml.number(vlan.node, name, "vlans", 1...4094) else { continue }
            vlans[UInt16(id)] = addresses(vlan.value, name)
        }
        return vlans
    }

    /// The other end of a machine that is a wire.
    private mutating func readWire(_ node: Node, of path: PortPath) -> LabPlan.Machine.Wire? {
        let name = path.description
        guard let text = yaml.text(node, name, "wire") else { return nil }
        guard let other = PortPath(text) ?? PortPath("\(path.device.tenant)/\(text)"), other != path,
            let port = topology.ports[other], port.kind == .bridge
        else {
            yaml.mistake(node, name, "wire \"\(text)\" is no other port", "name a port of a bridge: tenant/bridge/port")
            return nil
        }
        guard port.attachment == .none else {
            yaml.mistake(node, name, "wire \(other) is linked or bound already", "name a free port")
            return nil
        }
        return LabPlan.Machine.Wire(port: other, interface: Self.interfaceName(for: other))
    }

    /// A name for the host's end of a machine's cable, at most 15 bytes: what a person recognizes, and four digits
    /// that tell two ports of one name apart.
    static func interfaceName(for path: PortPath) -> String {
        let digits = String(stableHash(path.description) & 0xffff | 0x10000, radix: 16).dropFirst()
        return "\(path.name.prefix(10))-\(digits)"
    }

    /// The router addresses that a machine finds in its own networks.
    func gateways(of machine: LabPlan.Machine, on device: DevicePath) -> [IPAddress] {
        var result: [IPAddress] = []
        for family in [AddressFamily.ipv4, .ipv6] {
            let networks = machine.addresses.map(\.network).filter { $0.family == family }
            let candidates = topology.ports.values.filter { port in
                guard port.path.device == device, case .peer(let other) = port.attachment else { return false }
                return topology.ports[other]?.kind == .router
            }
            .sorted { $0.path < $1.path }
            .flatMap { port -> [IPAddress] in
                guard case .peer(let other) = port.attachment else { return [] }
                return topology.ports[other]?.addresses.map(\.address) ?? []
            }
            if let gateway = candidates.first(where: { address in networks.contains { $0.contains(address) } }) {
                result.append(gateway)
            }
        }
        return result
    }

    /// A machine, or the server outside.
    private func place(_ name: String, _ plan: LabPlan) -> PortPath? {
        if name == "outside", plan.outside != nil { return LabPlan.outside }
        if plan.stations[name] != nil { return LabPlan.station(name) }
        return PortPath(name).flatMap { plan.machines[$0] == nil ? nil : $0 }
    }

    /// `A reaches B [icmp | tcp PORT | udp PORT] [ipv4 | ipv6] [at MACHINE [PORT]] [as ADDRESS]`, or `A cannot reach B ...`.
    private mutating func readExpectation(_ node: Node, _ plan: LabPlan) -> Expectation? {
        guard let text = yaml.text(node, "lab", "expect") else { return nil }
        var words = text.split(separator: " ").map(String.init)
        let usage =
            "write \"a/b/vm1 reaches a/b/vm2\", \"... cannot reach ...\", with tcp 80, udp 53, ipv4 or ipv6 after it, at a/b/vm3 8080 and as 203.0.113.5"
        func wrong(_ reason: String, _ remedy: String? = nil) -> Expectation? {
            yaml.mistake(node, "\"\(text)\"", reason, remedy ?? usage)
            return nil
        }
        guard words.count >= 3 else { return wrong("is not an expectation") }
        let fromText = words.removeFirst()
        guard let from = place(fromText, plan) else {
            return wrong(
                "there is no machine \(fromText)",
                yaml.suggestion(fromText, plan.machines.keys.sorted().map(\.description)))
        }
        let reaches: Bool
        if words[0] == "reaches" {
            reaches = true
            words.removeFirst()
        } else if words.count >= 3, words[0] == "cannot", words[1] == "reach" {
            reaches = false
            words.removeFirst(2)
        } else {
            return wrong("is not an expectation")
        }
        let toText = words.removeFirst()
        let target: Expectation.Target
        if let path = PortPath(toText), plan.machines[path] != nil {
            target = .machine(path)
        } else if let address = IPAddress(toText) {
            target = .address(address)
        } else if let address = plan.stations[toText]?.addresses.first {
            target = .address(address.address)
        } else {
            return wrong(
                "there is no machine \(toText)", yaml.suggestion(toText, plan.machines.keys.sorted().map(\.description))
            )
        }
        var expectation = Expectation(from: from, to: target, probe: .icmp, family: nil, reaches: reaches)
        while !words.isEmpty {
            let word = words.removeFirst()
            switch word {
            case "icmp": expectation.probe = .icmp
            case "ipv4": expectation.family = .ipv4
            case "ipv6": expectation.family = .ipv6
            case "tcp", "udp":
                guard let port = words.first.flatMap(UInt16.init), port > 0 else {
                    return wrong("\(word) needs a port")
                }
                words.removeFirst()
                expectation.probe = word == "tcp" ? .tcp(port) : .udp(port)
            case "at":
                guard let path = words.first.flatMap({ place($0, plan) }) else { return wrong("at needs a machine") }
                words.removeFirst()
                expectation.answerer = path
                if let port = words.first.flatMap(UInt16.init), port > 0 {
                    words.removeFirst()
                    expectation.listening = port
                }
            case "as":
                guard let address = words.first.flatMap({ IPAddress($0) }) else { return wrong("as needs an address") }
                words.removeFirst()
                expectation.seenAs = address
            default: return wrong("\"\(word)\" is not known here")
            }
        }
        if expectation.seenAs != nil, expectation.probe == .icmp {
            return wrong("whose address is seen is known of tcp and udp only", "say tcp PORT or udp PORT")
        }
        if expectation.seenAs != nil, expectation.answerer == nil, case .address = target {
            return wrong("says no machine that sees the address", "say at and the machine that answers")
        }
        return expectation
    }
}
