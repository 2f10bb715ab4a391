// SPDX-License-Identifier: Apache-2.0

/// What machines and routers of a network say of multicast groups: IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810).
public struct GroupMessage: Sendable, Equatable {
    /// What of a group.
    public enum Change: Sendable, Equatable {
        /// A machine wants all that is sent to it, or still does.
        case join
        /// A machine wants none of it any more.
        case leave
        /// A machine wants what these send to it, or still does.
        case add([IPAddress])
        /// A machine wants what these send to it, and nothing else.
        case only([IPAddress])
        /// A machine wants nothing of what these send to it any more.
        case remove([IPAddress])
    }

    /// A change of one group.
    public struct Record: Sendable, Equatable {
        /// The group.
        public var group: IPAddress
        /// What of it.
        public var change: Change

        /// A change of a group.
        public init(_ group: IPAddress, _ change: Change) {
            self.group = group
            self.change = change
        }
    }

    /// What it is.
    public enum Kind: Sendable, Equatable {
        /// A router asks who wants a group, or any group: `nil`.
        case query(IPAddress?)
        /// A machine tells what it wants.
        case report([Record])
    }

    /// A question or an answer.
    public var kind: Kind

    /// Records of a message that are read, and sources of a record; what is more is not.
    public static let (records, sources) = (64, 64)

    /// IGMP's number as an IP protocol.
    public static let igmp: UInt8 = 2
    /// Types of MLD among those of ICMPv6.
    public enum MLD {
        /// A router asks.
        public static let query: UInt8 = 130
        /// MLDv1: a machine wants a group.
        public static let report: UInt8 = 131
        /// MLDv1: a machine wants it no more.
        public static let done: UInt8 = 132
        /// MLDv2: a machine tells what it wants.
        public static let report2: UInt8 = 143
        /// Whether a type is one of them.
        @inlinable
        public static func contains(_ type: UInt16) -> Bool { (130...132).contains(type) || type == 143 }
    }

    /// Reads an IGMP message; `nil`: it is none, or not whole.
    public init?(igmp bytes: [UInt8]) {
        guard bytes.count >= 8, bytes.withUnsafeBytes({ InternetChecksum.of($0) }) == 0 else { return nil }
        let group = IPAddress(IPv4Address(bits: bytes.number(at: 4)))
        let isGroup = group.isMulticast
        switch bytes[0] {
        case 0x11: kind = .query(isGroup ? group : nil)
        case 0x12 where isGroup, 0x16 where isGroup: kind = .report([Record(group, .join)])
        case 0x17 where isGroup: kind = .report([Record(group, .leave)])
        case 0x22:
            guard let records = GroupMessage.records(bytes, .ipv4) else { return nil }
            kind = .report(records)
        default: return nil
        }
    }

    /// Reads an MLD message, from its ICMPv6 type on. Its checksum is not looked at.
    public init?(mld bytes: [UInt8]) {
        guard bytes.count >= 8 else { return nil }
        if bytes[0] == MLD.report2 {
            guard let records = GroupMessage.records(bytes, .ipv6) else { return nil }
            kind = .report(records)
            return
        }
        guard bytes.count >= 24 else { return nil }
        let group = GroupMessage.address(bytes, 8, .ipv6)
        switch bytes[0] {
        case MLD.query: kind = .query(group.isMulticast ? group : nil)
        case MLD.report where group.isMulticast: kind = .report([Record(group, .join)])
        case MLD.done where group.isMulticast: kind = .report([Record(group, .leave)])
        default: return nil
        }
    }

    private static func address(_ bytes: [UInt8], _ at: Int, _ family: AddressFamily) -> IPAddress {
        if family == .ipv4 { return IPAddress(IPv4Address(bits: bytes.number(at: at))) }
        return IPAddress(
            high: UInt64(bytes.number(at: at)) << 32 | UInt64(bytes.number(at: at + 4)),
            low: UInt64(bytes.number(at: at + 8)) << 32 | UInt64(bytes.number(at: at + 12)), family: .ipv6)
    }

    /// Records of an IGMPv3 or MLDv2 report (RFC 3376 section 4.2, RFC 3810 section 5.2).
    private static func records(_ bytes: [UInt8], _ family: AddressFamily) -> [Record]? {
        let size = family == .ipv4 ? 4 : 16
        var left = Int(bytes[6]) << 8 | Int(bytes[7])
        var at = 8
        var list: [Record] = []
        while left > 0, list.count < records {
            guard bytes.count >= at + 4 + size else { return nil }
            let count = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
            let next = at + 4 + size + count * size + Int(bytes[at + 1]) * 4
            guard bytes.count >= next else { return nil }
            let group = address(bytes, at + 4, family)
            let first = at + 4 + size
            let named = (0..<min(count, sources)).map { address(bytes, first + $0 * size, family) }
            let change: Change? =
                switch bytes[at] {
                case 1: .add(named)
                // Who wants all but some gets all, and leaves out the rest itself.
                case 2, 4: .join
                case 3: named.isEmpty ? .leave : .only(named)
                case 5: .add(named)
                case 6: .remove(named)
                default: nil
                }
            // What is not known is skipped (RFC 3376 section 4.2.12).
            if let change, group.isMulticast { list.append(Record(group, change)) }
            at = next
            left -= 1
        }
        return list
    }
}

