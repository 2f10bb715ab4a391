// SPDX-License-Identifier: Apache-2.0
import Manifest
import Topology
import Wire

/// How daemons of others are configured to be routers outside of a lab.
struct OutsideConfiguration {
    /// A program that is to run.
    struct Program {
        /// The program and what it is told.
        var arguments: [String]
        /// Files that it reads.
        var files: [String: String]
        /// What is there when it can be asked.
        var socket: String?
        /// The package that it is in.
        var package: String
    }
    /// Whom a router speaks with.
    private struct Neighbor {
        var address: IPAddress
        var system: UInt32
        var password: String?
        var isWatched: Bool
        /// Whether it is one of the lab's uplinks.
        var isUplink: Bool
    }

    private let outside: LabPlan.Outside
    private let topology: Topology
    private let files: String

    init(_ outside: LabPlan.Outside, _ topology: Topology, files: String) {
        self.outside = outside
        self.topology = topology
        self.files = files
    }

    /// What runs at the server: it tells all routers of its networks, and hears from them where others are.
    func server() -> [Program] {
        let own = outside.exchangeAddresses(nil)
        var lines = birdHead(own[0].address, sources: outside.addresses.map(\.address))
        for family in [AddressFamily.ipv4, .ipv6] {
            let networks = outside.addresses.map(\.network).filter { $0.family == family }
            if networks.isEmpty { continue }
            lines.append("protocol static { \(family == .ipv4 ? "ipv4" : "ipv6");")
            for network in networks { lines.append("  route \(network) blackhole;") }
            lines.append("}")
        }
        for (place, name) in outside.routers.keys.sorted().enumerated() {
            for (address, near) in zip(outside.exchangeAddresses(place), own) {
                lines += bird(
                    "\(name.filter(\.isLetter))\(place)_\(address.address.family == .ipv4 ? 4 : 6)",
                    near.address, LabPlan.Outside.system,
                    Neighbor(
                        address: address.address, system: outside.routers[name]?.system ?? 0, password: nil,
                        isWatched: outside.routers[name]?.daemon != .gobgp, isUplink: false),
                    exports: "where source = RTS_STATIC")
            }
        }
        return [birdProgram(lines)]
    }

    /// What runs at a router.
    func router(_ name: String) -> [Program] {
        guard let router = outside.routers[name] else { return [] }
        switch router.daemon {
        case .bird:
            var lines = birdHead(identifier(name))
            lines.append("protocol static { ipv4; route 0.0.0.0/0 blackhole; }")
            lines.append("protocol static { ipv6; route ::/0 blackhole; }")
            for (number, (own, neighbor)) in neighbors(name, router).enumerated() {
                lines += bird("n\(number)", own, router.system, neighbor, exports: "all")
            }
            return [birdProgram(lines)]
        case .frr: return frr(name, router)
        case .gobgp: return gobgp(name, router)
        }
    }

    // MARK: - Whom a router speaks with

    private func identifier(_ name: String) -> IPAddress {
        let place = outside.routers.keys.sorted().firstIndex(of: name)
        return outside.exchangeAddresses(place)[0].address
    }

    private func neighbors(_ name: String, _ router: LabPlan.Router) -> [(own: IPAddress, neighbor: Neighbor)] {
        let place = outside.routers.keys.sorted().firstIndex(of: name)
        var list: [(own: IPAddress, neighbor: Neighbor)] = []
        for (own, server) in zip(outside.exchangeAddresses(place), outside.exchangeAddresses(nil)) {
            list.append(
                (
                    own.address,
                    Neighbor(
                        address: server.address, system: LabPlan.Outside.system, password: nil, isWatched: true,
                        isUplink: false)
                ))
        }
        for (path, links) in router.links.sorted(by: { $0.key < $1.key }) {
            guard let port = topology.ports[path], let speaker = topology.routers[path.device]?.bgp else { continue }
            for own in links {
                let peer = port.uplink?.peers.first { $0.address == own.address }
                for address in port.addresses where own.network.contains(address.address) {
                    list.append(
                        (
                            own.address,
                            Neighbor(
                                address: address.address, system: speaker.system, password: peer?.password,
                                isWatched: peer?.liveness != nil, isUplink: true)
                        ))
                }
            }
        }
        return list
    }

