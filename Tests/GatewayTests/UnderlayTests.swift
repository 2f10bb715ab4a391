// SPDX-License-Identifier: Apache-2.0
import Foundation
import Linux
import Manifest
import Netlink
import Testing
import Topology
import Wire

@testable import Gateway

/// Routing for the host itself.
@Suite struct UnderlayTests {
    private static let everything = """
        loopback: [192.0.2.1, "2001:db8::1"]
        as: 4200000001
        id: 192.0.2.99
        maxPaths: 4
        peers:
          - { address: 10.1.0.1, as: 65000, password: "s3cr%t", bfd: [100, 3], refuse: [0.0.0.0/0] }
          - { address: "2001:db8:1::1", as: 65000, hold: 30, gracefulRestart: false, communities: ["65001:77"] }
        snippet: |
          protocol static more { ipv4; route 198.51.100.0/25 blackhole; }
        """

    private func temporaryDirectory() throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "selvage-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    @Test func `BIRD takes a configuration with everything that may be said of a host`() throws {
        let directory = try temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let plan = try ManifestReader.readUnderlay(Self.everything, file: "underlay.yaml")
        #expect(plan.loopbacks.count == 2 && plan.peers.count == 2 && plan.identifier == IPv4Address("192.0.2.99"))
        let files = BirdFiles(directory + "/bird")
        func text(_ snippet: String?) -> String {
            UnderlayConfiguration(
                plan: plan, files: directory + "/bird",
                cards: [
                    plan.peers[0].address: .init(address: IPAddress("10.1.0.2"), interface: "eth1"),
                    plan.peers[1].address: .init(address: IPAddress("2001:db8:1::2"), interface: "eth2"),
                ], snippet: snippet
            ).text
        }
        #expect(try files.write(plan.snippet, text) == nil, "\(text(nil))")
        #expect(text(nil).contains("route 2001:db8::1/128 via \"lo\";"))
        // What is none is left out, and all else goes on.
        #expect(try files.write("protocol nonsense { }", text)?.contains("snippet:1:10") == true)
    }

    @Test(arguments: [
        ("as: 65001\npeers: [{ address: 10.0.0.1, as: 65000 }]", "has no address"),
        ("loopback: 192.0.2.1\nas: 65001", "speaks with nobody"),
        ("loopback: 192.0.2.1\npeers: [{ address: 10.0.0.1, as: 65000 }]", "as is missing"),
        ("loopback: [192.0.2.1, 192.0.2.1]\nas: 1\npeers: [{ address: 10.0.0.1, as: 2 }]", "has 192.0.2.1 twice"),
        ("loopback: 224.0.0.1\nas: 1\npeers: [{ address: 10.0.0.1, as: 2 }]", "224.0.0.1 is no address of one host"),
        ("loopback: 192.0.2.1\nas: 1\npeers: [{ address: 'fe80::1', as: 2 }]", "of a link alone"),
        ("loopback: 192.0.2.1\nas: 1\npeers: [{ address: 10.0.0.1 }]", "as is missing"),
        ("loopback: 127.0.0.1\nas: 1\npeers: [{ address: 10.0.0.1, as: 2 }]", "127.0.0.1 is no address of one host"),
        ("loopback: 192.0.2.1\nas: 1\npeers: [{ address: 10.0.0.1, as: 2, far: true }]", "is far"),
        ("loopback: 192.0.2.1\nas: 1\npeers: [{ address: 10.0.0.1, as: 2, bfd: [1] }]", "bfd is"),
        ("loopback: 192.0.2.1\nas: 1\nrouters: []", "\"routers\" is not known here"),
        ("[]", "a list of \"name: value\" lines belongs here"),
    ])
    func `what can't be of a host is told`(_ text: String, _ words: String) {
        do {
            _ = try ManifestReader.readUnderlay(text, file: "underlay.yaml")
            Issue.record("\(text) was taken")
        } catch { #expect("\(error)".contains(words), "\(error)") }
    }

    @Test(.enabled(if: geteuid() == 0))
    func `a host's daemon outlives who started it, is found again, and goes with all that it did`() throws {
        let directory = try temporaryDirectory() + "/underlay"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let plan = UnderlayPlan(
            [try #require(IPAddress("192.0.2.1"))], speaker: BGPSpeaker(system: 65001),
            peers: [BGPPeer(try #require(IPAddress("10.1.0.1")), system: 65000)])
        @Sendable func pid() -> String? { try? String(contentsOfFile: directory + "/bird.pid", encoding: .utf8) }
        let host = try NetworkNamespace.make("a host")
        try host.inside {
            try RouteNetlink().setUp("lo")
            let first = try UnderlayDaemon(plan, directory: directory) { _ in }
            let number = try #require(pid())
            #expect(first.status().isRunning && first.status().problem == nil)
            // BFD does not wait for what machines compute.
            let process = try #require(Int32(number.filter(\.isNumber)))
            func niceness(_ process: Int32) -> Int32 {
                getpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(process))
            }
            #expect(niceness(process) == max(-20, niceness(0) + routingNiceness))
            first.close()
            let second = try UnderlayDaemon(plan, directory: directory) { _ in }
            #expect(pid() == number)
            kill(process, SIGKILL)
            func waitUntil(_ condition: () -> Bool) {
                let deadline = ContinuousClock.now + .seconds(20)
                while !condition(), .now < deadline { usleep(20_000) }
            }
            waitUntil { second.status().failures == 1 && second.status().isRunning && pid() != number }
            #expect(second.status().isRunning && second.status().failures == 1, "\(second.status())")
            // A card that comes later is a peer's from then on.
            #expect(second.status().peers[0].problem == "no card has an address in its network")
            try RouteNetlink().addVeth("eth1", mtu: 1500, peer: "far", peerNamespace: host.descriptor.number)
            try RouteNetlink().setUp("eth1")
            try RouteNetlink().addAddress(
                InterfaceAddress(try #require(IPAddress("10.1.0.2")), length: 24), to: "eth1")
            waitUntil { second.status().peers[0].problem == nil && second.status().peers[0].state != "down" }
            #expect(second.status().peers[0].state != "down", "\(second.status())")
            second.close()
            let own = try #require(IPAddress("192.0.2.1"))
            #expect(try RouteNetlink().addresses().contains { $0.own == own && $0.link == "lo" })
            // It ended by itself, and has left all behind.
            kill(try #require(Int32((pid() ?? "").filter(\.isNumber))), SIGKILL)
            UnderlayDaemon.end(directory: directory) { _ in }
            #expect(try !RouteNetlink().addresses().contains { $0.own == own })
            #expect(!FileManager.default.fileExists(atPath: directory))
        }
    }
}
