// SPDX-License-Identifier: Apache-2.0
import Wire

/// What makes a router's port an uplink: a routing daemon on its host speaks with routers outside by the port's addresses,
/// and what it learns from them are routes of the router.
public struct Uplink: Sendable, Hashable {
    /// Routers outside that it speaks BGP with.
    public var peers: [BGPPeer] = []
    /// What is to be in the daemon's configuration besides, in its own language.
    public var snippet: String?
    /// The daemon.
    public var daemon = Daemon.bird

    /// Routing daemons of others.
    public enum Daemon: String, Sendable, CaseIterable {
        /// BIRD 2.
        case bird
        /// FRRouting.
        case frr

        /// What may be said.
        public static var names: String { allCases.map(\.rawValue).joined(separator: " or ") }
    }

    /// An uplink that speaks with nobody.
    public init() {}

    /// Peers of one uplink, at most.
    public static let mostPeers = 64
    /// Communities of a peer that FRRouting takes, at most: they are one line to it.
    static let mostFRRCommunities = 64
    /// The shortest interval of BFD that FRRouting takes, milliseconds.
    static let leastFRRInterval: UInt32 = 50
    /// The longest ``snippet``, bytes.
    public static let longestSnippet = 65_536
}

extension Port {
    /// What the names of ports of daemons end with. No other name has such a sign.
    static let daemonSuffix = "%daemon"

    /// The port behind which an uplink's daemon is, on the same host; `nil`: it has none. It is part of the uplink: nobody draws
    /// it, and it goes with the uplink.
    var daemon: Port? {
        guard kind == .router, uplink != nil, case .exterior(let host, _) = attachment else { return nil }
        var port = Port(path: path.daemon, kind: .router, mac: mac)
        port.isEnabled = isEnabled
        port.attachment = .exterior(host: host, interface: path.daemonInterface)
        return port
    }
}

extension PortPath {
    /// Whether it is a port behind which a daemon is.
    public var isDaemon: Bool { name.hasSuffix(Port.daemonSuffix) }
    /// The port behind which this uplink's daemon is.
    public var daemon: PortPath { PortPath(device: device, name: name + Port.daemonSuffix) }
    /// The uplink of a daemon's port; of any other, itself.
    public var uplink: PortPath {
        isDaemon ? PortPath(device: device, name: String(name.dropLast(Port.daemonSuffix.count))) : self
    }
    /// The interface on the host that leads to the daemon.
    public var daemonInterface: String {
        let digits = String(stableHash("daemon \(self)") & 0xff_ffff_ffff, radix: 16)
        return "selu" + String(repeating: "0", count: 10 - digits.count) + digits
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func speaker(_ speaker: BGPSpeaker, format: UInt8) {
        number(speaker.system)
        optional(speaker.identifier) { $0.number($1.bits) }
        list(speaker.announced) { out, one in
            out.prefix(one.prefix)
            out.number(UInt8(Announcement.Form.allCases.firstIndex(of: one.form) ?? 0))
        }
        number(speaker.maxPaths)
        flag(speaker.prefersNear)
        number(speaker.patience)
        if format > 12 { number(speaker.leaderless) }
    }

    mutating func uplink(_ uplink: Uplink, format: UInt8) {
        list(uplink.peers) { $0.peer($1) }
        optional(uplink.snippet) { $0.text($1) }
        if format > 10 { number(UInt8(Uplink.Daemon.allCases.firstIndex(of: uplink.daemon) ?? 0)) }
    }

    private mutating func peer(_ peer: BGPPeer) {
        address(peer.address)
        number(peer.system)
        flag(peer.isFar)
        optional(peer.password) { $0.text($1) }
        number(peer.hold)
        optional(peer.liveness) { out, liveness in
            out.number(liveness.interval)
            out.number(liveness.count)
        }
        flag(peer.restartsGracefully)
        for matches in [peer.accepted, peer.refused, peer.told] {
            list(matches) { out, match in
                out.prefix(match.prefix)
                out.number(UInt8(match.lengths.lowerBound))
                out.number(UInt8(match.lengths.upperBound))
            }
        }
        optional(peer.limit) { $0.number($1) }
        number(peer.preference)
        number(peer.prepend)
        optional(peer.metric) { $0.number($1) }
        list(peer.communities) { out, community in
            out.number(community.system)
            out.number(community.value)
            out.optional(community.detail) { $0.number($1) }
        }
    }
}

extension ByteReader {
    mutating func speaker(format: UInt8) throws(MalformedBytes) -> BGPSpeaker {
        var speaker = BGPSpeaker(system: try number())
        speaker.identifier = try flag() ? IPv4Address(bits: try number()) : nil
        speaker.announced = try list { reader throws(MalformedBytes) in
            let prefix = try reader.prefix()
            let form: UInt8 = try reader.number()
            guard Announcement.Form.allCases.indices.contains(Int(form)) else {
                throw MalformedBytes("an announcement of form \(form), which a later version wrote")
            }
            return Announcement(prefix, Announcement.Form.allCases[Int(form)])
        }
        speaker.maxPaths = try number()
        speaker.prefersNear = try flag()
        speaker.patience = try number()
        if format > 12 { speaker.leaderless = try number() }
        return speaker
    }

