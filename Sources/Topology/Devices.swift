// SPDX-License-Identifier: Apache-2.0
import Wire

/// A virtual layer 2 switch.
public struct Bridge: Sendable, Equatable {
    /// Its name.
    public var path: DevicePath
    /// Administrative state: a disabled bridge drops everything.
    public var isEnabled = true
    /// The networks that live on it; a hint for people and for address services.
    public var subnets: [Prefix] = []
    /// The tunnel key under which a flooded frame travels once to each host with ports of this bridge; 24 bits.
    public var floodKey: UInt32 = 0
    /// What filters frames as they come into the bridge and as they leave it.
    public var filters = Filters()
    /// Addresses that it gives to machines, by network.
    public var dhcp: [DHCPSubnet] = []
    /// IPv6 networks that it tells machines of.
    public var advertised: [AdvertisedPrefix] = []
    /// Names that it answers for; `nil`: none.
    public var names: NameService?
    /// Whether what is sent to groups goes to those who joined them; `nil`: to all.
    public var multicast: MulticastService?

    /// A bridge without networks.
    public init(path: DevicePath) { self.path = path }
}

/// A virtual router.
public struct Router: Sendable, Equatable {
    /// Its name.
    public var path: DevicePath
    /// Administrative state: a disabled router answers "administratively prohibited".
    public var isEnabled = true
    /// Static routes; connected networks follow from the ports' addresses.
    public var routes: [Route] = []
    /// What filters packets before they are routed, and after.
    public var filters = Filters()
    /// What addresses it translates.
    public var translation = Translation()
    /// What it says to routers outside by its uplinks; `nil`: nothing.
    public var bgp: BGPSpeaker?

    /// A router without routes.
    public init(path: DevicePath) { self.path = path }

    /// Whether the members of a pool are behind one of its addresses.
    public func balances(_ pool: DevicePath) -> Bool {
        path.tenant == pool.tenant && translation.virtual.contains { $0.pool == pool.name }
    }
}

/// A static route. Among the routes that hold a destination the longest destination prefix wins, then the longest
/// source prefix, then the lowest weight; what is left over shares flows by their hash.
public struct Route: Sendable, Hashable {
    /// Destinations that the route is for.
    public var destination: Prefix
    /// Sources that the route is for; `nil` means all.
    public var source: Prefix?
    /// Preference, lower first; 0 to 65535.
    public var weight: UInt16
    /// What to do with the packet.
    public var nextHop: NextHop

    /// A route.
    public init(destination: Prefix, source: Prefix? = nil, weight: UInt16 = 100, nextHop: NextHop) {
        self.destination = destination
        self.source = source
        self.weight = weight
        self.nextHop = nextHop
    }
}

/// Where a route leads.
public enum NextHop: Sendable, Hashable {
    /// To a gateway; the port is the one whose network holds the gateway, unless said.
    case gateway(IPAddress, port: PortPath?)
    /// Straight out of a port: the destination itself is the neighbor.
    case port(PortPath)
    /// Dropped without a word.
    case blackhole
    /// Dropped with "communication administratively prohibited".
    case reject
}

/// How a bridge port treats VLAN tags. VLAN 0 is the untagged network of a bridge.
public enum VLANMode: Sendable, Hashable {
    /// Frames of one VLAN, untagged on the wire.
    case access(UInt16)
    /// Tagged frames of the listed VLANs (`nil`: all); untagged frames belong to `native`, or are dropped when there
    /// is none.
    case trunk(allowed: Set<UInt16>?, native: UInt16?)
}

/// What is on the other side of a port.
public enum Attachment: Sendable, Hashable {
    /// Nothing yet.
    case none
    /// An interface of a host: the edge of the virtual network.
    case exterior(host: String, interface: String)
    /// Another virtual port.
    case peer(PortPath)
}

/// A port of a bridge or router.
public struct Port: Sendable, Equatable {
    /// Whether the device that it belongs to is a router.
    public enum Kind: Sendable, Equatable {
        /// A port of a bridge.
        case bridge
        /// A port of a router.
        case router
    }

