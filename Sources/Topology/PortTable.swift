// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Wire

/// Ports of all devices by name, kept so that what is asked often takes no walk over all of them: the ports of one device,
/// and those that are bound to one host.
///
/// Ports lie in a tree for each device: a change copies a few nodes of its device's tree, and two tables that share most of
/// their devices are compared without looking into those.
public struct PortTable: Sendable, Equatable {
    private var devices: [DevicePath: TreeDictionary<String, Box>] = [:]
    /// Ports by host and interface. More than one port of an interface is a mistake that validation tells.
    private var bindings: [String: [String: [PortPath]]] = [:]
    /// How many ports of bridges have a station of a name: a MAC or an address in a VLAN, hashed. More than one is a mistake
    /// that validation tells, or a clash of hashes.
    private var stations = FingerprintCounts()
    /// Names of ports that are linked to other virtual ports, by device: few, where a device has many.
    private var links = TreeDictionary<DevicePath, Set<String>>()
    /// Ports that go through services, and what goes through each service: few, as a rule.
    public private(set) var served = TreeDictionary<PortPath, [ServiceHop]>()
    private var sharing = TreeDictionary<ServiceEnd, [ServiceUse: Int]>()
    private var serviceEnds = TreeDictionary<PortPath, Int>()
    /// Ports to the outside that have a daemon.
    public private(set) var uplinks: Set<PortPath> = []
    /// Ports in segments that are bound.
    public private(set) var shared: Set<PortPath> = []
    /// Ports that lead to VXLAN end points of others.
    public private(set) var vxlans: Set<PortPath> = []
    /// How many ports there are.
    public private(set) var count = 0

    /// A service's port, with a tag.
    private struct ServiceEnd: Hashable, Sendable {
        var port: PortPath
        var vlan: UInt16
    }

    /// Whose traffic goes there, and by which port it comes back.
    struct ServiceUse: Hashable, Sendable {
        /// The network: the bridge, and the VLAN there.
        var bridge: DevicePath
        /// See ``bridge``.
        var vlan: VLANMode
        /// The service's other port; the same where there is one only.
        var other: PortPath
    }

    /// A MAC or an address in one VLAN of one bridge.
    struct StationName: Hashable, Sendable {
        var bridge: DevicePath
        var vlan: UInt16
        /// The address; `nil` when it is the MAC that is meant.
        var address: IPAddress?
        var mac = MACAddress.zero

        /// What the index finds it by.
        var fingerprint: UInt64 {
            StationName.fingerprint(
                stableHash(bridge.tenant) &* 31 &+ stableHash(bridge.name), vlan, mac, address)
        }

        /// - Parameter bridge: a hash of the bridge's name.
        static func fingerprint(_ bridge: UInt64, _ vlan: UInt16, _ mac: MACAddress, _ address: IPAddress?) -> UInt64 {
            var hash = bridge
            func add(_ word: UInt64) {
                hash = (hash ^ word) &* 0x9e37_79b9_7f4a_7c15
                hash ^= hash >> 32
            }
            add(UInt64(vlan))
            add(mac.bits)
            add(address?.high ?? 1)
            add(address?.low ?? 1)
            return hash
        }
    }

    /// A port behind one reference: a tree's node that is copied then costs one count a port.
    private final class Box: Sendable, Equatable {
        let port: Port
        init(_ port: Port) { self.port = port }
        static func == (a: Box, b: Box) -> Bool { a === b || a.port == b.port }
    }

    /// No ports.
    public init() {}

