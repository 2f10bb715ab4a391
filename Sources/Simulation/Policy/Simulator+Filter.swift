// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Where a chain is asked.
struct FilterPlace {
    /// The ports by which the packet comes into the device that is filtered, and leaves it; -1 where that is not known.
    var inPort: Int32
    var outPort: Int32
    /// The device.
    var device: Tag
}

/// How a filter ends.
enum FilterDecision {
    case accept, drop, reject
    /// The chain ended, or said to return.
    case end
    /// Addresses are to become those of a target of the router.
    case translate(Int32)
}

/// Chains at work.
extension Simulator {
    /// Takes the packet through a chain. Whether it may go on; what happened to it otherwise is in the verdict.
    mutating func passes(_ chain: Int32, _ place: FilterPlace, at port: Int32, _ packet: borrowing SimulatedPacket)
        -> Bool
    {
        if chain < 0 { return true }
        switch run(chain, place, 0) {
        case .accept, .end, .translate: return true
        case .drop:
            drop(.filtered, at: port)
            return false
        case .reject:
            drop(.filterRejected, at: port)
            reject(at: port, place, packet)
            return false
        }
    }

    /// Whether one entry of a list holds that has conditions and nothing else.
    mutating func anyHolds(_ chain: ChainView, _ place: FilterPlace) -> Bool {
        guard chain.words > 0 else { return false }
        let bits = scratch + scratchTop
        for word in 0..<chain.words { bits[word] = ~0 }
        var read: UInt16 = 0
        for at in 0..<chain.count where bits[at / 64] >> UInt64(at % 64) & 1 == 1 {
            if holds(chain.entries[at], chain, place, &read, bits, at) { return true }
        }
        return false
    }

    mutating func run(_ index: Int32, _ place: FilterPlace, _ depth: Int) -> FilterDecision {
        // Configuration refuses what is deeper.
        guard depth <= Chain.depth, let chain = fabric.tables.policy.chains[Int(index)] else { return .end }
        verdict.tags.append(chain.tag)
        let words = chain.words
        guard words > 0 else { return .end }
        let bits = scratch + scratchTop
        scratchTop += words
        defer { scratchTop -= words }
        for word in 0..<words { bits[word] = ~0 }
        var read: UInt16 = 0
        var at = 0
        search: while at < chain.count {
            // The first entry that may still match.
            var word = at / 64
            var left = bits[word] & (~0 << UInt64(at % 64))
            while left == 0 {
                word += 1
                if word == words { break search }
                left = bits[word]
            }
            at = word * 64 + left.trailingZeroBitCount
            if at >= chain.count { break }
            let entry = chain.entries[at]
            guard holds(entry, chain, place, &read, bits, at) else {
                bits[at / 64] &= ~(1 << UInt64(at % 64))
                continue
            }
            verdict.rules.append(RuleReference(chain: index, rule: entry.rule))
            if isTracing { noteRule(index, entry) }
            switch entry.action {
            case .accept: return .accept
            case .drop: return .drop
            case .reject: return .reject
            case .translate: return .translate(entry.target)
            case .return: return .end
            case .continue: break
            case .log: verdict.logs.append(RuleReference(chain: index, rule: entry.rule))
            case .jump:
                let decision = run(entry.target, place, depth + 1)
                if case .end = decision { break }
                return decision
            }
            at += 1
        }
        return .end
    }

    /// Whether an entry matches. What is read for it narrows the bits of all entries, once for each dimension.
    @inline(__always)
    private mutating func holds(
        _ entry: ChainEntry, _ chain: ChainView, _ place: FilterPlace, _ read: inout UInt16,
        _ bits: UnsafeMutablePointer<UInt64>, _ at: Int
    ) -> Bool {
        for offset in 0..<Int(entry.freeCount)
        where !holds(chain.extras[Int(entry.extraStart) + offset], chain, place) { return false }
        let wide = entry.dimensions & (Dimension.firstNarrow.bit - 1)
        guard narrow(wide & ~read, chain, place, &read, bits, at) else { return false }
        for offset in Int(entry.freeCount)..<Int(entry.extraCount)
        where !holds(chain.extras[Int(entry.extraStart) + offset], chain, place) { return false }
        return narrow(entry.dimensions & ~read, chain, place, &read, bits, at)
    }

