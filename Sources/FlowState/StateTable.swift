// SPDX-License-Identifier: Apache-2.0
import Gossip
import Simulation
import Synchronization
import Wire

/// What packets left behind, on this host and on the others: connections, translations, stations, neighbors.
///
/// Packet threads read it through ``FlowStateView`` and write what packets teach through ``learn(_:owner:now:told:)``. What
/// changes is told to the other hosts by ``FlowReplication``, and what they tell is merged. In whichever order rows come, all
/// hosts end with the same.
public final class StateTable: FlowStateView {
    let connections: ConnectionRows
    let translations: TranslationRows
    let stations: LearnedRows<StationKey>
    let neighbors: LearnedRows<NeighborKey>
    let affinities: LearnedRows<AffinityKey>
    let leases: LearnedRows<LeaseKey>
    let healths: LearnedRows<HealthKey>
    let groups: LearnedRows<GroupKey>
    let routes: LearnedRows<RouteKey>
    let routeNews: RouteNews
    let telling = Telling()
    let bounds = LearnedBounds()
    private let stamps = Mutex(RowStamps())
    private let journal = Mutex<JournalInbox?>(nil)
    /// Neighbors that did not answer, until they are asked again. Each host finds out for itself.
    let unreachable = Mutex<[NeighborKey: UInt64]>([:])
    /// Hosts where nothing arrives that this one sends, and how many there are.
    private let deadHosts = Mutex<Set<Tag>>([])
    private let deadCount = Atomic<Int>(0)

    /// An empty table.
    ///
    /// - Parameters:
    ///   - seed: a secret of this process: nobody else is to know which connections clash in the table.
    ///   - onPortsWanted: called when this host wants ports to translate to; must be quick.
    public init(
        seed: UInt64 = .random(in: .min ... .max), onPortsWanted: @escaping @Sendable () -> Void = {}
    ) {
        connections = ConnectionRows(telling, seed: seed)
        translations = TranslationRows(telling, seed: seed, onPortsWanted: onPortsWanted)
        stations = LearnedRows(telling, bounds)
        neighbors = LearnedRows(telling, bounds)
        affinities = LearnedRows(
            telling, LearnedBounds(total: StateLimits.affinities, perPort: StateLimits.affinitiesPerPool))
        leases = LearnedRows(
            telling, LearnedBounds(total: StateLimits.leases, perPort: StateLimits.leasesPerPort))
        healths = LearnedRows(
            telling, LearnedBounds(total: StateLimits.healths, perPort: StateLimits.healthsPerPool))
        groups = LearnedRows(
            telling, LearnedBounds(total: StateLimits.groups, perPort: StateLimits.groupsPerPort))
        let news = RouteNews()
        routeNews = news
        routes = LearnedRows(
            telling, LearnedBounds(total: StateLimits.routes, perPort: StateLimits.routesPerUplink),
            changed: { news.add($0) })
    }

    /// Tables by what they hold.
    func table(_ kind: RowKind) -> any RowTable {
        switch kind {
        case .connection: connections
        case .translation: translations
        case .station: stations
        case .neighbor: neighbors
        case .affinity: affinities
        case .lease: leases
        case .health: healths
        case .group: groups
        case .route: routes
        }
    }

    /// Says which host this is, and what time it is, for the stamps of what begins here.
    public func set(_ stamps: RowStamps) {
        self.stamps.withLock { $0 = stamps }
        connections.state.withLock { $0.table.stamps = stamps }
        translations.state.withLock { $0.table.stamps = stamps }
        stations.set(stamps)
        neighbors.set(stamps)
        affinities.set(stamps)
        leases.set(stamps)
        healths.set(stamps)
        groups.set(stamps)
        routes.set(stamps)
    }

    /// The clock of this host's stamps, in milliseconds since 1970: others follow it.
    func clock(now: UInt64) -> UInt64 { stamps.withLock { $0 }.milliseconds(now: now) }

    /// Another host told its clock.
    func follow(clock milliseconds: UInt64, now: UInt64) { stamps.withLock { $0 }.follow(milliseconds, now: now) }

    // MARK: - Reading

    /// The port at which a MAC was seen.
    public func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag? {
        stations[StationKey(mac: mac, vlan: vlan, bridge: bridge)]
    }

