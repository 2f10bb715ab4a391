// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Topology
import Wire

/// FRRouting for one uplink: the daemon that tells the kernel, that of BGP, and those that the configuration needs besides. They are
/// one: when one ends, all do.
struct FRRDaemon: RoutingDaemon {
    /// The main one: what is told there by others is taken for routes of the kernel's, in both families.
    static let announcedTable: UInt32 = 254

    private let files: String
    private let place: FRRPlace
    private var processes: [(name: String, pid: Int32)] = []
    private var configured: FRRConfiguration?
    /// What BGP's destinations cost, those that were there once too.
    private var costs: [Prefix: UInt32] = [:]
    /// How far that was told, of each family; none of a daemon that just began.
    private var versions: [AddressFamily: UInt32] = [:]
    private var nextGlance: UInt64 = 0

    init(files: String) {
        self.files = files
        place = FRRPlace(files: files)
    }

    var isRunning: Bool { !processes.isEmpty }

    mutating func ended() -> Int32? {
        for (name, pid) in processes {
            var status: Int32 = 0
            guard cl_wait(pid, 1, &status) != 0 else { continue }
            processes.removeAll { $0.name == name }
            // Who tells the kernel ends before it sees that nobody tells it anything any more.
            for (_, other) in processes { end(other, SIGKILL) }
            processes = []
            return status
        }
        return nil
    }

    private func end(_ pid: Int32, _ signal: Int32) {
        Glibc.kill(pid, signal)
        var status: Int32 = 0
        if signal != SIGKILL {
            for _ in 0..<100 {
                if cl_wait(pid, 1, &status) != 0 { return }
                usleep(10_000)
            }
            Glibc.kill(pid, SIGKILL)
        }
        _ = cl_wait(pid, 0, &status)
    }

    // MARK: - Configuration

    mutating func configure(_ plan: UplinkPlan) throws -> String? {
        var wanted = FRRConfiguration(plan)
        var trouble = try check(wanted)
        if let words = trouble, wanted.snippet != nil {
            trouble = "the snippet is left out: \(words)"
            wanted.snippet = nil
            if let words = try check(wanted) { throw GatewayError("the daemon can't be configured: \(words)") }
        } else if let words = trouble {
            throw GatewayError("the daemon can't be configured: \(words)")
        }
        let old = configured
        configured = wanted
        guard isRunning, let old else { return trouble }
        guard let changes = wanted.changes(from: old) else {
            // What rests on what is changed begins anew; the kernel forwards meanwhile.
            stop(SIGKILL)
            return trouble
        }
        if changes.isEmpty { return trouble }
        do { try tell(changes.joined(separator: "\n") + "\n") } catch let error as GatewayError {
            // Half of it may be so.
            stop(SIGKILL)
            return trouble ?? "\(error)"
        }
        return trouble
    }

    /// Why a configuration is none, in FRRouting's words; `nil` when it is one.
    private func check(_ configuration: FRRConfiguration) throws -> String? {
        guard let shell = FRRPlace.shell else { throw GatewayError(FRRPlace.missing) }
        try writeFile(configuration.text, to: files + ".new")
        let (status, words) = try ShortProgram.run(
            shell, ["vtysh", "-C", "-f", files + ".new"], output: files + ".check")
        if status == 0 { return nil }
        // "line 34: % Unknown command[4]: garbage": the line is of the whole.
        let first = words.split(separator: "\n").first.map(String.init) ?? "FRRouting refuses it, and does not say why"
        let parts = first.split(separator: ":", maxSplits: 1).map(String.init)
        guard parts.count == 2, parts[0].hasPrefix("line "), let line = Int(parts[0].dropFirst(5)) else { return first }
        let own = configuration.own.count
        return line > own ? "snippet, line \(line - own):\(parts[1])" : first
    }

    /// Says lines of configuration to the daemons that run.
    private func tell(_ text: String) throws {
        guard let shell = FRRPlace.shell else { throw GatewayError(FRRPlace.missing) }
        try writeFile(text, to: files + ".new")
        let (status, words) = try ShortProgram.run(
            shell, ["vtysh", "--vty_socket", place.directory, "-f", files + ".new"], output: files + ".check")
        if status != 0 {
            let lines = words.split(separator: "\n")
            let reason = lines.first { $0.contains("%") } ?? lines.last ?? "it does not say why"
            throw GatewayError("the daemon does not take its configuration: \(reason)")
        }
    }

    // MARK: - Processes

