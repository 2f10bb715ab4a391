// SPDX-License-Identifier: Apache-2.0
import Names
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// What is kept of what other servers said.
@Suite struct AnswerCacheTests {
    private func address(_ text: String) -> IPAddress {
        IPAddress(text) ?? IPAddress(high: 0, low: 0, family: .ipv4)
    }

    private func question(_ name: String, id: UInt16 = 1, tenant: String = "t") throws -> NameQuestion {
        // Asked by a machine: so it comes about.
        let drawing = """
            tunnel: vxlan
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              \(tenant): { bridges: { a: { subnet: 10.0.1.0/24, dns: { forward: [9.9.9.9], server: 10.0.1.1 }, ports: { vm: { host: h1, interface: vm } } } } }
            """
        let topology = try draw(drawing)
        let fabric = Fabric(topology, localHost: "h1")
        var simulator = Simulator(fabric: fabric, state: EmptyFlowState())
        let path = DevicePath(tenant: tenant, name: "a")
        let frame = Frame.udp(
            etherSource: MACAddress(bits: 0x0200_0000_0001), etherDestination: Port.derivedMAC(of: "dhcp \(path)"),
            source: address("10.0.1.9"), destination: address("10.0.1.1"), sourcePort: 4000, destinationPort: 53,
            data: DNSQuery(id: id, name, type: 1).encoded())
        frame.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: bytes.bytes, layout: &layout)
            simulator.simulate(
                SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                at: fabric.localPorts[0])
        }
        return try #require(simulator.verdict.question)
    }

    private func reply(_ question: NameQuestion, seconds: UInt32, code: DNSQuery.Code = .noError) throws -> DNSReply {
        let record = DNSQuery.Record(address("203.0.113.5"), seconds: seconds)
        let bytes = question.query.answer(
            code == .noError ? [record] : [],
            authority: code == .noError ? [] : [DNSQuery.Record(zone: "com", seconds: seconds)],
            code: code)
        return try #require(DNSReply(bytes, to: question.query))
    }

    @Test func `an answer is kept as long as it may be, and tells what is left of that`() throws {
        var cache = AnswerCache()
        let first = try question("www.example.com")
        #expect(cache.answer(to: first, now: 10) == nil)
        cache.note(try reply(first, seconds: 60), to: first, now: 10)
        // Another machine asks the same, and is told with its own number and as it wrote the name.
        let again = try question("WWW.example.com", id: 77)
        let told = try #require(cache.answer(to: again, now: 30))
        let read = try #require(DNSReply(told, to: again.query))
        #expect(read.seconds == 40 && Array(told[0..<2]) == [0, 77] && Array(told[13..<16]) == Array("WWW".utf8))
        #expect(cache.answer(to: first, now: 69) != nil && cache.answer(to: first, now: 70) == nil)
        cache.expire(now: 70)
        #expect(cache.count == 0)
    }

    @Test func `that there is no such name is kept too, and failures are not`() throws {
        var cache = AnswerCache()
        let first = try question("nowhere.example.com")
        cache.note(try reply(first, seconds: 60, code: .noName), to: first, now: 10)
        #expect(cache.answer(to: first, now: 11) != nil)
        let other = try question("broken.example.com")
        cache.note(try reply(other, seconds: 60, code: .failure), to: other, now: 10)
        cache.note(try reply(other, seconds: 0), to: other, now: 10)
        #expect(cache.answer(to: other, now: 11) == nil)
    }

    @Test func `one tenant's answers do not push out another's`() throws {
        var cache = AnswerCache()
        let mine = try question("www.example.com", tenant: "u")
        cache.note(try reply(mine, seconds: 60), to: mine, now: 10)
        var other = try question("x.example.com")
        for number in 0..<AnswerCache.perTenant * 3 {
            other.query = DNSQuery(id: 1, "n\(number).example.com", type: 1)
            cache.note(try reply(other, seconds: 60), to: other, now: 10)
        }
        #expect(cache.count == AnswerCache.perTenant + 1 && cache.answer(to: mine, now: 11) != nil)
        // The newest are there.
        #expect(cache.answer(to: other, now: 11) != nil)
        // And none of the one is told the other.
        var strange = try question("www.example.com", tenant: "t")
        #expect(cache.answer(to: strange, now: 11) == nil)
        strange.resolvers = [address("8.8.8.8")]
        #expect(cache.answer(to: strange, now: 11) == nil)
    }
}
