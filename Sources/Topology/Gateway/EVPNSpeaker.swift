// SPDX-License-Identifier: Apache-2.0
import Wire

/// Whom a host asks where VXLAN end points of others are, and tells what is behind its own: routers or switches that speak BGP with the
/// address family of Ethernet VPNs (RFC 7432, 8365 and 9136).
public struct EVPNSpeaker: Sendable, Hashable {
    /// One of them.
    public struct Peer: Sendable, Hashable {
        /// Its address.
        public var address: IPv4Address
        /// Its autonomous system.
        public var system: UInt32

        /// One of a system.
        public init(_ address: IPv4Address, system: UInt32) { (self.address, self.system) = (address, system) }
    }

    /// The host's autonomous system there.
    public var system: UInt32
    /// Those that it speaks with.
    public var peers: [Peer] = []

    /// A speaker that speaks with nobody.
    public init(system: UInt32) { self.system = system }

    /// Peers of one host, at most.
    public static let mostPeers = 64
}

extension EVPNSpeaker {
    /// As in `192.0.2.4 as 65004`, or `192.0.2.4` of one of the same system.
    func text(of peer: Peer) -> String { "\(peer.address)" + (peer.system == system ? "" : " as \(peer.system)") }

    /// Reads what ``text(of:)`` writes.
    func peer(reading text: String) -> Peer? {
        let words = text.split(separator: " ").map(String.init)
        guard let address = words.first.flatMap({ IPv4Address($0) }) else { return nil }
        if words.count == 1 { return Peer(address, system: system) }
        guard words.count == 3, words[1] == "as", let other = UInt32(words[2]), BGPSpeaker.isSystem(other) else {
            return nil
        }
        return Peer(address, system: other)
    }
}

extension Topology {
    /// Ports of a host whose networks are told of by EVPN, in order of name.
    public func evpnPorts(of host: String) -> [Port] {
        ports.vxlans.sorted().compactMap { path in
            guard let port = ports[path], port.vxlan?.speaker != nil, case .exterior(host, _) = port.attachment else {
                return nil
            }
            return port
        }
    }

    func checkEVPN(of port: Port, on host: String, _ problem: (String, String) -> Void) {
        guard let end = port.vxlan, let speaker = end.speaker else { return }
        if !end.remotes.isEmpty {
            problem("names end points and peers", "leave one of them out: peers tell of the end points")
        }
        if speaker.peers.isEmpty { problem("has a system and no peers", "say peers: [192.0.2.4 as 65004]") }
        if speaker.peers.count > EVPNSpeaker.mostPeers {
            problem("names \(speaker.peers.count) peers", "use \(EVPNSpeaker.mostPeers) at most")
        }
        let local = vxlanLocal(of: port)
        if let local, speaker.peers.contains(where: { $0.address == local }) {
            problem("names \(local) as peer, which is this host's own address", "name the others only")
        }
        for other in evpnPorts(of: host) where other.path < port.path {
            guard let their = other.vxlan?.speaker else { continue }
            if their.system != speaker.system || vxlanLocal(of: other) != local {
                problem(
                    "has another as or local on host \(host) than \(other.path)",
                    "a host speaks as one: say the same of both")
            }
            for peer in speaker.peers
            where their.peers.contains(where: { $0.address == peer.address && $0.system != peer.system }) {
                problem("has peer \(peer.address) in another system than \(other.path)", "correct one of them")
            }
        }
        for other in evpnPorts(of: host) where other.path < port.path && other.vxlan?.identifier == end.identifier {
            if other.vxlan?.port == end.port { continue }
            problem("has vni \(end.identifier) on host \(host), as \(other.path) has", "use another, whatever udp is")
        }
        guard port.kind == .router else { return }
        let near =
            port.uplink?.peers.filter { peer in port.addresses.contains { $0.network.contains(peer.address) } } ?? []
        if near.isEmpty {
            problem(
                "is of a router's port that has no peer in its network",
                "give it an address and a peer, which becomes the address of the network: address: 100.64.9.1/30, peers: [{ address: 100.64.9.2, as: \(speaker.system) }]"
            )
        }
        for peer in near where peer.password != nil {
            problem("has peer \(peer.address) with a password", "leave it out: the peer is on this host")
        }
        for peer in near where peer.system != speaker.system {
            problem(
                "is in system \(speaker.system), and the port's peer \(peer.address) in \(peer.system)",
                "say the same of both: the peer is this network")
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func speaker(_ speaker: EVPNSpeaker) {
        number(speaker.system)
        list(speaker.peers) { out, peer in
            out.number(peer.address.bits)
            out.number(peer.system)
        }
    }
}

extension ByteReader {
    mutating func evpnSpeaker() throws(MalformedBytes) -> EVPNSpeaker {
        var speaker = EVPNSpeaker(system: try number())
        speaker.peers = try list { reader throws(MalformedBytes) in
            EVPNSpeaker.Peer(IPv4Address(bits: try reader.number()), system: try reader.number())
        }
        return speaker
    }
}
