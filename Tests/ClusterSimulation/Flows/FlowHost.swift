// SPDX-License-Identifier: Apache-2.0
import Agent
import Datapath
import FlowState
import Gossip
import Simulation
import Synchronization
import Topology
import Wire

/// One start of a node: what it keeps in memory, and the real parts that it is made of.
final class FlowNode {
    /// What the parts ask for, as they do it from wherever they are called.
    final class Notes: StateTransport {
        let datagrams = Mutex<[(to: PeerID, bytes: [UInt8])]>([])
        let messages = Mutex<[PacketThread.Message]>([])
        let toCompare = Mutex<[PeerID]>([])
        let isPending = Mutex(false)
        let wantsPorts = Mutex(false)
        let members = Mutex<[(from: PeerID, message: MembershipMessage)]>([])

        func send(_ bytes: [UInt8], to peer: PeerID) { datagrams.withLock { $0.append((peer, bytes)) } }
    }

    let table: StateTable
    let replication: FlowReplication
    let thread: PacketThread
    let notes: Notes
    /// When it was started.
    let began: UInt64
    var membership: Membership
    /// The start of each other node that this one knows of.
    var lives: [PeerID: Int] = [:]
    /// Others that all is to be compared with, until that was done.
    var owed: [PeerID] = []

    init(
        _ host: FlowHost, topology: Topology, peers: [String: PeerID], clock: @escaping @Sendable () -> UInt64,
        wall: UInt64, seed: UInt64, lifetimes: [Simulation.Tag: ConnectionLifetimes]
    ) {
        let notes = Notes()
        self.notes = notes
        began = clock()
        table = StateTable(seed: seed, onPortsWanted: { notes.wantsPorts.withLock { $0 = true } })
        table.set(RowStamps(origin: UInt16(host.number), offset: wall))
        table.set(connections: [:], translations: [:], lifetimes: lifetimes)
        replication = FlowReplication(
            table, over: notes,
            onNews: { tags in notes.messages.withLock { $0.append(.invalidate(tags)) } },
            onUnknown: { tags in notes.messages.withLock { $0.append(.unknown(tags)) } },
            onCompare: { peer in notes.toCompare.withLock { $0.append(peer) } },
            onMembership: { peer, message in notes.members.withLock { $0.append((peer, message)) } },
            onPending: { notes.isPending.withLock { $0 = true } })
        let others = peers.filter { $0.value != host.id }
        thread = PacketThread(
            index: 0, epoch: FlowNode.epoch(host, topology, replication, others), state: table,
            installsStanding: true, installsReturns: true, clock: clock,
            broadcast: { message in notes.messages.withLock { $0.append(message) } })
        replication.setPeers(Set(others.values))
        membership = Membership(own: host.id, epoch: UInt64(host.life), seed: seed)
        membership.setMembers(Dictionary(uniqueKeysWithValues: peers.values.map { ($0, 1) }), now: clock())
    }

    static func epoch(
        _ host: FlowHost, _ topology: Topology, _ replication: FlowReplication, _ others: [String: PeerID]
    ) -> Epoch {
        let fabric = Fabric(topology, localHost: host.name)
        let bound = fabric.localPorts.map { fabric.path($0) }
        return Epoch(
            fabric: fabric,
            bound: Dictionary(uniqueKeysWithValues: bound.map { ($0, PortNumber(host.portNumber($0))) }),
            tunnelPorts: topology.hosts[host.name]?.tunnelAddresses["default"].map {
                [TunnelEnd(encapsulation: .gre, local: $0): PortNumber(MemoryDatapath.tunnelPort)]
            } ?? [:], avoided: AvoidedPaths(), replication: replication, peers: others)
    }
}

/// A host: its datapath, which goes on without a node, and what its disk holds.
final class FlowHost {
    let number: Int
    let name: String
    let id: PeerID
    let address: IPAddress
    let datapath = MemoryDatapath()
    /// How often its node was started.
    var life = 0
    var node: FlowNode?
    /// What the journal holds, and when that was so.
    var journal: (rows: [UInt8], at: UInt64)?
    /// What its clock on the wall shows besides the time, nanoseconds.
    var wall: UInt64 = 1_700_000_000_000_000_000
    /// The topology that its node works by.
    var topology: Topology
    private let numbers: [PortPath: UInt32]

    init(_ number: Int, _ topology: Topology) {
        self.number = number
        self.topology = topology
        name = "h\(number)"
        id = PeerID(UInt64(number))
        address = IPAddress(IPv4Address(bits: 0xc000_0200 + UInt32(number)))
        numbers = Dictionary(
            uniqueKeysWithValues: topology.ports.keys.sorted().enumerated().map { ($1, UInt32($0 + 1)) })
    }

    func portNumber(_ path: PortPath) -> UInt32 { numbers[path] ?? 0 }
    func path(_ number: UInt32) -> PortPath? { numbers.first { $0.value == number }?.key }

    /// Whether it forwards for a port.
    func isBound(_ path: PortPath) -> Bool {
        if case .exterior(name, _)? = topology.ports[path]?.attachment { return true }
        return false
    }
}
