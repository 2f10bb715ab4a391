// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// The neighbors that are being asked for, and the packets that wait for their answers, each list with a bound and a
/// deadline. Pure: it is told the time.
struct ParkingLot {
    /// A packet that waits, and where its simulation begins again.
    struct Parked {
        enum Origin: Equatable {
            case ingress(Tag)
            case leaving(Tag, isRouted: Bool, answers: [ConnectionUse])
        }
        var packet: OwnedPacket
        var origin: Origin
    }
    struct Query: Hashable {
        var address: IPAddress
        /// Tag of the router port behind which it is.
        var port: Tag

        var tag: Tag { .neighbor(address, port: port) }
    }
    private struct Waiting {
        var packets: [Parked] = []
        var asked = 0
        var nextAsk: UInt64
    }
    /// What there is to do.
    enum Due {
        /// Ask again.
        case ask(Query)
        /// Nobody answered: the packets go back to be answered themselves.
        case unreachable(Query, [Parked])
    }

    private var lots: [Query: Waiting] = [:]
    private var queries: [Tag: Query] = [:]
    /// Queries of a router port: a scan of the addresses behind it must not use up what the others need.
    private var queriesOfPort: [Tag: Int] = [:]
    /// Packets that wait.
    private(set) var count = 0
    /// Neighbors that are asked for.
    var queryCount: Int { lots.count }

    /// Begins to wait for a neighbor, unless that is under way. False when there is no room.
    mutating func watch(_ query: Query, now: UInt64) -> Bool {
        if lots[query] != nil { return true }
        guard queriesOfPort[query.port, default: 0] < AgentLimits.queriesPerPort,
            lots.count < AgentLimits.queriesPerThread
        else { return false }
        queriesOfPort[query.port, default: 0] += 1
        queries[query.tag] = query
        lots[query] = Waiting(nextAsk: now &+ AgentLimits.askIntervalNanoseconds)
        return true
    }

    /// Parks a packet. False when there is no room.
    mutating func park(_ parked: Parked, for query: Query, now: UInt64) -> Bool {
        guard watch(query, now: now), count < AgentLimits.parkedPerThread,
            lots[query]?.packets.count ?? 0 < AgentLimits.parkedPerNeighbor
        else { return false }
        lots[query]?.packets.append(parked)
        count += 1
        return true
    }

    /// Whether the neighbor is to be asked right away: the first time only, what follows is told by ``due(now:)``. So it is
    /// asked at most once a second, however many packets want it (RFC 1122 section 2.3.2.1).
    mutating func shouldAsk(_ query: Query) -> Bool {
        guard lots[query]?.asked == 0 else { return false }
        lots[query]?.asked = 1
        return true
    }

    /// Takes out the packets that waited for one of the tags' neighbors.
    mutating func take(_ tags: Set<Tag>) -> [Parked] {
        if lots.isEmpty { return [] }
        var taken: [Parked] = []
        if tags.count < lots.count {
            for tag in tags { if let query = queries[tag] { taken += remove(query) } }
        } else {
            for (tag, query) in queries where tags.contains(tag) { taken += remove(query) }
        }
        return taken
    }

    private mutating func remove(_ query: Query) -> [Parked] {
        guard let waiting = lots.removeValue(forKey: query) else { return [] }
        queries[query.tag] = nil
        let left = (queriesOfPort[query.port] ?? 0) - 1
        queriesOfPort[query.port] = left > 0 ? left : nil
        count -= waiting.packets.count
        return waiting.packets
    }

    /// Takes out all packets. Neighbors go on being asked for: flows may wait for them, too.
    mutating func takeAll() -> [Parked] {
        let all = lots.values.flatMap(\.packets)
        for query in lots.keys { lots[query]?.packets.removeAll() }
        count = 0
        return all
    }

    /// Queries whose time has come.
    mutating func due(now: UInt64) -> [Due] {
        if lots.isEmpty { return [] }
        var due: [Due] = []
        for (query, waiting) in lots where waiting.nextAsk <= now {
            if waiting.asked >= AgentLimits.asks {
                due.append(.unreachable(query, remove(query)))
            } else {
                lots[query]?.asked += 1
                lots[query]?.nextAsk = now &+ AgentLimits.askIntervalNanoseconds
                due.append(.ask(query))
            }
        }
        return due
    }
}

extension OwnedPacket {
    /// Its fields: those of its bytes, parsed again, and those that say where it came in.
    func parsed(_ bytes: UnsafeRawBufferPointer, _ layout: inout PacketLayout) -> FlowKey {
        var parsed = FlowKey(parsing: bytes.bytes, layout: &layout)
        // Tunnel and port: see ``FlowKey``.
        for word in 0..<7 { parsed.words[word] = key.words[word] }
        return parsed
    }
}
