// SPDX-License-Identifier: Apache-2.0
import Simulation
import Wire

/// What kinds of rows there are. The number is what they are told by; a kind that a node does not know ends what it can read
/// of a datagram, so a new one is told only when all nodes know it.
public enum RowKind: UInt8, Sendable, CaseIterable {
    /// Connections (``ConnectionRows``).
    case connection = 1
    /// Translated connections (``TranslationRows``).
    case translation = 2
    /// Stations of bridges (``StationRows``).
    case station = 3
    /// Neighbors of routers (``NeighborRows``).
    case neighbor = 4
    /// Clients of pools and the members that they come back to (``AffinityKey``).
    case affinity = 5
    /// Addresses that bridges gave (``LeaseKey``).
    case lease = 6
    /// What checks of pools' members came to (``HealthKey``).
    case health = 7
    /// Who joined multicast groups (``GroupKey``).
    case group = 8
    /// Destinations that daemons of uplinks know ways to (``RouteKey``).
    case route = 9
}

/// Where a row is in its table, as the log of what is told names it.
struct RowHandle: Sendable {
    var kind: RowKind
    var place: Int32

    init(_ kind: RowKind, _ place: Int32) {
        self.kind = kind
        self.place = place
    }

    init?(bits: UInt64) {
        guard let kind = RowKind(rawValue: UInt8(truncatingIfNeeded: bits >> 32)) else { return nil }
        self.kind = kind
        place = Int32(truncatingIfNeeded: bits)
    }

    var bits: UInt64 { UInt64(kind.rawValue) << 32 | UInt64(UInt32(bitPattern: place)) }
}

/// What learning something came to.
public enum LearnOutcome: Sendable, Equatable {
    /// It was not known, or otherwise: what was decided without it has to be decided again.
    case news
    /// It was known, and has a new lifetime.
    case known
    /// There was no room.
    case refused
    /// Somebody else has what it says.
    case conflict
}

/// A table of rows that hosts tell each other of. Its rows lie in places; each row that this host told of knows the entry of
/// the log where it did so last.
protocol RowTable: AnyObject, Sendable {
    /// What it holds.
    var kind: RowKind { get }
    /// Appends the row at a place, if this host told of it last by this entry.
    func encode(_ place: Int32, entry: UInt64, now: UInt64, into out: inout ByteWriter)
    /// Reads a row behind its kind and takes it in; adds the tags of what is to be decided again.
    ///
    /// - Parameter older: how much older the row is than it says, nanoseconds.
    func merge(_ reader: inout ByteReader, _ form: UInt8, older: UInt64, now: UInt64, _ news: inout Set<Tag>)
        throws(MalformedBytes)
    /// Appends the row that a key names, which is read behind its kind.
    func find(_ reader: inout ByteReader, _ form: UInt8, now: UInt64, into out: inout ByteWriter) throws(MalformedBytes)
    /// Reads a row behind its kind, and appends what is known of the same now, if this host did not tell or hear of it after
    /// a time.
    func renew(
        _ reader: inout ByteReader, _ form: UInt8, before: UInt64, now: UInt64, into out: inout ByteWriter
    ) throws(MalformedBytes)
    /// Sums of what everybody knows.
    var digest: TableDigest { get }
    /// Appends the rows of some buckets, from a place on, until there are so many bytes; where to go on, `nil` at the end.
    ///
    /// - Parameter all: also what is not for everybody, and to the end of its time.
    func encode(
        buckets: [Bool], all: Bool, from place: Int32, bytes limit: Int, now: UInt64,
        into out: inout ByteWriter
    ) -> Int32?
}

/// How rows are written: a byte of kind and form, then the fields of the kind.
enum RowForm {
    /// The addresses are IPv6.
    static let v6: UInt8 = 0x80
    /// Bits of the kind.
    static let kind: UInt8 = 0x0f
    /// Ages are told in units of ten milliseconds.
    static let ageUnit: UInt64 = 10_000_000

    static func head(_ kind: RowKind, _ family: AddressFamily = .ipv4) -> UInt8 {
        kind.rawValue | (family == .ipv6 ? v6 : 0)
    }
    static func family(_ form: UInt8) -> AddressFamily { form & v6 != 0 ? .ipv6 : .ipv4 }
}

extension ByteWriter {
    mutating func words(_ address: IPAddress) {
        if address.family == .ipv4 {
            number(UInt32(truncatingIfNeeded: address.high >> 32))
        } else {
            number(address.high)
            number(address.low)
        }
    }
    mutating func sides(_ tuple: ConnectionTuple) {
        words(tuple.source)
        words(tuple.destination)
        number(tuple.sourcePort)
        number(tuple.destinationPort)
    }
    mutating func age(_ now: UInt64, _ used: UInt64) { count((now > used ? now - used : 0) / RowForm.ageUnit) }
}

extension ByteReader {
    mutating func words(_ family: AddressFamily) throws(MalformedBytes) -> IPAddress {
        if family == .ipv4 { return IPAddress(IPv4Address(bits: try number())) }
        return IPAddress(high: try number(), low: try number(), family: .ipv6)
    }
    mutating func sides(_ family: AddressFamily, _ ipProtocol: UInt8) throws(MalformedBytes) -> ConnectionTuple {
        ConnectionTuple(
            source: try words(family), destination: try words(family), sourcePort: try number(),
            destinationPort: try number(), ipProtocol: ipProtocol)
    }
    mutating func tag() throws(MalformedBytes) -> Tag { Tag(bits: try number()) }
    /// An age, nanoseconds; what is longer than anything is remembered comes out as the longest.
    mutating func age(plus older: UInt64 = 0) throws(MalformedBytes) -> UInt64 {
        let (age, overflows) = try longCount().multipliedReportingOverflow(by: RowForm.ageUnit)
        let (sum, isMore) = age.addingReportingOverflow(older)
        return overflows || isMore ? .max : sum
    }
}
