// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Virtual addresses of a router and the pools behind them.
@Suite struct BalancingTests {
    private let tcp = IPProtocol.tcp
    private let udp = IPProtocol.udp

    /// A router in front of three networks, with a pool as written and a virtual address of each family.
    private func drawing(_ pool: String) -> String {
        Drawings.threeNetworks.replacing(
            "    routers:\n",
            with: """
                    pools:
                      web: \(pool)
                    routers:
                      gw:
                        links:
                          - { bridge: a, address: [10.0.1.1/24, "fd00:1::1/64"] }
                          - { bridge: b, address: 10.0.2.1/24 }
                          - { bridge: out, address: [203.0.113.1/24, "2001:db8::1/64"] }
                        vips:
                          - { id: web, address: 203.0.113.10, port: [80, 8000-8009], pool: web }
                          - { id: names, address: 203.0.113.10, protocol: udp, port: 53, pool: web }
                          - { id: six, address: "2001:db8::10", port: 80, pool: web }

                """)
    }

    private func host(_ pool: String, _ state: TableState = TableState()) throws -> Host {
        let host = Host(topology: try draw(drawing(pool)), state: state)
        host.state.lease("t/gw", address("10.0.1.1"), [32, 33, 600])
        // Members that the drawing has no machine for are there all the same.
        for (name, port) in (1...99).map({ ("10.0.1.\($0)", "t/gw/a") }) + (1...99).map({ ("fd00:1::\($0)", "t/gw/a") })
        {
            guard let path = PortPath(port) else { continue }
            host.state.set(.at(host.mac("t/a/one")), address(name), port: .port(path))
        }
        return host
    }

    /// Pools of members 10.0.1.11 and so on.
    private func members(_ count: Int, _ algorithm: String, _ more: String = "", weights: [Int] = []) -> String {
        let list = (0..<count).map { index in
            let weight = index < weights.count ? ", weight: \(weights[index])" : ""
            return "{ address: 10.0.1.\(11 + index), port: 8080\(weight) }"
        }
        return "{ algorithm: \(algorithm)\(more), members: [\(list.joined(separator: ", "))] }"
    }

    private func ask(
        _ host: Host, from client: String = "203.0.113.99", _ port: UInt16, _ asked: UInt16 = 80,
        _ ip: UInt8 = IPProtocol.tcp, flags: UInt8 = 2
    ) -> Carried {
        host.carry(
            host.packet(ip, "t/out/client", client, port, "203.0.113.10", asked, via: "t/gw/out", flags: flags),
            at: "t/out/client")
    }

    // MARK: - One connection

