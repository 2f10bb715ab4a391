// SPDX-License-Identifier: Apache-2.0

/// Times and bounds of replication. Times are nanoseconds.
public struct ReplicatorOptions: Sendable {
    private static let millisecond: UInt64 = 1_000_000

    /// How long what is for everybody may wait for more of its kind.
    public var gather = 1 * millisecond
    /// Entries that one datagram holds at most; rows are at most 100 bytes.
    public var entriesPerDatagram = 12
    /// How long it may be before the receiver says what it has.
    public var acknowledge = 2 * millisecond
    /// How long after the last datagram the sender says its number again, if it was not acknowledged: first, then each time
    /// three times as long, at most ``idle``.
    public var beacon = 3 * millisecond
    /// How often the heads are told when there is nothing else to tell.
    public var idle = 1000 * millisecond
    /// How long a number may be missing before it is asked for: packet threads send side by side.
    public var reorder = 1 * millisecond
    /// How long it is before it is asked for again; each time twice as long.
    public var askAgain = 4 * millisecond
    /// How often a number is asked for before tables are compared instead.
    public var asks = 7
    /// A peer that was not heard for so long is sent nothing but heads.
    public var silence = 3000 * millisecond
    /// Entries that are kept to be sent; a power of two.
    public var entries = 1 << 18
    /// Datagrams to one peer that were sent and not acknowledged.
    public var unacknowledged = 1 << 15
    /// Datagrams to one peer in one flush: a peer that was away is caught up with in steps.
    public var datagramsPerFlush = 64

    /// Other nodes up to which times are as they are given. Where there are more, what is for everybody waits longer for more
    /// of its kind, and so do acknowledgements: datagrams a second would grow with the square of the nodes.
    public var peersAtPace = 32

    /// As above.
    public init() {}

    /// The times for a number of other nodes.
    func paced(for peers: Int) -> ReplicatorOptions {
        let times = UInt64(max(1, (peers + peersAtPace - 1) / peersAtPace))
        var paced = self
        paced.gather *= times
        paced.acknowledge *= times
        paced.beacon = min(beacon * times, idle)
        return paced
    }
}
