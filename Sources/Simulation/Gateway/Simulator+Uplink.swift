// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Uplinks: what is for the routing daemon on the uplink's host goes to it as it came, ahead of all that filters and translates,
/// and what it sends leaves by the uplink.
extension Simulator {
    /// What the daemon of an uplink sends.
    mutating func sendForDaemon(_ index: Int32, _ port: PortRecord) {
        verdict.mask.include(.etherSource)
        guard port.companion >= 0 else { return drop(.unplugged, at: index) }
        let uplink = fabric.ports[Int(port.companion)]
        verdict.tags.append(uplink.tag)
        // Whatever runs there is the uplink to its neighbors, and nobody else.
        guard key.etherSource == uplink.mac else { return drop(.spoofedMAC, at: index) }
        guard uplink.attachment == .local else { return drop(.unplugged, at: port.companion) }
        guard uplink.isEnabled else { return drop(.portDisabled, at: port.companion) }
        if isTracing { note("out", Int(port.companion), "here, from its daemon") }
        emit(.local(PortIndex(port.companion)))
    }

    /// Gives the daemon of an uplink what is for it. True when that was the end of the frame.
    mutating func reachesDaemon(_ index: Int32, _ port: PortRecord) -> Bool {
        verdict.mask.include(.etherDestination)
        let isGroup = key.etherDestination.isGroup
        guard isGroup || key.etherDestination == port.mac else { return false }
        verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
        if key.hasVLAN { return false }
        switch key.etherType {
        case EtherType.arp:
            // What answers the daemon's questions the router takes note of, too; questions are the router's to answer.
            verdict.isCacheable = false
            if key.ipProtocol == 2, !isGroup { hand(to: port, "answers its question") }
            return false
        case EtherType.ipv4, EtherType.ipv6: return isForDaemon(index, port, isGroup)
        default:
            // Protocols below IP, such as IS-IS.
            hand(to: port, "is no IP")
            return true
        }
    }

    private mutating func isForDaemon(_ index: Int32, _ port: PortRecord, _ isGroup: Bool) -> Bool {
        let destination = key.ipDestination
        let width = destination.family.width
        let isV4 = destination.family == .ipv4
        // Groups of the link alone (RFC 5771 section 4, RFC 4291 section 2.7).
        let link =
            isV4
            ? Prefix(IPAddress(IPv4Address(bits: 0xe000_0000)), length: 24)
            : Prefix(IPAddress(high: 0xff02 << 48, low: 0, family: .ipv6), length: 16)
        verdict.mask.includeDestination(
            prefix: rounded(min(link.length, destination.commonPrefix(link.address) + 1), width))
        if link.contains(destination) {
            if isV4 {
                hand(to: port, "is for all routers of the link")
                return true
            }
            return isDiscovery(port, isForAll: true)
        }
        if isGroup { return false }
        guard isOwn(port, destination, width) else { return false }
        verdict.mask.include(.ipProtocol)
        switch key.ipProtocol {
        case IPProtocol.icmpv6 where !isV4: return isDiscovery(port, isForAll: false)
        case IPProtocol.icmp, IPProtocol.icmpv6, IPProtocol.sctp: return false
        case IPProtocol.tcp, IPProtocol.udp: break
        default:
            // OSPF and the like.
            hand(to: port, "is of another protocol")
            return true
        }
        verdict.mask.include(.ipFragment)
        guard key.ipFragment != FragmentKind.later else { return false }
        verdict.mask.include(.destinationPort)
        if key.ipProtocol == IPProtocol.udp {
            guard DaemonPorts.liveness.contains(key.destinationPort) else { return false }
            hand(to: port, "is BFD")
            return true
        }
        if key.destinationPort != DaemonPorts.bgp {
            verdict.mask.include(.sourcePort)
            guard key.sourcePort == DaemonPorts.bgp else { return false }
        }
        // Machines that go out by the port's address may ask elsewhere, and strangers have no business with the daemon; who its
        // peers are only the operator knows where the configuration is.
        if let peers = fabric.tables.daemonPeers[index] {
            verdict.mask.includeSource(prefix: width)
            guard peers.contains(key.ipSource) else { return false }
        }
        hand(to: port, "is BGP")
        return true
    }

    /// Neighbor discovery is the router's own, but what the daemon asked for is told both.
    private mutating func isDiscovery(_ port: PortRecord, isForAll: Bool) -> Bool {
        verdict.mask.include(.ipProtocol)
        var type: UInt8 = 0
        if key.ipProtocol == IPProtocol.icmpv6 {
            verdict.mask.include(.ipFragment)
            verdict.mask.include(.sourcePort)
            type = UInt8(truncatingIfNeeded: key.sourcePort)
        }
        if type == ICMPv6.neighborSolicitation || !isForAll && type != ICMPv6.neighborAdvertisement { return false }
        verdict.isCacheable = false
        hand(to: port, isForAll ? "is for all of the link" : "answers its question")
        return type != ICMPv6.neighborAdvertisement
    }

    /// Whether a destination is one of the port's addresses; only bits that tell are matched.
    private mutating func isOwn(_ port: PortRecord, _ destination: IPAddress, _ width: Int) -> Bool {
        for offset in 0..<Int(port.addressCount)
        where isSame(fabric.addresses[Int(port.addressStart) + offset].address, destination, width) {
            return true
        }
        return width == 128 && isSame(IPAddress(IPv6Address.linkLocal(for: port.mac)), destination, width)
    }

    private mutating func isSame(_ address: IPAddress, _ destination: IPAddress, _ width: Int) -> Bool {
        guard address.family == destination.family else { return false }
        verdict.mask.includeDestination(prefix: rounded(min(width, destination.commonPrefix(address) + 1), width))
        return address == destination
    }

    /// Sends the frame to the daemon of an uplink, as it is.
    mutating func hand(to uplink: PortRecord, _ reason: String) {
        let daemon = fabric.ports[Int(uplink.companion)]
        verdict.tags.append(daemon.tag)
        guard daemon.attachment == .local, daemon.isEnabled else { return drop(.unplugged, at: uplink.companion) }
        if isTracing { note("daemon", Int(uplink.companion), reason) }
        emit(.local(PortIndex(uplink.companion)))
    }
}

/// Ports by which daemons are asked.
enum DaemonPorts {
    /// RFC 4271.
    static let bgp: UInt16 = 179
    /// BFD: control, echo, multihop (RFC 5881, 5883).
    static let liveness: Set<UInt16> = [3784, 3785, 4784]
}
