// SPDX-License-Identifier: Apache-2.0

/// EtherType values (IEEE 802 numbers). Frames with an 802.3 length have ``llc``, as the kernel gives it.
public enum EtherType {
    /// IPv4.
    public static let ipv4: UInt16 = 0x0800
    /// ARP.
    public static let arp: UInt16 = 0x0806
    /// Reverse ARP.
    public static let reverseARP: UInt16 = 0x8035
    /// 802.1Q customer tag.
    public static let vlan: UInt16 = 0x8100
    /// IPv6.
    public static let ipv6: UInt16 = 0x86dd
    /// 802.1ad service tag.
    public static let serviceVLAN: UInt16 = 0x88a8
    /// Ethernet inside GRE ("transparent Ethernet bridging").
    public static let transEtherBridging: UInt16 = 0x6558
    /// What the kernel says for a frame with a length field (`ETH_P_802_2`).
    public static let llc: UInt16 = 0x0004
}

/// IP protocol numbers.
public enum IPProtocol {
    /// ICMP.
    public static let icmp: UInt8 = 1
    /// TCP.
    public static let tcp: UInt8 = 6
    /// UDP.
    public static let udp: UInt8 = 17
    /// IPv6 fragment header.
    public static let fragment: UInt8 = 44
    /// GRE.
    public static let gre: UInt8 = 47
    /// ICMPv6.
    public static let icmpv6: UInt8 = 58
    /// No next header.
    public static let none: UInt8 = 59
    /// SCTP.
    public static let sctp: UInt8 = 132
}

/// Control bits of TCP (RFC 9293 section 3.1).
public enum TCPFlags {
    /// No more data from the sender.
    public static let fin: UInt16 = 0x01
    /// Synchronize sequence numbers.
    public static let syn: UInt16 = 0x02
    /// Reset the connection.
    public static let rst: UInt16 = 0x04
    /// The acknowledgement field means something: in all segments but the first.
    public static let ack: UInt16 = 0x10
}

/// `enum ovs_frag_type` of linux/openvswitch.h.
public enum FragmentKind {
    /// Not a fragment.
    public static let none: UInt8 = 0
    /// First fragment, offset zero.
    public static let first: UInt8 = 1
    /// A fragment with an offset: it has no layer 4 header.
    public static let later: UInt8 = 2
}

/// ICMP types and codes (RFC 792, 1812).
public enum ICMP {
    /// Echo reply.
    public static let echoReply: UInt8 = 0
    /// Destination unreachable.
    public static let unreachable: UInt8 = 3
    /// Source quench.
    public static let sourceQuench: UInt8 = 4
    /// Redirect.
    public static let redirect: UInt8 = 5
    /// Echo request.
    public static let echoRequest: UInt8 = 8
    /// Time exceeded.
    public static let timeExceeded: UInt8 = 11
    /// Parameter problem.
    public static let parameterProblem: UInt8 = 12
    /// Timestamp request.
    public static let timestampRequest: UInt8 = 13
    /// Timestamp reply.
    public static let timestampReply: UInt8 = 14
}

/// ICMPv6 types (RFC 4443, 4861).
public enum ICMPv6 {
    /// Destination unreachable.
    public static let unreachable: UInt8 = 1
    /// Packet too big.
    public static let packetTooBig: UInt8 = 2
    /// Time exceeded.
    public static let timeExceeded: UInt8 = 3
    /// Echo request.
    public static let echoRequest: UInt8 = 128
    /// Echo reply.
    public static let echoReply: UInt8 = 129
    /// Router solicitation.
    public static let routerSolicitation: UInt8 = 133
    /// Router advertisement.
    public static let routerAdvertisement: UInt8 = 134
    /// Neighbor solicitation.
    public static let neighborSolicitation: UInt8 = 135
    /// Neighbor advertisement.
    public static let neighborAdvertisement: UInt8 = 136
}
