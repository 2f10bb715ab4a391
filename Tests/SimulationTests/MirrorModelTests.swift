// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Mirrors against a list of the points that a packet passes, and what is asked of it there.
@Suite struct MirrorModelTests {
    private struct Drawn {
        var name: String
        var from: [String]
        var direction: String
        /// The UDP port that it is asked for, if any.
        var port: UInt16?
        var isEnabled: Bool

        var text: String {
            let match = port.map { ", match: [{ protocol: udp, destinationPort: \($0) }]" } ?? ""
            return "\(name): { from: [\(from.joined(separator: ", "))], to: sec/ids, direction: \(direction), "
                + "enabled: \(isEnabled)\(match) }"
        }
    }

    private func drawing(_ mirrors: [Drawn]) -> String {
        """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            bridges:
              a:
                ports:
                  one: { host: h1, interface: one, mac: "0e:00:00:00:00:01", address: 10.0.1.11/24 }
                  two: { host: h1, interface: two, mac: "0e:00:00:00:00:02", address: 10.0.1.12/24 }
              b: { ports: { web: { host: h1, interface: web, mac: "0e:00:00:00:00:03", address: 10.0.2.21/24 } } }
              sec: { ports: { ids: { host: h1, interface: ids, mac: "0e:00:00:00:00:99" } } }
            routers: { gw: { links: [{ bridge: a, address: 10.0.1.1/24 }, { bridge: b, address: 10.0.2.1/24 }] } }
            mirrors: { \(mirrors.map(\.text).joined(separator: ", ")) }
        """
    }

    /// Ways of packets, point by point: where it is, and whether it comes in there.
    private let ways: [(from: String, to: String, points: [(port: String, isIn: Bool)])] = [
        ("a/one", "a/two", [("a/one", true), ("a/two", false)]),
        ("a/two", "a/one", [("a/two", true), ("a/one", false)]),
        ("a/one", "b/web", [("a/one", true), ("gw/a", true), ("gw/b", false), ("b/web", false)]),
        ("b/web", "a/two", [("b/web", true), ("gw/b", true), ("gw/a", false), ("a/two", false)]),
    ]
    private let addresses = ["a/one": "10.0.1.11", "a/two": "10.0.1.12", "b/web": "10.0.2.21"]

    @Test func `random mirrors copy what passes where they look, each point once, and nothing else`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let places = ["a/one", "a/two", "b/web", "gw/a", "gw/b"]
        var copied = 0
        for round in 0..<120 {
            let mirrors = (0..<Int.random(in: 1...3, using: &random)).map { number in
                Drawn(
                    name: "m\(number)", from: places.filter { _ in Bool.random(using: &random) },
                    direction: ["in", "out", "both"].randomElement(using: &random) ?? "both",
                    port: ([nil, nil, 53, 80] as [UInt16?]).randomElement(using: &random) ?? nil,
                    isEnabled: Int.random(in: 0..<5, using: &random) != 0)
            }.filter { !$0.from.isEmpty }
            let host = try Host(drawing(mirrors))
            for way in ways {
                let port: UInt16 = Bool.random(using: &random) ? 53 : 123
                let isRouted = way.points.count > 2
                let next = isRouted ? "t/gw/\(way.from.prefix(1))" : "t/\(way.to)"
                let verdict = host.send(
                    host.packet(
                        IPProtocol.udp, "t/\(way.from)", addresses[way.from] ?? "", 5000, addresses[way.to] ?? "", port,
                        via: next), at: "t/\(way.from)")
                let what = "seed \(seed) round \(round): \(way.from) to \(way.to) port \(port)\n\(drawing(mirrors))"
                #expect(host.outputs(verdict) == ["t/\(way.to)"], "\(what)")
                var wanted: [String] = []
                for mirror in mirrors where mirror.isEnabled && (mirror.port ?? port) == port {
                    for point in way.points where mirror.from.contains(point.port) {
                        if mirror.direction != "both", (mirror.direction == "in") != point.isIn { continue }
                        // What leaves the router, and what its machine gets, has come one hop.
                        wanted.append("\(mirror.name) \(isRouted && !point.isIn ? 63 : 64)")
                    }
                }
                let found = verdict.copies.map { copy in
                    "\(copy.mirror.name) \(verdict.headers[Int(copy.header)].key.ipTTL)"
                }
                copied += found.count
                #expect(found.sorted() == wanted.sorted(), "\(what)")
                if found.sorted() != wanted.sorted() { return }
            }
        }
        #expect(copied > 200, "seed \(seed): only \(copied) copies")
    }
}
