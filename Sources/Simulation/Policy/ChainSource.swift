// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A chain on its way to a ``ChainProgram``: rules as entries, conditions as sets of values.
struct ChainSource {
    /// A set of values of one dimension.
    struct Values {
        typealias Range = (first: (UInt64, UInt64), last: (UInt64, UInt64))
        /// Closed ranges; of IPv4 addresses, in the upper word.
        var ranges: [Range] = []
        /// Ranges of IPv6 addresses.
        var wide: [Range] = []
        var isInverted = false
        /// Whether packets without the field are meant, too.
        var whenAbsent = false
    }

    let path: DevicePath
    var entries: [ChainEntry] = []
    var extras: [ChainExtra] = []
    var tags: [UInt64] = []
    var flagsMask: UInt16 = 0
    /// By dimension: entry and values.
    private var sets: [[(entry: Int, values: Values)]] = Array(repeating: [], count: Dimension.allCases.count)

    /// A rule on its way.
    struct Line {
        /// Its place in what people wrote.
        var place: Int
        var condition: Condition
        var action: ChainEntry.Action
        /// A chain to jump to, or what to translate to.
        var target: Int32
    }

    /// - Parameters:
    ///   - chain: the index of a chain of the tenant by its own name.
    ///   - group: the index of an address group of the tenant by its own name.
    init(_ source: Chain, chain: (String) -> Int32, group: (String) -> Int32) {
        let lines = source.rules.enumerated().map { place, rule in
            var line = Line(place: place, condition: rule.condition, action: .accept, target: -1)
            switch rule.action {
            case .accept: line.action = .accept
            case .drop: line.action = .drop
            case .reject: line.action = .reject
            case .return: line.action = .return
            case .continue: line.action = .continue
            case .log: line.action = .log
            case .jump(let name): (line.action, line.target) = (.jump, chain(name))
            }
            return line
        }
        self.init(source.path, lines, group: group)
    }

    /// Rules of any list.
    ///
    /// - Parameter path: the list's name; conditions name things of its tenant.
    init(_ path: DevicePath, _ lines: [Line], group: (String) -> Int32) {
        self.path = path
        for line in lines {
            if let match = line.condition.tcpFlags { flagsMask |= match.value.mask }
        }
        for rule in lines {
            let parts = Parts(rule.condition, tenant: path.tenant, group)
            let entry = ChainEntry(
                dimensions: 0, action: rule.action, target: rule.target, rule: Int32(rule.place), extraStart: 0,
                freeCount: 0, extraCount: 0)
            if !rule.condition.isInverted {
                add(entry, parts.sets, parts.extras)
                continue
            }
            // Not all of them: the first does not hold, or the second does not.
            for (dimension, values) in parts.sets {
                var values = values
                values.isInverted.toggle()
                values.whenAbsent.toggle()
                add(entry, [(dimension, values)], [])
            }
            for (extra, tags) in parts.extras {
                var extra = extra
                extra.isInverted.toggle()
                extra.whenAbsent.toggle()
                add(entry, [], [(extra, tags)])
            }
        }
    }

    private mutating func add(
        _ template: ChainEntry, _ sets: [(Dimension, Values)], _ more: [(extra: ChainExtra, tags: [UInt64])]
    ) {
        var entry = template
        for (dimension, values) in sets {
            entry.dimensions |= dimension.bit
            self.sets[dimension.rawValue].append((entries.count, values))
        }
        entry.extraStart = Int32(extras.count)
        let sorted = more.filter(\.extra.kind.isFree) + more.filter { !$0.extra.kind.isFree }
        entry.freeCount = Int32(more.count { $0.extra.kind.isFree })
        entry.extraCount = Int32(more.count)
        for (extra, ports) in sorted {
            var extra = extra
            if !ports.isEmpty {
                extra.value = UInt64(tags.count)
                extra.mask = UInt64(ports.count)
                tags += ports.sorted()
            }
            extras.append(extra)
        }
        entries.append(entry)
    }

    // MARK: - Intervals

    /// Intervals with a row of bits each.
    struct Cut {
        var bounds: [UInt64] = []
        var rows: [[UInt64]] = []
    }

