// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What the daemon of an uplink is to do, as the topology says.
public struct UplinkPlan: Sendable, Equatable {
    /// The uplink.
    public var path: PortPath
    /// Its MAC, by which the daemon is known to neighbors.
    public var mac: MACAddress
    /// Its addresses.
    public var addresses: [InterfaceAddress]
    /// The physical interface, whose MTU the daemon has.
    public var interface: String
    /// What its router says of itself; `nil` where only the operator's own part of the configuration says something.
    public var speaker: BGPSpeaker?
    /// Whom it speaks with.
    public var uplink: Uplink

    /// What a port of this host is to do; `nil` for one without a daemon.
    public init?(_ port: Port, _ topology: Topology) {
        guard let uplink = port.uplink, port.isEnabled, case .exterior(_, let interface) = port.attachment,
            let router = topology.routers[port.path.device], router.isEnabled
        else { return nil }
        path = port.path
        mac = port.mac
        addresses = port.addresses
        self.interface = interface
        speaker = router.bgp
        self.uplink = uplink
    }

    /// What the daemon is known by among routers: said, or its first IPv4 address, or a number made of its name.
    public var identifier: IPv4Address {
        if let identifier = speaker?.identifier { return identifier }
        for address in addresses { if let v4 = address.address.v4 { return v4 } }
        return IPv4Address(bits: UInt32(truncatingIfNeeded: stableHash("router \(path)")) | 1)
    }
}
