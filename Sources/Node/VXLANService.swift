// SPDX-License-Identifier: Apache-2.0
import Gateway
import Linux
import Store
import Synchronization
import Topology

/// The interfaces of this host that lead to VXLAN end points of others are what the topology says.
final class VXLANService: Sendable {
    /// The thread that follows interfaces outlives it.
    private weak let node: Node?
    private let worker: SerialThread
    private let devices = Mutex(VXLANDevices())
    /// Whether there were any, an earlier run's too.
    private let isUsed = Mutex(true)
    /// What was tried last that could not be made, and when.
    private let tried = Mutex<(wanted: [String: VXLANDevices.Plan], at: ContinuousClock.Instant)?>(nil)
    /// How long it is left at that.
    private static let pause = Duration.seconds(5)

    init(_ node: Node) throws {
        self.node = node
        worker = try SerialThread("sel-vxlan")
    }

    /// The topology may be another one, or interfaces may have come or gone.
    func follow() {
        guard let node else { return }
        let isWanted = !node.replica.state.topology.ports.vxlans.isEmpty
        guard isUsed.withLock({ $0 }) || isWanted else { return }
        worker.add { [self] in update() }
    }

    private func update() {
        guard let node else { return }
        let topology = node.replica.state.topology
        var wanted: [String: VXLANDevices.Plan] = [:]
        var names: [String: PortPath] = [:]
        for path in topology.ports.vxlans {
            guard let port = topology.ports[path], case .exterior(node.name, let interface) = port.attachment,
                let plan = VXLANDevices.Plan(port, topology)
            else { continue }
            wanted[interface] = plan
            names[interface] = path
        }
        // What could not be made tells of links itself, and would be tried again at once.
        let now = ContinuousClock.now
        let mayTry = tried.withLock { tried in
            if let last = tried, last.wanted == wanted, now - last.at < Self.pause { return false }
            tried = nil
            return true
        }
        guard mayTry else { return }
        let problems = devices.withLock { $0.set(wanted) }
        if !problems.isEmpty {
            tried.withLock { $0 = (wanted, now) }
            Task { [weak self] in
                try? await Task.sleep(for: Self.pause)
                self?.follow()
            }
        }
        isUsed.withLock { $0 = !wanted.isEmpty }
        let first = problems.min { $0.key < $1.key }
        node.replica.alarm("vxlan", first.map { "\(names[$0.key]?.description ?? $0.key): \($0.value)" })
    }

    /// Ends its thread. The interfaces stay: what the kernel forwards goes on while the node is away.
    func finish() { worker.finish() }
}
