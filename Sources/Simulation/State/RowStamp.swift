// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// When and where a row of flow state began. Of two rows that say something of the same, the later stands, on every host and
/// in whichever order they come; so no host has to be asked.
///
/// It begins with a rank: what is known to begin stands above what was picked up in its middle. Milliseconds of wall-clock
/// time follow, and a number of the host, which tells apart what began at once. A host that knows an earlier row makes its
/// own later than that one, whatever its clock says.
public struct RowStamp: Sendable, Hashable, Comparable {
    /// The whole: 1 bit of rank, 47 bits of milliseconds, 16 bits of the host.
    public let bits: UInt64

    /// A stamp from another host.
    public init(bits: UInt64) { self.bits = bits }

    /// Before everything.
    public static let none = RowStamp(bits: 0)

    /// The host's number.
    public var origin: UInt16 { UInt16(truncatingIfNeeded: bits) }
    /// Milliseconds since 1970, by the host's clock.
    public var milliseconds: UInt64 { bits >> 16 & 0x7fff_ffff_ffff }
    /// Whether it stands above what was picked up.
    public var isBeginning: Bool { bits >> 63 == 1 }

    /// By rank, time and host.
    @inlinable public static func < (a: RowStamp, b: RowStamp) -> Bool { a.bits < b.bits }
}

/// Makes stamps of one host. Its clock is the one that is furthest ahead among those it has heard of, so that what begins after
/// something else was told is later than that, also where nobody tells this host of that very thing: clocks of hosts may differ
/// by any time, and begin anew behind themselves.
public final class RowStamps: Sendable {
    /// The host's number.
    public let origin: UInt16
    /// What to add to the clock that callers keep, in nanoseconds, to have the time since 1970, or later. What happens to the
    /// wall clock changes nothing.
    private let offset: Atomic<UInt64>

    /// A maker of stamps.
    ///
    /// - Parameter offset: what to add to the clock that callers keep, in nanoseconds, to have the time since 1970.
    public init(origin: UInt16 = 0, offset: UInt64 = 0) {
        self.origin = origin
        self.offset = Atomic(offset)
    }

    /// What a clock may say at most and still be followed: the year 2527, which nanoseconds can say. One that says more is
    /// nobody's time.
    private static let latest: UInt64 = 1 << 44

    /// Milliseconds since 1970, by the clock that is furthest ahead.
    public func milliseconds(now: UInt64) -> UInt64 { (now &+ offset.load(ordering: .relaxed)) / 1_000_000 }

    /// Another host's clock said this, in milliseconds since 1970; this one's stamps are not earlier from now on.
    public func follow(_ milliseconds: UInt64, now: UInt64) {
        guard milliseconds > self.milliseconds(now: now), milliseconds < RowStamps.latest else { return }
        offset.max(milliseconds * 1_000_000 &- now, ordering: .relaxed)
    }

    /// A stamp that is later than one that is known.
    ///
    /// - Parameter isBeginning: whether it is known to begin, or was picked up; it ranks no lower than what is known.
    public func next(after old: RowStamp = .none, isBeginning: Bool = true, now: UInt64) -> RowStamp {
        let milliseconds = max(milliseconds(now: now), old.milliseconds + 1) & 0x7fff_ffff_ffff
        let rank: UInt64 = isBeginning || old.isBeginning ? 1 : 0
        return RowStamp(bits: rank << 63 | milliseconds << 16 | UInt64(origin))
    }
}
