// SPDX-License-Identifier: Apache-2.0

/// What the Domain Name System is asked, and its answers as bytes (RFC 1035, 6891). Any bytes may come: reading never traps.
public struct DNSQuery: Sendable, Equatable {
    /// Types of records.
    public enum RecordType {
        /// An IPv4 address.
        public static let a: UInt16 = 1
        /// A zone's servers.
        public static let ns: UInt16 = 2
        /// The start of a zone.
        public static let soa: UInt16 = 6
        /// A name for an address.
        public static let ptr: UInt16 = 12
        /// An IPv6 address (RFC 3596).
        public static let aaaa: UInt16 = 28
        /// What a message is capable of (RFC 6891).
        public static let opt: UInt16 = 41
        /// All.
        public static let any: UInt16 = 255
    }

    /// How it went.
    public enum Code: UInt16, Sendable {
        case noError = 0
        case malformed = 1
        case failure = 2
        case noName = 3
        case notImplemented = 4
        case refused = 5
    }

    /// The UDP port of servers.
    public static let port: UInt16 = 53
    /// Bytes of an answer to who does not say that it takes more.
    public static let standardSize = 512
    /// Bytes of the longest answer that is sent: it fits the smallest packet that a link has to carry.
    public static let longest = 1232

    /// Chosen by who asks.
    public var id: UInt16
    /// Operation, 0 for questions.
    public var operation: UInt8
    /// Whether the server is to ask others.
    public var wantsRecursion: Bool
    /// Whether signatures are not to be checked (RFC 4035).
    public var checkingDisabled: Bool
    /// Labels of the name as they were sent.
    public var labels: [[UInt8]]
    /// The type of record, such as ``RecordType/a``.
    public var type: UInt16
    /// 1: the Internet.
    public var recordClass: UInt16
    /// Bytes of the longest answer that is taken, where that was said.
    public var size: UInt16?
    /// Whether signatures are wanted (RFC 3225).
    public var wantsSignatures = false

    /// A question.
    public init(id: UInt16, _ name: String, type: UInt16) {
        (self.id, self.type, recordClass, operation) = (id, type, 1, 0)
        (wantsRecursion, checkingDisabled) = (true, false)
        labels = name.split(separator: ".").map { Array($0.utf8.prefix(63)) }
    }

    /// Reads a question; `nil` when it is none.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count >= 12, bytes[2] & 0x80 == 0 else { return nil }
        func half(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
        id = half(0)
        operation = bytes[2] >> 3 & 0xf
        wantsRecursion = bytes[2] & 1 != 0
        checkingDisabled = bytes[3] & 0x10 != 0
        guard half(4) == 1, half(6) == 0, half(8) == 0 else { return nil }
        labels = []
        var (at, length) = (12, 1)
        while true {
            guard at < bytes.count else { return nil }
            let size = Int(bytes[at])
            at += 1
            if size == 0 { break }
            // A question has nothing to refer to.
            length += size + 1
            guard size < 64, at + size <= bytes.count, length <= 255 else { return nil }
            labels.append(Array(bytes[at..<at + size]))
            at += size
        }
        guard at + 4 <= bytes.count else { return nil }
        (type, recordClass) = (half(at), half(at + 2))
        at += 4
        // What may follow is what the client is capable of: the root's name, the type, a size, flags.
        if half(10) > 0, at + 11 <= bytes.count, bytes[at] == 0, half(at + 1) == RecordType.opt {
            size = half(at + 3)
            wantsSignatures = bytes[at + 7] & 0x80 != 0
        }
    }

    /// A type of record in words.
    public static func name(of type: UInt16) -> String {
        let known: [UInt16: String] = [
            1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 64: "SVCB",
            65: "HTTPS", 255: "ANY",
        ]
        return known[type] ?? "TYPE\(type)"
    }

