// SPDX-License-Identifier: Apache-2.0
import Simulation
import Testing
import Topology
import Wire

@testable import Agent

/// Records of flows, by the packets that are looked at.
@Suite struct FlowRecorderTests {
    private let mirror = DevicePath(tenant: "t", name: "flows")

    private func way(_ ingress: String, drop: DropReason? = nil) -> RecordedWay {
        RecordedWay(
            mirror: mirror, ingress: PortPath(ingress), egress: nil, copies: drop == nil ? 1 : 0, drop: drop)
    }

    private func key(_ port: UInt16, flags: UInt16 = 0) -> FlowKey {
        var key = FlowKey()
        key.etherType = EtherType.ipv4
        key.ipProtocol = IPProtocol.tcp
        key.destinationPort = port
        key.tcpFlags = flags
        return key
    }

    @Test func `a conversation is one record until it is idle, and told of now and then while it goes on`() throws {
        let recorder = FlowRecorder()
        let cookie = try #require(recorder.cookie(of: way("t/a/one"), now: 0))
        #expect(cookie & 0xff == ActionCookies.sampled)
        func take(_ now: UInt64) -> [RecordedFlow] { recorder.take(now: now) { _ in Mirror.RecordTimes() } }
        for second in UInt64(0)..<70 {
            recorder.note(
                key(80, flags: second == 0 ? 2 : 16), packets: 2, bytes: 100, cookie: cookie, now: second * 1000)
            if second == 3 { recorder.note(key(81), packets: 1, bytes: 40, cookie: cookie, now: 3000) }
            let due = take(second * 1000)
            switch second {
            case 18: #expect(due.map(\.key.destinationPort) == [81] && due[0].end == .idle)
            case 60:
                #expect(due.map(\.packets) == [122] && due[0].bytes == 6100 && due[0].end == .active)
                #expect(due[0].first == 0 && due[0].last == 60_000 && due[0].tcpFlags == 18)
            default: #expect(due.isEmpty)
            }
        }
        #expect(take(83_999).isEmpty)
        #expect(take(84_000).map(\.packets) == [18])
        #expect(take(200_000).isEmpty)
    }

    @Test func `ways have names that are the same on every run, and what is unknown is counted`() throws {
        let (one, other) = (FlowRecorder(), FlowRecorder())
        let open = try #require(one.cookie(of: way("t/a/one"), now: 0))
        #expect(other.cookie(of: way("t/a/one"), now: 9) == open)
        #expect(other.cookie(of: way("t/a/one", drop: .filtered), now: 9) != open)
        #expect(other.cookie(of: way("t/a/two"), now: 9) != open)
        one.note(key(80), packets: 1, bytes: 1, cookie: open ^ 0x100, now: 1)
        #expect(one.lost == 1)
        one.note(key(80), packets: 1, bytes: 1, cookie: open, now: 1)
        // Whose mirror is gone is told of at once.
        #expect(one.take(now: 2) { _ in nil }.map(\.end) == [.forced])
    }

    @Test func `where there is no room, what there is is told of and nothing is lost`() throws {
        let recorder = FlowRecorder()
        let cookie = try #require(recorder.cookie(of: way("t/a/one"), now: 0))
        for number in 0...FlowRecorder.mostRecords {
            var key = key(UInt16(truncatingIfNeeded: number))
            key.sourcePort = UInt16(truncatingIfNeeded: number >> 16)
            recorder.note(key, packets: 1, bytes: 1, cookie: cookie, now: 1)
        }
        let due = recorder.take(now: 1) { _ in Mirror.RecordTimes() }
        #expect(due.count == FlowRecorder.mostRecords && due.allSatisfy { $0.end == .lackOfRoom })
        #expect(recorder.take(now: 99_000) { _ in Mirror.RecordTimes() }.count == 1)
    }
}
