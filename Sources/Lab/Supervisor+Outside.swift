// SPDX-License-Identifier: Apache-2.0
import CLinux
import Foundation
import Glibc
import Linux
import Manifest
import Netlink
import Synchronization
import Topology
import Wire

/// The world beyond uplinks: routers of others, run by daemons that are not ours, and a server behind them.
extension Supervisor {
    /// The name of the server's namespace among hosts.
    static let outside = "outside"
    private static let exchange = "exchange"

    /// Makes what the plan has. It stays as it is: a lab is begun anew for another one.
    func addOutside(_ world: inout World, _ manifest: Manifest) throws {
        guard let outside = manifest.lab?.outside else { return }
        let route = try RouteNetlink()
        if !interfaceExists(Self.exchange) {
            try route.addBridge(Self.exchange)
            try route.setUp(Self.exchange)
        }
        let server = try NetworkNamespace.create(at: directory.hostNamespace(Self.outside))
        world.outside[Self.outside] = server
        try connect(server, "out-server", outside.exchangeAddresses(nil))
        try server.inside {
            let route = try RouteNetlink()
            for address in outside.addresses {
                try route.addAddress(InterfaceAddress(address.address, length: address.address.family.width), to: "lo")
            }
            Self.forward()
        }
        for (place, (name, router)) in outside.routers.sorted(by: { $0.key < $1.key }).enumerated() {
            let namespace = try NetworkNamespace.create(at: directory.hostNamespace(name))
            world.outside[name] = namespace
            try connect(namespace, "out\(place)", outside.exchangeAddresses(place))
            for (number, (path, addresses)) in router.links.sorted(by: { $0.key < $1.key }).enumerated() {
                guard case .exterior(let host, let interface)? = manifest.topology.ports[path]?.attachment,
                    let there = world.hosts[host]
                else { continue }
                try there.inside {
                    let route = try RouteNetlink()
                    try route.addVeth(
                        interface, mtu: 1500, peer: "link\(number)", peerNamespace: namespace.descriptor.number)
                    Supervisor.disableIPv6(on: interface)
                    try route.setUp(interface)
                }
                try namespace.inside {
                    let route = try RouteNetlink()
                    Supervisor.quietIPv6(on: "link\(number)")
                    try route.setUp("link\(number)")
                    for address in addresses { try route.addAddress(address, to: "link\(number)") }
                }
            }
            try namespace.inside { Self.forward() }
        }
        for name in outside.names { try startOutside(name, &world, manifest) }
    }

    /// FRRouting runs as a user who is in the group of its terminals, and as nobody else. In the lab's world, and there alone, that
    /// is root.
    func letRootRunFRR() throws {
        let groups = (try? String(contentsOfFile: "/etc/group", encoding: .utf8)) ?? ""
        guard groups.contains("frrvty:") else { return }
        let lines = groups.split(separator: "\n").map { line in
            line.hasPrefix("frrvty:") ? line + (line.hasSuffix(":") ? "" : ",") + "root" : line
        }
        let file = "\(directory.path)/group"
        try (lines.joined(separator: "\n") + "\n").write(toFile: file, atomically: true, encoding: .utf8)
        try SystemError.check(cl_mount_bind(file, "/etc/group"), "let root run FRRouting")
    }

    static func forward() {
        var names = [
            "ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/fib_multipath_hash_policy",
            "ipv6/fib_multipath_hash_policy",
        ]
        // As routers do: what has no carrier is no way.
        for interface in (try? RouteNetlink().links().map(\.name)) ?? [] {
            for family in ["ipv4", "ipv6"] { names.append("\(family)/conf/\(interface)/ignore_routes_with_linkdown") }
        }
        for name in names { setSysctl("net/\(name)", "1") }
    }

    private func connect(_ namespace: NetworkNamespace, _ cable: String, _ addresses: [InterfaceAddress]) throws {
        let route = try RouteNetlink()
        try route.addVeth(cable, mtu: 1500, peer: Self.exchange, peerNamespace: namespace.descriptor.number)
        try route.setMaster(cable, bridge: Self.exchange)
        try route.setUp(cable)
        try namespace.inside {
            Supervisor.quietIPv6(on: Self.exchange)
            let route = try RouteNetlink()
            try route.setUp("lo")
            try route.setUp(Self.exchange)
            for address in addresses { try route.addAddress(address, to: Self.exchange) }
        }
    }

    /// Where daemons of a place outside have their files.
    func outsideFiles(_ name: String) -> String { "\(directory.path)/outside/\(name)" }

    /// Starts the daemons of a router outside, or of the server.
    func startOutside(_ name: String, _ world: inout World, _ manifest: Manifest) throws {
        guard let namespace = world.outside[name], let lab = manifest.lab else { return }
        let files = outsideFiles(name)
        try FileManager.default.createDirectory(atPath: files, withIntermediateDirectories: true)
        // Sockets of an earlier run would be taken for others' by those who make them.
        for file in (try? FileManager.default.contentsOfDirectory(atPath: files)) ?? []
        where [".sock", ".api", ".ctl", ".vty", ".pid"].contains(where: file.hasSuffix) { unlink("\(files)/\(file)") }
        let programs: [OutsideConfiguration.Program]
        if let place = lab.fabric.firstIndex(of: name) {
            programs = FabricConfiguration(place, lab, manifest.topology, files: files).programs
        } else if let outside = lab.outside {
            let configuration = OutsideConfiguration(outside, manifest.topology, files: files)
            programs = name == Self.outside ? configuration.server() : configuration.router(name)
        } else {
            return
        }
        let log = Glibc.open("\(files)/log", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        if log < 0 { throw SystemError(errno, "open \(files)/log") }
        defer { close(log) }
        var pids: [Int32] = []
        for program in programs {
            guard access(program.arguments[0], X_OK) == 0 else {
                throw LabError(
                    "\(name): \(program.arguments[0]) is not installed", "install Debian's package \(program.package)")
            }
            for (file, text) in program.files { try text.write(toFile: file, atomically: true, encoding: .utf8) }
            pids.append(
                try Spawn(
                    program: program.arguments[0], arguments: program.arguments,
                    namespaces: [namespace.descriptor.number], output: log, error: log
                )
                .start())
            // What others ask by a socket is there before they are.
            for _ in 0..<200 where program.socket.map({ access($0, F_OK) != 0 }) ?? false { usleep(10_000) }
        }
        world.outsideProcesses[name] = pids
    }

    /// Ends the daemons of a router outside at once; whether there is such a router.
    func killOutside(_ name: String, _ world: inout World) -> Bool {
        guard world.outside[name] != nil else { return false }
        for pid in world.outsideProcesses.removeValue(forKey: name) ?? [] { Glibc.kill(pid, SIGKILL) }
        return true
    }
}
