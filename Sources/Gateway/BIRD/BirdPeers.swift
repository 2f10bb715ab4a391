// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What BIRD is told of routers that it speaks BGP with, wherever it runs.
struct BirdPeers {
    /// Whom it speaks with.
    let peers: [BGPPeer]
    /// Its own autonomous system; `nil`: it speaks no BGP.
    let system: UInt32?
    /// Which routes they are told of, in BIRD's language.
    let announced: String
    /// How each is reached; `nil`: it is not, now.
    let place: (BGPPeer) -> Place?
    /// Whether others speak BGP in the same namespace, at addresses of their own.
    var isAmongOthers = false

    /// How a peer is reached.
    struct Place: Sendable, Equatable {
        /// The address that it is to see; `nil`: whichever is in its network.
        var address: IPAddress?
        /// The interface that it is behind.
        var interface: String
    }

    /// As the daemon reads it.
    var lines: [String] {
        var watched: [String: [BGPPeer]] = [:]
        var lines: [String] = []
        for peer in peers {
            guard let place = place(peer) else { continue }
            if peer.liveness != nil, !peer.isFar { watched[place.interface, default: []].append(peer) }
            if let system { lines += self.peer(peer, place, system) }
        }
        return liveness(watched) + lines
    }

    private func liveness(_ watched: [String: [BGPPeer]]) -> [String] {
        if watched.isEmpty { return [] }
        var lines = ["protocol bfd watching {"]
        for (interface, peers) in watched.sorted(by: { $0.key < $1.key }) {
            // What one is asked at is a matter of the interface: the quickest of all.
            let said =
                peers.compactMap(\.liveness).min {
                    $0.interval * UInt32($0.count) < $1.interval * UInt32($1.count)
                } ?? .init()
            lines.append(
                "  interface \"\(interface)\" { interval \(said.interval) ms; idle tx interval 1000 ms; multiplier \(said.count); };"
            )
        }
        lines.append("}")
        return lines
    }

    private func peer(_ peer: BGPPeer, _ place: Place, _ system: UInt32) -> [String] {
        let family = peer.address.family
        let name = daemonName(of: peer)
        var lines = incoming(peer, name) + outgoing(peer, name, system)
        lines.append("protocol bgp \(name) {")
        lines.append("  local\(place.address.map { " \($0)" } ?? "") as \(system);")
        let scope = peer.address.v6?.isLinkLocal == true ? "%'\(place.interface)'" : ""
        if isAmongOthers, place.address != nil { lines.append("  strict bind yes;") }
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

    private func outgoing(_ peer: BGPPeer, _ name: String, _ system: UInt32) -> [String] {
        var lines = ["filter \(name)_out {", "  if ! (\(announced)) then reject;"]
        if !peer.told.isEmpty {
            lines.append(
                Self.set(peer.told, peer.address.family).map { "  if ! (net ~ \($0)) then reject;" } ?? "  reject;")
        }
        for _ in 0..<peer.prepend { lines.append("  bgp_path.prepend(\(system));") }
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
