// SPDX-License-Identifier: Apache-2.0
import Consensus
import Linux
import NIOCore
import Synchronization
import TLS
import Topology
import Wire

/// A change of this node that waits for its answer.
struct Submission {
    var bytes: [UInt8]
    var answer: AnswerSlot
    var deadline: NIODeadline
    /// Whether a leader may have it.
    var isHanded = false
    /// When it was last given to one.
    var tried: NIODeadline?
    /// How often it was.
    var tries = 0
}

/// What became of a change.
struct Answer: Sendable {
    var outcome: Outcome
    /// Whether it was given to a leader once only: then nothing else became of it.
    var isOnlyTry: Bool
}

/// Where an answer comes, from whichever thread has it first; one task waits for it.
final class AnswerSlot: Sendable {
    private enum State {
        case empty
        case waiting(CheckedContinuation<Answer, any Error>)
        case full(Result<Answer, any Error>)
    }
    private let state = Mutex(State.empty)

    /// Waits for the answer; once.
    func take() async throws -> Answer {
        try await withCheckedThrowingContinuation { continuation in
            let result = state.withLock { state -> Result<Answer, any Error>? in
                if case .full(let result) = state { return result }
                state = .waiting(continuation)
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }

    /// Answers; what comes later than another answer is nothing.
    func put(_ result: Result<Answer, any Error>) {
        let continuation = state.withLock { state -> CheckedContinuation<Answer, any Error>? in
            switch state {
            case .full: return nil
            case .empty:
                state = .full(result)
                return nil
            case .waiting(let continuation):
                state = .full(result)
                return continuation
            }
        }
        continuation?.resume(with: result)
    }

    func fail(_ refusal: StoreRefusal) { put(.failure(refusal)) }
}

/// A read that waits until this node has all that was agreed on before.
struct Barrier {
    var promise: EventLoopPromise<Void>
    var deadline: NIODeadline
    var tried = NIODeadline.now()
}

extension Replica {
    /// How long a change is given to a leader before it is given again.
    private static let patience = TimeAmount.milliseconds(1500)

    /// Has the cluster agree on a change, and waits until this node has applied it. A leader that is lost meanwhile does not
    /// matter: what is asked again is done once.
    public func submit(
        _ operations: [Transaction.Operation], preconditions: [Transaction.Precondition] = [],
        timeout: TimeAmount = .seconds(5)
    ) async throws -> Outcome {
        let answer = try await submitOnce(operations, preconditions, timeout)
        // The session had been forgotten, so nothing was done: once more, as another's first word.
        guard case .failed(.sessionExpired, _) = answer.outcome, answer.isOnlyTry else { return answer.outcome }
        return try await submitOnce(operations, preconditions, timeout).outcome
    }

    private func submitOnce(
        _ operations: [Transaction.Operation], _ preconditions: [Transaction.Precondition], _ timeout: TimeAmount
    ) async throws -> Answer {
        let (session, isFull) = serials.withLock { serials -> (Transaction.SessionID, Bool) in
            let serial = serials.next
            guard serials.outstanding.count < StoreLimits.submissions else {
                return (.init(client: 0, serial: 0, floor: 0), true)
            }
            serials.next += 1
            serials.outstanding.append(serial)
            let client = serials.clients[serials.clients.count - 1]
            return (.init(client: client, serial: serial, floor: serials.isKnown ? serials.outstanding[0] : 1), false)
        }
        if isFull { throw StoreRefusal.busy }
        let bytes = Transaction(
            session: session, time: wallSeconds(), preconditions: preconditions, operations: operations
        ).encode()
        guard bytes.count <= StoreLimits.commandBytes else {
            forget(session.serial)
            throw StoreRefusal.refused(
                "the change has \(bytes.count) bytes, \(StoreLimits.commandBytes) at most",
                "make it in several smaller ones")
        }
        let answer = AnswerSlot()
        answers.withLock { $0[session.serial] = answer }
        loop.execute { [self] in
            if let stopReason { return answer.fail(.stopped(stopReason)) }
            if let full = alarms["disk"] {
                return answer.fail(.refused(full, "make room, then try again"))
            }
            submissions[session.serial] = Submission(bytes: bytes, answer: answer, deadline: .now() + timeout)
            hand(session.serial)
        }
        defer { forget(session.serial) }
        return try await answer.take()
    }

    /// Whether a session is of this run.
    func isOwn(_ client: UInt64) -> Bool { serials.withLock { $0.clients.contains(client) } }

    private func forget(_ serial: UInt64) {
        answers.withLock { $0[serial] = nil }
        serials.withLock { serials in
            var low = 0
            var high = serials.outstanding.count
            while low < high {
                let middle = (low + high) / 2
                if serials.outstanding[middle] < serial { low = middle + 1 } else { high = middle }
            }
            if low < serials.outstanding.count, serials.outstanding[low] == serial {
                serials.outstanding.remove(at: low)
            }
        }
    }

    // MARK: - To the leader

    /// Gives a change to the leader, if there is one.
    func hand(_ serial: UInt64) {
        guard var submission = submissions[serial], let leader = raft.status.leader else { return }
        submission.tried = .now()
        submission.isHanded = true
        submission.tries += 1
        submissions[serial] = submission
        if leader == raft.id {
            enqueue(submission.bytes, .local(serial))
        } else {
            transport.send(.proposal(number: serial, submission.bytes), to: leader, .bulk)
        }
    }

    /// A command of another node: what this version does not understand would stop every node of its kind.
    func enqueue(remote bytes: [UInt8], _ node: NodeID, _ number: UInt64) {
        do throws(MalformedBytes) {
            let transaction = try Transaction(decoding: bytes)
            // A node that does not vote has no part in who belongs to the cluster, and who signs for it.
            guard voters.contains(node) || !transaction.operations.contains(where: { $0.needsVote(of: node) }) else {
                say("a change of \(transport.name(of: node)), which does not vote, is not its to make")
                return transport.send(.refusal(number: number, .forbidden), to: node, .urgent)
            }
        } catch {
            say("a change of \(transport.name(of: node)) is not for this version: \(error)")
            return transport.send(.refusal(number: number, .unreadable), to: node, .urgent)
        }
        enqueue(bytes, .remote(node, number))
    }

    /// Proposals that come together go into the log together.
    func enqueue(_ bytes: [UInt8], _ origin: Origin) {
        batch.append((bytes, origin))
        guard !isBatching else { return }
        isBatching = true
        loop.execute { [self] in
            isBatching = false
            let all = batch
            batch.removeAll(keepingCapacity: true)
            let number = nextNumber
            nextNumber += 1
            proposed[number] = all.map(\.origin)
            step(.propose(all.map(\.bytes), number: number))
        }
    }

    func accepted(_ number: UInt64) { proposed[number] = nil }

    func refused(_ number: UInt64, _ refusal: Refusal) {
        if let origins = proposed.removeValue(forKey: number) { return refused(origins, refusal) }
        if let promise = transfers.removeValue(forKey: number) { return promise.fail(Replica.refusal(refusal)) }
        if let barrier = barriers.removeValue(forKey: number) { waitingBarriers.append(barrier) }
    }

    func refused(_ origins: [Origin], _ refusal: Refusal) {
        for origin in origins {
            switch origin {
            case .remote(let node, let number): transport.send(.refusal(number: number, refusal), to: node, .urgent)
            case .local(let serial):
                guard var submission = submissions[serial] else { continue }
                switch refusal {
                case .busy where submission.tries == 1:
                    submissions[serial] = nil
                    submission.answer.fail(StoreRefusal.busy)
                case .unreadable, .forbidden:
                    submissions[serial] = nil
                    submission.answer.fail(Replica.refusal(refusal))
                case .stopped where raft.status.leader == nil || raft.status.leader == raft.id:
                    submissions[serial] = nil
                    submission.answer.fail(StoreRefusal.stopped(stopReason ?? "it stopped"))
                default:
                    // This try did not get into a log; there may be an earlier one that did.
                    submission.tried = .now() - Replica.patience + .milliseconds(100)
                    submissions[serial] = submission
                }
            }
        }
    }

    static func refusal(_ refusal: Refusal) -> StoreRefusal {
        switch refusal {
        case .notLeader: .noQuorum("there is no leader here")
        case .busy: .busy
        case .transferring: .refused("the leader is handing over", "try again in a moment")
        case .changing: .changing
        case .noVoters: .refused("nobody would vote", "keep one voter at least")
        case .notVoter:
            .refused("it does not vote, or leads already", "choose another voter; selvage cluster list shows them")
        case .stopped: .stopped("it stopped")
        case .unreadable:
            .refused("the leader's version does not know such changes", "upgrade all nodes, then try again")
        case .forbidden:
            .refused("this node does not vote, and this is for voters", "ask a voter: selvage cluster list shows them")
        }
    }

    /// A leader appeared: what waits is given to it.
    func retrySubmissions() {
        for serial in submissions.keys.sorted() { hand(serial) }
        let waiting = waitingBarriers
        waitingBarriers.removeAll()
        for barrier in waiting { ask(barrier) }
    }

    func tickSubmissions() {
        let now = NIODeadline.now()
        for (serial, submission) in submissions {
            if now >= submission.deadline {
                submissions[serial] = nil
                submission.answer.fail(submission.isHanded ? .unknownOutcome : .noQuorum(whyNoLeader))
            } else if submission.tried.map({ now - $0 > Replica.patience }) ?? false {
                hand(serial)
            }
        }
        for (number, barrier) in barriers where now - barrier.tried > Replica.patience || now >= barrier.deadline {
            barriers[number] = nil
            waitingBarriers.append(barrier)
        }
        readable.removeAll { waiting in
            guard now >= waiting.barrier.deadline else { return false }
            waiting.barrier.promise.fail(StoreRefusal.noQuorum("this node lags behind what it has to read"))
            return true
        }
        guard !waitingBarriers.isEmpty else { return }
        let waiting = waitingBarriers
        waitingBarriers.removeAll()
        for barrier in waiting {
            if now >= barrier.deadline {
                barrier.promise.fail(StoreRefusal.noQuorum(whyNoLeader))
            } else {
                ask(barrier)
            }
        }
    }

    /// Who does not answer, in words.
    var whyNoLeader: String {
        let missing = raft.members.all.filter { $0 != raft.id && !transport.isConnected($0) }
        if missing.isEmpty { return raft.status.leader == nil ? "there is no leader" : "the leader does not answer" }
        let list = missing.map { id in
            "\(transport.name(of: id))\(transport.problem(of: id).map { " (\($0))" } ?? "")"
        }
        return "there is no leader; this node does not reach \(list.joined(separator: ", "))"
    }

    /// Answers without a detour by the loop, on the thread of the state. What the loop has to act on first is left to it: who
    /// belongs to the cluster, and a session that is over.
    func answerAtOnce(_ applied: [Applied]) {
        for one in applied where !one.changesCluster {
            guard let session = one.session, let outcome = one.outcome, isOwn(session.client) else { continue }
            if case .failed(.sessionExpired, _) = outcome { continue }
            let answer = answers.withLock { $0[session.serial] }
            answer?.put(.success(Answer(outcome: outcome, isOnlyTry: true)))
        }
    }

    func answered(_ session: Transaction.SessionID, _ outcome: Outcome) {
        let isExpired = if case .failed(.sessionExpired, _) = outcome { true } else { false }
        serials.withLock { serials in
            guard serials.clients.last == session.client else { return }
            serials.isKnown = !isExpired
            if !isExpired { return }
            serials.clients.append(Cryptography.randomID())
            if serials.clients.count > 8 { serials.clients.removeFirst() }
        }
        guard let submission = submissions.removeValue(forKey: session.serial) else { return }
        submission.answer.put(.success(Answer(outcome: outcome, isOnlyTry: submission.tries == 1)))
    }

    /// Nothing more becomes of what waits.
    func failWaiting(_ refusal: StoreRefusal) {
        for submission in submissions.values { submission.answer.fail(refusal) }
        for barrier in Array(barriers.values) + waitingBarriers + readable.map(\.barrier) {
            barrier.promise.fail(refusal)
        }
        for transfer in transfers.values { transfer.fail(refusal) }
        submissions.removeAll()
        barriers.removeAll()
        waitingBarriers.removeAll()
        readable.removeAll()
        transfers.removeAll()
    }

    // MARK: - Reads

    /// Waits until this node has everything that was agreed on before the call: what it reads then is linearizable.
    public func barrier(timeout: TimeAmount = .seconds(5)) async throws {
        try await loop.flatSubmit { [self] in
            let promise = loop.makePromise(of: Void.self)
            if let stopReason {
                promise.fail(StoreRefusal.stopped(stopReason))
            } else {
                ask(Barrier(promise: promise, deadline: .now() + timeout))
            }
            return promise.futureResult
        }
        .get()
    }

    private func ask(_ barrier: Barrier) {
        guard raft.status.leader != nil else { return waitingBarriers.append(barrier) }
        var barrier = barrier
        barrier.tried = .now()
        let number = nextNumber
        nextNumber += 1
        barriers[number] = barrier
        step(.read(number: number))
    }

    func isReadable(_ number: UInt64, _ index: LogIndex) {
        guard let barrier = barriers.removeValue(forKey: number) else { return }
        if keeper.applied >= index { return barrier.promise.succeed() }
        readable.append((index, barrier))
    }

    func answerBarriers(_ applied: LogIndex) {
        guard !readable.isEmpty else { return }
        readable.removeAll { waiting in
            guard waiting.index <= applied else { return false }
            waiting.barrier.promise.succeed()
            return true
        }
    }
}
