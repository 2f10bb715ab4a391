// SPDX-License-Identifier: Apache-2.0
import CLinux
import Linux
import Netlink
import Synchronization
import Wire

/// The userspace engine: packet sockets on interfaces, a raw socket for GRE, UDP sockets for VXLAN.
public final class UserspaceDatapath: Datapath {
    /// Userspace.
    public var kind: DatapathKind { .userspace }

    /// Each packet thread has flows of its own.
    public var sharesFlows: Bool { false }

    private struct Port {
        var specification: PortSpecification
        var descriptors: [Descriptor]
        var warning: String?
    }

    private struct State {
        var ports: [PortNumber: Port] = [:]
        var threads: [NamedThread] = []
        var nextNumber: UInt32 = 1
        var meters: [MeterNumber: MeterBucket] = [:]
    }

    private let workers: [Worker]
    private let state = Mutex(State())
    private let shaper = UnderlayShaper()
    private let closing: SerialThread

    /// An engine with a number of packet threads, at least one.
    public init(threads: Int) throws {
        precondition(threads > 0, "a datapath needs a packet thread")
        workers = try (0..<threads).map { _ in try Worker() }
        closing = try SerialThread("sel-close")
    }

    /// None: flows live and end with the process.
    public func inheritedFlows() throws -> [InheritedFlow] { [] }

    /// Starts the threads.
    public func start(_ makeHandler: (Int) -> any UpcallHandler) throws {
        for (index, worker) in workers.enumerated() { worker.handler = makeHandler(index) }
        try state.withLock { state in
            precondition(state.threads.isEmpty, "started twice")
            for (index, worker) in workers.enumerated() {
                state.threads.append(try NamedThread("sel-packets-\(index)") { worker.run() })
            }
        }
    }

    /// Ends the threads and gives the interfaces back to the host; flows and ports go with the process.
    public func stop() {
        for worker in workers { worker.isStopping.store(true, ordering: .relaxed) }
        wake()
        let threads = state.withLock { state in
            let threads = state.threads
            state.threads = []
            return threads
        }
        for thread in threads { thread.join() }
        for port in state.withLock({ Array($0.ports.values) }) { giveBack(port.specification) }
    }

    deinit { closing.finish() }

    /// Nothing outlives the process.
    public func destroy() throws { stop() }

    /// Wakes all workers.
    public func wake() {
        for worker in workers { cl_eventfd_signal(worker.wakeup.number) }
    }

    /// Opens a socket for the port and reads from it.
    public func addPort(_ specification: PortSpecification) throws -> PortNumber {
        try register(try open(specification))
    }

    /// Opens sockets together: each waits for a grace period of the kernel's RCU, and all wait for the same.
    public func addPorts(_ specifications: [PortSpecification]) -> [Result<PortNumber, any Error>] {
        let opened = Opened()
        concurrently(specifications.count) { index in
            let result = Result { try self.open(specifications[index]) }
            opened.results.withLock { $0[index] = result }
        }
        let results = opened.results.withLock { $0 }
        return specifications.indices.map { index in
            Result {
                guard let result = results[index] else { throw SystemError(4, "add \(specifications[index])") }
                return try self.register(try result.get())
            }
        }
    }

    /// A port whose sockets are open, and that no worker knows yet.
    private struct OpenPort: Sendable {
        var specification: PortSpecification
        var record: UncheckedBox<WorkerPort>
        /// Of ``descriptors``, those that it sends by.
        var senders: [Int32]
        var descriptors: [Descriptor]
        var warning: String?
    }

    private final class Opened: Sendable {
        let results = Mutex<[Int: Result<OpenPort, any Error>]>([:])
    }

