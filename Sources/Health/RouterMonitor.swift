// SPDX-License-Identifier: Apache-2.0
import Glibc
import NIOCore
import Simulation
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
    private let namespace: CheckNamespace
    private let watched: NIOLoopBoundBox<[Target: Watched]>
    private let tls: TLSContext
    private let known: Known
    private let report: Report
    private var loop: any EventLoop { namespace.loop }

    /// Opens the way into a router's network.
    public init(
        _ router: DevicePath, known: @escaping Known, report: @escaping Report
    ) throws {
        tls = try TLSContext(identity: nil, authorities: [], verification: .none, oldest: .tls12)
        namespace = try CheckNamespace(router)
        watched = NIOLoopBoundBox.makeBoxSendingValue([:], eventLoop: namespace.loop)
        self.known = known
        self.report = report
    }

    /// Sets which pools are checked.
    public func set(_ pools: [Pool]) {
        loop.execute { [self] in
            var wanted: [Target: HealthMonitor] = [:]
            for pool in pools {
                guard let monitor = pool.monitor else { continue }
                for member in pool.members { wanted[Target(pool.path, member)] = monitor }
            }
            for (target, one) in watched.value where wanted[target] != one.monitor {
                one.timer.cancel()
                // What was found by another way of asking is no answer to this one; what it is taken for stays meanwhile.
                if wanted[target] == nil { watched.value[target] = nil }
            }
            for (target, monitor) in wanted where watched.value[target]?.monitor != monitor {
                let watch = watched.value[target]?.watch ?? MemberWatch(known: known(target))
                watched.value[target] = Watched(watch: watch, monitor: monitor, timer: start(target, monitor))
            }
        }
    }

    /// Ends all checks.
    public func close() {
        loop.execute { [self] in
            for one in watched.value.values { one.timer.cancel() }
            watched.value = [:]
        }
        namespace.close()
    }

    private func start(_ target: Target, _ monitor: HealthMonitor) -> RepeatedTask {
        // Not all at once.
        let delay = TimeAmount.milliseconds(Int64(monitor.delay))
        let first = TimeAmount.milliseconds(Int64.random(in: 0...Int64(min(monitor.delay, 1000))))
        let check = Check(loop: loop, monitor: monitor, tls: tls)
        let port = monitor.port ?? target.member.port ?? 0
        // An answer may not take longer than that: one check ends before the next begins.
        return loop.scheduleRepeatedTask(initialDelay: first, delay: delay) { [self] _ in
            check.ask(target.member.address, port: port).whenSuccess { [self] in take($0, target, monitor) }
        }
    }

    private func take(_ result: CheckResult, _ target: Target, _ monitor: HealthMonitor) {
        guard watched.value[target]?.monitor == monitor else { return }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let milliseconds = UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
        let isNews =
            watched.value[target]?.watch.take(result, rise: monitor.rise, fall: monitor.fall, now: milliseconds)
            ?? false
        if let health = watched.value[target]?.watch.health { report(target, health, isNews) }
    }
}
