// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What happens to a packet, and to all packets like it.
public struct Verdict: Sendable {
    /// The field bits that were read: any packet that agrees in them gets the same verdict.
    public internal(set) var mask = FlowMask()
    /// Copies of the packet to send, in order.
    public internal(set) var outputs: [Output] = []
    /// Copies of the packet that mirrors take on its way, whatever becomes of it.
    public internal(set) var copies: [MirrorCopy] = []
    /// Headers that outputs leave with; the first is always the packet's own, unchanged.
    public internal(set) var headers: [Header] = []
    /// Everything whose change would change the verdict.
    public internal(set) var tags: [Tag] = []
    /// The same of connections: hardly two flows have one of these in common, where ``tags`` are those of a path.
    public internal(set) var ownTags: [Tag] = []
    /// What was learned from the packet.
    public internal(set) var learned: [Learned] = []
    /// Connections that were asked for. Those that are new begin with the packet: there are none where it goes nowhere.
    public internal(set) var connections: [ConnectionUse] = []
    /// Translated connections that the packet belongs to. Those that are new begin with it, as connections do.
    public internal(set) var translations: [TranslationUse] = []
    /// What nobody here knew of the packet, and another host may: a packet that nothing lets through may wait for that.
    public internal(set) var missed: [MissedState] = []
    /// What is to be changed in the packet's payload before anything else: no flow can do that.
    public internal(set) var edit: PayloadEdit?
    /// Rules that ask for a line in the log.
    public internal(set) var logs: [RuleReference] = []
    /// Rules that matched, in order: of chains, security groups and translations.
    public internal(set) var rules: [RuleReference] = []
    /// Packets to send besides: ARP and ND requests and answers, ICMP errors, echo replies.
    public internal(set) var packets: [GeneratedPacket] = []
    /// A name that others are to be asked for.
    public internal(set) var question: NameQuestion?
    /// Why nothing goes out, when nothing does.
    public internal(set) var drop: DropReason?
    /// The neighbor whose MAC must be known before the packet can go on.
    public internal(set) var wait: NeighborQuery?
    /// Whether the verdict may be installed as a flow. False when it was made of more than the flow key, or when each
    /// such packet deserves an answer of its own.
    public internal(set) var isCacheable = true
    /// Layer 3 bytes that every tunneled output can carry; larger packets must be simulated one by one. 0: no bound.
    public internal(set) var lengthLimit: Int32 = 0
    /// Where packets are on their way to services, when steps are asked for.
    public internal(set) var detours: [Detour] = []
    /// One line for each step, when asked for.
    public internal(set) var trace: [TraceLine] = []

    /// Whether a connection begins with the packet: the next one may be judged otherwise.
    public var beginsConnection: Bool {
        connections.contains(where: \.isNew) || translations.contains(where: \.isNew)
    }

    /// An empty verdict.
    public init() {}

    /// A copy of the packet on its way.
    public struct Output: Sendable, Equatable {
        /// Where it goes.
        public var destination: Destination
        /// Index in ``Verdict/headers``.
        public var header: Int32
    }

    /// A packet that is on its way through a service.
    public struct Detour: Sendable, Equatable {
        /// The port of the service that it comes back by.
        public var back: PortPath
        /// Index in ``Verdict/headers``.
        public var header: Int32
    }

    /// Where an output goes.
    public enum Destination: Sendable, Equatable {
        /// An exterior port that is bound here.
        case local(PortIndex)
        /// Through the tunnel to another host under a key: that of a port, or the flood key of a bridge.
        case remote(HostIndex, key: UInt32)
    }

    /// A packet's header on its way out.
    public struct Header: Sendable {
        /// The fields.
        public var key: FlowKey
        /// Bits that were written; the rest is as it came in. VLAN tags are not counted here: their difference to the
        /// packet's own tells what to push and pop.
        public var written: FlowMask
    }

    mutating func reset() {
        mask = FlowMask()
        outputs.removeAll(keepingCapacity: true)
        if !copies.isEmpty { copies.removeAll(keepingCapacity: true) }
        headers.removeAll(keepingCapacity: true)
        tags.removeAll(keepingCapacity: true)
        if !ownTags.isEmpty { ownTags.removeAll(keepingCapacity: true) }
        if !learned.isEmpty { learned.removeAll(keepingCapacity: true) }
        if !connections.isEmpty { connections.removeAll(keepingCapacity: true) }
        if !translations.isEmpty { translations.removeAll(keepingCapacity: true) }
        if !missed.isEmpty { missed.removeAll(keepingCapacity: true) }
        edit = nil
        question = nil
        if !rules.isEmpty { rules.removeAll(keepingCapacity: true) }
        if !logs.isEmpty { logs.removeAll(keepingCapacity: true) }
        if !packets.isEmpty { packets.removeAll(keepingCapacity: true) }
        if !trace.isEmpty { trace.removeAll(keepingCapacity: true) }
        if !detours.isEmpty { detours.removeAll() }
        drop = nil
        wait = nil
        isCacheable = true
        lengthLimit = 0
    }
}

