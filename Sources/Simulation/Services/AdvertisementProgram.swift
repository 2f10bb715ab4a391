// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Router advertisements of a bridge (RFC 4861 section 4.2), put together from what is said of it and the routers on it.
final class AdvertisementProgram: Sendable {
    /// What one router says, or the bridge itself of networks where no router is.
    struct Speaker: Sendable, Equatable {
        var mac: MACAddress
        var source: IPv6Address
        /// The router's port; -1: the bridge's own.
        var port: Int32
        var prefixes: [Prefix]
        /// Hop limit, flags and the router's lifetime.
        var head: UInt32
        /// Times and options.
        var data: [UInt8]

        /// What is said of a router that is not the way out any more.
        var withoutWay: Self {
            var other = self
            other.head &= ~0xffff
            return other
        }

        /// What takes back that there are networks.
        func without(_ prefixes: [Prefix]) -> Self {
            var other = self
            other.data = [UInt8](repeating: 0, count: 8)
            other.data += [1, 1]
            other.data.append(mac: mac)
            for one in prefixes {
                // On link no more, and no address any more (sections 6.3.4 and RFC 4862 section 5.5.3).
                other.data.append(advertised: one, flags: one.length == 64 ? 0xc0 : 0x80, lifetime: 0)
            }
            return other
        }

        /// The advertisement as a frame.
        func frame(to mac: MACAddress, _ destination: IPv6Address) -> [UInt8] {
            Frame.icmp(
                etherSource: self.mac, etherDestination: mac, source: IPAddress(source),
                destination: IPAddress(destination), type: ICMPv6.routerAdvertisement, code: 0, rest: head, data: data,
                ttl: 255)
        }
    }

    let speakers: [Speaker]

    /// How long machines go by what a router says, seconds: three times the longest time between two advertisements (section
    /// 6.2.1).
    static let lifetime: UInt32 = 1800
    /// The longest time between two that nobody asked for, seconds.
    static let interval: UInt32 = 600

    init(_ bridge: Bridge, _ routers: [DHCPProgram.RouterPort], mtu: Int) {
        var speakers: [Speaker] = []
        let managed = bridge.dhcp.filter { $0.subnet.family == .ipv6 }
        let flags = managed.reduce(UInt32(0)) { $0 | $1.advertisedFlags } << 16
        // Machines make themselves no addresses where they are given some.
        let given = Set(managed.filter { !$0.isStateless }.map(\.subnet))
        var left = bridge.advertised
        for port in routers {
            let own = bridge.advertised.filter { one in port.addresses.contains { one.prefix.contains($0.address) } }
            if own.isEmpty { continue }
            left.removeAll { one in own.contains { $0.prefix == one.prefix } }
            speakers.append(
                Speaker(
                    port.mac, port.index, own, mtu: mtu, given: given,
                    head: flags | (own.contains(where: \.isRouted) ? Self.lifetime : 0)))
        }
        if !left.isEmpty {
            let mac = Port.derivedMAC(of: "ra \(bridge.path)")
            speakers.append(Speaker(mac, -1, left, mtu: mtu, given: given, head: flags))
        }
        self.speakers = speakers
    }
}

extension AdvertisementProgram.Speaker {
    fileprivate init(
        _ mac: MACAddress, _ port: Int32, _ prefixes: [AdvertisedPrefix], mtu: Int, given: Set<Prefix>,
        head: UInt32
    ) {
        self.mac = mac
        self.port = port
        self.prefixes = prefixes.map(\.prefix)
        source = .linkLocal(for: mac)
        // Hop limit 64.
        self.head = 64 << 24 | head
        // Reachable time and retransmission timer are the machines' own.
        data = [UInt8](repeating: 0, count: 8)
        data += [1, 1]
        data.append(mac: mac)
        let size = prefixes.compactMap(\.mtu).min() ?? mtu
        data += [5, 1, 0, 0]
        data.append(network: UInt32(min(max(size, 1280), 65_535)))
        for one in prefixes {
            // On link, and where machines can for themselves (section 4.6.2).
            data.append(
                advertised: one.prefix,
                flags: one.prefix.length == 64 && !given.contains(one.prefix) ? 0xc0 : 0x80, lifetime: one.lifetime)
        }
        var servers: [IPAddress] = []
        var search: [String] = []
        for one in prefixes {
            for server in one.nameServers where !servers.contains(server) { servers.append(server) }
            for domain in one.search where !search.contains(domain) { search.append(domain) }
        }
        servers = Array(servers.prefix(AdvertisedPrefix.entries))
        if !servers.isEmpty {
            data += [25, UInt8(1 + 2 * servers.count), 0, 0]
            data.append(network: AdvertisementProgram.lifetime)
            for server in servers {
                data.append(network: server.high)
                data.append(network: server.low)
            }
        }
        // It all fits the smallest packet that a link has to carry: routers' advertisements are not fragmented.
        var names: [UInt8] = []
        let room = 1280 - 40 - 8 - data.count - 16
        for domain in search.prefix(AdvertisedPrefix.entries) {
            let labels = DNSQuery.encoded(name: domain)
            if names.count + labels.count > room { break }
            names += labels
        }
        if !names.isEmpty {
            while names.count % 8 != 0 { names.append(0) }
            data += [31, UInt8(1 + names.count / 8), 0, 0]
            data.append(network: AdvertisementProgram.lifetime)
            data += names
        }
    }
}

extension Simulator {
    /// Answers a machine that asks for routers, before anything filters. True when that was the end of the frame.
    mutating func answerRouterSolicitation(_ program: AdvertisementProgram, _ index: Int32) -> Bool {
        verdict.mask.include(.etherDestination)
        guard key.etherDestination == .multicast(for: .allRouters) else { return false }
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.icmpv6 else { return false }
        verdict.mask.include(.ipFragment)
        verdict.mask.include(.sourcePort)
        guard key.ipFragment == FragmentKind.none, key.sourcePort == UInt16(ICMPv6.routerSolicitation) else {
            return false
        }
        verdict.isCacheable = false
        guard key.ipTTL == 255, let source = key.ipSource.v6, !key.etherSource.isGroup, key.etherSource != .zero else {
            drop(.malformed, at: index)
            return true
        }
        for speaker in fabric.speakers(program) {
            if isTracing { note("ra", Int(index), "asked for routers: told by \(speaker.source)") }
            answer(
                source.isUnspecified
                    ? speaker.frame(to: .multicast(for: .allNodes), .allNodes)
                    : speaker.frame(to: key.etherSource, source), from: index, isService: true)
        }
        return true
    }
}

extension Fabric {
    /// What is said on a bridge as its routers are now: one that is switched off is no way out.
    func speakers(_ program: AdvertisementProgram) -> [AdvertisementProgram.Speaker] {
        program.speakers.map { speaker in
            guard speaker.port >= 0 else { return speaker }
            let port = ports[Int(speaker.port)]
            return port.isEnabled && routers[Int(port.device)].isEnabled ? speaker : speaker.withoutWay
        }
    }
}

extension [UInt8] {
    /// A prefix information option (section 4.6.2); addresses are preferred for half as long as they last.
    fileprivate mutating func append(advertised prefix: Prefix, flags: UInt8, lifetime: UInt32) {
        self += [3, 4, UInt8(prefix.length), flags]
        append(network: lifetime)
        append(network: lifetime / 2)
        append(network: UInt32(0))
        append(network: prefix.address.high)
        append(network: prefix.address.low)
    }
}
