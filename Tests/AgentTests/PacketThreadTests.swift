// SPDX-License-Identifier: Apache-2.0
import FlowState
import Glibc
import Gossip
import Linux
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

@testable import Agent
@testable import Datapath

@Suite struct PacketThreadTests {
    private static func drawing(gateway: String = "10.0.2.99", hosts: String = "") -> String {
        """
        hosts: { h1: { address: 192.0.2.1 }\(hosts) }
        tunnel: vxlan
        tenants:
          t:
            bridges:
              a: { ports: { vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 } } }
              b: { ports: { out: { host: h1, interface: out } } }
            routers:
              gw:
                links:
                  - { bridge: a, address: 10.0.1.1/24, mac: "0e:00:00:00:aa:01" }
                  - { bridge: b, address: 10.0.2.1/24, mac: "0e:00:00:00:aa:02" }
                routes: [{ to: 0.0.0.0/0, via: \(gateway) }]
        """
    }
    private let gateway = MACAddress(bits: 0x0e00_0000_aa01)
    private let stranger = MACAddress(bits: 0x0e00_0000_0999)

    private func packet(to destination: String, port: UInt16 = 1) -> [UInt8] {
        Frame.udp(
            etherSource: MACAddress(bits: 0x0e00_0000_0101), etherDestination: gateway,
            source: address("10.0.1.11"), destination: address(destination), sourcePort: port,
            destinationPort: 53, data: [])
    }

    private func address(_ text: String) -> IPAddress {
        guard let address = IPAddress(text) else { preconditionFailure("no address \(text)") }
        return address
    }

    private func answer(_ address: UInt32, _ mac: MACAddress) -> [UInt8] {
        Frame.arp(
            operation: 2, sender: (mac, IPv4Address(bits: address)),
            target: (MACAddress(bits: 0x0e00_0000_aa02), IPv4Address(bits: 0x0a00_0201)))
    }

    @Test func `a neighbor is asked for once, however many packets want it`() throws {
        let scene = Scene(try draw(Self.drawing()))
        for port in 0..<200 as Range<UInt16> { scene.send(packet(to: "10.0.2.50", port: port), port: 1) }
        #expect(scene.requests(for: IPv4Address(bits: 0x0a00_0232)) == 1)
        // When it answers, what waited goes on, as far as there was room to wait.
        scene.send(answer(0x0a00_0232, stranger), port: 2)
        scene.datapath.sent.removeAll()
        scene.wake()
        #expect(scene.datapath.sent.count == AgentLimits.parkedPerNeighbor)
        #expect(scene.datapath.sent.allSatisfy { !$0.actions.isEmpty })
    }

    @Test func `a flow whose new next hop is not known yet moves as soon as that answers`() throws {
        let scene = Scene(try draw(Self.drawing()))
        scene.send(answer(0x0a00_0263, stranger), port: 2)
        scene.wake()
        scene.send(packet(to: "8.8.8.8"), port: 1)
        func target() -> [MACAddress] {
            scene.datapath.installed.values.flatMap(\.actions).compactMap { action in
                if case .setEthernet(_, _, let destination, _) = action { return destination }
                return nil
            }
        }
        #expect(target() == [stranger])
        scene.apply(try draw(Self.drawing(gateway: "10.0.2.77")))
        #expect(target() == [stranger], "it goes on meanwhile")
        #expect(scene.requests(for: IPv4Address(bits: 0x0a00_024d)) == 1)
        #expect(scene.thread.lot.queryCount == 1, "and the new next hop goes on being asked for")
        let other = MACAddress(bits: 0x0e00_0000_0777)
        scene.send(answer(0x0a00_024d, other), port: 2)
        scene.wake()
        #expect(target() == [other])
    }

