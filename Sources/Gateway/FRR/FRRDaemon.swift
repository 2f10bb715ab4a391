// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Topology
import Wire

/// FRRouting for one uplink: the daemon that tells the kernel, that of BGP, and those that the configuration needs besides. They are
/// one: when one ends, all do.
struct FRRDaemon: RoutingDaemon {
    /// The main one: what is told there by others is taken for routes of the kernel's, in both families.
    static let announcedTable: UInt32 = 254

    private var processes: FRRProcesses
    private var configured: FRRConfiguration?
    /// What BGP's destinations cost, those that were there once too.
    private var costs: [Prefix: UInt32] = [:]
    /// How far that was told, of each family; none of a daemon that just began.
    private var versions: [AddressFamily: UInt32] = [:]
    private var nextGlance: UInt64 = 0

    init(files: String, farewell: Farewell?) { processes = FRRProcesses(files: files, farewell: farewell) }

    var isRunning: Bool { processes.isRunning }

    mutating func ended() -> Int32? { processes.ended() }

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
            processes.stop(SIGKILL)
            return trouble
        }
        if changes.isEmpty { return trouble }
        do { try processes.tell(changes.joined(separator: "\n") + "\n") } catch let error as GatewayError {
            // Half of it may be so.
            processes.stop(SIGKILL)
            return trouble ?? "\(error)"
        }
        return trouble
    }

    /// Why a configuration is none, in FRRouting's words; `nil` when it is one.
    private func check(_ configuration: FRRConfiguration) throws -> String? {
        guard let words = try processes.check(configuration.text) else { return nil }
        // "line 34: % Unknown command[4]: garbage": the line is of the whole.
        let parts = words.split(separator: ":", maxSplits: 1).map(String.init)
        guard parts.count == 2, parts[0].hasPrefix("line "), let line = Int(parts[0].dropFirst(5)) else { return words }
        let own = configuration.own.count
        return line > own ? "snippet, line \(line - own):\(parts[1])" : words
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

    mutating func start(in namespace: NetworkNamespace, isRecovering: Bool, log: Int32) throws -> String? {
        guard let configured else { throw GatewayError("the daemon is not configured") }
        versions = [:]
        let own = configured.own.joined(separator: "\n") + "\n"
        try processes.start(Self.names(configured), in: namespace, configuration: own, log: log)
        guard let snippet = configured.snippet else { return nil }
        do {
            try processes.tell(snippet + "\n")
            return nil
        } catch let error as GatewayError {
            // It is well written, and can't be so. What is ours goes on without it.
            processes.stop(SIGKILL)
            self.configured?.snippet = nil
            try processes.start(Self.names(configured), in: namespace, configuration: own, log: log)
            return "the snippet is left out: \(error)"
        }
    }

    // The peers are told before the kernel forgets.
    mutating func stop() { processes.stop(SIGTERM) }

    func removeFiles() { processes.removeFiles() }

    // MARK: - What it knows

    /// How often it is looked whether something costs otherwise, nanoseconds: the kernel is told of that only when it goes another way.
    private static let glance: UInt64 = 250_000_000

    mutating func followCosts(isUrgent: Bool, now: UInt64) -> Set<Prefix>? {
        // Without it there is nothing of BGP's, or what there was.
        guard processes.runs("bgpd"), isUrgent || now >= nextGlance else { return [] }
        nextGlance = now + Self.glance
        let terminal = FRRTerminal(path: processes.place.terminal("bgpd"))
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
