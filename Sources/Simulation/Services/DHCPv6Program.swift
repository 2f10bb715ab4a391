// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What machines of a bridge's IPv6 networks are told when they ask by DHCPv6.
final class DHCPv6Program: Sendable {
    /// One network.
    struct Network: Sendable {
        var subnet: DHCPSubnet
        /// The router in it, or the bridge itself.
        var serverMAC: MACAddress
        var pool: AddressPool
        var hosts: [MACAddress: DHCPHost]
        /// What everybody is told.
        var options: [UInt16: [UInt8]]
    }

    let networks: [Network]
    let share: AddressShare
    /// The server's name, the same on every host (RFC 8415 section 11.4).
    let identifier: [UInt8]

    init(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort], hosts: [String], local: String) {
        share = AddressShare(of: local, among: hosts)
        let own = Port.derivedMAC(of: "dhcp \(bridge.path)")
        identifier = DHCPv6Message.identifier(own)
        networks = bridge.dhcp.filter { $0.subnet.family == .ipv6 }.map { subnet in
            let near = routers.flatMap { port in port.addresses.map { (address: $0.address, mac: port.mac) } }
                .filter { subnet.subnet.contains($0.address) }
            var reserved = Set(near.map(\.address) + subnet.hosts.map(\.address))
            // The routers' anycast address (RFC 4291 section 2.6.1).
            reserved.insert(subnet.subnet.address)
            // Where the bridge answers for names no machine is to be.
            reserved.formUnion(bridge.names?.servers ?? [])
            return Network(
                subnet: subnet, serverMAC: near.first?.mac ?? own,
                pool: AddressPool(subnet.ranges, reserved: reserved),
                hosts: Dictionary(subnet.hosts.map { ($0.mac, $0) }, uniquingKeysWith: { first, _ in first }),
                options: DHCPv6Program.options(subnet))
        }
    }

    private static func options(_ subnet: DHCPSubnet) -> [UInt16: [UInt8]] {
        typealias Option = DHCPv6Message.Option
        var options: [UInt16: [UInt8]] = [:]
        for (code, value) in subnet.options { options[UInt16(code)] = value }
        func addresses(_ list: [IPAddress]) -> [UInt8] {
            var out: [UInt8] = []
            for one in list {
                out.append(network: one.high)
                out.append(network: one.low)
            }
            return out
        }
        options[Option.nameServers] = addresses(subnet.nameServers)
        options[Option.timeServers] = addresses(subnet.timeServers)
        // There is no option for one's own domain but in names that clients ask for: it is the first that is tried.
        var search = subnet.search
        if let domain = subnet.domain, !search.contains(domain) { search.insert(domain, at: 0) }
        options[Option.search] = search.flatMap(DNSQuery.encoded(name:))
        options[Option.bootFile] = subnet.bootFile.map { Array($0.utf8) } ?? []
        return options.filter { !$0.value.isEmpty }
    }

    /// How soon machines ask again that were told everything but addresses, seconds.
    static let refresh: UInt32 = 3600
}

/// Whether machines are to ask by DHCPv6 is said in router advertisements (RFC 4861 section 4.2).
extension DHCPSubnet {
    /// The flags "managed" and "other".
    var advertisedFlags: UInt32 { isStateless ? 0x40 : 0xc0 }
}
