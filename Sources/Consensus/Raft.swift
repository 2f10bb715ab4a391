// SPDX-License-Identifier: Apache-2.0

/// One member's part in the agreement on a log (Ongaro and Ousterhout, "In Search of an Understandable Consensus
/// Algorithm"): inputs in, effects out, nothing else. The same inputs give the same effects, on every machine.
///
/// With pre-vote, check-quorum and leader stickiness; joint consensus, in force as soon as it is in the log; reads by
/// read-index; pipelined replication beside the leader's own disk; snapshots in pieces.
public struct Raft: Sendable {
    /// Who this is.
    public let id: NodeID
    let options: RaftOptions
    private var random: SplitMix64

    // What is durable, or will be before anybody hears of it.
    var term: Term
    var vote: NodeID?
    var log: Log

    // What is not.
    var role = Status.Role.follower
    var leader: NodeID?
    /// Entries up to here are committed.
    public internal(set) var commit: LogIndex
    /// Entries up to here were handed to the state machine.
    var handed: LogIndex
    /// Ticks since an election was put off.
    var elapsed = 0
    private var electionTimeout = 0
    /// How many more elections may follow each other sooner than is usual.
    var hurried = 0
    /// Who voted how, in an election or the question before it.
    var votes: [NodeID: Bool] = [:]
    /// The write that makes the own vote durable.
    var ownVote: UInt64?

    // The disk. One write is under way at a time, and what comes meanwhile is the next.
    /// Entries up to here are durable.
    var written: LogIndex
    private var writing: (number: UInt64, last: LogPosition)?
    private(set) var nextWrite: UInt64 = 1
    private var isHardDirty = false
    /// Entries from here on were not given to the disk yet.
    private var dirtyFrom: LogIndex?
    /// Messages that say what is not durable yet, by the write that they wait for.
    private var held: [(after: UInt64, message: Message)] = []

    // A leader's.
    var progress: [NodeID: Progress] = [:]
    var heartbeatElapsed = 0
    /// Numbers heartbeats; an answer to one shows that its reads were asked for before.
    var round: UInt64 = 0
    var reads: [PendingRead] = []
    var transfer: (to: NodeID, number: UInt64, elapsed: Int)?
    /// Whether this leader entered the joint configuration itself; see ``Fault/staysJoint``.
    var enteredJoint = false

    // A receiver's.
    var incoming: (info: SnapshotInfo, next: UInt64)?
    var isInstalling = false
    /// Who sent the snapshot that is being put in force.
    var installer: NodeID?

    private var told: Status?

    /// A read that waits for a majority to say that this member still leads.
    struct PendingRead: Sendable {
        /// Who asks; this member itself, or a follower.
        var reader: NodeID
        var number: UInt64
        /// The index to wait for; `nil` until the leader has committed in its term.
        var index: LogIndex?
        /// The heartbeat that has to be answered.
        var round: UInt64
    }

    /// A member as it was when it last was durable.
    ///
    /// - Parameters:
    ///   - snapshot: what the log begins after; `applied` is at least its index.
    ///   - entries: the log behind it, without holes.
    ///   - applied: the last entry that the state machine has.
    ///   - seed: of the times that elections draw.
    public init(
        id: NodeID, hard: HardState, snapshot: SnapshotInfo, entries: [Entry], applied: LogIndex,
        options: RaftOptions = RaftOptions(), seed: UInt64
    ) {
        self.id = id
        self.options = options
        random = SplitMix64(seed: seed ^ id.value)
        term = hard.term
        vote = hard.vote
        log = Log(base: snapshot, entries: entries)
        precondition(applied >= snapshot.position.index && applied <= log.lastIndex, "the state is not of this log")
        commit = applied
        handed = applied
        written = log.lastIndex
        drawTimeout()
        // Nobody else could be elected: there is nothing to wait for.
        if log.members.voters == [id], !log.members.isJoint { electionTimeout = 1 }
    }

    // MARK: - What can be asked