    /// Reads dimensions until the entry's bit falls, or there are no more.
    @inline(__always)
    private mutating func narrow(
        _ dimensions: UInt16, _ chain: ChainView, _ place: FilterPlace, _ read: inout UInt16,
        _ bits: UnsafeMutablePointer<UInt64>, _ at: Int
    ) -> Bool {
        var left = dimensions
        while left != 0 {
            let number = left.trailingZeroBitCount
            left &= left - 1
            read |= 1 << UInt16(number)
            let row = chain.rows + row(number, chain, place) * chain.words
            for word in at / 64..<chain.words { bits[word] &= row[word] }
            if bits[at / 64] >> UInt64(at % 64) & 1 == 0 { return false }
        }
        return true
    }

    // MARK: - Fields

    /// The row that the packet falls into in a dimension. What tells that is matched by the flow from then on.
    private mutating func row(_ number: Int, _ chain: ChainView, _ place: FilterPlace) -> Int {
        let view = chain.dimensions[number]
        let isIP = key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6
        switch Dimension(rawValue: number) {
        case .etherType?: return view.values.firstRow + view.values.find(UInt64(key.etherType))
        case .vlan?:
            verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
            return view.values.firstRow + view.values.find(key.hasVLAN ? UInt64(key.vlanTCI & 0x0fff) : 0)
        case .ipProtocol?:
            guard isIP else { return view.absentRow }
            verdict.mask.include(.ipProtocol)
            return view.values.firstRow + view.values.find(UInt64(key.ipProtocol))
        case .fragment?:
            guard isIP else { return view.absentRow }
            verdict.mask.include(.ipFragment)
            return view.values.firstRow + view.values.find(UInt64(key.ipFragment))
        case .dscp?:
            guard isIP else { return view.absentRow }
            verdict.mask.bits.words[10] |= 0xfc << 8
            return view.values.firstRow + view.values.find(UInt64(key.ipTOS >> 2))
        case .destination?: return address(view, key.ipDestination, isIP, isSource: false)
        case .source?: return address(view, key.ipSource, isIP, isSource: true)
        case .destinationPort?:
            guard hasReadablePorts else { return view.absentRow }
            return port(view, key.destinationPort, shift: 16)
        case .sourcePort?:
            guard hasReadablePorts else { return view.absentRow }
            return port(view, key.sourcePort, shift: 0)
        case .icmp?:
            guard isIP, readsTransport(isICMP: true) else { return view.absentRow }
            verdict.mask.include(.sourcePort)
            verdict.mask.include(.destinationPort)
            return view.values.firstRow + view.values.find(UInt64(key.sourcePort << 8 | key.destinationPort & 0xff))
        case .tcpFlags?:
            guard isIP, readsTransport(isICMP: false), key.ipProtocol == IPProtocol.tcp else { return view.absentRow }
            verdict.mask.bits.words[9] |= UInt64(chain.flagsMask) << 48
            return view.values.firstRow + view.values.find(UInt64(key.tcpFlags & chain.flagsMask))
        case .state?:
            guard isIP else { return view.absentRow }
            return view.values.firstRow + view.values.find(UInt64(connectionClass(place).rawValue))
        case nil: return view.absentRow
        }
    }

    /// Whether there is a transport header of a kind to read, which takes the protocol and the fragment to know.
    @inline(__always)
    private mutating func readsTransport(isICMP: Bool) -> Bool {
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        guard key.ipFragment != FragmentKind.later else { return false }
        if !isICMP { return true }
        return key.ipProtocol == (key.etherType == EtherType.ipv4 ? IPProtocol.icmp : IPProtocol.icmpv6)
    }

    private var hasReadablePorts: Bool {
        mutating get {
            guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6 else { return false }
            return readsTransport(isICMP: false) && hasPorts
        }
    }

    private mutating func address(_ view: DimensionView, _ address: IPAddress, _ isIP: Bool, isSource: Bool) -> Int {
        guard isIP else { return view.absentRow }
        let index: Int
        let bits: Int
        let first: Int
        if address.family == .ipv4 {
            index = view.values.find(address.high)
            bits = rounded(view.values.bits4(address.high, index), 32)
            first = view.values.firstRow
        } else {
            index = view.wide.find((address.high, address.low))
            bits = rounded(view.wide.bits6((address.high, address.low), index), 128)
            first = view.wide.firstRow
        }
        if isSource { verdict.mask.includeSource(prefix: bits) } else { verdict.mask.includeDestination(prefix: bits) }
        return first + index
    }

