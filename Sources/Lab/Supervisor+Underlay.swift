// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Manifest
import Netlink
import Synchronization
import Topology
import Wire

/// The network between hosts: a switch for each tunnel zone, and a cable to it from each host that is in the zone.
extension Supervisor {
    /// Zones by the number of the interface that hosts have in them: `default` is `eth0`.
    private static func zones(_ topology: Topology) -> [String] {
        ["default"] + topology.zones.keys.filter { $0 != "default" }.sorted()
    }

    /// An interface name for a host's cable to a zone's switch: its own where it fits.
    static func cableName(_ host: String, _ zone: Int) -> String {
        // No host's name has such a sign.
        let name = zone == 0 ? host : "\(host)~\(zone)"
        return name.utf8.count <= 15 ? name : "\(host.prefix(9))\(String(stableHash(name) & 0xffff, radix: 16))"
    }

    private static func switchName(_ zone: Int, _ group: Int = 0) -> String {
        "underlay" + (zone == 0 ? "" : "-\(zone)") + (group == 0 ? "" : ".\(group)")
    }

    /// Lays the cables of a host that are not there yet.
    func addCables(_ host: String, _ world: World, _ namespace: NetworkNamespace) throws {
        guard let topology = world.manifest?.topology else { return }
        if world.manifest?.lab?.fabric.isEmpty == false { return try addFabricCables(host, world, namespace) }
        let route = try RouteNetlink()
        for (number, zone) in Self.zones(topology).enumerated() {
            guard let address = topology.hosts[host]?.tunnelAddresses[zone] else { continue }
            let (cable, bridge) = (Self.cableName(host, number), Self.switchName(number))
            if interfaceExists(cable) { continue }
            if !interfaceExists(bridge) {
                try route.addBridge(bridge)
                try route.setUp(bridge)
            }
            let interface = "eth\(number)"
            try route.addVeth(
                cable, mtu: topology.zones[zone]?.underlayMTU ?? 1500, peer: interface,
                peerNamespace: namespace.descriptor.number)
            try route.setMaster(cable, bridge: bridge)
            try route.setUp(cable)
            try namespace.inside {
                Supervisor.quietIPv6(on: interface)
                let route = try RouteNetlink()
                try route.setUp("lo")
                try route.setUp(interface)
                try route.addAddress(InterfaceAddress(address, length: 24), to: interface)
            }
        }
    }

    func removeCables(_ host: String) {
        for number in 0..<LabPlan.mostZones { try? RouteNetlink().remove(Self.cableName(host, number)) }
    }

    /// Puts hosts of different groups on different switches, of one zone or of all. What was on its way is lost, as where a switch
    /// dies.
    func partition(_ groups: [[String]], zone: String?) throws {
        if let router = world.withLock({ $0.manifest?.lab?.fabric.first }) {
            throw LabError(
                "there are routers between the hosts of this lab, and no switches",
                "take a cable out: selvage lab exec \(router) -- ip link set HOST down")
        }
        let (hosts, zones) = try cables(zone)
        for host in groups.joined() { try known(host) }
        guard Set(groups.joined()).count == groups.joined().count else {
            throw LabError("a host is in two groups", "name each host once")
        }
        var all = groups
        let left = hosts.filter { host in !groups.contains { $0.contains(host) } }
        if !left.isEmpty { all.append(left) }
        guard all.count > 1 else {
            throw LabError("one group is no partition", "write selvage lab partition h1,h2 h3")
        }
        let route = try RouteNetlink()
        for number in zones {
            for (index, group) in all.enumerated() {
                let bridge = Self.switchName(number, index)
                if !interfaceExists(bridge) {
                    try route.addBridge(bridge)
                    try route.setUp(bridge)
                }
                for host in group where interfaceExists(Self.cableName(host, number)) {
                    try route.setMaster(Self.cableName(host, number), bridge: bridge)
                }
            }
        }
        if zone == nil { world.withLock { $0.groups = all } }
    }

    /// All hosts hear each other again, in all zones.
    func heal() throws {
        world.withLock { $0.groups = [] }
        let (hosts, zones) = try cables(nil)
        let route = try RouteNetlink()
        for number in zones {
            for host in hosts where interfaceExists(Self.cableName(host, number)) {
                try route.setMaster(Self.cableName(host, number), bridge: Self.switchName(number))
            }
        }
    }

    /// The hosts, and the numbers of a zone or of all.
    private func cables(_ zone: String?) throws -> (hosts: [String], zones: [Int]) {
        let (hosts, topology) = world.withLock { ($0.manifest?.lab?.hosts ?? [], $0.manifest?.topology ?? Topology()) }
        let zones = Self.zones(topology)
        guard let zone else { return (hosts, Array(zones.indices)) }
        guard let number = zones.firstIndex(of: zone) else {
            throw LabError("there is no zone \(zone)", "name one of \(zones.joined(separator: ", "))")
        }
        return (hosts, [number])
    }
}
