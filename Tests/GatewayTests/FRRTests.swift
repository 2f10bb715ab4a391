// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Linux
import Manifest
import Netlink
import TestSupport
import Testing
import Topology
import Wire

@testable import Gateway

/// What FRRouting is told for an uplink, and what it tells.
@Suite struct FRRTests {
    @Test func `FRRouting takes whatever peers validation lets pass`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        for _ in 0..<12 {
            let text = FRRConfiguration(try Uplinks.random(&random)).text
            #expect(try Uplinks.refusalOfFRR(text) == nil, "seed \(seed)\n\(text)")
        }
        #expect(try Uplinks.refusalOfFRR("router bgp 65001\n neighbor nobody\n") != nil)
    }

    @Test func `what changes of one peer leaves the sessions of others alone`() throws {
        let plan = try Uplinks.plan()
        let old = FRRConfiguration(plan)
        #expect(old.changes(from: old) == [])
        /// Peers of whose sessions something is said.
        func touched(_ change: (inout UplinkPlan) -> Void) -> Set<String>? {
            var plan = plan
            change(&plan)
            guard let lines = FRRConfiguration(plan).changes(from: old) else { return nil }
            var found: Set<String> = []
            for line in lines {
                var words = line.split(separator: " ").map(String.init)
                if words.first == "no" { words.removeFirst() }
                if words.first == "neighbor", words.count > 1 { found.insert(words[1]) }
            }
            return found
        }
        let first = plan.uplink.peers[0].address.description
        #expect(touched { $0.uplink.peers[0].password = "other" } == [first])
        #expect(touched { $0.uplink.peers.removeFirst() } == [first])
        // What is made of a peer's routes is no matter of its session.
        #expect(touched { $0.uplink.peers[0].preference = 7 } == [])
        #expect(touched { $0.uplink.peers[1].accepted = [] } == [])
        #expect(touched { $0.uplink.peers[3].told = [] } == [])
        // What all rests on is.
        #expect(touched { $0.speaker?.system = 65009 } == nil)
        #expect(touched { $0.uplink.snippet = "router ospf" } == nil)
    }

    @Test func `what FRRouting tells of costs is compared as BIRD's is`() {
        let answer = """
            {
             "vrfId": 0,
             "tableVersion": 17,
             "routes": { "172.16.0.0/16": [{"valid":true,"path":"65200 65300","metric":5},{"valid":true,"bestpath":true,"locPrf":100,"path":"65100","nexthops":[{"ip":"10.9.0.2"}]}]
            ,"2001:db8::/32": [{"bestpath":true,"metric":77,"locPrf":200,"path":"65100 65100 {65300,65400}","nexthops":[]}]
            ,"10.0.0.0/8": [{"valid":true,"path":"65100"}]
            ,"10.1.0.0/16": [{"bestpath":true,"metric":4294967295,"path":""}]
             }  }
            """
        let table = FRRAnswers.costs(Array(answer.utf8))
        #expect(table.version == 17)
        let costs = Dictionary(uniqueKeysWithValues: table.costs.map { ("\($0.key)", $0.value) })
        let usual: UInt32 = 3995 * 524_288
        #expect(costs["172.16.0.0/16"] == usual + 4096)
        #expect(costs["2001:db8::/32"] == UInt32(3895 * 524_288 + 3 * 4096 + 77))
        #expect(costs["10.1.0.0/16"] == usual + 4095)
        #expect(costs.count == 3)
        var random = SeededRandom(seed: SeededRandom.seed)
        // Whatever else a socket may bring does no harm.
        for _ in 0..<300 {
            var bytes = Array(answer.utf8)
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = FRRAnswers.costs(bytes)
            _ = FRRAnswers.peers(bytes, [BGPPeer(IPAddress(IPv4Address(bits: 1)), system: 1)])
            _ = FRRAnswers.received(bytes)
        }
    }

    @Test func `what FRRouting tells of sessions is read`() throws {
        let answer = """
            { "10.9.0.2": { "bgpState": "Established", "bgpTimerUpEstablishedEpoch": 1795977064,
                "addressFamilyInfo": { "ipv4Unicast": { "acceptedPrefixCounter": 2, "sentPrefixCounter": 1 } },
                "lastResetDueTo": "Waiting for peer OPEN", "peerBfdInfo": { "status": "Up" } },
              "10.9.0.3": { "bgpState": "Idle", "lastResetDueTo": "BGP Notification send",
                "lastNotificationReason": "OPEN Message Error/Bad Peer AS" },
              "10.9.0.4": { "bgpState": "Idle", "prefixesConfigExceedMax": true } }
            """
        let peers = try ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"].map {
            BGPPeer(try #require(IPAddress($0)), system: 65100)
        }
        let list = FRRAnswers.peers(Array(answer.utf8), peers)
        #expect(list.map(\.state) == ["established", "idle", "idle", "down"])
        #expect(list[0].since == 1_795_977_064 && list[0].accepted == 2 && list[0].announced == 1)
        #expect(list[0].liveness == "up" && list[0].problem == nil)
        #expect(list[1].problem == "BGP Notification send: OPEN Message Error/Bad Peer AS")
        #expect(list[2].problem == "it sent more routes than its limit")
    }

    @Test(.enabled(if: geteuid() == 0 && FRRTests.isRealRoot))
    func `FRRouting runs as a user of its own outside of labs, and is asked how its sessions are`() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "selvage-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var plan = try Uplinks.plan()
        plan.uplink.daemon = .frr
        let host = try NetworkNamespace.make("a host")
        let first = plan
        let daemon = try host.inside {
            try RouteNetlink().addVeth("eth1", mtu: 1500, peer: "far", peerNamespace: host.descriptor.number)
            return try UplinkDaemon(first, directory: directory, report: { _ in }, say: { _ in })
        }
        defer { daemon.close() }
        daemon.announce([try Prefix(parsing: "203.0.113.0/24"), try Prefix(parsing: "2001:db8::/32")])
        let deadline = ContinuousClock.now + .seconds(20)
        var status = daemon.status()
        while status.peers.first?.state == "down" || !status.isRunning, .now < deadline {
            usleep(50_000)
            status = daemon.status()
        }
        #expect(status.isRunning && status.problem == nil && status.failures == 0, "\(status)")
        #expect(status.peers.allSatisfy { $0.state != "down" }, "\(status)")
        // Another password is another session, and no other daemon.
        plan.uplink.peers[0].password = "other"
        daemon.set(plan)
        plan.speaker?.system = 65_009
        daemon.set(plan)
        #expect(daemon.status().failures == 0)
    }

    /// Whether root here is root of the machine: FRRouting's user is not there in other worlds.
    private static var isRealRoot: Bool {
        (try? String(contentsOfFile: "/proc/self/uid_map", encoding: .utf8))?.contains("4294967295") == true
    }

    @Test func `FRRouting is asked by BFD as often as it can`() throws {
        let text = Uplinks.everything.replacing("interface: eth1", with: "interface: eth1\n            daemon: frr")
        #expect(try draw(text).ports[#require(PortPath("t/gw/up"))]?.uplink?.daemon == .frr)
        let error = #expect(throws: (any Error).self) { try draw(text.replacing("bfd: [50, 5]", with: "bfd: [40, 5]")) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("FRRouting takes no less"))
        let other = #expect(throws: (any Error).self) {
            try draw(text.replacing("daemon: frr", with: "daemon: quagga"))
        }
        #expect("\(other.map { "\($0)" } ?? "")".contains("use bird or frr"))
    }
}
