// SPDX-License-Identifier: Apache-2.0
import Consensus

/// What a client asks of a node.
struct Request {
    var client: Int
    /// Tells the tries of one operation apart.
    var attempt: UInt64
    /// `nil` reads.
    var command: Command?
    var key: UInt64
}

/// What it hears.
struct Answer {
    var client: Int
    var attempt: UInt64
    /// `nil`: not done, or not known whether.
    var value: UInt64?
    /// Where to try next.
    var hint: NodeID?
}

/// A member that runs: it carries out what ``Raft`` says, with a simulated disk and network.
final class SimulatedNode {
    let id: NodeID
    var raft: Raft?
    var disk: SimulatedDisk
    var registers = Registers()
    var applied: LogIndex = 0
    /// Counts starts, so that what was meant for an earlier one is known.
    private(set) var life = 0
    var tickLength = World.tick
    var pausedUntil: UInt64 = 0

    private var numbers: UInt64 = 0
    /// Requests whose commands are not in the log yet, by number.
    private var asked: [UInt64: Request] = [:]
    /// Requests whose commands wait to be applied, by place.
    private var proposed: [LogIndex: (term: Term, request: Request)] = [:]
    private var reading: [UInt64: Request] = [:]
    private var readable: [(index: LogIndex, request: Request)] = []
    private var opened: [NodeID: (info: SnapshotInfo, bytes: [UInt8])] = [:]
    private var incoming: [UInt8] = []
    private var sinceCheckpoint = 0

    init(id: NodeID, disk: SimulatedDisk) {
        self.id = id
        self.disk = disk
    }

    func nextNumber() -> UInt64 {
        numbers += 1
        return numbers
    }

    func start(_ world: World, seed: UInt64) {
        life += 1
        pausedUntil = 0
        registers = disk.registers
        applied = disk.applied
        raft = Raft(
            id: id, hard: disk.hard, snapshot: disk.base, entries: disk.entries, applied: disk.applied,
            options: world.options, seed: seed)
        world.invariants.started(self)
    }

    func crash(survivors: Int) {
        raft = nil
        life += 1
        disk.losePower(survivors: survivors)
        asked.removeAll()
        proposed.removeAll()
        reading.removeAll()
        readable.removeAll()
        opened.removeAll()
        incoming.removeAll()
    }

    func step(_ input: Input, _ world: World) {
        guard var raft else { return }
        let before = (raft.commit, raft.status, raft.last)
        var effects: [Effect] = []
        raft.step(input, &effects)
        self.raft = raft
        world.invariants.stepped(self, before: before, world)
        for effect in effects { carryOut(effect, world) }
    }

    private func carryOut(_ effect: Effect, _ world: World) {
        guard raft != nil else { return }
        switch effect {
        case .write(let write): ask(.write(write), world)
        case .send(let message): world.send(message)
        case .apply(let entries): apply(entries, world)
        case .accepted(let number, let first):
            if let request = asked.removeValue(forKey: number) {
                if let old = proposed[first.index] { reply(old.request, nil, world) }
                proposed[first.index] = (first.term, request)
            }
        case .refused(let number, let refusal):
            let hint: NodeID? = if case .notLeader(let leader) = refusal { leader } else { nil }
            if let request = asked.removeValue(forKey: number) { reply(request, nil, world, hint: hint) }
            if let request = reading.removeValue(forKey: number) { reply(request, nil, world, hint: hint) }
        case .readable(let number, let index):
            if let request = reading.removeValue(forKey: number) { readable.append((index, request)) }
            serveReads(world)
        case .transferred: break
        case .changed(let status): world.note("\(id) is \(status.role) in term \(status.term)")
        case .openSnapshot(let peer):
            world.count("snapshot sent")
            guard let raft, let term = raft.term(at: applied) else { return }
            let info = SnapshotInfo(
                position: LogPosition(term: term, index: applied), members: raft.members(at: applied))
            opened[peer] = (info, registers.bytes)
            step(.opened(info, to: peer), world)
        case .readChunk(let peer, let position, let offset, let limit):
            guard let snapshot = opened[peer], snapshot.info.position == position else {
                return step(.closed(to: peer), world)
            }
            let end = min(snapshot.bytes.count, Int(offset) + limit)
            guard offset <= UInt64(end) else { return step(.closed(to: peer), world) }
            let data = Array(snapshot.bytes[Int(offset)..<end])
            step(
                .chunk(to: peer, position, offset: offset, data: data, isLast: end == snapshot.bytes.count), world)
        case .closeSnapshot(let peer): opened[peer] = nil
        case .storeChunk(_, let offset, let data):
            incoming.removeLast(max(0, incoming.count - Int(offset)))
            incoming += data
        case .install(let info): ask(.install(info, Registers(incoming)), world)
        case .discard(let info): ask(.discard(info), world)
        case .stop(let reason):
            world.note("\(id) stops: \(reason)")
            if !reason.hasPrefix("the disk ") { world.invariants.fail("\(id) stopped: \(reason)") }
        }
    }

    // MARK: - Disk

    private func ask(_ operation: SimulatedDisk.Operation, _ world: World) {
        disk.ask(operation)
        if disk.pending.count == 1 { world.startDisk(self) }
    }

    func diskDone(_ world: World) {
        guard !disk.pending.isEmpty else { return }
        let operation = disk.finishFirst()
        if !disk.pending.isEmpty { world.startDisk(self) }
        switch operation {
        case .write(let write): step(.written(write.number), world)
        case .install(let info, let registers):
            world.count("snapshot installed")
            self.registers = registers
            applied = info.position.index
            proposed.removeAll()
            step(.installed(info), world)
            serveReads(world)
        case .state(let index, _): step(.compact(index), world)
        case .discard: break
        }
    }

    /// Makes the state durable, after which the log before it may go.
    func checkpoint(_ world: World) {
        sinceCheckpoint = 0
        ask(.state(applied, registers), world)
    }

    // MARK: - State machine

    private func apply(_ entries: [Entry], _ world: World) {
        for entry in entries {
            guard entry.index == applied + 1 else {
                return world.invariants.fail("\(id) is to apply \(entry.index) after \(applied)")
            }
            applied = entry.index
            world.invariants.applied(self, entry)
            if case .command(let bytes) = entry.content, let command = Command(bytes) { registers.apply(command) }
            if let waiting = proposed.removeValue(forKey: entry.index) {
                reply(waiting.request, waiting.term == entry.term ? 0 : nil, world)
            }
            sinceCheckpoint += 1
        }
        serveReads(world)
        if sinceCheckpoint > 15 { checkpoint(world) }
    }

    func serve(_ request: Request, _ world: World) {
        let number = nextNumber()
        if let command = request.command {
            asked[number] = request
            step(.propose([command.bytes], number: number), world)
        } else {
            reading[number] = request
            step(.read(number: number), world)
        }
    }

    private func serveReads(_ world: World) {
        for read in readable where read.index <= applied {
            reply(read.request, registers.values[read.request.key] ?? 0, world)
        }
        readable.removeAll { $0.index <= applied }
    }

    private func reply(_ request: Request, _ value: UInt64?, _ world: World, hint: NodeID? = nil) {
        world.schedule(
            .answer(Answer(client: request.client, attempt: request.attempt, value: value, hint: hint)),
            in: world.delay())
    }
}
