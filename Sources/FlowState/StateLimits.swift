// SPDX-License-Identifier: Apache-2.0
import Simulation

/// Bounds of what a host remembers of packets, each with a counter for what it turned away.
public enum StateLimits {
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
    /// Addresses that bridges gave.
    public static let leases = 131_072
    /// Addresses that bridges gave to machines behind one port.
    public static let leasesPerPort = 256
    /// Clients that come back to a member of a pool.
    public static let affinities = 262_144
    /// Clients of one pool in one router that do.
    public static let affinitiesPerPool = 131_072
    /// Members of pools whose health is known.
    public static let healths = 65_536
    /// ... of one pool in one router.
    public static let healthsPerPool = 2048
    /// How long it is known what checks came to when nobody checks any more, nanoseconds.
    public static let healthLifetimeNanoseconds: UInt64 = 60_000_000_000
    /// Members of multicast groups that are known at a time, those included that have just left.
    public static let groups = 65_536
    /// The same of one port.
    public static let groupsPerPort = 512
    /// How long it is known that a member left: longer than anybody may hold that it is one.
    public static let groupLeftNanoseconds: UInt64 = 300_000_000_000
    /// Destinations that daemons of uplinks know ways to, and knew a while ago, by all uplinks.
    public static let routes = 2_097_152
    /// The same by one uplink.
    public static let routesPerUplink = 1_048_576
    /// How long a way is known when nobody tells of it any more, nanoseconds.
    public static let routeLifetimeNanoseconds: UInt64 = 3_600_000_000_000
    /// Neighbors that are noted not to answer.
    public static let unreachableEntries = 16_384
    /// How long before its end a learned entry is confirmed, if anybody uses it.
    public static let confirmNanoseconds: UInt64 = 15_000_000_000
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
    /// What has less than this left is not told when tables are compared: it would come back where it has just ended.
    public static let comparedNanoseconds: UInt64 = 2_000_000_000
    /// Connections that others asked for in vain, of which that is remembered at a time.
    static let askedEntries = 8192
    /// How long it is at least: longer than who asked does without asking again, its waiting and its turns included.
    static let askedNanoseconds: UInt64 = 1_000_000_000
    /// Bytes of rows in one answer when tables are compared.
    static let answerBytes = 512 << 10
    /// How long a bucket of a table must have been quiet to be compared while rows are on their way.
    public static let settledNanoseconds: UInt64 = 300_000_000
}
