// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a bridge itself answers machines, put together from what is said of it and what is on it.
struct BridgeServices: Sendable {
    var dhcp: DHCPProgram?
    var dhcpv6: DHCPv6Program?
    var advertisements: AdvertisementProgram?
    var names: NameProgram?
    var multicast: MulticastService?
    /// Who asks machines what groups they joined.
    var querier = MACAddress.zero
    /// Machines that are named with their addresses, by name.
    var hosts: [String: [IPAddress]] = [:]
    /// Names of machines that are named, by address.
    var nameOfHost: [IPAddress: String] = [:]
    /// Addresses that the bridge says it has, for it answers there and nobody else does.
    var answered: [IPAddress: MACAddress] = [:]

    /// Whether anything is said of that.
    static func isWanted(by bridge: Bridge) -> Bool {
        !bridge.dhcp.isEmpty || !bridge.advertised.isEmpty || bridge.names != nil
            || bridge.multicast != nil
    }

    init(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort], mtu: Int, hosts: [String], local: String) {
        for host in bridge.dhcp.flatMap(\.hosts) {
            guard let name = host.name?.lowercased() else { continue }
            self.hosts[name, default: []].append(host.address)
            nameOfHost[host.address] = name
        }
        let families = Set(bridge.dhcp.map(\.subnet.family))
        let plain =
            families.contains(.ipv4)
            ? DHCPProgram(bridge, routers, mtu: mtu, hosts: hosts, local: local) : nil
        names = NameProgram(bridge, routers)
        // Where the bridge answers for names, machines are told so unless others are to be asked.
        let told = names.map { bridge.telling($0) } ?? bridge
        dhcp =
            plain == nil || names == nil
            ? plain : DHCPProgram(told, routers, mtu: mtu, hosts: hosts, local: local)
        if families.contains(.ipv6) { dhcpv6 = DHCPv6Program(told, routers, hosts: hosts, local: local) }
        if !told.advertised.isEmpty { advertisements = AdvertisementProgram(told, routers, mtu: mtu) }
        if let service = bridge.multicast {
            multicast = service
            querier = Port.derivedMAC(of: "multicast \(bridge.path)")
        }
        for network in dhcp?.networks ?? [] where network.answersForServer {
            answered[IPAddress(network.server)] = network.serverMAC
        }
        for server in names?.servers ?? [] where server.isOwn { answered[server.address] = server.mac }
    }
}

extension Bridge {
    /// The bridge with what machines are told of names where it answers for them.
    fileprivate func telling(_ names: NameProgram) -> Bridge {
        var bridge = self
        for (place, subnet) in dhcp.enumerated() {
            let server = names.server(of: subnet.subnet)
            if subnet.nameServers.isEmpty { bridge.dhcp[place].nameServers = server.map { [$0] } ?? [] }
            if subnet.domain == nil { bridge.dhcp[place].domain = names.service.domain }
        }
        for (place, one) in advertised.enumerated() {
            let server = names.server(of: one.prefix)
            if one.nameServers.isEmpty { bridge.advertised[place].nameServers = server.map { [$0] } ?? [] }
            if one.search.isEmpty { bridge.advertised[place].search = [names.service.domain] }
        }
        return bridge
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
            if let program = services.dhcp, answerDHCP(program, index, port, packet) { return true }
            return services.names.map { answerName($0, index, port, packet) } ?? false
        case EtherType.ipv6:
            if let program = services.names, answerName(program, index, port, packet) { return true }
            if let program = services.dhcpv6, answerDHCPv6(program, index, port, packet) { return true }
            return services.advertisements.map { answerRouterSolicitation($0, index) } ?? false
        default: return false
        }
    }
}
