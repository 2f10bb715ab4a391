// SPDX-License-Identifier: Apache-2.0
import Wire

/// One thing that a condition asks for, or asks not to be there.
///
/// What a packet does not have is neither in a set nor outside it: "not from 10.0.0.0/8" holds for no ARP frame.
public struct Match<Value: Hashable & Sendable>: Sendable, Hashable {
    /// What is asked for.
    public var value: Value
    /// Whether everything else is meant.
    public var isInverted: Bool

    /// A match.
    public init(_ value: Value, isInverted: Bool = false) {
        self.value = value
        self.isInverted = isInverted
    }
}

/// Which packets a rule is for: everything that is said must hold.
///
/// Ports, groups and devices are named within the tenant of the chain.
public struct Condition: Sendable, Hashable {
    /// Ports of the tenant by which the packet came into the device that is filtered, as `device/port`.
    public var inPorts: Match<Set<String>>?
    /// Ports of the tenant by which it leaves that device, as `device/port`; known to outbound chains.
    public var outPorts: Match<Set<String>>?
    /// A port group that holds the port by which the packet came into the device.
    public var inPortGroup: Match<String>?
    /// A port group that holds the port by which it leaves; known to outbound chains.
    public var outPortGroup: Match<String>?
    /// A port group that holds the port by which the packet came into the virtual network.
    public var ingressPortGroup: Match<String>?
    /// A device of the tenant that the packet went through.
    public var traversed: Match<String>?

    /// EtherType, behind VLAN tags.
    public var etherType: Match<UInt16>?
    /// Source MAC under a mask.
    public var sourceMAC: Match<MaskedMAC>?
    /// Destination MAC under a mask.
    public var destinationMAC: Match<MaskedMAC>?
    /// VLAN of the frame as the chain sees it, 1 to 4094; 0 for a frame without a tag.
    public var vlan: Match<UInt16>?

    /// IP protocol, or IPv6 next header behind extensions.
    public var ipProtocol: Match<UInt8>?
    /// Source addresses, one of them; IPv4 or IPv6.
    public var sources: Match<Set<Prefix>>?
    /// Destination addresses, one of them; IPv4 or IPv6.
    public var destinations: Match<Set<Prefix>>?
    /// An address group that holds the source.
    public var sourceGroup: Match<String>?
    /// An address group that holds the destination.
    public var destinationGroup: Match<String>?
    /// Differentiated services code point, 0 to 63 (RFC 2474).
    public var dscp: Match<UInt8>?
    /// Which fragments; any unless said, and those with ports where ports are asked for.
    public var fragment: FragmentPolicy?

    /// Source ports of TCP, UDP or SCTP, one of the ranges.
    public var sourcePorts: Match<Set<PortRange>>?
    /// Destination ports of TCP, UDP or SCTP, one of the ranges.
    public var destinationPorts: Match<Set<PortRange>>?
    /// ICMP or ICMPv6 type, and code where it matters.
    public var icmp: Match<ICMPMatch>?
    /// TCP flags under a mask (RFC 9293 section 3.1).
    public var tcpFlags: Match<FlagsMatch>?

    /// What is known of the connection that the packet belongs to: one of these. Asking makes the connection known, if the
    /// packet may go on.
    public var states: Set<ConnectionState>?
    /// Which way the packet goes in its connection.
    public var direction: ConnectionDirection?

    /// Whether the whole is inverted: the rule is for packets that what is said above does not hold for.
    public var isInverted = false

    /// Every packet.
    public init() {}

    /// Whether ports or what stands in their place are asked for, which later fragments do not have.
    public var readsTransport: Bool {
        sourcePorts != nil || destinationPorts != nil || icmp != nil || tcpFlags != nil
    }
    /// Whether the connection is asked for.
    public var readsState: Bool { states != nil || direction != nil }
}

/// A MAC of which some bits count.
public struct MaskedMAC: Sendable, Hashable {
    /// The address; bits that do not count are 0.
    public var address: MACAddress
    /// The bits that count.
    public var mask: MACAddress

    /// A MAC under a mask.
    public init(_ address: MACAddress, mask: MACAddress = MACAddress(bits: 0xffff_ffff_ffff)) {
        self.address = MACAddress(bits: address.bits & mask.bits)
        self.mask = mask
    }

    /// Whether a MAC is one of those.
    public func contains(_ mac: MACAddress) -> Bool { mac.bits & mask.bits == address.bits }
}

/// Ports from one to another, both included.
public struct PortRange: Sendable, Hashable, Comparable {
    /// The first.
    public var first: UInt16
    /// The last, not before the first.
    public var last: UInt16

    /// A range.
    public init(_ first: UInt16, _ last: UInt16) {
        self.first = first
        self.last = last
    }

    /// By the first, then by the last.
    public static func < (a: PortRange, b: PortRange) -> Bool { (a.first, a.last) < (b.first, b.last) }
    /// Whether it holds a port.
    public func contains(_ port: UInt16) -> Bool { first <= port && port <= last }
}

/// A type of ICMP, with a code where it matters.
public struct ICMPMatch: Sendable, Hashable {
    /// The type (RFC 792, 4443).
    public var type: UInt8
    /// The code; any unless said.
    public var code: UInt8?

    /// A type.
    public init(type: UInt8, code: UInt8? = nil) {
        self.type = type
        self.code = code
    }
}

/// TCP flags that must be set and flags that must not.
public struct FlagsMatch: Sendable, Hashable {
    /// The flags that count, FIN being bit 0.
    public var mask: UInt16
    /// Those of them that are set.
    public var value: UInt16

    /// Flags under a mask.
    public init(mask: UInt16, value: UInt16) {
        self.mask = mask
        self.value = value & mask
    }
}

/// Which fragments of packets a rule is for.
public enum FragmentPolicy: String, Sendable, CaseIterable {
    /// Whole packets and all fragments.
    case any
    /// Whole packets only.
    case unfragmented
    /// Whole packets and first fragments: what has a transport header.
    case header
    /// Fragments behind the first: what has none.
    case nonheader
}

/// What is known of a packet's connection.
public enum ConnectionState: String, Sendable, CaseIterable {
    /// Nobody let a packet of it through yet.
    case new
    /// A packet of it was let through.
    case established
    /// It is an error that tells of a packet of a connection that is known.
    case related
    /// It can't be part of any: a TCP segment without a connection that may not begin one, or broken.
    case invalid
}

/// Which way a packet goes in its connection.
public enum ConnectionDirection: String, Sendable, CaseIterable {
    /// As the first packet went.
    case forward
    /// Back to who began it.
    case `return`
}
