// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Topology
import Wire

/// The network namespace of an uplink's daemon: one interface in it, with the uplink's MAC and addresses, whose other end is a
/// port of the datapath. What is asked and said there is heard by rtnetlink.
struct DaemonNamespace {
    /// The interface in the namespace.
    static let peer = "uplink"
    /// Who puts there what is to be announced (`RTPROT_*`).
    static let owner: UInt8 = 94

    let namespace: NetworkNamespace
    /// Routes that are heard of.
    let routes: RouteMonitor
    private let inside: RouteNetlink
    private let interface: String
    private let table: UInt32

    /// Makes the namespace and the interface on the host. One that an earlier run left goes first.
    init(_ plan: UplinkPlan) throws {
        interface = plan.path.daemonInterface
        table = plan.announcedTable
        let host = try RouteNetlink()
        if interfaceExists(interface) { try? host.remove(interface) }
        let mtu = try host.mtu(of: plan.interface) ?? 1500
        namespace = try NetworkNamespace.make("of the daemon of \(plan.path)")
        let peer = Self.peer
        try host.addVeth(
            interface, mtu: Int(mtu), peer: peer, peerNamespace: namespace.descriptor.number, peerMAC: plan.mac)
        // It carries frames, and says nothing of its own.
        setSysctl("net/ipv6/conf/\(interface)/disable_ipv6", "1")
        try host.setUp(interface)
        (inside, routes) = try namespace.inside {
            for (name, value) in [
                // Nobody but the daemon says where routes are, and addresses are ready at once.
                ("accept_ra", "0"), ("accept_dad", "0"), ("router_solicitations", "0"), ("autoconf", "0"),
                // The neighbors know the MAC by which the address follows (EUI-64).
                ("addr_gen_mode", "0"),
            ] { setSysctl("net/ipv6/conf/\(peer)/\(name)", value) }
            let route = try RouteNetlink()
            try route.setUp("lo")
            try route.setUp(peer)
            for address in plan.addresses {
                // A host may have no IPv6.
                if address.address.family == .ipv6, !kernelHasIPv6 { continue }
                try route.addAddress(address, to: peer)
            }
            return (route, try RouteMonitor(interface: try route.number(of: peer)))
        }
    }

    /// Puts destinations where the daemon finds what it is to announce, or takes them away.
    func setAnnounced(_ prefix: Prefix, _ isThere: Bool) throws {
        // A host may have no IPv6.
        if prefix.family == .ipv6, !kernelHasIPv6 { return }
        do {
            try inside.setBlackhole(
                prefix, table: table, owner: Self.owner, isThere: isThere)
        } catch let error as SystemError where !isThere && error.code == ESRCH {}
    }

    /// The daemon's interface takes packets as large as the uplink's does, bytes of layer 3.
    func setMTU(_ mtu: Int) throws {
        try RouteNetlink().setMTU(interface, mtu)
        try namespace.inside { try RouteNetlink().setMTU(Self.peer, mtu) }
    }

    /// The daemon's interface has a carrier, or none.
    func setCarrier(_ isThere: Bool) throws {
        let host = try RouteNetlink()
        if isThere { try host.setUp(interface) } else { try host.setDown(interface) }
    }

    /// Takes the interface away; the rest goes with the descriptor.
    func close() { try? RouteNetlink().remove(interface) }
}
