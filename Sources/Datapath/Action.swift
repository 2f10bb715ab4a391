// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a datapath does to a packet, step by step; one to one with `OVS_ACTION_ATTR_*` of linux/openvswitch.h.
public enum Action: Sendable, Equatable {
    /// Sends a copy out of a datapath port, with the tunnel header that was set last.
    case output(PortNumber)
    /// Hands the packet up as an upcall with a cookie.
    case userspace(cookie: UInt64)
    /// Sets the header for the next output to a tunnel port.
    case setTunnel(TunnelHeader)
    /// Sets Ethernet addresses under masks of 48 bits.
    case setEthernet(source: MACAddress, sourceMask: UInt64, destination: MACAddress, destinationMask: UInt64)
    /// Sets fields of an IPv4 header, each under a mask.
    case setIPv4(value: IPFields, mask: IPFields)
    /// Sets fields of an IPv6 header, each under a mask.
    case setIPv6(value: IPFields, mask: IPFields)
    /// Sets layer 4 ports under masks of 16 bits.
    case setPorts(ipProtocol: UInt8, source: UInt16, sourceMask: UInt16, destination: UInt16, destinationMask: UInt16)
    /// Puts a VLAN tag on; bit 0x1000 of the TCI is set by the datapath.
    case pushVLAN(tpid: UInt16, tci: UInt16)
    /// Takes the outer VLAN tag off.
    case popVLAN
    /// The next output sends so many bytes of the frame at most.
    case truncate(Int)
    /// Does these where a meter lets the packet through, and then goes on; a meter that there is not lets all through. Only
    /// tunnel headers, lengths and outputs, unless it is the last action.
    case metered(MeterNumber, [Action])
    /// Does these with one of so many packets, by chance, and then goes on. What ``metered(_:_:)`` may do, and hand the packet up.
    case sampled(oneOf: UInt32, [Action])
    /// Goes on with one list or the other by the packet's layer 3 length, for a packet that is still to be segmented that
    /// of its segments. Only as the last action.
    case checkLength(limit: Int, tooLong: [Action], fits: [Action])
}

/// The fields of an IP header that an action can set.
public struct IPFields: Sendable, Equatable {
    /// Source, top-aligned as in ``IPAddress``.
    public var source: (UInt64, UInt64) = (0, 0)
    /// Destination, top-aligned.
    public var destination: (UInt64, UInt64) = (0, 0)
    /// TOS or traffic class.
    public var tos: UInt8 = 0
    /// TTL or hop limit.
    public var ttl: UInt8 = 0

    /// All zeros.
    public init() {}

    /// The IP fields of a key, or of a mask's bits.
    public init(_ key: FlowKey) {
        source = key.ipSourceWords
        destination = key.ipDestinationWords
        tos = key.ipTOS
        ttl = key.ipTTL
    }

    /// A key with nothing but these fields.
    package var key: FlowKey {
        var key = FlowKey()
        key.ipSourceWords = source
        key.ipDestinationWords = destination
        key.ipTOS = tos
        key.ipTTL = ttl
        return key
    }

    /// Field by field.
    public static func == (a: IPFields, b: IPFields) -> Bool {
        a.source == b.source && a.destination == b.destination && a.tos == b.tos && a.ttl == b.ttl
    }
}

/// A tunnel header to send with, or that a packet came with.
public struct TunnelHeader: Sendable, Hashable {
    /// GRE key or VNI.
    public var id: UInt32
    /// Outer source.
    public var source: IPAddress
    /// Outer destination.
    public var destination: IPAddress
    /// Outer TTL.
    public var ttl: UInt8 = 64
    /// Outer TOS.
    public var tos: UInt8 = 0
    /// What takes the packet into a queue of the interface that it leaves by, see ``UnderlayQueues/priority(of:)``.
    public var priority: UInt32 = 0

    /// A header with TTL 64.
    public init(id: UInt32, source: IPAddress, destination: IPAddress, tos: UInt8 = 0, priority: UInt32 = 0) {
        self.tos = tos
        self.priority = priority
        self.id = id
        self.source = source
        self.destination = destination
    }
}

/// The number of a port in its datapath, 0 to 65534. 0 is the datapath's own internal port.
public struct PortNumber: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The number.
    public let value: UInt32

    /// A port of a number.
    @inlinable
    public init(_ value: UInt32) { self.value = value }

    /// Numeric order.
    public static func < (a: PortNumber, b: PortNumber) -> Bool { a.value < b.value }
    /// The number as text.
    public var description: String { String(value) }
}

/// Names a meter of a datapath.
public struct MeterNumber: Sendable, Hashable {
    /// The number; below ``most``.
    public let value: UInt32

    /// Meters of one datapath.
    public static let most: UInt32 = 65_536

    /// A meter of a number.
    public init(_ value: UInt32) { self.value = value }
}
