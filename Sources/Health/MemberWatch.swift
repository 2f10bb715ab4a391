// SPDX-License-Identifier: Apache-2.0
import Simulation
import Topology

/// What one check found.
public struct CheckResult: Sendable, Equatable {
    /// What came of it.
    public var finding: MemberHealth.Finding
    /// The status of an answer by HTTP, or 0.
    public var detail: UInt16

    /// A result.
    public init(_ finding: MemberHealth.Finding, detail: UInt16 = 0) {
        self.finding = finding
        self.detail = detail
    }

    /// Whether the member answered as it should.
    public var isGood: Bool { finding == .answered }

    /// Whether nothing came back from the member itself.
    var isSilence: Bool { finding == .silent || finding == .unreachable }
}

/// Counts checks of one member: a few in a row change what it is taken for. Pure.
public struct MemberWatch: Sendable {
    /// What it is taken for; `nil` before the first check.
    public private(set) var health: MemberHealth?
    /// Checks in a row that said otherwise.
    private var against: UInt8 = 0

    /// A watch of a member that another host may have watched before.
    public init(known: MemberHealth?) { health = known }

    /// Takes in what a check found.
    ///
    /// - Parameter now: milliseconds since 1970.
    /// - Returns: whether the member is taken for something else from now on, or was not known before.
    public mutating func take(_ result: CheckResult, rise: UInt8, fall: UInt8, now: UInt64) -> Bool {
        guard let known = health else {
            // A member that nobody knows is taken to be there until it failed often enough.
            if result.isGood {
                health = MemberHealth(isUp: true, .answered, detail: result.detail, since: now)
                return true
            }
            against += 1
            guard against >= fall else { return false }
            health = MemberHealth(isUp: false, result.finding, detail: result.detail, since: now)
            against = 0
            return true
        }
        if result.isGood == known.isUp {
            against = 0
            // What it fails by may change; since when it is down does not.
            if !known.isUp {
                health = MemberHealth(isUp: false, result.finding, detail: result.detail, since: known.since)
            }
            return false
        }
        against += 1
        guard against >= (known.isUp ? fall : rise) else { return false }
        against = 0
        health = MemberHealth(isUp: result.isGood, result.finding, detail: result.detail, since: now)
        return true
    }
}
