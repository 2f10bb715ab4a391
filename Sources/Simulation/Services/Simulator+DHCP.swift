// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Addresses for machines, given on the host where they ask (RFC 2131). A lease is a row that all hosts have, so that whichever
/// is asked next knows it.
extension Simulator {
    /// Who asks, and where.
    private struct Client {
        var message: DHCPMessage
        var lease: LeaseClient
        var network: DHCPProgram.Network
        /// The name that it is told to have.
        var name: String?
    }

    /// Answers a machine that asks for an address, before anything filters but what it may say of itself. True when that was
    /// the end of the frame.
    mutating func answerDHCP(
        _ program: DHCPProgram, _ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard isForServer(program) else { return false }
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.udp else { return false }
        verdict.mask.include(.ipFragment)
        guard key.ipFragment == FragmentKind.none else { return false }
        verdict.mask.include(.destinationPort)
        guard key.destinationPort == DHCPMessage.serverPort else { return false }
        verdict.isCacheable = false
        let start = Int(layout.transport) + 8
        let end = min(packet.bytes.byteCount, Int(layout.network) + layout.networkLength)
        guard layout.transport != 0, end > start, end - start <= 2048 else {
            drop(.malformed, at: index)
            return true
        }
        let bytes = (start..<end).map { packet.bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        guard let message = DHCPMessage(bytes), message.isRequest else {
            if isTracing { note("dhcp", Int(index), "not a message of a client") }
            drop(.malformed, at: index)
            return true
        }
        // Nobody asks, gives back or declines in another's name; a relay speaks for others, and a machine in security groups is none.
        let isOwn = message.mac == key.etherSource && !message.mac.isGroup && message.mac != .zero
        // Who is behind a relay asks to go on by itself: its packets come by a router.
        let isBeyond =
            message.relay.bits != 0 || message.clientAddress.bits != 0 && key.ipDestination.high >> 32 != 0xffff_ffff
        guard isOwn || isBeyond && port.sends < 0 else {
            drop(.spoofedMAC, at: index)
            return true
        }
        serve(message, program, index, port)
        return true
    }

    /// Whether a packet is one to everybody, or to a server's address.
    private mutating func isForServer(_ program: DHCPProgram) -> Bool {
        verdict.mask.include(.etherDestination)
        if key.etherDestination == .broadcast {
            verdict.mask.includeDestination(prefix: 32)
            return key.ipDestination.high >> 32 == 0xffff_ffff
        }
        for network in program.networks where network.serverMAC == key.etherDestination {
            let bits = key.ipDestination.commonPrefix(IPAddress(network.server)) + 1
            verdict.mask.includeDestination(prefix: rounded(min(32, bits), 32))
            if bits > 32 { return true }
        }
        return false
    }

    private mutating func serve(
        _ message: DHCPMessage, _ program: DHCPProgram, _ index: Int32, _ port: PortRecord
    ) {
        guard let client = client(message, program, port) else {
            if isTracing {
                note("dhcp", Int(index), "\(message.kind) of \(message.mac): no network gives it an address")
            }
            return drop(.noLease, at: index)
        }
        func address(_ option: UInt8) -> IPv4Address? {
            guard let bytes = message.options[option], bytes.count == 4 else { return nil }
            return IPv4Address(bits: bytes.reduce(0) { $0 << 8 | UInt32($1) })
        }
        let asked = address(DHCPMessage.Option.requestedAddress)
        switch message.kind {
        case .discover:
            guard let found = find(client.lease, asked: asked.map { IPAddress($0) }, program.share)?.v4 else {
                if isTracing {
                    note(
                        "dhcp", Int(index), "\(message.mac) asks: no address of \(client.network.subnet.subnet) is left"
                    )
                }
                return drop(.noLease, at: index)
            }
            reply(.offer, to: client, found, index)
        case .request:
            if let server = address(DHCPMessage.Option.server),
                !program.networks.contains(where: { $0.server == server })
            {
                if isTracing { note("dhcp", Int(index), "\(message.mac) takes what \(server) offers") }
                return
            }
            let isRenewal = message.clientAddress.bits != 0
            guard let wanted = isRenewal ? message.clientAddress : asked else { return drop(.malformed, at: index) }
            guard mayHave(IPAddress(wanted), client.lease) else { return reply(.nak, to: client, wanted, index) }
            take(IPAddress(wanted), client.lease)
            reply(.ack, to: client, wanted, index)
        case .inform:
            reply(.ack, to: client, message.clientAddress, index)
        case .decline:
            guard let asked, hasLease(IPAddress(asked), client.lease) else { return }
            if isTracing {
                note("dhcp", Int(index), "\(message.mac) found \(asked) in use: nobody is given it for a while")
            }
            decline(IPAddress(asked), client.lease)
        case .release:
            guard hasLease(IPAddress(message.clientAddress), client.lease) else { return }
            if isTracing { note("dhcp", Int(index), "\(message.mac) gives \(message.clientAddress) back") }
            giveBack(IPAddress(message.clientAddress), client.lease)
        case .offer, .ack, .nak: drop(.malformed, at: index)
        }
    }

    // MARK: - Addresses

    /// Who asks: a machine that has an address of its own in a network, or else one that gets one there.
    private func client(_ message: DHCPMessage, _ program: DHCPProgram, _ port: PortRecord) -> Client? {
        var identity = mix(message.mac.bits | 1 << 48, 0x9e37_79b9_7f4a_7c15)
        // One in security groups is its MAC: by other names it would get more addresses than one.
        for byte in port.sends < 0 ? message.options[DHCPMessage.Option.client] ?? [] : [] {
            identity = mix(identity ^ UInt64(byte), 0xe703_7ed1_a0b4_28db)
        }
        // Nor is it anybody else who says its MAC elsewhere.
        if port.sends >= 0 { identity = mix(identity ^ port.tag.bits, 0x8ebc_6af0_9c88_c6e3) }
        func make(_ network: DHCPProgram.Network, own: IPAddress? = nil, name: String? = nil) -> Client {
            let lease = LeaseClient(
                identity: identity | 1, port: port, pool: network.pool, own: own, seconds: network.subnet.lease)
            return Client(message: message, lease: lease, network: network, name: name)
        }
        let isRelayed = message.relay.bits != 0
        let near = program.networks.filter { !isRelayed || $0.subnet.subnet.contains(IPAddress(message.relay)) }
        for network in near {
            if let host = network.hosts[message.mac] { return make(network, own: host.address, name: host.name) }
            guard port.mac == message.mac, !isRelayed else { continue }
            for offset in 0..<Int(port.addressCount) {
                let address = fabric.addresses[Int(port.addressStart) + offset].address
                if network.subnet.subnet.contains(address) {
                    return make(network, own: address, name: name(of: port))
                }
            }
        }
        // One that has an address already is asked for in its network.
        let had = message.clientAddress.bits != 0 ? message.clientAddress : nil
        let home = had.flatMap { had in near.first { $0.subnet.subnet.contains(IPAddress(had)) } }
        return (home ?? near.first { $0.pool.count > 0 } ?? near.first).map { make($0) }
    }

    func name(of port: PortRecord) -> String? {
        fabric.port(port.tag).map { fabric.path($0).name }
    }

    // MARK: - Answers

    private mutating func reply(_ kind: DHCPMessage.Kind, to client: Client, _ address: IPv4Address, _ index: Int32) {
        typealias Option = DHCPMessage.Option
        let (asked, network) = (client.message, client.network)
        // A relay is answered by the address that it asked, which may be another network's.
        let isToAll = key.ipDestination.high >> 32 == 0xffff_ffff
        let server = isToAll ? network.server : key.ipDestination.v4 ?? network.server
        if isTracing {
            note("dhcp", Int(index), "\(asked.kind) of \(asked.mac): \(kind) \(address), from \(server)")
        }
        var answer = DHCPMessage(kind, isRequest: false, transaction: asked.transaction, mac: asked.mac)
        answer.isBroadcast = asked.isBroadcast || kind == .nak && asked.relay.bits != 0
        answer.relay = asked.relay
        if kind != .nak {
            answer.options = network.options
            answer.clientAddress = asked.clientAddress
            if let boot = network.subnet.bootServer?.v4 { answer.bootServer = boot }
            if let name = client.name, asked.kind != .inform { answer.options[Option.hostName] = Array(name.utf8) }
            if asked.kind != .inform {
                answer.yourAddress = address
                let lease = network.subnet.lease
                for (option, time) in [
                    (Option.lease, lease), (Option.renewal, lease / 2), (Option.rebinding, lease / 8 * 7),
                ] {
                    answer.options[option] = DHCPProgram.bytes(time)
                }
            }
        }
        answer.options[Option.server] = DHCPProgram.bytes(server)
        // RFC 6842.
        answer.options[Option.client] = asked.options[Option.client]
        // What a relay said it is told again (RFC 3046 section 2.2).
        answer.options[Option.relay] = asked.options[Option.relay]
        var largest = 576
        if let most = asked.options[Option.largest], most.count == 2 { largest = Int(most[0]) << 8 | Int(most[1]) }
        let data = answer.encoded(network.order, largest: min(largest, 1400))
        var (mac, destination) = (MACAddress.broadcast, IPv4Address(bits: 0xffff_ffff))
        var port = DHCPMessage.clientPort
        if asked.relay.bits != 0 {
            (mac, destination, port) = (key.etherSource, asked.relay, DHCPMessage.serverPort)
        } else if kind != .nak, asked.clientAddress.bits != 0 {
            (mac, destination) = (key.etherSource, asked.clientAddress)
        } else if kind != .nak, !asked.isBroadcast {
            (mac, destination) = (asked.mac, address)
        }
        self.answer(
            Frame.udp(
                etherSource: network.serverMAC, etherDestination: mac, source: IPAddress(server),
                destination: IPAddress(destination), sourcePort: DHCPMessage.serverPort, destinationPort: port,
                data: data),
            from: index, isService: true)
    }
}
