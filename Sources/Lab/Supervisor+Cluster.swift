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

/// The cluster of a lab: its nodes are founded and joined as on real hosts, killed, cut off and healed.
extension Supervisor {
    private static let patience: UInt64 = 60_000_000_000

    // MARK: - Growing

    /// Makes each host of a manifest a node that runs: the first founds the cluster, the others join on tokens.
    func growCluster(_ manifest: Manifest) throws {
        let hosts = manifest.lab?.hosts ?? []
        let missing = hosts.filter { !NodeDirectory(directory.nodeData($0)).isInUse }
        var newcomers = missing
        if missing.count == hosts.count, let first = hosts.first {
            let address = try underlayAddress(first)
            _ = try Founding.found(
                Founding.Node(
                    name: first, peerAddress: "\(address):\(LabNodes.peerPort)",
                    apiAddress: "\(address):\(LabNodes.apiPort)", tunnelAddress: address), cluster: directory.name,
                in: NodeDirectory(directory.nodeData(first)))
            newcomers.removeFirst()
            try world.withLock { try startNode(first, &$0) }
            try waitUntilReady([first])
        }
        if !newcomers.isEmpty {
            guard let sponsor = hosts.first(where: { !newcomers.contains($0) && nodes.whyNotReady($0) == nil }) else {
                throw LabError("no node is there to let others join", "selvage lab start starts one")
            }
            try join(newcomers, sponsor)
        }
        try world.withLock { world in
            for host in hosts where (world.nodes[host] ?? 0) == 0 { try startNode(host, &world) }
        }
        try waitUntilReady(hosts)
        // Whoever kills a node at once is to see what the cluster is for.
        let deadline = monotonicNanoseconds() + Supervisor.patience
        while let first = hosts.first, let cluster = nodes.cluster(first), monotonicNanoseconds() < deadline,
            cluster.isChanging || cluster.nodes.contains(where: { $0.role != $0.wanted })
        {
            usleep(20_000)
        }
        // What one host learns from the first packets the others are to know.
        while hosts.contains(where: { !nodes.hearsAll($0) }), monotonicNanoseconds() < deadline { usleep(20_000) }
    }

    private func underlayAddress(_ host: String) throws -> String {
        let address = world.withLock { $0.manifest?.topology.hosts[host]?.tunnelAddresses["default"] }
        guard let address else {
            throw LabError("\(host): has no address", "this is a fault of Selvage: please report it")
        }
        return address.description
    }

    /// Joins as on real hosts: the command, in the host's world, with a token.
    private func join(_ hosts: [String], _ sponsor: String) throws {
        var running: [(host: String, pid: Int32)] = []
        for host in hosts {
            let token = try nodes.token(sponsor)
            let address = try underlayAddress(host)
            let pid = try world.withLock { world in
                try spawn(
                    host,
                    [
                        "selvage", "cluster", "join", token, "--name", host, "--address", address, "--peer-port",
                        "\(LabNodes.peerPort)", "--api-port", "\(LabNodes.apiPort)", "--data", directory.nodeData(host),
                    ] + underlayOptions(host, world), &world)
            }
            running.append((host, pid))
        }
        for (host, _) in running {
            let deadline = monotonicNanoseconds() + Supervisor.patience
            while !NodeDirectory(directory.nodeData(host)).isInUse {
                if monotonicNanoseconds() > deadline { throw didNot(host, "join") }
                usleep(5000)
            }
        }
    }

    private func didNot(_ host: String, _ what: String) -> LabError {
        let log = (try? String(contentsOfFile: directory.nodeLog(host), encoding: .utf8)) ?? ""
        return LabError(
            "the node of \(host) did not \(what)",
            log.isEmpty ? "it said nothing" : log.split(separator: "\n").suffix(10).joined(separator: "\n    "))
    }

    private func spawn(_ host: String, _ arguments: [String], _ world: inout World) throws -> Int32 {
        guard let namespace = world.hosts[host] else { throw LabError("\(host): no such host", "") }
        let log = Glibc.open(directory.nodeLog(host), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        if log < 0 { throw SystemError(errno, "open \(directory.nodeLog(host))") }
        defer { close(log) }
        return try Spawn(
            program: "/proc/self/exe", arguments: arguments, namespaces: [namespace.descriptor.number], input: -1,
            output: log, error: log
        )
        .start()
    }

    private func startNode(_ host: String, _ world: inout World) throws {
        world.nodes[host] = try spawn(
            host,
            [
                "selvage", "node", "--data", directory.nodeData(host), "--socket", directory.nodeSocket(host),
            ] + underlayOptions(host, world), &world)
    }

    private func waitUntilReady(_ hosts: [String]) throws {
        for host in hosts {
            let deadline = monotonicNanoseconds() + Supervisor.patience
            while let reason = nodes.whyNotReady(host) {
                if !isRunning(host) { throw didNot(host, "start") }
                if monotonicNanoseconds() > deadline { throw didNot(host, "get ready: \(reason)") }
                usleep(10_000)
            }
        }
    }

    private func isRunning(_ host: String) -> Bool {
        let pid = world.withLock { $0.nodes[host] ?? 0 }
        return pid > 0 && Glibc.kill(pid, 0) == 0 && LabDirectory.startTime(pid) != nil
    }

    /// A node that is up and hears a leader.
    func anyone() throws -> String {
        let hosts = world.withLock { $0.manifest?.lab?.hosts ?? [] }
        guard let host = hosts.first(where: { isRunning($0) && nodes.whyNotReady($0) == nil }) else {
            throw LabError(
                "no node of the lab hears a leader", "selvage lab start and selvage lab heal bring them back")
        }
        return host
    }

    /// Has the cluster agree on what a manifest draws.
    func putInForce(_ manifest: Manifest) throws {
        let text = try String(contentsOfFile: directory.manifest, encoding: .utf8)
        try nodes.apply(text, file: manifest.file, asking: try anyone())
    }

    /// A host that is not in the manifest any more leaves the cluster.
    func leave(_ host: String) throws {
        try nodes.remove(host, asking: try anyone())
        try? FileManager.default.removeItem(atPath: directory.nodeData(host))
    }

    // MARK: - Failing

    func known(_ host: String) throws {
        let hosts = world.withLock { $0.manifest?.lab?.hosts ?? [] }
        guard hosts.contains(host) else {
            throw LabError("\(host): no such host", "there are \(hosts.joined(separator: ", "))")
        }
    }

    /// Starts a node again.
    func start(_ host: String) throws {
        let isOutside = try world.withLock { world in
            guard world.outside[host] != nil, let manifest = world.manifest else { return false }
            if world.outsideProcesses[host] == nil { try startOutside(host, &world, manifest) }
            return true
        }
        if isOutside { return }
        try known(host)
        try world.withLock { world in
            if (world.nodes[host] ?? 0) == 0 { try startNode(host, &world) }
        }
        // Without a quorum it never is ready, but it answers.
        let deadline = monotonicNanoseconds() + Supervisor.patience
        while nodes.status(host) == nil {
            if !isRunning(host) || monotonicNanoseconds() > deadline { throw didNot(host, "start") }
            usleep(10_000)
        }
    }

    /// Ends a node at once.
    func kill(_ host: String) throws {
        if world.withLock({ killOutside(host, &$0) }) { return }
        try known(host)
        let pid = world.withLock { $0.nodes[host] ?? 0 }
        guard pid > 0 else { throw LabError("the node of \(host) does not run", "selvage lab start \(host) starts it") }
        Glibc.kill(pid, SIGKILL)
        while world.withLock({ $0.nodes[host] ?? 0 }) == pid { usleep(2000) }
    }
}
