// SPDX-License-Identifier: Apache-2.0
import Linux
import Netlink
import Topology
import Wire

/// Kernel interfaces that lead to VXLAN end points of others, one for each port here that has them: the kernel wraps, unwraps, and
/// learns where stations are.
public struct VXLANDevices {
    /// What one is to be.
    public struct Plan: Sendable, Equatable {
        var end: VXLANEnd
        var local: IPv4Address
        /// Bytes of layer 3 that fit.
        var mtu: Int

        /// What a port of a host is to have; `nil`: nothing.
        public init?(_ port: Port, _ topology: Topology) {
            guard let end = port.vxlan, end.speaker == nil, let local = topology.vxlanLocal(of: port),
                let mtu = topology.vxlanMTU(of: port)
            else { return nil }
            (self.end, self.local, self.mtu) = (end, local, mtu)
        }
    }

    private static let prefix = "selx"
    /// What is there, by interface.
    private var made: [String: Plan] = [:]

    /// Nothing is made yet.
    public init() {}

    /// Makes what is wanted, by name of interface, and takes away what is not, an earlier run's as well.
    ///
    /// - Parameter others: interfaces of that kind that somebody else makes.
    /// - Returns: why some are not there, by name.
    public mutating func set(_ wanted: [String: Plan], others: Set<String> = []) -> [String: String] {
        var problems: [String: String] = [:]
        do {
            let route = try RouteNetlink()
            let links = try route.links().filter { $0.name.hasPrefix(Self.prefix) && !others.contains($0.name) }
            let present = Set(links.map(\.name))
            // What an earlier run left is taken over where it says that it is what is wanted: the kernel goes on forwarding.
            for link in links where made[link.name] == nil && wanted[link.name]?.text == link.alias {
                made[link.name] = wanted[link.name]
            }
            for name in present where !(made[name]?.isSameDevice(as: wanted[name]) ?? false) {
                try? route.remove(name)
                made[name] = nil
            }
            made = made.filter { wanted[$0.key] != nil && present.contains($0.key) }
            for (name, plan) in wanted.sorted(by: { $0.key < $1.key }) where made[name] != plan {
                do { try make(name, plan, route) } catch {
                    problems[name] = "\(error)"
                    // Half of it is none.
                    try? route.remove(name)
                    made[name] = nil
                }
            }
        } catch { for name in wanted.keys { problems[name] = "\(error)" } }
        return problems
    }

    private mutating func make(_ name: String, _ plan: Plan, _ route: RouteNetlink) throws {
        if made[name] == nil {
            try route.addVXLAN(name, identifier: plan.end.identifier, local: plan.local, port: plan.end.port)
            setSysctl("net/ipv6/conf/\(name)/disable_ipv6", "1")
            try route.setMTU(name, plan.mtu)
            try route.setUp(name)
        }
        let before = Set(made[name]?.end.remotes ?? [])
        let after = Set(plan.end.remotes)
        for remote in after.subtracting(before) { try route.setFlood(of: name, to: remote, isThere: true) }
        for remote in before.subtracting(after) { try route.setFlood(of: name, to: remote, isThere: false) }
        try route.setAlias(name, plan.text)
        made[name] = plan
    }
}

extension VXLANDevices.Plan {
    /// What tells it from others, as it is written to the interface.
    fileprivate var text: String {
        let remotes = end.remotes.map(\.description).joined(separator: ",")
        let many = remotes.utf8.count <= 128 ? remotes : String(stableHash(remotes), radix: 16)
        return "selvage vni \(end.identifier) from \(local) port \(end.port) mtu \(mtu) to \(many)"
    }

    /// Whether both differ in the other end points only.
    fileprivate func isSameDevice(as other: VXLANDevices.Plan?) -> Bool {
        guard var other else { return false }
        other.end.remotes = end.remotes
        return other == self
    }
}
