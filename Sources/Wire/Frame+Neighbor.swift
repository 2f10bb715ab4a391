// SPDX-License-Identifier: Apache-2.0

/// Neighbor discovery messages (RFC 4861 section 4.3 and 4.4) as whole frames, hop limit 255.
extension Frame {
    /// A solicitation for `target` to its solicited-node group.
    public static func neighborSolicitation(
        from mac: MACAddress, source: IPv6Address, target: IPv6Address
    ) -> [UInt8] {
        let group = target.solicitedNode
        var data: [UInt8] = []
        data.append(network: target.high)
        data.append(network: target.low)
        if !source.isUnspecified {
            data += [1, 1]
            data.append(mac: mac)
        }
        return icmp(
            etherSource: mac, etherDestination: .multicast(for: group), source: IPAddress(source),
            destination: IPAddress(group), type: ICMPv6.neighborSolicitation, code: 0, data: data, ttl: 255)
    }

    /// An advertisement of `target` at `mac`.
    ///
    /// - Parameters:
    ///   - solicited: whether it answers a solicitation; false when it goes to all nodes.
    ///   - isRouter: the R flag.
    public static func neighborAdvertisement(
        target: IPv6Address, mac: MACAddress, etherDestination: MACAddress, destination: IPv6Address,
        solicited: Bool, isRouter: Bool
    ) -> [UInt8] {
        var data: [UInt8] = []
        data.append(network: target.high)
        data.append(network: target.low)
        data += [2, 1]
        data.append(mac: mac)
        let flags: UInt32 = (isRouter ? 1 << 31 : 0) | (solicited ? 1 << 30 : 0) | 1 << 29
        return icmp(
            etherSource: mac, etherDestination: etherDestination, source: IPAddress(target),
            destination: IPAddress(destination), type: ICMPv6.neighborAdvertisement, code: 0, rest: flags, data: data,
            ttl: 255)
    }
}