    private func open(_ specification: PortSpecification) throws -> OpenPort {
        var record = WorkerPort()
        var senders: [Int32] = []
        var descriptors: [Descriptor] = []
        var warning: String?
        switch specification {
        case .interface(let name):
            let index = try SystemError.check(cl_interface_index(name), "find interface \(name)")
            try SystemError.check(cl_interface_up(name), "bring interface \(name) up")
            record.descriptor = try SystemError.check(
                cl_packet_socket(index, Int32(UserspaceLimits.socketBuffer)), "open a packet socket on \(name)")
            descriptors.append(Descriptor(record.descriptor))
            senders = [
                try SystemError.check(
                    cl_packet_sender(index, Int32(UserspaceLimits.socketBuffer)), "open a packet socket on \(name)")
            ]
            descriptors.append(Descriptor(senders[0]))
            _ = cl_interface_promiscuous(record.descriptor, index)
            var ring = cl_ring()
            try SystemError.check(
                cl_ring_open(
                    &ring, record.descriptor, UInt32(UserspaceLimits.slotSize), UInt32(UserspaceLimits.slots)),
                "make the ring of \(name)")
            record.ring = .allocate(capacity: 1)
            record.ring?.initialize(to: ring)
            // A guest must not reach this host's own stack past the virtual network: neither its services nor, with packets
            // made to look like a tunnel's, other tenants.
            do { try IngressGuard().close(name) } catch {
                warning = "this host's own network stack hears it, too: \(error)"
            }
        case .gre(let local):
            record.encapsulation = .gre
            record.local = local.bits
            record.descriptor = try SystemError.check(
                cl_raw_socket(Int32(IPProtocol.gre), local.bits, Int32(UserspaceLimits.socketBuffer)),
                "open a raw socket for GRE on \(local)")
        case .collector(let collector):
            record.local = collector.local.bits
            record.remote = collector.remote.bits
            switch collector.encapsulation {
            case .gre(let key): (record.encapsulation, record.id) = (.greCollector, key)
            case .erspan(let session): (record.encapsulation, record.id) = (.erspanCollector, UInt32(session))
            }
            record.descriptor = try SystemError.check(
                cl_raw_socket(Int32(IPProtocol.gre), collector.local.bits, Int32(UserspaceLimits.socketBuffer)),
                "open a raw socket for copies to \(collector.remote)")
            // Tunnels' packets come to it as well, were it not of one other host.
            try SystemError.check(
                cl_connect_ipv4(record.descriptor, collector.remote.bits), "find a way to \(collector.remote)")
        case .vxlan(let local, let port):
            record.encapsulation = .vxlan
            record.local = local.bits
            record.udpPort = port
            record.descriptor = try SystemError.check(
                cl_udp_socket(local.bits, port, Int32(UserspaceLimits.socketBuffer)),
                "open UDP port \(port) for VXLAN on \(local)")
            descriptors.append(Descriptor(record.descriptor))
            for _ in 0..<UserspaceLimits.sourcePorts {
                let sender = try SystemError.check(
                    cl_udp_sender(local.bits, Int32(UserspaceLimits.socketBuffer)),
                    "open a UDP port to send VXLAN from on \(local)")
                senders.append(sender)
                descriptors.append(Descriptor(sender))
            }
        }
        if senders.isEmpty {
            descriptors.append(Descriptor(record.descriptor))
            senders = [record.descriptor]
        }
        return OpenPort(
            specification: specification, record: UncheckedBox(record), senders: senders, descriptors: descriptors,
            warning: warning)
    }

    private func register(_ port: OpenPort) throws -> PortNumber {
        let number: PortNumber
        do throws(SystemError) {
            number = try state.withLock { state throws(SystemError) -> PortNumber in
                guard state.ports.count < UserspaceLimits.ports - 2 else {
                    throw SystemError(28, "add \(port.specification): all \(UserspaceLimits.ports) ports are taken")
                }
                while state.ports[PortNumber(state.nextNumber)] != nil {
                    state.nextNumber = state.nextNumber % UInt32(UserspaceLimits.ports - 1) + 1
                }
                let number = PortNumber(state.nextNumber)
                state.nextNumber = state.nextNumber % UInt32(UserspaceLimits.ports - 1) + 1
                state.ports[number] = Port(
                    specification: port.specification, descriptors: port.descriptors, warning: port.warning)
                return number
            }
        } catch {
            if let ring = port.record.value.ring {
                cl_ring_close(ring)
                ring.deallocate()
            }
            giveBack(port.specification)
            throw error
        }
        let reader = Int(number.value) % workers.count
        let senders = port.senders
        // The ring goes to the worker that reads it, which frees it.
        let read = port.record
        var without = port.record.value
        without.ring = nil
        let written = UncheckedBox(without)
        for (index, worker) in workers.enumerated() {
            let result = perform(on: worker) { worker in
                do throws(SystemError) {
                    let isReader = index == reader && !read.value.encapsulation.isCollector
                    try worker.addPort(
                        number, index == reader ? read.value : written.value, senders: senders, reads: isReader)
                    return nil as SystemError?
                } catch { return error }
            }
            if let result {
                // Half a port, and an interface that is closed to the host, would stay behind.
                try? removePort(number)
                throw result
            }
        }
        return number
    }

