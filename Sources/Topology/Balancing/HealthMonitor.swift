// SPDX-License-Identifier: Apache-2.0
import Wire

/// How members of a pool are checked, from inside the network of each router that sends connections to them. A member that does
/// not answer as it should gets no new connections until it does.
public struct HealthMonitor: Sendable, Hashable {
    /// What is asked of a member.
    public enum Kind: String, Sendable, CaseIterable {
        /// That it takes a TCP connection.
        case tcp
        /// That it answers an HTTP/1.1 request with a status among ``HealthMonitor/statuses``.
        case http
        /// The same by TLS, whatever its certificate.
        case https
        /// That a UDP datagram is answered, or neither that nor an error comes back and it answers an echo request.
        case udp
        /// That it answers an echo request.
        case ping
    }

    /// What is asked.
    public var kind: Kind
    /// The port that is asked; `nil`: the member's own.
    public var port: UInt16?
    /// The path of a request.
    public var path = "/"
    /// The name that a request is for; `nil`: the member's address.
    public var host: String?
    /// Statuses that are good.
    public var statuses: [ClosedRange<UInt16>] = [200...299]
    /// From one check to the next, milliseconds; ``times``.
    public var delay: UInt32 = 2000
    /// How long an answer may take, milliseconds; ``times``, and not longer than ``delay``.
    public var timeout: UInt32 = 1000
    /// Good answers in a row that bring a member back; ``counts``.
    public var rise: UInt8 = 2
    /// Checks in a row that fail before a member gets nothing new; ``counts``.
    public var fall: UInt8 = 3

    /// What ``delay`` and ``timeout`` may be, milliseconds.
    public static let times: ClosedRange<UInt32> = 100...3_600_000
    /// What ``rise`` and ``fall`` may be.
    public static let counts: ClosedRange<UInt8> = 1...50
    /// The longest ``path``, bytes.
    public static let longestPath = 1024

    /// A monitor with the usual times.
    public init(_ kind: Kind) { self.kind = kind }

    /// Whether it asks by a port.
    public var hasPort: Bool { kind != .ping }
    /// Whether it asks by HTTP.
    public var isHTTP: Bool { kind == .http || kind == .https }
}

extension Port {
    /// The name of the port of a router behind which its pools' members are checked. The cluster makes it, on a host that it
    /// chooses, and makes it anew elsewhere when that host is gone.
    public static let monitorName = "selvage-monitor"

    /// Whether it is such a port.
    public var isMonitor: Bool { kind == .router && path.isMonitor }

    /// The port of a router on a host behind which its members are checked.
    public init(monitorOf router: DevicePath, on host: String) {
        self.init(path: PortPath(device: router, name: Port.monitorName), kind: .router)
        attachment = .exterior(host: host, interface: Port.monitorInterface(router))
        addresses = Port.monitorAddresses
    }

    /// The router's own addresses towards those who check: private to the link (RFC 7335 for IPv4; a unique local network). What
    /// is asked has the address of the router in the member's network.
    public static let monitorAddresses: [InterfaceAddress] = [
        InterfaceAddress(IPAddress(IPv4Address(bits: 0xc000_0001)), length: 30),
        InterfaceAddress(IPAddress(high: 0xfdc0_5e1f_a9e0_0000, low: 1, family: .ipv6), length: 64),
    ]
    /// The addresses of those who check.
    public static let monitorSources: [InterfaceAddress] = [
        InterfaceAddress(IPAddress(IPv4Address(bits: 0xc000_0002)), length: 30),
        InterfaceAddress(IPAddress(high: 0xfdc0_5e1f_a9e0_0000, low: 2, family: .ipv6), length: 64),
    ]

    /// The MAC of those who check: the same on every host, so that what is known of it stays true when another one checks.
    public static func monitorMAC(_ router: DevicePath) -> MACAddress {
        derivedMAC(of: "those who check for \(router)")
    }

    /// The interface on the host.
    public static func monitorInterface(_ router: DevicePath) -> String {
        let digits = String(stableHash("monitor \(router)") & 0xff_ffff_ffff, radix: 16)
        return "selm" + String(repeating: "0", count: 10 - digits.count) + digits
    }
}

extension PortPath {
    /// Whether its name is that of a router's port for checks.
    public var isMonitor: Bool { name == Port.monitorName }
}

extension Topology {
    /// Pools behind addresses of a router whose members are to be checked, in order of name.
    public func monitored(by router: Router) -> [Pool] {
        Set(router.translation.virtual.map(\.pool)).sorted().compactMap { name in
            pools[DevicePath(tenant: router.path.tenant, name: name)].flatMap { $0.monitor == nil ? nil : $0 }
        }
    }

    /// What has to change so that each router whose members are to be checked has a port for that, on a host that is there.
    ///
    /// - Parameters:
    ///   - present: hosts that can be reached.
    /// - Returns: what each port is to be; `nil`: gone.
    public func monitorChanges(present: Set<String>) -> [PortPath: Port?] {
        var changes: [PortPath: Port?] = [:]
        for router in routers.values {
            let path = PortPath(device: router.path, name: Port.monitorName)
            let port = ports[path]
            guard !monitored(by: router).isEmpty else {
                if port != nil { changes[path] = .some(nil) }
                continue
            }
            if case .exterior(let host, _)? = port?.attachment, present.contains(host), hosts[host] != nil { continue }
            // Each router has an order of its own, so that not all are on one host.
            let best = present.filter { hosts[$0] != nil }
                .max { stableHash("\(router.path) \($0)") < stableHash("\(router.path) \($1)") }
            guard let best else { continue }
            var wanted = Port(monitorOf: router.path, on: best)
            wanted.tunnelKey = port?.tunnelKey ?? 0
            changes[path] = wanted
        }
        return changes
    }
}
