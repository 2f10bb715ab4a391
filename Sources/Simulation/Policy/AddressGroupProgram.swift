// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A compiled address group as the simulation reads it.
struct AddressGroupView {
    var tag: Tag
    /// Where members begin and end, by turns, the first being a place where none is: 0, unless 0 is a member.
    var narrow: IntervalView
    var wide: IntervalView
    /// Whether the first interval is of members.
    var beginsNarrow: Bool
    var beginsWide: Bool
}

/// An address group as sorted intervals: whether it holds an address is one search, however many members there are.
final class AddressGroupProgram: @unchecked Sendable {  // written in `init` only, freed in `deinit` only
    let view: AddressGroupView
    private let memory: [UnsafeMutablePointer<UInt64>]

    convenience init(_ group: AddressGroup) { self.init(.addressGroup(group.path), group.members) }

    init(_ tag: Tag, _ members: Set<Prefix>) {
        func bounds(_ family: AddressFamily) -> (bounds: [UInt64], count: Int, begins: Bool) {
            var ends: [(at: (UInt64, UInt64), isStart: Bool)] = []
            var bounds: [UInt64] = []
            // Prefixes nest or lie apart: in order, one that lies in the one before is left out.
            var last: Prefix?
            for prefix in members.filter({ $0.family == family }).sorted() {
                if let last, last.contains(prefix.address) { continue }
                last = prefix
                let mask = prefixMask(prefix.length)
                ends.append(((prefix.address.high, prefix.address.low), true))
                var (high, low) = (prefix.address.high | ~mask.high, prefix.address.low | ~mask.low)
                if family == .ipv4 { (high, low) = (high | 0xffff_ffff, .max) }
                let (next, carries) = low.addingReportingOverflow(1)
                if carries, high == .max { continue }
                ends.append(((carries ? high + 1 : high, next), false))
            }
            // Where one ends and the next begins there is no border.
            var merged: [(at: (UInt64, UInt64), isStart: Bool)] = []
            for end in ends {
                if let last = merged.last, last.at == end.at, last.isStart != end.isStart {
                    merged.removeLast()
                } else {
                    merged.append(end)
                }
            }
            let begins = merged.first.map { $0.at == (0, 0) } ?? false
            if !begins { merged.insert(((0, 0), false), at: 0) }
            for end in merged {
                bounds.append(end.at.0)
                if family == .ipv6 { bounds.append(end.at.1) }
            }
            return (bounds, merged.count, begins)
        }
        var memory: [UnsafeMutablePointer<UInt64>] = []
        func intervals(_ made: (bounds: [UInt64], count: Int, begins: Bool)) -> IntervalView {
            let pointer = UnsafeMutablePointer<UInt64>.allocate(capacity: made.bounds.count)
            pointer.initialize(from: made.bounds, count: made.bounds.count)
            memory.append(pointer)
            return IntervalView(bounds: UnsafePointer(pointer), count: made.count, firstRow: 0)
        }
        let (four, six) = (bounds(.ipv4), bounds(.ipv6))
        view = AddressGroupView(
            tag: tag, narrow: intervals(four), wide: intervals(six), beginsNarrow: four.begins,
            beginsWide: six.begins)
        self.memory = memory
    }

    deinit { for pointer in memory { pointer.deallocate() } }
}

extension IntervalView {
    /// The interval that holds a value of one word; and, of an address, how many leading bits of it say so.
    @inline(__always)
    func find(_ value: UInt64) -> Int {
        var (low, high) = (0, count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if bounds[middle] <= value { low = middle } else { high = middle }
        }
        return low
    }

    @inline(__always)
    func find(_ value: (UInt64, UInt64)) -> Int {
        var (low, high) = (0, count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if (bounds[2 * middle], bounds[2 * middle + 1]) <= value { low = middle } else { high = middle }
        }
        return low
    }

    /// Leading bits of a value of so many bits that tell it from the intervals beside its own.
    @inline(__always)
    func bits(_ value: UInt64, _ index: Int, width: Int) -> Int {
        var bits = 0
        let shift = 64 - width
        if index > 0 { bits = ((value ^ (bounds[index] &- 1)) << UInt64(shift)).leadingZeroBitCount + 1 }
        if index + 1 < count {
            bits = max(bits, ((value ^ bounds[index + 1]) << UInt64(shift)).leadingZeroBitCount + 1)
        }
        return min(bits, width)
    }

    /// The same for an IPv4 address in the upper half of a word.
    @inline(__always)
    func bits4(_ value: UInt64, _ index: Int) -> Int {
        var bits = 0
        if index > 0 { bits = (value ^ (bounds[index] &- 1 << 32)).leadingZeroBitCount + 1 }
        if index + 1 < count { bits = max(bits, (value ^ bounds[index + 1]).leadingZeroBitCount + 1) }
        return min(bits, 32)
    }

    @inline(__always)
    func bits6(_ value: (UInt64, UInt64), _ index: Int) -> Int {
        func common(_ other: (UInt64, UInt64)) -> Int {
            value.0 == other.0
                ? 64 + (value.1 ^ other.1).leadingZeroBitCount : (value.0 ^ other.0).leadingZeroBitCount
        }
        var bits = 0
        if index > 0 {
            let first = (bounds[2 * index], bounds[2 * index + 1])
            bits = common((first.1 == 0 ? first.0 &- 1 : first.0, first.1 &- 1)) + 1
        }
        if index + 1 < count { bits = max(bits, common((bounds[2 * index + 2], bounds[2 * index + 3])) + 1) }
        return min(bits, 128)
    }
}