    /// What a neighbor told.
    public func neighbor(_ address: IPAddress, port: Tag) -> NeighborState {
        let key = NeighborKey(address: address, port: port)
        // This host found out for itself, whatever another one remembers.
        if unreachable.withLock({ !$0.isEmpty && $0[key] != nil }) { return .unreachable }
        return neighbors[key].map { .at($0) } ?? .unknown
    }

    /// The connection of a packet.
    public func connection(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16) -> ConnectionMatch? {
        connections.state.withLock { $0.table.find(tuple, zone: zone, flags: flags, now: $0.now) }
    }

    /// Whether two addresses have a connection.
    public func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool {
        connections.state.withLock { $0.table.hasConnections(pair, zone: zone) }
    }

    /// The translated connection of a packet.
    public func translation(_ tuple: ConnectionTuple, zone: Tag) -> TranslationMatch? {
        translations.state.withLock { $0.table.find(tuple, zone: zone, now: $0.now) }
    }

    /// What a source may become.
    public func source(for wish: SourceWish) -> SourceChoice { translations.source(for: wish) }

    /// A port of its own machine that a source may keep or become.
    public func sourcePort(keeping tuple: ConnectionTuple, of original: ConnectionTuple, zone: Tag) -> UInt16? {
        translations.state.withLock { $0.table.port(keeping: tuple, of: original, zone: zone) }
    }

    /// What the first fragment of a packet said.
    public func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple? {
        translations.fragment(name, zone: zone)
    }

    /// Connections that a pool was chosen a member for, from a number on that other hosts do not have.
    public func turn(of pool: Tag) -> UInt64 { translations.state.withLock { $0.turn(of: pool) } }

