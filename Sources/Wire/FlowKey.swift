// SPDX-License-Identifier: Apache-2.0

/// Everything about a packet that a flow can match: a plain value of 20 words, compared and hashed at memory speed.
///
/// The fields are those of the kernel's `struct sw_flow_key` that Selvage uses, one to one with `OVS_KEY_ATTR_*` of
/// linux/openvswitch.h; `Datapath` translates. Fields a packet does not have are zero. Numbers are in host order.
///
/// | word | bits 0... |
/// |---|---|
/// | 0 | in port 32, recirculation id 32 |
/// | 1 | tunnel id 64 |
/// | 2-3, 4-5 | tunnel source, tunnel destination (an ``IPAddress`` each) |
/// | 6 | tunnel TOS 8, TTL 8, flags 16, source port 16, destination port 16 |
/// | 7 | Ethernet destination 48, EtherType 16 |
/// | 8 | Ethernet source 48, outer VLAN TCI 16 |
/// | 9 | outer TPID 16, inner TCI 16, inner TPID 16, TCP flags 16 |
/// | 10 | IP protocol or ARP operation 8, TOS 8, TTL 8, fragment kind 8, IPv6 flow label 32 |
/// | 11-12, 13-14 | IP source, IP destination (for ARP: sender and target address) |
/// | 15 | source port or ICMP type 16, destination port or ICMP code 16, mark 32 |
/// | 16-17 | ND target |
/// | 18 | ARP sender MAC or ND source link layer address 48 |
/// | 19 | ARP target MAC or ND target link layer address 48 |
@frozen
public struct FlowKey: Sendable {
    /// How many words a key has.
    public static let wordCount = 20

    /// The words, as the table above lays them out.
    public var words: InlineArray<20, UInt64>

    /// All zeros.
    @inlinable @inline(__always)
    public init() { words = .init(repeating: 0) }

    @inlinable @inline(__always)
    func get<T: FixedWidthInteger>(_ word: Int, _ shift: UInt64, as type: T.Type = T.self) -> T {
        T(truncatingIfNeeded: words[word] >> shift)
    }

    @inlinable @inline(__always)
    mutating func set(_ word: Int, _ shift: UInt64, _ width: UInt64, _ value: UInt64) {
        let mask: UInt64 = (width == 64 ? ~0 : (1 << width) - 1) << shift
        words[word] = words[word] & ~mask | (value << shift & mask)
    }
}

extension FlowKey: Hashable {
    /// All words equal.
    @inlinable
    public static func == (a: FlowKey, b: FlowKey) -> Bool {
        var difference: UInt64 = 0
        for index in 0..<wordCount { difference |= a.words[index] ^ b.words[index] }
        return difference == 0
    }

    /// Feeds one folded word, see ``fold``.
    @inlinable
    public func hash(into hasher: inout Hasher) { hasher.combine(fold) }

    /// All words folded to 64 well-mixed bits. Not a keyed hash: use it where the number of entries is bounded.
    @inlinable
    public var fold: UInt64 {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        var index = 0
        while index < FlowKey.wordCount {
            hash = mix(hash ^ words[index], words[index + 1] ^ 0xe703_7ed1_a0b4_28db)
            index += 2
        }
        return hash
    }

    /// Well-mixed bits that are the same for all packets of a flow: of its MACs, addresses, protocol and ports, and of no
    /// ports where packets are fragments, most of which have none (RFC 6438).
    @inlinable
    public var flowEntropy: UInt64 {
        let stations: UInt64 = (1 << 48) - 1
        let isWhole = ipFragment == FragmentKind.none
        var hash = mix(words[7] & stations ^ 0x9e37_79b9_7f4a_7c15, words[8] & stations ^ 0xe703_7ed1_a0b4_28db)
        hash = mix(hash ^ words[11], words[13] ^ 0xe703_7ed1_a0b4_28db)
        hash = mix(hash ^ words[12], words[14] ^ 0xe703_7ed1_a0b4_28db)
        let ports = isWhole ? words[15] & 0xffff_ffff : 0
        return mix(hash ^ ports, UInt64(ipProtocol) ^ 0xe703_7ed1_a0b4_28db)
    }
}

/// Multiplies to 128 bits and folds the halves: the mixing step of the wyhash family.
@inlinable @inline(__always)
public func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
}

// MARK: - Fields

