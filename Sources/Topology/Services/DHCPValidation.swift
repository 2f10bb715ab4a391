// SPDX-License-Identifier: Apache-2.0
import Wire

/// What can be wrong with addresses that a bridge gives.
extension Topology {
    func checkDHCP(of bridge: Bridge, _ found: inout [Problem]) {
        if bridge.dhcp.count > DHCPSubnet.perBridge {
            found.append(
                Problem(
                    bridge.path, "has \(bridge.dhcp.count) networks with DHCP, \(DHCPSubnet.perBridge) at most",
                    remedy: "draw another bridge"))
        }
        for (place, subnet) in bridge.dhcp.enumerated() {
            if let other = bridge.dhcp[..<place].first(where: { $0.subnet.overlaps(subnet.subnet) }) {
                found.append(
                    Problem(
                        "\(bridge.path) dhcp \(subnet.subnet)", "overlaps \(other.subnet)",
                        remedy: "give each network once"))
            }
            check(subnet, "\(bridge.path) dhcp \(subnet.subnet)", &found)
        }
    }

    private func check(_ subnet: DHCPSubnet, _ name: String, _ found: inout [Problem]) {
        func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
        let family = subnet.subnet.family
        if family == .ipv4 {
            guard (8...30).contains(subnet.subnet.length) else {
                return problem("is no IPv4 network of machines", "use a network from /8 to /30")
            }
            if subnet.isStateless { problem("stateless is said of IPv4", "say it of IPv6 networks only") }
        } else {
            guard (16...126).contains(subnet.subnet.length), !subnet.subnet.address.isMulticast,
                subnet.subnet.address.v6?.isLinkLocal != true
            else { return problem("is no IPv6 network of machines", "use a network such as fd00:1::/64") }
            let told: [(String, Bool)] = [
                ("server", subnet.server != nil), ("router", subnet.router != nil), ("mtu", subnet.mtu != nil),
                ("routes", !subnet.routes.isEmpty), ("bootServer", subnet.bootServer != nil),
            ]
            for (field, isSaid) in told where isSaid {
                problem("\(field) is not told by DHCPv6", "leave it out: router advertisements (ra) tell what they can")
            }
            if subnet.isStateless, !(subnet.ranges.isEmpty && subnet.hosts.isEmpty) {
                problem("is stateless, and has addresses to give", "leave out one of them")
            }
        }
        func checkOwn(_ address: IPAddress, _ what: String) {
            if family == .ipv6 {
                if !subnet.subnet.contains(address) || address == subnet.subnet.address {
                    problem("\(what) \(address) is no address of the network", "use one behind its first")
                }
                return
            }
            let bits = address.high >> 32 & ~(~UInt64(0) << UInt64(32 - subnet.subnet.length))
            let isEnd = bits == 0 || bits == ~(~UInt64(0) << UInt64(32 - subnet.subnet.length))
            if address.family != .ipv4 || !subnet.subnet.contains(address) || isEnd {
                problem("\(what) \(address) is no address of the network", "use one between its first and its last")
            }
        }
        if let server = subnet.server { checkOwn(server, "server") }
        if let router = subnet.router { checkOwn(router, "router") }
        var total = 0
        for (place, range) in subnet.ranges.enumerated() {
            checkOwn(range.first, "range begins with")
            checkOwn(range.last, "range ends with")
            if family == .ipv6, range.first.high != range.last.high {
                problem("range \(range) is of more than one /64", "name a range of each")
            } else if range.count == 0 {
                problem("range \(range) ends before it begins", "write \(range.last)-\(range.first)")
            }
            if subnet.ranges[..<place].contains(where: { $0.first <= range.last && range.first <= $0.last }) {
                problem("range \(range) overlaps another", "name each address once")
            }
            total += range.count
        }
        if total > DHCPSubnet.addressesPerSubnet {
            problem("has \(total) addresses to give, \(DHCPSubnet.addressesPerSubnet) at most", "narrow its ranges")
        }
        if subnet.hosts.count > DHCPSubnet.hostsPerSubnet {
            problem(
                "has \(subnet.hosts.count) hosts, \(DHCPSubnet.hostsPerSubnet) at most",
                "give ports addresses instead, or use a range")
        }
        var macs: Set<MACAddress> = []
        var addresses: Set<IPAddress> = []
        for host in subnet.hosts {
            checkOwn(host.address, "host \(host.mac) has")
            if !macs.insert(host.mac).inserted { problem("host \(host.mac) is there twice", "name each once") }
            if !addresses.insert(host.address).inserted {
                problem("address \(host.address) is two hosts'", "give each its own")
            }
            if [subnet.router, subnet.server].contains(host.address) {
                problem("host \(host.mac) has \(host.address), the router's or server's", "give it another")
            }
            if host.mac.isGroup || host.mac == .zero {
                problem("MAC \(host.mac) is not that of one machine", "correct it")
            }
        }
        let lists = [
            ("dns", subnet.nameServers.count), ("ntp", subnet.timeServers.count), ("search", subnet.search.count),
            ("routes", subnet.routes.count),
        ]
        for (field, count) in lists where count > DHCPSubnet.entries {
            problem("\(field) has \(count) entries, \(DHCPSubnet.entries) at most", "name fewer")
        }
        let others =
            subnet.nameServers + subnet.timeServers + subnet.routes.map(\.gateway)
            + subnet.routes.map(\.destination.address)
            + (subnet.bootServer.map { [$0] } ?? [])
        if family == .ipv4, let other = others.first(where: { $0.family != .ipv4 }) {
            problem("\(other) is no IPv4 address", "DHCP tells IPv4 addresses only: name it for an IPv6 network")
        }
        if family == .ipv6, let other = others.first(where: { $0.family != .ipv6 }) {
            problem("\(other) is no IPv6 address", "DHCPv6 tells IPv6 addresses only: name it for an IPv4 network")
        }
        if let file = subnet.bootFile, file.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) {
            problem("bootFile has control characters", "name a file")
        }
        if !DHCPSubnet.leases.contains(subnet.lease) {
            problem(
                "lease is \(subnet.lease) s",
                "use \(DHCPSubnet.leases.lowerBound) to \(DHCPSubnet.leases.upperBound) seconds")
        }
        for (code, value) in subnet.options.sorted(by: { $0.key < $1.key }) {
            if (family == .ipv4 ? DHCPMessage.managed : DHCPv6Message.managed).contains(code) {
                problem("option \(code) follows from other fields", "say those instead")
            }
            if code == 0 || code == 255 || value.isEmpty || value.count > 255 {
                problem("option \(code) has \(value.count) bytes", "use numbers 1 to 254, and 1 to 255 bytes")
            }
        }
    }
}