    @Test func `a connection goes to a member, which sees its client and answers by the address that was asked`() throws
    {
        let host = try host("{ members: [{ address: 10.0.1.11, port: 8080 }] }")
        let out = ask(host, 5000)
        #expect(out.place == "t/a/one")
        #expect(out.talk == "203.0.113.99:5000 > 10.0.1.11:8080")
        #expect(checksumFaults(out.frame) == [])
        let back = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 8080, "203.0.113.99", 5000, via: "t/gw/a", flags: 0x12),
            at: "t/a/one")
        #expect(back.place == "t/out/client")
        #expect(back.talk == "203.0.113.10:80 > 203.0.113.99:5000")
        #expect(checksumFaults(back.frame) == [])
        // Who asks the member itself is not answered by another name.
        let direct = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5001, "10.0.1.11", 8080, via: "t/gw/out"),
            at: "t/out/client")
        #expect(direct.talk == "203.0.113.99:5001 > 10.0.1.11:8080")
        let answer = host.carry(
            host.packet(tcp, "t/a/one", "10.0.1.11", 8080, "203.0.113.99", 5001, via: "t/gw/a", flags: 0x12),
            at: "t/a/one")
        #expect(answer.talk == "10.0.1.11:8080 > 203.0.113.99:5001")
        let said = out.verdict.trace.map(\.text).joined(separator: "\n")
        #expect(said.contains("203.0.113.10:80 is 10.0.1.11:8080, pool web, by turns"), "\(said)")
    }

    @Test func `who asks a member itself, by the port that its connection to the virtual address has, is told apart`()
        throws
    {
        let host = try host("{ members: [{ address: 10.0.1.11, port: 8080 }] }")
        func direct(_ port: UInt16) -> Carried {
            host.carry(
                host.packet(tcp, "t/out/client", "203.0.113.99", port, "10.0.1.11", 8080, via: "t/gw/out"),
                at: "t/out/client")
        }
        func back(_ port: UInt16) -> Carried {
            host.carry(
                host.packet(tcp, "t/a/one", "10.0.1.11", 8080, "203.0.113.99", port, via: "t/gw/a", flags: 0x12),
                at: "t/a/one")
        }
        // One way round, and the other.
        #expect(ask(host, 5000).talk == "203.0.113.99:5000 > 10.0.1.11:8080")
        let second = direct(5000)
        #expect(second.key.ipSource == address("203.0.113.99") && second.key.sourcePort != 5000)
        #expect(direct(5001).talk == "203.0.113.99:5001 > 10.0.1.11:8080")
        let third = ask(host, 5001)
        #expect(third.key.ipDestination == address("10.0.1.11") && third.key.sourcePort != 5001)
        #expect(back(5000).talk == "203.0.113.10:80 > 203.0.113.99:5000")
        #expect(back(second.key.sourcePort).talk == "10.0.1.11:8080 > 203.0.113.99:5000")
        #expect(back(5001).talk == "10.0.1.11:8080 > 203.0.113.99:5001")
        #expect(back(third.key.sourcePort).talk == "203.0.113.10:80 > 203.0.113.99:5001")
        // Its other ports are nobody's matter: flows stay wide.
        let other = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5002, "10.0.1.11", 22, via: "t/gw/out"), at: "t/out/client"
        )
        #expect(other.verdict.isCacheable && !other.verdict.beginsConnection)
        #expect(!other.verdict.mask.includes(.sourcePort))
    }

    @Test func `ports that are asked stay where a member has none, ranges and datagrams as well`() throws {
        let host = try host("{ members: [10.0.1.11] }")
        #expect(ask(host, 5000, 8003).talk == "203.0.113.99:5000 > 10.0.1.11:8003")
        #expect(ask(host, 5001, 53, udp).talk == "203.0.113.99:5001 > 10.0.1.11:53")
    }

    @Test func `IPv6 goes to members of its family`() throws {
        let host = try host("{ members: [10.0.1.11, \"fd00:1::12\"] }")
        for port in UInt16(5000)..<5008 {
            let out = host.carry(
                host.packet(tcp, "t/out/client", "2001:db8::99", port, "2001:db8::10", 80, via: "t/gw/out"),
                at: "t/out/client")
            #expect(out.talk == "[2001:db8::99]:\(port) > [fd00:1::12]:80")
        }
        let back = host.carry(
            host.packet(tcp, "t/a/two", "fd00:1::12", 80, "2001:db8::99", 5000, via: "t/gw/a", flags: 0x12),
            at: "t/a/two")
        #expect(back.verdict.trace.contains { $0.text.contains("return of") }, "\(back.talk)")
    }

    @Test func `what is asked by no virtual address the router answers itself`() throws {
        let host = try host("{ members: [10.0.1.11] }")
        let ping = host.carry(host.ping("t/out/client", to: "203.0.113.10", via: "t/gw/out"), at: "t/out/client")
        #expect(host.answers(ping.verdict).first?.talk == "203.0.113.10 > 203.0.113.99")
        let other = ask(host, 5000, 22)
        #expect(host.answers(other.verdict).first?.talk == "203.0.113.10:22 > 203.0.113.99:5000")
        #expect(host.answers(other.verdict).first?.key.tcpFlags == 0x14)
    }

    @Test(arguments: [
        "[]", "[{ address: 10.0.1.11, state: down }]", "[{ address: 10.0.1.11, weight: 0 }]", "[\"fd00:1::12\"]",
    ])
    func `without a member that takes connections TCP is reset and datagrams are unreachable`(members: String) throws {
        let host = try host("{ members: \(members) }")
        let refused = ask(host, 5000)
        #expect(refused.drop == .noMember && !refused.verdict.isCacheable)
        let reset = try #require(host.answers(refused.verdict).first)
        #expect(reset.talk == "203.0.113.10:80 > 203.0.113.99:5000" && reset.key.tcpFlags == 0x14)
        let datagram = ask(host, 5000, 53, udp)
        #expect(datagram.drop == .noMember)
        let error = try #require(host.answers(datagram.verdict).first)
        #expect(error.key.sourcePort == 3 && error.key.destinationPort == 3, "port unreachable")
        #expect(checksumFaults(error.frame) == [])
    }

    // MARK: - Which member

    /// How many of so many connections each member got.
    private func shares(_ host: Host, _ count: Int, clients: Int = 1) -> [IPAddress: Int] {
        var shares: [IPAddress: Int] = [:]
        for number in 0..<count {
            let client = IPAddress(IPv4Address(bits: 0xc633_6400 | UInt32(1 + number % clients)))
            let out = ask(host, from: "\(client)", UInt16(1024 + number / clients))
            shares[out.key.ipDestination, default: 0] += 1
        }
        return shares
    }

    @Test(arguments: ["round-robin", "least-connections"])
    func `members get new connections by their weights`(algorithm: String) throws {
        let weights = [5, 1, 3, 1]
        let host = try host(members(4, algorithm, weights: weights))
        let count = 2000
        let shares = shares(host, count)
        for (index, weight) in weights.enumerated() {
            let wanted = Double(count * weight) / 10
            let got = Double(shares[address("10.0.1.\(11 + index)")] ?? 0)
            #expect(abs(got - wanted) <= 0.05 * wanted, "\(shares)")
        }
    }

    @Test(arguments: ["source-hash", "maglev"])
    func `members get hashed connections by their weights, more or less`(algorithm: String) throws {
        let weights = [5, 1, 3, 1]
        let host = try host(members(4, algorithm, weights: weights))
        let shares = shares(host, 5000, clients: 100)
        for (index, weight) in weights.enumerated() where algorithm == "maglev" {
            let wanted = Double(5000 * weight) / 10
            let got = Double(shares[address("10.0.1.\(11 + index)")] ?? 0)
            #expect(abs(got - wanted) <= 0.2 * wanted, "\(shares)")
        }
        #expect(shares.count == 4)
    }

    @Test func `turns are spread: a heavy member's do not come in a row`() throws {
        let host = try host(members(3, "round-robin", weights: [4, 2, 2]))
        let order = (0..<16).map { ask(host, UInt16(2000 + $0)).key.ipDestination }
        let heavy = address("10.0.1.11")
        for start in 0...12 { #expect(order[start..<start + 4].count { $0 == heavy } == 2, "\(order)") }
    }

    @Test func `the member with the fewest connections gets the next, whoever came and went`() throws {
        let state = TableState()
        let two = try host(members(2, "least-connections"), state)
        for port in UInt16(2000)..<2010 { _ = ask(two, port) }
        // A third member has none: it gets all until it has as many.
        let three = try host(members(3, "least-connections"), state)
        let next = (0..<5).map { ask(three, UInt16(3000 + $0)).key.ipDestination }
        #expect(next == Array(repeating: address("10.0.1.13"), count: 5))
    }

    @Test func `of many members the least used of some that are drawn is taken, and none starves`() throws {
        let host = try host(members(80, "least-connections"))
        let shares = shares(host, 1600)
        #expect(shares.count == 80)
        #expect((shares.values.max() ?? 0) <= 30 && (shares.values.min() ?? 0) >= 10, "\(shares.values.sorted())")
    }

    @Test func `source hash keeps a client at its member; when one of ten goes only its clients move`() throws {
        let ten = try host(members(10, "source-hash"))
        let nine = try host(members(9, "source-hash"))
        let gone = address("10.0.1.20")
        var moved = 0
        for number in 0..<500 {
            let client = "198.51.\(number / 250).\(1 + number % 250)"
            let first = ask(ten, from: client, 5000).key.ipDestination
            #expect(ask(ten, from: client, 5001, 8001).key.ipDestination == first)
            let after = ask(nine, from: client, 5000).key.ipDestination
            if first != gone, after != first { moved += 1 }
        }
        #expect(moved <= 15, "\(moved) of 500 moved that need not")
    }

    @Test func `Maglev moves at most its share of connections when one of ten goes`() throws {
        let ten = try host(members(10, "maglev"))
        let nine = try host(members(9, "maglev"))
        var moved = 0
        for port in UInt16(2000)..<4000 where ask(ten, port).key.ipDestination != ask(nine, port).key.ipDestination {
            moved += 1
        }
        // A tenth was the member's that is gone.
        #expect(moved >= 140 && moved <= 260, "\(moved) of 2000")
        // Every host chooses alike, and the order in which members are written is nobody's matter.
        let other = try host(
            "{ algorithm: maglev, members: [\((0..<10).reversed().map { "{ address: 10.0.1.\(11 + $0), port: 8080 }" }.joined(separator: ", "))] }"
        )
        for port in UInt16(5000)..<5200 {
            #expect(ask(ten, port).key.ipDestination == ask(other, port).key.ipDestination)
        }
    }

    @Test func `a client comes back to its member, also to one that drains, and not to one that is down`() throws {
        let state = TableState()
        let all = try host(members(3, "round-robin", ", persistence: 60"), state)
        let first = ask(all, 2000).key.ipDestination
        for port in UInt16(2001)..<2010 { #expect(ask(all, port).key.ipDestination == first) }
        let others = Set((0..<6).map { ask(all, from: "198.51.100.\($0 + 1)", 2000).key.ipDestination })
        #expect(others.count == 3, "each client is chosen for")
        func pool(_ word: String) -> String {
            members(3, "round-robin", ", persistence: 60").replacing(
                "\(first), port: 8080", with: "\(first), port: 8080, state: \(word)")
        }
        let draining = try host(pool("drain"), state)
        #expect(ask(draining, 2010).key.ipDestination == first)
        for number in 0..<6 {
            #expect(ask(draining, from: "198.51.100.\(number + 50)", 2000).key.ipDestination != first)
        }
        let down = try host(pool("down"), state)
        #expect(ask(down, 2011).key.ipDestination != first)
    }

    @Test func `connections stay where they are when members drain, go down, or weigh nothing`() throws {
        let state = TableState()
        let before = try host(members(2, "round-robin"), state)
        var places: [UInt16: IPAddress] = [:]
        for port in UInt16(2000)..<2010 { places[port] = ask(before, port).key.ipDestination }
        for word in ["state: drain", "state: down", "weight: 0"] {
            let after = try host(
                "{ members: [{ address: 10.0.1.11, port: 8080, \(word) }, { address: 10.0.1.12, port: 8080 }] }", state)
            for (port, place) in places {
                #expect(ask(after, port, flags: 0x10).key.ipDestination == place, "\(word)")
            }
            #expect(ask(after, 9000).key.ipDestination == address("10.0.1.12"))
        }
    }

    // MARK: - Flows

    @Test func `a virtual address makes no other flow narrow`() throws {
        let host = try host("{ members: [10.0.1.11] }")
        let past = host.carry(
            host.packet(tcp, "t/out/client", "203.0.113.99", 5000, "10.0.2.21", 80, via: "t/gw/out"), at: "t/out/client"
        )
        #expect(past.place != nil && past.verdict.isCacheable)
        #expect(!past.verdict.mask.includes(.sourcePort) && !past.verdict.mask.includes(.destinationPort))
    }

    @Test func `which members take connections no flow depends on; where members are, their router's do`() throws {
        let old = try draw(drawing(members(2, "round-robin")))
        func tags(_ pool: String) throws -> Set<Simulation.Tag> {
            let new = try draw(drawing(pool))
            return TopologyDifference(from: old, to: new).tags(from: old, to: new)
        }
        #expect(try tags(members(2, "round-robin", weights: [3, 0])).isEmpty)
        #expect(try tags(members(2, "maglev")).isEmpty)
        let router = Simulation.Tag.router(DevicePath(tenant: "t", name: "gw"))
        #expect(try tags(members(3, "round-robin")) == [router])
        #expect(try tags(members(1, "round-robin")) == [router])
    }

    @Test func `a pool that changes is chosen from as it is by a fabric that is patched`() throws {
        let old = try draw(drawing(members(2, "round-robin")))
        var fabric = Fabric(old, localHost: "h1")
        var before = old
        let state = TableState()
        for pool in [members(1, "round-robin"), members(3, "maglev"), "{ members: [] }", members(2, "source-hash")] {
            let new = try draw(drawing(pool))
            fabric = Fabric(new, after: fabric, TopologyDifference(from: before, to: new))
            before = new
            let patched = Host(fabric, state)
            let fresh = Host(topology: new, state: state)
            for number in 1...20 {
                for host in [patched, fresh] {
                    host.state.set(
                        .at(host.mac("t/a/one")), address("10.0.1.\(10 + number)"),
                        port: .port(try #require(PortPath("t/gw/a"))))
                }
                let frame = fresh.packet(
                    tcp, "t/out/client", "198.51.100.\(number)", 5000, "203.0.113.10", 80, via: "t/gw/out")
                #expect(
                    patched.send(frame, at: "t/out/client").trace.map(\.text)
                        == fresh.send(frame, at: "t/out/client").trace.map(\.text))
            }
        }
    }
}