    /// Closes the port's socket.
    public func removePort(_ port: PortNumber) throws {
        guard let removed = state.withLock({ $0.ports.removeValue(forKey: port) }) else { return }
        for worker in workers {
            perform(on: worker) { $0.removePort(port) }
        }
        giveBack(removed.specification)
        // The kernel takes its time to close a packet socket, a grace period; nobody needs to wait for it. A tunnel's socket
        // may be wanted again at once.
        if case .interface = removed.specification { closing.add { _ = removed } }
    }

    private func giveBack(_ specification: PortSpecification) {
        // Where the interface went, its chain went with it.
        if case .interface(let name) = specification { try? IngressGuard().open(name) }
    }

    /// Ports with the counters of all workers.
    public func ports() throws -> [PortStatus] {
        let list = state.withLock { state in
            state.ports.map { number, port in
                var status = PortStatus(number: number, specification: port.specification)
                status.warning = port.warning
                return status
            }
        }
        .sorted { $0.number < $1.number }
        var result = list
        for worker in workers {
            let numbers = list.map(\.number)
            let counts = perform(on: worker) { worker in
                numbers.map { number in
                    worker.countDrops(number)
                    let port = worker.ports[Int(number.value)]
                    return [
                        port.receivedPackets, port.receivedBytes, port.sentPackets, port.sentBytes, port.sendErrors,
                        port.receiveDrops,
                    ]
                }
            }
            for (index, count) in counts.enumerated() {
                result[index].receivedPackets += count[0]
                result[index].receivedBytes += count[1]
                result[index].sentPackets += count[2]
                result[index].sentBytes += count[3]
                result[index].sendErrors += count[4]
                result[index].receiveDrops += count[5]
            }
        }
        return result
    }

    /// Whether the kernel lets each packet of a socket say which queue it waits in.
    static let takesPriority = cl_takes_priority()

    /// Makes queues on the interfaces that tunnels leave by.
    public func setQueues(_ queues: UnderlayQueues?) throws {
        guard queues == nil || UserspaceDatapath.takesPriority else {
            throw SystemError(95, "choose a queue packet by packet without the kernel's engine, before Linux 6.14")
        }
        try shaper.set(queues)
    }

    /// Makes a bucket that all workers share.
    public func setMeter(_ meter: MeterNumber, _ specification: MeterSpecification) throws {
        guard meter.value < MeterNumber.most else { throw SystemError(28, "set meter \(meter.value)") }
        let made: MeterBucket? = state.withLock { state in
            if let known = state.meters[meter] {
                known.set(specification)
                return nil
            }
            let bucket = MeterBucket(specification)
            state.meters[meter] = bucket
            return bucket
        }
        if let made { give(meter, made) }
    }

    /// Removes a meter.
    public func removeMeter(_ meter: MeterNumber) throws {
        if state.withLock({ $0.meters.removeValue(forKey: meter) }) != nil { give(meter, nil) }
    }

    private func give(_ meter: MeterNumber, _ bucket: MeterBucket?) {
        let place = Int(meter.value)
        for worker in workers {
            perform(on: worker) { worker in
                while worker.meters.count <= place { worker.meters.append(nil) }
                worker.meters[place] = bucket
            }
        }
    }

    /// Sums over all workers.
    public func statistics() throws -> DatapathStatistics {
        var sum = DatapathStatistics()
        for worker in workers {
            let one = perform(on: worker) { worker in
                var one = DatapathStatistics()
                one.hits = worker.hits
                one.misses = worker.misses
                one.malformed = worker.malformed
                one.flows = UInt64(worker.table.count)
                one.masks = UInt64(worker.table.subtableCount)
                return one
            }
            sum.hits += one.hits
            sum.misses += one.misses
            sum.malformed += one.malformed
            sum.flows += one.flows
            sum.masks = max(sum.masks, one.masks)
        }
        return sum
    }

    /// Runs `body` on a worker's thread and waits for it; directly while the threads are not running.
    @discardableResult
    private func perform<Result: Sendable>(
        on worker: Worker, _ body: @escaping @Sendable (Worker) -> Result
    ) -> Result {
        let isRunning = state.withLock { !$0.threads.isEmpty }
        guard isRunning else { return body(worker) }
        let reply = Reply<Result>()
        worker.mailbox.withLock { $0.append { reply.put(body($0)) } }
        cl_eventfd_signal(worker.wakeup.number)
        return reply.take()
    }
}

/// Carries a value of plain records to a worker thread.
private struct UncheckedBox<Value>: @unchecked Sendable {  // handed over once, never touched after
    let value: Value
    init(_ value: Value) { self.value = value }
}