extension [UInt8] {
    fileprivate func number(at place: Int) -> UInt32 {
        self[place..<place + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }
}

extension MACAddress {
    /// The MAC that what is sent to a group goes to (RFC 1112 section 6.4, RFC 2464 section 7).
    public static func multicast(for group: IPAddress) -> MACAddress {
        if let v4 = group.v4 { return .multicast(for: v4) }
        return .multicast(for: group.v6 ?? .allNodes)
    }
}

extension Frame {
    /// What a machine says that joins a group, or leaves it: IGMPv3 or MLDv2.
    public static func groupReport(
        from mac: MACAddress, _ source: IPAddress, group: IPAddress, isJoin: Bool
    ) -> [UInt8] {
        let family = group.family
        var message: [UInt8] = [family == .ipv4 ? 0x22 : GroupMessage.MLD.report2, 0, 0, 0, 0, 0, 0, 1]
        // To "all but none", or to "none".
        message += [isJoin ? 4 : 3, 0, 0, 0]
        if let v4 = group.v4 { message.append(network: v4.bits) }
        if let v6 = group.v6 {
            message.append(network: v6.high)
            message.append(network: v6.low)
        }
        let all =
            family == .ipv4
            ? IPAddress(IPv4Address(bits: 0xe000_0016)) : IPAddress(high: 0xff02 << 48, low: 0x16, family: .ipv6)
        return control(from: mac, source, to: all, message)
    }

    /// A message of IGMP or MLD, with the router alert option that they have (RFC 2113, RFC 2711).
    private static func control(
        from mac: MACAddress, _ source: IPAddress, to destination: IPAddress, _ content: [UInt8]
    ) -> [UInt8] {
        var message = content
        if let from = source.v4, let to = destination.v4 {
            message.put16(message.withUnsafeBytes { InternetChecksum.of($0) }, at: 2)
            // Precedence "internetwork control".
            var packet: [UInt8] = [0x46, 0xc0, 0, UInt8(24 + message.count), 0, 0, 0, 0, 1, GroupMessage.igmp, 0, 0]
            packet.append(network: from.bits)
            packet.append(network: to.bits)
            packet += [0x94, 4, 0, 0]
            packet.put16(packet.withUnsafeBytes { InternetChecksum.of($0) }, at: 10)
            return ethernet(
                from: mac, to: .multicast(for: destination), type: EtherType.ipv4, payload: packet + message)
        }
        var sum = InternetChecksum.pseudoHeader(
            source: source, destination: destination, ipProtocol: IPProtocol.icmpv6, length: message.count)
        message.withUnsafeBytes { sum.add($0) }
        message.put16(sum.value, at: 2)
        let options: [UInt8] = [IPProtocol.icmpv6, 0, 5, 2, 0, 0, 1, 0]
        return ip(
            etherSource: mac, etherDestination: .multicast(for: destination), source: source, destination: destination,
            ipProtocol: 0, ttl: 1, payload: options + message)
    }

    /// A question who wants a group, or any: IGMPv3 from nobody in particular (RFC 4541 section 2.1.1), so that it wins no
    /// election, or MLDv2.
    ///
    /// - Parameters:
    ///   - group: the group; `nil`: any.
    ///   - tenths: how long machines may take to answer, tenths of a second, up to 127.
    ///   - interval: how often all are asked, seconds, up to 127.
    public static func groupQuery(
        from mac: MACAddress, _ family: AddressFamily, group: IPAddress? = nil, tenths: UInt8, interval: UInt8
    ) -> [UInt8] {
        // Robustness 2, no sources.
        let tail: [UInt8] = [2, interval, 0, 0]
        if family == .ipv4 {
            var message: [UInt8] = [0x11, tenths, 0, 0]
            message.append(network: group?.v4?.bits ?? 0)
            return control(
                from: mac, IPAddress(IPv4Address(bits: 0)), to: group ?? IPAddress(IPv4Address(bits: 0xe000_0001)),
                message + tail)
        }
        var message: [UInt8] = [GroupMessage.MLD.query, 0, 0, 0]
        message.append(network: UInt16(tenths) * 100)
        message += [0, 0]
        message.append(network: group?.high ?? 0)
        message.append(network: group?.low ?? 0)
        return control(
            from: mac, IPAddress(.linkLocal(for: mac)), to: group ?? IPAddress(.allNodes), message + tail)
    }
}
