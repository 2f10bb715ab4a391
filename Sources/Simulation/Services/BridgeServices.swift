// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a bridge itself answers machines, put together from what is said of it and what is on it.
struct BridgeServices: Sendable {
    var dhcp: DHCPProgram?
    var dhcpv6: DHCPv6Program?
    var advertisements: AdvertisementProgram?

    /// Whether anything is said of that.
    static func isWanted(by bridge: Bridge) -> Bool { !bridge.dhcp.isEmpty || !bridge.advertised.isEmpty }

    init(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort], mtu: Int, hosts: [String], local: String) {
        if bridge.dhcp.contains(where: { $0.subnet.family == .ipv4 }) {
            dhcp = DHCPProgram(bridge, routers, mtu: mtu, hosts: hosts, local: local)
        }
        if bridge.dhcp.contains(where: { $0.subnet.family == .ipv6 }) {
            dhcpv6 = DHCPv6Program(bridge, routers, hosts: hosts, local: local)
        }
        if !bridge.advertised.isEmpty { advertisements = AdvertisementProgram(bridge, routers, mtu: mtu) }
    }
}

extension Simulator {
    /// Answers what is asked of a bridge itself, ahead of all that filters. True when that was the end of the frame.
    mutating func answerService(_ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket) -> Bool {
        guard let services = fabric.tables.services[port.device], fabric.bridges[Int(port.device)].isEnabled else {
            return false
        }
        // Who the bridge's routers are is part of the answer.
        verdict.tags.append(fabric.bridges[Int(port.device)].stationsTag)
        // Networks of VLANs have none.
        verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
        guard !key.hasVLAN, port.vlan == 0 else { return false }
        switch key.etherType {
        case EtherType.ipv4:
            return services.dhcp.map { answerDHCP($0, index, port, packet) } ?? false
        case EtherType.ipv6:
            if let program = services.dhcpv6, answerDHCPv6(program, index, port, packet) { return true }
            return services.advertisements.map { answerRouterSolicitation($0, index) } ?? false
        default: return false
        }
    }
}
