// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// IPv6 addresses for machines, given on the host where they ask (RFC 8415).
extension Simulator {
    /// Who asks, and where.
    private struct ClientV6 {
        var message: DHCPv6Message
        var program: DHCPv6Program
        var index: Int32
        var port: PortRecord
        /// Tells it from others.
        var identity: UInt64
    }

    /// What one association gets.
    private enum Grant {
        case given(IPAddress, UInt32)
        case refused(DHCPv6Message.Status)
    }

    /// Answers a machine that asks by DHCPv6, before anything filters but what it may say of itself. True when that was the end of
    /// the frame.
    mutating func answerDHCPv6(
        _ program: DHCPv6Program, _ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        verdict.mask.include(.etherDestination)
        guard key.etherDestination == .multicast(for: DHCPv6Message.servers) else { return false }
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.udp else { return false }
        verdict.mask.include(.ipFragment)
        guard key.ipFragment == FragmentKind.none else { return false }
        verdict.mask.include(.destinationPort)
        guard key.destinationPort == DHCPv6Message.serverPort else { return false }
        verdict.isCacheable = false
        let start = Int(layout.transport) + 8
        let end = min(packet.bytes.byteCount, Int(layout.network) + layout.networkLength)
        // Who has no address of the link yet has one of the link's own.
        guard layout.transport != 0, end > start, end - start <= 2048, let source = key.ipSource.v6,
            !source.isUnspecified, !source.isMulticast, !key.etherSource.isGroup, key.etherSource != .zero
        else {
            drop(.malformed, at: index)
            return true
        }
        let bytes = (start..<end).map { packet.bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        guard let message = DHCPv6Message(bytes) else {
            if isTracing { note("dhcp6", Int(index), "not a message of a client") }
            drop(.malformed, at: index)
            return true
        }
        var identity = mix(key.etherSource.bits | 1 << 49, 0x9e37_79b9_7f4a_7c15)
        if port.sends >= 0 {
            // One in security groups is its MAC, there: by other names it would get more addresses than one.
            identity = mix(identity ^ port.tag.bits, 0x8ebc_6af0_9c88_c6e3)
        } else if let name = message.options[DHCPv6Message.Option.client] {
            identity = 0x9e37_79b9_7f4a_7c15
            for byte in name { identity = mix(identity ^ UInt64(byte) &+ 1, 0xe703_7ed1_a0b4_28db) }
        }
        serve(ClientV6(message: message, program: program, index: index, port: port, identity: identity))
        return true
    }

    private mutating func serve(_ client: ClientV6) {
        typealias Option = DHCPv6Message.Option
        let message = client.message
        let server = message.options[Option.server]
        // Which messages name a server, and which do not (section 16).
        let isMeant: Bool
        switch message.kind {
        case .solicit, .confirm, .rebind: isMeant = server == nil
        case .request, .renew, .release, .decline: isMeant = server == client.program.identifier
        case .informationRequest: isMeant = server == nil || server == client.program.identifier
        case .advertise, .reply, .reconfigure: return drop(.malformed, at: client.index)
        }
        if message.kind != .informationRequest, message.options[Option.client]?.isEmpty ?? true {
            return drop(.malformed, at: client.index)
        }
        guard isMeant else {
            if isTracing { note("dhcp6", Int(client.index), "\(message.kind) for another server") }
            return
        }
        switch message.kind {
        case .solicit:
            // Two messages are enough where the client says so.
            let isRapid = message.options[Option.rapidCommit] != nil
            let grants = grants(client)
            if isRapid { commit(grants, client) }
            reply(isRapid ? .reply : .advertise, grants, client, isRapid: isRapid)
        case .request, .renew, .rebind:
            let grants = grants(client)
            commit(grants, client)
            reply(.reply, grants, client)
        case .confirm:
            let addresses = message.associations.flatMap(\.addresses).map { IPAddress($0.address) }
            if addresses.isEmpty { return drop(.malformed, at: client.index) }
            let isHere = addresses.allSatisfy { one in
                client.program.networks.contains { $0.subnet.subnet.contains(one) }
            }
            reply(.reply, status: isHere ? .success : .notOnLink, client)
        case .release, .decline:
            for (place, one) in message.associations.enumerated() {
                for (address, _) in one.addresses.map({ (IPAddress($0.address), $0.seconds) }) {
                    guard let network = client.program.networks.first(where: { $0.subnet.subnet.contains(address) }),
                        case let lease = leaseClient(network, one, place, client), hasLease(address, lease)
                    else { continue }
                    if message.kind == .release { giveBack(address, lease) } else { decline(address, lease) }
                }
            }
            reply(.reply, status: .success, client)
        case .informationRequest: reply(.reply, [], client)
        case .advertise, .reply, .reconfigure: break
        }
    }

    // MARK: - Addresses

    private func leaseClient(
        _ network: DHCPv6Program.Network, _ one: DHCPv6Message.Association, _ place: Int, _ client: ClientV6
    ) -> LeaseClient {
        var identity = client.identity
        if client.port.sends < 0 { identity = mix(identity ^ UInt64(one.id), 0xd6e8_feb8_6659_fd93) }
        // What is a machine's own it has once.
        var own: IPAddress?
        if place == 0 {
            own = network.hosts[key.etherSource]?.address
            if own == nil, client.port.mac == key.etherSource {
                own = (0..<Int(client.port.addressCount))
                    .map { fabric.addresses[Int(client.port.addressStart) + $0].address }
                    .first { network.subnet.subnet.contains($0) }
            }
        }
        return LeaseClient(
            identity: identity | 1, port: client.port, pool: network.pool, own: own, seconds: network.subnet.lease)
    }

    /// What all associations get: after one that gets nothing the ranges are not looked through again.
    private func grants(_ client: ClientV6) -> [Grant] {
        var isOver = false
        return client.message.associations.enumerated().map { place, one in
            if isOver { return .refused(.noAddresses) }
            let found = grant(one, place, client)
            if case .refused = found { isOver = true }
            return found
        }
    }

    private func grant(_ one: DHCPv6Message.Association, _ place: Int, _ client: ClientV6) -> Grant {
        let networks = client.program.networks.filter { !$0.subnet.isStateless }
        let asked = one.addresses.map { IPAddress($0.address) }
        // In security groups a port is one machine with one address.
        if client.port.sends >= 0, place > 0 { return .refused(.noAddresses) }
        // The network where the topology gives it one, or where it has one, or else the first that gives any.
        let leases = networks.map { leaseClient($0, one, place, client) }
        if let lease = leases.first(where: { $0.own != nil }), let own = lease.own { return .given(own, lease.seconds) }
        for lease in leases {
            if let held = held(lease) { return .given(held, lease.seconds) }
        }
        for lease in leases {
            if client.message.kind != .solicit, let known = asked.first(where: { mayHave($0, lease) }) {
                return .given(known, lease.seconds)
            }
        }
        for lease in leases {
            if let found = find(lease, asked: asked.first, client.program.share) { return .given(found, lease.seconds) }
        }
        return .refused(.noAddresses)
    }

    private mutating func commit(_ grants: [Grant], _ client: ClientV6) {
        for (place, grant) in grants.enumerated() {
            guard case .given(let address, _) = grant,
                let network = client.program.networks.first(where: { $0.subnet.subnet.contains(address) })
            else { continue }
            take(address, leaseClient(network, client.message.associations[place], place, client))
        }
    }

    // MARK: - Answers

    private mutating func reply(
        _ kind: DHCPv6Message.Kind, _ grants: [Grant], _ client: ClientV6, isRapid: Bool = false
    ) {
        typealias Option = DHCPv6Message.Option
        var answer = DHCPv6Message(kind, transaction: client.message.transaction)
        let networks = client.program.networks
        var network = networks.first
        var words: [String] = []
        for (one, grant) in zip(client.message.associations, grants) {
            var association = DHCPv6Message.Association(id: one.id)
            switch grant {
            case .given(let address, let seconds):
                if let own = address.v6 { association.addresses.append((own, seconds)) }
                network = networks.first { $0.subnet.subnet.contains(address) } ?? network
                words.append("\(address)")
                // What it had and has no more it is told to give up (section 18.3.4).
                if client.message.kind == .renew || client.message.kind == .rebind || client.message.kind == .request {
                    for (old, _) in one.addresses where IPAddress(old) != address {
                        association.addresses.append((old, 0))
                    }
                }
            case .refused(let status):
                association.status = status
                words.append("no address")
            }
            answer.associations.append(association)
        }
        answer.delegations = client.message.delegations
        if let network { answer.options = network.options }
        if isRapid { answer.options[Option.rapidCommit] = [] }
        if client.message.kind == .informationRequest {
            var refresh: [UInt8] = []
            refresh.append(network: DHCPv6Program.refresh)
            answer.options[Option.refresh] = refresh
        }
        send(answer, network, words.joined(separator: ", "), client)
    }

    private mutating func reply(_ kind: DHCPv6Message.Kind, status: DHCPv6Message.Status, _ client: ClientV6) {
        var answer = DHCPv6Message(kind, transaction: client.message.transaction)
        answer.options[DHCPv6Message.Option.status] = DHCPv6Message.status(status)
        send(answer, client.program.networks.first, "\(status)", client)
    }

    private mutating func send(
        _ message: DHCPv6Message, _ network: DHCPv6Program.Network?, _ words: String, _ client: ClientV6
    ) {
        typealias Option = DHCPv6Message.Option
        guard let network else { return }
        var answer = message
        answer.options[Option.server] = client.program.identifier
        answer.options[Option.client] = client.message.options[Option.client]
        let source = IPv6Address.linkLocal(for: network.serverMAC)
        if isTracing {
            note(
                "dhcp6", Int(client.index),
                "\(client.message.kind) of \(key.etherSource): \(message.kind)\(words.isEmpty ? "" : " ")\(words), from \(source)"
            )
        }
        self.answer(
            Frame.udp(
                etherSource: network.serverMAC, etherDestination: key.etherSource, source: IPAddress(source),
                destination: key.ipSource, sourcePort: DHCPv6Message.serverPort,
                destinationPort: DHCPv6Message.clientPort, data: answer.encoded()),
            from: client.index, isService: true)
    }
}
