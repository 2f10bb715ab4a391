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

    init?(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort]) {
        guard let service = bridge.names else { return nil }
        self.service = service
        var networks = bridge.subnets
        for subnet in bridge.dhcp where !networks.contains(subnet.subnet) { networks.append(subnet.subnet) }
        let own = Port.derivedMAC(of: "dhcp \(bridge.path)")
        servers = networks.compactMap { network in
            func server(_ address: IPAddress) -> Server {
                let router = routers.first { $0.addresses.contains { $0.address == address } }
                return Server(address: address, mac: router?.mac ?? own, isOwn: router == nil)
            }
            // Where neither is said and no router is known, any address may be that of somebody else.
            if let said = service.servers.first(where: { network.contains($0) }) { return server(said) }
            let near = routers.lazy.flatMap(\.addresses).first { network.contains($0.address) }
            if let near { return server(near.address) }
            return bridge.dhcp.first { $0.subnet == network }?.server.map(server)
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