extension FlowKey {
    /// Datapath port that the packet came in by.
    @inlinable public var inPort: UInt32 {
        @inline(__always) get { get(0, 0) }
        @inline(__always) set { set(0, 0, 32, UInt64(newValue)) }
    }
    /// Recirculation id: 0 on the first pass.
    @inlinable public var recirculationID: UInt32 {
        @inline(__always) get { get(0, 32) }
        @inline(__always) set { set(0, 32, 32, UInt64(newValue)) }
    }
    /// Key of the tunnel: GRE key or VNI.
    @inlinable public var tunnelID: UInt64 {
        @inline(__always) get { words[1] }
        @inline(__always) set { words[1] = newValue }
    }
    /// Outer source address; `tunnelDestination` tells whether there is a tunnel.
    @inlinable public var tunnelSourceWords: (UInt64, UInt64) {
        @inline(__always) get { (words[2], words[3]) }
        @inline(__always) set { (words[2], words[3]) = newValue }
    }
    /// Outer destination address; zero when the packet came by no tunnel.
    @inlinable public var tunnelDestinationWords: (UInt64, UInt64) {
        @inline(__always) get { (words[4], words[5]) }
        @inline(__always) set { (words[4], words[5]) = newValue }
    }
    /// Outer TOS.
    @inlinable public var tunnelTOS: UInt8 {
        @inline(__always) get { get(6, 0) }
        @inline(__always) set { set(6, 0, 8, UInt64(newValue)) }
    }
    /// Outer TTL.
    @inlinable public var tunnelTTL: UInt8 {
        @inline(__always) get { get(6, 8) }
        @inline(__always) set { set(6, 8, 8, UInt64(newValue)) }
    }
    /// ``TunnelFlags``.
    @inlinable public var tunnelFlags: UInt16 {
        @inline(__always) get { get(6, 16) }
        @inline(__always) set { set(6, 16, 16, UInt64(newValue)) }
    }
    /// Outer UDP source port.
    @inlinable public var tunnelSourcePort: UInt16 {
        @inline(__always) get { get(6, 32) }
        @inline(__always) set { set(6, 32, 16, UInt64(newValue)) }
    }
    /// Outer UDP destination port.
    @inlinable public var tunnelDestinationPort: UInt16 {
        @inline(__always) get { get(6, 48) }
        @inline(__always) set { set(6, 48, 16, UInt64(newValue)) }
    }
    /// Ethernet destination.
    @inlinable public var etherDestination: MACAddress {
        @inline(__always) get { MACAddress(bits: words[7]) }
        @inline(__always) set { set(7, 0, 48, newValue.bits) }
    }
    /// Ethernet source.
    @inlinable public var etherSource: MACAddress {
        @inline(__always) get { MACAddress(bits: words[8]) }
        @inline(__always) set { set(8, 0, 48, newValue.bits) }
    }
    /// The type after all VLAN tags.
    @inlinable public var etherType: UInt16 {
        @inline(__always) get { get(7, 48) }
        @inline(__always) set { set(7, 48, 16, UInt64(newValue)) }
    }
    /// Outer tag control information with bit 0x1000 set when there is a tag; 0 without.
    @inlinable public var vlanTCI: UInt16 {
        @inline(__always) get { get(8, 48) }
        @inline(__always) set { set(8, 48, 16, UInt64(newValue)) }
    }
    /// Outer tag protocol, 0x8100 or 0x88a8; 0 without.
    @inlinable public var vlanTPID: UInt16 {
        @inline(__always) get { get(9, 0) }
        @inline(__always) set { set(9, 0, 16, UInt64(newValue)) }
    }
    /// Inner tag control information with bit 0x1000 set when there is a second tag.
    @inlinable public var innerVLANTCI: UInt16 {
        @inline(__always) get { get(9, 16) }
        @inline(__always) set { set(9, 16, 16, UInt64(newValue)) }
    }
    /// Inner tag protocol.
    @inlinable public var innerVLANTPID: UInt16 {
        @inline(__always) get { get(9, 32) }
        @inline(__always) set { set(9, 32, 16, UInt64(newValue)) }
    }
    /// The low 12 bits of the TCP flags word.
    @inlinable public var tcpFlags: UInt16 {
        @inline(__always) get { get(9, 48) }
        @inline(__always) set { set(9, 48, 16, UInt64(newValue)) }
    }
    /// IP protocol after extension headers; for ARP the operation.
    @inlinable public var ipProtocol: UInt8 {
        @inline(__always) get { get(10, 0) }
        @inline(__always) set { set(10, 0, 8, UInt64(newValue)) }
    }
    /// TOS or traffic class.
    @inlinable public var ipTOS: UInt8 {
        @inline(__always) get { get(10, 8) }
        @inline(__always) set { set(10, 8, 8, UInt64(newValue)) }
    }
    /// TTL or hop limit.
    @inlinable public var ipTTL: UInt8 {
        @inline(__always) get { get(10, 16) }
        @inline(__always) set { set(10, 16, 8, UInt64(newValue)) }
    }
    /// ``FragmentKind``.
    @inlinable public var ipFragment: UInt8 {
        @inline(__always) get { get(10, 24) }
        @inline(__always) set { set(10, 24, 8, UInt64(newValue)) }
    }
    /// IPv6 flow label, 20 bits.
    @inlinable public var ipv6Label: UInt32 {
        @inline(__always) get { get(10, 32) }
        @inline(__always) set { set(10, 32, 32, UInt64(newValue)) }
    }
    /// IP source, or ARP sender protocol address, top-aligned as in ``IPAddress``.
    @inlinable public var ipSourceWords: (UInt64, UInt64) {
        @inline(__always) get { (words[11], words[12]) }
        @inline(__always) set { (words[11], words[12]) = newValue }
    }
    /// IP destination, or ARP target protocol address.
    @inlinable public var ipDestinationWords: (UInt64, UInt64) {
        @inline(__always) get { (words[13], words[14]) }
        @inline(__always) set { (words[13], words[14]) = newValue }
    }
    /// TCP, UDP or SCTP source port; ICMP type.
    @inlinable public var sourcePort: UInt16 {
        @inline(__always) get { get(15, 0) }
        @inline(__always) set { set(15, 0, 16, UInt64(newValue)) }
    }
    /// TCP, UDP or SCTP destination port; ICMP code.
    @inlinable public var destinationPort: UInt16 {
        @inline(__always) get { get(15, 16) }
        @inline(__always) set { set(15, 16, 16, UInt64(newValue)) }
    }
    /// `skb->mark`.
    @inlinable public var mark: UInt32 {
        @inline(__always) get { get(15, 32) }
        @inline(__always) set { set(15, 32, 32, UInt64(newValue)) }
    }
    /// ND target address.
    @inlinable public var ndTarget: IPv6Address {
        @inline(__always) get { IPv6Address(high: words[16], low: words[17]) }
        @inline(__always) set { (words[16], words[17]) = (newValue.high, newValue.low) }
    }
    /// ARP sender MAC, or ND source link layer address option.
    @inlinable public var arpSource: MACAddress {
        @inline(__always) get { MACAddress(bits: words[18]) }
        @inline(__always) set { set(18, 0, 48, newValue.bits) }
    }
    /// ARP target MAC, or ND target link layer address option.
    @inlinable public var arpTarget: MACAddress {
        @inline(__always) get { MACAddress(bits: words[19]) }
        @inline(__always) set { set(19, 0, 48, newValue.bits) }
    }