    /// A dimension as intervals; one that no entry asks for has none.
    ///
    /// - Parameter isWide: whether IPv6 addresses are meant.
    func cut(_ dimension: Dimension, isWide: Bool, words: Int) -> Cut {
        let sets = sets[dimension.rawValue]
        var cut = Cut()
        if sets.isEmpty { return cut }
        // Entries that do not ask have their bits everywhere; one that asks changes where its set begins and ends.
        var row = [UInt64](repeating: ~0, count: words)
        var toggles: [(at: (UInt64, UInt64), entry: Int)] = []
        for (entry, values) in sets {
            if !values.isInverted { row[entry / 64] &= ~(1 << UInt64(entry % 64)) }
            for range in ChainSource.joined(isWide ? values.wide : values.ranges) {
                toggles.append((range.first, entry))
                if let next = ChainSource.next(range.last, dimension, isWide) { toggles.append((next, entry)) }
            }
        }
        toggles.sort { $0.at < $1.at }
        var at = (UInt64(0), UInt64(0))
        var index = 0
        while true {
            while index < toggles.count, toggles[index].at == at {
                row[toggles[index].entry / 64] ^= 1 << UInt64(toggles[index].entry % 64)
                index += 1
            }
            cut.bounds.append(dimension.isAddress ? at.0 : at.1)
            if isWide { cut.bounds.append(at.1) }
            cut.rows.append(row)
            guard index < toggles.count else { return cut }
            at = toggles[index].at
        }
    }

    /// The row of packets that do not have the field.
    func absentRow(_ dimension: Dimension, words: Int) -> [UInt64] {
        var row = [UInt64](repeating: ~0, count: words)
        for (entry, values) in sets[dimension.rawValue] where !values.whenAbsent {
            row[entry / 64] &= ~(1 << UInt64(entry % 64))
        }
        return row
    }

