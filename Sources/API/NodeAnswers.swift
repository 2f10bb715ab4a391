// SPDX-License-Identifier: Apache-2.0

/// What one node is asked about itself, in its own name or that of another node.
public enum NodeRequest: Codable, Sendable {
    /// How the node is.
    case status
    /// Flows that are installed.
    case flows
    /// Ports, counters and drops of the datapath.
    case datapath
    /// Connections that are known; those meant by the text, all without one.
    case state(matching: String?)
    /// How flow state and that of other nodes agree.
    case replication
    /// How the tunnels to the other hosts are.
    case tunnels
    /// How uplinks and their sessions are.
    case uplinks
    /// Figures for whoever watches many nodes, in the text format of Prometheus.
    case metrics
    /// What rules matched; those meant by the text, all without one.
    case rules(matching: String?)
    /// How members of a pool are.
    case members(pool: String)
    /// Simulate a described packet from a port.
    case trace(port: String, packet: String)
}

/// What it answers.
public enum NodeResponse: Codable, Sendable {
    /// It did not work: what, why, what to do.
    case failure(String)
    /// Answer to `status`.
    case status(StatusAnswer)
    /// Answer to `flows`.
    case flows([FlowAnswer])
    /// Answer to `datapath`.
    case datapath(DatapathAnswer)
    /// Answer to `state`.
    case state(StateAnswer)
    /// Answer to `replication`.
    case replication(ReplicationAnswer)
    /// Answer to `tunnels`.
    case tunnels([TunnelAnswer])
    /// Answer to `uplinks`.
    case uplinks([UplinkAnswer])
    /// Answer to `metrics`.
    case metrics(String)
    /// Answer to `rules`.
    case rules([RuleAnswer])
    /// Answer to `members`.
    case members([MemberAnswer])
    /// Answer to `trace`.
    case trace(TraceAnswer)
}

/// How the way through a tunnel to a host is.
public struct TunnelAnswer: Codable, Sendable {
    /// The host.
    public var host: String
    /// `gre` or `vxlan`.
    public var encapsulation: String
    /// This host's end.
    public var local: String
    /// Its end.
    public var remote: String
    /// `up`, `down`, or `unknown` while that is not found out.
    public var state: String
    /// Seconds since it is so.
    public var seconds: Double
    /// When it became so, by the node's clock: milliseconds since 1970.
    public var sinceMilliseconds: UInt64
    /// How often it went down.
    public var failures: UInt64
    /// Seconds without an answer after which it is down; 0: it never answered.
    public var detectionSeconds: Double
    /// Probes that went.
    public var sent: UInt64
    /// Probes that came.
    public var received: UInt64

    /// Made by the node.
    public init(
        host: String, encapsulation: String, local: String, remote: String, state: String, seconds: Double,
        sinceMilliseconds: UInt64, failures: UInt64, detectionSeconds: Double, sent: UInt64, received: UInt64
    ) {
        self.host = host
        self.encapsulation = encapsulation
        self.local = local
        self.remote = remote
        self.state = state
        self.seconds = seconds
        self.sinceMilliseconds = sinceMilliseconds
        self.failures = failures
        self.detectionSeconds = detectionSeconds
        self.sent = sent
        self.received = received
    }
}

/// What one rule matched on a host.
public struct RuleAnswer: Codable, Sendable {
    /// Its list: `chain acme/web`, `nat acme/edge`, `group acme/web`.
    public var list: String
    /// Its id there.
    public var rule: String
    /// What it says.
    public var text: String
    /// Packets.
    public var packets: UInt64
    /// Bytes.
    public var bytes: UInt64

    /// Made by the node.
    public init(list: String, rule: String, text: String, packets: UInt64, bytes: UInt64) {
        self.list = list
        self.rule = rule
        self.text = text
        self.packets = packets
        self.bytes = bytes
    }
}

/// How a node is.
public struct StatusAnswer: Codable, Sendable {
    /// Its host name.
    public var host: String
    /// Revision of the topology that is in force here.
    public var revision: UInt64
    /// Seconds since a leader of the cluster was heard of, when there is none: what is in force may be stale.
    public var staleSeconds: Double?
    /// `kernel` or `userspace`.
    public var datapath: String
    /// Process id, in the node's own world.
    public var processID: Int32
    /// Seconds since it started.
    public var uptimeSeconds: Double
    /// Virtual ports of this host.
    public var ports: [Binding]
    /// What does not work.
    public var problems: [String]

    /// A virtual port of the host.
    public struct Binding: Codable, Sendable {
        /// Its path.
        public var port: String
        /// The interface that it is bound to.
        public var interface: String
        /// Whether it is bound now.
        public var isBound: Bool
        /// Why not.
        public var problem: String?