    /// From one BFD packet to the next, milliseconds: as the quickest uplink has it, so that a lab on a slow machine
    /// says it in one place.
    private var watching: UInt32 {
        topology.ports.uplinks.compactMap { topology.ports[$0]?.uplink?.peers }.joined()
            .compactMap(\.liveness?.interval).min() ?? Self.usualWatching
    }
    /// The same where no uplink says it.
    static let usualWatching: UInt32 = 75

    // MARK: - BIRD

    /// - Parameter sources: addresses that what begins here is to have.
    private func birdHead(_ identifier: IPAddress, sources: [IPAddress] = []) -> [String] {
        var lines = [
            "log stderr all;", "router id \(identifier);", "protocol device { scan time 5; }",
            "protocol bfd { interface \"*\" { interval \(watching) ms; multiplier 3; }; }",
        ]
        for family in [AddressFamily.ipv4, .ipv6] {
            let name = family == .ipv4 ? "ipv4" : "ipv6"
            let source = sources.first { $0.family == family }.map { "krt_prefsrc = \($0); " } ?? ""
            lines.append(
                "filter \(name)_out { if dest = RTD_BLACKHOLE || source = RTS_DEVICE then reject; \(source)accept; }")
            lines.append("protocol kernel { merge paths on; \(name) { import none; export filter \(name)_out; }; }")
        }
        return lines
    }

    private func bird(
        _ name: String, _ own: IPAddress, _ system: UInt32, _ neighbor: Neighbor, exports: String
    ) -> [String] {
        [
            "protocol bgp \(name) {",
            "  local \(own) as \(system); neighbor \(neighbor.address) as \(neighbor.system); direct;",
            "  hold time 9; connect delay time 1; connect retry time 2; error wait time 1, 5; graceful restart on;",
            neighbor.password.map { "  password \"\($0)\";" } ?? "", neighbor.isWatched ? "  bfd on;" : "",
            "  \(own.family == .ipv4 ? "ipv4" : "ipv6") { import all; export \(exports); next hop self; };", "}",
        ]
    }

    private func birdProgram(_ lines: [String]) -> Program {
        Program(
            arguments: ["/usr/sbin/bird", "-f", "-c", "\(files)/bird.conf", "-s", "\(files)/bird.ctl"],
            files: ["\(files)/bird.conf": lines.joined(separator: "\n") + "\n"], socket: nil, package: "bird2")
    }

    // MARK: - FRRouting

    private func frr(_ name: String, _ router: LabPlan.Router) -> [Program] {
        let list = neighbors(name, router)
        var lines = [
            "router bgp \(router.system)", " bgp router-id \(identifier(name))", " no bgp ebgp-requires-policy",
            " no bgp network import-check", " no bgp default ipv4-unicast", " bgp bestpath as-path multipath-relax",
            " timers bgp 3 9",
        ]
        for (_, neighbor) in list {
            lines.append(" neighbor \(neighbor.address) remote-as \(neighbor.system)")
            lines.append(" neighbor \(neighbor.address) timers connect 2")
            if let password = neighbor.password { lines.append(" neighbor \(neighbor.address) password \(password)") }
            if neighbor.isWatched { lines.append(" neighbor \(neighbor.address) bfd profile quick") }
        }
        for family in [AddressFamily.ipv4, .ipv6] {
            lines.append(" address-family \(family == .ipv4 ? "ipv4" : "ipv6") unicast")
            lines.append("  maximum-paths 8")
            for (_, neighbor) in list where neighbor.address.family == family {
                lines.append("  neighbor \(neighbor.address) activate")
                lines.append("  neighbor \(neighbor.address) next-hop-self")
                if neighbor.isUplink { lines.append("  neighbor \(neighbor.address) default-originate") }
            }
            lines.append(" exit-address-family")
        }
        return Program.frr(lines, files: files, watching: watching)
    }

    // MARK: - GoBGP

