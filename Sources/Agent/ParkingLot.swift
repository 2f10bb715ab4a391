// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Wire

/// Packets that wait for a neighbor's MAC, each list with a bound and a deadline. Pure: it is told the time.
struct ParkingLot {
    /// A packet that waits, and where its simulation begins again.
    struct Parked {
        enum Origin: Equatable {
            case ingress(Tag)
            case leaving(Tag, isRouted: Bool)
        }
        var packet: OwnedPacket
        var origin: Origin
    }
    struct Query: Hashable {
        var address: IPAddress
        /// Tag of the router port behind which it is.
        var port: Tag
    }
    private struct Waiting {
        var packets: [Parked] = []
        var asked = 1
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
    private(set) var count = 0

    /// Parks a packet. False when there is no room. `isFirst` tells whether nobody asked for the neighbor yet.
    mutating func park(_ parked: Parked, for query: Query, now: UInt64) -> (accepted: Bool, isFirst: Bool) {
        let isFirst = lots[query] == nil
        var waiting = lots[query] ?? Waiting(nextAsk: now &+ AgentLimits.askIntervalNanoseconds)
        let hasRoom = waiting.packets.count < AgentLimits.parkedPerNeighbor && count < AgentLimits.parkedPerThread
        if hasRoom {
            waiting.packets.append(parked)
            count += 1
        }
        lots[query] = waiting
        return (hasRoom, isFirst)
    }

    /// Takes out the packets that waited for one of the tags' neighbors.
    mutating func take(_ tags: Set<Tag>) -> [Parked] {
        if lots.isEmpty { return [] }
        var taken: [Parked] = []
        for query in lots.keys where tags.contains(.neighbor(query.address, port: query.port)) {
            taken += lots.removeValue(forKey: query)?.packets ?? []
        }
        count -= taken.count
        return taken
    }

    /// Takes out all packets.
    mutating func takeAll() -> [Parked] {
        let all = lots.values.flatMap(\.packets)
        lots.removeAll()
        count = 0
        return all
    }

    /// Queries whose time has come.
    mutating func due(now: UInt64) -> [Due] {
        if lots.isEmpty { return [] }
        var due: [Due] = []
        for (query, waiting) in lots where waiting.nextAsk <= now {
            if waiting.asked >= AgentLimits.asks {
                lots[query] = nil
                count -= waiting.packets.count
                due.append(.unreachable(query, waiting.packets))
            } else {
                lots[query]?.asked += 1
                lots[query]?.nextAsk = now &+ AgentLimits.askIntervalNanoseconds
                due.append(.ask(query))
            }
        }
        return due
    }
}
