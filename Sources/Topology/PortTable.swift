// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Wire

/// Ports of all devices by name, kept so that what is asked often takes no walk over all of them: the ports of one device,
/// and those that are bound to one host.
///
/// Ports lie in a tree for each device: a change copies a few nodes of its device's tree, and two tables that share most of
/// their devices are compared without looking into those.
public struct PortTable: Sendable, Equatable {
    private var devices: [DevicePath: TreeDictionary<String, Port>] = [:]
    /// Ports by host and interface. More than one port of an interface is a mistake that validation tells.
    private var bindings: [String: [String: [PortPath]]] = [:]
    /// Which ports of a bridge have a MAC or an address, in order of name. More than one is a mistake that validation tells.
    private var stations = TreeDictionary<StationName, [PortPath]>()
    /// How many ports there are.
    public private(set) var count = 0

    /// A MAC or an address in one VLAN of one bridge.
    struct StationName: Hashable, Sendable {
        var bridge: DevicePath
        var vlan: UInt16
        /// The address; `nil` when it is the MAC that is meant.
        var address: IPAddress?
        var mac = MACAddress.zero
    }

    /// No ports.
    public init() {}

    /// A port by its name.
    public subscript(_ path: PortPath) -> Port? {
        get { devices[path.device]?[path.name] }
        set {
            let old = devices[path.device]?[path.name]
            if old == newValue { return }
            // What a bridge's port stands for may be the router port behind its link.
            var affected = [path]
            for port in [old, newValue] {
                if case .peer(let other)? = port?.attachment, other != path, !affected.contains(other) {
                    affected.append(other)
                }
            }
            for path in affected { for name in stationNames(at: path) { removeStation(name, path) } }
            if let old {
                unbind(old)
                count -= 1
            }
            if let port = newValue {
                devices[path.device, default: [:]][path.name] = port
                bind(port)
                count += 1
            } else {
                devices[path.device]?[path.name] = nil
                if devices[path.device]?.isEmpty == true { devices[path.device] = nil }
            }
            for path in affected { for name in stationNames(at: path) { stations[name, default: []].insert(sorted: path) } }
        }
    }

    /// The station at a bridge port: the router port behind a link, else the machine behind the port. What is behind a trunk
    /// is not declared, and a link to another bridge has no station.
    func station(at path: PortPath) -> (station: Port, vlan: UInt16)? {
        guard let port = self[path], port.kind == .bridge, case .access(let vlan) = port.vlan else { return nil }
        guard case .peer(let other) = port.attachment else { return (port, vlan) }
        guard let peer = self[other], peer.kind == .router else { return nil }
        return (peer, vlan)
    }

    /// The MAC and the addresses of the station at a bridge port.
    func stationNames(at path: PortPath) -> [StationName] {
        guard let (station, vlan) = station(at: path) else { return [] }
        var names = [StationName(bridge: path.device, vlan: vlan, address: nil, mac: station.mac)]
        for address in station.addresses {
            let name = StationName(bridge: path.device, vlan: vlan, address: address.address)
            if !names.contains(name) { names.append(name) }
        }
        return names
    }

    private mutating func removeStation(_ name: StationName, _ path: PortPath) {
        stations[name]?.removeAll { $0 == path }
        if stations[name]?.isEmpty == true { stations[name] = nil }
    }

    /// The ports that have a MAC or an address, in order of name.
    func holders(of name: StationName) -> [PortPath] { stations[name] ?? [] }

    private mutating func bind(_ port: Port) {
        guard case .exterior(let host, let interface) = port.attachment else { return }
        bindings[host, default: [:]][interface, default: []].append(port.path)
    }

    private mutating func unbind(_ port: Port) {
        guard case .exterior(let host, let interface) = port.attachment else { return }
        bindings[host]?[interface]?.removeAll { $0 == port.path }
        if bindings[host]?[interface]?.isEmpty == true { bindings[host]?[interface] = nil }
        if bindings[host]?.isEmpty == true { bindings[host] = nil }
    }

    /// All ports, in no order.
    public var values: some Sequence<Port> { devices.values.lazy.flatMap { $0.values } }
    /// All names, in no order.
    public var keys: some Sequence<PortPath> { devices.values.lazy.flatMap { $0.values.lazy.map(\.path) } }
    /// Whether there is none.
    public var isEmpty: Bool { devices.isEmpty }

    /// The ports of a device, in no order.
    public func ports(of device: DevicePath) -> some Sequence<Port> { (devices[device] ?? [:]).values }

    /// How many ports a device has.
    public func count(of device: DevicePath) -> Int { devices[device]?.count ?? 0 }

    /// Names of the ports that are bound to interfaces of a host.
    public func bound(to host: String) -> [String: [PortPath]] { bindings[host] ?? [:] }

    /// Names of the ports that are bound to an interface of a host: one at most, where everything is right.
    public func bound(to host: String, interface: String) -> [PortPath] { bindings[host]?[interface] ?? [] }

    /// Whether they hold the same ports. The order in which ports were bound does not matter.
    public static func == (a: PortTable, b: PortTable) -> Bool { a.devices == b.devices }

    /// Names of ports that are not the same in both.
    func changes(to other: PortTable) -> Set<PortPath> {
        var changed: Set<PortPath> = []
        for (device, old) in devices {
            let new = other.devices[device] ?? [:]
            // What shares its storage is equal without a look inside.
            if old == new { continue }
            for (name, port) in old where new[name] != port { changed.insert(port.path) }
            for (name, port) in new where old[name] == nil { changed.insert(port.path) }
        }
        for (device, new) in other.devices where devices[device] == nil { changed.formUnion(new.values.map(\.path)) }
        return changed
    }
}

extension [PortPath] {
    fileprivate mutating func insert(sorted path: PortPath) {
        insert(path, at: firstIndex { path < $0 } ?? count)
    }
}
