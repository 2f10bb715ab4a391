// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// When a host asks machines which groups they joined: soon after their port is here, once more, and then now and then. A value,
/// stepped by times.
public struct GroupSchedule: Sendable {
    private struct Entry {
        var next: UInt64
        var count = 0
    }
    private var ports: [Tag: Entry] = [:]
    /// The first time that something is due; nanoseconds.
    public private(set) var next = UInt64.max

    private static let second: UInt64 = 1_000_000_000
    /// How soon a port is asked that was not before.
    private static let delay = second / 5
    /// How soon it is asked again (RFC 3376 section 8.6).
    private static let again = UInt64(GroupTimes.interval) * second / 4
    /// VLANs of a trunk that are asked.
    fileprivate static let vlans = 32

    /// A schedule of a host that has asked nobody.
    public init() {}

    /// Takes note of a fabric.
    public mutating func note(_ fabric: Fabric, now: UInt64) {
        let wanted = fabric.tables.services.values.contains { $0.multicast?.asks == true }
        if ports.isEmpty && !wanted { return }
        var asked: Set<Tag> = []
        for port in fabric.localPorts {
            let record = fabric.ports[Int(port.value)]
            guard !record.isRouter, record.isEnabled,
                fabric.tables.services[record.device]?.multicast?.asks == true
            else { continue }
            asked.insert(record.tag)
            if ports[record.tag] == nil { ports[record.tag] = Entry(next: now &+ GroupSchedule.delay) }
        }
        for tag in ports.keys where !asked.contains(tag) { ports[tag] = nil }
        next = ports.values.map(\.next).min() ?? .max
    }

    /// What is due: frames, and the ports of this host that they leave by. Nobody is asked where a router does so.
    public mutating func due(
        _ fabric: Fabric, _ state: some FlowStateView, now: UInt64
    ) -> [(port: PortIndex, frames: [[UInt8]])] {
        if now < next { return [] }
        var list: [(port: PortIndex, frames: [[UInt8]])] = []
        for (tag, entry) in ports where entry.next <= now &+ GroupSchedule.second {
            var entry = entry
            entry.count += 1
            // Hosts that began at once do not go on at once.
            let longest = UInt64(GroupTimes.interval) * GroupSchedule.second
            entry.next =
                entry.count == 1
                ? now &+ GroupSchedule.again
                : now &+ longest / 4 * 3 &+ mix(now ^ tag.bits | 1, 0x9f07_0000_0000_0029) % (longest / 4)
            ports[tag] = entry
            guard let index = fabric.port(tag) else { continue }
            let frames = fabric.groupQueries(at: index, state)
            if !frames.isEmpty { list.append((index, frames)) }
        }
        next = ports.values.map(\.next).min() ?? .max
        return list.sorted { $0.port.value < $1.port.value }
    }
}

extension Fabric {
    /// Questions to the machines of a port, as the port takes them.
    fileprivate func groupQueries(at index: PortIndex, _ state: some FlowStateView) -> [[UInt8]] {
        let port = ports[Int(index.value)]
        guard let mac = tables.services[port.device]?.querier else { return [] }
        let bridge = bridges[Int(port.device)].tag
        var frames: [[UInt8]] = []
        func ask(_ vlan: UInt16, isTagged: Bool) {
            for family in [AddressFamily.ipv4, .ipv6] {
                let none = IPAddress(high: 0, low: 0, family: family)
                guard state.members(of: none, vlan: vlan, bridge: bridge).isEmpty else { continue }
                let frame = Frame.groupQuery(
                    from: mac, family, tenths: GroupTimes.answer, interval: GroupTimes.interval)
                frames.append(isTagged ? Frame.tagged(frame, vlan: vlan) : frame)
            }
        }
        if port.vlan != PortRecord.noVLAN { ask(port.vlan, isTagged: false) }
        if port.vlanKind == .trunk, port.trunkSet >= 0 {
            let set = Int(port.trunkSet)
            let tagged = (1..<4095).lazy.filter { self.trunkSets[set + $0 / 64] >> UInt64($0 % 64) & 1 == 1 }
            for vlan in tagged.prefix(GroupSchedule.vlans) where UInt16(vlan) != port.vlan {
                ask(UInt16(vlan), isTagged: true)
            }
        }
        return frames
    }
}
