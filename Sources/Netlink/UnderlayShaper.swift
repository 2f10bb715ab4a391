// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Glibc
import Linux
import Synchronization
import Wire

/// Queues that packets to other hosts wait in, each with a rate that it gets however full the others are.
public struct UnderlayQueues: Sendable, Equatable {
    /// Addresses that tunnels send from: the interfaces that have them get the queues.
    public var locals: Set<IPv4Address>
    /// What each of these interfaces sends at most, bits a second in thousands.
    public var rate: UInt32
    /// What each queue gets at least, in the same unit, by number, from 2 on.
    public var guarantees: [UInt16: UInt32]

    /// Queues.
    public init(locals: Set<IPv4Address>, rate: UInt32, guarantees: [UInt16: UInt32]) {
        (self.locals, self.rate, self.guarantees) = (locals, rate, guarantees)
    }

    /// The upper half of the handles of what is ours.
    static let major: UInt32 = 0x5e1f
    /// The queue of what is promised nothing.
    static let others: UInt16 = 1
    /// The queue of what hosts tell each other, which has a turn first.
    static let cluster: UInt16 = 0xfffe
    /// The class that all share, and borrow from.
    static let whole: UInt16 = 0xffff
    /// Queues of a host, at most.
    public static let most = 4096

    /// The priority that takes what hosts tell each other ahead of all else.
    public static var clusterPriority: UInt32 { priority(of: cluster) }

    /// The priority (`skb->priority`) that takes a packet into a queue; 0: that of the others.
    public static func priority(of queue: UInt16?) -> UInt32 { queue.map { major << 16 | UInt32($0) } ?? 0 }
}

/// Makes queues of the kernel's hierarchical token bucket (sch_htb, tc-htb(8)) on the interfaces to other hosts: each borrows what
/// the others leave, the cluster's own words first.
public final class UnderlayShaper: Sendable {
    /// By interface: the classes that are there.
    private let made = Mutex<[Int32: Set<UInt16>]>([:])

    /// Nothing is made yet.
    public init() {}

    /// Makes the queues what is wanted, whatever is there, and takes ours away from everywhere else, an earlier run's as well;
    /// `nil` takes all away.
    ///
    /// - Throws: ``SystemError``, where an address has no interface, the kernel has no such queues, or somebody else's are there.
    public func set(_ wanted: UnderlayQueues?) throws {
        try made.withLock { made in
            let socket = try NetlinkSocket(protocol: 0)
            let own = UnderlayQueues.major << 16
            let roots = try Self.roots(socket)
            var failure: (any Error)?
            let interfaces = try Self.interfaces(of: wanted?.locals ?? [], socket, &failure)
            for (index, handle) in roots where handle == own && (!interfaces.contains(index) || made[index] == nil) {
                do {
                    try Self.request(
                        socket, 37, index, handle: own, parent: Self.root, "remove queues from \(Self.name(index))")
                    made[index] = nil
                } catch { failure = error }
            }
            made = made.filter { roots[$0.key] == own && interfaces.contains($0.key) }
            if let wanted {
                for index in interfaces.sorted() {
                    do {
                        try Self.fill(index, roots[index] ?? 0, wanted, &made[index], socket)
                    } catch { failure = error }
                }
            }
            if let failure { throw failure }
        }
    }

    private static let root: UInt32 = 0xffff_ffff
    private static let create: UInt16 = 0x400
    private static let exclusive: UInt16 = 0x200

