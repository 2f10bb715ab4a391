// SPDX-License-Identifier: Apache-2.0

/// Ports of all devices by name, kept so that what is asked often takes no walk over all of them: the ports of one device,
/// and those that are bound to one host.
///
/// Ports lie in a dictionary for each device: a change copies the ports of its device at most, and two tables that share
/// most of their devices are compared without looking into those.
public struct PortTable: Sendable, Equatable {
    private var devices: [DevicePath: [String: Port]] = [:]
    /// Ports by host and interface. More than one port of an interface is a mistake that validation tells.
    private var bindings: [String: [String: [PortPath]]] = [:]
    /// How many ports there are.
    public private(set) var count = 0

    /// No ports.
    public init() {}

    /// A port by its name.
    public subscript(_ path: PortPath) -> Port? {
        get { devices[path.device]?[path.name] }
        set {
            let old = devices[path.device]?[path.name]
            if let old {
                unbind(old)
                count -= 1
            }
            guard let port = newValue else {
                guard old != nil else { return }
                devices[path.device]?[path.name] = nil
                if devices[path.device]?.isEmpty == true { devices[path.device] = nil }
                return
            }
            devices[path.device, default: [:]][path.name] = port
            bind(port)
            count += 1
        }
    }

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
    public var values: some Sequence<Port> { devices.values.lazy.flatMap(\.values) }
    /// All names, in no order.
    public var keys: some Sequence<PortPath> { devices.values.lazy.flatMap { $0.values.lazy.map(\.path) } }
    /// Whether there is none.
    public var isEmpty: Bool { devices.isEmpty }

    /// The ports of a device by their own names.
    public func ports(of device: DevicePath) -> [String: Port] { devices[device] ?? [:] }

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
            // Dictionaries that share their storage are equal without a look inside.
            if old == new { continue }
            for (name, port) in old where new[name] != port { changed.insert(port.path) }
            for (name, port) in new where old[name] == nil { changed.insert(port.path) }
        }
        for (device, new) in other.devices where devices[device] == nil { changed.formUnion(new.values.map(\.path)) }
        return changed
    }
}