        /// Made by the node.
        public init(port: String, interface: String, isBound: Bool, problem: String?) {
            self.port = port
            self.interface = interface
            self.isBound = isBound
            self.problem = problem
        }
    }

    /// Made by the node.
    public init(
        host: String, revision: UInt64, staleSeconds: Double?, datapath: String, processID: Int32,
        uptimeSeconds: Double, ports: [Binding], problems: [String]
    ) {
        self.host = host
        self.revision = revision
        self.staleSeconds = staleSeconds
        self.datapath = datapath
        self.processID = processID
        self.uptimeSeconds = uptimeSeconds
        self.ports = ports
        self.problems = problems
    }
}

/// Connections that a host knows.
public struct StateAnswer: Codable, Sendable {
    /// One of them.
    public struct Connection: Codable, Sendable {
        /// The device in which it is known.
        public var zone: String
        /// As its first packet said it: `tcp 10.0.0.1:1025 > 10.0.0.2:80`.
        public var connection: String
        /// `opening`, `open`, `closing`, `closed` for TCP; `unanswered` or `answered`.
        public var state: String
        /// Seconds since its last packet.
        public var idleSeconds: Double
        /// Seconds since its first packet.
        public var ageSeconds: Double
        /// Seconds until it is forgotten, unless packets come.
        public var leftSeconds: Double

        /// Made by the node.
        public init(
            zone: String, connection: String, state: String, idleSeconds: Double, ageSeconds: Double,
            leftSeconds: Double
        ) {
            self.zone = zone
            self.connection = connection
            self.state = state
            self.idleSeconds = idleSeconds
            self.ageSeconds = ageSeconds
            self.leftSeconds = leftSeconds
        }
    }
    /// A connection that a router translates.
    public struct Translation: Codable, Sendable {
        /// The router.
        public var router: String
        /// As its first packet came: `tcp 10.0.0.1:1025 > 10.0.0.2:80`.
        public var connection: String
        /// As the router sends it on.
        public var becomes: String
        /// As of a connection.
        public var state: String
        /// Seconds since its last packet.
        public var idleSeconds: Double
        /// Seconds since its first packet.
        public var ageSeconds: Double
        /// Seconds until it is forgotten, unless packets come.
        public var leftSeconds: Double

        /// Made by the node.
        public init(
            router: String, connection: String, becomes: String, state: String, idleSeconds: Double, ageSeconds: Double,
            leftSeconds: Double
        ) {
            self.router = router
            self.connection = connection
            self.becomes = becomes
            self.state = state
            self.idleSeconds = idleSeconds
            self.ageSeconds = ageSeconds
            self.leftSeconds = leftSeconds
        }
    }
    /// Ports of an address that the host may translate sources to.
    public struct Ports: Codable, Sendable {
        /// The router.
        public var router: String
        /// The address.
        public var address: String
        /// The ports, as in `1024-1151`.
        public var ports: [String]
        /// Connections that began here and have one of them.
        public var used: Int

        /// Made by the node.
        public init(router: String, address: String, ports: [String], used: Int) {
            self.router = router
            self.address = address
            self.ports = ports
            self.used = used
        }
    }
    /// Some of them, latest used first.
    public var connections: [Connection]
    /// How many there are.
    public var count: Int
    /// How many found no room.
    public var refused: UInt64
    /// Some translated connections, latest used first.
    public var translations: [Translation]? = []
    /// How many there are.
    public var translationCount: Int? = 0
    /// How many found no room.
    public var translationsRefused: UInt64? = 0
    /// Ports that the host may translate sources to.
    public var ports: [Ports]? = []
    /// What tenants have of what they may have.
    public var tenants: [Tenant]? = []
    /// Addresses that bridges gave, in order of bridge and address.
    public var leases: [Lease]? = []
    /// Who joined multicast groups, in order of bridge and group.
    public var groups: [Group]? = []

    /// A port behind which somebody joined a multicast group.
    public struct Group: Codable, Sendable {
        /// The bridge.
        public var bridge: String
        /// The VLAN; 0: none.
        public var vlan: UInt16
        /// The group; `nil`: a multicast router is there.
        public var group: String?
        /// Whose packets; `nil`: anybody's.
        public var source: String?
        /// The port.
        public var port: String
        /// Seconds until it is forgotten.
        public var leftSeconds: Double

