// SPDX-License-Identifier: Apache-2.0
import Wire

/// Names that a bridge's machines may ask for, at the address of its router in each of their networks, or at one
/// that is said: `PORT.BRIDGE.DOMAIN` of all bridges of the tenant, and `PORT.DOMAIN`.
public struct NameService: Sendable, Hashable {
    /// What the tenant's names end with.
    public var domain: String
    /// Servers that are asked for all other names, from the host where the machine is.
    public var resolvers: [IPAddress] = []
    /// Addresses to answer at, one in a network; where none is said, its router's.
    public var servers: [IPAddress] = []
    /// How long answers may be kept, seconds.
    public var lifetime: UInt32 = 30

    /// ``resolvers`` and ``servers``, at most.
    public static let entries = 4
    /// Bounds of ``lifetime``.
    public static let lifetimes: ClosedRange<UInt32> = 0...86_400

    /// The tenant's own names.
    public init(domain: String) { self.domain = domain }

    /// The domain of a tenant, unless said.
    public static func domain(of tenant: String) -> String { "\(tenant.lowercased()).internal" }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension NameService {
    /// What may be said of it.
    public static let fieldNames = ["domain", "forward", "server", "ttl"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = [("domain", [domain])]
        if !resolvers.isEmpty { list.append(("forward", resolvers.map(\.description))) }
        if !servers.isEmpty { list.append(("server", servers.map(\.description))) }
        if lifetime != 30 { list.append(("ttl", ["\(lifetime)"])) }
        return list
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])], tenant: String) throws(RuleMistake) {
        self.init(domain: NameService.domain(of: tenant))
        for (name, values) in fields {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "domain": domain = try field.one("acme.internal", DHCPSubnet.domain).lowercased()
            case "forward": resolvers = try field.all("9.9.9.9", { IPAddress($0) })
            case "server": servers = try field.all("10.0.1.2", { IPAddress($0) })
            case "ttl": lifetime = try field.one("seconds, up to a day") { UInt32($0) }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of names",
                    remedy: "use \(NameService.fieldNames.joined(separator: ", "))")
            }
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    /// - Parameter format: that of the bridge.
    mutating func names(_ service: NameService, format: UInt8) {
        text(service.domain)
        list(service.resolvers) { $0.address($1) }
        number(service.lifetime)
        if format > 5 { list(service.servers) { $0.address($1) } }
    }
}

extension ByteReader {
    mutating func names(format: UInt8) throws(MalformedBytes) -> NameService {
        var service = NameService(domain: try text())
        service.resolvers = try list { reader throws(MalformedBytes) in try reader.address() }
        service.lifetime = try number()
        if format > 5 {
            service.servers = try list { reader throws(MalformedBytes) in try reader.address() }
        }
        return service
    }
}

/// What can be wrong with it.
extension Topology {
    func check(_ service: NameService, of bridge: Bridge, _ found: inout [Problem]) {
        func problem(_ reason: String, _ remedy: String) {
            found.append(Problem("\(bridge.path) dns", reason, remedy: remedy))
        }
        if DHCPSubnet.domain(service.domain) == nil || service.domain.utf8.count > 128 {
            problem("domain \"\(service.domain)\" is none", "write one such as acme.internal, of up to 128 letters")
        }
        if service.resolvers.count > NameService.entries {
            problem("forwards to \(service.resolvers.count) servers, \(NameService.entries) at most", "name fewer")
        }
        if let other = service.resolvers.first(where: { !isHost($0) }) {
            problem("forwards to \(other)", "name the address of a server of names")
        }
        if !NameService.lifetimes.contains(service.lifetime) {
            problem("ttl is \(service.lifetime) s", "use up to \(NameService.lifetimes.upperBound)")
        }
        let networks = bridge.subnets + bridge.dhcp.map(\.subnet)
        if service.servers.count > NameService.entries {
            problem(
                "answers at \(service.servers.count) addresses, \(NameService.entries) at most", "name one in a network"
            )
        }
        for (place, server) in service.servers.enumerated() {
            guard isHost(server), let network = networks.first(where: { $0.contains(server) }),
                server != network.address
            else {
                problem("server \(server) is no address of the bridge's networks", "use one in them that nobody has")
                continue
            }
            if let other = service.servers[..<place].first(where: { network.contains($0) }) {
                problem("servers \(other) and \(server) are both in \(network)", "name one in a network")
            }
        }
        if bridge.subnets.isEmpty, bridge.dhcp.isEmpty {
            problem("has no network to answer in", "give the bridge a subnet")
        }
    }
}