    /// A port by its name. The port of an uplink's daemon is there with the uplink, and found by its name alone: it is in no list
    /// of what was drawn.
    public subscript(_ path: PortPath) -> Port? {
        get {
            if let port = devices[path.device]?[path.name]?.port { return port }
            return path.isDaemon ? devices[path.device]?[path.uplink.name]?.port.daemon : nil
        }
        set {
            let old = self[path]
            if old == newValue { return }
            // What a bridge's port stands for may be the router port behind its link.
            let affected = PortTable.affected(path, old, newValue)
            let before = affected.map { fingerprints(of: $0 == path ? old : self[$0]) }
            if let old {
                unbind(old)
                count -= 1
            }
            if let port = newValue {
                devices[path.device, default: [:]][path.name] = Box(port)
                bind(port)
                count += 1
            } else {
                devices[path.device]?[path.name] = nil
                if devices[path.device]?.isEmpty == true { devices[path.device] = nil }
            }
            if old?.isLinked != newValue?.isLinked { link(path, newValue?.isLinked == true) }
            if old?.services != newValue?.services || old?.vlan != newValue?.vlan { serve(path, old, newValue) }
            for (other, before) in zip(affected, before) {
                let after = fingerprints(of: other == path ? newValue : self[other])
                for name in before where !after.contains(name) { stations.remove(name) }
                for name in after where !before.contains(name) { stations.add(name) }
            }
        }
    }

    /// Ports of bridges whose stations a change of a port may change.
    private static func affected(_ path: PortPath, _ old: Port?, _ new: Port?) -> [PortPath] {
        var affected = [path]
        for port in [old, new] {
            if case .peer(let other)? = port?.attachment, other != path, !affected.contains(other) {
                affected.append(other)
            }
        }
        return affected
    }

    private func fingerprints(of port: Port?) -> [UInt64] {
        guard let port, let (station, vlan) = station(of: port) else { return [] }
        let base = stableHash(port.path.device.tenant) &* 31 &+ stableHash(port.path.device.name)
        var names = [StationName.fingerprint(base, vlan, station.mac, nil)]
        for address in PortTable.addresses(of: station) {
            let name = StationName.fingerprint(base, vlan, .zero, address)
            if !names.contains(name) { names.append(name) }
        }
        return names
    }

    /// The station at a bridge port: the router port behind a link, else the machine behind the port. What is behind a trunk
    /// is not declared, and a link to another bridge has no station.
    func station(of port: Port) -> (station: Port, vlan: UInt16)? {
        guard port.kind == .bridge, case .access(let vlan) = port.vlan else { return nil }
        guard case .peer(let other) = port.attachment else { return (port, vlan) }
        guard let peer = self[other], peer.kind == .router else { return nil }
        return (peer, vlan)
    }

    /// The addresses of a station; a router has the link-local one of its MAC as well.
    private static func addresses(of station: Port) -> [IPAddress] {
        let list = station.addresses.map(\.address)
        return station.kind == .router ? list + [IPAddress(IPv6Address.linkLocal(for: station.mac))] : list
    }

    /// The MAC and the addresses of the station at a bridge port.
    func stationNames(of port: Port) -> [StationName] {
        guard let (station, vlan) = station(of: port) else { return [] }
        var names = [StationName(bridge: port.path.device, vlan: vlan, address: nil, mac: station.mac)]
        for address in PortTable.addresses(of: station) {
            let name = StationName(bridge: port.path.device, vlan: vlan, address: address)
            if !names.contains(name) { names.append(name) }
        }
        return names
    }

    /// Whether more than one port seems to have a MAC or an address; hashes may clash.
    func mayBeShared(_ name: StationName) -> Bool { stations[name.fingerprint] > 1 }

    private mutating func link(_ path: PortPath, _ isLinked: Bool) {
        var names = links[path.device] ?? []
        if isLinked { names.insert(path.name) } else { names.remove(path.name) }
        links[path.device] = names.isEmpty ? nil : names
    }

    private mutating func serve(_ path: PortPath, _ old: Port?, _ new: Port?) {
        for (port, step) in [(old, -1), (new, 1)] {
            guard let port, !port.services.isEmpty else { continue }
            let mode = port.vlan
            for hop in port.services {
                for port in hop.ports {
                    let end = ServiceEnd(port: port, vlan: hop.vlan)
                    let use = ServiceUse(
                        bridge: path.device, vlan: mode, other: port == hop.near ? hop.far : hop.near)
                    var uses = sharing[end] ?? [:]
                    let count = (uses[use] ?? 0) + step
                    uses[use] = count > 0 ? count : nil
                    sharing[end] = uses.isEmpty ? nil : uses
                    let left = (serviceEnds[port] ?? 0) + step
                    serviceEnds[port] = left > 0 ? left : nil
                }
            }
        }
        let services = new?.services ?? []
        served[path] = services.isEmpty ? nil : services
    }