        /// Made by the node.
        public init(
            bridge: String, vlan: UInt16, group: String?, source: String?, port: String, leftSeconds: Double
        ) {
            self.bridge = bridge
            self.vlan = vlan
            self.group = group
            self.source = source
            self.port = port
            self.leftSeconds = leftSeconds
        }
    }

    /// An address that a bridge gave.
    public struct Lease: Codable, Sendable {
        /// The bridge.
        public var bridge: String
        /// The address.
        public var address: String
        /// The port where it was asked for.
        public var port: String
        /// Whether a machine has it; otherwise nobody is to get it.
        public var isTaken: Bool
        /// Seconds until it ends.
        public var leftSeconds: Double

        /// Made by the node.
        public init(bridge: String, address: String, port: String, isTaken: Bool, leftSeconds: Double) {
            self.bridge = bridge
            self.address = address
            self.port = port
            self.isTaken = isTaken
            self.leftSeconds = leftSeconds
        }
    }

    /// What began at ports of a tenant on this host.
    public struct Tenant: Codable, Sendable {
        /// The tenant.
        public var name: String
        /// Its connections.
        public var connections: Int
        /// Connections that were too many.
        public var connectionsRefused: UInt64
        /// Its translated connections.
        public var translations: Int
        /// Translated connections that were too many.
        public var translationsRefused: UInt64

        /// Made by the node.
        public init(
            name: String, connections: Int, connectionsRefused: UInt64, translations: Int, translationsRefused: UInt64
        ) {
            self.name = name
            self.connections = connections
            self.connectionsRefused = connectionsRefused
            self.translations = translations
            self.translationsRefused = translationsRefused
        }
    }

    /// Made by the node.
    public init(connections: [Connection], count: Int, refused: UInt64) {
        self.connections = connections
        self.count = count
        self.refused = refused
    }
}

/// A flow.
public struct FlowAnswer: Codable, Sendable {
    /// What it matches, field and value.
    public var match: [[String]]
    /// Port where its packets come in, or `tunnel`.
    public var ingress: String
    /// What it does, in words.
    public var actions: String
    /// Packets carried.
    public var packets: UInt64
    /// Bytes carried.
    public var bytes: UInt64
    /// Seconds since it was installed.
    public var ageSeconds: Double
    /// Seconds since it was used; absent: never.
    public var idleSeconds: Double?
    /// Installed beforehand for what may arrive by tunnel.
    public var isStanding: Bool

    /// Made by the node.
    public init(
        match: [[String]], ingress: String, actions: String, packets: UInt64, bytes: UInt64, ageSeconds: Double,
        idleSeconds: Double?, isStanding: Bool
    ) {
        self.match = match
        self.ingress = ingress
        self.actions = actions
        self.packets = packets
        self.bytes = bytes
        self.ageSeconds = ageSeconds
        self.idleSeconds = idleSeconds
        self.isStanding = isStanding
    }
}

/// A datapath.
public struct DatapathAnswer: Codable, Sendable {
    /// `kernel` or `userspace`.
    public var kind: String
    /// Ports.
    public var ports: [Port]
    /// Counters by name, in order.
    public var counters: [[String]]
    /// Packets dropped by reason, most first.
    public var drops: [[String]]

    /// A port.
    public struct Port: Codable, Sendable {
        /// Its number.
        public var number: UInt32
        /// The interface or tunnel.
        public var name: String
        /// The virtual port bound to it.
        public var bound: String?
        /// Packets in.
        public var receivedPackets: UInt64
        /// Bytes in.
        public var receivedBytes: UInt64
        /// Packets out.
        public var sentPackets: UInt64
        /// Bytes out.
        public var sentBytes: UInt64
        /// Packets that could not be sent.
        public var sendErrors: UInt64
        /// Packets that came in faster than they were read.
        public var receiveDrops: UInt64
        /// What is not as it should be with it.
        public var warning: String?

        /// Made by the node.
        public init(
            number: UInt32, name: String, bound: String?, receivedPackets: UInt64, receivedBytes: UInt64,
            sentPackets: UInt64, sentBytes: UInt64, sendErrors: UInt64, receiveDrops: UInt64, warning: String?
        ) {
            self.number = number
            self.name = name
            self.bound = bound
            self.receivedPackets = receivedPackets
            self.receivedBytes = receivedBytes
            self.sentPackets = sentPackets
            self.sentBytes = sentBytes
            self.sendErrors = sendErrors
            self.receiveDrops = receiveDrops
            self.warning = warning
        }
    }

    /// Made by the node.
    public init(kind: String, ports: [Port], counters: [[String]], drops: [[String]]) {
        self.kind = kind
        self.ports = ports
        self.counters = counters
        self.drops = drops
    }
}
