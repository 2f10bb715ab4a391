// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Networks outside that bridges reach by ports of their own.
extension LabPlan {
    /// A switch that is not ours, and who is at it.
    public struct LAN: Sendable, Equatable {
        /// Ports whose interfaces have a cable to it.
        public var ports: [PortPath] = []
        /// Stations by name: their addresses without a tag, and in VLANs.
        public var stations: [String: Machine] = [:]

        /// A switch that nobody is at.
        public init() {}
    }

    /// What a station is called among machines.
    public static func station(_ name: String) -> PortPath {
        PortPath(device: DevicePath(tenant: "lab", name: "lan"), name: name)
    }

    /// What a machine, the server outside or a station is called in a manifest.
    public static func name(of path: PortPath) -> String {
        path == outside ? "outside" : path.device == station("").device ? path.name : path.description
    }

    /// Stations of all LANs.
    public var stations: [String: Machine] {
        lans.values.reduce(into: [:]) { $0.merge($1.stations) { a, _ in a } }
    }

    /// Names of places that are neither machines nor hosts.
    public var places: [String] { fabric + (outside?.names ?? []) + stations.keys.sorted() }
}

extension ManifestReader {
    /// `lans` of a lab.
    mutating func readLANs(_ node: Node, _ plan: inout LabPlan) {
        for entry in yaml.entries(node, "lab lans") where yaml.name(entry.key, entry.node, "lan") {
            var lan = LabPlan.LAN()
            for field in yaml.entries(entry.value, entry.key, known: ["ports", "stations"]) {
                if field.key == "ports" {
                    for item in yaml.items(field.value) {
                        guard let text = yaml.text(item, entry.key, "ports") else { continue }
                        guard let path = PortPath(text), let port = topology.ports[path],
                            case .exterior = port.attachment
                        else {
                            yaml.mistake(
                                item, entry.key, "\(text) is no port that is bound", "name one with host and interface")
                            continue
                        }
                        lan.ports.append(path)
                    }
                } else {
                    for station in yaml.entries(field.value, entry.key) { readStation(station, &lan, plan) }
                }
            }
            let whole = lan
            for name in whole.stations.keys { lan.stations[name]?.gateways = gateways(at: whole, name) }
            plan.lans[entry.key] = lan
        }
    }

    private mutating func readStation(
        _ station: (key: String, node: Node, value: Node), _ lan: inout LabPlan.LAN, _ plan: LabPlan
    ) {
        let name = station.key
        guard yaml.name(name, station.node, "station") else { return }
        if plan.hosts.contains(name) || plan.places.contains(name) {
            return yaml.mistake(station.node, name, "is the name of something else", "choose another")
        }
        var machine = LabPlan.Machine(
            host: "", interface: "", mac: Port.derivedMAC(for: LabPlan.station(name)), isDeclared: false)
        for field in yaml.entries(station.value, name, known: ["address", "vlans"]) {
            if field.key == "address" {
                machine.addresses = addresses(field.value, name)
            } else {
                machine.vlans = readVLANAddresses(field.value, name)
            }
        }
        lan.stations[name] = machine
    }

    private func gateways(at lan: LabPlan.LAN, _ name: String) -> [IPAddress] {
        guard let port = lan.ports.first, let machine = lan.stations[name] else { return [] }
        return gateways(of: machine, on: port.device)
    }
}
