// SPDX-License-Identifier: Apache-2.0
import Wire

/// Servers that share the connections to virtual addresses; which those are, routers say: see ``VirtualAddress``.
public struct Pool: Sendable, Equatable {
    /// How the member is chosen that a new connection goes to.
    public enum Algorithm: String, Sendable, CaseIterable {
        /// By turns, each as often as its weight says. Every host keeps its own turns.
        case roundRobin = "round-robin"
        /// The one with the fewest connections for its weight; of more than four, the best of four that are drawn.
        case leastConnections = "least-connections"
        /// The same one for each client's address, as long as members stay; when one goes, only its clients move.
        case sourceHash = "source-hash"
        /// By a hash of the whole connection that every host computes alike, and that a member's going moves few of (Maglev,
        /// Eisenbud et al., NSDI 2016): also a host that knows nothing of a connection chooses the same member.
        case maglev
    }

    /// Its name; pools have a set of names of their own in a tenant.
    public var path: DevicePath
    /// How a member is chosen.
    public var algorithm = Algorithm.roundRobin
    /// How long a client comes to the same member after its last new connection, seconds; `nil`: each connection is chosen for.
    public var persistence: UInt32?
    /// The servers.
    public var members: [PoolMember] = []
    /// How they are checked; `nil`: they are not, and those that are up are taken to be there.
    public var monitor: HealthMonitor?

    /// Members of one pool, at most.
    public static let membersPerPool = 1024
    /// The longest ``persistence``, seconds: a day.
    public static let longestPersistence: UInt32 = 86_400

    /// A pool without members.
    public init(path: DevicePath) { self.path = path }
}

/// A server of a pool.
public struct PoolMember: Sendable, Hashable {
    /// What a member takes, as its operator says.
    public enum State: String, Sendable, CaseIterable {
        /// New connections.
        case up
        /// Connections that it has, and new ones of clients that are to come back to it (``Pool/persistence``).
        case drain
        /// Connections that it has.
        case down
    }

    /// Its address.
    public var address: IPAddress
    /// Its port; `nil`: the one that was asked for.
    public var port: UInt16?
    /// Its share, against those of the others; 0 to ``largestWeight``. With 0 it gets nothing new.
    public var weight: UInt16 = 1
    /// What it takes.
    public var state = State.up

    /// The largest ``weight``.
    public static let largestWeight = 256

    /// A member.
    public init(_ address: IPAddress, port: UInt16? = nil, weight: UInt16 = 1, state: State = .up) {
        self.address = address
        self.port = port
        self.weight = weight
        self.state = state
    }
}

/// An address and ports of a router behind which the members of a pool are: a VIP. The destination of a connection to it becomes
/// the member's; the client's address stays, unless the answer would not come by the router.
public struct VirtualAddress: Sendable, Hashable {
    /// Names it in its router.
    public var id: String
    /// The address that clients ask. The router answers for it in its networks, and to echo requests.
    public var address: IPAddress
    /// TCP, UDP or SCTP.
    public var ipProtocol: UInt8
    /// The ports that clients ask.
    public var ports: Set<PortRange>
    /// The pool of the router's tenant that serves them.
    public var pool: String

    /// Virtual addresses of one router, at most.
    public static let perRouter = 1024
    /// Ranges of ports of one, at most.
    public static let rangesPerAddress = 64

    /// A virtual address.
    public init(
        id: String, _ address: IPAddress, ipProtocol: UInt8 = IPProtocol.tcp, ports: Set<PortRange>, pool: String
    ) {
        self.id = id
        self.address = address
        self.ipProtocol = ipProtocol
        self.ports = ports
        self.pool = pool
    }

    /// What its connections have in common.
    public var condition: Condition {
        var condition = Condition()
        condition.destinations = Match([Prefix(address, length: address.family.width)])
        condition.ipProtocol = Match(ipProtocol)
        condition.destinationPorts = Match(ports)
        return condition
    }
}
