// SPDX-License-Identifier: Apache-2.0

/// What a tool asks of a node, one JSON object in one line.
public enum NodeRequest: Codable, Sendable {
    /// How the node is.
    case status
    /// Flows that are installed.
    case flows
    /// Ports, counters and drops of the datapath.
    case datapath
    /// The virtual devices.
    case topology
    /// Simulate a described packet from a port.
    case trace(port: String, packet: String)
    /// Read a manifest and put it in force.
    case apply(file: String)
}

/// What the node answers, one JSON object in one line.
public enum NodeResponse: Codable, Sendable {
    /// It did not work: what, why, what to do.
    case failure(String)
    /// Answer to `status`.
    case status(StatusAnswer)
    /// Answer to `flows`.
    case flows([FlowAnswer])
    /// Answer to `datapath`.
    case datapath(DatapathAnswer)
    /// Answer to `topology`.
    case topology(TopologyAnswer)
    /// Answer to `trace`.
    case trace(TraceAnswer)
    /// Done.
    case done
}

/// How a node is.
public struct StatusAnswer: Codable, Sendable {
    /// Its host name.
    public var host: String
    /// Revision in force.
    public var revision: UInt64
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
    }
}

/// The virtual devices as a tree.
public struct TopologyAnswer: Codable, Sendable {
    /// Revision in force.
    public var revision: UInt64
    /// Lines to print, indented.
    public var lines: [String]
}

/// A simulated packet.
public struct TraceAnswer: Codable, Sendable {
    /// The host that simulated.
    public var host: String
    /// Revision in force.
    public var revision: UInt64
    /// Stage, object, text.
    public var steps: [[String]]
    /// `forward`, `drop: reason`, `answered`, `wait: ...`.
    public var verdict: String
    /// Field and value.
    public var match: [[String]]
    /// The installed flow that holds such packets, in words.
    public var flow: String
    /// Hosts that the packet leaves to.
    public var egress: [String]
}
