// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

/// What collectors are told, read by what the messages themselves say of their form.
@Suite struct IPFIXTests {
    /// A collector: it knows no more than RFC 7011 says.
    private struct Collector {
        var templates: [UInt16: [(element: UInt16, length: Int)]] = [:]
        var records: [(template: UInt16, fields: [(element: UInt16, bytes: [UInt8])])] = []
        var sequence: UInt32 = 0

        private static func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }

        mutating func take(_ message: [UInt8]) throws {
            #expect(Collector.number(message[0..<2]) == 10 && Collector.number(message[2..<4]) == message.count)
            #expect(message.count <= 1472)
            #expect(Collector.number(message[8..<12]) == Int(sequence))
            var at = 16
            while at < message.count {
                let id = UInt16(Collector.number(message[at..<at + 2]))
                let end = at + Collector.number(message[at + 2..<at + 4])
                try #require(end <= message.count && end > at + 4)
                at += 4
                while at < end { at = try read(id, message, at, end) }
            }
            #expect(at == message.count)
        }

        private mutating func read(_ id: UInt16, _ message: [UInt8], _ start: Int, _ end: Int) throws -> Int {
            var at = start
            func next(_ count: Int) throws -> ArraySlice<UInt8> {
                try #require(at + count <= end)
                defer { at += count }
                return message[at..<at + count]
            }
            if id == 2 || id == 3 {
                let template = UInt16(Collector.number(try next(2)))
                let count = Collector.number(try next(2))
                if id == 3 { #expect(Collector.number(try next(2)) == 1) }
                var fields: [(element: UInt16, length: Int)] = []
                for _ in 0..<count {
                    fields.append((UInt16(Collector.number(try next(2))), Collector.number(try next(2))))
                }
                templates[template] = fields
                return at
            }
            var fields: [(element: UInt16, bytes: [UInt8])] = []
            for (element, length) in try #require(templates[id], "nobody told of template \(id)") {
                let length = length == 0xffff ? Collector.number(try next(1)) : length
                fields.append((element, Array(try next(length))))
            }
            records.append((id, fields))
            sequence &+= 1
            return at
        }

        func text(_ record: Int, _ element: IPFIX.Element) -> [String] {
            records[record].fields.filter { $0.element == element.rawValue }.map {
                String(decoding: $0.bytes, as: UTF8.self)
            }
        }
        func number(_ record: Int, _ element: IPFIX.Element) -> Int? {
            records[record].fields.first { $0.element == element.rawValue }.map { Collector.number($0.bytes[...]) }
        }
    }

    private func flow(_ frame: [UInt8]) -> IPFIX.Flow {
        var layout = PacketLayout()
        var flow = IPFIX.Flow(key: frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) })
        (flow.packets, flow.bytes, flow.start, flow.end) = (3, 1500, 1_700_000_000_123, 1_700_000_001_456)
        (flow.tenant, flow.ingressName, flow.egressName) = ("acme", "acme/web/www", "")
        (flow.ingress, flow.status) = (77, 130)
        return flow
    }

    private func datagram(_ source: String, _ destination: String, vlan: UInt16? = nil) throws -> [UInt8] {
        let frame = Frame.udp(
            etherSource: MACAddress(bits: 0x0e00_0000_0001), etherDestination: MACAddress(bits: 0x0e00_0000_0002),
            source: try #require(IPAddress(source)), destination: try #require(IPAddress(destination)),
            sourcePort: 4000, destinationPort: 53, data: [1, 2, 3])
        return vlan.map { Frame.tagged(frame, vlan: $0) } ?? frame
    }

    @Test func `a collector reads what it is told by what it was told before`() throws {
        var exporter = IPFIX.Exporter(domain: 9, name: "acme/flows", sample: 100)
        var collector = Collector()
        let ping = Frame.icmp(
            etherSource: MACAddress(bits: 1), etherDestination: MACAddress(bits: 2),
            source: try #require(IPAddress("10.0.0.1")), destination: try #require(IPAddress("10.0.0.2")), type: 3,
            code: 13,
            rest: 0, data: [])
        let other = Frame.ethernet(
            from: MACAddress(bits: 0x0e00_0000_0001), to: .broadcast, type: 0x88cc, payload: [1, 2, 3])
        for message in exporter.messages(
            [
                flow(try datagram("10.0.0.1", "10.0.0.2", vlan: 7)), flow(try datagram("fd00::1", "fd00::2")),
                flow(ping), flow(other),
            ], now: 1_700_000_100)
        { try collector.take(message) }
        #expect(collector.records.map(\.template) == [259, 256, 256, 257, 258])
        #expect(collector.text(0, .observationDomainName) == ["acme/flows"])
        #expect(collector.number(0, .samplingInterval) == 100 && collector.number(0, .selectorAlgorithm) == 4)
        #expect(Double(bitPattern: UInt64(collector.number(0, .samplingProbability) ?? 0)) == 0.01)
        #expect(collector.number(1, .sourceIPv4Address) == 0x0a00_0001 && collector.number(1, .vlanId) == 7)
        #expect(collector.number(1, .destinationTransportPort) == 53 && collector.number(1, .protocolIdentifier) == 17)
        #expect(collector.number(1, .packetDeltaCount) == 3 && collector.number(1, .octetDeltaCount) == 1500)
        #expect(collector.number(1, .flowStartMilliseconds) == 1_700_000_000_123)
        #expect(collector.text(1, .interfaceName) == ["acme/web/www", ""] && collector.text(1, .vrfName) == ["acme"])
        #expect(collector.number(1, .forwardingStatus) == 130 && collector.number(1, .ingressInterface) == 77)
        #expect(collector.number(2, .icmpTypeCodeIPv4) == 3 << 8 | 13)
        #expect(collector.number(2, .sourceTransportPort) == 0)
        #expect(collector.records[3].fields.first { $0.element == 28 }?.bytes.last == 2)
        #expect(
            collector.number(4, .ethernetType) == 0x88cc
                && collector.number(4, .destinationMacAddress) == 0xffff_ffff_ffff)
    }

    @Test func `much is told in several messages, and templates again once a minute`() throws {
        var exporter = IPFIX.Exporter(domain: 9, name: "n", sample: 1)
        var collector = Collector()
        var long = flow(try datagram("10.0.0.1", "10.0.0.2"))
        long.ingressName = String(repeating: "x", count: 300)
        let many = exporter.messages(
            Array(repeating: flow(try datagram("10.0.0.1", "10.0.0.2")), count: 50) + [long], now: 1000)
        #expect(many.count > 4)
        for message in many { try collector.take(message) }
        #expect(collector.records.count == 52 && collector.sequence == 52)
        #expect(collector.text(51, .interfaceName)[0].count == 254)
        #expect(exporter.messages([], now: 1059).isEmpty)
        let again = exporter.messages([], now: 1060)
        #expect(again.count == 1)
        for message in again { try collector.take(message) }
        #expect(collector.records.count == 53)
    }
}
