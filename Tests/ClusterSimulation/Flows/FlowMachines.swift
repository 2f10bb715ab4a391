// SPDX-License-Identifier: Apache-2.0
import FlowState
import Simulation
import Topology
import Wire

/// The machines of a ``FlowWorld``: clients behind a router that translates, and a server outside with a port on each of two
/// hosts, which sends its answers by the other one. Every packet says which connection it is meant for, so that one that comes
/// to another is seen.
struct FlowMachines {
    struct Connection {
        enum Phase { case opening, open, closing, over }
        var client: Int
        var port: UInt16
        var phase = Phase.opening
        /// How often the present packet was sent.
        var tries = 0
        /// When what was asked is to be answered since; `nil` when nothing is asked.
        var askedSince: UInt64?
        /// When it began to be open.
        var openedAt: UInt64 = 0
        /// Whether all who knew it died.
        var isExcused = false
    }

    static let server = IPAddress(IPv4Address(bits: 0xcb00_7150))
    static let outside = IPAddress(IPv4Address(bits: 0xcb00_7105))
    static let pool = TranslationPorts.Key(
        zone: .router(DevicePath(tenant: "t", name: "edge")), address: FlowMachines.outside)
    static let far = PortPath(device: DevicePath(tenant: "t", name: "internet"), name: "far")
    static let near = PortPath(device: DevicePath(tenant: "t", name: "internet"), name: "near")
    static let web = PortPath(device: DevicePath(tenant: "t", name: "edge"), name: "web")
    static let internet = PortPath(device: DevicePath(tenant: "t", name: "edge"), name: "internet")
    static let nearMAC = MACAddress(bits: 0x0e00_0000_0981)

    let count: Int
    /// Where the cable of each machine's port is, by the place of the host.
    var cables: [PortPath: Int] = [:]
    var connections: [Connection] = []
    /// Connections by what the server sees of them.
    var seen: [Seen: Int] = [:]
    struct Seen: Hashable {
        var address: IPAddress
        var port: UInt16
    }
    /// When the last packet of a connection was sent, by its client's port.
    var lastSent: [Seen: UInt64] = [:]
    /// Whether no new ones are opened and nothing is said any more.
    var isQuiet = false
    /// When all was well again; from then on everything must be answered.
    var wellSince: UInt64?
    var opened = 0
    var exchanges = 0

    init(count: Int, hosts: Int) {
        self.count = count
        for client in 0..<count { cables[FlowMachines.client(client)] = client % hosts }
        cables[FlowMachines.far] = 1 % hosts
        cables[FlowMachines.near] = 2 % hosts
    }

    static func client(_ number: Int) -> PortPath {
        PortPath(device: DevicePath(tenant: "t", name: "web"), name: "vm\(number)")
    }
    static func mac(_ client: Int) -> MACAddress { MACAddress(bits: 0x0e00_0000_0100 + UInt64(client)) }
    static func address(_ client: Int) -> IPAddress { IPAddress(IPv4Address(bits: 0x0a00_010a + UInt32(client))) }

    func drawing(hosts: Int) -> String {
        let clients = (0..<count).map { number in
            """
            vm\(number): { host: h\(number % hosts + 1), interface: v\(number), mac: "\(FlowMachines.mac(number))", \
            address: \(FlowMachines.address(number))/24 }
            """
        }
        return """
            hosts: { \((1...hosts).map { "h\($0): { address: 192.0.2.\($0) }" }.joined(separator: ", ")) }
            tunnel: gre
            tenants:
              t:
                chains:
                  known:
                    - { state: [established, related], action: accept }
                    - { source: 10.0.1.0/24, protocol: tcp, destinationPort: 80, action: accept }
                    - { action: drop }
                bridges:
                  web: { ports: { \(clients.joined(separator: ", ")) } }
                  internet:
                    ports:
                      far: { host: h\(1 % hosts + 1), interface: far, mac: "0e:00:00:00:09:80", address: 203.0.113.80/24 }
                      near: { host: h\(2 % hosts + 1), interface: near, mac: "\(FlowMachines.nearMAC)", address: 203.0.113.81/24 }
                routers:
                  edge:
                    inbound: known
                    links:
                      - { bridge: web, address: 10.0.1.1/24 }
                      - { bridge: internet, address: 203.0.113.1/24 }
                    nat: [{ source: 10.0.1.0/24, outPort: edge/internet, action: snat 203.0.113.5 }]
            """
    }

