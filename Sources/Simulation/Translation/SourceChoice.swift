// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A source that is to be translated.
public struct SourceWish: Sendable {
    /// The router.
    public var zone: Tag
    /// What the packet says, its destination translated already.
    public var tuple: ConnectionTuple
    /// The first address that the source may become.
    public var first: IPAddress
    /// How many addresses there are from there on.
    public var count: Int
    /// Ports that it may become.
    public var ports: PortRange

    /// Ports that are looked at before it is said that there is none.
    static let probes = 128

    /// A wish.
    public init(zone: Tag, tuple: ConnectionTuple, first: IPAddress, count: Int, ports: PortRange) {
        self.zone = zone
        self.tuple = tuple
        self.first = first
        self.count = count
        self.ports = ports
    }

    func address(_ index: Int) -> IPAddress { first.advanced(by: index) }
}

/// What a source may become.
public enum SourceChoice: Sendable, Equatable {
    /// This address and port.
    case found(IPAddress, UInt16)
    /// This host has no free port now, and asks for more.
    case pending
    /// There is none.
    case exhausted
}

/// What sources become. A choice is not kept: it is when its connection begins.
extension TranslationTable {
    /// Finds an address and a port that a connection's source may become: nobody else has them towards its remote end.
    /// The port stays as it is where that can be, and one machine keeps to one address.
    public mutating func choose(_ wish: SourceWish) -> SourceChoice {
        var isPending = false
        // Who had a port a while ago, and nobody had it since, gets it again.
        if let slot = slot(hash(wish.tuple, wish.zone)), slot.pointee.isReserved, slot.pointee.original == wish.tuple,
            slot.pointee.zone == wish.zone
        {
            let (address, port) = (slot.pointee.reply.destination, slot.pointee.reply.destinationPort)
            if wish.ports.contains(port), address >= wish.first, address <= wish.address(wish.count - 1),
                slot.pointee.pool >= 0, ports.holds(slot.pointee.pool, port)
            {
                return .found(address, port)
            }
        }
        let first = Int(truncatingIfNeeded: mix(wish.tuple.source.high ^ seed, wish.tuple.source.low) >> 33)
        for offset in 0..<min(wish.count, 8) {
            let address = wish.address((first + offset) % wish.count)
            switch choose(address, wish) {
            case .found(let port): return .found(address, port)
            case .pending: isPending = true
            case .exhausted: break
            }
        }
        return isPending ? .pending : .exhausted
    }

    /// A port of its own machine that a connection's source may keep, or become: towards its remote end it is no other's.
    ///
    /// - Parameter original: what the connection's packets say as they come: one that begins anew has its port already.
    public mutating func port(keeping tuple: ConnectionTuple, of original: ConnectionTuple, zone: Tag) -> UInt16? {
        var reply = tuple.reversed
        if isFree(reply, zone: zone) || record(reply, zone: zone)?.original == original { return tuple.sourcePort }
        if tuple.sourcePort == 0 { return nil }
        let start = Int(truncatingIfNeeded: mix(tuple.hash(seed), 0x51ed_270b_35ad_55f1) >> 33)
        for step in 0..<16 {
            reply.destinationPort = UInt16(32_768 + (start + step * 1_811) % 28_232)
            if isFree(reply, zone: zone) { return reply.destinationPort }
        }
        return nil
    }

    private enum PortChoice {
        case found(UInt16)
        case pending, exhausted
    }

    private mutating func choose(_ address: IPAddress, _ wish: SourceWish) -> PortChoice {
        var reply = wish.tuple.reversed
        reply.destination = address
        let pool = ports.pool(wish.zone, address)
        guard let blocks = ports.blocks(of: pool, in: wish.ports) else {
            return ports.want(pool, 1) ? .pending : .exhausted
        }
        let own = wish.tuple.sourcePort
        if wish.ports.contains(own), ports.holds(pool, own),
            isFree(reply, zone: wish.zone)
        {
            return .found(own)
        }
        let total = blocks.count * PortBlock.size
        let start = Int(truncatingIfNeeded: mix(wish.tuple.hash(seed), 0x9e37_79b9_7f4a_7c15) >> 33) % total
        for step in 0..<min(total, SourceWish.probes) {
            let place = (start + step) % total
            let port = Int(blocks[place / PortBlock.size]) * PortBlock.size + place % PortBlock.size
            guard let port = UInt16(exactly: port), wish.ports.contains(port) else { continue }
            reply.destinationPort = port
            guard isFree(reply, zone: wish.zone) else { continue }
            // Long searches tell that ports run short towards this remote end.
            if step >= SourceWish.probes / 4 { _ = ports.want(pool, blocks.count) }
            return .found(port)
        }
        return ports.want(pool, blocks.count) ? .pending : .exhausted
    }
}
