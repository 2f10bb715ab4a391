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
    /// Who tells of networks by EVPN, while there are any.
    private let gateway = Mutex<EVPNGateway?>(nil)
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
        let evpn = EVPNPlan(topology, host: node.name)
        tell(evpn, node)
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
        let others = Set(topology.evpnPorts(of: node.name).map(\.path.vxlanInterface))
        let problems = devices.withLock { $0.set(wanted, others: others) }
        if !problems.isEmpty {
            tried.withLock { $0 = (wanted, now) }
            Task { [weak self] in
                try? await Task.sleep(for: Self.pause)
                self?.follow()
            }
        }
        isUsed.withLock { $0 = !wanted.isEmpty || evpn != nil }
        let first = problems.min { $0.key < $1.key }
        node.replica.alarm("vxlan", first.map { "\(names[$0.key]?.description ?? $0.key): \($0.value)" })
    }

    /// Has somebody speak EVPN as a plan says, or nobody.
    private func tell(_ plan: EVPNPlan?, _ node: Node) {
        let old = gateway.withLock { $0 }
        guard let plan else {
            gateway.withLock { $0 = nil }
            old?.close()
            return node.replica.alarm("evpn", nil)
        }
        if let old { return old.set(plan) }
        do {
            let new = try EVPNGateway(
                plan, directory: node.configuration.directory.path + "/uplinks", say: node.say)
            gateway.withLock { $0 = new }
            node.replica.alarm("evpn", nil)
        } catch { node.replica.alarm("evpn", "\(error)") }
    }

    /// A port carries no more for its segment: stations of its network are told of by another host.
    func carriesNoMore(_ path: PortPath) { gateway.withLock { $0 }?.forgetStations(at: path.vxlanInterface) }

    /// How the host speaks EVPN; `nil`: it does not. Asks the daemon.
    func evpn() -> EVPNGateway.Status? { gateway.withLock { $0 }?.status() }

    /// Ends its thread. The interfaces to end points that are known stay: what the kernel forwards goes on while the node is away.
    func finish() {
        worker.add { [self] in
            let last = gateway.withLock { gateway in
                defer { gateway = nil }
                return gateway
            }
            last?.close()
        }
        worker.finish()
    }
}