    mutating func uplink(format: UInt8) throws(MalformedBytes) -> Uplink {
        var uplink = Uplink()
        uplink.peers = try list { reader throws(MalformedBytes) in try reader.peer() }
        uplink.snippet = try flag() ? try text() : nil
        if format > 10 {
            let daemon: UInt8 = try number()
            guard Uplink.Daemon.allCases.indices.contains(Int(daemon)) else {
                throw MalformedBytes("an uplink of daemon \(daemon), which a later version wrote")
            }
            uplink.daemon = Uplink.Daemon.allCases[Int(daemon)]
        }
        return uplink
    }

    private mutating func peer() throws(MalformedBytes) -> BGPPeer {
        var peer = BGPPeer(try address(), system: try number())
        peer.isFar = try flag()
        peer.password = try flag() ? try text() : nil
        peer.hold = try number()
        peer.liveness = nil
        if try flag() {
            var liveness = BGPPeer.Liveness()
            liveness.interval = try number()
            liveness.count = try number()
            peer.liveness = liveness
        }
        peer.restartsGracefully = try flag()
        peer.accepted = try matches()
        peer.refused = try matches()
        peer.told = try matches()
        peer.limit = try flag() ? try number() : nil
        peer.preference = try number()
        peer.prepend = try number()
        peer.metric = try flag() ? try number() : nil
        peer.communities = try list { reader throws(MalformedBytes) in
            var community = BGPCommunity(system: try reader.number(), value: try reader.number())
            community.detail = try reader.flag() ? try reader.number() : nil
            return community
        }
        return peer
    }

    private mutating func matches() throws(MalformedBytes) -> [PrefixMatch] {
        try list { reader throws(MalformedBytes) in
            let prefix = try reader.prefix()
            let (low, high) = (Int(try reader.number(UInt8.self)), Int(try reader.number(UInt8.self)))
            guard prefix.length <= low, low <= high, high <= prefix.family.width else {
                throw MalformedBytes("networks of no length")
            }
            return PrefixMatch(prefix, low...high)
        }
    }
}

/// What can be wrong with it.
extension Topology {
    func checkSpeaker(of router: Router, _ found: inout [Problem]) {
        guard let speaker = router.bgp else {
            for port in ports(of: router.path) where port.uplink?.peers.isEmpty == false {
                found.append(
                    Problem(
                        port.path, "has peers, and its router no autonomous system",
                        remedy: "say it of the router, as in bgp: { as: 65001 }"))
            }
            return
        }
        if speaker.announced.count > BGPSpeaker.mostAnnounced {
            found.append(
                Problem(
                    "\(router.path) bgp",
                    "announces \(speaker.announced.count) networks, \(BGPSpeaker.mostAnnounced) at most",
                    remedy: "summarize them"))
        }
        var seen: Set<Announcement> = []
        for one in speaker.announced where !seen.insert(one).inserted {
            found.append(Problem("\(router.path) bgp", "announces \(one) twice", remedy: "leave one of them out"))
        }
    }

