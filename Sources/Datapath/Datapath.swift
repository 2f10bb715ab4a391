// SPDX-License-Identifier: Apache-2.0
import Linux
import Netlink
import Wire

/// What carries packets out: flow tables under match and mask, ports, tunnels. Two engines stand behind it, the kernel's
/// openvswitch module and packet sockets; one conformance suite runs against both.
///
/// **Flows.** A flow is a masked key and a list of actions under a ``FlowID``. Where two flows hold one packet either may
/// be taken: whoever installs them sees to it that they agree.
///
/// **Threads.** A datapath runs packet threads. A packet that no flow holds is handed to the ``UpcallHandler`` of the
/// thread that read it; packets of one flow come to one thread, in order. A handler acts through the
/// ``DatapathThread`` that it is given, during its calls only. The methods of this protocol may be called from any
/// other thread.
public protocol Datapath: AnyObject, Sendable {
    /// Which engine this is.
    var kind: DatapathKind { get }

    /// Whether a flow that one packet thread installs holds packets of all: true for the kernel.
    var sharesFlows: Bool { get }

    /// Adds a port and starts to read from it.
    ///
    /// - Throws: ``SystemError``, as when the interface does not exist.
    func addPort(_ specification: PortSpecification) throws -> PortNumber

    /// Adds several ports, which may take little longer than one. Results are in the order of the specifications.
    func addPorts(_ specifications: [PortSpecification]) -> [Result<PortNumber, any Error>]

    /// Removes a port; what comes for it is dropped and counted.
    func removePort(_ port: PortNumber) throws

    /// All ports, in order of number.
    func ports() throws -> [PortStatus]

    /// Makes a meter, or changes what it lets through.
    ///
    /// - Throws: ``SystemError``, as when there is no room for more.
    func setMeter(_ meter: MeterNumber, _ specification: MeterSpecification) throws

    /// Removes a meter; nothing happens when there is none.
    func removeMeter(_ meter: MeterNumber) throws

    /// Promises rates to packets that leave by tunnels with a priority (``TunnelHeader/priority``); `nil`: none.
    ///
    /// - Throws: ``SystemError``, where they can't be kept.
    func setQueues(_ queues: UnderlayQueues?) throws

    /// Counters of the whole datapath.
    func statistics() throws -> DatapathStatistics

    /// Flows that were there before this process installed any: what an earlier run left.
    func inheritedFlows() throws -> [InheritedFlow]

    /// Starts the packet threads; `makeHandler` is called once for each, with its number, on the caller's thread.
    func start(_ makeHandler: (Int) -> any UpcallHandler) throws

    /// Lets every packet thread call its handler's ``UpcallHandler/wake(_:)`` soon.
    func wake()

    /// Ends the packet threads. A kernel datapath keeps its flows and ports; ``destroy()`` removes them.
    func stop()

    /// Removes the datapath with all flows and ports.
    func destroy() throws
}

extension Datapath {
    /// One after the other.
    public func addPorts(_ specifications: [PortSpecification]) -> [Result<PortNumber, any Error>] {
        specifications.map { specification in Result { try addPort(specification) } }
    }
}

/// The engines.
public enum DatapathKind: String, Sendable, CaseIterable {
    /// The kernel's openvswitch module.
    case kernel
    /// Packet sockets.
    case userspace
}

/// One packet thread's door into its datapath. Not to be kept or used outside of the handler's calls. What is asked is
/// done in order, at the latest when the handler's call returns or asks for flows.
public protocol DatapathThread: AnyObject {
    /// Installs a flow, or replaces the actions of the flow with that id.
    func install(_ flow: borrowing Flow)
    /// Removes a flow; nothing happens when there is none.
    func remove(_ id: FlowID)
    /// Acts on the packet of the upcall at hand.
    func execute(_ actions: [Action], on packet: borrowing UpcallPacket)
    /// Acts on a packet that was kept or made.
    func execute(_ actions: [Action], on packet: OwnedPacket)
    /// Calls `body` for every flow that this thread installed, with its counters.
    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void)
}

/// Decides packets that no flow holds. A handler belongs to one packet thread and is called only there.
public protocol UpcallHandler: AnyObject {
    /// A packet that no flow held, or that an action handed up.
    func upcall(_ packet: borrowing UpcallPacket, _ thread: any DatapathThread)
    /// Called after ``Datapath/wake()``, and at least every ``UpcallHandlerTiming/tickMilliseconds``.
    func wake(_ thread: any DatapathThread)
}

