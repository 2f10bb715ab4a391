// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Where a bridge answers for names.
final class NameProgram: Sendable {
    /// An address that is asked.
    struct Server: Sendable, Equatable {
        var address: IPAddress
        var mac: MACAddress
        /// Whether the bridge says that it has it, for nobody else does.
        var isOwn: Bool
    }

    let service: NameService
    let servers: [Server]

    init?(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort], _ dhcp: DHCPProgram?) {
        guard let service = bridge.names else { return nil }
        self.service = service
        var networks = bridge.subnets
        for subnet in bridge.dhcp where !networks.contains(subnet.subnet) { networks.append(subnet.subnet) }
        let own = Port.derivedMAC(of: "dhcp \(bridge.path)")
        servers = networks.compactMap { network in
            for port in routers {
                if let near = port.addresses.first(where: { network.contains($0.address) }) {
                    return Server(address: near.address, mac: port.mac, isOwn: false)
                }
            }
            if let told = dhcp?.networks.first(where: { $0.subnet.subnet == network }) {
                // What belongs to a router that the topology does not know is that router's.
                if told.subnet.server == nil, told.subnet.router != nil { return nil }
                return Server(address: IPAddress(told.server), mac: told.serverMAC, isOwn: true)
            }
            return Server(address: network.address.advanced(by: 1), mac: own, isOwn: true)
        }
    }

    /// The server of a network, for its machines.
    func server(of network: Prefix) -> IPAddress? { servers.first { network.contains($0.address) }?.address }
}

/// A question that others are to be asked, and where its answer goes.
public struct NameQuestion: Sendable {
    /// The question.
    public var query: DNSQuery
    /// Who is asked, one after the other.
    public var resolvers: [IPAddress]
    /// The tenant whose machine asks.
    public var tenant: Tag
    /// The port where it asked.
    public var port: Tag
    var macs: (server: MACAddress, client: MACAddress)
    var addresses: (server: IPAddress, client: IPAddress)
    var clientPort: UInt16

    /// An answer as the machine gets it.
    public func frame(_ answer: [UInt8]) -> [UInt8] {
        Frame.udp(
            etherSource: macs.server, etherDestination: macs.client, source: addresses.server,
            destination: addresses.client, sourcePort: DNSQuery.port, destinationPort: clientPort, data: answer)
    }
}