    /// Role, term and leader.
    public var status: Status { Status(role: role, term: term, leader: leader) }
    /// The members in force here.
    public var members: Members { log.members }
    /// The last entry.
    public var last: LogPosition { log.last }
    /// What of the log is in a snapshot only.
    public var base: SnapshotInfo { log.base }
    /// The members as of a committed entry.
    public func members(at index: LogIndex) -> Members { log.members(upTo: index) }
    /// The term of an entry; `nil` when the log does not have it.
    public func term(at index: LogIndex) -> Term? { log.term(at: index) }
    /// The entry at a place that the log has.
    public func entry(at index: LogIndex) -> Entry? {
        index >= log.first && index <= log.lastIndex ? log[index] : nil
    }
    /// What a leader knows of another member: how far its log is the same, and for how many ticks it has been silent.
    public func peer(_ id: NodeID) -> (match: LogIndex, silence: Int)? {
        progress[id].map { ($0.match, $0.silence) }
    }
    /// How replication to a member goes, in words.
    public func replication(to id: NodeID) -> String? {
        progress[id].map { known in
            let mode =
                switch known.mode {
                case .probe: "looking for where the logs agree"
                case .replicate: "replicating"
                case .snapshot(nil, _): "waiting for a snapshot"
                case .snapshot(let info?, let next):
                    "sending the snapshot of \(info.position.index), \(next) bytes so far"
                }
            return "\(mode), match \(known.match), next \(known.next)\(known.isWaiting ? ", waiting" : "")"
        }
    }
    /// Bytes of entries that are under way to all members.
    public var inflightBytes: Int { progress.values.reduce(0) { $0 + $1.inflightBytes } }
    /// The hard state, as it will be durable.
    public var hardState: HardState { HardState(term: term, vote: vote) }

    func has(_ fault: Fault) -> Bool { !options.faults.isEmpty && options.faults.contains(fault) }

    // MARK: - The step

    /// Takes an input and adds what it leads to.
    public mutating func step(_ input: Input, _ effects: inout [Effect]) {
        guard role != .stopped else { return refuseAll(input, &effects) }
        switch input {
        case .tick: tick(&effects)
        case .receive(let message): receive(message, &effects)
        case .lost(let peer): lost(peer)
        case .propose(let commands, let number): propose(commands, number, &effects)
        case .change(let members, let number): change(members, number, &effects)
        case .read(let number): read(number, &effects)
        case .transfer(let to, let number): beginTransfer(to, number, &effects)
        case .written(let number): wrote(number, &effects)
        case .opened(let info, let to): opened(info, to, &effects)
        case .chunk(let to, let position, let offset, let data, let isLast):
            sendChunk(to, position, offset, data, isLast, &effects)
        case .closed(let to): closed(to, &effects)
        case .installed(let info): installed(info, &effects)
        case .compact(let index): compact(index, &effects)
        case .diskFailed: stop("the disk of the log failed", &effects)
        case .halt(let reason): stop(reason, &effects)
        }
        settle(&effects)
    }

    private func refuseAll(_ input: Input, _ effects: inout [Effect]) {
        switch input {
        case .propose(_, let number), .change(_, let number), .read(let number), .transfer(_, let number):
            effects.append(.refused(number: number, .stopped))
        default: break
        }
    }

    /// What follows from whatever happened: the next write, what can be applied, what others should be told of.
    private mutating func settle(_ effects: inout [Effect]) {
        guard role != .stopped else { return }
        beginWrite(&effects)
        // What is committed elsewhere but not durable here must not get into a state that outlives the log.
        let ready = min(commit, written)
        // While a snapshot is put in force the state may be past them already.
        if ready > handed, !isInstalling {
            effects.append(.apply(Array(log.slice(handed + 1...ready))))
            handed = ready
        }
        if status != told {
            told = status
            effects.append(.changed(status))
        }
    }

    mutating func stop(_ reason: String, _ effects: inout [Effect]) {
        if role == .leader { failReads(&effects) }
        role = .stopped
        leader = nil
        held.removeAll()
        effects.append(.changed(status))
        effects.append(.stop(reason))
    }

    // MARK: - The disk

