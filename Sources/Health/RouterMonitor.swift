// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import NIOCore
import Simulation
import Synchronization
import TLS
import Topology
import Wire

/// Checks the members of the pools behind one router's addresses, from this host, until it is closed.
public final class RouterMonitor: Sendable {
    /// A member of a pool.
    public struct Target: Sendable, Hashable {
        /// The pool.
        public var pool: DevicePath
        /// The member: its address and port.
        public var member: PoolMember

        /// A member, whatever its share and state.
        init(_ pool: DevicePath, _ member: PoolMember) {
            self.pool = pool
            self.member = PoolMember(member.address, port: member.port)
        }
    }

    /// What is known of a member before it was ever checked here.
    public typealias Known = @Sendable (Target) -> MemberHealth?
    /// Takes what a check came to, and whether that changes what the member is taken for.
    public typealias Report = @Sendable (Target, MemberHealth, _ isNews: Bool) -> Void

    private struct Watched {
        var watch: MemberWatch
        var monitor: HealthMonitor
        var timer: RepeatedTask
    }
    /// Of the loop.
    private struct State {
        var watched: [Target: Watched] = [:]
        /// Checks that are due, the oldest first, and those among them that are not cancelled.
        var due: [Target] = []
        var isDue: Set<Target> = []
        var isWaiting = false
        var gate: Scheduled<Void>?
    }
    private let namespace: CheckNamespace
    private let state: NIOLoopBoundBox<State>
    private let tls: TLSContext
    private let budget: CheckBudget
    private let known: Known
    private let report: Report
    private let lastHeard: Atomic<UInt64>
    private let isOpen = Atomic<Bool>(false)
    private var loop: any EventLoop { namespace.loop }

    /// How long a router may be silent before what members do not say is no news, nanoseconds.
    private static let trust: UInt64 = 2_500_000_000

    /// Opens the way into a router's network.
    ///
    /// - Parameter budget: that of the router's tenant on this host.
    public init(
        _ router: DevicePath, budget: CheckBudget, known: @escaping Known, report: @escaping Report
    ) throws {
        tls = try TLSContext(identity: nil, authorities: [], verification: .none, oldest: .tls12)
        namespace = try CheckNamespace(router)
        state = NIOLoopBoundBox.makeBoxSendingValue(State(), eventLoop: namespace.loop)
        self.budget = budget
        self.known = known
        self.report = report
        lastHeard = Atomic(monotonicNanoseconds())
        loop.execute { [self] in listen() }
    }

    /// How long the router has not answered, nanoseconds: its port is not there, or the way to it is gone.
    public var silence: UInt64 {
        let (now, heard) = (monotonicNanoseconds(), lastHeard.load(ordering: .relaxed))
        return now > heard ? now - heard : 0
    }

    /// Whether the router has answered, and lately.
    public var isHeard: Bool { isOpen.load(ordering: .relaxed) && silence < RouterMonitor.trust }

    /// Sets which pools are checked.
    public func set(_ pools: [Pool]) {
        loop.execute { [self] in
            var wanted: [Target: HealthMonitor] = [:]
            for pool in pools {
                guard let monitor = pool.monitor else { continue }
                for member in pool.members { wanted[Target(pool.path, member)] = monitor }
            }
            for (target, one) in state.value.watched where wanted[target] != one.monitor {
                one.timer.cancel()
                // What was found by another way of asking is no answer to this one; what it is taken for stays meanwhile.
                if wanted[target] == nil {
                    state.value.watched[target] = nil
                    state.value.isDue.remove(target)
                }
            }
            for (target, monitor) in wanted where state.value.watched[target]?.monitor != monitor {
                let watch = state.value.watched[target]?.watch ?? MemberWatch(known: known(target))
                state.value.watched[target] = Watched(watch: watch, monitor: monitor, timer: start(target, monitor))
            }
        }
    }

    /// Ends all checks.
    public func close() {
        loop.execute { [self] in
            for one in state.value.watched.values { one.timer.cancel() }
            state.value.gate?.cancel()
            state.value = State()
            isOpen.store(false, ordering: .relaxed)
        }
        namespace.close()
    }

    /// Asks the router itself, again and again: as long as it does not answer, members' silence is this host's own.
    private func listen() {
        var monitor = HealthMonitor(.ping)
        monitor.timeout = 500
        let check = Check(loop: loop, monitor: monitor, tls: tls)
        check.ask(Port.monitorAddresses[0].address, port: 0).whenSuccess { [self] result in
            if result?.isGood == true {
                lastHeard.store(monotonicNanoseconds(), ordering: .relaxed)
                isOpen.store(true, ordering: .relaxed)
            }
            let pause = isOpen.load(ordering: .relaxed) ? TimeAmount.seconds(1) : .milliseconds(50)
            state.value.gate = loop.scheduleTask(in: pause) { [self] in listen() }
        }
    }

    private func start(_ target: Target, _ monitor: HealthMonitor) -> RepeatedTask {
        // Not all at once.
        let delay = TimeAmount.milliseconds(Int64(monitor.delay))
        let first = TimeAmount.milliseconds(Int64.random(in: 0...Int64(min(monitor.delay, 1000))))
        // An answer may not take longer than that: one check ends before the next begins.
        return loop.scheduleRepeatedTask(initialDelay: first, delay: delay) { [self] _ in
            guard isOpen.load(ordering: .relaxed), state.value.isDue.insert(target).inserted else { return }
            state.value.due.append(target)
            begin()
        }
    }

    /// Begins what is due, as far as the budget goes.
    private func begin() {
        var begun = 0
        let now = monotonicNanoseconds()
        for target in state.value.due {
            guard state.value.isDue.contains(target), let monitor = state.value.watched[target]?.monitor else {
                begun += 1
                continue
            }
            guard budget.begin(now: now) else { break }
            begun += 1
            state.value.isDue.remove(target)
            let check = Check(loop: loop, monitor: monitor, tls: tls)
            let port = monitor.port ?? target.member.port ?? 0
            check.ask(target.member.address, port: port).whenSuccess { [self] result in
                budget.end()
                if let result { take(result, target, monitor) }
            }
        }
        state.value.due.removeFirst(begun)
        if state.value.due.isEmpty || state.value.isWaiting { return }
        state.value.isWaiting = true
        loop.scheduleTask(in: .milliseconds(5)) { [self] in
            state.value.isWaiting = false
            begin()
        }
    }

    private func take(_ result: CheckResult, _ target: Target, _ monitor: HealthMonitor) {
        guard state.value.watched[target]?.monitor == monitor else { return }
        if !result.isGood, result.isSilence, silence > RouterMonitor.trust { return }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let milliseconds = UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
        let isNews =
            state.value.watched[target]?.watch.take(
                result, rise: monitor.rise, fall: monitor.fall, now: milliseconds)
            ?? false
        if let health = state.value.watched[target]?.watch.health { report(target, health, isNews) }
    }
}
