// SPDX-License-Identifier: Apache-2.0
import Wire

/// Networks with addresses to give as bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func dhcp(_ list: [DHCPSubnet]) {
        self.list(list) { out, subnet in
            out.prefix(subnet.subnet)
            out.list(subnet.ranges) { out, range in
                out.address(range.first)
                out.address(range.last)
            }
            out.list(subnet.hosts) { out, host in
                out.number(host.mac.bits)
                out.address(host.address)
                out.optional(host.name) { $0.text($1) }
            }
            for address in [subnet.server, subnet.router, subnet.bootServer] {
                out.optional(address) { $0.address($1) }
            }
            for addresses in [subnet.nameServers, subnet.timeServers] { out.list(addresses) { $0.address($1) } }
            for text in [subnet.domain, subnet.bootFile] { out.optional(text) { $0.text($1) } }
            out.list(subnet.search) { $0.text($1) }
            out.optional(subnet.mtu) { $0.count($1) }
            out.number(subnet.lease)
            out.list(subnet.routes) { out, route in
                out.prefix(route.destination)
                out.address(route.gateway)
            }
            out.list(subnet.options.sorted { $0.key < $1.key }) { out, option in
                out.number(option.key)
                out.data(option.value)
            }
        }
    }
}

extension ByteReader {
    mutating func dhcp() throws(MalformedBytes) -> [DHCPSubnet] {
        try list { reader throws(MalformedBytes) in
            var subnet = DHCPSubnet(try reader.prefix())
            subnet.ranges = try reader.list { reader throws(MalformedBytes) in
                DHCPRange(try reader.address(), try reader.address())
            }
            subnet.hosts = try reader.list { reader throws(MalformedBytes) in
                let mac = MACAddress(bits: try reader.number(UInt64.self) & 0xffff_ffff_ffff)
                return DHCPHost(mac, try reader.address(), name: try reader.flag() ? try reader.name() : nil)
            }
            subnet.server = try reader.flag() ? try reader.address() : nil
            subnet.router = try reader.flag() ? try reader.address() : nil
            subnet.bootServer = try reader.flag() ? try reader.address() : nil
            subnet.nameServers = try reader.list { reader throws(MalformedBytes) in try reader.address() }
            subnet.timeServers = try reader.list { reader throws(MalformedBytes) in try reader.address() }
            subnet.domain = try reader.flag() ? try reader.text() : nil
            subnet.bootFile = try reader.flag() ? try reader.text() : nil
            subnet.search = try reader.list { reader throws(MalformedBytes) in try reader.text() }
            subnet.mtu = try reader.flag() ? try reader.count16() : nil
            subnet.lease = try reader.number()
            subnet.routes = try reader.list { reader throws(MalformedBytes) in
                DHCPRoute(try reader.prefix(), via: try reader.address())
            }
            for _ in 0..<(try reader.count()) {
                let code: UInt8 = try reader.number()
                subnet.options[code] = try reader.data()
            }
            return subnet
        }
    }
}
