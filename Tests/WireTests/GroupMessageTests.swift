// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

private func v4(_ text: String) -> IPAddress { IPAddress(text) ?? IPAddress(IPv4Address(bits: 0)) }

private func sealed(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    let sum = bytes.withUnsafeBytes { InternetChecksum.of($0) }
    (bytes[2], bytes[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
    return bytes
}

/// IGMP and MLD as bytes.
@Suite struct GroupMessageTests {
    @Test func `IGMPv2 is read`() throws {
        #expect(
            GroupMessage(igmp: sealed([0x16, 0, 0, 0, 239, 1, 2, 3]))?.kind == .report([.init(v4("239.1.2.3"), .join)]))
        #expect(
            GroupMessage(igmp: sealed([0x12, 0, 0, 0, 239, 1, 2, 3]))?.kind == .report([.init(v4("239.1.2.3"), .join)]))
        #expect(
            GroupMessage(igmp: sealed([0x17, 0, 0, 0, 239, 1, 2, 3]))?.kind == .report([.init(v4("239.1.2.3"), .leave)])
        )
        #expect(GroupMessage(igmp: sealed([0x11, 100, 0, 0, 0, 0, 0, 0]))?.kind == .query(nil))
        #expect(GroupMessage(igmp: sealed([0x11, 100, 0, 0, 239, 1, 2, 3]))?.kind == .query(v4("239.1.2.3")))
        // Not what its checksum says, of no group, of no known type.
        #expect(GroupMessage(igmp: [0x16, 0, 1, 1, 239, 1, 2, 3]) == nil)
        #expect(GroupMessage(igmp: sealed([0x16, 0, 0, 0, 10, 1, 2, 3])) == nil)
        #expect(GroupMessage(igmp: sealed([0x30, 0, 0, 0, 239, 1, 2, 3])) == nil)
    }

    @Test func `IGMPv3 is read, record by record`() throws {
        let report = sealed([
            0x22, 0, 0, 0, 0, 0, 0, 6,
            4, 0, 0, 0, 239, 0, 0, 1,
            3, 0, 0, 0, 239, 0, 0, 2,
            5, 0, 0, 1, 232, 0, 0, 3, 10, 0, 0, 9,
            // With four bytes that say something else.
            6, 1, 0, 1, 232, 0, 0, 4, 10, 0, 0, 9, 1, 2, 3, 4,
            // Of a kind that is not known.
            9, 0, 0, 0, 232, 0, 0, 5,
            3, 0, 0, 2, 232, 0, 0, 6, 10, 0, 0, 9, 10, 0, 0, 10,
        ])
        #expect(
            GroupMessage(igmp: report)?.kind
                == .report([
                    .init(v4("239.0.0.1"), .join), .init(v4("239.0.0.2"), .leave),
                    .init(v4("232.0.0.3"), .add([v4("10.0.0.9")])), .init(v4("232.0.0.4"), .remove([v4("10.0.0.9")])),
                    .init(v4("232.0.0.6"), .only([v4("10.0.0.9"), v4("10.0.0.10")])),
                ]))
        for length in 8..<report.count {
            var cut = Array(report[..<length])
            (cut[2], cut[3]) = (0, 0)
            #expect(GroupMessage(igmp: sealed(cut)) == nil, "cut at \(length)")
        }
    }

    @Test func `what is made is read again`() throws {
        let mac = MACAddress(bits: 0x0e00_0000_0001)
        for (group, own) in [(v4("239.1.1.1"), v4("10.0.0.1")), (v4("ff15::1"), v4("fe80::1"))] {
            for (isJoin, change) in [(true, GroupMessage.Change.join), (false, .leave)] {
                let frame = Frame.groupReport(from: mac, own, group: group, isJoin: isJoin)
                #expect(try read(frame).kind == .report([.init(group, change)]))
            }
            for asked in [nil, group] {
                let frame = Frame.groupQuery(from: mac, group.family, group: asked, tenths: 10, interval: 125)
                #expect(try read(frame).kind == .query(asked))
            }
        }
    }

    private func read(_ frame: [UInt8]) throws -> GroupMessage {
        var layout = PacketLayout()
        let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        #expect(key.ipTTL == 1)
        if key.etherType == EtherType.ipv4 {
            #expect(frame[14..<38].withUnsafeBytes { InternetChecksum.of($0) } == 0)
            return try #require(GroupMessage(igmp: Array(frame[38...])))
        }
        #expect(key.ipProtocol == IPProtocol.icmpv6)
        let message = Array(frame[Int(layout.transport)...])
        var sum = InternetChecksum.pseudoHeader(
            source: key.ipSource, destination: key.ipDestination, ipProtocol: IPProtocol.icmpv6, length: message.count)
        message.withUnsafeBytes { sum.add($0) }
        #expect(sum.value == 0)
        return try #require(GroupMessage(mld: message))
    }

    @Test func `any bytes are read or refused`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<20_000 {
            var bytes = (0..<Int.random(in: 0...80, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if bytes.count > 8, Bool.random(using: &random) {
                bytes[0] = [0x11, 0x16, 0x17, 0x22, 130, 131, 132, 143].randomElement(using: &random) ?? 0
                (bytes[6], bytes[7]) = (0, UInt8.random(in: 0...3, using: &random))
                bytes[2] = 0
                bytes[3] = 0
                bytes = sealed(bytes)
            }
            _ = GroupMessage(igmp: bytes)
            _ = GroupMessage(mld: bytes)
        }
    }
}
