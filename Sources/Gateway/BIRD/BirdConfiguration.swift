// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The configuration of BIRD 2 for an uplink. What it learns is in the kernel's main table of its namespace, with a note of what it
/// costs that can be compared among daemons - not as the metric, since routes of two metrics do not replace each other; what it is to announce it finds in another table there.
struct BirdConfiguration {
    /// The kernel's table of what is to be announced.
    static let announcedTable: UInt32 = 94

    let plan: UplinkPlan
    /// The file with the operator's own part; `nil`: it has none.
    var snippet: String?

    init(_ plan: UplinkPlan, snippet: String?) {
        self.plan = plan
        self.snippet = snippet
    }

    /// As the daemon reads it.
    var text: String {
        var lines = head
        for family in [AddressFamily.ipv4, .ipv6] { lines += tables(family) }
        let watched = plan.uplink.peers.filter { $0.liveness != nil && !$0.isFar }
        if !watched.isEmpty { lines += liveness(watched) }
        if let speaker = plan.speaker {
            for peer in plan.uplink.peers { lines += self.peer(peer, speaker) }
        }
        if let snippet { lines.append("include \"\(snippet)\";") }
        return lines.joined(separator: "\n") + "\n"
    }

    private var head: [String] {
        [
            "# Written by selvage for uplink \(plan.path): what is changed here is lost.",
            "log stderr { info, remote, warning, error, auth, fatal, bug };",
            "router id \(plan.identifier);",
            "timeformat protocol \"%s\";",
            "graceful restart wait 3;",
            "protocol device { scan time 10; }",
            """
            # What a route costs, comparable among all daemons of the router: how much it is preferred, how many systems
            # are on the way, what the neighbor says of it.
            function selvage_cost()
            int kept; int far; int said;
            {
              kept = 100; far = 0; said = 0;
              if defined(bgp_local_pref) then kept = bgp_local_pref;
              if defined(bgp_med) then said = bgp_med;
              if defined(bgp_path) then far = bgp_path.len;
              if kept > 4095 then kept = 4095;
              if far > 127 then far = 127;
              if said > 4095 then said = 4095;
              return (4095 - kept) * 524288 + far * 4096 + said;
            }
            """,
        ]
    }

    private func tables(_ family: AddressFamily) -> [String] {
        let (name, digit) = family == .ipv4 ? ("ipv4", "4") : ("ipv6", "6")
        let paths = plan.speaker?.maxPaths ?? 8
        return [
            """
            \(name) table announced\(digit);
            protocol kernel announcing\(digit) {
              kernel table \(Self.announcedTable); learn yes; scan time 10; graceful restart yes;
              \(name) { table announced\(digit); preference 1000; import all; export none; };
            }
            protocol pipe telling\(digit) { table announced\(digit); peer table master\(digit); export all; import none; }
            filter learned\(digit) {
              if source = RTS_INHERIT || source = RTS_DEVICE then reject;
              if source = RTS_BGP then krt_cwnd = selvage_cost(); else if ! defined(krt_cwnd) then krt_cwnd = \(Routing.unknownCost);
              accept;
            }
            protocol kernel learning\(digit) {
              merge paths \(paths > 1 ? "on limit \(paths)" : "off"); scan time 10; persist yes; graceful restart yes;
              \(name) { import none; export filter learned\(digit); };
            }
            """
        ]
    }

    private func liveness(_ peers: [BGPPeer]) -> [String] {
        var lines = ["protocol bfd watching {"]
        // What one is asked at is a matter of the interface: the quickest of all.
        let quickest = peers.compactMap(\.liveness).min {
            $0.interval * UInt32($0.count) < $1.interval * UInt32($1.count)
        }
        let said = quickest ?? .init()
        lines.append(
            "  interface \"\(DaemonNamespace.peer)\" { interval \(said.interval) ms; idle tx interval 1000 ms; multiplier \(said.count); };"
        )
        lines.append("}")
        return lines
    }

