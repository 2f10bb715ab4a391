// SPDX-License-Identifier: Apache-2.0
import Foundation
import Manifest
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@testable import Gateway

/// What uplinks' daemons are told, and what they tell.
@Suite struct GatewayTests {
    /// Whether the daemon itself takes a configuration; why not.
    private func refusal(_ text: String) throws -> String? {
        let file = FileManager.default.temporaryDirectory.appending(path: "selvage-\(UUID().uuidString).conf").path
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        defer {
            for name in [file, file + ".check"] { try? FileManager.default.removeItem(atPath: name) }
        }
        return BirdProcess.check(file, output: file + ".check")
    }

    @Test func `BIRD takes a configuration with everything that may be said of peers`() throws {
        let text = BirdConfiguration(try Uplinks.plan(), snippet: nil).text
        #expect(try refusal(text) == nil, "\(text)")
        #expect(text.contains("router id 192.0.2.99;"))
        #expect(text.contains("password \"s3cr%t\";") && text.contains("receive limit 1000 action disable;"))
    }

    @Test func `BIRD takes whatever peers validation lets pass`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for _ in 0..<12 {
            let plan = try Uplinks.random(&random)
            let text = BirdConfiguration(plan, snippet: nil).text
            #expect(try refusal(text) == nil, "seed \(seed)\n\(text)")
        }
    }

    @Test func `what is said of peers is read as it was written, and what can't be is told with its place`() throws {
        let topology = try draw(Uplinks.everything)
        let port = try #require(PortPath("t/gw/up").flatMap { topology.ports[$0] })
        for peer in port.uplink?.peers ?? [] { #expect(try BGPPeer(reading: peer.fields) == peer) }
        var speaker = try #require(topology.routers[port.path.device]?.bgp)
        #expect(try BGPSpeaker(reading: speaker.fields) == speaker)
        (speaker.patience, speaker.leaderless) = (0, 5000)
        #expect(try BGPSpeaker(reading: speaker.fields) == speaker)
        var writer = ByteWriter()
        TopologyObject.port(port).encode(&writer)
        var other = port
        other.uplink?.daemon = .frr
        TopologyObject.port(other).encode(&writer)
        let router = try #require(topology.routers[port.path.device])
        TopologyObject.router(router).encode(&writer)
        var patient = router
        patient.bgp = speaker
        TopologyObject.router(patient).encode(&writer)
        var reader = ByteReader(writer.bytes)
        #expect(try TopologyObject(from: &reader) == .port(port))
        #expect(try TopologyObject(from: &reader) == .port(other))
        #expect(try TopologyObject(from: &reader) == .router(router))
        #expect(try TopologyObject(from: &reader) == .router(patient))
        for (from, to, words) in [
            ("as: 65100, password", "as: 0, password", "as is \"0\""),
            ("bfd: [50, 5]", "bfd: [5]", "bfd is 5"),
            ("hold: 30", "hold: 2", "hold is \"2\""),
            ("\"s3cr%t\"", "\"s3 cr\"", "has a password that daemons can't be told"),
            ("address: 100.64.1.3,", "address: 100.64.9.3,", "is in no network of the port"),
            ("address: 100.64.1.3,", "address: 100.64.1.1,", "is there twice"),
            ("address: 100.64.1.3,", "address: 100.64.1.2,", "is the port's own address"),
            ("10.0.0.0/8 le 24", "10.0.0.0/8 le 33", "write networks"),
            ("host: h1\n            interface: eth1\n            ", "", "no interface to reach them by"),
            ("        bgp: {", "        # {", "no autonomous system"),
            ("no-export", "65536:1", "write communities"),
        ] {
            let text = Uplinks.everything.replacing(from, with: to)
            #expect(text != Uplinks.everything, "\(from)")
            let error = #expect(throws: (any Error).self) { try draw(text) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(error.map { "\($0)" } ?? "")")
        }
    }

    @Test func `of a node that was killed nothing is carried but its daemons' sessions`() {
        func frame(_ type: UInt8, _ source: UInt16, _ destination: UInt16) -> [UInt8] {
            var bytes: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
            bytes += [0x45, 0, 0, 40, 0, 0, 0, 0, 64, type, 0, 0, 100, 64, 1, 2, 100, 64, 1, 1]
            for port in [source, destination] { bytes += [UInt8(port >> 8), UInt8(port & 0xff)] }
            return bytes + [UInt8](repeating: 0, count: 8) + [0x50] + [UInt8](repeating: 0, count: 7)
        }
        func isCarried(_ bytes: [UInt8]) -> Bool { Farewell.isOfSessions(bytes.span.bytes) }
        #expect(
            isCarried(frame(6, 179, 40_000)) && isCarried(frame(6, 40_000, 179)) && isCarried(frame(17, 49_152, 3784)))
        #expect(!isCarried(frame(6, 443, 40_000)) && !isCarried(frame(17, 179, 179)) && !isCarried(frame(1, 179, 179)))
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<2000 {
            var bytes = frame(6, 179, 40_000)
            bytes.removeLast(Int.random(in: 0...bytes.count, using: &random))
            for _ in 0..<4 where !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = isCarried(bytes)
        }
    }

    @Test func `what a router has decides what it announces`() throws {
        func announced(_ change: (inout Topology, inout Router) -> Void = { _, _ in }) throws -> [String] {
            var topology = try draw(Uplinks.everything)
            var router = try #require(DevicePath("t/gw").flatMap { topology.routers[$0] })
            change(&topology, &router)
            topology.routers[router.path] = router
            return topology.announced(by: router, on: "h1").sorted().map(\.description)
        }
        // A route leads to a part of the first; a floating address is one of the second; nothing is of the third.
        #expect(try announced() == ["198.51.100.7/32", "203.0.113.0/24"])
        #expect(try announced { $1.routes = [] } == ["198.51.100.7/32"])
        #expect(try announced { $1.translation.floating = [] } == ["203.0.113.0/24"])
        #expect(try announced { $1.isEnabled = false } == [])
        #expect(try announced { $1.bgp?.announced = [] } == [])
        #expect(
            try announced { topology, _ in
                if let path = PortPath("t/gw/in"), let more = try? InterfaceAddress(parsing: "2001:db8:5::1/64") {
                    topology.ports[path]?.addresses.append(more)
                }
            } == ["198.51.100.7/32", "203.0.113.0/24", "2001:db8::/32"])
    }

    @Test
    func `a floating address is announced besides where its machine is, and by another host when that moves there`()
        throws
    {
        let drawing = """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
            tenants:
              p:
                routers:
                  edge:
                    bgp: { as: 65001, announce: [203.0.113.0/24, "203.0.113.0/24 local"] }
                    links: [{ router: t/gw, address: 100.64.0.1/30, peer: 100.64.0.2/30 }]
                    routes: [{ to: 203.0.113.0/24, via: 100.64.0.2 }]
              t:
                bridges:
                  a: { ports: { vm: { host: h1, interface: vm, address: 10.0.0.9/24 }, far: { host: h2, interface: far, address: 10.0.0.10/24 } } }
                  b: { ports: { vm: { host: h2, interface: other, address: 10.0.0.9/24 } } }
                routers:
                  gw:
                    links: [{ bridge: a, address: 10.0.0.1/24 }]
                    floating:
                      203.0.113.7: { target: 10.0.0.9, port: a }
                      203.0.113.8: { target: 10.0.0.10, port: a }
            """
        var topology = try draw(drawing)
        let router = try #require(DevicePath("p/edge").flatMap { topology.routers[$0] })
        func announced(_ host: String) -> [String] {
            topology.announced(by: router, on: host).sorted().map(\.description)
        }
        #expect(announced("h1") == ["203.0.113.0/24", "203.0.113.7/32"])
        #expect(announced("h2") == ["203.0.113.0/24", "203.0.113.8/32"])
        let machine = try #require(PortPath("t/a/vm"))
        topology.ports[machine]?.attachment = .exterior(host: "h2", interface: "vm")
        #expect(announced("h1") == ["203.0.113.0/24"])
        #expect(announced("h2") == ["203.0.113.0/24", "203.0.113.7/32", "203.0.113.8/32"])
    }

    @Test func `a snippet of several lines is exported as it was`() throws {
        var topology = try draw(Uplinks.everything)
        let path = try #require(PortPath("t/gw/up"))
        topology.ports[path]?.uplink?.daemon = .frr
        topology.ports[path]?.uplink?.snippet = "# one \"line\"\nprotocol static {\n\tipv4;\r\n}\n\\ end"
        let again = try draw(ManifestWriter.write(topology, tenant: nil))
        #expect(again.ports[path]?.uplink == topology.ports[path]?.uplink)
        #expect(again.routers[path.device]?.bgp == topology.routers[path.device]?.bgp)
    }

    @Test func `routes of a namespace are those of the least metric, by what the kernel tells of each`() {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var model: [Prefix: [UInt32: NamespaceRoutes.Message]] = [:]
        var routes = NamespaceRoutes()
        var known: [Prefix: UplinkRoute] = [:]
        func prefix(_ number: UInt32) -> Prefix { Prefix(IPAddress(IPv4Address(bits: number << 24)), length: 8) }
        for step in 0..<2000 {
            let message = NamespaceRoutes.Message(
                prefix: prefix(UInt32.random(in: 0..<6, using: &random)),
                metric: UInt32.random(in: 1...3, using: &random), cost: UInt32.random(in: 1...3, using: &random),
                gateways: Set(
                    (0..<Int.random(in: 1...3, using: &random)).map { _ in
                        IPAddress(IPv4Address(bits: UInt32.random(in: 1...4, using: &random)))
                    }
                ).sorted())
            switch Int.random(in: 0...4, using: &random) {
            case 0...2:
                routes.add(message)
                model[message.prefix, default: [:]][message.metric] = message
            case 3:
                routes.remove(message)
                model[message.prefix]?[message.metric]?.gateways.removeAll(where: message.gateways.contains)
                if model[message.prefix]?[message.metric]?.gateways.isEmpty == true {
                    model[message.prefix]?[message.metric] = nil
                }
            default:
                // News was lost: all is looked at again, the kernel telling each router by itself or not.
                if Int.random(in: 0...9, using: &random) == 0 { model[message.prefix] = nil }
                let isSplit = Bool.random(using: &random)
                routes.replace(
                    model.values.flatMap(\.values).flatMap { one in
                        isSplit
                            ? one.gateways.map {
                                .init(prefix: one.prefix, metric: one.metric, cost: one.cost, gateways: [$0])
                            } : [one]
                    })
            }
            for changed in routes.takeChanges() { known[changed] = routes[changed] }
            for number in 0..<6 as Range<UInt32> {
                let best = model[prefix(number)]?.min { $0.key < $1.key }?.value
                #expect(
                    (known[prefix(number)] ?? .withdrawn)
                        == (best.map { UplinkRoute(gateways: $0.gateways, metric: $0.cost) } ?? .withdrawn),
                    "seed \(seed) step \(step)")
            }
        }
    }

    @Test func `BIRD's answers are put together however they are cut`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let text = """
            0001 BIRD 2.0.12 ready.
            2002-Name       Proto      Table      State  Since         Info
            1002-peer_0_0_0_1 BGP        ---        up     1796000000  Established
            1006-  BGP state:          Established
                Neighbor AS:      65100
                Routes:         5 imported, 2 filtered, 3 exported, 1 preferred
            1002-peer_0_0_0_2 BGP        ---        start  1796000009.123  Active        Socket: Connection refused
            1006-  BGP state:          Active
                Last error:       Socket: Connection refused

            0000\u{20}
            """ + "\n"
        for _ in 0..<200 {
            var reader = BirdReplyReader()
            var replies: [(code: Int, lines: [String])] = []
            var bytes = Array(text.utf8)
            while !bytes.isEmpty {
                let count = min(bytes.count, Int.random(in: 1...60, using: &random))
                reader.append(bytes.prefix(count))
                bytes.removeFirst(count)
                while let reply = reader.next() { replies.append(reply) }
            }
            #expect(replies.map(\.code) == [1, 0], "seed \(seed)")
            let lines = try #require(replies.last?.lines)
            let peers = [
                BGPPeer(IPAddress(IPv4Address(bits: 1)), system: 65100),
                BGPPeer(IPAddress(IPv4Address(bits: 2)), system: 65200),
            ]
            let status = PeerStatus.read(lines, peers)
            #expect(status.map(\.state) == ["established", "active"])
            #expect(status.map(\.since) == [1_796_000_000, 1_796_000_009])
            #expect(status[0].received == 7 && status[0].accepted == 5 && status[0].announced == 3)
            #expect(status.map(\.problem) == [nil, "Socket: Connection refused"])
        }
        // Nor does anything else that a socket may bring do harm.
        for _ in 0..<300 {
            var reader = BirdReplyReader()
            reader.append((0..<200).map { _ in UInt8.random(in: 0...255, using: &random) })
            while reader.next() != nil {}
            let lines = (0..<20).map { _ in
                String(decoding: (0..<30).map { _ in UInt8.random(in: 0x20...0x7e, using: &random) }, as: UTF8.self)
            }
            _ = PeerStatus.read(
                lines + ["peer_0_0_0_1 BGP --- up", "peer_0_0_0_1 BGP --- up "],
                [BGPPeer(IPAddress(IPv4Address(bits: 1)), system: 1)])
        }
    }
}
