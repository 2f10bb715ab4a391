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
        lines +=
            BirdPeers(
                peers: plan.uplink.peers, system: plan.speaker?.system, announced: "source = RTS_INHERIT",
                place: { .init(address: plan.own(toward: $0), interface: DaemonNamespace.peer) }
            ).lines
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
}
