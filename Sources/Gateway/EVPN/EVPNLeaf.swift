// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Netlink
import Topology
import Wire

/// A namespace with networks that go on elsewhere by VXLAN, and the daemons of FRRouting that tell what is in them and learn what is
/// elsewhere: networks of bridges, all in one, or one of routers. Packets in VXLAN come and go on the host itself.
struct EVPNLeaf {
    /// The bridge in the host's namespace by which all have their sessions.
    static let bridge = "selevpn"
    /// What the names of cables to it begin with.
    static let cables = "selev-"

    /// Its number among those of the host.
    let number: Int
    private let namespace: NetworkNamespace
    private var processes: FRRProcesses
    private var networks: [EVPNPlan.Network] = []
    private var configuration = ""
    private var due: UInt64 = 0
    /// Networks whose ports have a carrier, by interface.
    private var open: Set<String> = []

    private var cable: String { "\(Self.cables)\(number)" }
    /// The pause before daemons that ended are started again, nanoseconds.
    private static let pause: UInt64 = 1_000_000_000
    /// The kernel's metric of the way of last resort.
    private static let last: UInt32 = 4_000_000

    /// Makes one without networks.
    ///
    /// - Parameter routes: whether it forwards what is for others.
    init(number: Int, files: String, routes: Bool) throws {
        self.number = number
        processes = FRRProcesses(files: files)
        namespace = try NetworkNamespace.make("of EVPN")
        let host = try RouteNetlink()
        let cable = "\(Self.cables)\(number)"
        if interfaceExists(cable) { try? host.remove(cable) }
        try host.addVeth(cable, mtu: 1500, peer: "front", peerNamespace: namespace.descriptor.number)
        setSysctl("net/ipv6/conf/\(cable)/disable_ipv6", "1")
        try host.setMaster(cable, bridge: Self.bridge)
        try host.setUp(cable)
        let own = namespace.descriptor.number
        try namespace.inside {
            let route = try RouteNetlink()
            for name in ["lo", "front"] { try route.setUp(name) }
            // Sessions of daemons that are killed would keep the namespace, and its networks, for minutes.
            setSysctl("net/ipv4/tcp_orphan_retries", "1")
            setSysctl("net/ipv4/tcp_fin_timeout", "1")
            setSysctl("net/ipv6/conf/front/disable_ipv6", "1")
            try route.addAddress(
                InterfaceAddress(IPAddress(EVPNConfiguration.leaf(number)), length: EVPNConfiguration.inner.length),
                to: "front")
            // FRRouting takes a far end point for reachable that it finds a way to. There is nobody on this one: what has no other is
            // told so.
            try route.addVeth("nowhere", mtu: 1500, peer: "nobody", peerNamespace: own)
            for name in ["nowhere", "nobody"] {
                setSysctl("net/ipv6/conf/\(name)/disable_ipv6", "1")
                try route.setUp(name)
            }
            let nowhere = IPv4Address(bits: 0xa9fe_5f01)  // 169.254.95.1
            try route.addAddress(InterfaceAddress(IPAddress(nowhere), length: 30), to: "nowhere")
            try route.addRoute(
                to: Prefix(IPAddress(IPv4Address(bits: 0)), length: 0),
                via: IPAddress(IPv4Address(bits: nowhere.bits + 1)), metric: Self.last)
            if routes {
                for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] { setSysctl("net/\(name)", "1") }
            }
        }
    }

    // MARK: - Networks

    /// Has no networks but these, and none whose interface somebody took away.
    mutating func keep(only wanted: [EVPNPlan.Network]) {
        for old in networks where !wanted.contains(old) || !interfaceExists(old.interface) {
            if interfaceExists(old.interface) { try? RouteNetlink().remove(old.interface) }
            removeInside(old)
            networks.removeAll { $0 == old }
            open.remove(old.interface)
        }
    }

    /// Makes what networks it does not have.
    ///
    /// - Parameter local: where tunnels end here.
    /// - Throws: what is wrong with the first that could not be made; the others are there.
    mutating func make(_ wanted: [EVPNPlan.Network], local: IPv4Address) throws {
        var failure: (any Error)?
        for new in wanted where !networks.contains(new) {
            do {
                try make(new, local)
                networks.append(new)
            } catch {
                removeInside(new)
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    private func removeInside(_ network: EVPNPlan.Network) {
        try? namespace.inside {
            let route = try RouteNetlink()
            for name in ["vx\(network.identifier)", "br\(network.identifier)"] where interfaceExists(name) {
                try? route.remove(name)
            }
        }
    }

    private func make(_ network: EVPNPlan.Network, _ local: IPv4Address) throws {
        let host = try RouteNetlink()
        let (vxlan, bridge, cable) = ("vx\(network.identifier)", "br\(network.identifier)", "to\(network.identifier)")
        if interfaceExists(network.interface) { try? host.remove(network.interface) }
        // What is half there from a moment ago.
        removeInside(network)
        try host.addVXLAN(
            vxlan, identifier: network.identifier, local: local, port: network.port, learns: false,
            namespace: namespace.descriptor.number)
        try host.addVeth(
            network.interface, mtu: network.mtu, peer: cable, peerNamespace: namespace.descriptor.number)
        setSysctl("net/ipv6/conf/\(network.interface)/disable_ipv6", "1")
        try namespace.inside {
            let route = try RouteNetlink()
            try route.addBridge(bridge)
            let isRouted = !network.addresses.isEmpty
            for name in isRouted ? [vxlan] : [vxlan, bridge, cable] {
                setSysctl("net/ipv6/conf/\(name)/disable_ipv6", "1")
            }
            if isRouted {
                for name in ["accept_dad", "accept_ra"] { setSysctl("net/ipv6/conf/\(cable)/\(name)", "0") }
            }
            for name in [vxlan, bridge] { try route.setMTU(name, network.mtu) }
            try route.setMaster(vxlan, bridge: bridge)
            if !isRouted { try route.setMaster(cable, bridge: bridge) }
            for name in [vxlan, bridge, cable] { try route.setUp(name) }
            for address in network.addresses where address.address.family == .ipv4 || kernelHasIPv6 {
                try route.addAddress(address, to: cable)
            }
        }
    }

    /// Lets packets in once it is known where they go, and not while nobody tells: the ports have a carrier then, or none.
    mutating func set(isReady: Bool) throws {
        let host = try RouteNetlink()
        for network in networks where open.contains(network.interface) != isReady {
            if isReady {
                try host.setUp(network.interface)
                open.insert(network.interface)
            } else {
                try host.setDown(network.interface)
                open.remove(network.interface)
            }
        }
    }

    /// Forgets which stations were heard on the way in from the host.
    func forgetStations(at interfaces: Set<String>) {
        for network in networks where interfaces.contains(network.interface) {
            try? namespace.inside { try RouteNetlink().flushStations(of: "to\(network.identifier)") }
        }
    }

    // MARK: - Daemons

    /// Sees to it that the daemons run, and are configured so.
    ///
    /// - Returns: whether they ended by themselves.
    mutating func step(_ wanted: String, log: Int32, now: UInt64) throws -> Bool {
        let ended = processes.ended() != nil
        if ended { due = now + Self.pause }
        if wanted != configuration {
            processes.stop(SIGTERM)
            configuration = wanted
        }
        if !processes.isRunning, now >= due {
            due = now + Self.pause
            try processes.start(["zebra", "bgpd"], in: namespace, configuration: wanted, log: log)
        }
        return ended
    }

    /// Puts its cable to the bridge where all have their sessions.
    func attach() throws { try RouteNetlink().setMaster(cable, bridge: Self.bridge) }

    mutating func end() {
        processes.stop(SIGTERM)
        processes.removeFiles()
        // The kernel takes its time with namespaces that nobody has any more, and its networks may be wanted elsewhere.
        keep(only: [])
        if interfaceExists(cable) { try? RouteNetlink().remove(cable) }
    }
}