    @Test func `flows of an earlier run that need a neighbor stay until it is known again`() throws {
        let before = Scene(try draw(Self.drawing()))
        before.send(answer(0x0a00_0263, stranger), port: 2)
        before.wake()
        before.send(packet(to: "8.8.8.8"), port: 1)
        let flow = try #require(before.datapath.installed.values.first)
        // The next run knows the topology and nothing else; the datapath has the flow.
        let after = Scene(try draw(Self.drawing()))
        after.datapath.installed[flow.id] = flow
        after.thread.post(.inherit([InheritedFlow(id: flow.id, key: flow.key, statistics: FlowStatistics())]))
        after.wake()
        #expect(after.datapath.installed[flow.id]?.actions == flow.actions)
        #expect(after.requests(for: IPv4Address(bits: 0x0a00_0263)) == 1)
        after.send(answer(0x0a00_0263, stranger), port: 2)
        after.wake()
        #expect(after.datapath.installed[flow.id]?.actions == flow.actions)
        #expect(after.thread.flows.find(flow.id) != nil)
        #expect(after.thread.undecided.isEmpty)
    }

    /// A machine that may send nothing but answers, by port 2.
    private static let answersOnly = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            chains:
              answers: [{ state: established, action: accept }, { action: drop }]
            bridges:
              a:
                ports:
                  vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", inbound: answers }
                  out: { host: h1, interface: out, mac: "0e:00:00:00:01:02" }
        """
    /// What it sends.
    private static let answer = Frame.udp(
        etherSource: MACAddress(bits: 0x0e00_0000_0101), etherDestination: MACAddress(bits: 0x0e00_0000_0102),
        source: IPAddress(IPv4Address(bits: 0x0a00_010b)), destination: IPAddress(IPv4Address(bits: 0x0a00_010c)),
        sourcePort: 53, destinationPort: 9, data: [])

    @Test func `what is dropped because nobody knows its connection is asked for again after a while`() throws {
        let scene = Scene(try draw(PacketThreadTests.answersOnly), isReplicated: true)
        let answer = PacketThreadTests.answer
        for round in 1...2 as ClosedRange<UInt64> {
            scene.send(answer, port: 2)
            #expect(scene.thread.counters.held == round)
            let deadline = monotonicNanoseconds() + 5_000_000_000
            while scene.datapath.installed.isEmpty, monotonicNanoseconds() < deadline { scene.wake() }
            #expect(scene.datapath.installed.values.map(\.actions) == [[]])
            scene.send(answer, port: 2)
            #expect(scene.thread.counters.held == round, "nobody knew it a moment ago")
            // What it is known for stays a while, and no longer.
            scene.thread.removeProvisional(scene.datapath)
            #expect(scene.datapath.installed.count == 1)
            scene.thread.now += AgentLimits.unknownStateNanoseconds
            scene.thread.removeProvisional(scene.datapath)
            #expect(scene.datapath.installed.isEmpty)
            let isDue = monotonicNanoseconds() + AgentLimits.unknownStateNanoseconds
            while monotonicNanoseconds() < isDue { usleep(10_000) }
        }
    }

    @Test func `a flow whose connection is forgotten goes, so that its next packet asks the others`() throws {
        let scene = Scene(try draw(PacketThreadTests.answersOnly), isReplicated: true)
        let answer = PacketThreadTests.answer
        scene.send(answer, port: 2)
        guard case .connection(let tuple, let zone)? = scene.thread.simulator.verdict.missed.first else {
            Issue.record("it waits for no connection")
            return
        }
        let learned = Learned.connection(tuple.reversed, zone: zone, flags: 0)
        #expect(scene.state.learn(learned, now: monotonicNanoseconds()) == .news)
        scene.thread.post(.invalidate(Set(learned.tags)))
        scene.wake()
        scene.send(answer, port: 2)
        #expect(scene.datapath.installed.values.map(\.actions) == [[.output(PortNumber(1))]])
        let gone = scene.state.expire(now: monotonicNanoseconds() + 86_400_000_000_000)
        #expect(gone.contains(learned.tag))
        scene.thread.post(.invalidate(gone))
        scene.wake()
        #expect(scene.datapath.installed.isEmpty)
        let held = scene.thread.counters.held
        scene.send(answer, port: 2)
        #expect(scene.thread.counters.held == held + 1)
    }

    @Test(arguments: [false, true])
    func `an answer that may be to be translated waits until it is known how, or that nobody knows`(isKnown: Bool)
        throws
    {
        let scene = Scene(
            try draw(
                """
                hosts: { h1: { address: 192.0.2.1 } }
                tenants:
                  t:
                    pools: { web: { members: [{ address: 10.0.1.11, port: 8080 }] } }
                    bridges:
                      a: { ports: { www: { host: h1, interface: b, mac: "0e:00:00:00:01:01", address: 10.0.1.11/24 } } }
                      out: { ports: { client: { host: h1, interface: a, mac: "0e:00:00:00:01:02", address: 203.0.113.99/24 } } }
                    routers:
                      gw:
                        links: [{ bridge: a, address: 10.0.1.1/24, mac: "0e:00:00:00:aa:01" }, { bridge: out, address: 203.0.113.1/24 }]
                        vips: [{ address: 203.0.113.10, port: 80, pool: web }]
                """), isReplicated: true)
        scene.send(
            Frame.tcp(
                etherSource: MACAddress(bits: 0x0e00_0000_0101), etherDestination: MACAddress(bits: 0x0e00_0000_aa01),
                source: address("10.0.1.11"), destination: address("203.0.113.99"), sourcePort: 8080,
                destinationPort: 5000, flags: 0x12), port: 1)
        #expect(scene.thread.counters.held == 1 && scene.datapath.sent.isEmpty && scene.datapath.installed.isEmpty)
        guard case .translation(let tuple, let zone)? = scene.thread.simulator.verdict.missed.first else {
            Issue.record("it waits for no translation")
            return
        }
        if isKnown {
            var original = tuple.reversed
            (original.destination, original.destinationPort) = (address("203.0.113.10"), 80)
            let learned = Learned.translation(
                TranslationUse(zone: zone, original: original, reply: tuple, isNew: false, isReturn: false), flags: 2)
            #expect(scene.state.learn(learned, now: monotonicNanoseconds()) == .news)
            scene.thread.post(.invalidate(Set(learned.tags)))
        } else {
            scene.thread.post(.unknown([.translation(tuple, zone: zone)]))
        }
        scene.wake()
        let (actions, _) = try #require(scene.datapath.sent.first)
        let says = actions.contains { action in
            guard case .setIPv4(let value, _) = action else { return false }
            return value.source.0 == address("203.0.113.10").high
        }
        #expect(says == isKnown, "\(actions)")
        #expect(scene.thread.counters.heldTime.count == 1)
    }

    @Test func `ahead of a connection's first packet go its rows to who asked for it a moment ago`() throws {
        let drawing = """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
            tunnel: vxlan
            tenants:
              t:
                chains:
                  known: [{ state: [new, established], action: accept }]
                bridges:
                  a:
                    ports:
                      vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", inbound: known }
                      far: { host: h2, interface: far, mac: "0e:00:00:00:01:02" }
            """
        let scene = Scene(try draw(drawing), isReplicated: true)
        func send(from port: UInt16) -> Set<PeerID> {
            scene.others.told.withLock { $0 = [] }
            scene.send(
                Frame.udp(
                    etherSource: MACAddress(bits: 0x0e00_0000_0101),
                    etherDestination: MACAddress(bits: 0x0e00_0000_0102), source: address("10.0.1.11"),
                    destination: address("10.0.1.12"), sourcePort: port, destinationPort: 53, data: []), port: 1)
            return Set(scene.others.told.withLock { $0 })
        }
        #expect(send(from: 9) == [PeerID(2)])
        guard case .connection(var tuple, let zone, _)? = scene.thread.simulator.verdict.learned.last else {
            Issue.record("no connection began")
            return
        }
        tuple.sourcePort = 10
        var word = ByteWriter()
        GossipFrame.wanted(FlowReplication.key(ofConnection: tuple.reversed, zone: zone)).encode(into: &word)
        scene.thread.epoch.replication?.receive(word.bytes, from: PeerID(3), now: monotonicNanoseconds())
        #expect(send(from: 11) == [PeerID(2)])
        #expect(send(from: 10) == [PeerID(2), PeerID(3)])
    }

    @Test(arguments: [false, true])
    func `ahead of a connection's first packet go its rows to where it goes, and to ports that stand in for that`(
        isStateful: Bool
    ) throws {
        let drawing = """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
            tunnel: vxlan
            tenants:
              t:
                portGroups: [{ name: outside, stateful: \(isStateful) }]
                chains:
                  known: [{ state: [new, established], action: accept }]
                bridges:
                  a:
                    ports:
                      vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", inbound: known }
                      far: { host: h2, interface: far, mac: "0e:00:00:00:01:02", groups: [outside] }
                      near: { host: h3, interface: near, mac: "0e:00:00:00:01:03", groups: [outside] }
            """
        let scene = Scene(try draw(drawing), isReplicated: true)
        scene.send(
            Frame.udp(
                etherSource: MACAddress(bits: 0x0e00_0000_0101), etherDestination: MACAddress(bits: 0x0e00_0000_0102),
                source: address("10.0.1.11"), destination: address("10.0.1.12"), sourcePort: 9, destinationPort: 53,
                data: []), port: 1)
        #expect(!scene.datapath.sent.isEmpty)
        let told = Set(scene.others.told.withLock { $0 })
        #expect(told == (isStateful ? [PeerID(2), PeerID(3)] : [PeerID(2)]))
    }

    @Test
    func
        `a station that went elsewhere is not claimed back by the flow that it left, and is found again by its next packet`()
        throws
    {
        let drawing = """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
            tunnel: vxlan
            tenants:
              t:
                bridges:
                  a:
                    ports:
                      one: { host: h1, interface: one }
                      two: { host: h2, interface: two }
                      vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:02" }
            """
        let scene = Scene(try draw(drawing), isReplicated: true)
        let standing = scene.datapath.installed.count
        let bridge = Simulation.Tag.bridge(DevicePath(tenant: "t", name: "a"))
        let (one, two) = (
            Simulation.Tag.port(PortPath(device: DevicePath(tenant: "t", name: "a"), name: "one")),
            Simulation.Tag.port(PortPath(device: DevicePath(tenant: "t", name: "a"), name: "two"))
        )
        let frame = Frame.ethernet(
            from: stranger, to: MACAddress(bits: 0x0e00_0000_0102), type: 0x0900,
            payload: [UInt8](repeating: 0, count: 46))
        scene.send(frame, port: 1)
        scene.wake()
        #expect(scene.state.port(of: stranger, vlan: 0, bridge: bridge) == one)
        #expect(scene.datapath.installed.count == standing + 1)
        // Another host tells that it speaks there.
        let moved = Learned.mac(stranger, vlan: 0, bridge: bridge, port: two)
        #expect(scene.state.learn(moved, now: monotonicNanoseconds()) == .news)
        scene.thread.post(.invalidate(Set(moved.tags)))
        for _ in 0..<3 { scene.wake() }
        #expect(scene.state.port(of: stranger, vlan: 0, bridge: bridge) == two)
        #expect(scene.datapath.installed.count == standing)
        // It comes back: no flow hides that.
        scene.send(frame, port: 1)
        scene.wake()
        #expect(scene.state.port(of: stranger, vlan: 0, bridge: bridge) == one)
    }

    @Test func `an unknown tunnel key leaves no flow`() throws {
        let scene = Scene(try draw(Self.drawing(hosts: ", h2: { address: 192.0.2.2 }")))
        let standing = scene.datapath.installed.count
        let known = address("192.0.2.2")
        for key in 1..<100 as Range<UInt32> { scene.send(packet(to: "10.0.2.50"), port: 100, tunnel: (key, known)) }
        #expect(scene.datapath.installed.count == standing)
    }

    @Test func `a port that opens flow after flow leaves room for the others`() throws {
        let scene = Scene(try draw(Self.drawing()))
        var frame = Frame.ethernet(
            from: stranger, to: MACAddress(bits: 0x0e11_0000_0000), type: 0x0900,
            payload: [UInt8](repeating: 0, count: 46))
        func flood(_ count: Int, port: UInt32) {
            for number in 0..<count {
                withUnsafeBytes(of: UInt32(number).bigEndian) { frame.replaceSubrange(2..<6, with: $0) }
                scene.send(frame, port: port)
            }
        }
        flood(AgentLimits.flowsPerThread / 2 + 500, port: 1)
        #expect(scene.thread.flows.count(ofPort: 1) == AgentLimits.flowsPerThread / 2)
        #expect(scene.thread.counters.tableFull == 500)
        flood(500, port: 2)
        #expect(scene.thread.flows.count(ofPort: 2) == 500)
    }
}