    /// The name in text, in lower case, without the root's dot; octets beyond ASCII's letters, digits and signs as `\NNN`.
    public var name: String {
        labels.map { label in
            var text = ""
            for byte in label {
                let isPlain = byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: ".") && byte != UInt8(ascii: "\\")
                let lower = (65...90).contains(byte) ? byte + 32 : byte
                if isPlain {
                    text.unicodeScalars.append(Unicode.Scalar(lower))
                } else {
                    text += "\\" + String(repeating: "0", count: byte < 10 ? 2 : byte < 100 ? 1 : 0) + "\(byte)"
                }
            }
            return text
        }.joined(separator: ".")
    }

    /// The address that a reverse name stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
    public var reverseAddress: IPAddress? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.last == "arpa", parts.count >= 2 else { return nil }
        if parts[parts.count - 2] == "in-addr", parts.count == 6 {
            return IPAddress(parts.prefix(4).reversed().joined(separator: "."))
        }
        guard parts[parts.count - 2] == "ip6", parts.count == 34 else { return nil }
        var (high, low) = (UInt64(0), UInt64(0))
        for part in parts.prefix(32).reversed() {
            guard part.count == 1, let digit = UInt64(part, radix: 16) else { return nil }
            high = high << 4 | low >> 60
            low = low << 4 | digit
        }
        return IPAddress(high: high, low: low, family: .ipv6)
    }

    /// The reverse name of an address.
    public static func reverse(_ address: IPAddress) -> String {
        if address.family == .ipv4 {
            return (0..<4).map { "\(address.high >> (32 + 8 * UInt64($0)) & 0xff)" }.joined(separator: ".")
                + ".in-addr.arpa"
        }
        let digits = (0..<32).map { place in
            String((place < 16 ? address.low : address.high) >> (4 * UInt64(place % 16)) & 0xf, radix: 16)
        }
        return digits.joined(separator: ".") + ".ip6.arpa"
    }

    /// The question as it is asked of a server.
    public func encoded(size: UInt16? = nil) -> [UInt8] {
        var out = head(response: false, code: .noError)
        out[4 + 1] = 1
        if size != nil { out[10 + 1] = 1 }
        appendQuestion(to: &out)
        if let size {
            out += [0, 0, 41]
            out.append(network: size)
            out += [0, 0, wantsSignatures ? 0x80 : 0, 0, 0, 0]
        }
        return out
    }

    /// A record of an answer.
    public struct Record: Sendable, Equatable {
        /// What it is of; `nil`: what was asked.
        public var name: String?
        /// Its type.
        public var type: UInt16
        /// How long it may be kept, seconds.
        public var seconds: UInt32
        /// Its data.
        public var data: [UInt8]

        /// An address.
        public init(_ address: IPAddress, seconds: UInt32) {
            self.seconds = seconds
            (type, data) = (address.family == .ipv4 ? RecordType.a : RecordType.aaaa, [])
            if address.family == .ipv4 {
                data.append(network: UInt32(truncatingIfNeeded: address.high >> 32))
            } else {
                data.append(network: address.high)
                data.append(network: address.low)
            }
        }

        /// A name for an address, or a server of a zone.
        public init(_ type: UInt16, _ name: String, seconds: UInt32) {
            (self.type, self.seconds, data) = (type, seconds, DNSQuery.encoded(name: name))
        }

        /// The start of a zone: how long it may be kept that there is no such name is part of it (RFC 2308).
        public init(zone: String, seconds: UInt32) {
            (type, self.seconds, name) = (RecordType.soa, seconds, zone)
            data = DNSQuery.encoded(name: zone) + DNSQuery.encoded(name: "hostmaster." + zone)
            for number in [1, 3600, 600, 86_400, seconds] as [UInt32] { data.append(network: number) }
        }
    }

    /// An answer. What does not fit is left out, and that is told (`TC`).
    public func answer(
        _ records: [Record] = [], authority: [Record] = [], code: Code = .noError, isOwn: Bool = true
    ) -> [UInt8] {
        var out = head(response: true, code: code)
        if isOwn { out[2] |= 0x04 }
        out[3] |= 0x80
        out[4 + 1] = 1
        appendQuestion(to: &out)
        let most = answerSize - (size == nil ? 0 : 11)
        for (at, list) in [(6, records), (8, authority)] {
            for record in list {
                var bytes: [UInt8] = record.name.map(DNSQuery.encoded) ?? [0xc0, 12]
                bytes.append(network: record.type)
                bytes.append(network: UInt16(1))
                bytes.append(network: record.seconds)
                bytes.append(network: UInt16(truncatingIfNeeded: record.data.count))
                bytes += record.data
                if out.count + bytes.count > most || out[at + 1] == .max {
                    out[2] |= 0x02
                    break
                }
                out += bytes
                out[at + 1] += 1
            }
        }
        if size != nil {
            out[10 + 1] = 1
            out += [0, 0, 41]
            out.append(network: UInt16(DNSQuery.longest))
            out += [0, 0, wantsSignatures ? 0x80 : 0, 0, 0, 0]
        }
        return out
    }

    /// Bytes of the longest answer to it.
    public var answerSize: Int { max(DNSQuery.standardSize, min(Int(size ?? 0), DNSQuery.longest)) }

    private func head(response: Bool, code: Code) -> [UInt8] {
        var out: [UInt8] = []
        out.append(network: id)
        out.append((response ? 0x80 : 0) | operation << 3 | (wantsRecursion ? 1 : 0))
        out.append((checkingDisabled ? 0x10 : 0) | UInt8(code.rawValue))
        return out + [UInt8](repeating: 0, count: 8)
    }

    private func appendQuestion(to out: inout [UInt8]) {
        for label in labels {
            out.append(UInt8(label.count))
            out += label
        }
        out.append(0)
        out.append(network: type)
        out.append(network: recordClass)
    }

    /// A name as labels.
    public static func encoded(name: String) -> [UInt8] {
        name.split(separator: ".").flatMap { [UInt8(min(63, $0.utf8.count))] + Array($0.utf8.prefix(63)) } + [0]
    }
}