    /// Connections that are sent to a member of pools.
    public func connections(to address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int {
        translations.state.withLock {
            $0.table.connections(to: address, port: port, ipProtocol: ipProtocol, zone: zone)
        }
    }

    /// Who has an address that a bridge gave.
    public func lease(of address: IPAddress, bridge: Tag) -> Lease? {
        leases[LeaseKey(address: address, bridge: bridge)]?.lease
    }

    /// The address that a bridge gave to a machine.
    public func address(of client: UInt64, bridge: Tag) -> IPAddress? {
        LeaseKey.holder(client, bridge: bridge).flatMap { leases.entry(other: $0)?.key.address }
    }

    /// The address that was leased last at a port.
    public func leasedAddress(at port: Tag, family: AddressFamily) -> IPAddress? {
        leases.entry(other: LeaseKey.place(port, family))?.key.address
    }

    /// The port where an address that a bridge gave was leased.
    public func port(leasing address: IPAddress, bridge: Tag) -> Tag? {
        leases[LeaseKey(address: address, bridge: bridge)].flatMap { $0.lease.client == 0 ? nil : $0.port }
    }

    /// Who wants what is sent to a group.
    public func members(of group: IPAddress, vlan: UInt16, bridge: Tag) -> [GroupMember] {
        groups.keys(of: Tag.group(group, vlan: vlan, bridge: bridge).bits).map(\.member)
            .filter { $0.group == group && $0.vlan == vlan && $0.bridge == bridge }
    }

    /// Whether a member is known.
    public func isMember(_ member: GroupMember) -> Bool { groups[GroupKey(member)] != nil }

    /// The member that a client comes back to.
    public func member(of client: IPAddress, pool: Tag) -> UInt64? {
        affinities[AffinityKey(client: client, pool: pool)]?.member
    }

    /// What checks of a member came to.
    public func health(of member: UInt64, pool: Tag) -> MemberHealth? { healths[HealthKey(pool: pool, member: member)] }

    /// Takes note of what checks of a member came to.
    public func note(
        _ health: MemberHealth, of member: UInt64, pool: Tag, now: UInt64, told: inout ToldEntries
    ) -> LearnOutcome {
        healths.learn(HealthKey(pool: pool, member: member), health, now: now, &told)
    }

    /// Whether what is sent to a host arrives, as far as is known.
    public func canReach(_ host: Tag) -> Bool {
        deadCount.load(ordering: .acquiring) == 0 || !deadHosts.withLock { $0.contains(host) }
    }

    /// Sets where nothing arrives that this host sends. What was decided with ``Tag/path(host:)`` of those that changed may be
    /// wrong now.
    public func setUnreachable(_ hosts: Set<Tag>) {
        deadHosts.withLock { $0 = hosts }
        deadCount.store(hosts.count, ordering: .releasing)
    }

    // MARK: - Learning

    /// Takes note of something that packets told here, or that it is still so.
    ///
    /// - Parameters:
    ///   - owner: who a connection is counted to that begins.
    ///   - told: gets what the other hosts are to hear of it.
    public func learn(
        _ learned: Learned, owner: ConnectionOwner? = nil, now: UInt64, told: inout ToldEntries
    ) -> LearnOutcome {
        switch learned {
        case .connection(let tuple, let zone, let flags): connections.learn(tuple, zone, flags, owner, now: now, &told)
        case .translation(let use, let flags):
            learn(use, flags, owner, now, &told)
        case .fragment(let name, let zone, let tuple): translations.learn(name, zone: zone, tuple, now: now)
        case .mac(let mac, let vlan, let bridge, let port):
            stations.learn(StationKey(mac: mac, vlan: vlan, bridge: bridge), port, now: now, &told)
        case .lease(let address, let bridge, let port, let lease):
            leases.learn(
                LeaseKey(address: address, bridge: bridge), .init(lease: lease, port: port), now: now, &told)
        case .member(let member, let seconds): groups.learn(GroupKey(member), seconds, now: now, &told)
        case .neighbor(let address, let mac, let port):
            learn(NeighborKey(address: address, port: port), mac, now, &told)
        }
    }

    private func learn(
        _ use: TranslationUse, _ flags: UInt16, _ owner: ConnectionOwner?, _ now: UInt64, _ told: inout ToldEntries
    ) -> LearnOutcome {
        let outcome = translations.learn(use, flags, owner, now: now, &told)
        if outcome == .news, let balance = use.balance, balance.seconds > 0 {
            // Without room the client is chosen for again next time.
            _ = affinities.learn(
                AffinityKey(client: balance.client, pool: balance.pool),
                .init(member: balance.member, seconds: balance.seconds), now: now, &told)
        }
        return outcome
    }

    private func learn(
        _ key: NeighborKey, _ mac: MACAddress, _ now: UInt64, _ told: inout ToldEntries
    ) -> LearnOutcome {
        let outcome = neighbors.learn(key, mac, now: now, &told)
        // Another host may have told of it meanwhile: then it is no news, and yet answers here again.
        let wasSilent = unreachable.withLock { !$0.isEmpty && $0.removeValue(forKey: key) != nil }
        return wasSilent && outcome == .known ? .news : outcome
    }

    /// Notes that a neighbor did not answer.
    public func markUnreachable(_ address: IPAddress, port: Tag, now: UInt64) {
        let key = NeighborKey(address: address, port: port)
        _ = neighbors.forget(key, now: now)
        let isTaken = unreachable.withLock { unreachable in
            // Without room it is asked again by the next packet: that costs time, and keeps a scan of addresses from growing
            // the table.
            guard unreachable.count < StateLimits.unreachableEntries || unreachable[key] != nil else { return false }
            unreachable[key] = now &+ StateLimits.unreachableNanoseconds
            return true
        }
        if !isTaken { bounds.refuse() }
    }

    /// What will be forgotten soon: each is named once, so that those who use it can see whether it is still so.
    public func expiring(now: UInt64) -> [Learned] { stations.expiring(now: now) + neighbors.expiring(now: now) }

    /// Forgets what is past its time and returns the tags of all that.
    public func expire(now: UInt64) -> Set<Tag> {
        var tags = Set(
            connections.state.withLock { state in
                state.now = max(state.now, now)
                return state.table.expire(now: now, looking: StateLimits.connectionsLookedAt)
            })
        tags.formUnion(translations.expire(now: now))
        tags.formUnion(stations.expire(now: now))
        tags.formUnion(neighbors.expire(now: now))
        _ = affinities.expire(now: now)
        _ = leases.expire(now: now)
        tags.formUnion(healths.expire(now: now))
        tags.formUnion(groups.expire(now: now))
        _ = routes.expire(now: now)
        unreachable.withLock { unreachable in
            for (key, until) in unreachable where until <= now {
                unreachable[key] = nil
                tags.insert(key.tag)
            }
        }
        return tags
    }

    // MARK: - Rows

    /// Takes in rows that another host told; the tags of what is to be decided again.
    ///
    /// - Throws: when something can't be read. What was before it is taken in.
    public func merge(_ bytes: [UInt8], now: UInt64, _ news: inout Set<Tag>) throws(MalformedBytes) {
        var ends: [Int] = []
        try read(bytes, now: now, &news, &ends)
        if let journal = journal.withLock({ $0 }) { journal.add(bytes, ends) }
    }

    /// Takes in rows; adds where each ends.
    ///
    /// - Parameter older: how much older the rows are than they say, nanoseconds.
    package func read(
        _ bytes: [UInt8], older: UInt64 = 0, now: UInt64, _ news: inout Set<Tag>, _ ends: inout [Int]
    ) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            let form: UInt8 = try reader.number()
            guard let kind = RowKind(rawValue: form & RowForm.kind) else {
                throw MalformedBytes("a row of kind \(form & RowForm.kind)")
            }
            try table(kind).merge(&reader, form, older: older, now: now, &news)
            ends.append(bytes.count - reader.left)
        }
    }

    /// Has what changes from now on written to a journal.
    func setJournal(_ journal: JournalInbox?) { self.journal.withLock { $0 = journal } }

    /// All rows that have some time left, what is for few included.
    public func allRows(now: UInt64) -> [UInt8] {
        var out = ByteWriter()
        for kind in RowKind.allCases {
            let every = [Bool](repeating: true, count: TableDigest.buckets)
            _ = table(kind).encode(buckets: every, all: true, from: 0, bytes: .max, now: now, into: &out)
        }
        return out.bytes
    }

    /// The rows that keys name, as far as they are known here; adds the tags of those that are not.
    public func find(
        _ keys: [UInt8], now: UInt64, unknown: inout Set<Tag>
    ) throws(MalformedBytes) -> [UInt8] {
        var reader = ByteReader(keys)
        var out = ByteWriter()
        var count = 0
        while !reader.isAtEnd, count < 16 {
            let form: UInt8 = try reader.number()
            guard let kind = RowKind(rawValue: form & RowForm.kind) else {
                throw MalformedBytes("a key of kind \(form & RowForm.kind)")
            }
            var key = reader
            let before = out.bytes.count
            try table(kind).find(&reader, form, now: now, into: &out)
            count += 1
            if out.bytes.count == before {
                var missed = key
                if let tag = try StateTable.tag(of: &missed, kind, form) { unknown.insert(tag) }
                continue
            }
            // Who asks how a packet is translated asks for its connection next, where the same device filters.
            if kind == .translation, let (tuple, zone) = try translations.original(&key, form, now: now) {
                connections.write(tuple, zone, now: now, into: &out)
            }
        }
        return out.bytes
    }

    /// The tag of what waits for the connection that a key names.
    private static func tag(
        of key: inout ByteReader, _ kind: RowKind, _ form: UInt8
    ) throws(MalformedBytes) -> Tag? {
        guard kind == .connection || kind == .translation else { return nil }
        let ipProtocol: UInt8 = try key.number()
        let zone = try key.tag()
        let tuple = try key.sides(RowForm.family(form), ipProtocol)
        return kind == .connection ? .connection(tuple, zone: zone) : .translation(tuple, zone: zone)
    }

    /// The rows of entries of the log, as they are now.
    func rows(of entries: Range<UInt64>, isPush: Bool, now: UInt64) -> [UInt8] {
        var handles: [(entry: UInt64, row: RowHandle)] = []
        handles.reserveCapacity(entries.count)
        telling.replicator.withLock { replicator in
            for entry in entries where isPush || replicator.isShared(entry) {
                guard let bits = replicator.handle(entry), let row = RowHandle(bits: bits) else { continue }
                handles.append((entry, row))
            }
        }
        var out = ByteWriter()
        for (entry, row) in handles { table(row.kind).encode(row.place, entry: entry, now: now, into: &out) }
        return out.finish()
    }
}
