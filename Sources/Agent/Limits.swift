// SPDX-License-Identifier: Apache-2.0
import Simulation

/// Bounds of the forwarding engine, each with a counter for what it turned away.
public enum AgentLimits {
    /// Flows that one packet thread keeps. Past it packets are still forwarded, one by one.
    public static let flowsPerThread = 200_000
    /// Flows from one port when more than half of all are taken.
    public static let flowsPerPort = flowsPerThread / 4
    /// A flow that carried nothing for this long goes.
    public static let idleNanoseconds: UInt64 = 10_000_000_000
    /// The same of one that carried a TCP FIN.
    public static let idleEndedNanoseconds: UInt64 = 4_000_000_000
    /// The same of one that carried a TCP reset.
    public static let idleResetNanoseconds: UInt64 = 1_000_000_000
    /// Idle flows that are removed before packets are looked at again.
    public static let removedAtOnce = 512
    /// One part in so many of a packet thread's time goes to reading flow counters, at most.
    public static let expiryShare: UInt64 = 25
    /// How often flow counters are read to find the idle ones.
    public static let expiryIntervalNanoseconds: UInt64 = 1_000_000_000
    /// Packets that wait for one neighbor.
    public static let parkedPerNeighbor = 16
    /// Packets that wait on one packet thread.
    public static let parkedPerThread = 1024
    /// How often a neighbor is asked again while packets wait.
    public static let askIntervalNanoseconds: UInt64 = 1_000_000_000
    /// How often a neighbor is asked before it counts as unreachable (RFC 4861: MAX_UNICAST_SOLICIT).
    public static let asks = 3
    /// Neighbors that are asked for at a time.
    public static let queriesPerThread = 4096
    /// Neighbors that are asked for at a time behind one router port.
    public static let queriesPerPort = 256
    /// ICMP errors a second towards one port.
    public static let errorsPerSecond = 1000
    /// Answers (ARP, ND, echo) a second towards one port.
    public static let answersPerSecond = 20_000
    /// Names that others are asked for, for a port and a packet thread: each goes by one thread of the node.
    public static let questionsPerSecond = 500
    /// How often a packet is decided anew because another took the port that it was to have.
    public static let translationAttempts = 4
    /// How long a block of ports is kept that nobody uses.
    public static let idlePortsNanoseconds: UInt64 = 300_000_000_000
    /// The same where all blocks of an address are somebody's.
    public static let scarcePortsNanoseconds: UInt64 = 10_000_000_000
    /// How long it is before blocks of an address that had none left are asked for again.
    public static let exhaustedNanoseconds: UInt64 = 5_000_000_000
    /// Addresses of one rule that a host asks for ports of ahead of need.
    public static let preparedAddresses = 4
    /// The time between two changes of learned routes, at least.
    public static let routesPauseNanoseconds: UInt64 = 10_000_000
    /// Routes that change at once of which each is looked for among the flows.
    public static let routesInvalidatedOneByOne = 2048
    /// Lines a second that rules write, each rule by itself.
    public static let logsPerRule = 20
    /// Packets of one thread that wait for another host to tell what it knows of their connection.
    public static let heldPerThread = 512
    /// Packets of one port that do.
    public static let heldPerPort = 64
    /// How long they wait at most.
    public static let heldNanoseconds: UInt64 = 60_000_000
    /// How often a packet waits within that time: each translation and each filter on its way may ask for something else.
    public static let heldTimes = 8
    /// How often a second the other hosts are asked.
    public static let wantsPerSecond = 2000
    /// How long it is before they are asked for the same again: what TCP sends again after a second (RFC 6298) asks anew.
    public static let unknownStateNanoseconds: UInt64 = 500_000_000
    /// Connections that nobody knew a moment ago, of which that is remembered.
    public static let unknownStates = 8192
    /// How long a packet is held that came by tunnel for a port that is not here: it may be on its way.
    public static let strayNanoseconds: UInt64 = 50_000_000
    /// Such packets of one thread.
    public static let straysPerThread = 4096
    /// Such packets for one port.
    public static let straysPerPort = 1024
    /// How long a host goes on to take what comes in by the interface of a port that went to another one.
    public static let lingerNanoseconds: UInt64 = 200_000_000
    /// Packets that come of a packet that comes of a packet.
    public static let generations = 4
    /// Distinct tags of one flow that are kept; past it a flow is not installed.
    public static let tagsPerFlow = 512
}
