// SPDX-License-Identifier: Apache-2.0

/// What tools ask of a lab's supervisor.
public enum LabRequest: Codable, Sendable {
    /// How hosts and machines are.
    case status
    /// Run the manifest's expectations.
    case check
    /// Put another manifest in force.
    case apply(text: String, file: String)
    /// Start the node of a host again, if it ended.
    case start(host: String)
    /// End the node of a host at once, as a power cut would.
    case kill(host: String)
    /// Hosts of different groups do not hear each other any more, in one tunnel zone or in all.
    case partition([[String]], zone: String?)
    /// All hosts hear each other again.
    case heal
}

/// What it answers.
public enum LabResponse: Codable, Sendable {
    /// It did not work.
    case failure(String)
    /// Answer to `status`.
    case status(LabStatus)
    /// Answer to `check`.
    case check([CheckResult])
    /// Done.
    case done
}

/// How a lab is.
public struct LabStatus: Codable, Sendable {
    /// Name of the lab.
    public var name: String
    /// File name of the manifest in force.
    public var manifest: String
    /// Hosts in order.
    public var hosts: [Host]
    /// Machines in order.
    public var machines: [Machine]
    /// How many expectations the manifest has.
    public var expectations: Int

    /// A host.
    public struct Host: Codable, Sendable {
        /// Its name.
        public var name: String
        /// Its underlay address.
        public var address: String
        /// `userspace` or `kernel`; absent when the node does not answer.
        public var datapath: String?
        /// Revision in force.
        public var revision: UInt64?
        /// What the node is in the cluster: `leader`, `voter`, `learner`, ...; absent when it does not answer.
        public var role: String?
        /// Hosts that it can hear, where that is not all.
        public var group: [String]?
        /// Process id of the node, inside the lab.
        public var processID: Int32
        /// What does not work.
        public var problems: [String]
    }
    /// A machine.
    public struct Machine: Codable, Sendable {
        /// Its port.
        public var port: String
        /// Its host.
        public var host: String
        /// Its addresses.
        public var addresses: [String]
        /// Its MAC.
        public var mac: String
    }
}

/// What became of an expectation.
public struct CheckResult: Codable, Sendable {
    /// Who began.
    public var from: String
    /// Who was to be reached.
    public var to: String
    /// With what.
    public var probe: String
    /// The packet that was tried, as `selvage trace` takes it.
    public var packet: String?
    /// Whether it was to work.
    public var expected: Bool
    /// Whether it worked.
    public var reached: Bool
    /// Round trip, milliseconds.
    public var milliseconds: Double?
    /// The hosts on the way, or why it could not be tried.
    public var note: String

    /// Whether it is as expected.
    public var isRight: Bool { expected == reached }
}
