// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Wire

@testable import Agent

@Suite struct StateTests {
    private let mac = MACAddress(bits: 0x0e11_2233_4455)

    @Test func `what one agent learned another reads as it was`() {
        let samples: [Learned] = [
            .mac(mac, vlan: 77, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: UInt64.max)),
            .neighbor(IPAddress(IPv4Address(bits: 0x0a00_0001)), mac: mac, port: Simulation.Tag(bits: 3)),
            .neighbor(IPAddress(IPv6Address(high: 5, low: 6)), mac: mac, port: Simulation.Tag(bits: 4)),
        ]
        for learned in samples {
            let frame = StateMessage.encode(learned)
            #expect(frame.withUnsafeBytes { StateMessage.decode($0) } == learned)
            for length in 0..<frame.count {
                #expect(frame[..<length].withUnsafeBytes { StateMessage.decode($0) } == nil || length >= 48)
            }
        }
    }

    @Test func `news is told once, believed for its time, and its end names who depended on it`() {
        let state = LocalState()
        let learned = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 2))
        #expect(state.learn(learned, now: 0))
        #expect(!state.learn(learned, now: 10))
        let moved = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 3))
        #expect(state.learn(moved, now: 20))
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == Simulation.Tag(bits: 3))
        #expect(state.expire(now: 19 + AgentLimits.macLifetimeNanoseconds).isEmpty)
        #expect(state.expire(now: 20 + AgentLimits.macLifetimeNanoseconds) == [moved.tag])
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == nil)
    }

    @Test func `a station that sends from random addresses fills its table and no more`() {
        let state = LocalState()
        for number in 0..<AgentLimits.learnedEntries + 100 {
            _ = state.learn(
                .mac(
                    MACAddress(bits: UInt64(number)), vlan: 0, bridge: Simulation.Tag(bits: 1),
                    port: Simulation.Tag(bits: 2)), now: 0)
        }
        #expect(state.count == AgentLimits.learnedEntries)
        #expect(state.refused == 100)
    }

    @Test func `a rate lets through what it says, and a burst of a tenth`() {
        var limit = RateLimit(perSecond: 1000)
        var passed = 0
        for step in 0..<20_000 where limit.take(now: 1 + UInt64(step) * 100_000) { passed += 1 }
        // Two seconds at 10,000 asked a second.
        #expect((1990...2110).contains(passed), "\(passed)")
    }
}