    mutating func isLastPhase(_ now: UInt64) { wellSince = now }

    /// The first connection that is not answered for longer than it may be.
    func unanswered(_ now: UInt64) -> Int? {
        for (number, connection) in connections.enumerated() {
            guard let since = connection.askedSince, !connection.isExcused, let well = wellSince,
                now - max(since, well) > 5_000_000_000
            else { continue }
            return number
        }
        return nil
    }
}

extension FlowWorld {
    private func send(_ connection: Int, flags: UInt8) {
        let one = machines.connections[connection]
        let frame = Frame.tcp(
            etherSource: FlowMachines.mac(one.client), etherDestination: mac(FlowMachines.web),
            source: FlowMachines.address(one.client), destination: FlowMachines.server, sourcePort: one.port,
            destinationPort: 80, sequence: UInt32(connection), acknowledgement: flags & 0x10 == 0 ? 0 : 1, flags: flags)
        machines.lastSent[.init(address: FlowMachines.address(one.client), port: one.port)] = now
        enter(frame, at: FlowMachines.client(one.client))
    }

    private func mac(_ port: PortPath) -> MACAddress { topology.ports[port]?.mac ?? .zero }

    /// A machine sends a frame.
    private func enter(_ frame: [UInt8], at path: PortPath) {
        guard let host = machines.cables[path], hosts[host].isBound(path) else { return }
        hosts[host].datapath.now = now
        hosts[host].datapath.process(frame, port: hosts[host].portNumber(path))
        settle(host)
    }

    func open() {
        guard !machines.isQuiet else { return }
        events.add(.open, at: now + delay(5000...300_000))
        if machines.connections.count(where: { $0.phase != .over }) >= 60 { return }
        let client = Int.random(in: 0..<machines.count, using: &random)
        // Few ports, so that they come again, and clients that use the same.
        var port = UInt16.random(in: 4096..<4160, using: &random)
        let used = Set(
            machines.connections.filter { $0.client == client && $0.phase != .over }.map(\.port))
        while used.contains(port) { port = 4096 + (port - 4095) % 512 }
        machines.connections.append(.init(client: client, port: port))
        talk(machines.connections.count - 1)
    }

    /// A client says what is its turn, or says it again.
    func talk(_ number: Int) {
        guard !machines.isQuiet else { return }
        var connection = machines.connections[number]
        defer { machines.connections[number] = connection }
        if connection.phase == .over { return }
        if connection.askedSince == nil {
            connection.askedSince = now
            connection.tries = 0
            if connection.phase == .open, Int.random(in: 0..<12, using: &random) == 0 { connection.phase = .closing }
        }
        connection.tries += 1
        // It gives up at last, as hosts do; while all is well that is none of its business.
        if connection.tries > 40, machines.wellSince == nil {
            connection.phase = .over
            connection.askedSince = nil
            return
        }
        let flags: UInt8 =
            switch connection.phase {
            case .opening: 0x02
            case .open: 0x18
            case .closing, .over: 0x11
            }
        machines.connections[number] = connection
        send(number, flags: flags)
        connection = machines.connections[number]
        let pause: UInt64 = connection.phase == .opening ? 1000 : 300
        events.add(.talk(number), at: now + pause * FlowWorld.millisecond)
    }

    /// What each host knows of a connection, and of what it is translated to, for who looks into a life.
    func tell(_ number: Int) {
        let one = machines.connections[number]
        let ports = machines.seen.filter { $0.value == number }.map(\.key.port)
        say("connection \(number): client \(one.client), port \(one.port), \(one.phase), seen as \(ports)")
        for host in hosts {
            let records = host.node?.table.translations(limit: 100) { record in
                record.original.source == FlowMachines.address(one.client) && record.original.sourcePort == one.port
                    || ports.contains(record.reply.destinationPort)
            }
            for record in records ?? [] {
                let idle = now > record.life.used ? (now - record.life.used) / FlowWorld.millisecond : 0
                say(
                    "    \(host.name): \(record.original) as \(record.reply.destinationPort), \(record.life.phase), idle \(idle) ms, began at \(record.stamp.origin)"
                )
            }
        }
    }

