// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Names of a tenant's ports, answered on the host where a machine asks, and all others by those that it is to ask.
extension Simulator {
    /// Labels of a name below the domain, at most: names of ports may have dots.
    private static let deepest = 8
    /// Bridges of a tenant that are looked through for a name that says none, and for an address.
    private static let mostBridges = 256
    /// Addresses of one name, at most.
    private static let addressesOfName = 16

    /// Answers a machine that asks for a name, before anything filters but what it may say of itself. True when that was the
    /// end of the frame.
    mutating func answerName(
        _ program: NameProgram, _ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard let server = askedServer(program, port.device) else { return false }
        verdict.mask.include(.ipProtocol)
        guard key.ipProtocol == IPProtocol.udp else { return false }
        verdict.mask.include(.ipFragment)
        guard key.ipFragment == FragmentKind.none else { return false }
        verdict.mask.include(.destinationPort)
        guard key.destinationPort == DNSQuery.port else { return false }
        verdict.isCacheable = false
        let start = Int(layout.transport) + 8
        let end = min(packet.bytes.byteCount, Int(layout.network) + layout.networkLength)
        guard layout.transport != 0, end > start, end - start <= 2048, !key.etherSource.isGroup,
            key.sourcePort != DNSQuery.port
        else {
            drop(.malformed, at: index)
            return true
        }
        let bytes = (start..<end).map { packet.bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
        guard let query = DNSQuery(bytes) else {
            if isTracing { note("dns", Int(index), "not a question") }
            drop(.malformed, at: index)
            return true
        }
        let question = NameQuestion(
            query: query, resolvers: program.service.resolvers, tenant: port.tenant, port: port.tag,
            macs: (server.mac, key.etherSource), addresses: (server.address, key.ipSource), clientPort: key.sourcePort)
        let (answer, words) = reply(to: query, program, port.device)
        if isTracing { note("dns", Int(index), "\(DNSQuery.name(of: query.type)) \(query.name): \(words)") }
        if let answer {
            self.answer(question.frame(answer), from: index, isService: true)
        } else {
            verdict.question = question
            if verdict.drop == nil { verdict.drop = .consumed }
        }
        return true
    }

    /// The server that a packet is for.
    private mutating func askedServer(_ program: NameProgram, _ device: Int32) -> NameProgram.Server? {
        verdict.mask.include(.etherDestination)
        let isV4 = key.etherType == EtherType.ipv4
        for server in program.servers where server.mac == key.etherDestination {
            guard (server.address.family == .ipv4) == isV4 else { continue }
            let width = isV4 ? 32 : 128
            let bits = min(width, key.ipDestination.commonPrefix(server.address) + 1)
            verdict.mask.includeDestination(prefix: rounded(bits, width))
            guard key.ipDestination == server.address else { continue }
            // A machine that is said to have the address is who is asked.
            return server.isOwn && fabric.neighbor(bridge: device, vlan: 0, address: server.address) != nil
                ? nil : server
        }
        return nil
    }

    /// An answer, or none where others are to be asked; and what that is in words.
    private func reply(to query: DNSQuery, _ program: NameProgram, _ device: Int32) -> (answer: [UInt8]?, words: String)
    {
        typealias RecordType = DNSQuery.RecordType
        guard query.operation == 0 else { return (query.answer(code: .notImplemented), "no question") }
        guard query.recordClass == 1 else { return (query.answer(code: .refused), "not of the Internet") }
        let (name, domain) = (query.name, program.service.domain)
        let start = DNSQuery.Record(zone: domain, seconds: min(5, program.service.lifetime))
        let none = query.answer(authority: [start], code: .noName)
        if let address = query.reverseAddress {
            if let found = self.name(of: address, device) {
                let record = DNSQuery.Record(
                    RecordType.ptr, "\(found).\(domain)", seconds: program.service.lifetime)
                let isAsked = query.type == RecordType.ptr || query.type == RecordType.any
                return (query.answer(isAsked ? [record] : [], authority: isAsked ? [] : [start]), "\(found).\(domain)")
            }
            // Nobody beyond knows names of addresses that are private here (RFC 6303).
            if address.isPrivate || program.service.resolvers.isEmpty { return (none, "no such name") }
        } else if name == domain || name.hasSuffix(".\(domain)") {
            if name == domain {
                let records: [DNSQuery.Record] =
                    switch query.type {
                    case RecordType.soa, RecordType.any: [start]
                    case RecordType.ns: [DNSQuery.Record(RecordType.ns, domain, seconds: program.service.lifetime)]
                    default: []
                    }
                return (query.answer(records, authority: records.isEmpty ? [start] : []), "the domain itself")
            }
            guard let all = addresses(of: String(name.dropLast(domain.utf8.count + 1)), device) else {
                return (none, "no such name")
            }
            let wanted = all.filter { address in
                query.type == RecordType.any
                    || query.type == (address.family == .ipv4 ? RecordType.a : RecordType.aaaa)
            }
            let records = wanted.map { DNSQuery.Record($0, seconds: program.service.lifetime) }
            let words = wanted.map(\.description).joined(separator: ", ")
            return (
                query.answer(records, authority: records.isEmpty ? [start] : []),
                wanted.isEmpty ? "none of that type" : words
            )
        }
        if program.service.resolvers.isEmpty || !query.wantsRecursion {
            return (query.answer(code: .refused, isOwn: false), "no name of the tenant's, and nobody else is asked")
        }
        return (nil, "asked of \(program.service.resolvers[0])")
    }

    // MARK: - Names of ports

    /// Addresses of a name below the domain; `nil`: there is no such name.
    private func addresses(of name: String, _ device: Int32) -> [IPAddress]? {
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.count <= Self.deepest, !labels.contains("") else { return nil }
        let tenant = fabric.bridgePaths[Int(device)].tenant
        for count in 1..<max(1, labels.count) {
            let path = DevicePath(tenant: tenant, name: labels[count...].joined(separator: "."))
            guard let bridge = fabric.tables.indexOfBridge[path] ?? fabric.tables.names.bridge(path) else { continue }
            if let found = addresses(of: labels[..<count].joined(separator: "."), on: bridge) { return found }
        }
        // Without its bridge: of one's own, or of the only other one where there is such a port.
        if let own = addresses(of: name, on: device) { return own }
        var found: [IPAddress]?
        for index in otherBridges(of: tenant, than: device) {
            guard let other = addresses(of: name, on: index) else { continue }
            if found != nil { return nil }
            found = other
        }
        return found
    }

    private func otherBridges(of tenant: String, than device: Int32) -> some Sequence<Int32> {
        let all = fabric.tables.names.bridgesOfTenant[tenant] ?? []
        return all.lazy.prefix(Self.mostBridges).filter { $0 != device }
    }

    private func addresses(of name: String, on bridge: Int32) -> [IPAddress]? {
        let path = PortPath(device: fabric.bridgePaths[Int(bridge)], name: name)
        let named = fabric.tables.services[bridge]?.hosts[name] ?? []
        guard let index = fabric.tables.index(of: path) ?? fabric.tables.names.port(path) else {
            return named.isEmpty ? nil : named
        }
        var port = fabric.ports[Int(index)]
        // By the name of a router's link its address is meant.
        if port.attachment == .peer, fabric.ports[Int(port.peer)].isRouter { port = fabric.ports[Int(port.peer)] }
        var found = (0..<Int(port.addressCount)).map { fabric.addresses[Int(port.addressStart) + $0].address } + named
        for family in [AddressFamily.ipv4, .ipv6] where !found.contains(where: { $0.family == family }) {
            if let leased = state.leasedAddress(at: port.tag, family: family) { found.append(leased) }
        }
        return Array(found.prefix(Self.addressesOfName))
    }

    /// The name below the domain of whoever has an address.
    private func name(of address: IPAddress, _ device: Int32) -> String? {
        func name(_ path: PortPath) -> String { "\(path.name).\(path.device.name)" }
        let tenant = fabric.bridgePaths[Int(device)].tenant
        func found(on bridge: Int32) -> String? {
            if let found = fabric.neighbor(bridge: bridge, vlan: 0, address: address) {
                let isRouter = fabric.ports[Int(found.owner)].isRouter
                let path = fabric.portPaths[Int(isRouter ? found.port : found.owner)]
                if path.device.tenant == tenant { return name(path) }
            }
            let tag = fabric.bridges[Int(bridge)].tag
            if let port = state.port(leasing: address, bridge: tag).flatMap({ fabric.port($0) }) {
                return name(fabric.path(port))
            }
            let host = fabric.tables.services[bridge]?.nameOfHost[address]
            return host.map { "\($0).\(fabric.bridgePaths[Int(bridge)].name)" }
        }
        if let own = found(on: device) { return own }
        for other in otherBridges(of: tenant, than: device) {
            if let name = found(on: other) { return name }
        }
        return nil
    }
}

extension IPAddress {
    /// Whether it is of networks that the Internet has not (RFC 1918, 4193, 3927, 4291, 6598).
    fileprivate var isPrivate: Bool {
        let networks: [(IPAddress, Int)] = [
            (IPAddress(IPv4Address(bits: 0x0a00_0000)), 8), (IPAddress(IPv4Address(bits: 0xac10_0000)), 12),
            (IPAddress(IPv4Address(bits: 0xc0a8_0000)), 16), (IPAddress(IPv4Address(bits: 0xa9fe_0000)), 16),
            (IPAddress(IPv4Address(bits: 0x6440_0000)), 10),
            (IPAddress(high: 0xfc00 << 48, low: 0, family: .ipv6), 7),
            (IPAddress(high: 0xfe80 << 48, low: 0, family: .ipv6), 10),
        ]
        return networks.contains { Prefix($0.0, length: $0.1).contains(self) }
    }
}
