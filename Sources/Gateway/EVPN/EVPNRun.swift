// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Topology
import Wire

/// What the thread of an ``EVPNGateway`` does: the daemon that speaks with others, and those behind it. What is wrong with one of them
/// leaves the others alone.
struct EVPNRun {
    private let files: String
    private var front: FRRProcesses
    private var told: (foundation: [String], peers: [FRRConfiguration.Piece])?
    /// The one for networks of bridges, and that of each router's port.
    private var bridged: EVPNLeaf?
    private var routed: [PortPath: EVPNLeaf] = [:]
    private var log: Descriptor?
    private var local: IPv4Address?
    /// When the daemon that speaks with others is started again, and the pause after that.
    private var due: UInt64 = 0
    private var pause = EVPNRun.pauses.lowerBound
    private var began: UInt64 = 0
    /// When sessions are looked at again, and whatever else was wrong.
    private var nextGlance: UInt64 = 0
    private var retry: UInt64 = 0
    private(set) var failures = 0
    /// What is wrong.
    private(set) var problem: String?

    /// The pauses before the daemon is started again, nanoseconds: the first, and the longest.
    private static let pauses: ClosedRange<UInt64> = 300_000_000...10_000_000_000
    /// How long it has to run to be taken for well, nanoseconds.
    private static let wellAfter: UInt64 = 5_000_000_000
    /// How often sessions are looked at, nanoseconds.
    private static let glance: UInt64 = 250_000_000
    /// How long sessions have to be there before what they tell is taken for all, milliseconds.
    private static let settled = 2000
    /// The longest log, bytes.
    private static let longestLog = 4 << 20

    init(files: String) {
        self.files = files
        front = FRRProcesses(files: files)
    }

    var isRunning: Bool { front.isRunning }

    /// The socket of the daemon that speaks with others.
    static func terminal(_ files: String) -> String { FRRPlace(files: files).terminal("bgpd") }

    mutating func step(_ plan: EVPNPlan) {
        let now = monotonicNanoseconds()
        if now < retry { return }
        var trouble: String?
        func attempt(_ body: () throws -> Void) {
            do { try body() } catch { trouble = trouble ?? "\(error)" }
        }
        if log == nil { attempt { try begin(plan) } }
        // Tunnels end elsewhere: all begins anew.
        if let local, local != plan.local { clear() }
        local = plan.local
        attempt { try followFront(plan, now) }
        // What goes makes room for what comes.
        bridged?.keep(only: plan.bridged)
        if plan.bridged.isEmpty {
            bridged?.end()
            bridged = nil
        }
        for path in routed.keys {
            if let wanted = plan.routed[path] {
                routed[path]?.keep(only: [wanted.network])
            } else {
                routed[path]?.end()
                routed[path] = nil
            }
        }
        if !plan.bridged.isEmpty { attempt { try followBridged(plan, now) } }
        for (path, wanted) in plan.routed.sorted(by: { $0.key < $1.key }) {
            attempt { try followRouted(plan, path, wanted, now) }
        }
        if now >= nextGlance { attempt { try followSessions(plan, now) } }
        problem = trouble
        if trouble != nil { retry = now + Self.pauses.lowerBound }
    }

    // MARK: - Those that speak with others

    private mutating func begin(_ plan: EVPNPlan) throws {
        let number = Glibc.open(files + ".log", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0o600)
        if number < 0 { throw SystemError(errno, "open \(files).log") }
        log = Descriptor(number)
        // What an earlier run left leads nowhere, as long as the kernel takes to notice that nobody has it any more.
        let route = try RouteNetlink()
        let networks = plan.bridged + plan.routed.values.map(\.network)
        for name in try route.links().map(\.name)
        where name.hasPrefix(EVPNLeaf.cables) || name == EVPNLeaf.bridge
            || networks.contains(where: { $0.interface == name })
        { try? route.remove(name) }
    }

    private func makeBridge() throws {
        if interfaceExists(EVPNLeaf.bridge) { return }
        let route = try RouteNetlink()
        do {
            try route.addBridge(EVPNLeaf.bridge)
            setSysctl("net/ipv6/conf/\(EVPNLeaf.bridge)/disable_ipv6", "1")
            try route.addAddress(
                InterfaceAddress(IPAddress(EVPNConfiguration.front), length: EVPNConfiguration.inner.length),
                to: EVPNLeaf.bridge)
            try route.setUp(EVPNLeaf.bridge)
            try bridged?.attach()
            for leaf in routed.values { try leaf.attach() }
        } catch {
            // Half of it is none.
            try? route.remove(EVPNLeaf.bridge)
            throw error
        }
    }

