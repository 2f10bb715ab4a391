// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

/// Members of pools that are checked.
@Suite struct HealthTests {
    private static let algorithms = Pool.Algorithm.allCases.map(\.rawValue)

    private func drawing(_ algorithm: String, _ more: String = "", count: Int = 4) -> String {
        let members = (0..<count).map { "{ address: 10.0.1.\(11 + $0), port: 8080, weight: \($0 == 1 ? 2 : 1) }" }
        return Drawings.threeNetworks.replacing(
            "    routers:\n",
            with: """
                    pools:
                      web: { algorithm: \(algorithm)\(more), monitor: ping, members: [\(members.joined(separator: ", "))] }
                    routers:
                      gw:
                        links:
                          - { bridge: a, address: 10.0.1.1/24 }
                          - { bridge: b, address: 10.0.2.1/24 }
                          - { bridge: out, address: 203.0.113.1/24 }
                        vips: [{ id: web, address: 203.0.113.10, port: 80, pool: web }]

                """)
    }

    private func host(_ topology: Topology) throws -> Host {
        let host = Host(topology: topology, state: TableState())
        host.state.lease("t/gw", address("10.0.1.1"), [32, 33, 600])
        let port = try #require(PortPath("t/gw/a"))
        for number in 1...99 {
            host.state.set(.at(host.mac("t/a/one")), address("10.0.1.\(number)"), port: .port(port))
        }
        return host
    }

    private func ask(_ host: Host, from client: String, _ port: UInt16, flags: UInt8 = 2) -> Carried {
        host.carry(
            host.packet(
                IPProtocol.tcp, "t/out/client", client, port, "203.0.113.10", 80, via: "t/gw/out", flags: flags),
            at: "t/out/client")
    }

    private func identity(_ number: Int) -> UInt64 { PoolMember(address("10.0.1.\(number)"), port: 8080).identity }

    @Test(arguments: algorithms)
    func `a member that checks found ill gets nothing, and the others its share by their weights`(algorithm: String)
        throws
    {
        let host = try host(draw(drawing(algorithm)))
        host.state.ill.withLock { $0 = [identity(13)] }
        var got: [IPAddress: Int] = [:]
        for number in 0..<4000 {
            let out = ask(host, from: "198.51.\(number / 200).\(number % 200 + 1)", UInt16(20_000 + number))
            got[out.key.ipDestination, default: 0] += 1
        }
        #expect(got[address("10.0.1.13")] == nil)
        #expect(got.values.reduce(0, +) == 4000)
        // Least connections is even by weights as well, since nothing ends.
        for (number, want) in [(11, 1000), (12, 2000), (14, 1000)] {
            let count = got[address("10.0.1.\(number)")] ?? 0
            #expect(abs(count - want) < want / 5, "\(number): \(count)")
        }
    }

    @Test(arguments: algorithms)
    func `the last that is well gets everything, and without any who asks is told so`(algorithm: String) throws {
        let host = try host(draw(drawing(algorithm, count: 40)))
        host.state.ill.withLock { $0 = Set((11...50).map(identity)).subtracting([identity(37)]) }
        for number in 0..<50 {
            #expect(ask(host, from: "203.0.113.99", UInt16(2000 + number)).key.ipDestination == address("10.0.1.37"))
        }
        host.state.ill.withLock { _ = $0.insert(identity(37)) }
        let none = ask(host, from: "203.0.113.99", 3000)
        #expect(none.verdict.drop == .noMember && none.place == nil)
        #expect(!none.verdict.isCacheable)
    }

    @Test func `what checks found of a pool that is checked no more counts for nothing`() throws {
        let host = try host(draw(drawing("round-robin", count: 1).replacing(", monitor: ping", with: "")))
        host.state.ill.withLock { $0 = [identity(11)] }
        #expect(ask(host, from: "203.0.113.99", 2000).key.ipDestination == address("10.0.1.11"))
    }

