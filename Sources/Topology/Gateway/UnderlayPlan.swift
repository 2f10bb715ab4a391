// SPDX-License-Identifier: Apache-2.0
import Wire

/// How a host is reached by others at addresses that belong to none of its cards: it tells the routers next to it where they are, and
/// hears from them where others are. It is the host's own, and of no topology: a node needs it to reach the others in the first place.
public struct UnderlayPlan: Sendable, Hashable {
    /// What it says of itself: its system, and its identifier where that is said.
    public var speaker: BGPSpeaker
    /// The addresses.
    public var loopbacks: [IPAddress]
    /// The routers next to it.
    public var peers: [BGPPeer]
    /// The operator's own part of the daemon's configuration.
    public var snippet: String?

    /// Addresses of one host, at most.
    public static let mostLoopbacks = 8

    /// What it is known by among routers: said, or its first IPv4 address, or a number made of the first one.
    public var identifier: IPv4Address {
        if let identifier = speaker.identifier { return identifier }
        for address in loopbacks { if let v4 = address.v4 { return v4 } }
        return IPv4Address(bits: UInt32(truncatingIfNeeded: stableHash("\(loopbacks)")) | 1)
    }

    /// What is wrong with it.
    public var problems: [Problem] {
        var found: [Problem] = []
        func problem(_ reason: String, _ remedy: String, _ peer: BGPPeer? = nil) {
            found.append(Problem(peer.map { "peer \($0.address)" } ?? "underlay", reason, remedy: remedy))
        }
        if loopbacks.isEmpty { problem("has no address", "write loopback: 192.0.2.1") }
        if loopbacks.count > Self.mostLoopbacks {
            problem("has \(loopbacks.count) addresses", "use \(Self.mostLoopbacks) at most")
        }
        for (place, address) in loopbacks.enumerated() {
            if loopbacks.prefix(place).contains(address) { problem("has \(address) twice", "leave one of them out") }
            let isNobodys = address.isMulticast || address.isUnspecified || address.isOfThisHost
            if isNobodys || address.v6?.isLinkLocal == true {
                problem("\(address) is no address of one host", "name one that others reach it at")
            }
        }
        if !speaker.announced.isEmpty { problem("announces its own addresses alone", "leave announce out") }
        if peers.isEmpty { problem("speaks with nobody", "name peers") }
        if peers.count > Uplink.mostPeers { problem("has \(peers.count) peers", "use \(Uplink.mostPeers) at most") }
        if let snippet, snippet.utf8.count > Uplink.longestSnippet {
            problem("has a snippet of \(snippet.utf8.count) bytes", "use \(Uplink.longestSnippet) at most")
        }
        for (place, peer) in peers.enumerated() {
            if peers.prefix(place).contains(where: { $0.address == peer.address }) {
                problem("is there twice", "leave one of them out", peer)
            }
            if peer.address.v6?.isLinkLocal == true {
                problem("has an address of a link alone", "name an address that says on which", peer)
            }
            if peer.isFar { problem("is far", "name the routers next to the host", peer) }
            for (reason, remedy) in peer.problems { problem(reason, remedy, peer) }
        }
        return found
    }

    /// A host with some addresses.
    public init(_ loopbacks: [IPAddress], speaker: BGPSpeaker, peers: [BGPPeer]) {
        (self.loopbacks, self.speaker, self.peers) = (loopbacks, speaker, peers)
    }
}

extension IPAddress {
    fileprivate var isUnspecified: Bool { high | low == 0 }
    /// Whether it is one of those by which a host means itself.
    fileprivate var isOfThisHost: Bool { family == .ipv4 ? high >> 56 == 127 : high == 0 && low == 1 }
}
