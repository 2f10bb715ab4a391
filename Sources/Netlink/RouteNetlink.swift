// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Glibc
import Linux
import Wire

/// Links, addresses and routes of the network namespace in which it was opened (rtnetlink(7)).
public struct RouteNetlink: Sendable {
    private let socket: NetlinkSocket

    /// Opens a socket in this thread's network namespace.
    public init() throws { socket = try NetlinkSocket(protocol: 0) }

    /// What is known of a link.
    public struct Link: Sendable, Equatable {
        /// Index.
        public var index: Int32
        /// Name.
        public var name: String
        /// `IFF_*` flags.
        public var flags: UInt32
        /// MTU, bytes.
        public var mtu: UInt32
        /// What somebody wrote to it.
        public var alias = ""
    }

    private static let create: UInt16 = 0x400
    private static let exclusive: UInt16 = 0x200

    private func linkMessage(
        _ type: UInt16, index: Int32 = 0, flags: UInt32 = 0, change: UInt32 = 0, _ extra: UInt16 = 0
    ) -> NetlinkMessage {
        var message = NetlinkMessage(type: type, flags: extra)
        message.append(
            ifinfomsg(ifi_family: 0, __ifi_pad: 0, ifi_type: 0, ifi_index: index, ifi_flags: flags, ifi_change: change))
        return message
    }

