// SPDX-License-Identifier: Apache-2.0
import Simulation

/// What rules matched, by the rules that packets met on their way. Flows of one way count together: what the datapath carried
/// by them is added up as it is read, and what was decided packet by packet at once.
struct RuleCounts {
    /// Ways that are counted; what meets others is not.
    private static let limit = 65_536

    private struct Way {
        var rules: [RuleName]
        var packets: UInt64 = 0
        var bytes: UInt64 = 0
    }
    private var ways: [Way] = []
    /// Ways by their rules, in the fabric at hand.
    private var index: [[RuleReference]: Int32] = [:]

    /// Rules have other places from now on.
    mutating func forgetPlaces() { index.removeAll(keepingCapacity: true) }

    /// The way of these rules; -1 where there are none.
    mutating func way(_ rules: [RuleReference], _ fabric: Fabric) -> Int32 {
        if rules.isEmpty { return -1 }
        if let known = index[rules] { return known }
        guard ways.count < RuleCounts.limit else { return -1 }
        let way = Int32(ways.count)
        ways.append(Way(rules: rules.compactMap(fabric.name)))
        index[rules] = way
        return way
    }

    mutating func count(_ way: Int32, packets: UInt64, bytes: UInt64) {
        guard way >= 0 else { return }
        ways[Int(way)].packets &+= packets
        ways[Int(way)].bytes &+= bytes
    }

    /// By rule.
    var sums: [RuleName: (packets: UInt64, bytes: UInt64)] {
        var sums: [RuleName: (packets: UInt64, bytes: UInt64)] = [:]
        for way in ways {
            for rule in way.rules {
                let before = sums[rule] ?? (0, 0)
                sums[rule] = (before.packets &+ way.packets, before.bytes &+ way.bytes)
            }
        }
        return sums
    }
}

/// What one rule matched on this host.
public struct RuleReport: Sendable {
    /// The rule.
    public var name: RuleName
    /// Packets.
    public var packets: UInt64
    /// Bytes.
    public var bytes: UInt64
}