    /// Ranges that neither overlap nor touch, in order.
    private static func joined(_ ranges: [Values.Range]) -> [Values.Range] {
        var result: [Values.Range] = []
        for range in ranges.sorted(by: { $0.first < $1.first }) {
            if let last = result.last, range.first <= last.last {
                if range.last > last.last { result[result.count - 1].last = range.last }
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// The value behind another; `nil` behind the last.
    private static func next(
        _ value: (UInt64, UInt64), _ dimension: Dimension, _ isWide: Bool
    ) -> (UInt64, UInt64)? {
        if isWide {
            let (low, carries) = value.1.addingReportingOverflow(1)
            if !carries { return (value.0, low) }
            return value.0 == .max ? nil : (value.0 + 1, 0)
        }
        guard dimension.isAddress else {
            return (value.1 + 1) >> UInt64(dimension.width) == 0 ? (0, value.1 + 1) : nil
        }
        let (high, overflows) = value.0.addingReportingOverflow(1 << 32)
        return overflows ? nil : (high, 0)
    }
}

extension ChainSource {
    /// A condition taken apart.
    private struct Parts {
        var sets: [(Dimension, Values)] = []
        var extras: [(extra: ChainExtra, tags: [UInt64])] = []

        init(_ condition: Condition, tenant: String, _ group: (String) -> Int32) {
            func number<Value: Hashable & BinaryInteger>(_ dimension: Dimension, _ match: Match<Value>?) {
                if let match { add(dimension, [(UInt64(match.value), UInt64(match.value))], match.isInverted) }
            }
            number(.etherType, condition.etherType)
            number(.vlan, condition.vlan)
            number(.ipProtocol, condition.ipProtocol)
            number(.dscp, condition.dscp)
            addresses(.destination, condition.destinations)
            addresses(.source, condition.sources)
            ports(.destinationPort, condition.destinationPorts)
            ports(.sourcePort, condition.sourcePorts)
            if let icmp = condition.icmp {
                let first = UInt64(icmp.value.type) << 8 | UInt64(icmp.value.code ?? 0)
                add(.icmp, [(first, first | (icmp.value.code == nil ? 0xff : 0))], icmp.isInverted)
            }
            if let flags = condition.tcpFlags {
                // 512 values at most: each that matches is a range of its own.
                let matching = (UInt64(0)..<512).filter { UInt16($0) & flags.value.mask == flags.value.value }
                add(.tcpFlags, matching.map { ($0, $0) }, flags.isInverted)
            }
            fragment(condition)
            if condition.readsState {
                let classes = ConnectionClass.allCases.filter { $0.isMeant(by: condition) }
                add(.state, classes.map { (UInt64($0.rawValue), UInt64($0.rawValue)) }, false)
            }
            context(condition, tenant)
            if let match = condition.sourceMAC { mac(.sourceMAC, match) }
            if let match = condition.destinationMAC { mac(.destinationMAC, match) }
            for (kind, match) in [
                (ChainExtra.Kind.sourceGroup, condition.sourceGroup), (.destinationGroup, condition.destinationGroup),
            ] {
                guard let match else { continue }
                extras.append(
                    (
                        ChainExtra(
                            kind: kind, isInverted: match.isInverted, whenAbsent: false,
                            reference: group(match.value), value: 0, mask: 0), []
                    ))
            }
        }

        private mutating func add(_ dimension: Dimension, _ ranges: [(UInt64, UInt64)], _ isInverted: Bool) {
            sets.append(
                (dimension, Values(ranges: ranges.map { ((0, $0.0), (0, $0.1)) }, isInverted: isInverted)))
        }

        private mutating func ports(_ dimension: Dimension, _ match: Match<Set<PortRange>>?) {
            guard let match else { return }
            add(dimension, match.value.map { (UInt64($0.first), UInt64($0.last)) }, match.isInverted)
        }

        private mutating func addresses(_ dimension: Dimension, _ match: Match<Set<Prefix>>?) {
            guard let match else { return }
            var values = Values(isInverted: match.isInverted)
            for prefix in match.value {
                let address = prefix.address
                let mask = prefixMask(prefix.length)
                if prefix.family == .ipv4 {
                    values.ranges.append(((address.high, 0), (address.high | ~mask.high & ~0xffff_ffff, 0)))
                } else {
                    values.wide.append(
                        ((address.high, address.low), (address.high | ~mask.high, address.low | ~mask.low)))
                }
            }
            sets.append((dimension, values))
        }

        private mutating func fragment(_ condition: Condition) {
            let kinds: [UInt8]
            switch condition.fragment {
            case nil, .any?: return
            case .unfragmented?: kinds = [FragmentKind.none]
            case .header?: kinds = [FragmentKind.none, FragmentKind.first]
            case .nonheader?: kinds = [FragmentKind.later]
            }
            add(.fragment, kinds.map { (UInt64($0), UInt64($0)) }, false)
        }

        private mutating func context(_ condition: Condition, _ tenant: String) {
            func extra(_ kind: ChainExtra.Kind, _ isInverted: Bool, _ value: UInt64, _ tags: [UInt64]) {
                extras.append(
                    (
                        ChainExtra(
                            kind: kind, isInverted: isInverted, whenAbsent: false, reference: -1, value: value, mask: 0),
                        tags
                    ))
            }
            for (kind, match) in [(ChainExtra.Kind.inPort, condition.inPorts), (.outPort, condition.outPorts)] {
                guard let match else { continue }
                let tags = match.value.compactMap { PortPath("\(tenant)/\($0)").map { Tag.port($0).bits } }
                extra(kind, match.isInverted, 0, tags)
            }
            for (kind, match) in [
                (ChainExtra.Kind.inGroup, condition.inPortGroup), (.outGroup, condition.outPortGroup),
                (.ingressGroup, condition.ingressPortGroup),
            ] {
                guard let match else { continue }
                let path = DevicePath(tenant: tenant, name: match.value)
                extra(kind, match.isInverted, Tag.portGroup(path).bits, [])
            }
            if let match = condition.traversed {
                // Bridges and routers share one set of names.
                let path = DevicePath(tenant: tenant, name: match.value)
                extra(.traversed, match.isInverted, Tag.bridge(path).bits, [])
                extras[extras.count - 1].extra.mask = Tag.router(path).bits
            }
        }

        private mutating func mac(_ kind: ChainExtra.Kind, _ match: Match<MaskedMAC>) {
            extras.append(
                (
                    ChainExtra(
                        kind: kind, isInverted: match.isInverted, whenAbsent: false, reference: -1,
                        value: match.value.address.bits, mask: match.value.mask.bits), []
                ))
        }
    }
}

extension ConnectionClass {
    /// Whether a condition means packets of the class.
    fileprivate func isMeant(by condition: Condition) -> Bool {
        let (state, direction): (ConnectionState, ConnectionDirection?) =
            switch self {
            case .new: (.new, .forward)
            case .established: (.established, .forward)
            case .establishedReturn: (.established, .return)
            case .related: (.related, .forward)
            case .relatedReturn: (.related, .return)
            case .invalid: (.invalid, nil)
            }
        if let wanted = condition.states, !wanted.contains(state) { return false }
        if let wanted = condition.direction, wanted != direction { return false }
        return true
    }
}
