// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// The header fields that a chain tells packets apart by, the ones that cost a flow the least generality first.
enum Dimension: Int, CaseIterable {
    case etherType, vlan, ipProtocol, fragment, destination, source, dscp
    case destinationPort, sourcePort, icmp, tcpFlags, state

    /// Dimensions from here on make flows of single connections.
    static let firstNarrow = Dimension.destinationPort

    var bit: UInt16 { 1 << UInt16(rawValue) }
    /// Bits of its values, addresses apart.
    var width: Int {
        switch self {
        case .etherType, .destinationPort, .sourcePort, .icmp: 16
        case .vlan: 12
        case .ipProtocol: 8
        case .fragment: 2
        case .dscp: 6
        case .tcpFlags: 9
        case .state: 3
        case .destination, .source: 0
        }
    }
    var isAddress: Bool { self == .destination || self == .source }
}

/// What a packet is to its connection, as chains tell it apart.
enum ConnectionClass: UInt32, CaseIterable {
    case new, established, establishedReturn, related, relatedReturn, invalid
}

/// A row of a compiled chain: one conjunction of conditions. A rule that is inverted as a whole has several.
struct ChainEntry {
    enum Action: UInt8 { case accept, drop, reject, `return`, `continue`, log, jump, translate }

    /// Dimensions that it asks for.
    var dimensions: UInt16
    var action: Action
    /// Index of the chain to jump to, or of what to translate to.
    var target: Int32
    /// Place of its rule in the chain.
    var rule: Int32
    /// What else it asks for, in ``ChainView/extras``: first what no flow is narrower for.
    var extraStart: Int32
    var freeCount: Int32
    var extraCount: Int32
}

/// A condition that is looked at entry by entry.
struct ChainExtra {
    enum Kind: UInt8 {
        case inPort, outPort, inGroup, outGroup, ingressGroup, traversed, sourceMAC, destinationMAC, sourceGroup
        case destinationGroup

        /// Whether it reads nothing of the packet.
        var isFree: Bool { rawValue <= Kind.traversed.rawValue }
    }
    var kind: Kind
    var isInverted: Bool
    /// Whether the condition holds where what it asks for is not there.
    var whenAbsent: Bool
    /// Index of an address group.
    var reference: Int32
    /// A tag, or a MAC.
    var value: UInt64
    /// A MAC's mask; of a set of ports, how many there are in ``ChainView/tags``.
    var mask: UInt64
}

/// A compiled chain as the simulation reads it: plain pointers into memory that its ``ChainProgram`` owns.
struct ChainView {
    var tag: Tag
    var count: Int
    /// Words of a bitmap with a bit for each entry.
    var words: Int
    var entries: UnsafePointer<ChainEntry>
    var extras: UnsafePointer<ChainExtra>
    /// Port tags, in sorted runs.
    var tags: UnsafePointer<UInt64>
    /// By ``Dimension``.
    var dimensions: UnsafePointer<DimensionView>
    /// Rows of bits.
    var rows: UnsafePointer<UInt64>
    /// TCP flags that any entry asks for.
    var flagsMask: UInt16
}

/// How one dimension is cut into intervals: in each, the same entries may match.
struct DimensionView {
    /// Values, or IPv4 addresses.
    var values: IntervalView
    /// IPv6 addresses.
    var wide: IntervalView
    /// Row for packets without the field.
    var absentRow: Int
}

/// Intervals and their rows.
struct IntervalView {
    /// First values of the intervals, ascending, the first being 0: of addresses the upper word, below it the lower one.
    var bounds: UnsafePointer<UInt64>
    var count: Int
    /// Row of the first interval; the others follow.
    var firstRow: Int
}

/// A chain turned into a decision structure: for each field a list of intervals, for each interval a row with one bit for
/// each entry. The rows that a packet falls into, taken together, leave the entries that match; the first of them decides.
/// What is paid is a search in each list and some words of bits, hardly more for a thousand rules than for ten.
final class ChainProgram: @unchecked Sendable {  // written in `init` only, freed in `deinit` only
    /// Where a list of rules comes from.
    enum Kind: Sendable {
        /// A chain of a tenant.
        case chain
        /// A router's translations.
        case translation
        /// Security groups, with the rules as people read them.
        case security([String])
    }

    let path: DevicePath
    let kind: Kind
    let view: ChainView
    private let memory: [UnsafeMutableRawPointer]

    init(_ source: ChainSource, tag: Tag, kind: Kind = .chain) {
        path = source.path
        self.kind = kind
        var memory: [UnsafeMutableRawPointer] = []
        // The memory is plain values without references: to free it, it need not be deinitialized.
        func keep<Element>(_ list: [Element]) -> UnsafePointer<Element> {
            let pointer = UnsafeMutablePointer<Element>.allocate(capacity: max(1, list.count))
            pointer.initialize(from: list, count: list.count)
            memory.append(UnsafeMutableRawPointer(pointer))
            return UnsafePointer(pointer)
        }
        let words = (source.entries.count + 63) / 64
        var rows: [UInt64] = []
        var rowCount = 0
        func intervals(_ cut: ChainSource.Cut) -> IntervalView {
            defer { rowCount += cut.rows.count }
            for row in cut.rows { rows += row }
            return IntervalView(bounds: keep(cut.bounds), count: cut.rows.count, firstRow: rowCount)
        }
        let dimensions = Dimension.allCases.map { dimension -> DimensionView in
            let values = intervals(source.cut(dimension, isWide: false, words: words))
            let wide = intervals(
                dimension.isAddress ? source.cut(dimension, isWide: true, words: words) : ChainSource.Cut())
            rows += source.absentRow(dimension, words: words)
            defer { rowCount += 1 }
            return DimensionView(values: values, wide: wide, absentRow: rowCount)
        }
        view = ChainView(
            tag: tag, count: source.entries.count, words: words, entries: keep(source.entries),
            extras: keep(source.extras), tags: keep(source.tags), dimensions: keep(dimensions), rows: keep(rows),
            flagsMask: source.flagsMask)
        self.memory = memory
    }

    deinit { for pointer in memory { pointer.deallocate() } }
}
