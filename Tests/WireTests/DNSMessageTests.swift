// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

/// Questions for names and their answers as bytes.
@Suite struct DNSMessageTests {
    private func address(_ text: String) -> IPAddress {
        IPAddress(text) ?? IPAddress(high: 0, low: 0, family: .ipv4)
    }

    @Test func `a question is read as it was written`() throws {
        let query = DNSQuery(id: 0x1234, "Desk.Office.example", type: DNSQuery.RecordType.aaaa)
        let read = try #require(DNSQuery(query.encoded()))
        #expect(read == query && read.name == "desk.office.example" && read.size == nil)
        let large = try #require(DNSQuery(query.encoded(size: 4096)))
        #expect(large.size == 4096 && large.answerSize == DNSQuery.longest && read.answerSize == 512)
    }

    @Test func `what dig sends is understood`() throws {
        // dig +noadflag +dnssec example.com mx, without its cookie.
        let bytes: [UInt8] =
            [0xbe, 0xef, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1, 7] + Array("example".utf8) + [3] + Array("com".utf8)
            + [0, 0, 15, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]
        let query = try #require(DNSQuery(bytes))
        #expect(query.name == "example.com" && query.type == 15 && query.wantsRecursion && query.wantsSignatures)
        #expect(query.size == 1232)
    }

    @Test func `names of addresses are found both ways`() throws {
        for text in ["10.0.1.11", "fd00:1::11", "255.1.2.3", "2001:db8:1234:5678:9abc:def0:1:2"] {
            let query = DNSQuery(id: 1, DNSQuery.reverse(address(text)), type: 12)
            #expect(query.reverseAddress == address(text))
        }
        for name in [
            "1.0.10.in-addr.arpa", "x.1.0.10.in-addr.arpa", "300.1.0.10.in-addr.arpa", "arpa", "a.ip6.arpa", "com",
        ] {
            #expect(DNSQuery(id: 1, name, type: 12).reverseAddress == nil)
        }
    }

    @Test func `an answer that does not fit is cut where a record ends, and says so`() throws {
        let query = DNSQuery(id: 1, "many.example", type: 1)
        let records = (0..<60).map { DNSQuery.Record(IPAddress(IPv4Address(bits: 0x0a00_0000 + $0)), seconds: 5) }
        let short = query.answer(records)
        let read = try #require(DNSReply(short, to: query))
        #expect(short.count <= 512 && read.isTruncated && read.seconds == 5)
        var large = query
        large.size = 1232
        let whole = try #require(DNSReply(large.answer(records), to: large))
        #expect(!whole.isTruncated && whole.bytes.count > 512)
        // What another may take, this one may not.
        let cut = try #require(DNSReply(whole.aged(1, for: query), to: query))
        #expect(cut.isTruncated && cut.bytes.count <= 512)
    }

    @Test func `an answer to something else is none`() throws {
        let query = DNSQuery(id: 7, "www.example", type: 1)
        let good = query.answer([DNSQuery.Record(address("10.0.0.1"), seconds: 9)])
        #expect(DNSReply(good, to: query)?.seconds == 9)
        for other in [
            DNSQuery(id: 8, "www.example", type: 1), DNSQuery(id: 7, "w3.example", type: 1),
            DNSQuery(id: 7, "www.example", type: 28),
        ] {
            #expect(DNSReply(good, to: other) == nil)
        }
        #expect(DNSReply(query.encoded(), to: query) == nil)
        #expect(DNSReply(Array(good.dropLast()), to: query) == nil && DNSReply(good + [0], to: query) == nil)
    }

    @Test func `noise is read or not, and never traps`() throws {
        var random = SeededRandom(seed: SeededRandom.seed)
        let query = DNSQuery(id: 1, "a.b.example.com", type: 255)
        let bases = [
            query.encoded(size: 1232), query.answer([DNSQuery.Record(address("fd00::1"), seconds: 1)]),
            query.answer(authority: [DNSQuery.Record(zone: "example.com", seconds: 3)], code: .noName),
        ]
        for _ in 0..<5000 {
            var bytes = bases.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
            if let read = DNSQuery(bytes) {
                #expect(DNSQuery(read.encoded(size: read.size))?.name == read.name, "seed \(SeededRandom.seed)")
                _ = read.reverseAddress
                _ = read.answer(code: .refused)
            }
            if let reply = DNSReply(bytes, to: query) { _ = reply.aged(.max, for: query) }
        }
    }
}