    /// The interfaces that have addresses. An address that has none just now is told of, and takes nothing from the others.
    private static func interfaces(
        of locals: Set<IPv4Address>, _ socket: NetlinkSocket, _ failure: inout (any Error)?
    ) throws -> Set<Int32> {
        if locals.isEmpty { return [] }
        var message = NetlinkMessage(type: 22, flags: 0)
        message.append(
            ifaddrmsg(ifa_family: UInt8(AF_INET), ifa_prefixlen: 0, ifa_flags: 0, ifa_scope: 0, ifa_index: 0))
        message.isDump = true
        var found: [IPv4Address: Int32] = [:]
        try socket.request(&message, "list addresses") { reader in
            guard reader.payload.count >= 8 else { return }
            let index = Int32(bitPattern: reader.payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            reader.forEachAttribute(from: 8) { type, value in
                // IFA_LOCAL
                if type == 2, let bits = value.number(UInt32.self) {
                    found[IPv4Address(bits: UInt32(bigEndian: bits))] = index
                }
            }
        }
        let links = try RouteNetlink().links()
        var interfaces: Set<Int32> = []
        for address in locals.sorted(by: { $0.bits < $1.bits }) {
            guard let index = found[address] else {
                failure = SystemError(EADDRNOTAVAIL, "find the interface of \(address)")
                continue
            }
            if let link = links.first(where: { $0.index == index }), link.flags & UInt32(IFF_LOOPBACK.rawValue) != 0 {
                failure = SystemError(
                    EADDRNOTAVAIL, "find the interface that tunnels from \(address) leave by, which is on \(link.name)")
                continue
            }
            interfaces.insert(index)
        }
        return interfaces
    }

    /// Handles of the queueing disciplines at the roots of interfaces; 0: the kernel's own choice.
    private static func roots(_ socket: NetlinkSocket) throws -> [Int32: UInt32] {
        var message = NetlinkMessage(type: 38, flags: 0)
        message.append(
            tcmsg(tcm_family: 0, tcm__pad1: 0, tcm__pad2: 0, tcm_ifindex: 0, tcm_handle: 0, tcm_parent: 0, tcm_info: 0))
        message.isDump = true
        var handles: [Int32: UInt32] = [:]
        try socket.request(&message, "list queues") { reader in
            guard reader.payload.count >= 20, reader.payload.loadUnaligned(fromByteOffset: 12, as: UInt32.self) == root
            else { return }
            handles[reader.payload.loadUnaligned(fromByteOffset: 4, as: Int32.self)] =
                reader.payload.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        }
        return handles
    }

    private static func fill(
        _ index: Int32, _ handle: UInt32, _ wanted: UnderlayQueues, _ known: inout Set<UInt16>?, _ socket: NetlinkSocket
    ) throws {
        let own = UnderlayQueues.major << 16
        if handle != 0, handle != own {
            throw SystemError(
                EEXIST,
                "make queues: interface \(name(index)) has queues of somebody else, handle \(String(handle >> 16, radix: 16)):"
            )
        }
        if known == nil {
            try request(socket, 36, index, handle: own, parent: root, flags: create | exclusive, "make queues") {
                message in
                message.attribute(1, "htb")
                message.nest(2) { options in
                    // tc_htb_glob: version, what a rate is divided by for a turn, where all else goes.
                    options.attribute(2, bytes: words([3, 10, UInt32(UnderlayQueues.others), 0, 0]))
                }
            }
            known = []
        }
        let promised = wanted.guarantees.values.reduce(0) { $0 + UInt64($1) }
        let rest = UInt64(wanted.rate) > promised ? UInt64(wanted.rate) - promised : 1
        let half = UInt32(clamping: max(8, rest / 2))
        var classes: [(number: UInt16, guarantee: UInt32)] = [
            (UnderlayQueues.whole, wanted.rate), (UnderlayQueues.cluster, half), (UnderlayQueues.others, half),
        ]
        classes += wanted.guarantees.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        for number in known ?? [] where !classes.contains(where: { $0.number == number }) {
            try? request(socket, 41, index, handle: own | UInt32(number), parent: 0, "remove a queue")
            known?.remove(number)
        }
        for (number, guarantee) in classes {
            let parent = number == UnderlayQueues.whole ? own : own | UInt32(UnderlayQueues.whole)
            try request(
                socket, 40, index, handle: own | UInt32(number), parent: parent, flags: create,
                "make a queue on \(name(index))"
            ) { message in
                message.attribute(1, "htb")
                message.nest(2) {
                    parameters(guarantee, upTo: wanted.rate, isFirst: number == UnderlayQueues.cluster, &$0)
                }
            }
            if known?.insert(number).inserted == true, number != UnderlayQueues.whole {
                bound(own | UInt32(number), index, socket)
            }
        }
    }

    /// Has no more than ``waiting`` packets wait in a class: they count against what their socket may have under way, which in the
    /// userspace engine is everybody's. Others share theirs fairly, where the kernel has sch_fq_codel.
    private static func bound(_ parent: UInt32, _ index: Int32, _ socket: NetlinkSocket) {
        let isOthers = parent & 0xffff == UInt32(UnderlayQueues.others)
        for kind in isOthers ? ["fq_codel", "pfifo"] : ["pfifo"] {
            let isMade: Void? = try? request(
                socket, 36, index, handle: 0, parent: parent, flags: create | exclusive, "bound a queue"
            ) { message in
                message.attribute(1, kind)
                if kind == "pfifo" {
                    message.attribute(2, bytes: words([waiting]))  // tc_fifo_qopt
                } else {
                    message.nest(2) { $0.attribute(2, waiting) }  // TCA_FQ_CODEL_LIMIT
                }
            }
            if isMade != nil { return }
        }
    }

    /// Packets that wait in a queue, at most.
    private static let waiting: UInt32 = 256

    /// tc_htb_opt, and rates that its 32 bits of bytes a second don't hold.
    private static func parameters(
        _ guarantee: UInt32, upTo rate: UInt32, isFirst: Bool, _ options: inout NetlinkMessage
    ) {
        func bytes(_ kilobits: UInt32) -> UInt64 { UInt64(kilobits) * 125 }
        /// How long a burst of a hundredth of a second, or of ten packets, takes, in units of 64 ns.
        func burst(_ kilobits: UInt32) -> UInt32 {
            let rate = bytes(kilobits)
            return UInt32(clamping: (max(rate / 100, 15_000) * 1_000_000_000 / rate) >> 6)
        }
        /// tc_ratespec of Ethernet, without tables.
        func specification(_ kilobits: UInt32) -> [UInt32] { [0x0100, 0, UInt32(clamping: bytes(kilobits))] }
        let turn = UInt32(clamping: min(max(bytes(guarantee) / 100, 3000), 200_000))
        options.attribute(
            1,
            bytes: words(
                specification(guarantee) + specification(rate) + [
                    burst(guarantee), burst(rate), turn, 0, isFirst ? 0 : 1,
                ]))
        options.attribute(6, bytes(guarantee))
        options.attribute(7, bytes(rate))
    }

    private static func name(_ index: Int32) -> String {
        var room = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard if_indextoname(UInt32(index), &room) != nil else { return "\(index)" }
        return String(decoding: room.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func request(
        _ socket: NetlinkSocket, _ type: UInt16, _ index: Int32, handle: UInt32, parent: UInt32, flags: UInt16 = 0,
        _ action: String, _ body: (inout NetlinkMessage) -> Void = { _ in }
    ) throws {
        var message = NetlinkMessage(type: type, flags: flags)
        message.append(
            tcmsg(
                tcm_family: 0, tcm__pad1: 0, tcm__pad2: 0, tcm_ifindex: index, tcm_handle: handle, tcm_parent: parent,
                tcm_info: 0))
        body(&message)
        try socket.request(&message, action)
    }

    private static func words(_ values: [UInt32]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value) { Array($0) } }
    }
}
