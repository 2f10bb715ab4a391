// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import TestSupport
import Topology
import Wire

/// A host's simulation of a drawing: packets in, verdicts in words out.
final class Host {
    let fabric: Fabric
    let state: TableState

    convenience init(_ text: String, host: String = "h1") throws {
        self.init(topology: try draw(text), state: TableState(), host: host)
    }

    init(topology: Topology, state: TableState, host: String = "h1") {
        fabric = Fabric(topology, localHost: host)
        self.state = state
    }

    init(_ fabric: Fabric, _ state: TableState) {
        self.fabric = fabric
        self.state = state
    }

    func port(_ name: String) -> PortIndex {
        guard let path = PortPath(name), let index = fabric.port(path) else { preconditionFailure("no port \(name)") }
        return index
    }

    func mac(_ name: String) -> MACAddress {
        PortPath(name).flatMap { fabric.topology.ports[$0]?.mac } ?? .zero
    }

    /// Simulates a frame that comes in at a port.
    func send(_ frame: [UInt8], at name: String) -> Verdict {
        var simulator = Simulator(fabric: fabric, state: state)
        simulator.isTracing = true
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            let length = layout.networkLength > 0 ? layout.networkLength : max(0, bytes.count - Int(layout.network))
            simulator.simulate(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: length), at: port(name))
        }
        return simulator.verdict
    }

    /// Simulates a frame that comes by tunnel.
    func arrive(_ frame: [UInt8], key tunnelKey: UInt32) -> Verdict {
        var simulator = Simulator(fabric: fabric, state: state)
        simulator.isTracing = true
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            simulator.simulateArrival(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                key: tunnelKey)
        }
        return simulator.verdict
    }

    /// Simulates a key alone.
    func decide(_ key: FlowKey, at index: PortIndex) -> Verdict {
        var simulator = Simulator(fabric: fabric, state: state)
        simulator.isTracing = true
        var layout = PacketLayout()
        layout.networkLength = 20
        simulator.simulate(SimulatedPacket(key: key, layout: layout, bytes: RawSpan(), length: 0), at: index)
        return simulator.verdict
    }

    /// Outputs as `port` or `host key`.
    func outputs(_ verdict: Verdict) -> [String] {
        verdict.outputs.map { output in
            switch output.destination {
            case .local(let port): return fabric.path(port).description
            case .remote(let host, let key):
                let port = fabric.topology.ports.values.first { $0.tunnelKey == key }?.path.description
                let bridge = fabric.topology.bridges.values.first { $0.floodKey == key }.map { "flood \($0.path)" }
                return "\(fabric.name(host)) \(port ?? bridge ?? "?")"
            }
        }
    }

    /// An IPv4 or IPv6 echo request from a port's machine to its neighbor or gateway.
    func ping(
        _ from: String, to destination: String, via gateway: String? = nil, ttl: UInt8 = 64, source: String? = nil
    ) -> [UInt8] {
        let target = address(destination)
        let own = PortPath(from).flatMap { fabric.topology.ports[$0] }
        let from = source.map(address) ?? own?.addresses.map(\.address).first { $0.family == target.family } ?? target
        return Frame.icmp(
            etherSource: own?.mac ?? .zero, etherDestination: gateway.map(mac) ?? .zero, source: from,
            destination: target,
            type: target.family == .ipv4 ? 8 : 128, code: 0, rest: 1, data: [1, 2, 3, 4], ttl: ttl)
    }
}

func address(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure("no address \(text)") }
    return address
}

func parsedPrefix(_ text: String) -> Prefix {
    guard let prefix = try? Prefix(parsing: text) else { preconditionFailure("no network \(text)") }
    return prefix
}

/// The key of a frame.
func parse(_ frame: [UInt8]) -> FlowKey {
    var layout = PacketLayout()
    return frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
}

/// A state that tests fill.
final class TableState: FlowStateView {
    private let macs = Mutex<[Tag: Tag]>([:])
    private let neighbors = Mutex<[Tag: NeighborState]>([:])
    let connections = Mutex(ConnectionTable(seed: 7, limit: 10_000))
    let translations = Mutex(TranslationTable(seed: 7, limit: 10_000))
    private let fragments = Mutex<[Fragment: ConnectionTuple]>([:])

