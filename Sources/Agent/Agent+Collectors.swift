// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Topology
import Wire

/// Hosts outside that look at copies of what passes: each is a port of the datapath, by which frames only go.
extension Agent {
    /// Opens and closes ports as mirrors ask for them.
    ///
    /// - Returns: tags of the mirrors whose copies find a way now, or none any more.
    func reconcileCollectors(_ control: inout Control) -> Set<Tag> {
        control.collectorProblem = nil
        if control.collectors.isEmpty, control.topology.mirrors.isEmpty { return [] }
        let addresses = control.topology.hosts[host]?.tunnelAddresses ?? [:]
        let local = addresses.sorted { $0.key < $1.key }.lazy.compactMap { $0.value.v4 }.first
        var wanted: [Mirror.Target: PortSpecification] = [:]
        for mirror in control.topology.mirrors.values.sorted(by: { $0.path < $1.path }) where mirror.isEnabled {
            let (encapsulation, remote): (Collector.Encapsulation, IPv4Address)
            switch mirror.target {
            case .port, .ipfix: continue
            case .gre(let address, let key): (encapsulation, remote) = (.gre(key: key), address)
            case .erspan(let address, let session): (encapsulation, remote) = (.erspan(session: session), address)
            }
            guard let local else {
                control.collectorProblem =
                    "mirror \(mirror.path): this host has no IPv4 address for tunnels to send from"
                continue
            }
            wanted[mirror.target] = .collector(Collector(encapsulation, local: local, remote: remote))
        }
        var changed: Set<Mirror.Target> = []
        for (target, port) in control.collectors where wanted[target] != port.specification {
            try? datapath.removePort(port.number)
            control.collectors[target] = nil
            changed.insert(target)
        }
        for (target, specification) in wanted where control.collectors[target] == nil {
            do {
                control.collectors[target] = (specification, try datapath.addPort(specification))
                changed.insert(target)
            } catch { control.collectorProblem = "copies to \(target) do not leave: \(error)" }
        }
        if changed.isEmpty { return [] }
        return Set(control.topology.mirrors.values.filter { changed.contains($0.target) }.map { .mirror($0.path) })
    }
}