    /// Makes a pair of virtual Ethernet interfaces; the second end goes to another namespace.
    public func addVeth(
        _ name: String, mtu: Int, peer: String, peerNamespace: Int32, peerMAC: MACAddress? = nil
    ) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.attribute(4, UInt32(mtu))
        message.nest(18) { info in  // IFLA_LINKINFO
            info.attribute(1, "veth")
            info.nest(2) { data in
                data.nest(1) { end in  // VETH_INFO_PEER
                    end.append(
                        ifinfomsg(ifi_family: 0, __ifi_pad: 0, ifi_type: 0, ifi_index: 0, ifi_flags: 0, ifi_change: 0))
                    end.attribute(3, peer)
                    end.attribute(4, UInt32(mtu))
                    end.attribute(28, UInt32(bitPattern: peerNamespace))  // IFLA_NET_NS_FD
                    if let peerMAC {
                        end.attribute(
                            1, bytes: (0..<6).map { UInt8(truncatingIfNeeded: peerMAC.bits >> UInt64(40 - 8 * $0)) })
                    }
                }
            }
        }
        try socket.request(&message, "make the cable \(name)")
    }

    /// Makes a bridge.
    ///
    /// - Parameter learns: whether it learns where stations are; otherwise it sends all to all other ports.
    public func addBridge(_ name: String, learns: Bool = true) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.nest(18) { info in
            info.attribute(1, "bridge")
            if !learns { info.nest(2) { $0.attribute(4, UInt32(0)) } }  // IFLA_BR_AGEING_TIME
        }
        try socket.request(&message, "make bridge \(name)")
    }

    /// Makes the interface of a VLAN of another interface; `EOPNOTSUPP` where the kernel has no 802.1Q.
    public func addVLAN(_ name: String, of parent: String, id: UInt16) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.attribute(5, UInt32(bitPattern: try index(of: parent)))  // IFLA_LINK
        message.nest(18) { info in
            info.attribute(1, "vlan")
            info.nest(2) { $0.attribute(1, id) }
        }
        try socket.request(&message, "make the VLAN interface \(name)")
    }

    /// Sets a link's MAC.
    public func setMAC(_ name: String, _ mac: MACAddress) throws {
        var message = linkMessage(16, index: try index(of: name))
        message.attribute(1, bytes: (0..<6).map { UInt8(truncatingIfNeeded: mac.bits >> UInt64(40 - 8 * $0)) })
        try socket.request(&message, "set the MAC of \(name)")
    }

    /// Makes a GRE interface whose header is said with each packet.
    public func addGRE(_ name: String) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.nest(18) { info in
            info.attribute(1, "gretap")
            info.nest(2) { $0.flag(18) }  // IFLA_GRE_COLLECT_METADATA
        }
        try socket.request(&message, "make the GRE interface \(name)")
    }

    /// Makes a GRE interface from one address to another, by which frames are only sent.
    ///
    /// - Parameters:
    ///   - key: the key; with `isERSPAN`, the session of ERSPAN type II.
    public func addGRE(
        _ name: String, from local: IPv4Address, to remote: IPv4Address, key: UInt32, isERSPAN: Bool
    ) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.nest(18) { info in
            info.attribute(1, isERSPAN ? "erspan" : "gretap")
            info.nest(2) { data in
                // GRE_KEY, and GRE_SEQ, which ERSPAN has to have.
                let flags: UInt16 = isERSPAN ? 0x3000 : 0x2000
                data.attribute(2, flags.bigEndian)  // IFLA_GRE_IFLAGS
                data.attribute(3, flags.bigEndian)  // IFLA_GRE_OFLAGS
                data.attribute(4, key.bigEndian)  // IFLA_GRE_IKEY
                data.attribute(5, key.bigEndian)  // IFLA_GRE_OKEY
                data.attribute(6, local.bits.bigEndian)  // IFLA_GRE_LOCAL
                data.attribute(7, remote.bits.bigEndian)  // IFLA_GRE_REMOTE
                data.attribute(8, UInt8(64))  // IFLA_GRE_TTL
                // What is larger than the way there is fragmented, whatever the frame says.
                data.attribute(10, UInt8(0))  // IFLA_GRE_PMTUDISC
                data.attribute(19, UInt8(1))  // IFLA_GRE_IGNORE_DF
                if isERSPAN { data.attribute(22, UInt8(1)) }  // IFLA_GRE_ERSPAN_VER
            }
        }
        try socket.request(&message, "make the \(isERSPAN ? "ERSPAN" : "GRE") interface \(name) to \(remote)")
    }

    /// Makes a VXLAN interface whose header is said with each packet.
    public func addVXLAN(_ name: String, port: UInt16) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        message.nest(18) { info in
            info.attribute(1, "vxlan")
            info.nest(2) { data in
                data.attribute(25, UInt8(1))  // IFLA_VXLAN_COLLECT_METADATA
                data.attribute(7, UInt8(0))  // IFLA_VXLAN_LEARNING
                data.attribute(20, UInt8(1))  // IFLA_VXLAN_UDP_ZERO_CSUM6_RX
                data.attribute(15, port.bigEndian)  // IFLA_VXLAN_PORT
            }
        }
        try socket.request(&message, "make the VXLAN interface \(name)")
    }

    /// Makes a VXLAN interface of one network (RFC 7348), whose packets come and go in this namespace.
    ///
    /// - Parameters:
    ///   - learns: whether it learns where stations are.
    ///   - namespace: a descriptor of the namespace where it is to be; `nil`: this one.
    public func addVXLAN(
        _ name: String, identifier: UInt32, local: IPv4Address, port: UInt16, learns: Bool = true,
        namespace: Int32? = nil
    ) throws {
        var message = linkMessage(16, RouteNetlink.create | RouteNetlink.exclusive)
        message.attribute(3, name)
        if let namespace { message.attribute(28, UInt32(bitPattern: namespace)) }  // IFLA_NET_NS_FD
        message.nest(18) { info in
            info.attribute(1, "vxlan")
            info.nest(2) { data in
                data.attribute(1, identifier)  // IFLA_VXLAN_ID
                data.attribute(4, local.bits.bigEndian)  // IFLA_VXLAN_LOCAL
                data.attribute(5, UInt8(64))  // IFLA_VXLAN_TTL
                data.attribute(7, UInt8(learns ? 1 : 0))  // IFLA_VXLAN_LEARNING
                data.attribute(15, port.bigEndian)  // IFLA_VXLAN_PORT
            }
        }
        try socket.request(&message, "make the VXLAN interface \(name)")
    }

    /// Says whether a VXLAN interface sends to an end point what is for all, and what is for stations that it does not know.
    public func setFlood(of name: String, to remote: IPv4Address, isThere: Bool) throws {
        // RTM_NEWNEIGH, which adds to what there is (NLM_F_APPEND), or RTM_DELNEIGH.
        var message = NetlinkMessage(type: isThere ? 28 : 29, flags: isThere ? RouteNetlink.create | 0x800 : 0)
        message.append(
            ndmsg(
                ndm_family: UInt8(AF_BRIDGE), ndm_pad1: 0, ndm_pad2: 0, ndm_ifindex: try index(of: name),
                // NUD_PERMANENT and NUD_NOARP; NTF_SELF
                ndm_state: 0xc0, ndm_flags: 0x02, ndm_type: 0))
        message.attribute(2, bytes: [UInt8](repeating: 0, count: 6))  // NDA_LLADDR
        message.attribute(1, remote.bits.bigEndian)  // NDA_DST
        try socket.request(&message, "have \(name) send to \(remote)")
    }

    /// Brings a link up.
    public func setUp(_ name: String) throws {
        var message = linkMessage(16, index: try index(of: name), flags: 1, change: 1)
        try socket.request(&message, "bring \(name) up")
    }

    /// Brings a link down.
    public func setDown(_ name: String) throws {
        var message = linkMessage(16, index: try index(of: name), flags: 0, change: 1)
        try socket.request(&message, "bring \(name) down")
    }

    /// Puts a link under a bridge.
    public func setMaster(_ name: String, bridge: String) throws {
        var message = linkMessage(16, index: try index(of: name))
        message.attribute(10, UInt32(bitPattern: try index(of: bridge)))
        try socket.request(&message, "put \(name) under \(bridge)")
    }

    /// Has a bridge forget which stations it heard by a link under it.
    public func flushStations(of name: String) throws {
        var message = NetlinkMessage(type: 19, flags: 0)  // RTM_SETLINK
        message.append(
            ifinfomsg(
                ifi_family: UInt8(AF_BRIDGE), __ifi_pad: 0, ifi_type: 0, ifi_index: try index(of: name), ifi_flags: 0,
                ifi_change: 0))
        message.nest(12 | 0x8000) { $0.flag(24) }  // IFLA_PROTINFO, IFLA_BRPORT_FLUSH
        try socket.request(&message, "have stations behind \(name) forgotten")
    }

    /// Writes something to a link, at most 255 bytes.
    public func setAlias(_ name: String, _ alias: String) throws {
        var message = linkMessage(16, index: try index(of: name))
        message.attribute(20, alias)
        try socket.request(&message, "write to \(name)")
    }

    /// Sets a link's MTU, bytes.
    public func setMTU(_ name: String, _ mtu: Int) throws {
        var message = linkMessage(16, index: try index(of: name))
        message.attribute(4, UInt32(mtu))
        try socket.request(&message, "set the MTU of \(name)")
    }

    /// Removes a link.
    public func remove(_ name: String) throws {
        var message = linkMessage(17, index: try index(of: name))
        try socket.request(&message, "remove \(name)")
    }

    /// Gives a link an address, ready at once: no duplicate detection.
    public func addAddress(_ address: InterfaceAddress, to name: String) throws {
        var message = NetlinkMessage(type: 20, flags: RouteNetlink.create | RouteNetlink.exclusive)
        message.append(
            ifaddrmsg(
                ifa_family: address.address.family == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6),
                ifa_prefixlen: UInt8(address.length), ifa_flags: 0, ifa_scope: 0, ifa_index: UInt32(try index(of: name))
            ))
        message.attribute(2, bytes: address.address.bytes)  // IFA_LOCAL
        message.attribute(1, bytes: address.address.bytes)  // IFA_ADDRESS
        message.attribute(8, UInt32(0x02))  // IFA_FLAGS: IFA_F_NODAD
        try socket.request(&message, "give \(name) the address \(address)")
    }

    /// Takes an address from a link.
    public func removeAddress(_ address: InterfaceAddress, from name: String) throws {
        var message = NetlinkMessage(type: 21, flags: 0)  // RTM_DELADDR
        message.append(
            ifaddrmsg(
                ifa_family: address.address.family == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6),
                ifa_prefixlen: UInt8(address.length), ifa_flags: 0, ifa_scope: 0, ifa_index: UInt32(try index(of: name))
            ))
        message.attribute(2, bytes: address.address.bytes)  // IFA_LOCAL
        try socket.request(&message, "take the address \(address) from \(name)")
    }

    /// Says for good which MAC an address on a link has.
    public func addNeighbor(_ address: IPAddress, mac: MACAddress, on name: String) throws {
        var message = NetlinkMessage(type: 28, flags: RouteNetlink.create | 0x100)
        message.append(
            ndmsg(
                ndm_family: address.family == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6), ndm_pad1: 0, ndm_pad2: 0,
                ndm_ifindex: try index(of: name), ndm_state: 0x80, ndm_flags: 0, ndm_type: 0))
        message.attribute(1, bytes: address.bytes)
        message.attribute(2, bytes: (0..<6).map { UInt8(truncatingIfNeeded: mac.bits >> UInt64(40 - 8 * $0)) })
        try socket.request(&message, "say that \(address) is \(mac)")
    }

    /// Adds a route by a gateway.
    ///
    /// - Parameter metric: the kernel's: lower is preferred.
    public func addRoute(to destination: Prefix, via gateway: IPAddress, metric: UInt32 = 0) throws {
        var message = NetlinkMessage(type: 24, flags: RouteNetlink.create | RouteNetlink.exclusive)
        message.append(
            rtmsg(
                rtm_family: destination.family == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6),
                rtm_dst_len: UInt8(destination.length), rtm_src_len: 0, rtm_tos: 0, rtm_table: 254, rtm_protocol: 4,
                rtm_scope: 0, rtm_type: 1, rtm_flags: 0))
        if destination.length > 0 { message.attribute(1, bytes: destination.address.bytes) }
        message.attribute(5, bytes: gateway.bytes)
        if metric > 0 { message.attribute(6, metric) }  // RTA_PRIORITY
        try socket.request(&message, "add the route to \(destination) via \(gateway)")
    }

    /// An address of a link.
    public struct Address: Sendable {
        /// The host's own.
        public var own: IPAddress
        /// What is reached by the link because of it: of an address with one at the other end, that one.
        public var network: Prefix
        /// The link's name.
        public var link: String
        /// Whether it is one to be known by: in use, not about to go, and not one of several that come and go.
        public var isSteady: Bool
    }

    /// How often a list is asked for that changed while it was told.
    private static let attempts = 10

    /// The addresses of all links.
    public func addresses() throws -> [Address] {
        let names = Dictionary(try links().map { ($0.index, $0.name) }, uniquingKeysWith: { a, _ in a })
        var found: [Address] = []
        for _ in 0..<Self.attempts {
            found = []
            var message = NetlinkMessage(type: 22, flags: 0)  // RTM_GETADDR
            message.append(ifaddrmsg(ifa_family: 0, ifa_prefixlen: 0, ifa_flags: 0, ifa_scope: 0, ifa_index: 0))
            message.isDump = true
            try socket.request(&message, "list addresses") { reader in
                if let address = Self.address(reader, names) { found.append(address) }
            }
            if !socket.wasInterrupted { break }
        }
        return found
    }

    private static func address(_ reader: NetlinkReader, _ names: [Int32: String]) -> Address? {
        guard reader.payload.count >= 8,
            let link = names[reader.payload.loadUnaligned(fromByteOffset: 4, as: Int32.self)]
        else { return nil }
        let family: AddressFamily
        switch Int32(reader.payload[0]) {
        case AF_INET: family = .ipv4
        case AF_INET6: family = .ipv6
        default: return nil
        }
        let length = min(Int(reader.payload[1]), family.width)
        var flags = UInt32(reader.payload[2])
        var (own, other): (IPAddress?, IPAddress?)
        reader.forEachAttribute(from: 8) { type, value in
            switch type {
            case 1: other = IPAddress(bytes: value, family)  // IFA_ADDRESS
            case 2: own = IPAddress(bytes: value, family)  // IFA_LOCAL
            case 8: flags = value.number() ?? flags  // IFA_FLAGS
            default: break
            }
        }
        guard let own = own ?? other else { return nil }
        // IFA_F_SECONDARY or TEMPORARY, DADFAILED, DEPRECATED, TENTATIVE
        let passing: UInt32 = 0x01 | 0x08 | 0x20 | 0x40
        return Address(
            own: own, network: InterfaceAddress(other ?? own, length: length).network, link: link,
            isSteady: flags & passing == 0)
    }

    /// Puts a destination into a table, or takes it out: what is sent there is dropped, so it is for those alone who read the table.
    ///
    /// - Parameter owner: who is to have put it there (`RTPROT_*`).
    public func setBlackhole(_ destination: Prefix, table: UInt32, owner: UInt8, isThere: Bool) throws {
        var message = NetlinkMessage(
            type: isThere ? 24 : 25, flags: isThere ? RouteNetlink.create | 0x100 : 0)  // NLM_F_REPLACE
        message.append(
            rtmsg(
                rtm_family: destination.family == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6),
                rtm_dst_len: UInt8(destination.length), rtm_src_len: 0, rtm_tos: 0,
                rtm_table: UInt8(truncatingIfNeeded: table), rtm_protocol: owner, rtm_scope: 0, rtm_type: 6,
                rtm_flags: 0))
        if destination.length > 0 { message.attribute(1, bytes: destination.address.bytes) }
        try socket.request(
            &message, "\(isThere ? "put" : "take") \(destination) \(isThere ? "into" : "out of") table \(table)")
    }

    /// The MTU of a link, bytes.
    public func mtu(of name: String) throws -> UInt32? { try links().first { $0.name == name }?.mtu }

    /// The index of a link.
    public func number(of name: String) throws -> Int32 { try index(of: name) }

    /// All links.
    public func links() throws -> [Link] {
        var message = linkMessage(18)
        message.isDump = true
        var list: [Link] = []
        try socket.request(&message, "list links") { reader in
            if let link = RouteNetlink.link(reader) { list.append(link) }
        }
        return list
    }

    /// Reads a link out of a message about one.
    static func link(_ reader: NetlinkReader) -> Link? {
        guard reader.payload.count >= 16 else { return nil }
        var link = Link(
            index: reader.payload.loadUnaligned(fromByteOffset: 4, as: Int32.self), name: "",
            flags: reader.payload.loadUnaligned(fromByteOffset: 8, as: UInt32.self), mtu: 0)
        reader.forEachAttribute(from: 16) { type, value in
            if type == 3 { link.name = value.text }
            if type == 4 { link.mtu = value.number() ?? 0 }
            if type == 20 { link.alias = value.text }
        }
        return link
    }

    private func index(of name: String) throws -> Int32 {
        let index = if_nametoindex(name)
        if index == 0 { throw SystemError(ENODEV, "find interface \(name)") }
        return Int32(index)
    }
}

