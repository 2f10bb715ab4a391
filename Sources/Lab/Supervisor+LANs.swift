// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Manifest
import Netlink
import Topology
import Wire

/// Networks outside: a switch each, cables from hosts, and stations.
extension Supervisor {
    /// Makes what the plan has. It stays as it is: a lab is begun anew for another one.
    func addLANs(_ world: inout World, _ manifest: Manifest) throws {
        for (number, lan) in (manifest.lab?.lans ?? [:]).sorted(by: { $0.key < $1.key }).map(\.value).enumerated() {
            let route = try RouteNetlink()
            let bridge = "lan\(number)"
            try route.addBridge(bridge)
            Supervisor.disableIPv6(on: bridge)
            try route.setUp(bridge)
            for (place, path) in lan.ports.enumerated() {
                guard case .exterior(let host, let interface)? = manifest.topology.ports[path]?.attachment,
                    let there = world.hosts[host]
                else { continue }
                let cable = "lan\(number)p\(place)"
                try route.addVeth(cable, mtu: 1500, peer: interface, peerNamespace: there.descriptor.number)
                try route.setMaster(cable, bridge: bridge)
                Supervisor.disableIPv6(on: cable)
                try route.setUp(cable)
                try there.inside {
                    Supervisor.disableIPv6(on: interface)
                    try RouteNetlink().setUp(interface)
                }
            }
            for (place, (name, station)) in lan.stations.sorted(by: { $0.key < $1.key }).enumerated() {
                let namespace = try NetworkNamespace.create(at: directory.hostNamespace(name))
                world.outside[name] = namespace
                let cable = "lan\(number)s\(place)"
                try route.addVeth(
                    cable, mtu: 1500, peer: "eth0", peerNamespace: namespace.descriptor.number, peerMAC: station.mac)
                try route.setMaster(cable, bridge: bridge)
                Supervisor.disableIPv6(on: cable)
                try route.setUp(cable)
                try namespace.inside { try Supervisor.setUp(station, mtu: 1500) }
            }
        }
    }
}
