// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Netlink
import Synchronization
import Wire

/// The kernel engine: the openvswitch module over generic netlink.
///
/// What an earlier run left is taken over: the datapath, its ports and, until they are decided again, its flows; so a
/// node can be killed and started without a gap. Tunnels are interfaces of the kernel with metadata per packet.
public final class KernelDatapath: Datapath, @unchecked Sendable {  // `control` is used under `state`'s lock only

    /// Kernel.
    public var kind: DatapathKind { .kernel }
    /// One flow table for all threads.
    public var sharesFlows: Bool { true }
    /// Whether upcalls go by CPU; by port otherwise.
    public let dispatchesByCPU: Bool

    private let name: String
    private let control: KernelControl
    private let shaper = UnderlayShaper()
    private let workers: [KernelWorker]
    private struct State {
        var specifications: [UInt32: PortSpecification] = [:]
        var threads: [NamedThread] = []
    }
    private let state = Mutex(State())

    /// Whether the kernel answers for openvswitch in this network namespace.
    public static var isAvailable: Bool { (try? KernelControl()) != nil }

    /// Makes or takes over the datapath of a name.
    ///
    /// - Parameter name: that of its internal interface, at most 15 bytes.
    /// - Throws: ``SystemError``, `ENOENT` where the kernel has no openvswitch.
    public init(name: String) throws {
        self.name = name
        control = try KernelControl()
        let cpus = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_CONF))))
        // A CPU's upcalls go to one socket, so that packets of a flow keep their order.
        workers = try (0..<min(cpus, 8)).map { _ in try KernelWorker() }
        dispatchesByCPU = try control.open(name, sockets: workers.map(\.upcallSocket.portID), cpus: cpus)
        for worker in workers { worker.attach(to: control.index) }
    }

    /// Starts the threads.
    public func start(_ makeHandler: (Int) -> any UpcallHandler) throws {
        for (index, worker) in workers.enumerated() { worker.handler = makeHandler(index) }
        try state.withLock { state in
            for (index, worker) in workers.enumerated() {
                state.threads.append(try NamedThread("sel-upcalls-\(index)") { worker.run() })
            }
        }
    }

    /// Lets the handlers have their turn.
    public func wake() {
        for worker in workers { cl_eventfd_signal(worker.wakeup.number) }
    }

    /// Ends the threads; the kernel goes on with the flows that it has.
    public func stop() {
        for worker in workers { worker.isStopping.store(true, ordering: .relaxed) }
        wake()
        let threads = state.withLock { state in
            let threads = state.threads
            state.threads = []
            return threads
        }
        for thread in threads { thread.join() }
    }

    /// Removes the datapath and the tunnel interfaces.
    public func destroy() throws {
        stop()
        try state.withLock { _ in
            try control.remove(name)
            let route = try RouteNetlink()
            let own = try route.links().map(\.name).filter { $0.hasPrefix(KernelDatapath.collectorPrefix) }
            for interface in [KernelDatapath.greInterface, KernelDatapath.vxlanInterface] + own
            where interfaceExists(interface) {
                try route.remove(interface)
            }
        }
    }

    // MARK: - Ports

    static let greInterface = "sel-gre"
    static let vxlanInterface = "sel-vxlan"
    private static let collectorPrefix = "sel-m-"
    /// The same for the same collector, so that a later run finds it.
    private static func interface(of collector: Collector) -> String {
        let kind: UInt64 =
            switch collector.encapsulation {
            case .gre(let key): UInt64(key)
            case .erspan(let session): 1 << 32 | UInt64(session)
            }
        let hash = mix(UInt64(collector.local.bits) << 32 | UInt64(collector.remote.bits), kind ^ 0x3144_0ac0_0000_002b)
        return collectorPrefix + String(hash & 0xffff_ffff | 1 << 32, radix: 16).dropFirst()
    }
    /// Tunnel interfaces carry whatever fits the underlay; what is too big is told before it comes there.
    private static let tunnelMTU = 65_000

    /// Adds an interface of this namespace, or makes a tunnel interface and adds that.
    public func addPort(_ specification: PortSpecification) throws -> PortNumber {
        try state.withLock { state in
            let interface: String
            switch specification {
            case .interface(let name): interface = name
            case .gre:
                interface = KernelDatapath.greInterface
                if !interfaceExists(interface) { try RouteNetlink().addGRE(interface) }
            case .collector(let collector):
                interface = KernelDatapath.interface(of: collector)
                if !interfaceExists(interface) {
                    let (key, isERSPAN): (UInt32, Bool) =
                        switch collector.encapsulation {
                        case .gre(let key): (key, false)
                        case .erspan(let session): (UInt32(session), true)
                        }
                    try RouteNetlink().addGRE(
                        interface, from: collector.local, to: collector.remote, key: key, isERSPAN: isERSPAN)
                }
            case .vxlan(_, let port):
                interface = KernelDatapath.vxlanInterface
                if !interfaceExists(interface) { try RouteNetlink().addVXLAN(interface, port: port) }
            }
            let route = try RouteNetlink()
            if case .interface = specification {
            } else {
                try route.setMTU(interface, KernelDatapath.tunnelMTU)
            }
            try route.setUp(interface)
            let sockets = dispatchesByCPU ? [workers[0].upcallSocket.portID] : workers.map(\.upcallSocket.portID)
            let number = try control.addPort(interface, upcall: sockets)
            state.specifications[number] = specification
            return PortNumber(number)
        }
    }

    /// Takes a port out; a tunnel interface goes with it.
    public func removePort(_ port: PortNumber) throws {
        try state.withLock { state in
            let specification = state.specifications.removeValue(forKey: port.value)
            try control.removePort(port.value)
            switch specification {
            case .gre?: try? RouteNetlink().remove(KernelDatapath.greInterface)
            case .vxlan?: try? RouteNetlink().remove(KernelDatapath.vxlanInterface)
            case .collector(let collector)?: try? RouteNetlink().remove(KernelDatapath.interface(of: collector))
            case .interface?, nil: break
            }
        }
    }

    /// Ports as the kernel has them, the datapath's own internal one left out.
    public func ports() throws -> [PortStatus] {
        try state.withLock { state in
            try control.ports().filter { $0.number != 0 }.map { port in
                var status = PortStatus(
                    number: PortNumber(port.number),
                    specification: state.specifications[port.number] ?? .interface(port.name))
                status.receivedPackets = port.statistics[0]
                status.sentPackets = port.statistics[1]
                status.receivedBytes = port.statistics[2]
                status.sentBytes = port.statistics[3]
                status.receiveDrops = port.statistics[4] &+ port.statistics[6]
                status.sendErrors = port.statistics[5] &+ port.statistics[7]
                return status
            }
            .sorted { $0.number < $1.number }
        }
    }

    /// The kernel's counters; lost are also the upcalls over a port's share.
    public func statistics() throws -> DatapathStatistics {
        var statistics = try state.withLock { _ in try control.statistics() }
        for worker in workers {
            statistics.lost += worker.unfair.load(ordering: .relaxed)
            statistics.overflows += worker.overflows.load(ordering: .relaxed)
            statistics.refused += worker.refused.load(ordering: .relaxed)
            statistics.overlapping += worker.overlapping.load(ordering: .relaxed)
            statistics.unheard += worker.unheard.load(ordering: .relaxed)
            let refusal = worker.lastRefusal.withLock { $0 }
            if !refusal.isEmpty { statistics.lastRefusal = refusal }
        }
        return statistics
    }

    /// Makes queues on the interfaces that tunnels leave by.
    public func setQueues(_ queues: UnderlayQueues?) throws { try shaper.set(queues) }

    /// Makes or changes a meter of the kernel.
    public func setMeter(_ meter: MeterNumber, _ specification: MeterSpecification) throws {
        try state.withLock { _ in
            try control.setMeter(
                meter.value, kilobits: specification.kilobits, burst: (specification.burst + 124) / 125)
        }
    }

    /// Removes a meter of the kernel.
    public func removeMeter(_ meter: MeterNumber) throws {
        try state.withLock { _ in try control.removeMeter(meter.value) }
    }

    /// Flows that an earlier run left.
    public func inheritedFlows() throws -> [InheritedFlow] { try state.withLock { _ in try control.inheritedFlows() } }
}