/// Tells of links that come, change and go in the namespace where it was opened.
public struct LinkMonitor: Sendable {
    private let socket: NetlinkSocket
    /// Readable when there is news.
    public var descriptor: Int32 { socket.descriptor }

    /// What happened to a link.
    public enum Event: Sendable, Equatable {
        /// It is there, new or changed.
        case present(RouteNetlink.Link)
        /// It went.
        case gone(RouteNetlink.Link)
        /// An IPv4 address came or went.
        case address
        /// News was lost: look at everything again.
        case lost
    }

    /// Begins to listen.
    public init() throws {
        socket = try NetlinkSocket(protocol: 0)
        try socket.join(group: 1)  // RTNLGRP_LINK
        try socket.join(group: 5)  // RTNLGRP_IPV4_IFADDR
    }

    /// What happened since the last call; empty when nothing did.
    public func events() throws -> [Event] {
        var events: [Event] = []
        let isWhole = try socket.receive { reader in
            if reader.type == 20 || reader.type == 21 { events.append(.address) }
            guard reader.type == 16 || reader.type == 17, let link = RouteNetlink.link(reader) else { return }
            if reader.type == 16 { events.append(.present(link)) }
            if reader.type == 17 { events.append(.gone(link)) }
        }
        if !isWhole { events.append(.lost) }
        return events
    }
}

extension IPAddress {
    /// The bytes as on the wire, 4 or 16.
    public var bytes: [UInt8] {
        (0..<family.width / 8).map { UInt8(truncatingIfNeeded: ($0 < 8 ? high : low) >> UInt64(56 - 8 * ($0 & 7))) }
    }
}
