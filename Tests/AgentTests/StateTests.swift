// SPDX-License-Identifier: Apache-2.0
import FlowState
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Agent

@Suite struct StateTests {
    private let mac = MACAddress(bits: 0x0e11_2233_4455)

    private func tuple(_ address: IPAddress, _ port: UInt16) -> ConnectionTuple {
        ConnectionTuple(
            source: address, destination: address, sourcePort: port, destinationPort: 80, ipProtocol: IPProtocol.tcp)
    }

    /// A connection whose source becomes 10.0.0.9 with a port.
    private func use(_ port: UInt16, from source: UInt16 = 1) -> TranslationUse {
        let (own, other) = (IPAddress(IPv4Address(bits: 0x0a00_0001)), IPAddress(IPv4Address(bits: 0x0808_0808)))
        let original = ConnectionTuple(
            source: own, destination: other, sourcePort: source, destinationPort: 80, ipProtocol: IPProtocol.tcp)
        var reply = original.reversed
        (reply.destination, reply.destinationPort) = (IPAddress(IPv4Address(bits: 0x0a00_0009)), port)
        return TranslationUse(
            zone: Simulation.Tag(bits: 9), original: original, reply: reply, isNew: false, isReturn: false)
    }

    @Test func `two packets that were to have one port: the first has it, the other is told so`() {
        let state = StateTable()
        #expect(state.learn(.translation(use(4000, from: 1), flags: 2), now: 1) == .news)
        #expect(state.learn(.translation(use(4000, from: 2), flags: 2), now: 1) == .conflict)
        #expect(state.learn(.translation(use(4001, from: 2), flags: 2), now: 1) == .news)
        #expect(state.learn(.translation(use(4000, from: 1), flags: 0x10), now: 2) == .known)
        #expect(state.translationCount.count == 2)
        // What nobody uses any more is anybody's.
        let late = 100 * UInt64(1_000_000_000)
        #expect(state.learn(.translation(use(4000, from: 3), flags: 2), now: late) == .news)
        #expect(state.translation(use(4000, from: 1).original, zone: Simulation.Tag(bits: 9)) == nil)
        #expect(state.translation(use(4000, from: 3).reply, zone: Simulation.Tag(bits: 9))?.side == .reply)
    }

    @Test func `ports are wanted once, used by halves before more are, and idle ones go back`() {
        let calls = Mutex(0)
        let state = StateTable { calls.withLock { $0 += 1 } }
        let key = TranslationPorts.Key(
            zone: Simulation.Tag(bits: 9), address: IPAddress(IPv4Address(bits: 0x0a00_0009)))
        func wish(_ source: UInt16) -> SourceWish {
            SourceWish(
                zone: key.zone, tuple: use(0, from: source).original, first: key.address, count: 1,
                ports: .translation)
        }
        #expect(state.source(for: wish(1)) == .pending)
        #expect(state.withPorts { $0.takeWanted().map(\.count) } == [1])
        #expect(calls.withLock { $0 } == 1)
        state.withPorts { $0.set(key, [16], now: 1) }
        for source in UInt16(1)...32 {
            guard case .found(_, let port) = state.source(for: wish(source)) else {
                Issue.record("no port for \(source)")
                return
            }
            #expect((1024...1087).contains(port))
            #expect(state.learn(.translation(use(port, from: source), flags: 2), now: 1) == .news)
        }
        #expect(state.withPorts { $0.takeWanted().isEmpty })
        guard case .found(_, let port) = state.source(for: wish(33)) else { return }
        #expect(state.learn(.translation(use(port, from: 33), flags: 2), now: 1) == .news)
        #expect(state.withPorts { $0.takeWanted().map(\.count) } == [1], "more than half are used")
        state.withPorts { $0.set(key, [16, 40], now: 2) }
        // The unused block goes when its time has come, the used one stays.
        #expect(state.withPorts { $0.takeIdle(before: 2, keeping: { _ in true }).isEmpty })
        #expect(state.withPorts { $0.takeIdle(before: 3, keeping: { _ in true }).map(\.blocks) } == [[40]])
        #expect(state.withPorts { $0[key]?.blocks } == [16])
        // Where others go without, even what is kept in case goes, and sooner.
        let spare = TranslationPorts.Key(zone: key.zone, address: IPAddress(IPv4Address(bits: 0x0a00_000a)))
        state.withPorts { $0.set(spare, [17], now: 5) }
        #expect(state.withPorts { $0.takeIdle(before: 6, keeping: { _ in true }).isEmpty })
        let given = state.withPorts { $0.takeIdle(before: 1, scarce: [spare], before: 6, keeping: { _ in true }) }
        #expect(given.map(\.key) == [spare] && given.map(\.blocks) == [[17]])
        // All blocks taken: there is no asking for a while.
        state.withPorts { $0.noteExhausted(key, now: 5) }
        for source in UInt16(34)...64 {
            if case .found(_, let port) = state.source(for: wish(source)) {
                _ = state.learn(.translation(use(port, from: source), flags: 2), now: 1)
            }
        }
        #expect(state.source(for: wish(65)) == .exhausted)
        state.withPorts { $0.forgetExhausted(before: 6) }
        #expect(state.source(for: wish(65)) == .pending)
    }

