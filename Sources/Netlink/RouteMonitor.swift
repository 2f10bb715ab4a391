// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Glibc
import Wire

/// Tells of routes in the namespace where it was opened (rtnetlink(7)).
public struct RouteMonitor: Sendable {
    /// A route, as far as it concerns neighbors behind one interface.
    public struct Route: Sendable, Equatable {
        /// The destination.
        public var prefix: Prefix
        /// The table (`RT_TABLE_*`).
        public var table: UInt32
        /// Who put it there (`RTPROT_*`).
        public var owner: UInt8
        /// The kernel's metric: lower is preferred.
        public var metric: UInt32
        /// What whoever put it there noted as the window of congestion (`RTAX_CWND`); the kernel makes no use of it unless it is
        /// locked.
        public var note: UInt32?
        /// Routers that lead there by the interface; the unspecified address where the destination is on the link.
        public var gateways: [IPAddress]
    }

    /// What happened.
    public enum Event: Sendable, Equatable {
        /// A route is there, in place of one of the same destination and metric.
        case present(Route)
        /// A route, or some of its routers, went.
        case gone(Route)
        /// News was lost: look at everything again.
        case lost
    }

    private let news: NetlinkSocket
    private let asking: NetlinkSocket
    private let interface: Int32
    /// Readable when there is news.
    public var descriptor: Int32 { news.descriptor }

    /// Begins to listen.
    ///
    /// - Parameter interface: index of the interface behind which the routers are.
    public init(interface: Int32) throws {
        self.interface = interface
        news = try NetlinkSocket(protocol: 0)
        // A full table comes at once.
        news.setReceiveBuffer(32 << 20)
        try news.join(group: 7)  // RTNLGRP_IPV4_ROUTE
        try news.join(group: 11)  // RTNLGRP_IPV6_ROUTE
        asking = try NetlinkSocket(protocol: 0)
    }

    /// What happened since the last call, as much as one reading brings; empty when nothing did.
    public func events() throws -> [Event] {
        var events: [Event] = []
        let isWhole = try news.receive { reader in
            guard reader.type == 24 || reader.type == 25, let route = read(reader) else { return }
            events.append(reader.type == 24 ? .present(route) : .gone(route))
        }
        if !isWhole { events.append(.lost) }
        return events
    }

    /// How often a list is asked for that changed while it was told.
    private static let attempts = 10

    /// All routes by the interface.
    public func all() throws -> [Route] {
        try [UInt8(AF_INET), UInt8(AF_INET6)].flatMap { family in
            for _ in 1..<Self.attempts {
                let routes = try list(family)
                if !asking.wasInterrupted { return routes }
            }
            // What changes all the time: news says what is wrong in it.
            return try list(family)
        }
    }

    private func list(_ family: UInt8) throws -> [Route] {
        var list: [Route] = []
        var message = NetlinkMessage(type: 26, flags: 0)  // RTM_GETROUTE
        message.append(
            rtmsg(
                rtm_family: family, rtm_dst_len: 0, rtm_src_len: 0, rtm_tos: 0, rtm_table: 0, rtm_protocol: 0,
                rtm_scope: 0, rtm_type: 0, rtm_flags: 0))
        message.isDump = true
        try asking.request(&message, "list routes") { reader in
            if reader.type == 24, let route = read(reader) { list.append(route) }
        }
        return list
    }

    /// Reads a route; `nil` for one that leads to no neighbor by the interface.
    private func read(_ reader: NetlinkReader) -> Route? {
        let payload = reader.payload
        guard payload.count >= 12 else { return nil }
        let family: AddressFamily
        switch Int32(payload[0]) {
        case AF_INET: family = .ipv4
        case AF_INET6: family = .ipv6
        default: return nil
        }
        let length = Int(payload[1])
        let flags = payload.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        // Unicast routes; copies that the kernel made for one destination (RTM_F_CLONED) are none.
        guard length <= family.width, payload[7] == 1, flags & 0x200 == 0 else { return nil }
        let none = IPAddress(high: 0, low: 0, family: family)
        var destination = none
        var route = Route(
            prefix: Prefix(none, length: 0), table: UInt32(payload[4]), owner: payload[5], metric: 0, note: nil,
            gateways: [])
        var hop = Hop(family)
        var hops: [Hop] = []
        reader.forEachAttribute(from: 12) { type, value in
            switch type {
            case 1: destination = IPAddress(bytes: value, family) ?? none
            case 6: route.metric = value.number() ?? 0
            case 8:  // RTA_METRICS
                NetlinkReader.forEachAttribute(value) { type, value in
                    if type == 7 { route.note = value.number() }
                }
            case 9: hops = Hop.list(value, family)
            case 15: route.table = value.number() ?? route.table
            default: hop.note(type, value)
            }
        }
        if hops.isEmpty { hops = [hop] }
        route.gateways = hops.filter { $0.interface == interface }.map(\.gateway)
        guard !route.gateways.isEmpty else { return nil }
        route.prefix = Prefix(destination, length: length)
        return route
    }

    /// One way of a route.
    private struct Hop {
        var gateway: IPAddress
        var interface: Int32 = 0
        private let family: AddressFamily

        init(_ family: AddressFamily) {
            self.family = family
            gateway = IPAddress(high: 0, low: 0, family: family)
        }

        mutating func note(_ type: UInt16, _ value: UnsafeRawBufferPointer) {
            switch type {
            case 4: interface = value.number() ?? 0  // RTA_OIF
            case 5: gateway = IPAddress(bytes: value, family) ?? gateway  // RTA_GATEWAY
            case 18 where value.count > 2:  // RTA_VIA: a gateway of the other family
                let other: AddressFamily = value.loadUnaligned(as: UInt16.self) == UInt16(AF_INET) ? .ipv4 : .ipv6
                gateway = IPAddress(bytes: UnsafeRawBufferPointer(rebasing: value[2...]), other) ?? gateway
            default: break
            }
        }

        /// Reads `RTA_MULTIPATH`.
        static func list(_ bytes: UnsafeRawBufferPointer, _ family: AddressFamily) -> [Hop] {
            var list: [Hop] = []
            var at = 0
            // struct rtnexthop: length, flags, weight, interface.
            while at + 8 <= bytes.count {
                let length = Int(bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))
                guard length >= 8, at + length <= bytes.count else { break }
                var hop = Hop(family)
                hop.interface = bytes.loadUnaligned(fromByteOffset: at + 4, as: Int32.self)
                NetlinkReader.forEachAttribute(UnsafeRawBufferPointer(rebasing: bytes[at + 8..<at + length])) {
                    hop.note($0, $1)
                }
                list.append(hop)
                at += (length + 3) & ~3
            }
            return list
        }
    }
}

extension IPAddress {
    /// Reads an address as on the wire; `nil` where there are too few bytes.
    init?(bytes: UnsafeRawBufferPointer, _ family: AddressFamily) {
        guard bytes.count >= family.width / 8 else { return nil }
        var words: (UInt64, UInt64) = (0, 0)
        for index in 0..<family.width / 8 {
            let byte = UInt64(bytes[index])
            if index < 8 {
                words.0 |= byte << UInt64(56 - 8 * index)
            } else {
                words.1 |= byte << UInt64(120 - 8 * index)
            }
        }
        self.init(high: words.0, low: words.1, family: family)
    }
}
