// SPDX-License-Identifier: Apache-2.0
import FlowState
import Glibc
import Gossip
import Linux
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Agent
@testable import Datapath

/// A datapath that only writes down what is asked of it.
final class NotingThread: DatapathThread {
    var installed: [FlowID: Flow] = [:]
    var sent: [(actions: [Action], bytes: [UInt8])] = []

    func install(_ flow: borrowing Flow) { installed[flow.id] = copy flow }
    func remove(_ id: FlowID) { installed[id] = nil }
    func execute(_ actions: [Action], on packet: borrowing UpcallPacket) {
        sent.append((actions, [UInt8](UnsafeRawBufferPointer(packet.bytes))))
    }
    func execute(_ actions: [Action], on packet: OwnedPacket) { sent.append((actions, packet.bytes)) }
    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void) {}
}

/// A packet thread of host h1 in a drawing, its ports numbered in order of name from 1.
final class Scene {
    let datapath = NotingThread()
    let thread: PacketThread
    let state = StateTable()
    private let posted: Mailbox
    /// What it told all threads.
    private(set) var broadcasts: [PacketThread.Message] = []
    /// How far its clock is ahead.
    private let passed = Time()

    private final class Time: Sendable {
        private let ahead = Mutex<UInt64>(0)
        func withLock<R>(_ body: (inout UInt64) -> R) -> R { ahead.withLock { body(&$0) } }
    }

    private final class Mailbox: Sendable {
        let messages = Mutex<[PacketThread.Message]>([])
    }

    /// Other nodes that never answer; who was written to is noted.
    final class Nowhere: StateTransport {
        let told = Mutex<[PeerID]>([])
        func send(_ bytes: [UInt8], to peer: PeerID) { told.withLock { $0.append(peer) } }
    }
    let others = Nowhere()

    /// - Parameter isReplicated: whether there are other nodes, h2 and h3, which never answer.
    init(_ topology: Topology, isReplicated: Bool = false, installsStanding: Bool = true) {
        let posted = Mailbox()
        self.posted = posted
        let replication = FlowReplication(state, over: others, onNews: { _ in }, onCompare: { _ in })
        replication.setPeers([PeerID(2), PeerID(3)])
        // Both were heard a moment ago.
        var word = ByteWriter()
        GossipFrame.rows(number: 1, bytes: []).encode(into: &word)
        for peer in [PeerID(2), PeerID(3)] { replication.receive(word.bytes, from: peer, now: monotonicNanoseconds()) }
        thread = PacketThread(
            index: 0, epoch: Scene.epoch(topology, isReplicated ? replication : nil), state: state,
            installsStanding: installsStanding, clock: { [passed] in monotonicNanoseconds() + passed.withLock { $0 } },
            broadcast: { message in posted.messages.withLock { $0.append(message) } })
        wake()
    }

    /// Ways to other hosts that do not work.
    static let avoided = AvoidedPaths()

    private static func epoch(
        _ topology: Topology, _ replication: FlowReplication? = nil, bound: [PortPath: PortNumber]? = nil
    ) -> Epoch {
        let fabric = Fabric(topology, localHost: "h1")
        let paths = fabric.localPorts.map { fabric.path($0) }.sorted()
        let numbers = paths.enumerated().map { ($0.element, PortNumber(UInt32($0.offset + 1))) }
        return Epoch(
            fabric: fabric, bound: bound ?? Dictionary(uniqueKeysWithValues: numbers),
            tunnelPorts: Dictionary(
                uniqueKeysWithValues: (topology.hosts["h1"]?.tunnelAddresses ?? [:]).filter { _ in
                    topology.hosts.count > 1
                }.map {
                    (TunnelEnd(encapsulation: .vxlan, local: $0.value), PortNumber(100))
                }), avoided: avoided, replication: replication,
            peers: replication == nil ? [:] : ["h2": PeerID(2), "h3": PeerID(3)])
    }

    /// Lets time pass, nanoseconds.
    func advance(_ nanoseconds: UInt64) {
        passed.withLock { $0 += nanoseconds }
        wake()
    }

    func wake() {
        // What the thread tells all threads it is told itself.
        for _ in 0..<4 {
            for message in posted.messages.withLock({ messages in
                let all = messages
                messages.removeAll()
                return all
            }) {
                broadcasts.append(message)
                thread.post(message)
            }
            thread.wake(datapath)
        }
    }

    /// - Parameter bound: the ports that are open here; `nil`: all that are bound here.
    func apply(_ topology: Topology, bound: [PortPath: PortNumber]? = nil) {
        let old = thread.epoch.fabric.topology
        let changed = Set((bound ?? [:]).keys).symmetricDifference(
            thread.epoch.fabric.localPorts.map { thread.epoch.fabric.path($0) })
        let tags = TopologyDifference(from: old, to: topology).tags(from: old, to: topology)
        thread.post(.epoch(Scene.epoch(topology, bound: bound), changed: tags.union(changed.map(Tag.port))))
        wake()
    }

    func send(_ frame: [UInt8], port: UInt32, tunnel: (id: UInt32, source: IPAddress)? = nil) {
        var bytes = frame
        var layout = PacketLayout()
        bytes.withUnsafeMutableBytes { raw in
            var key = FlowKey(parsing: UnsafeRawBufferPointer(raw).bytes, layout: &layout)
            key.inPort = port
            if let tunnel {
                key.tunnelID = UInt64(tunnel.id)
                key.tunnelSourceWords = (tunnel.source.high, tunnel.source.low)
            }
            thread.upcall(
                UpcallPacket(
                    cookie: 0, key: key, layout: layout, bytes: raw, offload: Offload(), length: raw.count - 14),
                datapath)
        }
    }

    /// ARP requests for an address among what was sent.
    func requests(for address: IPv4Address) -> Int {
        datapath.sent.count { sent in
            let key = sent.bytes.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                return FlowKey(parsing: bytes.bytes, layout: &layout)
            }
            return !sent.actions.isEmpty && key.etherType == EtherType.arp && key.ipProtocol == 1
                && key.ipDestination.v4 == address
        }
    }
}
