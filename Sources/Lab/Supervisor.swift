// SPDX-License-Identifier: Apache-2.0
import API
import CLinux
import Foundation
import Glibc
import Linux
import Manifest
import Netlink
import Node
import Synchronization
import Topology
import Wire

/// Process 1 of a lab's world. It makes hosts, machines and the underlay between them, runs a node for each host, and
/// answers tools. When it ends, by whatever cause, the kernel ends every process of the lab, and the namespaces go with
/// them: nothing is left behind.
public final class Supervisor: Sendable {
    let directory: LabDirectory

    struct World {
        var file = ""
        var manifest: Manifest?
        var hosts: [String: NetworkNamespace] = [:]
        var machines: [PortPath: (namespace: NetworkNamespace, plan: LabPlan.Machine)] = [:]
        var nodes: [String: Int32] = [:]
        /// Routers outside and the server behind them, by name, and what runs there.
        var outside: [String: NetworkNamespace] = [:]
        var outsideProcesses: [String: [Int32]] = [:]
        /// Groups of hosts that hear each other only among themselves; none: all do.
        var groups: [[String]] = []
    }
    let world = Mutex(World())
    let nodes: LabNodes

    private init(_ directory: LabDirectory) {
        self.directory = directory
        nodes = LabNodes(directory: directory)
    }

    /// Runs a lab until a signal ends it. To be called as process 1 of a world of its own.
    ///
    /// - Parameters:
    ///   - directory: path of the lab's files.
    ///   - file: how the user called the manifest.
    ///   - ready: descriptor that receives one line: `ready`, or why not.
    public static func run(directory: String, file: String, ready: Int32) -> Int32 {
        let supervisor = Supervisor(LabDirectory(path: directory))
        func say(_ line: String) -> Bool {
            let bytes = Array((line + "\n").utf8)
            return write(ready, bytes, bytes.count) == bytes.count
        }
        do {
            try Signals.startCatching()
            try SystemError.check(cl_mount_private(), "keep mounts to the lab")
            // Where /proc may not be mounted anew, tools inside see the outer one: no harm.
            _ = cl_mount_proc()
            try supervisor.build(file)
            let server = try ControlServer<LabRequest, LabResponse>(path: supervisor.directory.socket) { request in
                supervisor.answer(request)
            }
            // Whoever began the lab is gone: so is the lab.
            guard say("ready") else { return 1 }
            close(ready)
            supervisor.waitForEnd()
            server.stop()
            return 0
        } catch {
            _ = say("\(error)")
            return 1
        }
    }

    private func waitForEnd() {
        while true {
            guard Signals.next() == SIGCHLD else { return }
            var status: Int32 = 0
            while true {
                let pid = cl_wait(-1, 1, &status)
                if pid <= 0 { break }
                world.withLock { world in
                    for (host, node) in world.nodes where node == pid {
                        world.nodes[host] = 0
                        log("the node of \(host) ended with status \(status); its log is \(directory.nodeLog(host))")
                    }
                }
            }
        }
    }