    private func peer(_ peer: BGPPeer, _ speaker: BGPSpeaker) -> [String] {
        let family = peer.address.family
        let name = daemonName(of: peer)
        let own = plan.own(toward: peer)
        var lines = incoming(peer, name) + outgoing(peer, name, speaker)
        lines.append("protocol bgp \(name) {")
        lines.append("  local\(own.map { " \($0)" } ?? "") as \(speaker.system);")
        let scope = peer.address.v6?.isLinkLocal == true ? "%'\(DaemonNamespace.peer)'" : ""
        lines.append("  neighbor \(peer.address)\(scope) as \(peer.system);")
        lines.append(peer.isFar ? "  multihop;" : "  direct;")
        if let password = peer.password { lines.append("  password \"\(password)\";") }
        lines.append(
            "  hold time \(peer.hold); keepalive time \(max(1, peer.hold / 3)); startup hold time \(max(peer.hold, 10));"
        )
        lines.append("  connect delay time 1; connect retry time 5; error wait time 1, 30; error forget time 60;")
        if peer.liveness != nil, !peer.isFar { lines.append("  bfd on;") }
        lines.append(
            peer.restartsGracefully
                ? "  graceful restart on; graceful restart time \(Routing.restartSeconds);" : "  graceful restart off;")
        lines.append("  long lived graceful restart off;")
        lines.append("  \(family == .ipv4 ? "ipv4" : "ipv6") {")
        lines.append(
            "    import filter \(name)_in; export filter \(name)_out; import keep filtered yes; next hop self;")
        if let limit = peer.limit { lines.append("    receive limit \(limit) action disable;") }
        lines.append("  };")
        lines.append("}")
        return lines
    }

    private func incoming(_ peer: BGPPeer, _ name: String) -> [String] {
        let family = peer.address.family
        // What is of no use to anybody but a host itself.
        let never =
            family == .ipv4
            ? "127.0.0.0/8+, 169.254.0.0/16+, 224.0.0.0/4+" : "::/128, ::1/128, fe80::/10+, ff00::/8+"
        var lines = ["filter \(name)_in {", "  if net ~ [ \(never) ] then reject;"]
        if let set = Self.set(peer.refused, family) { lines.append("  if net ~ \(set) then reject;") }
        if !peer.accepted.isEmpty {
            lines.append(Self.set(peer.accepted, family).map { "  if ! (net ~ \($0)) then reject;" } ?? "  reject;")
        }
        lines.append("  bgp_local_pref = \(peer.preference);")
        lines.append("  accept;")
        lines.append("}")
        return lines
    }

    private func outgoing(_ peer: BGPPeer, _ name: String, _ speaker: BGPSpeaker) -> [String] {
        var lines = ["filter \(name)_out {", "  if source != RTS_INHERIT then reject;"]
        if !peer.told.isEmpty {
            lines.append(
                Self.set(peer.told, peer.address.family).map { "  if ! (net ~ \($0)) then reject;" } ?? "  reject;")
        }
        for _ in 0..<peer.prepend { lines.append("  bgp_path.prepend(\(speaker.system));") }
        if let metric = peer.metric { lines.append("  bgp_med = \(metric);") }
        for community in peer.communities {
            lines.append(
                community.detail.map {
                    "  bgp_large_community.add((\(community.system), \(community.value), \($0)));"
                } ?? "  bgp_community.add((\(community.system), \(community.value)));")
        }
        lines.append("  accept;")
        lines.append("}")
        return lines
    }

    private static func set(_ matches: [PrefixMatch], _ family: AddressFamily) -> String? {
        let list = matches.filter { $0.prefix.family == family }.map {
            "\($0.prefix){\($0.lengths.lowerBound),\($0.lengths.upperBound)}"
        }
        return list.isEmpty ? nil : "[ \(list.joined(separator: ", ")) ]"
    }
}
