// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Topology
import Wire

/// A compiled topology together with where its ports are in the datapath: what a packet thread works with until it is
/// given the next one. Immutable.
final class Epoch: Sendable {
    /// How to reach a host.
    struct Tunnel: Sendable {
        var port: PortNumber
        var local: IPAddress
        var remote: IPAddress
    }
    /// What comes in by a datapath port.
    enum Ingress: Sendable {
        case exterior(PortIndex)
        case tunnel
    }

    let fabric: Fabric
    /// Datapath port of each exterior port that is bound and present here.
    private let portNumbers: [PortIndex: PortNumber]
    private let ingresses: [UInt32: Ingress]
    private let tunnels: [HostIndex: Tunnel]
    let tunnelPorts: [PortNumber]
    private let bound: [PortPath: PortNumber]
    private let tunnelPortsByKind: [TunnelZone.Encapsulation: PortNumber]

    /// - Parameter previous: what was in force before; where ports lie as they did, its tables are taken over.
    init(
        fabric: Fabric, bound: [PortPath: PortNumber], tunnelPorts: [TunnelZone.Encapsulation: PortNumber],
        after previous: Epoch? = nil
    ) {
        self.fabric = fabric
        self.bound = bound
        tunnelPortsByKind = tunnelPorts
        self.tunnelPorts = tunnelPorts.values.sorted()
        // Hosts and zones are the same within a lineage.
        if let previous, previous.fabric.lineage == fabric.lineage, previous.bound == bound,
            previous.tunnelPortsByKind == tunnelPorts
        {
            portNumbers = previous.portNumbers
            ingresses = previous.ingresses
            tunnels = previous.tunnels
            return
        }
        var portNumbers: [PortIndex: PortNumber] = [:]
        var ingresses: [UInt32: Ingress] = [:]
        for (path, number) in bound {
            guard let index = fabric.port(path) else { continue }
            portNumbers[index] = number
            ingresses[number.value] = .exterior(index)
        }
        for number in tunnelPorts.values { ingresses[number.value] = .tunnel }
        var tunnels: [HostIndex: Tunnel] = [:]
        for host in fabric.reachableHosts {
            guard let tunnel = fabric.topology.tunnel(from: fabric.localHost, to: fabric.name(host)),
                let port = tunnelPorts[tunnel.zone.encapsulation]
            else { continue }
            tunnels[host] = Tunnel(port: port, local: tunnel.local, remote: tunnel.remote)
        }
        self.portNumbers = portNumbers
        self.ingresses = ingresses
        self.tunnels = tunnels
    }

    func number(of port: PortIndex) -> PortNumber? { portNumbers[port] }
    func ingress(_ number: UInt32) -> Ingress? { ingresses[number] }
    func tunnel(to host: HostIndex) -> Tunnel? { tunnels[host] }
    var allTunnels: [Tunnel] { Array(tunnels.values) }
}
