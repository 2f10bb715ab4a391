// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Groups reach members only.
@Suite struct MulticastTests {
    private func hosts(_ multicast: String = "true") throws -> (h1: Host, h2: Host) {
        let topology = try draw(
            """
            hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
            tenants:
              acme:
                chains: { some: [{ id: no, protocol: udp, destinationPort: 9, action: drop }] }
                bridges:
                  a:
                    subnet: [10.0.1.0/24, "fd00:1::/64"]
                    multicast: \(multicast)
                    links: [{ bridge: b }]
                    ports:
                      sender: { host: h1, interface: s, address: [10.0.1.1/24, "fd00:1::1/64"] }
                      near: { host: h1, interface: n, address: 10.0.1.2/24 }
                      other: { host: h1, interface: o, address: 10.0.1.3/24 }
                      far: { host: h2, interface: f, address: 10.0.1.4/24 }
                      far2: { host: h2, interface: g, address: 10.0.1.5/24 }
                      guarded: { host: h3, interface: g, address: 10.0.1.6/24, outbound: some }
                  b: { ports: { beyond: { host: h1, interface: b } } }
                  tagged:
                    multicast: true
                    ports:
                      one: { host: h1, interface: t1, vlan: 7, mac: "0e:00:00:00:00:01" }
                      two: { host: h1, interface: t2, vlan: 7, mac: "0e:00:00:00:00:02" }
                      three: { host: h1, interface: t3, vlan: 8, mac: "0e:00:00:00:00:03" }
                      trunk: { host: h1, interface: t4, trunk: [7, 8], mac: "0e:00:00:00:00:04" }
            """)
        let state = TableState()
        return (Host(topology: topology, state: state), Host(topology: topology, state: state, host: "h2"))
    }

    /// Outputs in order of name.
    private func outputs(_ host: Host, _ verdict: Verdict) -> [String] { host.outputs(verdict).sorted() }

    private func say(_ host: Host, _ port: String, _ frame: [UInt8]) -> Verdict {
        let verdict = host.send(frame, at: port)
        #expect(!verdict.isCacheable)
        for learned in verdict.learned { host.state.learn(learned) }
        return verdict
    }

    private func join(_ host: Host, _ port: String, _ group: String, isJoin: Bool = true) -> Verdict {
        say(
            host, port,
            Frame.groupReport(
                from: host.mac(port), address(group.contains(":") ? "fe80::9" : "10.0.1.9"), group: address(group),
                isJoin: isJoin))
    }

    private func data(
        _ host: Host, to group: String, from source: String = "10.0.1.1", at port: String = "acme/a/sender"
    ) -> Verdict {
        host.send(
            Frame.udp(
                etherSource: host.mac(port), etherDestination: .multicast(for: address(group)), source: address(source),
                destination: address(group), sourcePort: 5000, destinationPort: 5000, data: [1, 2, 3]), at: port)
    }