    /// Ports are matched by their first 4, 8, 12 or all 16 bits: so many as tell the ranges beside from this one, and few
    /// different masks come of it.
    private mutating func port(_ view: DimensionView, _ value: UInt16, shift: UInt64) -> Int {
        let index = view.values.find(UInt64(value))
        let bits = (view.values.bits(UInt64(value), index, width: 16) + 3) & ~3
        verdict.mask.bits.words[15] |= (0xffff << UInt64(16 - bits) & 0xffff) << shift
        return view.values.firstRow + index
    }

    // MARK: - What is looked at entry by entry

    private mutating func holds(_ extra: ChainExtra, _ chain: ChainView, _ place: FilterPlace) -> Bool {
        switch extra.kind {
        case .inPort: return isOne(place.inPort, extra, chain)
        case .outPort: return isOne(place.outPort, extra, chain)
        case .inGroup: return isMember(place.inPort, extra)
        case .outGroup: return isMember(place.outPort, extra)
        case .ingressGroup: return isMember(ingressPort, extra)
        case .traversed:
            var found = false
            for index in 0..<traversedCount where traversed[index] == extra.value || traversed[index] == extra.mask {
                found = true
            }
            return found != extra.isInverted
        case .sourceMAC:
            verdict.mask.bits.words[8] |= extra.mask
            return (key.etherSource.bits & extra.mask == extra.value) != extra.isInverted
        case .destinationMAC:
            verdict.mask.bits.words[7] |= extra.mask
            return (key.etherDestination.bits & extra.mask == extra.value) != extra.isInverted
        case .sourceGroup: return isInGroup(extra, key.ipSource, isSource: true)
        case .destinationGroup: return isInGroup(extra, key.ipDestination, isSource: false)
        }
    }

    private mutating func isOne(_ port: Int32, _ extra: ChainExtra, _ chain: ChainView) -> Bool {
        guard port >= 0 else { return extra.whenAbsent }
        let tag = fabric.ports[Int(port)].tag.bits
        var (low, high) = (Int(extra.value), Int(extra.value + extra.mask))
        while low < high {
            let middle = (low + high) / 2
            if chain.tags[middle] < tag { low = middle + 1 } else { high = middle }
        }
        let found = low < Int(extra.value + extra.mask) && chain.tags[low] == tag
        return found != extra.isInverted
    }

    /// Which groups a port is in is a matter of the port, whose tag the verdict has.
    private mutating func isMember(_ port: Int32, _ extra: ChainExtra) -> Bool {
        guard port >= 0 else { return extra.whenAbsent }
        let record = fabric.ports[Int(port)]
        for offset in 0..<Int(record.groupCount)
        where fabric.tables.portGroups[Int(record.groupStart) + offset] == extra.value { return !extra.isInverted }
        return extra.isInverted
    }

    private mutating func isInGroup(_ extra: ChainExtra, _ address: IPAddress, isSource: Bool) -> Bool {
        guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6, extra.reference >= 0 else {
            return extra.whenAbsent
        }
        let group = fabric.tables.policy.groups[Int(extra.reference)]
        verdict.tags.append(group.tag)
        let isMember: Bool
        let bits: Int
        if address.family == .ipv4 {
            let index = group.narrow.find(address.high)
            isMember = (index % 2 == 0) == group.beginsNarrow
            bits = rounded(group.narrow.bits4(address.high, index), 32)
        } else {
            let index = group.wide.find((address.high, address.low))
            isMember = (index % 2 == 0) == group.beginsWide
            bits = rounded(group.wide.bits6((address.high, address.low), index), 128)
        }
        if isSource { verdict.mask.includeSource(prefix: bits) } else { verdict.mask.includeDestination(prefix: bits) }
        return isMember != extra.isInverted
    }

    private mutating func noteRule(_ chain: Int32, _ entry: ChainEntry) {
        guard let path = fabric.tables.policy.path(chain) else { return }
        switch fabric.tables.policy.kind(chain) {
        case .translation:
            guard let rule = fabric.topology.routers[path]?.translation.rule(Int(entry.rule)) else { return }
            noteDevice("rule", path, "\(rule.list) \(rule.id): \(rule.text)")
        case .security(let rules): noteDevice("group", path, rules[Int(entry.rule)])
        case .chain:
            guard let rule = fabric.topology.chains[path]?.rules[Int(entry.rule)] else { return }
            noteDevice("rule", path, "\(rule.id): \(rule)")
        }
    }
}