    func checkUplink(of port: Port, _ found: inout [Problem]) {
        guard let uplink = port.uplink else { return }
        func problem(_ reason: String, _ remedy: String, _ peer: BGPPeer? = nil) {
            found.append(Problem("\(port.path)" + (peer.map { " peer \($0.address)" } ?? ""), reason, remedy: remedy))
        }
        guard port.kind == .router else {
            return problem("is a port of a bridge, and has peers", "peers are of ports of routers")
        }
        if uplink.peers.isEmpty, uplink.snippet == nil { problem("is an uplink that speaks with nobody", "name peers") }
        guard case .exterior = port.attachment else {
            return problem(
                "has peers, and no interface to reach them by", "bind it, as in host: h1, interface: eth1")
        }
        if uplink.peers.count > Uplink.mostPeers {
            problem("has \(uplink.peers.count) peers, \(Uplink.mostPeers) at most", "spread them over several uplinks")
        }
        if let snippet = uplink.snippet, snippet.utf8.count > Uplink.longestSnippet {
            problem("has a snippet of \(snippet.utf8.count) bytes", "use \(Uplink.longestSnippet) at most")
        }
        for (place, peer) in uplink.peers.enumerated() {
            if uplink.peers.prefix(place).contains(where: { $0.address == peer.address }) {
                problem("is there twice", "leave one of them out", peer)
            }
            check(peer, of: port, uplink, problem)
        }
    }

    private func check(_ peer: BGPPeer, of port: Port, _ uplink: Uplink, _ problem: (String, String, BGPPeer?) -> Void)
    {
        let near = port.addresses.filter { $0.address.family == peer.address.family }
        if near.contains(where: { $0.address == peer.address }) {
            problem("is the port's own address", "name the address of the router outside", peer)
        } else if near.isEmpty, peer.address.v6?.isLinkLocal != true {
            problem("is of a family that the port has no address of", "give the port one", peer)
        } else if !peer.isFar, peer.address.v6?.isLinkLocal != true,
            !near.contains(where: { $0.network.contains(peer.address) })
        {
            problem(
                "is in no network of the port, \(near.map { "\($0.network)" }.joined(separator: ", "))",
                "correct it, or say far: true of one behind other routers", peer)
        }
        for (reason, remedy) in peer.problems { problem(reason, remedy, peer) }
        if uplink.daemon == .frr, peer.communities.count > Uplink.mostFRRCommunities {
            problem(
                "has \(peer.communities.count) communities",
                "use \(Uplink.mostFRRCommunities) at most: FRRouting takes no more", peer)
        }
        if uplink.daemon == .frr, let liveness = peer.liveness, !peer.isFar, liveness.interval < Uplink.leastFRRInterval
        {
            problem(
                "is asked by BFD every \(liveness.interval) ms",
                "use \(Uplink.leastFRRInterval) ms or more: FRRouting takes no less", peer)
        }
    }
}

extension BGPPeer {
    /// What is wrong with it, whoever's it is.
    var problems: [(reason: String, remedy: String)] {
        var list: [(reason: String, remedy: String)] = []
        if let password {
            let isPlain = password.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != 0x22 && $0 != 0x5c }
            if !isPlain || password.utf8.count > BGPPeer.longestPassword {
                list.append(
                    (
                        "has a password that daemons can't be told",
                        "use up to \(BGPPeer.longestPassword) letters, digits and signs but quotes, backslashes and spaces"
                    ))
            }
        }
        for (name, count) in [
            ("accept", accepted.count), ("refuse", refused.count), ("tell", told.count),
            ("communities", communities.count),
        ] where count > BGPPeer.mostListed {
            list.append(("has \(count) entries of \(name)", "use \(BGPPeer.mostListed) at most"))
        }
        if isFar, liveness != nil, liveness != BGPPeer.Liveness() {
            list.append(
                ("is far, and BFD is of neighbors here", "leave bfd out, or name a peer in a network of ours"))
        }
        return list
    }
}
