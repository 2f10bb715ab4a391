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
            let frame = StateMessage.encode(.learned(learned))
            #expect(frame.withUnsafeBytes { StateMessage.decode($0) } == .learned(learned))
            for length in 0..<frame.count {
                #expect(frame[..<length].withUnsafeBytes { StateMessage.decode($0) } == nil || length >= 48)
            }
        }
    }

    @Test func `news is told once, believed for its time, and its end names who depended on it`() {
        let state = LocalState()
        let learned = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 2))
        #expect(state.learn(learned, now: 0) == .news)
        #expect(state.learn(learned, now: 10) == .known(isDue: false))
        let moved = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 3))
        #expect(state.learn(moved, now: 20) == .news)
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == Simulation.Tag(bits: 3))
        #expect(state.expire(now: 19 + AgentLimits.macLifetimeNanoseconds).isEmpty)
        #expect(state.expire(now: 20 + AgentLimits.macLifetimeNanoseconds) == [moved.tag])
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == nil)
    }

    @Test func `what is confirmed lives on, and hosts that missed it hear it again`() {
        let state = LocalState()
        let neighbor = Learned.neighbor(IPAddress(IPv4Address(bits: 9)), mac: mac, port: Simulation.Tag(bits: 2))
        #expect(state.learn(neighbor, now: 0) == .news)
        let later = AgentLimits.neighborLifetimeNanoseconds - AgentLimits.confirmNanoseconds
        #expect(state.expiring(now: later - 1).isEmpty)
        #expect(state.expiring(now: later) == [neighbor])
        #expect(state.expiring(now: later).isEmpty, "asked once")
        #expect(state.learn(neighbor, now: later + 5) == .known(isDue: true))
        #expect(state.learn(neighbor, now: later + 6) == .known(isDue: false), "told a moment ago")
        #expect(state.expire(now: AgentLimits.neighborLifetimeNanoseconds).isEmpty)
        #expect(state.expiring(now: later + 6 + later) == [neighbor], "asked again in the next life")
        // What another host told is not passed on.
        let other = LocalState()
        #expect(other.learn(neighbor, isOwn: false, now: 0) == .news)
        #expect(other.learn(neighbor, isOwn: false, now: later) == .known(isDue: false))
        #expect(other.own(limit: 10).isEmpty)
        #expect(state.own(limit: 10) == [neighbor])
    }

    @Test func `a station that sends from random addresses fills its share and no more`() {
        let state = LocalState()
        func learn(_ number: Int, port: UInt64, now: UInt64 = 0) -> LocalState.Outcome {
            state.learn(
                .mac(
                    MACAddress(bits: UInt64(number)), vlan: 0, bridge: Simulation.Tag(bits: 1),
                    port: Simulation.Tag(bits: port)), now: now)
        }
        for number in 0..<AgentLimits.learnedPerPort + 100 { _ = learn(number, port: 2) }
        #expect(state.count == AgentLimits.learnedPerPort)
        #expect(state.refused == 100)
        #expect(learn(1_000_000, port: 3) == .news)
        // A station that moves frees its place at the old port.
        #expect(learn(0, port: 3) == .news)
        #expect(learn(2_000_000, port: 2) == .news)
        #expect(learn(2_000_001, port: 2) == .refused)
        _ = state.expire(now: AgentLimits.macLifetimeNanoseconds)
        #expect(state.count == 0)
        #expect(learn(2_000_001, port: 2) == .news)
    }

    @Test func `a scan for neighbors that are not there leaves room for those that are`() {
        let state = LocalState()
        let port = Simulation.Tag(bits: 2)
        func ip(_ number: Int) -> IPAddress { IPAddress(IPv4Address(bits: UInt32(number))) }
        for number in 0..<AgentLimits.unreachableEntries + 10 { state.markUnreachable(ip(number), port: port, now: 0) }
        #expect(state.count == AgentLimits.unreachableEntries)
        #expect(state.learn(.neighbor(ip(5), mac: mac, port: port), now: 0) == .news)
        state.markUnreachable(ip(1_000_000), port: port, now: 0)
        #expect(state.neighbor(ip(1_000_000), port: port) == .unreachable)
        #expect(state.neighbor(ip(1_000_001), port: port) == .unknown)
        _ = state.expire(now: AgentLimits.unreachableNanoseconds)
        #expect(state.count == 1)
    }

    @Test func `a rate lets through what it says, and a burst of a tenth`() {
        var limit = RateLimit(perSecond: 1000)
        var passed = 0
        for step in 0..<20_000 where limit.take(now: 1 + UInt64(step) * 100_000) { passed += 1 }
        // Two seconds at 10,000 asked a second.
        #expect((1990...2110).contains(passed), "\(passed)")
    }
}
