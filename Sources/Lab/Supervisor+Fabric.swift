// SPDX-License-Identifier: Apache-2.0
import CLinux
import Foundation
import Glibc
import Linux
import Manifest
import Netlink
import Topology
import Wire

/// Routers between hosts, in place of switches: each host has a cable to each of them, and its addresses are on none of its cards.
extension Supervisor {
    /// The system of all routers, and what hosts' numbers are added to.
    static let (routers, hosts): (UInt32, UInt32) = (65_000, 4_200_000_000)

    /// The addresses of a cable.
    ///
    /// - Parameters:
    ///   - router: its place among all.
    ///   - host: the host's number.
    static func cable(_ router: Int, _ host: UInt32) -> (router: IPAddress, host: IPAddress) {
        let base = UInt32(10) << 24 | UInt32(248 + router) << 16 | host << 2
        return (IPAddress(IPv4Address(bits: base + 1)), IPAddress(IPv4Address(bits: base + 2)))
    }

    /// The number of a host of a lab: the last part of its address.
    static func number(_ host: String, _ topology: Topology) -> UInt32? {
        topology.hosts[host]?.tunnelAddresses["default"]?.v4.map { $0.bits & 0xff }
    }

    /// Makes the routers that are not there yet, without their daemons.
    func addFabric(_ world: inout World, _ plan: LabPlan) throws {
        for name in plan.fabric where world.outside[name] == nil {
            let namespace = try NetworkNamespace.create(at: directory.hostNamespace(name))
            world.outside[name] = namespace
            try namespace.inside {
                try RouteNetlink().setUp("lo")
                Self.forward()
            }
        }
    }

    /// Has routers know all hosts. To be called when there are cables to these: daemons that begin overlook some that come just then.
    func runFabric(_ world: inout World, _ manifest: Manifest) throws {
        guard let plan = manifest.lab else { return }
        for (place, name) in plan.fabric.enumerated() {
            guard let namespace = world.outside[name] else { continue }
            if world.outsideProcesses[name] == nil {
                try startOutside(name, &world, manifest)
            } else {
                try tellRouter(
                    FabricConfiguration(place, plan, manifest.topology, files: outsideFiles(name)), namespace)
            }
        }
    }

    /// Tells a router that runs of hosts that are new.
    private func tellRouter(_ configuration: FabricConfiguration, _ namespace: NetworkNamespace) throws {
        let shell = "/usr/bin/vtysh"
        let file = configuration.files + "/more.conf"
        try (configuration.lines.joined(separator: "\n") + "\n").write(toFile: file, atomically: true, encoding: .utf8)
        let pid = try Spawn(
            program: shell, arguments: ["vtysh", "--vty_socket", configuration.files, "-f", file],
            namespaces: [namespace.descriptor.number]
        )
        .start()
        var status: Int32 = 0
        // Whoever waits for all that end may hear of it sooner.
        if cl_wait(pid, 0, &status) > 0, status != 0 {
            throw LabError("a router between hosts is not told of new ones", "selvage lab down, and up again")
        }
    }

    /// Lays the cables of a host to all routers, and writes down how it is reached.
    func addFabricCables(_ host: String, _ world: World, _ namespace: NetworkNamespace) throws {
        guard let plan = world.manifest?.lab, let topology = world.manifest?.topology,
            let number = Self.number(host, topology), let place = topology.hosts[host]
        else { return }
        var peers: [String] = []
        for (at, name) in plan.fabric.enumerated() {
            guard let router = world.outside[name] else { continue }
            let (addresses, cable) = (Self.cable(at, number), Self.cableName(host, 0))
            peers.append("  - { address: \(addresses.router), as: \(Self.routers), bfd: [100, 3] }")
            let isThere = try namespace.inside { interfaceExists("eth\(at)") }
            if isThere { continue }
            try router.inside {
                let route = try RouteNetlink()
                try route.addVeth(
                    cable, mtu: topology.zones["default"]?.underlayMTU ?? 1500, peer: "eth\(at)",
                    peerNamespace: namespace.descriptor.number)
                Supervisor.quietIPv6(on: cable)
                try route.setUp(cable)
                try route.addAddress(InterfaceAddress(addresses.router, length: 30), to: cable)
                Self.forward()
            }
            try namespace.inside {
                Supervisor.quietIPv6(on: "eth\(at)")
                let route = try RouteNetlink()
                try route.setUp("lo")
                try route.setUp("eth\(at)")
                try route.addAddress(InterfaceAddress(addresses.host, length: 30), to: "eth\(at)")
            }
        }
        let loopbacks = place.tunnelAddresses.sorted { $0.key < $1.key }.map(\.value.description)
        let text = """
            # How \(host) is reached: what selvage node --underlay reads.
            loopback: [\(loopbacks.joined(separator: ", "))]
            as: \(Self.hosts + number)
            peers:
            \(peers.joined(separator: "\n"))

            """
        try text.write(toFile: directory.nodeUnderlay(host), atomically: true, encoding: .utf8)
    }

    /// What the command of a node is told of it.
    func underlayOptions(_ host: String, _ world: World) -> [String] {
        world.manifest?.lab?.fabric.isEmpty == false ? ["--underlay", directory.nodeUnderlay(host)] : []
    }

    /// Ends what routes for a host, and takes its cables out.
    func removeFabricCables(_ host: String, _ world: World) {
        let configuration = "\(directory.nodeData(host))/underlay/bird.conf"
        for process in RunningProcess.all where process.name == "bird" && process.command.contains(configuration) {
            Glibc.kill(process.pid, SIGKILL)
        }
        for name in world.manifest?.lab?.fabric ?? [] {
            try? world.outside[name]?.inside { try RouteNetlink().remove(Self.cableName(host, 0)) }
        }
        unlink(directory.nodeUnderlay(host))
    }
}

/// A router between hosts, run by FRRouting.
struct FabricConfiguration {
    let files: String
    private let place: Int
    private let plan: LabPlan
    private let topology: Topology

    /// - Parameter place: of the router among all.
    init(_ place: Int, _ plan: LabPlan, _ topology: Topology, files: String) {
        (self.place, self.files, self.plan, self.topology) = (place, files, plan, topology)
    }

    /// What runs there.
    var programs: [OutsideConfiguration.Program] { OutsideConfiguration.Program.frr(lines, files: files) }

    /// What it is to do: all hosts are its neighbors, also those that are not there yet.
    var lines: [String] {
        let hosts = plan.hosts.compactMap { Supervisor.number($0, topology) }.map {
            (address: Supervisor.cable(place, $0).host, system: Supervisor.hosts + $0)
        }
        var lines = [
            "router bgp \(Supervisor.routers)", " bgp router-id 10.\(248 + place).0.1", " no bgp ebgp-requires-policy",
            " no bgp default ipv4-unicast", " bgp bestpath as-path multipath-relax", " timers bgp 3 9",
        ]
        for host in hosts {
            lines.append(" neighbor \(host.address) remote-as \(host.system)")
            lines.append(" neighbor \(host.address) timers connect 2")
            lines.append(" neighbor \(host.address) bfd profile quick")
        }
        lines += [" address-family ipv4 unicast", "  maximum-paths 8"]
        for host in hosts { lines.append("  neighbor \(host.address) activate") }
        return lines + [" exit-address-family"]
    }
}
