// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The configuration of the BIRD 2 that routes for the host itself: what it hears comes into the host's main table, with the host's
/// address as the source of what begins here, and it tells others of the host's addresses alone.
struct UnderlayConfiguration {
    let plan: UnderlayPlan
    /// What the names of the daemon's files begin with.
    let files: String
    /// By which cards peers are reached; one that is by none is left out.
    let cards: [IPAddress: BirdPeers.Place]
    /// The file with the operator's own part; `nil`: it has none.
    let snippet: String?

    /// The longest log, bytes.
    private static let longestLog = 1 << 20

    /// As the daemon reads it.
    var text: String {
        var lines = [
            "# Written by selvage for the host itself: what is changed here is lost.",
            "log \"\(files).log\" \(Self.longestLog) \"\(files).log.old\" { info, remote, warning, error, auth, fatal, bug };",
            "router id \(plan.identifier);",
            "timeformat protocol \"%s\";",
            "graceful restart wait 3;",
            "protocol device { scan time 10; }",
        ]
        for family in [AddressFamily.ipv4, .ipv6] { lines += tables(family) }
        lines +=
            BirdPeers(
                peers: plan.peers, system: plan.speaker.system,
                announced: "proto = \"own4\" || proto = \"own6\"", place: { cards[$0.address] }, isAmongOthers: true
            ).lines
        lines += patience
        if let snippet { lines.append("include \"\(snippet)\";") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// One that begins anew takes away what the kernel has of before and it has not heard of yet as soon as no session says that there is
    /// more to come. Some never say so: the session of this one, which is with nobody, keeps it until the time for that is over.
    private var patience: [String] {
        [
            "protocol bgp patience {", "  local 127.0.0.1 as \(plan.speaker.system); strict bind yes;",
            "  neighbor 127.0.0.2 as \(plan.speaker.system); passive; graceful restart on;",
            "  ipv4 { import none; export none; };", "}",
        ]
    }

    private func tables(_ family: AddressFamily) -> [String] {
        let (name, digit) = family == .ipv4 ? ("ipv4", "4") : ("ipv6", "6")
        let own = plan.loopbacks.filter { $0.family == family }
        let paths = plan.speaker.maxPaths
        var lines: [String] = []
        if !own.isEmpty {
            lines.append("protocol static own\(digit) {")
            lines.append("  \(name);")
            for address in own { lines.append("  route \(address)/\(family.width) via \"lo\";") }
            lines.append("}")
        }
        let source = own.first.map { "krt_prefsrc = \($0); " } ?? ""
        lines.append(
            """
            filter reached\(digit) {
              if source = RTS_DEVICE || proto = "own\(digit)" then reject;
              \(source)accept;
            }
            protocol kernel host\(digit) {
              merge paths \(paths > 1 ? "on limit \(paths)" : "off"); scan time 10; persist yes; graceful restart yes;
              \(name) { import none; export filter reached\(digit); };
            }
            """)
        return lines
    }
}