    private let leases = Mutex<[Tag: Lease]>([:])
    private let holders = Mutex<[UInt64: IPAddress]>([:])
    func address(of client: UInt64, bridge: Tag) -> IPAddress? { holders.withLock { $0[client] } }
    func lease(of address: IPAddress, bridge: Tag) -> Lease? {
        leases.withLock { $0[.neighbor(address, port: bridge)] }
    }
    private let leasePorts = Mutex<[Tag: Tag]>([:])
    private let leasedAt = Mutex<[Tag: [IPAddress]]>([:])
    func leasedAddress(at port: Tag, family: AddressFamily) -> IPAddress? {
        leasedAt.withLock { $0[port]?.last { $0.family == family } }
    }
    func port(leasing address: IPAddress, bridge: Tag) -> Tag? {
        leasePorts.withLock { $0[.neighbor(address, port: bridge)] }
    }
    private let turns = Mutex<[Tag: UInt64]>([:])
    private let members = Mutex<[Tag: UInt64]>([:])
    /// Members that checks found ill, by identity.
    let ill = Mutex<Set<UInt64>>([])
    func health(of member: UInt64, pool: Tag) -> MemberHealth? {
        ill.withLock { $0.contains(member) ? MemberHealth(isUp: false, .refused, since: 1) : nil }
    }
    func turn(of pool: Tag) -> UInt64 { turns.withLock { $0[pool] ?? 0 } }
    func member(of client: IPAddress, pool: Tag) -> UInt64? {
        members.withLock { $0[.neighbor(client, port: pool)] }
    }
    func connections(to address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int {
        translations.withLock { $0.connections(to: address, port: port, ipProtocol: ipProtocol, zone: zone) }
    }

    private let groups = Mutex<[GroupMember: UInt32]>([:])
    func members(of group: IPAddress, vlan: UInt16, bridge: Tag) -> [GroupMember] {
        groups.withLock { groups in
            groups.keys.filter { $0.group == group && $0.vlan == vlan && $0.bridge == bridge }
        }
    }
    func isMember(_ member: GroupMember) -> Bool { groups.withLock { $0[member] != nil } }
    /// Ends what is leaving.
    func forgetLeft() { groups.withLock { $0 = $0.filter { $0.value != GroupTimes.left } } }

    /// Hosts where nothing arrives.
    let dead = Mutex<Set<Tag>>([])
    func canReach(_ host: Tag) -> Bool { !dead.withLock { $0.contains(host) } }

    private struct Fragment: Hashable {
        var name: FragmentName
        var zone: Tag
    }

    /// Gives this host blocks of ports.
    func lease(_ router: String, _ address: IPAddress, _ blocks: [UInt32]) {
        guard let path = DevicePath(router) else { return }
        translations.withLock {
            $0.ports.set(TranslationPorts.Key(zone: .router(path), address: address), blocks, now: 1)
        }
    }

    func translation(_ tuple: ConnectionTuple, zone: Tag) -> TranslationMatch? {
        translations.withLock { $0.find(tuple, zone: zone, now: 1) }
    }

    func source(for wish: SourceWish) -> SourceChoice { translations.withLock { $0.choose(wish) } }

    func sourcePort(keeping tuple: ConnectionTuple, of original: ConnectionTuple, zone: Tag) -> UInt16? {
        translations.withLock { $0.port(keeping: tuple, of: original, zone: zone) }
    }

    func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple? {
        fragments.withLock { $0[Fragment(name: name, zone: zone)] }
    }

    func learn(_ learned: Learned) {
        switch learned {
        case .mac(_, _, _, let port): macs.withLock { $0[learned.tag] = port }
        case .neighbor(_, let mac, _): neighbors.withLock { $0[learned.tag] = .at(mac) }
        case .connection(let tuple, let zone, let flags):
            connections.withLock { _ = $0.note(tuple, zone: zone, flags: flags, now: 1) }
        case .translation(let use, let flags):
            let outcome = translations.withLock {
                $0.note(use.original, use.reply, zone: use.zone, isReturn: use.isReturn, flags: flags, now: 1)
            }
            guard outcome == .new, let balance = use.balance else { return }
            turns.withLock { $0[balance.pool, default: 0] += 1 }
            if balance.seconds > 0 {
                members.withLock { $0[.neighbor(balance.client, port: balance.pool)] = balance.member }
            }
        case .lease(let address, let bridge, let port, let lease):
            leasePorts.withLock { $0[.neighbor(address, port: bridge)] = lease.client == 0 ? nil : port }
            leasedAt.withLock { $0[port, default: []].append(address) }
            leases.withLock { $0[.neighbor(address, port: bridge)] = lease.seconds > 1 ? lease : nil }
            holders.withLock { holders in
                for (client, held) in holders where held == address { holders[client] = nil }
                if lease.client != 0 { holders[lease.client] = address }
            }
        case .member(let member, let seconds): groups.withLock { $0[member] = seconds }
        case .fragment(let name, let zone, let tuple):
            fragments.withLock { $0[Fragment(name: name, zone: zone)] = tuple }
        }
    }

    func set(_ mac: MACAddress, vlan: UInt16, bridge: Tag, at port: Tag) {
        macs.withLock { $0[.mac(mac, vlan: vlan, bridge: bridge)] = port }
    }

    func set(_ neighbor: NeighborState, _ address: IPAddress, port: Tag) {
        neighbors.withLock { $0[.neighbor(address, port: port)] = neighbor }
    }

    func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag? {
        macs.withLock { $0[.mac(mac, vlan: vlan, bridge: bridge)] }
    }

    func connection(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16) -> ConnectionMatch? {
        connections.withLock { $0.find(tuple, zone: zone, flags: flags, now: 1) }
    }

    func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool {
        connections.withLock { $0.hasConnections(pair, zone: zone) }
    }

    func neighbor(_ address: IPAddress, port: Tag) -> NeighborState {
        neighbors.withLock { $0[.neighbor(address, port: port)] ?? .unknown }
    }
}
