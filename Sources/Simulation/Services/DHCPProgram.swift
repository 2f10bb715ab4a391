// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a bridge's machines are told of addresses, put together from what is said of the bridge and what is on it.
final class DHCPProgram: Sendable {
    /// A router's port on the bridge.
    struct RouterPort {
        var addresses: [InterfaceAddress]
        var mac: MACAddress
        /// Its place in the fabric.
        var index: Int32
    }

    /// One network.
    struct Network: Sendable {
        var subnet: DHCPSubnet
        /// Where answers come from.
        var server: IPv4Address
        var serverMAC: MACAddress
        /// Whether the bridge answers for the server's address, which nobody has.
        var answersForServer: Bool
        var pool: AddressPool
        var hosts: [MACAddress: DHCPHost]
        /// What everybody is told, and in which order.
        var options: [UInt8: [UInt8]]
        var order: [UInt8]
    }

    let networks: [Network]
    let share: AddressShare

    init(_ bridge: Bridge, _ routers: [RouterPort], mtu: Int, hosts: [String], local: String) {
        share = AddressShare(of: local, among: hosts)
        let own = Port.derivedMAC(of: "dhcp \(bridge.path)")
        networks = bridge.dhcp.filter { $0.subnet.family == .ipv4 }.map { subnet in
            let near = routers.flatMap { port in port.addresses.map { (address: $0.address, mac: port.mac) } }
                .filter { subnet.subnet.contains($0.address) }
            let first = IPAddress(high: subnet.subnet.address.high &+ 1 << 32, low: 0, family: .ipv4)
            let router = subnet.router ?? near.first?.address
            let server = subnet.server ?? router ?? first
            // Where the bridge answers for names no machine is to be.
            let reserved = Set(
                near.map(\.address) + subnet.hosts.map(\.address) + [router, server].compactMap(\.self)
                    + (bridge.names?.servers ?? []))
            let (options, order) = DHCPProgram.options(subnet, router: router?.v4, mtu: mtu)
            return Network(
                subnet: subnet, server: server.v4 ?? IPv4Address(bits: 0),
                serverMAC: near.first { $0.address == server }?.mac ?? own,
                // The address of a router that the topology does not know is that router's.
                answersForServer: subnet.server != nil && subnet.server != subnet.router,
                pool: AddressPool(subnet.ranges, reserved: reserved),
                hosts: Dictionary(subnet.hosts.map { ($0.mac, $0) }, uniquingKeysWith: { first, _ in first }),
                options: options, order: order)
        }
    }

    private static func options(
        _ subnet: DHCPSubnet, router: IPv4Address?, mtu: Int
    ) -> ([UInt8: [UInt8]], [UInt8]) {
        typealias Option = DHCPMessage.Option
        var options: [UInt8: [UInt8]] = subnet.options
        options[Option.mask] = bytes(UInt32(prefixMask(subnet.subnet.length).high >> 32))
        if let router { options[Option.router] = bytes(router) }
        options[Option.nameServers] = subnet.nameServers.compactMap(\.v4).flatMap(bytes)
        options[Option.timeServers] = subnet.timeServers.compactMap(\.v4).flatMap(bytes)
        options[Option.domain] = subnet.domain.map { Array($0.utf8) } ?? []
        options[Option.search] = subnet.search.flatMap(DNSQuery.encoded(name:))
        let size = min(max(subnet.mtu ?? mtu, 576), 65_535)
        options[Option.mtu] = [UInt8(size >> 8), UInt8(size & 0xff)]
        options[Option.bootFile] = subnet.bootFile.map { Array($0.utf8) } ?? []
        if !subnet.routes.isEmpty {
            // Who takes these ignores the router option: the default is among them (RFC 3442).
            var routes = subnet.routes
            if let router { routes.append(DHCPRoute(.all(.ipv4), via: IPAddress(router))) }
            options[Option.routes] = routes.flatMap { route -> [UInt8] in
                guard let gateway = route.gateway.v4, let destination = route.destination.address.v4 else { return [] }
                let significant = (route.destination.length + 7) / 8
                return [UInt8(route.destination.length)] + bytes(destination).prefix(significant) + bytes(gateway)
            }
        }
        let order =
            [
                Option.server, Option.lease, Option.mask, Option.router, Option.nameServers, Option.renewal,
                Option.rebinding, Option.mtu, Option.routes, Option.hostName, Option.domain, Option.search,
                Option.timeServers, Option.bootFile,
            ] + subnet.options.keys.sorted() + [Option.client, Option.relay]
        return (options, order)
    }

    static func bytes(_ address: IPv4Address) -> [UInt8] { bytes(address.bits) }
    static func bytes(_ number: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
    }
}
