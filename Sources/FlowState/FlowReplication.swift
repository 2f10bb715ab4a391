// SPDX-License-Identifier: Apache-2.0
import Gossip
import Simulation
import Synchronization
import Wire

/// Carries datagrams to other nodes, in any order, or not at all.
public protocol StateTransport: Sendable {
    /// Bytes ahead of what a datagram holds, which ``send(_:to:)`` writes its own header to.
    var headroom: Int { get }
    /// Sends a datagram: what it holds, behind as many bytes as ``headroom`` says. Called on packet threads and on the thread of
    /// the replication; must not wait.
    func send(_ datagram: consuming [UInt8], to peer: PeerID)
}

extension StateTransport {
    /// No header.
    public var headroom: Int { 0 }
}

/// What replication counts.
public struct ReplicationCounters: Sendable, Equatable {
    /// Rows that were pushed ahead of a packet, counted once for each peer.
    public var pushed: UInt64 = 0
    /// Datagrams that were handed to the transport.
    public var datagrams: UInt64 = 0
    /// Bytes in them, before they are sealed.
    public var bytes: UInt64 = 0
    /// Datagrams that could not be read.
    public var malformed: UInt64 = 0
    /// Times that this host asked the others for what a packet needs.
    public var wanted: UInt64 = 0
    /// Times that it was asked, and knew.
    public var found: UInt64 = 0
    /// Questions for what was not known that were not kept, for want of room: who asked is told with all.
    public var forgottenAskers: UInt64 = 0
}

/// Tells the other nodes what a ``StateTable`` learns, and the table what they tell. It has no thread and no socket: whoever
/// owns it calls ``receive(_:from:now:)`` with what comes and ``step(now:)`` when it is due.
public final class FlowReplication: Sendable {
    /// The table.
    public let table: StateTable
    private let transport: any StateTransport
    /// What was decided with these tags may be wrong now.
    private let onNews: @Sendable (Set<Tag>) -> Void
    /// What was asked for with these tags is known to none of the others.
    private let onUnknown: @Sendable (Set<Tag>) -> Void
    /// Tables are to be compared with a peer.
    private let onCompare: @Sendable (PeerID) -> Void
    /// A word about who is there came.
    private let onMembership: @Sendable (PeerID, MembershipMessage) -> Void
    /// Something waits to be sent: ``step(now:)`` is due soon. Called on packet threads.
    private let onPending: @Sendable () -> Void
    private let counted = Mutex(ReplicationCounters())
    private let caughtUp = Atomic<Bool>(false)
    private let flushes = Mutex(Flushing())
    private let askers = Askers()

    private struct Flushing {
        /// How long what is for everybody waits for more of its kind, nanoseconds.
        var gather = ReplicatorOptions().gather
        /// When what waits goes.
        var due: UInt64?
        /// Questions that were asked, and are asked again in case they were lost.
        var wants: [Want] = []
        var nextWant: UInt64 { wants.reduce(.max) { min($0, $1.next) } }
    }
    private struct Want {
        var keys: [UInt8]
        var tags: Set<Tag>
        /// Those that have not said yet that they don't know.
        var peers: [PeerID]
        var next: UInt64
        var left = 2
    }
    /// When a question is asked again, nanoseconds; the next time three times later.
    private static let askAgain: UInt64 = 5_000_000

    /// Replication of a table.
    public init(
        _ table: StateTable, over transport: any StateTransport,
        onNews: @escaping @Sendable (Set<Tag>) -> Void, onUnknown: @escaping @Sendable (Set<Tag>) -> Void = { _ in },
        onCompare: @escaping @Sendable (PeerID) -> Void,
        onMembership: @escaping @Sendable (PeerID, MembershipMessage) -> Void = { _, _ in },
        onPending: @escaping @Sendable () -> Void = {}
    ) {
        self.onMembership = onMembership
        self.table = table
        self.transport = transport
        self.onNews = onNews
        self.onUnknown = onUnknown
        self.onCompare = onCompare
        self.onPending = onPending
    }

    /// Sets who the others are.
    public func setPeers(_ peers: Set<PeerID>) {
        let gather = table.telling.replicator.withLock { replicator in
            replicator.setPeers(peers)
            return replicator.gather
        }
        flushes.withLock { $0.gather = gather }
        onPending()
    }

    /// A peer runs another time.
    public func began(_ peer: PeerID) {
        table.telling.replicator.withLock { $0.began(peer) }
        onPending()
    }

    /// What was counted.
    public var counters: ReplicationCounters { counted.withLock { $0 } }
    /// What the channels with a peer are at.
    public func status(of peer: PeerID) -> ChannelStatus? { table.telling.replicator.withLock { $0.status(of: peer) } }