    @Test func `a group reaches who joined it, here and elsewhere, once for each host, and links`() throws {
        let (h1, h2) = try hosts()
        let nobody = data(h1, to: "239.1.1.1")
        #expect(outputs(h1, nobody) == ["acme/b/beyond"] && nobody.isCacheable)
        #expect(nobody.mask.includesDestination(bits: 32))
        // What a machine says reaches no other machine.
        #expect(outputs(h1, join(h1, "acme/a/near", "239.1.1.1")) == ["acme/b/beyond"])
        #expect(outputs(h1, data(h1, to: "239.1.1.1")) == ["acme/a/near", "acme/b/beyond"])
        _ = join(h2, "acme/a/far", "239.1.1.1")
        _ = join(h2, "acme/a/far2", "239.1.1.1")
        #expect(outputs(h1, data(h1, to: "239.1.1.1")) == ["acme/a/near", "acme/b/beyond", "h2 flood acme/a"])
        #expect(outputs(h1, data(h1, to: "239.1.1.2")) == ["acme/b/beyond"])
        // There, only they get it.
        let key = h1.fabric.topology.bridges[DevicePath(tenant: "acme", name: "a")]?.floodKey ?? 0
        func arriving(_ group: String) -> Verdict {
            let sent = Frame.udp(
                etherSource: h1.mac("acme/a/sender"), etherDestination: .multicast(for: address(group)),
                source: address("10.0.1.1"), destination: address(group), sourcePort: 5000, destinationPort: 5000,
                data: [1])
            return h2.arrive(sent, key: key)
        }
        #expect(
            outputs(h2, arriving("239.1.1.1")) == ["acme/a/far", "acme/a/far2"] && arriving("239.1.1.1").isCacheable)
        #expect(arriving("239.1.1.2").drop == .nobodyJoined)
        #expect(outputs(h2, arriving("224.0.0.5")) == ["acme/a/far", "acme/a/far2"])
        // No flow is there before the first packet, which is asked about.
        #expect(!h2.fabric.arrivals.contains { $0.key == key })
        // What is filtered for one port alone is sent to it alone.
        let h3 = Host(topology: h1.fabric.topology, state: h1.state, host: "h3")
        _ = join(h3, "acme/a/guarded", "239.1.1.2")
        #expect(outputs(h1, data(h1, to: "239.1.1.2")) == ["acme/b/beyond", "h3 acme/a/guarded"])
    }

    @Test func `what is of the link, all, and what is no IP go to all as without`() throws {
        let (h1, _) = try hosts()
        let all = ["acme/a/near", "acme/a/other", "h3 acme/a/guarded", "acme/b/beyond", "h2 flood acme/a"]
        #expect(outputs(h1, data(h1, to: "224.0.0.251")) == all.sorted())
        #expect(outputs(h1, data(h1, to: "ff02::fb", from: "fd00:1::1")) == all.sorted())
        let strange = Frame.ethernet(
            from: h1.mac("acme/a/sender"), to: MACAddress(bits: 0x0180_c200_0003), type: 0x88b5, payload: [1, 2, 3])
        #expect(outputs(h1, h1.send(strange, at: "acme/a/sender")) == all.sorted())
        let broadcast = Frame.udp(
            etherSource: h1.mac("acme/a/sender"), etherDestination: .broadcast, source: address("10.0.1.1"),
            destination: address("10.0.1.255"), sourcePort: 5, destinationPort: 5, data: [])
        #expect(outputs(h1, h1.send(broadcast, at: "acme/a/sender")) == all.sorted())
        #expect(outputs(h1, data(h1, to: "ff15::1", from: "fd00:1::1")) == ["acme/b/beyond"])
        let (loud, _) = try hosts("{ unknown: flood }")
        #expect(outputs(loud, data(loud, to: "239.1.1.1")).count == all.count)
        _ = join(loud, "acme/a/near", "239.1.1.1")
        #expect(outputs(loud, data(loud, to: "239.1.1.1")) == ["acme/a/near", "acme/b/beyond"])
    }

    @Test func `who leaves is asked about, and left out a moment later`() throws {
        let (h1, _) = try hosts()
        for group in ["239.1.1.1", "ff15::1"] {
            let source = group.contains(":") ? "fd00:1::1" : "10.0.1.1"
            _ = join(h1, "acme/a/near", group)
            _ = join(h1, "acme/a/other", group)
            let left = join(h1, "acme/a/near", group, isJoin: false)
            let asked = try #require(left.packets.first)
            #expect(left.packets.count == 1 && asked.isService && h1.fabric.path(asked.port).name == "near")
            #expect(parse(asked.frame).ipDestination == address(group))
            // Somebody else may be there.
            #expect(outputs(h1, data(h1, to: group, from: source)).contains("acme/a/near"))
            _ = join(h1, "acme/a/near", group)
            h1.state.forgetLeft()
            #expect(outputs(h1, data(h1, to: group, from: source)).contains("acme/a/near"))
            _ = join(h1, "acme/a/near", group, isJoin: false)
            h1.state.forgetLeft()
            #expect(outputs(h1, data(h1, to: group, from: source)) == ["acme/a/other", "acme/b/beyond"])
            // Who leaves what it has not joined is not asked.
            #expect(join(h1, "acme/a/near", group, isJoin: false).packets.isEmpty)
        }
        let (quiet, _) = try hosts("{ querier: false }")
        _ = join(quiet, "acme/a/near", "239.1.1.1")
        #expect(join(quiet, "acme/a/near", "239.1.1.1", isJoin: false).packets.isEmpty)
    }

    private func report(_ host: Host, _ port: String, _ records: [UInt8], count: UInt8 = 1) -> Verdict {
        var message: [UInt8] = [0x22, 0, 0, 0, 0, 0, 0, count] + records
        let sum = message.withUnsafeBytes { InternetChecksum.of($0) }
        (message[2], message[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        return say(
            host, port,
            Frame.ip(
                etherSource: host.mac(port), etherDestination: .multicast(for: address("224.0.0.22")),
                source: address("10.0.1.9"), destination: address("224.0.0.22"), ipProtocol: 2, ttl: 1, payload: message
            ))
    }

    @Test func `who joined for one source gets only that`() throws {
        let (h1, _) = try hosts()
        // IS_IN 10.0.1.1.
        _ = report(h1, "acme/a/near", [1, 0, 0, 1, 232, 1, 1, 1, 10, 0, 1, 1])
        let own = data(h1, to: "232.1.1.1")
        #expect(outputs(h1, own) == ["acme/a/near", "acme/b/beyond"] && own.mask.includesSource(bits: 32))
        #expect(outputs(h1, data(h1, to: "232.1.1.1", from: "10.0.1.77")) == ["acme/b/beyond"])
        // TO_IN 10.0.1.77 instead.
        #expect(report(h1, "acme/a/near", [3, 0, 0, 1, 232, 1, 1, 1, 10, 0, 1, 77]).packets.count == 1)
        h1.state.forgetLeft()
        #expect(outputs(h1, data(h1, to: "232.1.1.1")) == ["acme/b/beyond"])
        #expect(outputs(h1, data(h1, to: "232.1.1.1", from: "10.0.1.77")) == ["acme/a/near", "acme/b/beyond"])
        // BLOCK it.
        _ = report(h1, "acme/a/near", [6, 0, 0, 1, 232, 1, 1, 1, 10, 0, 1, 77])
        h1.state.forgetLeft()
        #expect(outputs(h1, data(h1, to: "232.1.1.1", from: "10.0.1.77")) == ["acme/b/beyond"])
    }

    @Test func `a multicast router gets all groups and what machines say, and is found by what it asks`() throws {
        let (h1, h2) = try hosts()
        let query = Frame.groupQuery(
            from: h1.mac("acme/a/other"), .ipv6, tenths: 10, interval: 125)
        #expect(outputs(h1, say(h1, "acme/a/other", query)).count == 5)
        #expect(outputs(h1, data(h1, to: "ff15::1", from: "fd00:1::1")) == ["acme/a/other", "acme/b/beyond"])
        #expect(outputs(h1, data(h1, to: "239.1.1.1")) == ["acme/b/beyond"])
        #expect(
            outputs(
                h2,
                say(
                    h2, "acme/a/far",
                    Frame.groupReport(
                        from: h2.mac("acme/a/far"), address("fe80::1"), group: address("ff15::2"), isJoin: true))
            )
            .sorted() == ["h1 flood acme/a", "h1 flood acme/b"])
        // What comes by tunnel was read where it came in.
        let key = h1.fabric.topology.bridges[DevicePath(tenant: "acme", name: "a")]?.floodKey ?? 0
        let report = Frame.groupReport(
            from: h1.mac("acme/a/near"), address("fe80::1"), group: address("ff15::3"), isJoin: true)
        let pim = Frame.ip(
            etherSource: h1.mac("acme/a/near"), etherDestination: .multicast(for: address("224.0.0.13")),
            source: address("10.0.1.2"), destination: address("224.0.0.13"), ipProtocol: 103, ttl: 1,
            payload: [0x20, 0])
        for (frame, count) in [(query, 2), (report, 0), (pim, 2), (Array(report[..<75]), 2)] {
            let arrived = h2.arrive(frame, key: key)
            #expect(arrived.learned.isEmpty && !arrived.isCacheable && arrived.outputs.count == count)
        }
        // One from nobody is no router's.
        _ = say(h1, "acme/a/near", Frame.groupQuery(from: h1.mac("acme/a/near"), .ipv4, tenths: 10, interval: 125))
        #expect(outputs(h1, data(h1, to: "239.1.1.1")) == ["acme/b/beyond"])
        // One that speaks PIM is.
        _ = say(h1, "acme/a/near", pim)
        #expect(outputs(h1, data(h1, to: "239.7.7.7")) == ["acme/a/near", "acme/b/beyond"])
    }

    @Test func `groups of one VLAN are nothing to another`() throws {
        let (h1, _) = try hosts()
        let port = "acme/tagged/one"
        _ = join(h1, "acme/tagged/two", "239.1.1.1")
        _ = join(h1, "acme/tagged/three", "239.1.1.1")
        #expect(outputs(h1, data(h1, to: "239.1.1.1", at: port)) == ["acme/tagged/two"])
        let report = Frame.groupReport(
            from: h1.mac("acme/tagged/trunk"), address("10.0.1.9"), group: address("239.1.1.1"), isJoin: true)
        _ = say(h1, "acme/tagged/trunk", Frame.tagged(report, vlan: 7))
        let sent = data(h1, to: "239.1.1.1", at: port)
        #expect(outputs(h1, sent) == ["acme/tagged/trunk", "acme/tagged/two"])
        #expect(sent.headers.contains { $0.key.vlanTCI & 0xfff == 7 })
    }

    @Test func `all machines here are asked soon, once more, and then now and then`() throws {
        let (h1, _) = try hosts()
        let second: UInt64 = 1_000_000_000
        var schedule = GroupSchedule()
        schedule.note(h1.fabric, now: second)
        #expect(schedule.next > second && schedule.next < 2 * second)
        func due(_ now: UInt64) -> [String: Int] {
            Dictionary(
                schedule.due(h1.fabric, h1.state, now: now).map {
                    (h1.fabric.path($0.port).description, $0.frames.count)
                }, uniquingKeysWith: +)
        }
        // Both families; a trunk is asked in each VLAN.
        let first = due(2 * second)
        #expect(
            first == [
                "acme/a/sender": 2, "acme/a/near": 2, "acme/a/other": 2, "acme/tagged/one": 2, "acme/tagged/two": 2,
                "acme/tagged/three": 2, "acme/tagged/trunk": 6,
            ])
        #expect(due(3 * second).isEmpty)
        #expect(due(34 * second).count == 7)
        var asked: [String: Int] = [:]
        for now in 35..<1035 { for (port, count) in due(UInt64(now) * second) { asked[port, default: 0] += count } }
        for (port, count) in asked where port != "acme/tagged/trunk" { #expect((14...24).contains(count), "\(port)") }
        // Where a router asks, nobody else does.
        let query = Frame.ip(
            etherSource: h1.mac("acme/a/other"), etherDestination: .multicast(for: address("224.0.0.1")),
            source: address("10.0.1.3"), destination: address("224.0.0.1"), ipProtocol: 2, ttl: 1,
            payload: [0x11, 100, 0xee, 0x9b, 0, 0, 0, 0])
        _ = say(h1, "acme/a/other", query)
        for now in 1035..<1300 {
            for (port, count) in due(UInt64(now) * second) where port.hasPrefix("acme/a/") { #expect(count == 1) }
        }
    }
}

extension FlowMask {
    fileprivate func includesDestination(bits: Int) -> Bool {
        var other = FlowMask()
        other.includeDestination(prefix: bits)
        return (0..<FlowKey.wordCount).allSatisfy { self.bits.words[$0] & other.bits.words[$0] == other.bits.words[$0] }
    }
    fileprivate func includesSource(bits: Int) -> Bool {
        var other = FlowMask()
        other.includeSource(prefix: bits)
        return (0..<FlowKey.wordCount).allSatisfy { self.bits.words[$0] & other.bits.words[$0] == other.bits.words[$0] }
    }
}