/// How often handlers get their turn.
public enum UpcallHandlerTiming {
    /// The longest time between two calls of ``UpcallHandler/wake(_:)``.
    public static let tickMilliseconds: Int32 = 100
}

/// Names a flow: 128 bits that its installer makes of what the flow stands for.
public struct FlowID: Hashable, Sendable {
    /// First 64 bits.
    public let high: UInt64
    /// Last 64 bits.
    public let low: UInt64

    /// An id of its halves.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The id of the flow of a masked key: the same on every run, so that a restarted node knows its flows again.
    public init(maskedKey: FlowKey, mask: FlowMask) {
        high = maskedKey.fold
        low = mix(mask.bits.fold, high ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Both halves in 64 bits, for tables that hash no more.
    @inlinable public var folded: UInt64 { mix(high ^ 0x9e37_79b9_7f4a_7c15, low ^ 0xe703_7ed1_a0b4_28db) }

    /// Hashes by the first half.
    public func hash(into hasher: inout Hasher) { hasher.combine(high) }
}

/// A flow to install.
public struct Flow: Sendable {
    /// Its name.
    public var id: FlowID
    /// The masked key.
    public var key: FlowKey
    /// The bits that count.
    public var mask: FlowMask
    /// What to do; none drops.
    public var actions: [Action]

    /// The flow of all packets that agree with `key` in the bits of `mask`.
    public init(key: FlowKey, mask: FlowMask, actions: [Action]) {
        // No kernel flow holds tagged and untagged frames alike, or frames of two tag protocols.
        var mask = mask
        mask.bits.words[8] |= UInt64(0x1000) << 48
        if key.hasVLAN {
            mask.include(.vlanTPID)
            mask.bits.words[9] |= UInt64(0x1000) << 16
            if key.innerVLANTCI & 0x1000 != 0 { mask.include(.innerVLANTPID) }
        }
        self.key = mask.apply(key)
        self.mask = mask
        self.actions = actions
        self.id = FlowID(maskedKey: self.key, mask: mask)
    }
}

/// What a flow has carried.
public struct FlowStatistics: Sendable, Equatable {
    /// Packets.
    public var packets: UInt64 = 0
    /// Bytes from the Ethernet header on.
    public var bytes: UInt64 = 0
    /// When it was last used, monotonic nanoseconds; 0: never.
    public var usedNanoseconds: UInt64 = 0
    /// TCP flags of all packets together, FIN being bit 0.
    public var tcpFlags: UInt16 = 0

    /// Nothing carried.
    public init() {}
}

/// A flow that an earlier run left.
public struct InheritedFlow: Sendable {
    /// Its id; `nil` when it was installed without one.
    public var id: FlowID?
    /// The masked key.
    public var key: FlowKey
    /// What it has carried.
    public var statistics: FlowStatistics

    package init(id: FlowID?, key: FlowKey, statistics: FlowStatistics) {
        self.id = id
        self.key = key
        self.statistics = statistics
    }
}

/// A port to add.
public enum PortSpecification: Sendable, Hashable {
    /// An interface of this network namespace.
    case interface(String)
    /// GRE with key, from and to `local`.
    case gre(local: IPv4Address)
    /// VXLAN on a UDP port, from and to `local`.
    case vxlan(local: IPv4Address, port: UInt16)
    /// A host outside that looks at copies of frames; nothing comes from there.
    case collector(Collector)
}

/// Where copies of frames go outside, and how.
public struct Collector: Sendable, Hashable {
    /// Around the frame.
    public enum Encapsulation: Sendable, Hashable {
        /// GRE with a key.
        case gre(key: UInt32)
        /// ERSPAN type II with a session of 10 bits.
        case erspan(session: UInt16)
    }
    /// Around the frame.
    public var encapsulation: Encapsulation
    /// This host's address.
    public var local: IPv4Address
    /// The host that looks at them.
    public var remote: IPv4Address

    /// A collector.
    public init(_ encapsulation: Encapsulation, local: IPv4Address, remote: IPv4Address) {
        self.encapsulation = encapsulation
        self.local = local
        self.remote = remote
    }
}

/// A port as it is.
public struct PortStatus: Sendable {
    /// Its number.
    public var number: PortNumber
    /// What it is.
    public var specification: PortSpecification
    /// Packets in.
    public var receivedPackets: UInt64 = 0
    /// Bytes in.
    public var receivedBytes: UInt64 = 0
    /// Packets out.
    public var sentPackets: UInt64 = 0
    /// Bytes out.
    public var sentBytes: UInt64 = 0
    /// Packets that could not be sent.
    public var sendErrors: UInt64 = 0
    /// Packets that came in faster than they were read.
    public var receiveDrops: UInt64 = 0
    /// What is not as it should be with the port, in words.
    public var warning: String?

    /// A port without counts.
    public init(number: PortNumber, specification: PortSpecification) {
        self.number = number
        self.specification = specification
    }
}

/// Counters of a datapath.
public struct DatapathStatistics: Sendable, Equatable {
    /// Packets that a flow held.
    public var hits: UInt64 = 0
    /// Packets that none held.
    public var misses: UInt64 = 0
    /// Upcalls lost for want of room.
    public var lost: UInt64 = 0
    /// Times that the queue of upcalls overflowed; what was lost in it is in `lost` where the engine tells.
    public var overflows: UInt64 = 0
    /// Packets whose checksum or segmentation was left to be done in a way that makes no sense.
    public var malformed: UInt64 = 0
    /// Flows.
    public var flows: UInt64 = 0
    /// Distinct masks.
    public var masks: UInt64 = 0
    /// Requests that the engine below refused; each is a fault of ours.
    public var refused: UInt64 = 0
    /// Flows that were not taken, since another one that is there holds their packets; it is decided again with them.
    public var overlapping: UInt64 = 0
    /// Times that refusals were lost, for want of room to tell them.
    public var unheard: UInt64 = 0
    /// The last refusal in words; empty when there was none.
    public var lastRefusal = ""

    /// All zeros.
    public init() {}
}

/// How the sender left checksum and segmentation to be done, as `struct virtio_net_hdr` says it.
public struct Offload: Sendable, Equatable {
    /// Bit 0: the checksum is partial.
    public var flags: UInt8 = 0
    /// 0 none, 1 TCP over IPv4, 4 TCP over IPv6, 5 UDP; bit 7 ECN.
    public var segmentation: UInt8 = 0
    /// Bytes of headers of each segment.
    public var headerLength: UInt16 = 0
    /// Payload bytes of each segment.
    public var segmentSize: UInt16 = 0
    /// Where the checksum begins.
    public var checksumStart: UInt16 = 0
    /// Where it is stored, from there.
    public var checksumOffset: UInt16 = 0

    /// Nothing left to do.
    public init() {}

    /// Whether the checksum field holds the pseudo header's sum only.
    @inlinable public var hasPartialChecksum: Bool { flags & 1 != 0 }
}

/// A packet in an upcall; its bytes are valid during the call.
public struct UpcallPacket: ~Copyable {
    /// Why it came: 0 for a miss, else the cookie of ``Action/userspace(cookie:)``.
    public let cookie: UInt64
    /// Its fields, tunnel and port included.
    public let key: FlowKey
    /// Where its layers are.
    public let layout: PacketLayout
    /// The frame.
    public let bytes: UnsafeMutableRawBufferPointer
    /// What is left to be done to it.
    public let offload: Offload
    /// Layer 3 bytes; of the largest segment where it is to be segmented.
    public let length: Int

    package init(
        cookie: UInt64, key: FlowKey, layout: PacketLayout, bytes: UnsafeMutableRawBufferPointer, offload: Offload,
        length: Int
    ) {
        self.cookie = cookie
        self.key = key
        self.layout = layout
        self.bytes = bytes
        self.offload = offload
        self.length = length
    }

    /// A packet that can be used after the call.
    public func owned() -> OwnedPacket {
        OwnedPacket(key: key, bytes: [UInt8](UnsafeRawBufferPointer(bytes)), offload: offload)
    }
}

/// A packet with bytes of its own.
public struct OwnedPacket: Sendable {
    /// Fields that are not in the frame: port and tunnel. The rest is parsed again.
    public var key: FlowKey
    /// The frame.
    public var bytes: [UInt8]
    /// What is left to be done to it.
    public var offload: Offload

    /// A packet of a frame.
    public init(key: FlowKey = FlowKey(), bytes: [UInt8], offload: Offload = Offload()) {
        self.key = key
        self.bytes = bytes
        self.offload = offload
    }
}

/// Layer 3 bytes of a parsed frame; of its largest segment where it is to be segmented.
public func layer3Length(_ layout: PacketLayout, frameLength: Int, offload: Offload) -> Int {
    guard offload.segmentation & 0x7f != 0, offload.segmentSize > 0 else {
        return layout.networkLength > 0
            ? layout.networkLength : max(0, frameLength - Int(layout.network))
    }
    return Int(offload.headerLength) - Int(layout.network) + Int(offload.segmentSize)
}
