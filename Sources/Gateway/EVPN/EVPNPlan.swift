// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a host is to speak by EVPN, as the topology says.
public struct EVPNPlan: Sendable, Equatable {
    /// A network that goes on elsewhere.
    struct Network: Equatable, Sendable {
        var identifier: UInt32
        /// The interface on the host by which it is a port.
        var interface: String
        /// UDP port, here and there.
        var port: UInt16
        /// Bytes of layer 3 that fit.
        var mtu: Int
        /// Its own addresses, of one of routers; of one of a bridge none.
        var addresses: [InterfaceAddress] = []
    }
    /// A network of routers: it is one to a router of ours, which speaks BGP with it.
    struct Routed: Equatable {
        var network: Network
        /// Addresses of our router there.
        var routers: [IPAddress]
        /// Our router's autonomous system.
        var system: UInt32
    }

    /// The host's autonomous system.
    var system: UInt32
    /// Its address, where tunnels end.
    var local: IPv4Address
    var peers: [EVPNSpeaker.Peer] = []
    /// Networks of bridges.
    var bridged: [Network] = []
    /// Networks of routers, by port.
    var routed: [PortPath: Routed] = [:]

    /// What a host is to speak; `nil`: nothing.
    public init?(_ topology: Topology, host: String) {
        let ports = topology.evpnPorts(of: host).filter(\.isEnabled)
        guard let first = ports.first, let speaker = first.vxlan?.speaker,
            let local = topology.vxlanLocal(of: first)
        else { return nil }
        (system, self.local) = (speaker.system, local)
        var peers: Set<EVPNSpeaker.Peer> = []
        for port in ports {
            guard let end = port.vxlan, let mtu = topology.vxlanMTU(of: port) else { continue }
            peers.formUnion(end.speaker?.peers ?? [])
            var network = Network(
                identifier: end.identifier, interface: port.path.vxlanInterface, port: end.port, mtu: mtu)
            if port.kind == .bridge {
                bridged.append(network)
                continue
            }
            guard let router = topology.routers[port.path.device], router.isEnabled, let own = router.bgp else {
                continue
            }
            var routers: [IPAddress] = []
            for peer in port.uplink?.peers ?? [] {
                guard let near = port.addresses.first(where: { $0.network.contains(peer.address) }) else { continue }
                network.addresses.append(InterfaceAddress(peer.address, length: near.network.length))
                if !routers.contains(near.address) { routers.append(near.address) }
            }
            routed[port.path] = Routed(
                network: network, routers: routers, system: own.system)
        }
        self.peers = peers.sorted { $0.address.bits < $1.address.bits }
    }
}
