// SPDX-License-Identifier: Apache-2.0

/// Times and counts of ``Membership``. Times are nanoseconds.
public struct MembershipOptions: Sendable {
    private static let second: UInt64 = 1_000_000_000

    /// How often one member is asked whether it is there.
    public var interval = 1 * second
    /// How long its answer may take before others are asked to ask it.
    public var timeout = second / 2
    /// How many others are.
    public var helpers = 3
    /// A suspicion lasts this many intervals, times the logarithm (to ten) of how many members there are, once enough others
    /// share it ...
    public var suspicion = 4.0
    /// ... and so many times as long as long as nobody does.
    public var suspicionMost = 6.0
    /// How slow this node may take itself to be: each step lengthens what it waits for (Lifeguard).
    public var healthMost = 8
    /// News goes along with so many messages, times the logarithm of how many members there are.
    public var retransmits = 4

    /// As above.
    public init() {}
}

/// Who is there: SWIM (Das, Gupta, Motivala, 2002) with suspicion and incarnations, and what Lifeguard (Dadgar, Phillips,
/// Currey, 2017) adds: a node that is slow itself waits longer before it suspects others, and a suspicion that others share
/// ends sooner.
///
/// Inputs in, effects out. Who the members are is not found out here: the cluster agrees on that, and
/// ``setMembers(_:now:)`` says it. What comes out says who of them can be heard, and changes nothing in the agreement.
public struct Membership: Sendable {
    /// What is to be done.
    public enum Effect: Sendable, Equatable {
        /// Send this.
        case send(PeerID, MembershipMessage)
        /// Ask over a stream as well: datagrams may be lost where streams are not. Tell ``streamAnswered(_:now:)``.
        case askByStream(PeerID)
        /// A member is otherwise than it was.
        case changed(PeerID, MemberState)
    }

    private struct Member {
        var known: MemberUpdate
        var since: UInt64
        /// Who suspects it, besides this node; and when that ends.
        var voices: Set<PeerID> = []
        var suspectedUntil: UInt64 = 0
    }
    private struct News {
        var update: MemberUpdate
        var sent = 0
    }
    /// A question of this node's.
    private struct Probe {
        var target: PeerID
        var number: UInt64
        /// When others are to be asked; `.max` once they were.
        var helpAt: UInt64
        var endsAt: UInt64
        var isAnswered = false
        /// Helpers that were asked and did not say that they are there.
        var owing: Set<PeerID> = []
    }
    /// A question that is passed on for another node.
    private struct Passed {
        var asker: PeerID
        var number: UInt64
        var endsAt: UInt64
    }

    private let options: MembershipOptions
    private let own: PeerID
    private var said: MemberUpdate
    private var members: [PeerID: Member] = [:]
    private var news: [PeerID: News] = [:]
    private var order: [PeerID] = []
    private var place = 0
    private var probe: Probe?
    private var passed: [UInt64: Passed] = [:]
    private var nextNumber: UInt64 = 1
    private var nextProbe: UInt64 = 0
    /// How slow this node takes itself to be; 0: not at all.
    public private(set) var health = 0
    private var random: UInt64

    /// One that knows nobody.
    public init(
        own: PeerID, epoch: UInt64, metadata: [UInt8] = [], options: MembershipOptions = MembershipOptions(),
        seed: UInt64
    ) {
        self.own = own
        self.options = options
        random = seed ^ own.value
        said = MemberUpdate(
            id: own, epoch: epoch, incarnation: 1, state: .alive, from: own, metadata: metadata)
    }

    // MARK: - What can be asked

    /// How a member is, since when, and what it says of itself.
    public func state(of id: PeerID) -> (state: MemberState, since: UInt64, incarnation: UInt64, metadata: [UInt8])? {
        members[id].map { ($0.known.state, $0.since, $0.known.incarnation, $0.known.metadata) }
    }

    /// When ``tick(now:)`` has something to do.
    public var nextDue: UInt64 {
        var due = probe.map { $0.isAnswered ? $0.endsAt : min($0.helpAt, $0.endsAt) } ?? nextProbe
        for member in members.values where member.known.state == .suspect { due = min(due, member.suspectedUntil) }
        for one in passed.values { due = min(due, one.endsAt) }
        return due
    }

    // MARK: - Who