/// A connection that was looked up and not known.
public enum MissedState: Sendable, Hashable {
    /// In a zone.
    case connection(ConnectionTuple, zone: Tag)
    /// In a router that translates.
    case translation(ConnectionTuple, zone: Tag)

    /// The tag of what is decided when it is known.
    public var tag: Tag {
        switch self {
        case .connection(let tuple, let zone): .connection(tuple, zone: zone)
        case .translation(let tuple, let zone): .translation(tuple, zone: zone)
        }
    }
}

/// A rule of a chain, in one ``Fabric``.
public struct RuleReference: Sendable, Hashable {
    /// The chain's index.
    var chain: Int32
    /// The rule's place in it.
    var rule: Int32
}

/// A rule as people call it.
public struct RuleName: Sendable, Hashable {
    /// Its list: `chain acme/web`, `nat acme/edge`, `group acme/web`.
    public var list: String
    /// Its id there.
    public var rule: String
    /// What it says.
    public var text: String
}

/// Something that a packet taught, or confirmed.
public enum Learned: Sendable, Hashable {
    /// A station's MAC was seen at a port of a bridge.
    case mac(MACAddress, vlan: UInt16, bridge: Tag, port: Tag)
    /// A neighbor of a router port told its MAC.
    case neighbor(IPAddress, mac: MACAddress, port: Tag)
    /// A packet of a connection went on, in a zone: with its TCP flags, or those of all packets since this was told last.
    case connection(ConnectionTuple, zone: Tag, flags: UInt16)
    /// A packet of a translated connection went on, in a router.
    case translation(TranslationUse, flags: UInt16)
    /// A bridge gave an address to a machine behind a port, or has it back.
    case lease(IPAddress, bridge: Tag, port: Tag, Lease)
    /// Behind a port somebody wants what is sent to a group, for so long unless it is said again; 0: no more.
    case member(GroupMember, seconds: UInt32)
    /// The first fragment of a packet whose later ones are to be known by it.
    case fragment(FragmentName, zone: Tag, tuple: ConnectionTuple)

    /// Whether it is of a connection, which packets alone begin and keep.
    public var isOfConnection: Bool {
        switch self {
        case .connection, .translation, .fragment: true
        case .mac, .neighbor, .lease, .member: false
        }
    }

    /// The tags of the verdicts that this may change.
    public var tags: [Tag] {
        guard case .translation(let use, _) = self else { return [tag] }
        return [.translation(use.original, zone: use.zone), .translation(use.reply, zone: use.zone)]
    }

    /// The tag of the verdicts that this may change, the first of them.
    public var tag: Tag {
        switch self {
        case .mac(let mac, let vlan, let bridge, _): .mac(mac, vlan: vlan, bridge: bridge)
        case .neighbor(let address, _, let port): .neighbor(address, port: port)
        case .connection(let tuple, let zone, _): .connection(tuple, zone: zone)
        case .translation(let use, _): .translation(use.isReturn ? use.reply : use.original, zone: use.zone)
        case .fragment(let name, let zone, _): .fragment(name, zone: zone)
        case .lease(let address, let bridge, _, _): .lease(address, bridge: bridge)
        case .member(let member, _): member.tag
        }
    }
}

/// A question to the neighbors of a router port.
public struct NeighborQuery: Sendable, Hashable {
    /// The router port that asks.
    public var port: PortIndex
    /// Whose MAC is wanted.
    public var address: IPAddress
}

/// A packet that the simulation made, to be simulated onward from where it was made.
public struct GeneratedPacket: Sendable, Equatable {
    /// What it is for, so that each kind can be limited by itself.
    public enum Kind: Sendable, Equatable {
        /// An ARP or ND answer, an echo reply, a TCP reset.
        case answer
        /// An ICMP or ICMPv6 error.
        case error
        /// An ARP or ND request.
        case request
    }
    /// The whole frame.
    public var frame: [UInt8]
    /// The port that it leaves by. A routed packet leaves by it only where its router has no route to the destination.
    public var port: PortIndex
    /// Answer, error or request.
    public var kind: Kind
    /// Whether the router of `port` sends it where its routes say (RFC 1812 section 4.3.2.5), as it does with what it says
    /// itself; otherwise it goes out of `port` as it is.
    public var isRouted = false
    /// What the packet that it answers belongs to: it is part of that, also where that packet itself came no further.
    public var answers: [ConnectionUse] = []
    /// Whether it is what a bridge itself says to a machine: no filter stands between them.
    public var isService = false
}

