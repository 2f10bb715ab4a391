// SPDX-License-Identifier: Apache-2.0
import Datapath
import FlowState
import Gossip
import Simulation
import Topology
import Wire

/// A compiled topology together with where its ports are in the datapath: what a packet thread works with until it is
/// given the next one. Immutable.
package final class Epoch: Sendable {
    /// A way to a host.
    struct Tunnel: Sendable {
        var port: PortNumber
        var path: TunnelPath
        /// Tells it apart from the others.
        var identity: UInt64
    }
    /// What comes in by a datapath port.
    enum Ingress: Sendable {
        case exterior(PortIndex)
        case tunnel(TunnelZone.Encapsulation)
    }

    /// Which way a machine's traffic is measured: what it sends, or what it gets.
    package enum Way: Int, Sendable, CaseIterable { case egress, ingress }

    let fabric: Fabric
    /// Meters of ports that are bound here, by way.
    private let meters: [[PortIndex: MeterNumber]]
    /// Queues that what ports here send to other hosts waits in, of those that are promised something.
    private let queues: [PortIndex: UInt16]
    private let mirrorMeters: [DevicePath: MeterNumber]
    /// Datapath ports by which copies go to hosts outside.
    private let collectors: [Mirror.Target: PortNumber]
    /// Datapath port of each exterior port that is bound and present here.
    private let portNumbers: [PortIndex: PortNumber]
    private let ingresses: [UInt32: Ingress]
    private let tunnels: [HostIndex: [Tunnel]]
    private let avoided: AvoidedPaths
    let tunnelPorts: [PortNumber]
    private let bound: [PortPath: PortNumber]
    private let tunnelPortsByEnd: [TunnelEnd: PortNumber]
    /// Tells other hosts what packets teach; `nil` where there are none.
    let replication: FlowReplication?
    /// Takes what packets are handed up for records of flows; `nil` where nobody is told of any.
    let recorder: FlowRecorder?
    private let peers: [HostIndex: PeerID]
    private let peersByName: [String: PeerID]

    /// - Parameter previous: what was in force before; where ports lie as they did, its tables are taken over.
    package init(
        fabric: Fabric, bound: [PortPath: PortNumber], tunnelPorts: [TunnelEnd: PortNumber], avoided: AvoidedPaths,
        meters: [MeterUse: MeterNumber] = [:], queues: [PortPath: UInt16] = [:],
        collectors: [Mirror.Target: PortNumber] = [:],
        replication: FlowReplication? = nil, recorder: FlowRecorder? = nil,
        peers peersByName: [String: PeerID] = [:], after previous: Epoch? = nil
    ) {
        self.fabric = fabric
        self.replication = replication
        self.recorder = recorder
        self.peersByName = peersByName
        self.bound = bound
        self.avoided = avoided
        tunnelPortsByEnd = tunnelPorts
        // The kernel has one port for all ends of a kind.
        self.tunnelPorts = Set(tunnelPorts.values).sorted()
        var byWay = [[PortIndex: MeterNumber]](repeating: [:], count: Way.allCases.count)
        var byMirror: [DevicePath: MeterNumber] = [:]
        for (use, number) in meters {
            switch use {
            case .port(let path, let way): if let index = fabric.port(path) { byWay[way.rawValue][index] = number }
            case .mirror(let path): byMirror[path] = number
            }
        }
        mirrorMeters = byMirror
        var byPort: [PortIndex: UInt16] = [:]
        for (path, queue) in queues { if let index = fabric.port(path) { byPort[index] = queue } }
        self.queues = byPort
        self.collectors = collectors
        self.meters = byWay
        // Hosts and zones are the same within a lineage.
        if let previous, previous.fabric.lineage == fabric.lineage, previous.bound == bound,
            previous.tunnelPortsByEnd == tunnelPorts, previous.peersByName == peersByName
        {
            portNumbers = previous.portNumbers
            ingresses = previous.ingresses
            tunnels = previous.tunnels
            peers = previous.peers
            return
        }
        var portNumbers: [PortIndex: PortNumber] = [:]
        var ingresses: [UInt32: Ingress] = [:]
        for (path, number) in bound {
            guard let index = fabric.port(path) else { continue }
            portNumbers[index] = number
            ingresses[number.value] = .exterior(index)
        }
        for (end, number) in tunnelPorts { ingresses[number.value] = .tunnel(end.encapsulation) }
        var tunnels: [HostIndex: [Tunnel]] = [:]
        for host in fabric.reachableHosts {
            for tunnel in fabric.topology.tunnels(from: fabric.localHost, to: fabric.name(host)) {
                let end = TunnelEnd(encapsulation: tunnel.zone.encapsulation, local: tunnel.local)
                guard let port = tunnelPorts[end] else { continue }
                let identity = mix(tunnel.local.high ^ tunnel.local.low, tunnel.remote.high ^ tunnel.remote.low)
                tunnels[host, default: []].append(
                    Tunnel(port: port, path: TunnelPath(end: end, remote: tunnel.remote), identity: identity))
            }
        }
        self.portNumbers = portNumbers
        self.ingresses = ingresses
        self.tunnels = tunnels
        var peers: [HostIndex: PeerID] = [:]
        for host in fabric.reachableHosts {
            if let peer = peersByName[fabric.name(host)] { peers[host] = peer }
        }
        self.peers = peers
    }

    /// The port that a packet's tunnel key stands for, if it is bound, but not here: to another host, or to an interface that is
    /// not open yet. One that went to another host a moment ago still counts as here.
    func absentPort(of key: FlowKey) -> PortIndex? {
        guard case .tunnel? = ingress(key.inPort),
            let port = fabric.boundPort(ofKey: UInt32(truncatingIfNeeded: key.tunnelID) & ~TunnelKeys.sentOn),
            number(of: port) == nil
        else { return nil }
        return port
    }
    func meter(of port: PortIndex, _ way: Way) -> MeterNumber? {
        let list = meters[way.rawValue]
        return list.isEmpty ? nil : list[port]
    }
    func queue(of port: PortIndex) -> UInt16? { queues.isEmpty ? nil : queues[port] }
    func meter(of mirror: DevicePath) -> MeterNumber? { mirrorMeters[mirror] }
    func collector(_ target: Mirror.Target) -> PortNumber? { collectors[target] }
    func number(of port: PortIndex) -> PortNumber? { portNumbers[port] }
    func ingress(_ number: UInt32) -> Ingress? { ingresses[number] }
    /// The way to a host for what comes in by a datapath port and goes by a tunnel key: of those that work a share, by what each
    /// flow matches anyway, so that sharing makes none of them narrower.
    func tunnel(to host: HostIndex, key: UInt32, from ingress: UInt32) -> Tunnel? {
        guard let ways = tunnels[host] else { return nil }
        if ways.count == 1 { return ways[0] }
        var best: (tunnel: Tunnel, rank: UInt64)?
        for way in ways where !avoided.contains(way.path) {
            let rank = mix(way.identity, UInt64(key) << 32 | UInt64(ingress) ^ 0x3c6e_f372_fe94_f82b)
            if rank >= best?.rank ?? 0 { best = (way, rank) }
        }
        return best?.tunnel ?? ways.first
    }
    /// Whether there are other nodes, and which.
    var hasPeers: Bool { !peersByName.isEmpty }
    var allPeers: [PeerID] { Array(peersByName.values) }
    /// The node of a host.
    func peer(of host: HostIndex) -> PeerID? { peers[host] }
}