    mutating func appendToLog(_ entries: [Entry]) {
        guard let first = entries.first else { return }
        log.append(entries)
        dirtyFrom = min(dirtyFrom ?? first.index, first.index)
    }

    mutating func truncateLog(from index: LogIndex) {
        log.truncate(from: index, keepsMembers: has(.keepsTakenBackMembers))
        written = min(written, index - 1)
        // What replaces them is dirty from there on, and tells the disk to take the old ones back.
        if let dirty = dirtyFrom { dirtyFrom = min(dirty, index) }
    }

    mutating func setHard(term: Term, vote: NodeID?) {
        self.term = term
        self.vote = vote
        isHardDirty = true
    }

    private mutating func beginWrite(_ effects: inout [Effect]) {
        guard writing == nil, !isInstalling, isHardDirty || dirtyFrom != nil else { return }
        let from = dirtyFrom ?? log.lastIndex + 1
        let entries = from <= log.lastIndex ? Array(log.slice(from...log.lastIndex)) : []
        let hard = isHardDirty ? hardState : nil
        effects.append(.write(Write(number: nextWrite, hard: hard, entries: entries)))
        writing = (nextWrite, log.last)
        nextWrite += 1
        isHardDirty = false
        dirtyFrom = nil
    }

    private mutating func wrote(_ number: UInt64, _ effects: inout [Effect]) {
        guard let write = writing, write.number == number else { return }
        writing = nil
        // What was replaced while it was written is not durable: the write says so of entries that are no more.
        let durable =
            has(.mistakesOldWrites)
            ? min(write.last.index, log.lastIndex) : min(write.last.index, (dirtyFrom ?? .max) - 1, log.lastIndex)
        if durable > written, has(.mistakesOldWrites) || log.term(at: durable) != nil { written = durable }
        for (after, message) in held where after <= number { effects.append(.send(message)) }
        held.removeAll { $0.after <= number }
        voteIsWritten(number, &effects)
        if role == .leader { advanceCommit(&effects) }
    }

    /// The log began anew: what was being written of it is of no interest.
    mutating func forgetWrites() {
        if writing != nil { writing?.last = .zero }
        dirtyFrom = nil
    }

    /// Sends a message as soon as all that it says is durable.
    mutating func sendDurable(_ message: Message, _ effects: inout [Effect]) {
        if isHardDirty || dirtyFrom != nil {
            held.append((nextWrite, message))
        } else if let write = writing {
            held.append((write.number, message))
        } else {
            effects.append(.send(message))
        }
    }

    // MARK: - Time

    private mutating func tick(_ effects: inout [Effect]) {
        elapsed += 1
        if role == .leader { return tickLeader(&effects) }
        if elapsed >= electionTimeout, mayCampaign { campaign(isPre: true, &effects) }
    }

    /// A member that its own log says is none any more must still stand for election while that is not committed: its log may
    /// be the only one that the others can follow (dissertation, section 4.2.2).
    var mayCampaign: Bool {
        !isInstalling && (has(.resignsTooSoon) ? members.isVoter(id) : log.mayVote(id, since: commit))
    }

    mutating func drawTimeout() {
        elapsed = 0
        guard hurried > 0 else {
            electionTimeout = options.electionTicks + Int.random(in: 0..<options.electionTicks, using: &random)
            return
        }
        hurried -= 1
        electionTimeout =
            max(3, options.electionTicks / 32) + Int.random(in: 0..<max(2, options.electionTicks / 4), using: &random)
    }

    /// The leader's connection broke: it is not heard of any more, and unless it is heard again an election begins soon, each
    /// member's at a time of its own. Safe whatever the reason: it is as if time had passed.
    private mutating func lost(_ peer: NodeID) {
        guard role == .follower, leader == peer else { return }
        // Members that stand at once share the votes: then they try again soon, too, a few times.
        hurried = 4
        elapsed = max(elapsed, options.electionTicks)
        electionTimeout = elapsed + Int.random(in: 1...max(1, options.electionTicks / 8), using: &random)
    }

    /// Whether a leader was heard of so lately that an election would only disturb.
    var isSatisfied: Bool { role == .leader || (leader != nil && elapsed < options.electionTicks) }
}
