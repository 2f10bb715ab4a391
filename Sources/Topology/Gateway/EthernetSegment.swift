// SPDX-License-Identifier: Apache-2.0
import Wire

/// That a bridge's port leads to the same network outside as other ports of the bridge do, on the same host or on others: one of
/// them at a time carries ("single-active", RFC 7432 section 14.1.1), so that there is no loop.
public struct EthernetSegment: Sendable, Hashable {
    /// Its name, in its bridge.
    public var name: String
    /// The port that works and has the highest one carries; of those that have the same the first by name. 0 to 65535.
    public var preference: UInt16

    /// A port's part in a segment.
    public init(name: String, preference: UInt16 = 100) { (self.name, self.preference) = (name, preference) }
}

extension Topology {
    /// Ports of the segment that a port is in, in order of name; none where it is in none.
    public func members(ofSegmentAt path: PortPath) -> [Port] {
        guard let segment = ports[path]?.segment else { return [] }
        return ports(of: path.device).filter { $0.segment?.name == segment.name }
    }

    /// What is wrong with a port's part in a segment.
    func checkSegment(of port: Port, _ found: inout [Problem]) {
        guard let segment = port.segment else { return }
        func problem(_ text: String, _ remedy: String) { found.append(Problem(port.path, text, remedy: remedy)) }
        guard port.kind == .bridge else {
            return problem("is a router's port in segment \(segment.name)", "put it at a bridge, or remove segment")
        }
        if !isValidName(segment.name) {
            problem("segment \"\(segment.name)\" is no name", "use letters, digits, - and _")
        }
        if case .peer = port.attachment {
            problem(
                "is a link in segment \(segment.name)",
                "only ports that are bound to an interface lead to a network outside")
        }
        if !port.addresses.isEmpty {
            problem("is in segment \(segment.name) and has addresses", "a network has no address: remove them")
        }
        if ports.isService(port.path) || !port.services.isEmpty {
            problem("is in segment \(segment.name) and has services", "put them at the ports of machines")
        }
        // Said once, at the later one.
        if let other = members(ofSegmentAt: port.path).first(where: {
            $0.path < port.path && $0.vlan != port.vlan
        }) {
            problem(
                "is in segment \(segment.name) with \(other.path), which has other VLANs",
                "give both the same vlan or trunk: they lead to one network")
        }
    }
}