    private func gobgp(_ name: String, _ router: LabPlan.Router) -> [Program] {
        var lines = [
            "[global.config]", "  as = \(router.system)", "  router-id = \"\(identifier(name))\"",
            "[global.use-multiple-paths.config]", "  enabled = true",
        ]
        for (own, neighbor) in neighbors(name, router) {
            lines += [
                "[[neighbors]]", "  [neighbors.config]", "    neighbor-address = \"\(neighbor.address)\"",
                "    peer-as = \(neighbor.system)",
            ]
            if let password = neighbor.password { lines.append("    auth-password = \"\(password)\"") }
            lines += [
                "  [neighbors.transport.config]", "    local-address = \"\(own)\"", "  [neighbors.timers.config]",
                "    hold-time = 9", "    keepalive-interval = 3", "    connect-retry = 2",
                "  [neighbors.graceful-restart.config]", "    enabled = true", "    helper-only = true",
                "    restart-time = 5", "  [[neighbors.afi-safis]]", "    [neighbors.afi-safis.config]",
                "      afi-safi-name = \"\(neighbor.address.family == .ipv4 ? "ipv4" : "ipv6")-unicast\"",
                "    [neighbors.afi-safis.mp-graceful-restart.config]", "      enabled = true",
            ]
        }
        // It speaks BGP and no more: what it decides BIRD hears of and tells the kernel.
        lines += [
            "[[neighbors]]", "  [neighbors.config]", "    neighbor-address = \"127.0.0.2\"",
            "    peer-as = \(router.system)", "  [neighbors.transport.config]", "    passive-mode = true",
            "    local-address = \"127.0.0.1\"",
        ]
        for family in ["ipv4", "ipv6"] {
            lines += [
                "  [[neighbors.afi-safis]]", "    [neighbors.afi-safis.config]",
                "      afi-safi-name = \"\(family)-unicast\"", "    [neighbors.afi-safis.add-paths.config]",
                "      send-max = 8",
            ]
        }
        let listener = [
            "protocol direct { ipv4; ipv6; }", "protocol bgp gobgp {",
            "  local 127.0.0.2 port 1790 as \(router.system); neighbor 127.0.0.1 as \(router.system);",
            "  connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9; multihop;",
            "  ipv4 { add paths rx; import all; export none; gateway recursive; };",
            "  ipv6 { add paths rx; import all; export none; gateway recursive; };", "}",
        ]
        return [
            Program(
                arguments: [
                    "/usr/bin/gobgpd", "-f", "\(files)/gobgp.toml", "--api-hosts", "unix://\(files)/gobgp.sock",
                ],
                files: ["\(files)/gobgp.toml": lines.joined(separator: "\n") + "\n"], socket: nil, package: "gobgpd"),
            birdProgram(birdHead(IPAddress(IPv4Address(bits: 0x7f00_0002))) + listener),
        ]
    }
}

extension OutsideConfiguration.Program {
    /// FRRouting's daemons of a router that speaks BGP, watched by BFD each `watching` milliseconds where it says `bfd profile quick`.
    static func frr(
        _ lines: [String], files: String, watching: UInt32 = OutsideConfiguration.usualWatching
    ) -> [Self] {
        func program(_ name: String, _ text: String, _ more: [String] = [], socket: String? = nil) -> Self {
            Self(
                arguments: [
                    "/usr/lib/frr/\(name)", "-f", "\(files)/\(name).conf", "-i", "\(files)/\(name).pid", "-z",
                    "\(files)/zserv.api", "--vty_socket", files, "-u", "root", "-g", "root", "-P", "0", "--log",
                    "stdout",
                ] + more, files: ["\(files)/\(name).conf": text], socket: socket, package: "frr")
        }
        let profile =
            "bfd\n profile quick\n  transmit-interval \(watching)\n  receive-interval \(watching)\n exit\nexit\n"
        return [
            program("zebra", "", socket: "\(files)/zserv.api"),
            program("bfdd", profile, ["--bfdctl", "\(files)/bfdd.sock"], socket: "\(files)/bfdd.sock"),
            program("bgpd", lines.joined(separator: "\n") + "\n"),
        ]
    }
}