    /// Which daemons a configuration needs, in the order in which they start.
    private static func names(_ configuration: FRRConfiguration) -> [String] {
        let lines = (configuration.snippet ?? "").split(separator: "\n").map {
            $0.split(separator: " ").map(String.init)
        }
        func says(_ words: String...) -> Bool { lines.contains { $0.starts(with: words) } }
        var names = ["zebra"]
        if configuration.isWatching || says("bfd") || lines.contains(where: { $0.contains("bfd") }) {
            names.append("bfdd")
        }
        if says("ip", "route") || says("ipv6", "route") { names.append("staticd") }
        for (word, name) in [
            ("ospf", "ospfd"), ("ospf6", "ospf6d"), ("isis", "isisd"), ("rip", "ripd"), ("ripng", "ripngd"),
            ("babel", "babeld"), ("eigrp", "eigrpd"),
        ] where says("router", word) { names.append(name) }
        if configuration.speaks || says("router", "bgp") { names.append("bgpd") }
        return names
    }

    mutating func start(in namespace: NetworkNamespace, isRecovering: Bool, log: Int32) throws {
        guard let configured else { throw GatewayError("the daemon is not configured") }
        try place.make()
        versions = [:]
        do {
            for name in Self.names(configured) {
                guard let program = FRRPlace.program(name) else { throw GatewayError(FRRPlace.missing) }
                let pid = try Spawn(
                    program: program, arguments: place.arguments(name), namespaces: [namespace.descriptor.number],
                    output: log, error: log, diesWithParent: true
                )
                .start()
                processes.append((name, pid))
                if name == "zebra" { try wait(for: place.routes) }
            }
            for (name, _) in processes { try wait(for: place.terminal(name)) }
            try tell(configured.text)
        } catch {
            stop(SIGKILL)
            throw error
        }
    }

    /// Waits until something can be asked there.
    private func wait(for socket: String) throws {
        for _ in 0..<500 {
            if access(socket, F_OK) == 0 { return }
            for (name, pid) in processes where kill(pid, 0) < 0 { throw GatewayError("\(name) ended at once") }
            usleep(10_000)
        }
        throw GatewayError("the daemon does not make \(socket)")
    }

    mutating func stop() { stop(SIGTERM) }

    private mutating func stop(_ signal: Int32) {
        // The peers are told before the kernel forgets.
        for (_, pid) in processes.reversed() { end(pid, signal) }
        processes = []
    }

    func removeFiles() {
        place.remove()
        for file in [".new", ".check"] { unlink(files + file) }
    }

    // MARK: - What it knows

    /// How often it is looked whether something costs otherwise, nanoseconds: the kernel is told of that only when it goes another way.
    private static let glance: UInt64 = 250_000_000

    mutating func followCosts(isUrgent: Bool, now: UInt64) -> Set<Prefix>? {
        // Without it there is nothing of BGP's, or what there was.
        guard processes.contains(where: { $0.name == "bgpd" }), isUrgent || now >= nextGlance else { return [] }
        nextGlance = now + Self.glance
        let terminal = FRRTerminal(path: place.terminal("bgpd"))
        var changed: Set<Prefix> = []
        do {
            for family in [AddressFamily.ipv4, .ipv6] {
                let answer = try terminal.say(
                    "show bgp \(family.word) unicast version \(versions[family, default: 0] + 1) json")
                let table = FRRAnswers.costs(answer)
                for (prefix, cost) in table.costs where costs.updateValue(cost, forKey: prefix) != cost {
                    changed.insert(prefix)
                }
                if let version = table.version { versions[family] = version }
            }
        } catch { return nil }
        return changed
    }

    func cost(of prefix: Prefix) -> UInt32? { costs[prefix] }

    static func peers(of plan: UplinkPlan, files: String) throws -> [PeerStatus] {
        let terminal = FRRTerminal(path: FRRPlace(files: files).terminal("bgpd"))
        if plan.uplink.peers.isEmpty { return [] }
        var list = FRRAnswers.peers(try terminal.say("show bgp neighbors json"), plan.uplink.peers)
        for (place, peer) in plan.uplink.peers.enumerated() where list[place].state == "established" {
            let family = peer.address.family.word
            let counts = try terminal.say("show bgp \(family) unicast neighbors \(peer.address) prefix-counts json")
            list[place].received = FRRAnswers.received(counts) ?? list[place].accepted
        }
        return list
    }
}

extension AddressFamily {
    fileprivate var word: String { self == .ipv4 ? "ipv4" : "ipv6" }
}