    /// The family by EtherType; ARP counts as IPv4. `nil` for anything else.
    @inlinable public var addressFamily: AddressFamily? {
        switch etherType {
        case EtherType.ipv4, EtherType.arp: .ipv4
        case EtherType.ipv6: .ipv6
        default: nil
        }
    }
    /// Source address in the family that the EtherType says.
    @inlinable public var ipSource: IPAddress {
        @inline(__always) get {
            IPAddress(high: words[11], low: words[12], family: etherType == EtherType.ipv6 ? .ipv6 : .ipv4)
        }
        @inline(__always) set { (words[11], words[12]) = (newValue.high, newValue.low) }
    }
    /// Destination address in the family that the EtherType says.
    @inlinable public var ipDestination: IPAddress {
        @inline(__always) get {
            IPAddress(high: words[13], low: words[14], family: etherType == EtherType.ipv6 ? .ipv6 : .ipv4)
        }
        @inline(__always) set { (words[13], words[14]) = (newValue.high, newValue.low) }
    }
    /// Whether the packet came by a tunnel.
    @inlinable public var hasTunnel: Bool { words[4] | words[5] != 0 }
    /// Whether there is an outer VLAN tag.
    @inlinable public var hasVLAN: Bool { vlanTCI & 0x1000 != 0 }
}

/// Flags of a tunnel header, as `OVS_TUNNEL_KEY_ATTR_*` flags say them.
public enum TunnelFlags {
    /// Outer "don't fragment".
    public static let dontFragment: UInt16 = 1
    /// Outer checksum present or wanted.
    public static let checksum: UInt16 = 2
    /// The header carries a key.
    public static let key: UInt16 = 4
    /// Operations and maintenance.
    public static let oam: UInt16 = 8
}