    @Test func `news is told once, believed for its time, and its end names who depended on it`() {
        let state = StateTable()
        let learned = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 2))
        #expect(state.learn(learned, now: 0) == .news)
        #expect(state.learn(learned, now: 10) == .known)
        let moved = Learned.mac(mac, vlan: 0, bridge: Simulation.Tag(bits: 1), port: Simulation.Tag(bits: 3))
        #expect(state.learn(moved, now: 20) == .news)
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == Simulation.Tag(bits: 3))
        #expect(state.expire(now: 19 + StateLimits.macLifetimeNanoseconds).isEmpty)
        #expect(state.expire(now: 20 + StateLimits.macLifetimeNanoseconds) == [moved.tag])
        #expect(state.port(of: mac, vlan: 0, bridge: Simulation.Tag(bits: 1)) == nil)
    }

    @Test func `what is confirmed lives on, and hosts that missed it hear it again`() {
        let state = StateTable()
        let neighbor = Learned.neighbor(IPAddress(IPv4Address(bits: 9)), mac: mac, port: Simulation.Tag(bits: 2))
        #expect(state.learn(neighbor, now: 0) == .news)
        let later = StateLimits.neighborLifetimeNanoseconds - StateLimits.confirmNanoseconds
        #expect(state.expiring(now: later - 1).isEmpty)
        #expect(state.expiring(now: later) == [neighbor])
        #expect(state.expiring(now: later).isEmpty, "asked once")
        #expect(state.learn(neighbor, now: later + 5) == .known)
        #expect(state.expire(now: StateLimits.neighborLifetimeNanoseconds).isEmpty)
        #expect(state.expiring(now: later + 6 + later) == [neighbor], "asked again in the next life")
    }

    @Test func `a station that sends from random addresses fills its share and no more`() {
        let state = StateTable()
        func learn(_ number: Int, port: UInt64, now: UInt64 = 0) -> LearnOutcome {
            state.learn(
                .mac(
                    MACAddress(bits: UInt64(number)), vlan: 0, bridge: Simulation.Tag(bits: 1),
                    port: Simulation.Tag(bits: port)), now: now)
        }
        for number in 0..<StateLimits.learnedPerPort + 100 { _ = learn(number, port: 2) }
        #expect(state.count == StateLimits.learnedPerPort)
        #expect(state.refused == 100)
        #expect(learn(1_000_000, port: 3) == .news)
        // A station that moves frees its place at the old port.
        #expect(learn(0, port: 3) == .news)
        #expect(learn(2_000_000, port: 2) == .news)
        #expect(learn(2_000_001, port: 2) == .refused)
        _ = state.expire(now: StateLimits.macLifetimeNanoseconds)
        #expect(state.count == 0)
        #expect(learn(2_000_001, port: 2) == .news)
    }

    @Test func `a scan for neighbors that are not there leaves room for those that are`() {
        let state = StateTable()
        let port = Simulation.Tag(bits: 2)
        func ip(_ number: Int) -> IPAddress { IPAddress(IPv4Address(bits: UInt32(number))) }
        for number in 0..<StateLimits.unreachableEntries + 10 { state.markUnreachable(ip(number), port: port, now: 0) }
        #expect(state.count == StateLimits.unreachableEntries)
        #expect(state.learn(.neighbor(ip(5), mac: mac, port: port), now: 0) == .news)
        state.markUnreachable(ip(1_000_000), port: port, now: 0)
        #expect(state.neighbor(ip(1_000_000), port: port) == .unreachable)
        #expect(state.neighbor(ip(1_000_001), port: port) == .unknown)
        _ = state.expire(now: StateLimits.unreachableNanoseconds)
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
