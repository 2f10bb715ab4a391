// SPDX-License-Identifier: Apache-2.0

/// An IPv6 address (RFC 4291).
@frozen
public struct IPv6Address: Hashable, Sendable, Comparable {
    /// The first eight bytes, in host order.
    public var high: UInt64
    /// The last eight bytes, in host order.
    public var low: UInt64

    /// An address from its two halves in host order.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Numeric order.
    @inlinable
    public static func < (a: IPv6Address, b: IPv6Address) -> Bool { (a.high, a.low) < (b.high, b.low) }

    /// `::`.
    public static let unspecified = IPv6Address(high: 0, low: 0)
    /// `ff02::1`, all nodes of the link.
    public static let allNodes = IPv6Address(high: 0xff02 << 48, low: 1)
    /// `ff02::2`, all routers of the link.
    public static let allRouters = IPv6Address(high: 0xff02 << 48, low: 2)

    /// ff00::/8.
    @inlinable public var isMulticast: Bool { high >> 56 == 0xff }
    /// fe80::/10.
    @inlinable public var isLinkLocal: Bool { high >> 54 == 0xfe80 >> 6 }
    /// `::`.
    @inlinable public var isUnspecified: Bool { high | low == 0 }

    /// The group that a solicitation for this address goes to (RFC 4291 section 2.7.1).
    public var solicitedNode: IPv6Address {
        IPv6Address(high: 0xff02 << 48, low: 0x1_ff00_0000 | (low & 0xff_ffff))
    }

    /// The link-local address that an interface makes of its MAC (RFC 4291 appendix A).
    public static func linkLocal(for mac: MACAddress) -> IPv6Address {
        let high24 = mac.bits >> 24 ^ 0x02_0000
        return IPv6Address(high: 0xfe80 << 48, low: high24 << 40 | 0xff_fe00_0000 | (mac.bits & 0xff_ffff))
    }
}

extension IPv6Address: CustomStringConvertible, LosslessStringConvertible {
    /// The eight 16-bit groups.
    public var groups: [UInt16] {
        (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> UInt64(48 - 16 * ($0 & 3))) }
    }

    /// The canonical text form (RFC 5952).
    public var description: String {
        let groups = groups
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > best.count, end - start > 1 { best = start..<end }
            start = max(end, start + 1)
        }
        func join(_ part: ArraySlice<UInt16>) -> String {
            part.map { String($0, radix: 16) }.joined(separator: ":")
        }
        if best.isEmpty { return join(groups[...]) }
        return join(groups[..<best.lowerBound]) + "::" + join(groups[best.upperBound...])
    }

    /// Reads any text form of RFC 4291 section 2.2, also with a dotted IPv4 tail; no zone.
    public init?(_ text: String) {
        guard text.utf8.count <= 45 else { return nil }
        let halves = text.components(separatedBy: "::")
        guard halves.count <= 2 else { return nil }
        func parse(_ part: String, isTail: Bool) -> [UInt16]? {
            if part.isEmpty { return [] }
            var out: [UInt16] = []
            let pieces = part.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            for (index, piece) in pieces.enumerated() {
                let piece = String(Substring(piece))
                if piece.utf8.contains(UInt8(ascii: ".")) {
                    guard isTail, index == pieces.count - 1, let v4 = IPv4Address(piece) else { return nil }
                    out.append(UInt16(v4.bits >> 16))
                    out.append(UInt16(v4.bits & 0xffff))
                } else {
                    guard (1...4).contains(piece.utf8.count), piece.utf8.first != UInt8(ascii: "+"),
                        piece.utf8.first != UInt8(ascii: "-"), let group = UInt16(piece, radix: 16)
                    else { return nil }
                    out.append(group)
                }
            }
            return out
        }
        guard let head = parse(halves[0], isTail: halves.count == 1) else { return nil }
        var all = head
        if halves.count == 2 {
            guard let tail = parse(halves[1], isTail: true), head.count + tail.count <= 7 else { return nil }
            all += [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail
        }
        guard all.count == 8 else { return nil }
        let high = all[..<4].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
        let low = all[4...].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
        self.init(high: high, low: low)
    }
}

extension String {
    /// Pieces between occurrences of a separator; the standard library alone has it for single characters only.
    fileprivate func components(separatedBy separator: String) -> [String] {
        var pieces: [String] = []
        var rest = self[...]
        while let range = rest.firstRange(of: separator) {
            pieces.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        pieces.append(String(rest))
        return pieces
    }
}