    @Test(arguments: ["source-hash", "maglev"])
    func `only connections of an ill member move where hashes choose`(algorithm: String) throws {
        let host = try host(draw(drawing(algorithm)))
        let clients = (1...200).map { "198.51.100.\($0)" }
        func places() -> [IPAddress] {
            clients.map { client in
                // Nothing is kept: each is asked as if it had never come.
                let packet = host.packet(
                    IPProtocol.tcp, "t/out/client", client, 2000, "203.0.113.10", 80, via: "t/gw/out", flags: 2)
                return host.carry(packet, at: "t/out/client", learns: false).key.ipDestination
            }
        }
        let all = places()
        host.state.ill.withLock { $0 = [identity(12)] }
        for (was, now) in zip(all, places()) where was != address("10.0.1.12") { #expect(was == now) }
    }

    @Test func `a client that comes back does so to a member that is well`() throws {
        let host = try host(draw(drawing("round-robin", ", persistence: 60")))
        let first = ask(host, from: "203.0.113.99", 2000).key.ipDestination
        #expect(ask(host, from: "203.0.113.99", 2001).key.ipDestination == first)
        host.state.ill.withLock { $0 = [identity(Int(first.v4?.bits ?? 0) & 0xff)] }
        let other = ask(host, from: "203.0.113.99", 2002).key.ipDestination
        #expect(other != first)
        // It stays there when the first is well again.
        host.state.ill.withLock { $0 = [] }
        #expect(ask(host, from: "203.0.113.99", 2003).key.ipDestination == other)
    }

    @Test func `ports of a connection that was reset are chosen for anew, those of one that goes on are not`() throws {
        let host = try host(draw(drawing("round-robin")))
        let first = ask(host, from: "203.0.113.99", 2000)
        let member = first.key.ipDestination
        host.state.ill.withLock { $0 = [identity(Int(member.v4?.bits ?? 0) & 0xff)] }
        // Segments of the connection, and its SYN sent again, go where it is.
        #expect(ask(host, from: "203.0.113.99", 2000, flags: 0x10).key.ipDestination == member)
        #expect(ask(host, from: "203.0.113.99", 2000, flags: 2).key.ipDestination == member)
        _ = host.carry(
            host.packet(
                IPProtocol.tcp, "t/a/one", "\(member)", 8080, "203.0.113.99", 2000, via: "t/gw/a", flags: 0x14),
            at: "t/a/one")
        #expect(ask(host, from: "203.0.113.99", 2000, flags: 0x10).key.ipDestination == member)
        #expect(ask(host, from: "203.0.113.99", 2000, flags: 2).key.ipDestination != member)
    }

    @Test func `a client's ports that come to the same member again stay what they are`() throws {
        let host = try host(draw(drawing("round-robin", count: 1)))
        for _ in 0..<3 {
            #expect(ask(host, from: "203.0.113.99", 2000).talk == "203.0.113.99:2000 > 10.0.1.11:8080")
            _ = ask(host, from: "203.0.113.99", 2000, flags: 0x11)
            // Somebody who asks the member itself by these ports meanwhile is told apart.
            let direct = host.carry(
                host.packet(
                    IPProtocol.tcp, "t/out/client", "203.0.113.99", 2000, "10.0.1.11", 8080, via: "t/gw/out"),
                at: "t/out/client")
            #expect(direct.key.sourcePort != 2000)
        }
    }

    @Test func `members are checked from the router's own address, whatever filters its clients meet`() throws {
        var topology = try draw(drawing("round-robin"))
        let router = try #require(DevicePath("t/gw"))
        let changes = topology.monitorChanges(present: ["h1"])
        #expect(changes.count == 1)
        for (path, port) in changes { topology.ports[path] = port }
        var chain = Chain(path: DevicePath(tenant: "t", name: "closed"))
        chain.rules = [Rule(id: "1", action: .drop)]
        topology.chains[chain.path] = chain
        topology.routers[router]?.filters.inbound = "closed"
        topology.routers[router]?.filters.outbound = "closed"
        let host = try host(topology)
        let out = host.carry(
            host.packet(
                IPProtocol.tcp, "t/gw/selvage-monitor", "192.0.0.2", 40_000, "10.0.1.11", 8080,
                via: "t/gw/selvage-monitor"), at: "t/gw/selvage-monitor")
        #expect(out.key.ipDestination == address("10.0.1.11") && out.key.ipSource == address("10.0.1.1"))
        let monitor = Simulation.Tag.port(try #require(PortPath("t/gw/selvage-monitor")))
        host.state.set(.at(Port.monitorMAC(router)), address("192.0.0.2"), port: monitor)
        let back = host.carry(
            host.packet(
                IPProtocol.tcp, "t/a/one", "10.0.1.11", 8080, "10.0.1.1", out.key.sourcePort, via: "t/gw/a",
                flags: 0x12), at: "t/a/one")
        #expect(back.place == "t/gw/selvage-monitor" && back.talk == "10.0.1.11:8080 > 192.0.0.2:40000")
        // Clients meet the filter.
        #expect(ask(host, from: "203.0.113.99", 2000).place == nil)
    }

    // MARK: - Who checks

    @Test func `a router with members to check has a port for that on a host that is there, and only then`() throws {
        var topology = try draw(drawing("round-robin"))
        for name in ["h2", "h3"] { topology.hosts[name] = .init(name: name) }
        func change(_ present: Set<String>) -> Int {
            let changes = topology.monitorChanges(present: present)
            for (path, port) in changes { topology.ports[path] = port }
            return changes.count
        }
        let path = try #require(PortPath("t/gw/selvage-monitor"))
        var place: String? {
            if case .exterior(let host, _)? = topology.ports[path]?.attachment { host } else { nil }
        }
        #expect(change([]) == 0 && place == nil)
        #expect(change(["h1", "h2", "h3", "stranger"]) == 1)
        let first = try #require(place)
        // It stays while its host is there.
        #expect(change(["h1", "h2", "h3"]) == 0 && change([first]) == 0)
        #expect(change(Set(["h1", "h2", "h3"]).subtracting([first])) == 1 && place != first)
        #expect(change([]) == 0 && place != nil)
        let pool = try #require(DevicePath("t/web"))
        topology.pools[pool]?.monitor = nil
        #expect(change(["h1"]) == 1 && topology.ports[path] == nil)
    }

    @Test func `what would keep a router from its port for checks is told when it is drawn`() throws {
        let routers = drawing("round-robin")
        func mistakes(_ old: String, _ new: String) -> [String] {
            do {
                _ = try draw(routers.replacing(old, with: new))
                return []
            } catch { return ["\(error)"] }
        }
        #expect(mistakes("10.0.1.1/24", "192.0.0.1/24").joined().contains("overlaps 192.0.0.0/30"))
        var topology = try draw(routers)
        for (path, port) in topology.monitorChanges(present: ["h1"]) { topology.ports[path] = port }
        let gateway = try #require(DevicePath("t/gw"))
        let ways: [NextHop] = [
            .port(PortPath(device: gateway, name: Port.monitorName)), .gateway(address("192.0.0.2"), port: nil),
            .gateway(address("192.0.0.2"), port: PortPath(device: gateway, name: Port.monitorName)),
        ]
        for way in ways {
            var other = topology
            other.routers[gateway]?.routes.append(
                Route(destination: Prefix(address("198.51.100.0"), length: 24), nextHop: way))
            #expect(other.problems().contains { $0.reason.contains("checks members") })
        }
        #expect(topology.problems().isEmpty)
    }
}
