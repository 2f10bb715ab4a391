// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The configuration of FRRouting for an uplink, in pieces, so that a change of one leaves the sessions of others alone. What it
/// learns is in the kernel's main table of its namespace, and so is what it is to announce: its own redistributing is of that alone.
struct FRRConfiguration: Equatable {
    /// A part that can be taken back.
    struct Piece: Equatable {
        /// What it is about.
        var name: String
        /// What is said for it to be so.
        var lines: [String]
        /// What is said for it not to be so any more.
        var removal: [String]
    }

    /// What marks routes that are to be announced, in the daemon alone.
    private static let mark = 94
    private static let nowhere = "selvage-nowhere"

    /// What all else rests on.
    private(set) var foundation: [String] = []
    /// What is made of peers' routes, by peer.
    private(set) var policies: [Piece] = []
    /// The peers.
    private(set) var peers: [Piece] = []
    /// The operator's own part; `nil`: it has none.
    var snippet: String?
    /// Whether sessions are watched by BFD.
    private(set) var isWatching = false
    /// Whether it speaks BGP without being told so by the operator's own part.
    private(set) var speaks = false

    init(_ plan: UplinkPlan) {
        snippet = plan.uplink.snippet
        foundation = [
            "! Written by selvage for uplink \(plan.path): what is changed here is lost.",
            // Routes of the kernel are to say themselves where they lead.
            "no zebra nexthop kernel enable",
        ]
        guard let speaker = plan.speaker else { return }
        speaks = true
        isWatching = plan.uplink.peers.contains { $0.liveness != nil && !$0.isFar }
        foundation += Self.foundation(plan, speaker)
        for peer in plan.uplink.peers {
            policies.append(Self.policy(of: peer, speaker))
            peers.append(Self.session(with: peer, plan, speaker))
        }
    }

    /// What is ours, as lines.
    var own: [String] { foundation + policies.flatMap(\.lines) + peers.flatMap(\.lines) }

    /// As the daemon reads it.
    var text: String { own.joined(separator: "\n") + "\n" + (snippet.map { $0 + "\n" } ?? "") }

    /// What is to be said to a daemon that is configured otherwise; `nil`: it has to begin anew.
    func changes(from old: FRRConfiguration) -> [String]? {
        guard foundation == old.foundation, snippet == old.snippet, isWatching == old.isWatching else { return nil }
        func gone(_ before: [Piece], _ now: [Piece]) -> [Piece] { before.filter { !now.contains($0) } }
        // What the operator says of a peer besides would go with it.
        if snippet != nil, peers != old.peers { return nil }
        return gone(old.peers, peers).flatMap(\.removal) + gone(old.policies, policies).flatMap(\.removal)
            + gone(policies, old.policies).flatMap(\.lines) + gone(peers, old.peers).flatMap(\.lines)
    }

    // MARK: - Lines

    private static func keyword(_ family: AddressFamily) -> String { family == .ipv4 ? "ip" : "ipv6" }

    private static func foundation(_ plan: UplinkPlan, _ speaker: BGPSpeaker) -> [String] {
        var lines = [
            "ip prefix-list \(nowhere) permit 127.0.0.0/8 le 32",
            "ip prefix-list \(nowhere) permit 169.254.0.0/16 le 32",
            "ip prefix-list \(nowhere) permit 224.0.0.0/4 le 32", "ipv6 prefix-list \(nowhere) permit ::/128",
            "ipv6 prefix-list \(nowhere) permit ::1/128", "ipv6 prefix-list \(nowhere) permit fe80::/10 le 128",
            "ipv6 prefix-list \(nowhere) permit ff00::/8 le 128", "route-map selvage-own permit 10",
            " set tag \(mark)", " set origin igp", "exit", "router bgp \(speaker.system)",
            " bgp router-id \(plan.identifier)", " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast",
            " no bgp network import-check", " bgp bestpath as-path multipath-relax", " bgp route-map delay-timer 1",
            " bgp graceful-restart", " bgp graceful-restart restart-time \(Routing.restartSeconds)",
            " bgp graceful-restart preserve-fw-state",
        ]
        for family in [AddressFamily.ipv4, .ipv6] {
            lines += [
                " address-family \(family == .ipv4 ? "ipv4" : "ipv6") unicast",
                "  redistribute kernel route-map selvage-own", "  maximum-paths \(speaker.maxPaths)",
                "  maximum-paths ibgp \(speaker.maxPaths)", " exit-address-family",
            ]
        }
        return lines + ["exit"]
    }

