// SPDX-License-Identifier: Apache-2.0

/// What an address translator writes into an IP packet that lies in another, as ICMP errors quote it. Checksums are kept
/// right incrementally (RFC 1624), that of the message around it as well (RFC 5508 section 4).
public struct EmbeddedPacket {
    /// What it says afterwards.
    public struct Identity: Sendable, Hashable {
        /// Source address, of the family that the packet has.
        public var source: IPAddress
        /// Destination address.
        public var destination: IPAddress
        /// Source and destination port; `nil` leaves them.
        public var ports: (source: UInt16, destination: UInt16)?
        /// The identifier of an ICMP query; `nil` leaves it.
        public var queryID: UInt16?

        /// An identity.
        public init(
            source: IPAddress, destination: IPAddress, ports: (source: UInt16, destination: UInt16)? = nil,
            queryID: UInt16? = nil
        ) {
            self.source = source
            self.destination = destination
            self.ports = ports
            self.queryID = queryID
        }

        /// Field by field.
        public static func == (a: Identity, b: Identity) -> Bool {
            a.source == b.source && a.destination == b.destination && a.ports?.source == b.ports?.source
                && a.ports?.destination == b.ports?.destination && a.queryID == b.queryID
        }

        /// Field by field.
        public func hash(into hasher: inout Hasher) {
            hasher.combine(source)
            hasher.combine(destination)
            hasher.combine(ports?.source)
            hasher.combine(ports?.destination)
            hasher.combine(queryID)
        }
    }

    private let bytes: UnsafeMutableRawBufferPointer
    private let start: Int
    private let end: Int
    private let outerChecksum: Int?

    /// The packet in `bytes` from `start` to `end`, as far as it is there.
    ///
    /// - Parameter outerChecksum: where the checksum is of the message around it, which begins at an even distance.
    public init(_ bytes: UnsafeMutableRawBufferPointer, from start: Int, to end: Int, outerChecksum: Int? = nil) {
        self.bytes = bytes
        self.start = start
        self.end = min(end, bytes.count)
        self.outerChecksum = outerChecksum
    }

    /// Rewrites it. What is cut off or malformed is left as it is.
    public func write(_ identity: Identity) {
        guard start >= 0, end - start >= 20 else { return }
        let isV6 = bytes[start] >> 4 == 6
        guard isV6 == (identity.source.family == .ipv6), !isV6 || end - start >= 40 else { return }
        var transport = start + (isV6 ? 40 : Int(bytes[start] & 0xf) * 4)
        var ipProtocol = bytes[start + (isV6 ? 6 : 9)]
        let headerChecksum = isV6 ? nil : start + 10
        // A later fragment has no transport header.
        var isLater = !isV6 && load(start + 6) & 0x1fff != 0
        if isV6 { (ipProtocol, transport, isLater) = skipExtensions(ipProtocol, transport) }
        let transportChecksum = isLater ? nil : checksum(ipProtocol, transport)
        let pseudo = ipProtocol == IPProtocol.icmp ? nil : transportChecksum
        let words = isV6 ? 8 : 2
        for (at, address) in [
            (start + (isV6 ? 8 : 12), identity.source), (start + (isV6 ? 24 : 16), identity.destination),
        ] {
            for word in 0..<words {
                let half = word < 4 ? address.high : address.low
                let value = UInt16(truncatingIfNeeded: half >> UInt64(48 - 16 * (word % 4)))
                put(value, at: at + 2 * word, headerChecksum, pseudo, ipProtocol)
            }
        }
        if isLater { return }
        let hasPorts = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp].contains(ipProtocol)
        let isICMP = ipProtocol == (isV6 ? IPProtocol.icmpv6 : IPProtocol.icmp)
        if hasPorts, let ports = identity.ports, end >= transport + 4 {
            put(ports.source, at: transport, nil, transportChecksum, ipProtocol)
            put(ports.destination, at: transport + 2, nil, transportChecksum, ipProtocol)
        }
        if isICMP, let id = identity.queryID, end >= transport + 6 {
            put(id, at: transport + 4, nil, transportChecksum, ipProtocol)
        }
    }

    /// Sets the hop limit or TTL.
    public func write(ttl: UInt8) {
        guard end - start >= 20 else { return }
        if bytes[start] >> 4 == 6 {
            put(load(start + 6) & 0xff00 | UInt16(ttl), at: start + 6, nil, nil, 0)
        } else {
            put(UInt16(ttl) << 8 | load(start + 8) & 0xff, at: start + 8, start + 10, nil, 0)
        }
    }

    /// The transport protocol behind IPv6 extension headers, where it begins, and whether the packet is a later fragment.
    private func skipExtensions(_ first: UInt8, _ at: Int) -> (UInt8, Int, Bool) {
        var (next, at) = (first, at)
        for _ in 0..<8 {
            switch next {
            case 0, 43, 60:
                guard at + 2 <= end else { return (next, at, true) }
                (next, at) = (bytes[at], at + (Int(bytes[at + 1]) + 1) * 8)
            case IPProtocol.fragment:
                guard at + 8 <= end else { return (next, at, true) }
                if load(at + 2) & 0xfff8 != 0 { return (bytes[at], at + 8, true) }
                (next, at) = (bytes[at], at + 8)
            default: return (next, at, false)
            }
        }
        return (next, at, true)
    }

    private func checksum(_ ipProtocol: UInt8, _ transport: Int) -> Int? {
        let at: Int
        switch ipProtocol {
        case IPProtocol.tcp: at = transport + 16
        case IPProtocol.udp: at = transport + 6
        case IPProtocol.icmp, IPProtocol.icmpv6: at = transport + 2
        default: return nil
        }
        return at + 2 <= end ? at : nil
    }

    private func load(_ at: Int) -> UInt16 {
        UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))
    }

    private func put(_ value: UInt16, at: Int, _ header: Int?, _ transport: Int?, _ ipProtocol: UInt8) {
        let old = load(at)
        guard old != value else { return }
        set(value, at: at)
        if let header { update(header, old, value, isUDP: false) }
        if let transport { update(transport, old, value, isUDP: ipProtocol == IPProtocol.udp) }
    }

    private func update(_ at: Int, _ old: UInt16, _ new: UInt16, isUDP: Bool) {
        let current = load(at)
        if isUDP, current == 0 { return }
        let updated = InternetChecksum.update(current, replacing: old, with: new)
        set(isUDP && updated == 0 ? 0xffff : updated, at: at)
    }

    /// Sets a word, and takes account of it in the message around.
    private func set(_ value: UInt16, at: Int) {
        let old = load(at)
        bytes.put16(value, at: at)
        guard let outerChecksum, old != value else { return }
        let current = load(outerChecksum)
        bytes.put16(InternetChecksum.update(current, replacing: old, with: value), at: outerChecksum)
    }
}