    /// Sets who the members are, and the start that each is known to run.
    public mutating func setMembers(_ starts: [PeerID: UInt64], now: UInt64) {
        for id in members.keys where starts[id] == nil {
            members[id] = nil
            news[id] = nil
        }
        for (id, epoch) in starts where id != own {
            if let known = members[id], known.known.epoch >= epoch { continue }
            // One that was met by other means lives. What was asked of its last life counts for nothing.
            if probe?.target == id { probe = nil }
            members[id] = Member(
                known: MemberUpdate(id: id, epoch: epoch, incarnation: 0, state: .alive, from: own), since: now)
        }
        order.removeAll { members[$0] == nil }
        for id in members.keys.sorted() where !order.contains(id) {
            order.insert(id, at: Int(draw() % UInt64(order.count + 1)))
        }
    }

    /// Says goodbye to some others; they tell the rest.
    public mutating func leave() -> [Effect] {
        said.state = .left
        return members.values.filter { $0.known.state <= .suspect }.sorted { $0.known.id < $1.known.id }.map {
            .send($0.known.id, MembershipMessage(.ack, number: 0, updates: [said]))
        }
    }

    private mutating func draw() -> UInt64 {
        random &+= 0x9e37_79b9_7f4a_7c15
        var z = random
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    // MARK: - News

    private mutating func announce(_ update: MemberUpdate) { news[update.id] = News(update: update) }

    /// News for a message: first what this node is, so that whoever took it for gone hears otherwise from whatever it says;
    /// then what was said least.
    private mutating func takeNews() -> [MemberUpdate] {
        let most = options.retransmits * max(1, Membership.log10Ceiling(members.count + 2))
        let chosen = news.values.sorted { ($0.sent, $0.update.id) < ($1.sent, $1.update.id) }
            .prefix(MembershipMessage.updatesAtMost - 1)
        for one in chosen {
            if one.sent + 1 >= most { news[one.update.id] = nil } else { news[one.update.id]?.sent += 1 }
        }
        return [said] + chosen.map(\.update)
    }

    private static func log10Ceiling(_ count: Int) -> Int {
        var (power, result) = (1, 0)
        while power < count { (power, result) = (power * 10, result + 1) }
        return result
    }

    private mutating func take(_ update: MemberUpdate, _ now: UInt64, _ effects: inout [Effect]) {
        if update.id == own { return refute(update) }
        guard var member = members[update.id] else { return }
        if update.state == .suspect, member.known.state == .suspect, update.epoch == member.known.epoch,
            update.incarnation == member.known.incarnation
        {
            // One more voice: the suspicion ends sooner, and the others hear of it.
            guard update.from != own, member.voices.insert(update.from).inserted else { return }
            member.suspectedUntil = member.since &+ suspicion(voices: member.voices.count)
            members[update.id] = member
            return announce(update)
        }
        guard update.overrides(member.known) else { return }
        let before = member.known.state
        var known = update
        if known.metadata.isEmpty { known.metadata = member.known.metadata }
        member = Member(known: known, since: update.state == before ? member.since : now)
        if update.state == .suspect {
            member.since = now
            if update.from != own { member.voices = [update.from] }
            member.suspectedUntil = now &+ suspicion(voices: member.voices.count)
        }
        members[update.id] = member
        announce(update)
        if update.state != before { effects.append(.changed(update.id, update.state)) }
    }

    /// Others doubt that this node lives: it says so, and takes itself to be slow.
    private mutating func refute(_ update: MemberUpdate) {
        guard update.epoch == said.epoch, update.incarnation >= said.incarnation, update.incarnation < .max,
            update.state != .alive,
            said.state != .left
        else { return }
        said.incarnation = update.incarnation + 1
        health = min(options.healthMost, health + 1)
    }

    /// How long a suspicion lasts that so many others share: from most to least by the logarithm of their number.
    private func suspicion(voices: Int) -> UInt64 {
        let count = members.count + 1
        let least = options.suspicion * max(1, Membership.log10(count)) * Double(options.interval)
        let most = least * options.suspicionMost
        // With few members nobody else can share it.
        let wanted = min(3, count - 2)
        guard wanted > 0 else { return UInt64(least) }
        let share = Membership.log10(voices + 1) / Membership.log10(wanted + 1)
        return UInt64(max(least, most - (most - least) * share))
    }

    /// The logarithm to ten of a small number, from a table of halves: a pure room has no library of floating-point functions.
    private static func log10(_ count: Int) -> Double {
        var (value, result) = (Double(max(1, count)), 0.0)
        while value >= 10 { (value, result) = (value / 10, result + 1) }
        // log10(v) = sum of halves: v^2 >= 10 gives one more bit.
        var bit = 0.5
        for _ in 0..<20 {
            value *= value
            if value >= 10 { (value, result) = (value / 10, result + bit) }
            bit /= 2
        }
        return result
    }

    // MARK: - Hearing

    /// A message came.
    public mutating func receive(_ message: MembershipMessage, from id: PeerID, now: UInt64) -> [Effect] {
        guard members[id] != nil else { return [] }
        var effects: [Effect] = []
        for update in message.updates { take(update, now, &effects) }
        // Who speaks and is thought to be gone is told so, and can say otherwise.
        if let sender = members[id], sender.known.state == .suspect || sender.known.state == .dead {
            effects.append(
                .send(
                    id,
                    MembershipMessage(
                        .ack, number: 0,
                        updates: [sender.known] + takeNews().prefix(MembershipMessage.updatesAtMost - 1))))
        }
        switch message.kind {
        case .ping:
            effects.append(.send(id, MembershipMessage(.ack, number: message.number, updates: takeNews())))
        case .ack:
            if let passedOn = passed.removeValue(forKey: message.number) {
                effects.append(
                    .send(passedOn.asker, MembershipMessage(.ack, number: passedOn.number, updates: takeNews())))
            } else if probe?.number == message.number {
                answered()
            }
        case .pingFor(let target):
            guard members[target] != nil else { break }
            let number = number()
            passed[number] = Passed(asker: id, number: message.number, endsAt: now &+ options.timeout)
            effects.append(.send(target, MembershipMessage(.ping, number: number, updates: takeNews())))
        case .noAnswer: if probe?.number == message.number { probe?.owing.remove(id) }
        }
        return effects
    }

    private mutating func answered() {
        guard probe?.isAnswered == false else { return }
        probe?.isAnswered = true
        health = max(0, health - 1)
    }

    /// A member answered over a stream.
    public mutating func streamAnswered(_ id: PeerID, now: UInt64) {
        if probe?.target == id { answered() }
    }

    private mutating func number() -> UInt64 {
        defer { nextNumber += 1 }
        return nextNumber
    }

    // MARK: - Time

    /// What is due.
    public mutating func tick(now: UInt64) -> [Effect] {
        var effects: [Effect] = []
        for (number, one) in passed where one.endsAt <= now {
            passed[number] = nil
            effects.append(.send(one.asker, MembershipMessage(.noAnswer, number: one.number)))
        }
        help(now, &effects)
        if let probe, probe.endsAt <= now {
            self.probe = nil
            if !probe.isAnswered, let target = members[probe.target], target.known.state <= .suspect {
                // Helpers that did not even say that they are there: it may be this node that is slow.
                health = min(options.healthMost, health + max(1, probe.owing.count))
                suspect(probe.target, now, &effects)
            }
        }
        for member in members.values.sorted(by: { $0.known.id < $1.known.id })
        where member.known.state == .suspect && member.suspectedUntil <= now {
            var update = member.known
            (update.state, update.from, update.metadata) = (.dead, own, [])
            take(update, now, &effects)
        }
        if now >= nextProbe, probe == nil {
            ask(now, &effects)
            nextProbe = now &+ options.interval
        }
        return effects
    }

    private mutating func ask(_ now: UInt64, _ effects: inout [Effect]) {
        // Also who is dead is asked, now and then: it may only have been cut off.
        for _ in 0..<order.count {
            if place >= order.count {
                place = 0
                for at in order.indices.dropLast() {
                    order.swapAt(at, at + Int(draw() % UInt64(order.count - at)))
                }
            }
            let id = order[place]
            place += 1
            guard let member = members[id], member.known.state != .left else { continue }
            let number = number()
            let slack = UInt64(health + 1)
            probe = Probe(
                target: id, number: number, helpAt: now &+ options.timeout * slack,
                endsAt: now &+ options.interval * slack)
            if member.known.state >= .suspect { announce(member.known) }
            effects.append(.send(id, MembershipMessage(.ping, number: number, updates: takeNews())))
            return
        }
    }

    private mutating func help(_ now: UInt64, _ effects: inout [Effect]) {
        guard var current = probe, !current.isAnswered, current.helpAt <= now else { return }
        current.helpAt = .max
        effects.append(.askByStream(current.target))
        var others = members.values.filter { $0.known.state == .alive && $0.known.id != current.target }.map(\.known.id)
            .sorted()
        for _ in 0..<min(options.helpers, others.count) {
            let helper = others.remove(at: Int(draw() % UInt64(others.count)))
            current.owing.insert(helper)
            effects.append(
                .send(helper, MembershipMessage(.pingFor(current.target), number: current.number, updates: takeNews())))
        }
        probe = current
    }

    private mutating func suspect(_ id: PeerID, _ now: UInt64, _ effects: inout [Effect]) {
        guard let member = members[id], member.known.state <= .suspect else { return }
        var update = member.known
        (update.state, update.from, update.metadata) = (.suspect, own, [])
        if member.known.state == .suspect { return announce(update) }
        take(update, now, &effects)
    }
}