/// An answer of another server, as far as one that passes it on has to know it.
public struct DNSReply: Sendable {
    /// The bytes.
    public private(set) var bytes: [UInt8]
    /// Where times are that records may be kept.
    private var times: [Int] = []

    /// Reads an answer to a question; `nil` when it is none of it.
    public init?(_ bytes: [UInt8], to query: DNSQuery) {
        guard bytes.count >= 12, bytes[2] & 0x80 != 0 else { return nil }
        func half(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
        guard half(0) == query.id, half(4) == 1 else { return nil }
        var question: [UInt8] = []
        query.appendOwnQuestion(to: &question)
        var at = 12 + question.count
        guard bytes.count >= at, DNSReply.isSame(bytes[12..<at], question) else { return nil }
        self.bytes = bytes
        let count = [6, 8, 10].reduce(0) { $0 + Int(half($1)) }
        for _ in 0..<count {
            // A name: labels, or at its end a reference.
            while true {
                guard at < bytes.count else { return nil }
                let size = Int(bytes[at])
                if size >= 0xc0 {
                    at += 2
                    break
                }
                at += 1 + size
                if size == 0 { break }
                guard size < 64 else { return nil }
            }
            guard at + 10 <= bytes.count else { return nil }
            if half(at) != DNSQuery.RecordType.opt { times.append(at + 4) }
            at += 10 + Int(half(at + 8))
            guard at <= bytes.count else { return nil }
        }
        guard at == bytes.count else { return nil }
    }

    private static func isSame(_ a: ArraySlice<UInt8>, _ b: [UInt8]) -> Bool {
        func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 0x20 : byte }
        return a.count == b.count && zip(a, b).allSatisfy { lower($0) == lower($1) }
    }

    /// How it went.
    public var code: UInt8 { bytes[3] & 0xf }
    /// Whether it does not hold all.
    public var isTruncated: Bool { bytes[2] & 2 != 0 }

    /// How long it may be kept, seconds; `nil` where nothing in it tells.
    public var seconds: UInt32? {
        times.map { at in bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } }.map { $0 > .max / 2 ? 0 : $0 }.min()
    }

    /// The answer to another who asks the same, some seconds later.
    public func aged(_ seconds: UInt32, for query: DNSQuery) -> [UInt8] {
        var out = bytes
        (out[0], out[1]) = (UInt8(query.id >> 8), UInt8(query.id & 0xff))
        // As it was written in the question: some tell answers by that.
        var question: [UInt8] = []
        query.appendOwnQuestion(to: &question)
        if out.count >= 12 + question.count { out.replaceSubrange(12..<12 + question.count, with: question) }
        for at in times {
            let left = out[at..<at + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let now = left > seconds ? left - seconds : 0
            for place in 0..<4 { out[at + place] = UInt8(truncatingIfNeeded: now >> UInt32(24 - 8 * place)) }
        }
        // Who can't take as much asks again otherwise.
        guard out.count > query.answerSize else { return out }
        var short = Array(out.prefix(12 + question.count))
        short[2] |= 2
        for place in 6..<12 { short[place] = 0 }
        return short
    }
}

extension DNSQuery {
    fileprivate func appendOwnQuestion(to out: inout [UInt8]) { appendQuestion(to: &out) }
}