    /// Its name.
    public var path: PortPath
    /// Bridge or router port.
    public var kind: Kind
    /// Administrative state.
    public var isEnabled = true
    /// The other side.
    public var attachment: Attachment = .none
    /// The MAC of the port itself (router) or of the machine behind it (bridge, exterior).
    public var mac: MACAddress
    /// Addresses of the port itself (router) or of the machine behind it (bridge, exterior).
    public var addresses: [InterfaceAddress] = []
    /// VLAN handling, for bridge ports.
    public var vlan: VLANMode = .access(0)
    /// The tunnel key under which frames for this port travel; 24 bits, unique among ports and flood keys.
    public var tunnelKey: UInt32 = 0
    /// What filters what comes into the device by this port, and what leaves it.
    public var filters = Filters()
    /// Port groups of its tenant that it is in.
    public var groups: Set<String> = []
    /// Security groups of its tenant that it is in: its machine gets and sends what they allow. Without any it gets and sends
    /// everything.
    public var security: Set<String> = []
    /// What its machine may send as besides ``mac`` and ``addresses``, where it is in security groups.
    public var allowed: Set<AllowedAddress> = []
    /// How much its machine may send and get.
    public var quality = PortQuality()
    /// What its traffic goes through on its way, from the machine on.
    public var services: [ServiceHop] = []
    /// Whether it leads to a network outside that other ports of its bridge lead to as well; `nil`: it does not.
    public var segment: EthernetSegment?
    /// VXLAN end points of others that it leads to; `nil`: none.
    public var vxlan: VXLANEnd?
    /// What its host's routing daemon does by it, where it is a router's port to the outside; `nil`: it has none.
    public var uplink: Uplink?

    /// A port with a MAC made of its name, see ``derivedMAC(for:)``.
    public init(path: PortPath, kind: Kind) {
        self.path = path
        self.kind = kind
        self.mac = Port.derivedMAC(for: path)
    }

    /// An unattached port whose MAC is known.
    init(path: PortPath, kind: Kind, mac: MACAddress) {
        self.path = path
        self.kind = kind
        self.mac = mac
    }

    /// A locally administered unicast MAC that follows from the name alone, so that all nodes agree on it.
    public static func derivedMAC(for path: PortPath) -> MACAddress {
        derivedMAC(of: path.description)
    }

    /// The same of any name.
    package static func derivedMAC(of name: String) -> MACAddress {
        MACAddress(bits: 0x0e00_0000_0000 | stableHash(name) & 0xff_ffff_ffff)
    }
}

/// How hosts of a zone reach each other.
public struct TunnelZone: Sendable, Equatable {
    /// The encapsulation.
    public enum Encapsulation: String, Sendable, CaseIterable {
        /// GRE with key, IP protocol 47.
        case gre
        /// VXLAN, UDP.
        case vxlan
    }

    /// Its name.
    public var name: String
    /// GRE or VXLAN.
    public var encapsulation: Encapsulation
    /// MTU of the underlay, in bytes of layer 3.
    public var underlayMTU = 1500

    /// A zone.
    public init(name: String, encapsulation: Encapsulation) {
        self.name = name
        self.encapsulation = encapsulation
    }

    /// What is left for a guest's layer 3 packet: the underlay's MTU less outer IP, tunnel and inner Ethernet header.
    public func overlayMTU(underlay family: AddressFamily) -> Int {
        let outer = family == .ipv4 ? 20 : 40
        return underlayMTU - outer - (encapsulation == .gre ? GRE.headerLength : 8 + VXLAN.headerLength) - 14
    }
}

/// A machine that runs a node.
public struct Host: Sendable, Equatable {
    /// Its name.
    public var name: String
    /// Its tunnel address in each zone that it is in.
    public var tunnelAddresses: [String: IPAddress] = [:]
    /// What its interface to other hosts sends, bits a second in thousands, where it is to keep promises to machines
    /// (``PortQuality/guarantee``): it sends no more, so that what waits waits here; `nil`: whatever it can.
    public var rate: UInt32?

    /// A host in no zone.
    public init(name: String) { self.name = name }
}
