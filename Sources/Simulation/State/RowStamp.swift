// SPDX-License-Identifier: Apache-2.0

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

/// Makes stamps of one host.
public struct RowStamps: Sendable {
    /// The host's number.
    public var origin: UInt16
    /// What to add to the clock that callers keep, in nanoseconds, to have the time since 1970. Set once: what happens to the
    /// wall clock later changes nothing.
    public var offset: UInt64

    /// A maker of stamps.
    public init(origin: UInt16 = 0, offset: UInt64 = 0) {
        self.origin = origin
        self.offset = offset
    }

    /// A stamp that is later than one that is known.
    ///
    /// - Parameter isBeginning: whether it is known to begin, or was picked up; it ranks no lower than what is known.
    public func next(after old: RowStamp = .none, isBeginning: Bool = true, now: UInt64) -> RowStamp {
        let milliseconds = max((now &+ offset) / 1_000_000, old.milliseconds + 1) & 0x7fff_ffff_ffff
        let rank: UInt64 = isBeginning || old.isBeginning ? 1 : 0
        return RowStamp(bits: rank << 63 | milliseconds << 16 | UInt64(origin))
    }
}
