// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What FRRouting's daemons of a host are told to speak EVPN. One speaks with others outside, where the host's address is, and knows no
/// kernel; behind it, in namespaces of their own, are those that know interfaces: to them it reflects.
enum EVPNConfiguration {
    /// The network between the one that speaks with others and those behind it.
    static let inner = Prefix(IPAddress(IPv4Address(bits: 0xa9fe_5e00)), length: 24)  // 169.254.94.0/24
    /// The address in it of the one that speaks with others.
    static let front = IPv4Address(bits: 0xa9fe_5e01)

    /// The address of one behind it; 1...253.
    static func leaf(_ number: Int) -> IPv4Address { IPv4Address(bits: front.bits + UInt32(number)) }

    private static func head(_ system: UInt32, _ identifier: IPv4Address) -> [String] {
        [
            "! Written by selvage: what is changed here is lost.", "router bgp \(system)",
            " bgp router-id \(identifier)", " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast",
            " no bgp network import-check", " coalesce-time 50", " bgp bestpath as-path multipath-relax",
        ]
    }

    /// Of the one that speaks with others: what all rests on, and a piece for each peer.
    static func front(_ plan: EVPNPlan) -> (foundation: [String], peers: [FRRConfiguration.Piece]) {
        let foundation =
            head(plan.system, plan.local) + [
                " neighbor behind peer-group", " neighbor behind remote-as \(plan.system)",
                " neighbor behind timers 3 9",
                " bgp listen limit 254", " bgp listen range \(inner) peer-group behind", " address-family l2vpn evpn",
                "  neighbor behind activate", "  neighbor behind route-reflector-client", " exit-address-family",
                "exit",
            ]
        let peers = plan.peers.map { peer in
            let neighbor = " neighbor \(peer.address)"
            var lines = [
                "router bgp \(plan.system)", "\(neighbor) remote-as \(peer.system)",
                // Nothing else tells that one is gone.
                "\(neighbor) update-source \(plan.local)", "\(neighbor) timers 1 3", "\(neighbor) timers connect 2",
                "\(neighbor) advertisement-interval 0",
            ]
            // It may be behind other routers.
            if peer.system != plan.system { lines.append("\(neighbor) ebgp-multihop 255") }
            lines += [" address-family l2vpn evpn", " \(neighbor) activate", " exit-address-family", "exit"]
            return FRRConfiguration.Piece(
                name: "\(peer.address)", lines: lines,
                removal: ["router bgp \(plan.system)", " no neighbor \(peer.address)", "exit"])
        }
        return (foundation, peers)
    }

    /// What tells one behind from all others, on other hosts too.
    private static func identifier(_ plan: EVPNPlan, _ name: String) -> IPv4Address {
        IPv4Address(bits: UInt32(truncatingIfNeeded: stableHash("evpn \(plan.local) \(name)")) | 1)
    }

    /// Of the one that knows the networks of bridges.
    static func bridged(_ plan: EVPNPlan) -> String {
        let lines =
            ["ip nht resolve-via-default"] + head(plan.system, identifier(plan, "bridges")) + up(plan.system) + [
                " address-family l2vpn evpn", "  neighbor \(front) activate", "  advertise-all-vni",
                " exit-address-family", "exit",
            ]
        return lines.joined(separator: "\n") + "\n"
    }

    private static func up(_ system: UInt32) -> [String] {
        [
            " neighbor \(front) remote-as \(system)", " neighbor \(front) timers 3 9",
            " neighbor \(front) timers connect 1",
            " neighbor \(front) advertisement-interval 0",
        ]
    }

    /// Of one that is a router outside to a router of ours.
    static func routed(_ plan: EVPNPlan, _ path: PortPath, _ routed: EVPNPlan.Routed) -> String {
        var lines = [
            "ip nht resolve-via-default", "ipv6 nht resolve-via-default", "vni \(routed.network.identifier)",
        ]
        lines += head(plan.system, identifier(plan, "\(path)")) + up(plan.system)
        for router in routed.routers {
            lines += [
                " neighbor \(router) remote-as \(routed.system)", " neighbor \(router) timers 3 9",
                " neighbor \(router) timers connect 1", " neighbor \(router) advertisement-interval 0",
            ]
        }
        for family in [AddressFamily.ipv4, .ipv6] {
            let near = routed.routers.filter { $0.family == family }
            if near.isEmpty { continue }
            // One way each: FRRouting 8.4 loses the far router's MAC where one of several ways goes. Hosts share ways among their uplinks.
            lines += [
                " address-family \(family == .ipv4 ? "ipv4" : "ipv6") unicast", "  maximum-paths 1",
                "  maximum-paths ibgp 1",
            ]
            for router in near {
                lines += ["  neighbor \(router) activate", "  neighbor \(router) next-hop-self force"]
                if routed.system == plan.system { lines.append("  neighbor \(router) route-reflector-client") }
            }
            lines.append(" exit-address-family")
        }
        lines += [" address-family l2vpn evpn", "  neighbor \(front) activate", "  advertise-all-vni"]
        for family in Set(routed.routers.map(\.family)).sorted(by: { $0.width < $1.width }) {
            lines.append("  advertise \(family == .ipv4 ? "ipv4" : "ipv6") unicast")
        }
        lines += [" exit-address-family", "exit"]
        return lines.joined(separator: "\n") + "\n"
    }
}
