// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Netlink
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Gateway

@Suite struct EarlierRoutesTests {
    @Test(.enabled(if: geteuid() == 0))
    func `what an earlier daemon told is doubtful at once, and where there was none nothing is`() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "selvage-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let plan = try Uplinks.plan()
        let host = try NetworkNamespace.make("a host")
        try host.inside {
            try RouteNetlink().addVeth("eth1", mtu: 1500, peer: "far", peerNamespace: host.descriptor.number)
        }
        let way = UplinkRoute(gateways: [try #require(IPAddress("100.64.1.1"))], metric: 10)
        for left in [[try Prefix(parsing: "198.51.100.0/24"): way], [:]] {
            let told = Mutex<[Prefix: UplinkRoute]>([:])
            let daemon = try host.inside {
                try UplinkDaemon(
                    plan, directory: directory, known: { left },
                    report: { changes in
                        told.withLock { told in for (prefix, route) in changes { told[prefix] = route } }
                    },
                    say: { _ in })
            }
            defer { daemon.close() }
            let deadline = ContinuousClock.now + .seconds(20)
            // It doubts before it starts anything.
            while !daemon.status().isRunning, .now < deadline { usleep(20_000) }
            #expect(daemon.status().isRunning)
            #expect(told.withLock { $0 } == left.mapValues(\.doubtful))
        }
    }
}