    /// Who goes through a service's port with a tag, and how many of each.
    func sharing(_ port: PortPath, _ vlan: UInt16) -> [ServiceUse: Int] {
        sharing[ServiceEnd(port: port, vlan: vlan)] ?? [:]
    }

    /// Whether others' traffic goes through what is behind a port.
    public func isService(_ port: PortPath) -> Bool { serviceEnds[port] != nil }

    /// The ports of a device that are linked to other virtual ports, in no order.
    public func linked(of device: DevicePath) -> some Sequence<Port> {
        (links[device] ?? []).lazy.compactMap { self[PortPath(device: device, name: $0)] }
    }

    private mutating func bind(_ port: Port) {
        guard case .exterior(let host, let interface) = port.attachment else { return }
        bindings[host, default: [:]][interface, default: []].append(port.path)
        if port.segment != nil { shared.insert(port.path) }
        if port.vxlan != nil { vxlans.insert(port.path) }
        if let daemon = port.daemon {
            bindings[host, default: [:]][port.path.daemonInterface, default: []].append(daemon.path)
            uplinks.insert(port.path)
        }
    }

    private mutating func unbind(_ port: Port) {
        guard case .exterior(let host, let interface) = port.attachment else { return }
        let daemon = port.daemon.map { ($0.path, port.path.daemonInterface) }
        for (path, interface) in [(port.path, interface), daemon].compactMap(\.self) {
            bindings[host]?[interface]?.removeAll { $0 == path }
            if bindings[host]?[interface]?.isEmpty == true { bindings[host]?[interface] = nil }
        }
        uplinks.remove(port.path)
        shared.remove(port.path)
        vxlans.remove(port.path)
        if bindings[host]?.isEmpty == true { bindings[host] = nil }
    }

    /// All ports, in no order.
    public var values: some Sequence<Port> { devices.values.lazy.flatMap { $0.values.lazy.map(\.port) } }
    /// All names, in no order.
    public var keys: some Sequence<PortPath> { devices.values.lazy.flatMap { $0.values.lazy.map(\.port.path) } }
    /// Whether there is none.
    public var isEmpty: Bool { devices.isEmpty }

    /// The ports of a device, in no order.
    public func ports(of device: DevicePath) -> some Sequence<Port> { (devices[device] ?? [:]).values.lazy.map(\.port) }

    /// How many ports a device has.
    public func count(of device: DevicePath) -> Int { devices[device]?.count ?? 0 }

    /// Names of the ports that are bound to interfaces of a host.
    public func bound(to host: String) -> [String: [PortPath]] { bindings[host] ?? [:] }

    /// Names of the ports that are bound to an interface of a host: one at most, where everything is right.
    public func bound(to host: String, interface: String) -> [PortPath] { bindings[host]?[interface] ?? [] }

    /// Whether they hold the same ports. The order in which ports were bound does not matter.
    public static func == (a: PortTable, b: PortTable) -> Bool { a.devices == b.devices }

    /// Names of ports that are not the same in both, with those of the daemons of uplinks.
    func changes(to other: PortTable) -> Set<PortPath> {
        var changed = drawnChanges(to: other)
        for path in uplinks.union(other.uplinks) where changed.contains(path) && self[path.daemon] != other[path.daemon]
        {
            changed.insert(path.daemon)
        }
        return changed
    }

    private func drawnChanges(to other: PortTable) -> Set<PortPath> {
        var changed: Set<PortPath> = []
        for (device, old) in devices {
            let new = other.devices[device] ?? [:]
            // What shares its storage is equal without a look inside.
            if old == new { continue }
            for (name, box) in old where new[name] != box { changed.insert(box.port.path) }
            for (name, box) in new where old[name] == nil { changed.insert(box.port.path) }
        }
        for (device, new) in other.devices where devices[device] == nil {
            changed.formUnion(new.values.map(\.port.path))
        }
        return changed
    }
}

extension Port {
    fileprivate var isLinked: Bool { if case .peer = attachment { true } else { false } }
}