    /// Whether this host knows what the others did when it began: before, what it does not know may be known to all.
    public var isCaughtUp: Bool { caughtUp.load(ordering: .relaxed) }
    /// Tables were compared with another host in full, or there is nobody to compare them with.
    public func setCaughtUp() { caughtUp.store(true, ordering: .relaxed) }

    // MARK: - Telling

    /// Has told what packets taught: at once to the peers that may see the next packet, to the others soon.
    public func tell(_ told: ToldEntries, first peers: [PeerID], now: UInt64) {
        if told.isEmpty { return }
        if !peers.isEmpty {
            told.forEachRange { range in
                let rows = table.rows(of: range, isPush: true, now: now)
                for peer in peers where !rows.isEmpty {
                    let number = table.telling.replicator.withLock { $0.push(range, to: peer, now: now) }
                    if let number { send(.rows(number: number, bytes: rows), to: peer, isPush: true) }
                }
            }
        }
        let isFirst = flushes.withLock { flushes in
            guard flushes.due == nil else { return false }
            flushes.due = now &+ flushes.gather
            return true
        }
        if isFirst { onPending() }
    }

    /// Asks all others for what a packet needs.
    ///
    /// - Parameters:
    ///   - keys: as ``key(ofConnection:zone:)`` and ``key(ofTranslation:zone:)`` make them, one behind the other.
    ///   - tags: what the keys stand for.
    public func want(_ keys: [UInt8], _ tags: Set<Tag>, from peers: [PeerID], now: UInt64) {
        counted.withLock { $0.wanted &+= 1 }
        // First: whoever is asked may answer at once.
        flushes.withLock {
            $0.wants.append(Want(keys: keys, tags: tags, peers: peers, next: now &+ FlowReplication.askAgain))
        }
        for peer in peers { send(.wanted(keys), to: peer) }
        onPending()
    }

    private func askAgain(_ now: UInt64) {
        let due = flushes.withLock { flushes -> [Want] in
            let due = flushes.wants.filter { $0.next <= now }
            if due.isEmpty { return [] }
            flushes.wants.removeAll { $0.next <= now }
            for var want in due where want.left > 1 {
                want.left -= 1
                want.next = now &+ 3 * FlowReplication.askAgain
                flushes.wants.append(want)
            }
            return due
        }
        for want in due where !isKnown(want.keys, now) {
            for peer in want.peers { send(.wanted(want.keys), to: peer) }
        }
    }

    /// A peer does not know some of what it was asked for. What no peer that is heard knows nobody waits for any longer.
    private func note(unknown tags: Set<Tag>, from peer: PeerID, now: UInt64) {
        let left = flushes.withLock { flushes -> Set<PeerID> in
            var left: Set<PeerID> = []
            for place in flushes.wants.indices where flushes.wants[place].tags.isSubset(of: tags) {
                flushes.wants[place].peers.removeAll { $0 == peer }
                left.formUnion(flushes.wants[place].peers)
            }
            return left
        }
        // Who is away is not waited for.
        let awaited = table.telling.replicator.withLock { replicator in left.filter { replicator.hears($0, now: now) } }
        let given = flushes.withLock { flushes -> Set<Tag> in
            var given: Set<Tag> = []
            for place in flushes.wants.indices.reversed()
            where flushes.wants[place].tags.isSubset(of: tags) && awaited.isDisjoint(with: flushes.wants[place].peers) {
                given.formUnion(flushes.wants.remove(at: place).tags)
            }
            return given
        }
        if !given.isEmpty { onUnknown(given) }
    }

    /// Whether something that was asked for is known by now.
    private func isKnown(_ keys: [UInt8], _ now: UInt64) -> Bool {
        var unknown: Set<Tag> = []
        return (try? table.find(keys, now: now, unknown: &unknown))?.isEmpty == false
    }

    /// The peers that asked for what has one of these tags, a moment before it began: they let nothing of it through for want
    /// of it.
    public func askers(of tags: Set<Tag>, now: UInt64) -> [PeerID] { askers.find(tags, now: now) }

    /// The key of a connection, for ``want(_:from:)``.
    public static func key(ofConnection tuple: ConnectionTuple, zone: Tag) -> [UInt8] {
        var out = ByteWriter()
        ConnectionRows.key(tuple, zone, into: &out)
        return out.bytes
    }

    /// The key of a translated connection, for ``want(_:from:)``.
    public static func key(ofTranslation tuple: ConnectionTuple, zone: Tag) -> [UInt8] {
        var out = ByteWriter()
        TranslationRows.key(tuple, zone, into: &out)
        return out.bytes
    }