    private mutating func followFront(_ plan: EVPNPlan, _ now: UInt64) throws {
        try makeBridge()
        if front.ended() != nil {
            failures += 1
            (told, due) = (nil, now + pause)
            pause = min(pause * 2, Self.pauses.upperBound)
        }
        if front.isRunning, now - began > Self.wellAfter { pause = Self.pauses.lowerBound }
        let wanted = EVPNConfiguration.front(plan)
        if let told, front.isRunning {
            if told.foundation == wanted.foundation {
                let gone = told.peers.filter { !wanted.peers.contains($0) }.flatMap(\.removal)
                let new = wanted.peers.filter { !told.peers.contains($0) }.flatMap(\.lines)
                if (gone + new).isEmpty { return }
                do { try front.tell((gone + new).joined(separator: "\n") + "\n") } catch {
                    // Half of it may be so.
                    front.stop(SIGKILL)
                    self.told = nil
                    throw error
                }
                self.told = wanted
                return
            }
            front.stop(SIGTERM)
        }
        if now < due { return }
        due = now + pause
        // It knows no interfaces and tells no kernel (-Z); others may listen at other addresses of the host.
        try front.start(
            ["bgpd"], in: nil,
            configuration: (wanted.foundation + wanted.peers.flatMap(\.lines)).joined(separator: "\n") + "\n",
            log: log?.number ?? -1,
            more: ["bgpd": ["-Z", "-l", "\(EVPNConfiguration.front)", "-l", "\(plan.local)"]])
        (told, began) = (wanted, now)
    }

    // MARK: - Those behind

    /// A number that none has.
    private func free() throws -> Int {
        let taken = Set(routed.values.map(\.number))
        guard let number = (2...253).first(where: { !taken.contains($0) }) else {
            throw GatewayError("a host has 252 networks of routers at most")
        }
        return number
    }

    private mutating func followBridged(_ plan: EVPNPlan, _ now: UInt64) throws {
        if bridged == nil { bridged = try EVPNLeaf(number: 1, files: files + "-1", routes: false) }
        let text = EVPNConfiguration.bridged(plan)
        if try bridged?.step(text, log: log?.number ?? -1, now: now) == true { failures += 1 }
        try bridged?.make(plan.bridged, local: plan.local)
    }

    private mutating func followRouted(
        _ plan: EVPNPlan, _ path: PortPath, _ wanted: EVPNPlan.Routed, _ now: UInt64
    ) throws {
        if routed[path] == nil {
            let number = try free()
            routed[path] = try EVPNLeaf(number: number, files: "\(files)-\(number)", routes: true)
        }
        let text = EVPNConfiguration.routed(plan, path, wanted)
        if try routed[path]?.step(text, log: log?.number ?? -1, now: now) == true { failures += 1 }
        try routed[path]?.make([wanted.network], local: plan.local)
    }

    /// Networks are open while somebody outside tells where they go on, and those behind hear of it.
    private mutating func followSessions(_ plan: EVPNPlan, _ now: UInt64) throws {
        nextGlance = now + Self.glance
        var up: [String: Int] = [:]
        if front.isRunning {
            // One that does not answer may be busy: what was so stays so.
            let terminal = FRRTerminal(path: Self.terminal(files))
            guard let answer = try? terminal.say("show bgp l2vpn evpn summary json") else { return }
            up = FRRAnswers.established(answer).filter { $0.value >= Self.settled }
        }
        let isHeard = plan.peers.contains { up[$0.address.description] != nil }
        func isReady(_ leaf: EVPNLeaf) -> Bool {
            isHeard && up[EVPNConfiguration.leaf(leaf.number).description] != nil
        }
        var failure: (any Error)?
        do { if let leaf = bridged { try bridged?.set(isReady: isReady(leaf)) } } catch { failure = error }
        for (path, leaf) in routed {
            do { try routed[path]?.set(isReady: isReady(leaf)) } catch { failure = failure ?? error }
        }
        var status = stat()
        if let log, fstat(log.number, &status) == 0, status.st_size > Self.longestLog { ftruncate(log.number, 0) }
        if let failure { throw failure }
    }

    func forgetStations(at interfaces: Set<String>) { bridged?.forgetStations(at: interfaces) }

    // MARK: - The end

    private mutating func clear() {
        front.stop(SIGTERM)
        (told, due) = (nil, 0)
        bridged?.end()
        bridged = nil
        for path in routed.keys { routed[path]?.end() }
        routed = [:]
    }

    mutating func end() {
        clear()
        front.removeFiles()
        if interfaceExists(EVPNLeaf.bridge) { try? RouteNetlink().remove(EVPNLeaf.bridge) }
    }
}
