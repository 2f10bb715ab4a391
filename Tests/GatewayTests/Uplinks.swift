// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing
import Topology
import Wire

@testable import Gateway

/// Uplinks to try daemons with.
enum Uplinks {
    static let everything = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            routers:
              gw:
                bgp: { as: 65001, id: 192.0.2.99, announce: [203.0.113.0/24, "198.51.100.0/24 each", "2001:db8::/32"], maxPaths: 4 }
                ports:
                  in: { address: 10.0.0.1/24 }
                  up:
                    host: h1
                    interface: eth1
                    address: [100.64.1.2/29, "2001:db8:64::2/64"]
                    peers:
                      - { address: 100.64.1.1, as: 65100, password: "s3cr%t", bfd: [50, 5], hold: 30, gracefulRestart: false, limit: 1000 }
                      - { address: 100.64.1.3, as: 65001, bfd: false, accept: [10.0.0.0/8 le 24, 192.0.2.0/24], refuse: [10.1.0.0/16 ge 20 le 32] }
                      - { address: 100.64.1.4, as: 4200000001, defaultOnly: true, preference: 200, prepend: 3, metric: 50 }
                      - { address: "2001:db8:64::1", as: 65100, tell: ["2001:db8::/32 le 48"], communities: ["65001:77", no-export, "4200000001:1:2"] }
                      - { address: "fe80::1", as: 65100 }
                      - { address: 192.0.2.200, as: 65300, far: true }
                routes: [{ to: 203.0.113.0/28, via: 10.0.0.2, port: in }]
                floating: { 198.51.100.7: { target: 10.0.0.9, port: in } }
        """

    static func plan(_ text: String = everything) throws -> UplinkPlan {
        let topology = try draw(text)
        let port = try #require(PortPath("t/gw/up").flatMap { topology.ports[$0] })
        return try #require(UplinkPlan(port, topology))
    }

    /// Why FRRouting does not take a configuration; `nil`: it does.
    static func refusalOfFRR(_ text: String) throws -> String? {
        let processes = FRRProcesses(
            files: FileManager.default.temporaryDirectory.appending(path: "selvage-\(UUID().uuidString)").path)
        defer { processes.removeFiles() }
        return try processes.check(text)
    }

    /// One with anything said of its peers that validation lets pass.
    static func random(_ random: inout SeededRandom) throws -> UplinkPlan {
        func pick<Value>(_ list: [Value]) -> Value { list[Int.random(in: 0..<list.count, using: &random)] }
        var plan = try plan()
        for place in plan.uplink.peers.indices {
            let family = plan.uplink.peers[place].address.family
            func matches() -> [PrefixMatch] {
                (0..<pick([0, 0, 1, 3])).map { _ in
                    let width = pick([family, .ipv4]).width
                    let length = Int.random(in: 0...width, using: &random)
                    let low = Int.random(in: length...width, using: &random)
                    let address = IPAddress(
                        high: width == 32 ? random.next() & ~0xffff_ffff : random.next(),
                        low: width == 32 ? 0 : random.next(), family: width == 32 ? .ipv4 : .ipv6)
                    return PrefixMatch(
                        Prefix(address.masked(length), length: length),
                        low...Int.random(in: low...width, using: &random))
                }
            }
            plan.uplink.peers[place].accepted = matches()
            plan.uplink.peers[place].refused = matches()
            plan.uplink.peers[place].told = matches()
            plan.uplink.peers[place].hold = pick([3, 9, 65_535])
            plan.uplink.peers[place].prepend = pick([0, 16])
            plan.uplink.peers[place].metric = pick([nil, 0, .max])
            plan.uplink.peers[place].preference = pick([0, 4095])
            plan.uplink.peers[place].restartsGracefully = pick([true, false])
            plan.uplink.peers[place].password = pick([nil, String(repeating: "~", count: 80), "a;}#'`$("])
        }
        return plan
    }
}