    private func log(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

    // MARK: - Building

    private func build(_ file: String) throws {
        let route = try RouteNetlink()
        try route.setUp("lo")
        let manifest = try ManifestReader.read(path: directory.manifest)
        try world.withLock { world in
            world.file = file
            try letRootRunFRR()
            try conform(&world, to: manifest)
            try addOutside(&world, manifest)
            try addLANs(&world, manifest)
        }
        try growCluster(manifest)
        try putInForce(manifest)
    }

    /// Makes what the manifest has and the world has not, and removes what it has not any more.
    private func conform(_ world: inout World, to manifest: Manifest) throws {
        let plan = manifest.lab ?? LabPlan()
        for (path, machine) in world.machines where plan.machines[path] != machine.plan {
            try removeMachine(path, machine.plan.host, machine.plan.interfaces, &world)
        }
        for host in world.hosts.keys where !plan.hosts.contains(host) { try removeHost(host, &world) }
        world.manifest = manifest
        try addFabric(&world, plan)
        for host in plan.hosts {
            if let namespace = world.hosts[host] {
                try addCables(host, world, namespace)
            } else {
                try addHost(host, &world)
            }
        }
        try runFabric(&world, manifest)
        for (path, machine) in plan.machines.sorted(by: { $0.key < $1.key }) where world.machines[path] == nil {
            try addMachine(path, machine, manifest.topology, &world)
        }
    }

    private func addHost(_ host: String, _ world: inout World) throws {
        let namespace = try NetworkNamespace.create(at: directory.hostNamespace(host))
        world.hosts[host] = namespace
        try addCables(host, world, namespace)
    }

    /// Addresses of the lab are unique by construction: no waiting for duplicates, no announcements of our own.
    static func quietIPv6(on interface: String) {
        for (name, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
            setSysctl("net/ipv6/conf/\(interface)/\(name)", value)
        }
    }

    /// What only carries frames says nothing of its own.
    static func disableIPv6(on interface: String) {
        setSysctl("net/ipv6/conf/\(interface)/disable_ipv6", "1")
    }

    private func addMachine(
        _ path: PortPath, _ machine: LabPlan.Machine, _ topology: Topology, _ world: inout World
    ) throws {
        guard let host = world.hosts[machine.host] else { return }
        let namespace = try NetworkNamespace.create(at: directory.machineNamespace(path))
        world.machines[path] = (namespace, machine)
        let mtu = topology.zones.values.map { $0.overlayMTU(underlay: .ipv4) }.min() ?? 1450
        let number = namespace.descriptor.number
        try host.inside {
            let route = try RouteNetlink()
            try route.addVeth(
                machine.interface, mtu: mtu, peer: "eth0", peerNamespace: number, peerMAC: machine.mac)
            if let wire = machine.wire {
                try route.addVeth(wire.interface, mtu: mtu, peer: "eth1", peerNamespace: number)
            }
            for interface in machine.interfaces {
                Supervisor.quietIPv6(on: interface)
                try route.setUp(interface)
            }
        }
        try namespace.inside { try Supervisor.setUp(machine, mtu: mtu) }
    }

    /// Gives a machine, whose namespace this thread is in, what it has besides its cables.
    static func setUp(_ machine: LabPlan.Machine, mtu: Int) throws {
        quietIPv6(on: "eth0")
        let route = try RouteNetlink()
        try route.setUp("lo")
        try route.setUp("eth0")
        for address in machine.addresses { try route.addAddress(address, to: "eth0") }
        try addVLANs(machine, mtu: mtu)
        if machine.wire != nil { try join("eth0", "eth1") }
        for gateway in machine.gateways { try route.addRoute(to: .all(gateway.family), via: gateway) }
    }

    /// The interfaces of a machine behind a trunk: the kernel's where it has 802.1Q, cables and a splitter of ours elsewhere.
    private static func addVLANs(_ machine: LabPlan.Machine, mtu: Int) throws {
        if machine.vlans.isEmpty { return }
        let route = try RouteNetlink()
        let ids = machine.vlans.keys.sorted()
        do {
            for id in ids { try route.addVLAN("vlan\(id)", of: "eth0", id: id) }
        } catch let error as SystemError where error.code == EOPNOTSUPP {
            try VLANSplitter.start(on: "eth0", ids: ids, mtu: mtu)
            for id in ids {
                try route.setMAC("vlan\(id)", machine.mac)
            }
        }
        for id in ids {
            quietIPv6(on: "vlan\(id)")
            try route.setUp("vlan\(id)")
            for address in machine.vlans[id] ?? [] { try route.addAddress(address, to: "vlan\(id)") }
        }
    }

    /// Makes this thread's namespace a wire between two interfaces, which says nothing itself.
    private static func join(_ one: String, _ other: String) throws {
        let route = try RouteNetlink()
        // A station whose packets pass twice, with two tags, is on both sides.
        try route.addBridge("wire", learns: false)
        for interface in [one, other] {
            try route.setMaster(interface, bridge: "wire")
            try route.setUp(interface)
        }
        for interface in ["wire", one, other] { disableIPv6(on: interface) }
        try route.setUp("wire")
    }

    private func removeMachine(_ path: PortPath, _ host: String, _ interfaces: [String], _ world: inout World) throws {
        world.machines[path] = nil
        for interface in interfaces { try? world.hosts[host]?.inside { try RouteNetlink().remove(interface) } }
        remove(directory.machineNamespace(path))
    }

    private func removeHost(_ host: String, _ world: inout World) throws {
        // What watches over the host's daemon is to be gone before that is.
        let isRouted = world.manifest?.lab?.fabric.isEmpty == false
        if let node = world.nodes.removeValue(forKey: host), node > 0 {
            Glibc.kill(node, isRouted ? SIGKILL : SIGTERM)
            for _ in 0..<200 where isRouted && RunningProcess(node).name != nil { usleep(5000) }
        }
        world.hosts[host] = nil
        removeCables(host)
        removeFabricCables(host, world)
        remove(directory.hostNamespace(host))
    }

    private func remove(_ mounted: String) {
        umount2(mounted, Int32(MNT_DETACH))
        unlink(mounted)
    }

    // MARK: - Answers

    private func attempt(_ body: () throws -> Void) -> LabResponse {
        do {
            try body()
            return .done
        } catch { return .failure("\(error)") }
    }

    private func answer(_ request: LabRequest) -> LabResponse {
        switch request {
        case .status: return .status(status())
        case .check: return .check(check())
        case .apply(let text, let file): return apply(text, file)
        case .start(let host): return attempt { try start(host) }
        case .kill(let host): return attempt { try kill(host) }
        case .partition(let groups, let zone): return attempt { try partition(groups, zone: zone) }
        case .heal: return attempt { try heal() }
        }
    }

    private func apply(_ text: String, _ file: String) -> LabResponse {
        do {
            let manifest = try ManifestReader.read(text, file: file)
            guard manifest.lab != nil else {
                throw LabError("\(file): has no lab part", "add lab: with hosts and machines")
            }
            let fabric = world.withLock { $0.manifest?.lab?.fabric }
            guard manifest.lab?.fabric == fabric else {
                throw LabError(
                    "\(file): other routers are between hosts than in the running lab",
                    "begin it anew: selvage lab down, selvage lab up \(file)")
            }
            // What the cluster would refuse must not have moved a machine.
            try nodes.apply(text, file: file, asking: try anyone(), dryRun: true)
            try text.write(toFile: directory.manifest, atomically: true, encoding: .utf8)
            let gone = world.withLock { world in world.hosts.keys.filter { manifest.lab?.hosts.contains($0) == false } }
            try world.withLock { world in
                world.file = file
                try conform(&world, to: manifest)
            }
            try growCluster(manifest)
            for host in gone { try leave(host) }
            try putInForce(manifest)
            return .done
        } catch {
            return .failure("\(error)")
        }
    }

    private func status() -> LabStatus {
        let (file, manifest, running, groups) = world.withLock { ($0.file, $0.manifest, $0.nodes, $0.groups) }
        let plan = manifest?.lab ?? LabPlan()
        return LabStatus(
            name: directory.name, manifest: file,
            hosts: plan.hosts.map { host in
                let isRunning = (running[host] ?? 0) > 0
                let status = isRunning ? nodes.status(host) : nil
                let own = (isRunning ? nodes.cluster(host) : nil)?.nodes.first { $0.name == host }
                return .init(
                    name: host,
                    address: manifest?.topology.hosts[host]?.tunnelAddresses["default"]?.description ?? "",
                    datapath: status?.datapath, revision: status?.revision,
                    role: own.map { $0.isLeader ? "leader" : $0.role }, group: groups.first { $0.contains(host) },
                    processID: running[host] ?? 0,
                    problems: status.map { status in
                        (status.staleSeconds.map { ["no leader for \(Int($0)) s: what it knows may be stale"] } ?? [])
                            + status.problems
                            + status.ports.compactMap { port in port.problem.map { "\(port.port): \($0)" } }
                    } ?? ["the node does not run: selvage lab start \(host)"])
            },
            machines: plan.machines.sorted { $0.key < $1.key }.map { path, machine in
                var addresses = machine.addresses.map(\.description)
                for (vlan, list) in machine.vlans.sorted(by: { $0.key < $1.key }) {
                    for address in list { addresses.append("vlan \(vlan) \(address)") }
                }
                return LabStatus.Machine(
                    port: path.description, host: machine.host, addresses: addresses, mac: machine.mac.description)
            }, expectations: plan.expectations.count)
    }

    // MARK: - Checks

    private func check() -> [CheckResult] {
        let (manifest, machines) = world.withLock { world in
            var machines = world.machines.mapValues(\.namespace)
            machines[LabPlan.outside] = world.outside[Supervisor.outside]
            for name in (world.manifest?.lab?.stations ?? [:]).keys {
                machines[LabPlan.station(name)] = world.outside[name]
            }
            return (world.manifest, machines)
        }
        guard let plan = manifest?.lab else { return [] }
        // What listens in one machine must not be asked twice at once: checks run in waves of distinct targets.
        var results = [CheckResult?](repeating: nil, count: plan.expectations.count)
        var left = Array(plan.expectations.enumerated())
        while !left.isEmpty {
            var busy: Set<String> = []
            var wave: [(offset: Int, element: Expectation)] = []
            left.removeAll { item in
                guard busy.insert("\(item.element.to) \(item.element.probe)").inserted, wave.count < 16 else {
                    return false
                }
                wave.append(item)
                return true
            }
            let replies = wave.map { item in
                let reply = Reply<CheckResult>()
                let run: @Sendable () -> Void = { [self] in reply.put(check(item.element, plan, machines)) }
                if (try? NamedThread("sel-check", run)) == nil { run() }
                return (item.offset, reply)
            }
            for (offset, reply) in replies { results[offset] = reply.take() }
        }
        return results.compactMap(\.self)
    }

    private func check(
        _ expectation: Expectation, _ plan: LabPlan, _ machines: [PortPath: NetworkNamespace]
    ) -> CheckResult {
        var result = CheckResult(
            from: LabPlan.name(of: expectation.from), to: expectation.to.description,
            probe: expectation.probe.description + (expectation.family == .ipv6 ? " ipv6" : ""),
            expected: expectation.reaches, reached: false, milliseconds: nil, note: "")
        guard let source = machines[expectation.from] else {
            result.note = "there is no machine \(expectation.from)"
            return result
        }
        let address: IPAddress?
        var target: NetworkNamespace?
        var hosts = [plan.machines[expectation.from]?.host].compactMap(\.self)
        switch expectation.to {
        case .address(let literal): address = literal
        case .machine(let path):
            target = machines[path]
            let machine = plan.machines[path]
            let all = (machine?.addresses ?? []) + (machine?.vlans.sorted { $0.key < $1.key }.flatMap(\.value) ?? [])
            address = all.map(\.address).first { expectation.family == nil || $0.family == expectation.family }
            if let host = machine?.host, hosts.last != host { hosts.append(host) }
        }
        if let answerer = expectation.answerer {
            target = machines[answerer]
            if let host = plan.machines[answerer]?.host, hosts.last != host { hosts.append(host) }
        }
        guard let address else {
            result.note = "the machine has no such address"
            return result
        }
        result.packet = expectation.probe.packet(to: address)
        var prober = Prober(source: source, target: target, address: address, probe: expectation.probe)
        prober.listening = expectation.listening
        prober.seenAs = expectation.seenAs
        do {
            let milliseconds = try prober.run(patienceMilliseconds: expectation.reaches ? 4000 : 900)
            result.reached = milliseconds != nil
            result.milliseconds = milliseconds
            if milliseconds != nil { result.note = hosts.joined(separator: " -> ") }
        } catch let error as Prober.Stranger {
            result.note = "seen as \(error.seen)"
        } catch {
            result.note = "\(error)"
        }
        return result
    }
}
