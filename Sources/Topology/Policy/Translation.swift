// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a router translates addresses to.
///
/// Packets are translated as they come, before they are filtered and routed, in their destination; and after that, as they
/// leave, in their source. Filters see machines by their own addresses, whichever way packets go.
public struct Translation: Sendable, Hashable {
    /// Rules for the first packet of each connection; of those that change one side the first that matches decides. What
    /// was decided holds as long as the connection, and a rule for it is there.
    public var rules: [TranslationRule] = []
    /// Addresses that stand for one machine each.
    public var floating: [FloatingAddress] = []

    /// Addresses behind which pools of servers are.
    public var virtual: [VirtualAddress] = []

    /// Rules of one router, at most.
    public static let rulesPerRouter = 1024
    /// Floating addresses of one router, at most.
    public static let floatingPerRouter = 4096

    /// Nothing.
    public init() {}

    /// Addresses besides its own that the router answers for in its networks: those that sources become, those whose
    /// ports it forwards, floating and virtual ones.
    public var answered: Set<IPAddress> {
        var answered = Set(floating.map(\.address)).union(virtual.map(\.address))
        for rule in rules {
            switch rule.action {
            case .source(let target): answered.formUnion((0..<target.count).map(target.address))
            case .destination:
                guard let match = rule.condition.destinations, !match.isInverted, !rule.condition.isInverted else {
                    continue
                }
                answered.formUnion(match.value.filter { $0.length == $0.family.width }.map(\.address))
            case .masquerade, .accept: break
            }
        }
        return answered
    }

    /// Whether nothing is translated.
    public var isEmpty: Bool { rules.isEmpty && floating.isEmpty && virtual.isEmpty }
}

/// An address that stands for a machine, whatever the protocol, both ways and without state: a floating IP.
public struct FloatingAddress: Sendable, Hashable {
    /// The address that others see.
    public var address: IPAddress
    /// The machine's own.
    public var target: IPAddress
    /// The router's port towards those others; `nil`: the one whose network holds ``address``.
    public var port: String?

    /// A floating address.
    public init(_ address: IPAddress, target: IPAddress, port: String? = nil) {
        self.address = address
        self.target = target
        self.port = port
    }
}

/// How the connections are translated that a condition holds for.
public struct TranslationRule: Sendable, Hashable {
    /// What a rule does.
    public enum Action: Sendable, Hashable {
        /// The destination becomes one of these: port forwarding.
        case destination(TranslationTarget)
        /// The source becomes one of these, with a port that no other connection has.
        case source(TranslationTarget)
        /// The source becomes the address of the port that the packet leaves by, with one of these ports.
        case masquerade(PortRange?)
        /// Nothing is changed: no later rule is asked.
        case accept
    }

    /// Names the rule in its router.
    public var id: String
    /// Which connections it is for. Nothing may be asked for that differs among the packets of a connection.
    public var condition: Condition
    /// What happens to them.
    public var action: Action

    /// A rule.
    public init(id: String, condition: Condition = Condition(), action: Action) {
        self.id = id
        self.condition = condition
        self.action = action
    }
}

/// Addresses and ports to translate to.
public struct TranslationTarget: Sendable, Hashable {
    /// The first address.
    public var first: IPAddress
    /// The last, not before the first.
    public var last: IPAddress
    /// The ports; `nil` leaves a destination's as it is, and takes a source's from ``PortRange/translation``.
    public var ports: PortRange?

    /// Addresses of one target, at most.
    public static let addressesPerTarget = 256

    /// A target.
    public init(_ first: IPAddress, _ last: IPAddress? = nil, ports: PortRange? = nil) {
        self.first = first
        self.last = last ?? first
        self.ports = ports
    }

    /// How many addresses there are; more than ``addressesPerTarget`` are not counted.
    public var count: Int {
        guard first.family == last.family, first <= last else { return 0 }
        let distance: UInt64
        if first.family == .ipv4 {
            distance = (last.high - first.high) >> 32
        } else {
            guard last.high == first.high else { return TranslationTarget.addressesPerTarget + 1 }
            distance = last.low - first.low
        }
        return Int(min(distance, UInt64(TranslationTarget.addressesPerTarget))) + 1
    }

    /// One of the addresses; `index` is below ``count``.
    public func address(_ index: Int) -> IPAddress { first.advanced(by: index) }
}

extension PortRange {
    /// The ports that sources are translated to unless a rule says others: all but the well-known ones.
    public static let translation = PortRange(1024, 65_535)
}

/// Ports of one address that a host translates sources to: blocks of them belong to one host at a time.
public enum PortBlock {
    /// Ports of a block.
    public static let size = 64
    /// Blocks of an address.
    public static let count: UInt32 = 1024

    /// Blocks that hold ports of a range.
    public static func blocks(of range: PortRange) -> Range<UInt32> {
        UInt32(range.first) / UInt32(size)..<UInt32(range.last) / UInt32(size) + 1
    }

    /// Ports of blocks, which are in ascending order.
    public static func ranges(of blocks: [UInt32]) -> [PortRange] {
        var ranges: [PortRange] = []
        for block in blocks {
            let (first, last) = (Int(block) * size, min(Int(block) * size + size - 1, 0xffff))
            guard let first = UInt16(exactly: first), let last = UInt16(exactly: last) else { continue }
            if let before = ranges.last, first > 0, before.last == first - 1 {
                ranges[ranges.count - 1].last = last
            } else {
                ranges.append(PortRange(first, last))
            }
        }
        return ranges
    }

    /// The pool that an address of a router is.
    public static func pool(_ address: IPAddress, of router: DevicePath) -> String { "nat/\(router)/\(address)" }

    /// Reads what ``pool(_:of:)`` writes.
    public static func read(pool: String) -> (router: DevicePath, address: IPAddress)? {
        let parts = pool.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "nat", let address = IPAddress(String(parts[3])),
            let router = DevicePath("\(parts[1])/\(parts[2])")
        else { return nil }
        return (router, address)
    }
}