    /// A frame comes out of a host's port.
    func receive(_ frame: [UInt8], at path: PortPath, from host: Int) {
        guard machines.cables[path] == host else { return }
        var layout = PacketLayout()
        let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        guard key.ipProtocol == IPProtocol.tcp, layout.transport > 0 else { return }
        let start = Int(layout.transport) + 4
        let number = Int(frame[start..<start + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        guard machines.connections.indices.contains(number) else { return fail("a packet of no connection") }
        if path == FlowMachines.far { serve(number, key) } else { hear(number, key, at: path) }
    }

    private func serve(_ number: Int, _ key: FlowKey) {
        let seen = FlowMachines.Seen(address: key.ipSource, port: key.sourcePort)
        if let other = machines.seen[seen], other != number {
            let one = machines.connections[other]
            if one.phase == .open || one.phase == .closing, !one.isExcused {
                tell(other)
                tell(number)
                return fail("connections \(other) and \(number) come from \(seen.address):\(seen.port)")
            }
        }
        let flags = UInt8(truncatingIfNeeded: key.tcpFlags)
        if flags & 0x02 == 0, machines.seen[seen] != number {
            // What a server does not know it says so to: here, that it has changed on the way.
            let one = machines.connections[number]
            // A host that was cut off while the connection began takes it for one to pick up.
            if faults.isApart(machines.cables[FlowMachines.client(one.client)] ?? 0, now) {
                machines.connections[number].isExcused = true
                count("connections picked up by a host that was cut off")
            } else if one.phase == .open, !one.isExcused {
                tell(number)
                say(
                    "it comes from port \(seen.port), which is that of \(machines.seen[seen].map(String.init) ?? "none")"
                )
                fail("connection \(number) comes from another port than it did")
            }
            return
        }
        // One that is sent again from elsewhere, before it was answered, is that from now on.
        if flags & 0x02 != 0 {
            for (before, other) in machines.seen where other == number { machines.seen[before] = nil }
        }
        machines.seen[seen] = number
        let answer: UInt8 = flags & 0x02 != 0 ? 0x12 : flags & 0x01 != 0 ? 0x11 : 0x18
        let frame = Frame.tcp(
            etherSource: FlowMachines.nearMAC, etherDestination: mac(FlowMachines.internet),
            source: FlowMachines.server, destination: seen.address, sourcePort: 80, destinationPort: seen.port,
            sequence: UInt32(number), acknowledgement: 1, flags: answer)
        let one = machines.connections[number]
        machines.lastSent[.init(address: FlowMachines.address(one.client), port: one.port)] = now
        enter(frame, at: FlowMachines.near)
    }

    private func hear(_ number: Int, _ key: FlowKey, at path: PortPath) {
        var connection = machines.connections[number]
        guard path == FlowMachines.client(connection.client), key.destinationPort == connection.port else {
            say("cables \(machines.cables.map { "\($0.key.name) h\($0.value + 1)" }), the answer left \(path)")
            tell(number)
            for (other, one) in machines.connections.enumerated()
            where path == FlowMachines.client(one.client) && key.destinationPort == one.port { tell(other) }
            return fail(
                "the answer to connection \(number) of \(connection.client), port \(connection.port), came to \(path), port \(key.destinationPort)"
            )
        }
        let flags = UInt8(truncatingIfNeeded: key.tcpFlags)
        switch connection.phase {
        case .opening where flags & 0x12 == 0x12:
            connection.phase = .open
            connection.openedAt = now
            machines.opened += 1
        case .open where flags & 0x03 == 0: machines.exchanges += 1
        case .closing where flags & 0x01 != 0:
            connection.phase = .over
            for (seen, other) in machines.seen where other == number { machines.seen[seen] = nil }
        default: return
        }
        guard let since = connection.askedSince else { return }
        // While nothing is wrong nothing waits for longer than others take to answer.
        if !isHurt || machines.wellSince != nil, now - since > 40 * FlowWorld.millisecond,
            since >= machines.wellSince ?? 0
        {
            tell(number)
            fail(
                "connection \(number) waited \((now - since) / FlowWorld.millisecond) ms for an answer while all was well"
            )
        }
        connection.askedSince = nil
        machines.connections[number] = connection
        if connection.phase != .over { events.add(.talk(number), at: now + delay(50_000...2_000_000)) }
    }
}