    /// Sends a word about who is there.
    public func send(_ message: MembershipMessage, to peer: PeerID) { send(.membership(message), to: peer) }

    private func send(_ frame: GossipFrame, _ more: GossipFrame? = nil, to peer: PeerID, isPush: Bool = false) {
        let headroom = transport.headroom
        var out = ByteWriter(headroom: headroom)
        frame.encode(into: &out)
        more?.encode(into: &out)
        let datagram = out.finish()
        counted.withLock { counted in
            if isPush { counted.pushed &+= 1 }
            counted.datagrams &+= 1
            counted.bytes &+= UInt64(datagram.count - headroom)
        }
        transport.send(datagram, to: peer)
    }

    // MARK: - Hearing

    /// A datagram came, from who it says.
    public func receive(_ bytes: [UInt8], from peer: PeerID, now: UInt64) {
        let frames: [GossipFrame]
        do throws(MalformedBytes) { frames = try GossipFrame.decode(bytes) } catch { return spoil() }
        var news: Set<Tag> = []
        for frame in frames {
            switch frame {
            case .rows(let number, let rows):
                let isNew = table.telling.replicator.withLock { $0.received(number: number, from: peer, now: now) }
                if isNew { merge(rows, now, &news) }
            case .found(let rows): merge(rows, now, &news)
            case .wanted(let keys):
                do throws(MalformedBytes) {
                    var unknown: Set<Tag> = []
                    let rows = try table.find(keys, now: now, unknown: &unknown)
                    let forgotten = askers.note(peer, unknown, now: now)
                    if forgotten > 0 { counted.withLock { $0.forgottenAskers &+= UInt64(forgotten) } }
                    // Who has just begun does not know what it does not know.
                    if !unknown.isEmpty, isCaughtUp { send(.unknown(unknown.map(\.bits)), to: peer) }
                    if rows.isEmpty { break }
                    counted.withLock { $0.found &+= 1 }
                    send(.found(rows), to: peer)
                } catch { spoil() }
            case .unknown(let tags): note(unknown: Set(tags.map(Tag.init(bits:))), from: peer, now: now)
            case .membership(let message): onMembership(peer, message)
            case .clock(let milliseconds): table.follow(clock: milliseconds, now: now)
            case .heads, .missing, .forgotten:
                perform(table.telling.replicator.withLock { $0.received(frame, from: peer, now: now) }, now)
            }
        }
        if !news.isEmpty { onNews(news) }
    }

    private func merge(_ rows: [UInt8], _ now: UInt64, _ news: inout Set<Tag>) {
        do throws(MalformedBytes) { try table.merge(rows, now: now, &news) } catch { spoil() }
    }

    private func spoil() { counted.withLock { $0.malformed &+= 1 } }

    // MARK: - Time

    /// Does what is due.
    ///
    /// - Returns: when something is due next.
    public func step(now: UInt64) -> UInt64 {
        let isDue = flushes.withLock { flushes in
            guard let due = flushes.due, due <= now else { return false }
            flushes.due = nil
            return true
        }
        askAgain(now)
        if isDue { perform(table.telling.replicator.withLock { $0.flush(now: now) }, now) }
        let (effects, next, isPending) = table.telling.replicator.withLock { replicator in
            let effects = replicator.tick(now: now)
            return (effects, replicator.nextDue, replicator.isPending(now: now))
        }
        perform(effects, now)
        return flushes.withLock { flushes in
            // What found no room goes next time.
            if isPending, flushes.due == nil { flushes.due = now &+ flushes.gather }
            return min(next, flushes.due ?? .max, flushes.nextWant)
        }
    }

    private func perform(_ effects: [Replicator.Effect], _ now: UInt64) {
        // Many are sent the same.
        var written: [Range<UInt64>: [UInt8]] = [:]
        for effect in effects {
            switch effect {
            case .rows(let peer, let number, let entries, let isPush):
                // Also when nothing is left to say: the number is waited for.
                let bytes =
                    (isPush ? nil : written[entries]) ?? table.rows(of: entries, isPush: isPush, now: now)
                if !isPush { written[entries] = bytes }
                send(.rows(number: number, bytes: bytes), to: peer)
            case .frame(let peer, let heads) where heads.isHeads:
                // Whoever begins something hears of all clocks within a second, and begins it later than all they know.
                send(heads, .clock(table.clock(now: now)), to: peer)
            case .frame(let peer, let frame): send(frame, to: peer)
            case .compare(let peer): onCompare(peer)
            }
        }
    }
}
