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
    /// How long a learned MAC is believed without being seen again.
    public static let macLifetimeNanoseconds: UInt64 = 300_000_000_000
    /// How long a learned neighbor is believed without being told again.
    public static let neighborLifetimeNanoseconds: UInt64 = 120_000_000_000
    /// How long a neighbor that did not answer counts as unreachable.
    public static let unreachableNanoseconds: UInt64 = 3_000_000_000
    /// Learned entries on one host.
    public static let learnedEntries = 131_072
    /// Learned entries at one port.
    public static let learnedPerPort = 4096
    /// Neighbors that are noted not to answer.
    public static let unreachableEntries = 16_384
    /// How long before its end a learned entry is confirmed, if anybody uses it.
    public static let confirmNanoseconds: UInt64 = 15_000_000_000
    /// How often other hosts are told what they were told before.
    public static let tellIntervalNanoseconds: UInt64 = 1_000_000_000
    /// Messages a second to other hosts about what was learned, each to all of them.
    public static let tellsPerSecond = 2000
    /// Messages a second to other hosts about connections, each to all of them.
    public static let connectionTellsPerSecond = 50_000
    /// Entries that a host which just started is told.
    public static let tellsPerGreeting = 4096
    /// Neighbors that are asked for at a time.
    public static let queriesPerThread = 4096
    /// Neighbors that are asked for at a time behind one router port.
    public static let queriesPerPort = 256
    /// ICMP errors a second towards one port.
    public static let errorsPerSecond = 1000
    /// Answers (ARP, ND, echo) a second towards one port.
    public static let answersPerSecond = 20_000
    /// Connections that are known at a time.
    public static let connections = 1_048_576
    /// Connections that are looked at in one round of expiry: all of them within some twenty rounds.
    public static let connectionsLookedAt = 65_536
    /// Connections of one tenant and of one port, unless operators set others.
    public static let connectionBounds = ConnectionBounds(perPort: 65_536, perTenant: 262_144)
    /// Translated connections of one tenant and of one port, unless operators set others.
    public static let translationBounds = ConnectionBounds(perPort: 65_536, perTenant: 131_072)
    /// Translated connections that are known at a time.
    public static let translations = 524_288
    /// Packets whose fragments are under way through translators.
    public static let fragments = 16_384
    /// How long the fragments of one packet may be under way (RFC 8200 section 4.5).
    public static let fragmentNanoseconds: UInt64 = 30_000_000_000
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
    /// How often other hosts are told that a connection goes on.
    public static let connectionTellNanoseconds: UInt64 = 10_000_000_000
    /// Lines a second that rules write, each rule by itself.
    public static let logsPerRule = 20
    /// Packets that come of a packet that comes of a packet.
    public static let generations = 4
    /// Distinct tags of one flow that are kept; past it a flow is not installed.
    public static let tagsPerFlow = 512
}

/// Tunnel keys that name no port and no bridge.
public enum ReservedKeys {
    /// Messages between agents: what one host learned, told to the others.
    public static let state: UInt32 = 0xff_ffff
}