    private static func policy(of peer: BGPPeer, _ speaker: BGPSpeaker) -> Piece {
        let name = daemonName(of: peer)
        let family = peer.address.family
        let keyword = keyword(family)
        var lists: [String] = []
        var lines: [String] = []
        /// A list of what is of the peer's family; `nil` where nothing is.
        func list(_ suffix: String, _ matches: [PrefixMatch]) -> String? {
            let own = matches.filter { $0.prefix.family == family }
            if own.isEmpty { return nil }
            lists.append("\(name)_\(suffix)")
            lines += own.map { "\(keyword) prefix-list \(name)_\(suffix) permit \($0.frr)" }
            return "\(name)_\(suffix)"
        }
        let refused = list("refused", peer.refused)
        let accepted = list("accepted", peer.accepted)
        let told = list("told", peer.told)
        func match(_ list: String) -> String { " match \(keyword) address prefix-list \(list)" }

        lines += ["route-map \(name)_in deny 5", match(nowhere), "exit"]
        if let refused { lines += ["route-map \(name)_in deny 10", match(refused), "exit"] }
        if peer.accepted.isEmpty || accepted != nil {
            lines.append("route-map \(name)_in permit 20")
            if let accepted { lines.append(match(accepted)) }
            lines.append(" set local-preference \(peer.preference)")
            if family == .ipv6 { lines.append(" set ipv6 next-hop prefer-global") }
            lines.append("exit")
        }
        if peer.told.isEmpty || told != nil {
            lines += ["route-map \(name)_out permit 10", " match tag \(mark)"]
            if let told { lines.append(match(told)) }
            if peer.prepend > 0 {
                let systems = repeatElement("\(speaker.system)", count: Int(peer.prepend)).joined(separator: " ")
                lines.append(" set as-path prepend \(systems)")
            }
            if let metric = peer.metric { lines.append(" set metric \(metric)") }
            let (large, plain) = (
                peer.communities.filter { $0.detail != nil }, peer.communities.filter { $0.detail == nil }
            )
            for (kind, list) in [("community", plain), ("large-community", large)] where !list.isEmpty {
                lines.append(" set \(kind) \(list.map(\.description).joined(separator: " ")) additive")
            }
            lines.append("exit")
        } else {
            lines += ["route-map \(name)_out deny 10", "exit"]
        }
        return Piece(
            name: name, lines: lines,
            removal: ["no route-map \(name)_in", "no route-map \(name)_out"]
                + lists.map { "no \(keyword) prefix-list \($0)" })
    }

    private static func session(with peer: BGPPeer, _ plan: UplinkPlan, _ speaker: BGPSpeaker) -> Piece {
        let name = daemonName(of: peer)
        let neighbor = " neighbor \(peer.address)"
        var said = ["remote-as \(peer.system)"]
        if peer.address.v6?.isLinkLocal == true {
            said.append("interface \(DaemonNamespace.peer)")
        } else if let own = plan.own(toward: peer) {
            said.append("update-source \(own)")
        }
        if peer.isFar, peer.system != speaker.system { said.append("ebgp-multihop 255") }
        if let password = peer.password { said.append("password \(password)") }
        said += ["timers \(max(1, peer.hold / 3)) \(peer.hold)", "timers connect 2", "advertisement-interval 0"]
        if let liveness = peer.liveness, !peer.isFar {
            said.append("bfd \(liveness.count) \(liveness.interval) \(liveness.interval)")
        }
        if !peer.restartsGracefully { said.append("graceful-restart-disable") }
        var family = [
            "activate", "next-hop-self", "soft-reconfiguration inbound", "route-map \(name)_in in",
            "route-map \(name)_out out",
        ]
        if let limit = peer.limit { family.append("maximum-prefix \(limit) force") }
        return Piece(
            name: name,
            lines: ["router bgp \(speaker.system)"] + said.map { "\(neighbor) \($0)" }
                + [" address-family \(peer.address.family == .ipv4 ? "ipv4" : "ipv6") unicast"]
                + family.map { " \(neighbor) \($0)" } + [" exit-address-family", "exit"],
            removal: ["router bgp \(speaker.system)", " no neighbor \(peer.address)", "exit"])
    }
}

extension PrefixMatch {
    /// As FRRouting writes it.
    fileprivate var frr: String {
        var text = "\(prefix)"
        if lengths.lowerBound > prefix.length { text += " ge \(lengths.lowerBound)" }
        if lengths.upperBound > prefix.length { text += " le \(lengths.upperBound)" }
        return text
    }
}
