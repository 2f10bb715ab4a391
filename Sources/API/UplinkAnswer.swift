// SPDX-License-Identifier: Apache-2.0

/// How an uplink of a node's host is.
public struct UplinkAnswer: Codable, Sendable, Equatable {
    /// What stands for a port where all that a host tells by EVPN is meant.
    public static let evpn = "evpn"
    /// What stands for a port where the host itself is meant.
    public static let underlay = "underlay"

    /// A session with a router outside.
    public struct Peer: Codable, Sendable, Equatable {
        /// Its address.
        public var address: String
        /// Its autonomous system.
        public var system: UInt32
        /// `established`, or how far it came.
        public var state: String
        /// When that became so, by the node's clock: milliseconds since 1970.
        public var sinceMilliseconds: UInt64?
        /// Routes that it sends.
        public var received: Int
        /// Those that are taken.
        public var accepted: Int
        /// Announcements that it is told.
        public var announced: Int
        /// `up` or `down`: whether BFD sees it.
        public var liveness: String?
        /// Why it is not established, or what ended it last.
        public var problem: String?

        /// Made by the node.
        public init(
            address: String, system: UInt32, state: String, sinceMilliseconds: UInt64?, received: Int, accepted: Int,
            announced: Int, liveness: String?, problem: String?
        ) {
            self.address = address
            self.system = system
            self.state = state
            self.sinceMilliseconds = sinceMilliseconds
            self.received = received
            self.accepted = accepted
            self.announced = announced
            self.liveness = liveness
            self.problem = problem
        }
    }

    /// The port.
    public var port: String
    /// Whether its daemon runs.
    public var isRunning: Bool
    /// How often the daemon ended by itself.
    public var failures: Int
    /// Destinations that it leads to.
    public var routes: Int
    /// What it announces.
    public var announced: [String]
    /// What is wrong with it.
    public var problem: String?
    /// Its sessions.
    public var peers: [Peer]

    /// Made by the node.
    public init(
        port: String, isRunning: Bool, failures: Int, routes: Int, announced: [String], problem: String?, peers: [Peer]
    ) {
        self.port = port
        self.isRunning = isRunning
        self.failures = failures
        self.routes = routes
        self.announced = announced
        self.problem = problem
        self.peers = peers
    }
}