/// Why a packet goes nowhere.
public enum DropReason: String, Sendable, CaseIterable {
    /// A port on the way is disabled.
    case portDisabled = "port disabled"
    /// A bridge on the way is disabled.
    case bridgeDisabled = "bridge disabled"
    /// A router on the way is disabled.
    case routerDisabled = "router disabled"
    /// A port on the way has neither interface nor peer.
    case unplugged = "port not attached"
    /// The port's host cannot be reached from here: they share no tunnel zone.
    case noTunnel = "no tunnel to the port's host"
    /// The Ethernet source is a group address or zero.
    case badSource = "source MAC not of one station"
    /// The frame's VLAN is not one of the port's.
    case vlanNotAllowed = "VLAN not allowed on port"
    /// The destination is behind the port that the frame came from.
    case sameSegment = "destination on the port it came from"
    /// The port is in a segment of which another one carries.
    case standby = "another port of its segment carries"
    /// The frame is one of our own that came back by the network outside.
    case reflected = "a frame of our own that came back from outside"
    /// The destination is in a segment no port of which works.
    case noCarrier = "no port of its segment works"
    /// A flood reached nobody.
    case nobodyElse = "no other port in the network"
    /// Nobody joined the multicast group.
    case nobodyJoined = "nobody joined the group"
    /// The frame is not for the router's MAC.
    case notForRouter = "not the router's MAC"
    /// A router takes IPv4, IPv6 and ARP only.
    case notIP = "not IP"
    /// The IP header is malformed or cut off.
    case malformed = "malformed IP header"
    /// A source address that no packet may have (RFC 1812 section 5.3.7, RFC 4291 section 2.5).
    case martian = "impossible source address"
    /// A destination address that no packet may have (RFC 1812 section 5.3.7, RFC 4291 section 2.5).
    case martianDestination = "impossible destination address"
    /// Multicast and broadcast do not cross routers.
    case multicast = "multicast not routed"
    /// Link-local addresses do not cross routers (RFC 3927, 4007).
    case linkLocal = "link-local not routed"
    /// Addressed to a network's broadcast address (RFC 2644).
    case directedBroadcast = "directed broadcast"
    /// No route.
    case noRoute = "no route"
    /// A blackhole route.
    case blackhole = "blackhole route"
    /// A reject route.
    case rejected = "reject route"
    /// TTL or hop limit reached zero.
    case ttlExceeded = "TTL exceeded"
    /// The neighbor does not answer.
    case neighborUnreachable = "neighbor unreachable"
    /// Larger than the path takes, and may not be fragmented.
    case tooBig = "larger than the path MTU"
    /// A tunnel key that no port and no bridge has.
    case unknownKey = "unknown tunnel key"
    /// The port that the tunnel key names is bound to another host.
    case notHere = "port not on this host"
    /// A rule says so.
    case filtered = "dropped by a rule"
    /// A rule says so, and the sender is told.
    case filterRejected = "rejected by a rule"
    /// A machine in a security group sends from a MAC that is not its port's.
    case spoofedMAC = "source MAC not the port's"
    /// A machine in a security group sends from an address that is not its port's.
    case spoofedAddress = "source address not the port's"
    /// A machine in a security group plays DHCP server or router.
    case rogueServer = "machine plays DHCP server or router"
    /// No member of the pool behind a virtual address takes connections.
    case noMember = "no member of the pool takes connections"
    /// A machine asks for an address where none is left, or none is given.
    case noLease = "no address to give"
    /// There is no port left that a source could become, or this host has none yet.
    case portsExhausted = "no port left to translate to"
    /// A segment amid a connection that this host does not know, which has just started: others may know it.
    case notCaughtUp = "connection unknown to a host that has just started"
    /// Only protocols with ports, and ICMP queries, have something to tell their connections apart by.
    case notTranslatable = "protocol has no ports to translate"
    /// A packet that begins nothing, of a connection that is not known: a TCP reset, or an answer.
    case noTranslation = "part of no translated connection"
    /// A fragment whose packet's first one was not seen.
    case fragmentUnknown = "fragment before its first"
    /// The tables of connections are full.
    case noRoom = "no room for another connection"
    /// A service that the packet has to go through is down.
    case serviceDown = "service down"
    /// What has a VLAN tag of its own can't have that of a service.
    case serviceTag = "has a VLAN tag on its way to a service"
    /// Ports share a service, and whose this is could not be told when it comes back.
    case serviceShared = "can't be told apart behind a service that ports share"
    /// It comes back from a service, and is of no traffic that goes through it.
    case serviceUnknown = "of no traffic that goes through the service"
    /// More devices than any sane topology has: a loop.
    case loop = "too many devices: a loop"
    /// The router or bridge answered it or took note of it.
    case consumed = "consumed"
}

/// One step of a simulation, for people.
public struct TraceLine: Sendable, Equatable {
    /// What acted: `in`, `bridge`, `router`, `arp`, `out`, `flood`, `icmp`, `drop`.
    public var stage: String
    /// Name of the device or port.
    public var object: String
    /// What it did.
    public var text: String
}
