// SPDX-License-Identifier: Apache-2.0

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
    /// Where it comes back from services, unless these do something about it, and as what.
    public var detours: [TraceDetour]
    /// What happens to it then, in order.
    public var next: [TraceAnswer] = []

    /// Made by the node.
    public init(
        host: String, revision: UInt64, steps: [[String]], verdict: String, match: [[String]], flow: String,
        egress: [String], detours: [TraceDetour]
    ) {
        self.host = host
        self.revision = revision
        self.steps = steps
        self.verdict = verdict
        self.match = match
        self.flow = flow
        self.egress = egress
        self.detours = detours
    }
}

/// A packet that comes back from a service.
public struct TraceDetour: Codable, Sendable {
    /// The service's port.
    public var port: String
    /// The packet's bytes, in hexadecimal.
    public var frame: String

    /// Made by the node.
    public init(port: String, frame: String) {
        self.port = port
        self.frame = frame
    }
}
