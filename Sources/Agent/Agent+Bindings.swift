// SPDX-License-Identifier: Apache-2.0
import Datapath
import Linux
import Simulation
import Synchronization
import Topology

/// Which ports are bound to which interfaces of this host: as the topology says, and as far as the interfaces are there.
extension Agent {
    /// Ports that are bound, were bound, or could not be.
    func allBindings(_ control: borrowing Control) -> Set<PortPath> {
        Set(control.topology.ports.bound(to: host).values.flatMap(\.self)).union(control.numbers.keys).union(
            control.problems.keys)
    }

    /// Makes bindings of ports what the topology says and the host's interfaces allow. Returns the ports that it bound or
    /// unbound.
    func reconcileBindings(
        _ control: inout Control, _ paths: Set<PortPath>, gone: Set<String>
    ) -> [PortPath] {
        let (unbound, coming) = releaseBindings(&control, paths, gone: gone)
        return unbound + openBindings(&control, coming)
    }

    /// Lets go of the interfaces that ports are no longer bound to. Returns these ports, and those that are to be bound.
    func releaseBindings(
        _ control: inout Control, _ concerned: Set<PortPath>, gone: Set<String>
    ) -> (unbound: [PortPath], coming: [(path: PortPath, interface: String)]) {
        let paths = concerned.union(control.lingering.keys)
        var wanted: [PortPath: String] = [:]
        for path in paths {
            if case .exterior(host, let interface)? = control.topology.ports[path]?.attachment {
                wanted[path] = interface
            }
        }
        var changed: [PortPath] = []
        let now = monotonicNanoseconds()
        let wantedInterfaces = Set(wanted.values)
        // What goes goes first: its interface may be wanted by another port.
        for path in paths {
            guard let number = control.numbers[path] else { continue }
            let interface = control.interfaces[path] ?? ""
            let isThere = !gone.contains(interface) && interfaceExists(interface)
            if wanted[path] == interface, isThere {
                control.lingering[path] = nil
                continue
            }
            if isThere, !wantedInterfaces.contains(interface), isElsewhere(path, control.topology),
                control.lingering[path, default: now &+ AgentLimits.lingerNanoseconds] > now
            {
                if control.lingering[path] == nil {
                    control.lingering[path] = now &+ AgentLimits.lingerNanoseconds
                    changed.append(path)
                }
                continue
            }
            control.lingering[path] = nil
            try? datapath.removePort(number)
            control.numbers[path] = nil
            control.interfaces[path] = nil
            changed.append(path)
        }
        for path in paths where wanted[path] == nil { control.problems[path] = nil }
        var coming: [(path: PortPath, interface: String)] = []
        for (path, interface) in wanted where control.numbers[path] == nil {
            if interfaceExists(interface) {
                coming.append((path, interface))
            } else {
                control.problems[path] = "interface \(interface) does not exist"
            }
        }
        return (changed, coming)
    }

    func openBindings(
        _ control: inout Control, _ coming: [(path: PortPath, interface: String)]
    ) -> [PortPath] {
        var changed: [PortPath] = []
        for (port, result) in zip(coming, datapath.addPorts(coming.map { .interface($0.interface) })) {
            switch result {
            case .success(let number):
                control.numbers[port.path] = number
                control.interfaces[port.path] = port.interface
                control.problems[port.path] = nil
                changed.append(port.path)
            case .failure(let error): control.problems[port.path] = "\(error)"
            }
        }
        return changed
    }

    private func isElsewhere(_ path: PortPath, _ topology: Topology) -> Bool {
        guard case .exterior(let other, _)? = topology.ports[path]?.attachment else { return false }
        return other != host
    }

    /// Lets go of the interfaces of ports that went to another host a while ago.
    ///
    /// - Returns: when to call again, monotonic nanoseconds; `nil` when there are none left.
    public func endLingering() -> UInt64? {
        control.withLock { control in
            guard let first = control.lingering.values.min() else { return nil }
            if first > monotonicNanoseconds() { return first }
            let changed = Set(reconcileBindings(&control, [], gone: []).map(Tag.port))
            if !changed.isEmpty { _ = publish(&control, changed: changed) }
            return control.lingering.values.min()
        }
    }
}
