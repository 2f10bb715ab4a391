// SPDX-License-Identifier: Apache-2.0
import Wire

/// A machine that traffic of a port goes through on its way: a firewall or a detector of intrusions that is put in line. What
/// the port's machine sends goes out of the service's port ahead of the port's filters, what it gets goes there behind them; what
/// comes back goes on from where it was.
///
/// The services of a port are a chain: what the machine sends goes through them in their order, what it gets in the reverse.
public struct ServiceHop: Sendable, Hashable {
    /// The service's port on the machine's side: what the machine sends goes out of it, and what the machine gets comes back by
    /// it.
    public var near: PortPath
    /// Its port on the network's side, the other way round; the same port where it has one only.
    public var far: PortPath
    /// The VLAN that frames carry on their way to the service and back, 1 to 4094; 0: none.
    public var vlan: UInt16 = 0
    /// Which way: what the machine sends (`in`), what it gets (`out`), or both.
    public var direction = Mirror.Direction.both
    /// Which packets: those that one of these holds for; of none, all.
    public var conditions: [Condition] = []
    /// Whether packets go past the service while it is down; otherwise they are dropped.
    public var isOpen = false

    /// A service with one port.
    public init(_ port: PortPath) {
        near = port
        far = port
    }

    /// Of one port, at most.
    public static let mostPerPort = 4
    /// ``conditions``, at most.
    public static let mostConditions = 64
    /// Ports that share one service port and VLAN, at most.
    public static let mostSharing = 4096

    /// Whether both go to the same ports with the same tag: then what passed one of them passed both.
    public func isSameService(as other: ServiceHop) -> Bool {
        vlan == other.vlan && (near == other.near && far == other.far || near == other.far && far == other.near)
    }

    /// Whether it is asked about what the machine sends.
    public var takesSent: Bool { direction != .out }
    /// Whether it is asked about what the machine gets.
    public var takesGot: Bool { direction != .in }
    /// Its ports.
    public var ports: [PortPath] { near == far ? [near] : [near, far] }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension ServiceHop {
    /// What may be said of it besides `match`.
    public static let fieldNames = ["through", "vlan", "direction", "fail"]

    /// What is said but conditions, field by field.
    public var fields: [(name: String, values: [String])] {
        var list = [(name: "through", values: ports.map(\.description))]
        if vlan != 0 { list.append(("vlan", ["\(vlan)"])) }
        if direction != .both { list.append(("direction", [direction.rawValue])) }
        if isOpen { list.append(("fail", ["open"])) }
        return list
    }

    /// What it is, in words.
    public var text: String {
        fields.map { "\($0.name) \($0.values.joined(separator: " and "))" }.joined(separator: ", ")
            + conditions.map {
                " match \($0.fields.map { "\($0.name) \($0.values.joined(separator: ", "))" }.joined(separator: "; "))"
            }
            .joined(separator: " or")
    }

    /// Reads what ``fields`` writes; ports without a tenant are of `tenant`.
    public init(reading fields: [(name: String, values: [String])], tenant: String) throws(RuleMistake) {
        guard let through = fields.first(where: { $0.name == "through" }) else {
            throw RuleMistake(
                field: "through", reason: "is missing",
                remedy: "write through: bridge/port, or both ports of the service")
        }
        let ports = try FieldValues(name: "through", values: through.values).all("bridge/port, or two of them") {
            PortPath($0) ?? PortPath("\(tenant)/\($0)")
        }
        guard let first = ports.first, ports.count <= 2 else {
            throw RuleMistake(
                field: "through", reason: "names \(ports.count) ports",
                remedy: "name the service's port, or the one on the machine's side and the one on the network's")
        }
        self.init(first)
        far = ports.last ?? first
        for (name, values) in fields where name != "through" {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "vlan":
                vlan = try field.one("1 to 4094") { UInt16($0).flatMap { (1...4094).contains($0) ? $0 : nil } }
            case "direction": direction = try field.one("in, out or both", Mirror.Direction.init(rawValue:))
            case "fail": isOpen = try field.one("open or closed") { ["open": true, "closed": false][$0] }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of services",
                    remedy: "use \((ServiceHop.fieldNames + ["match"]).joined(separator: ", "))")
            }
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func services(_ services: [ServiceHop]) {
        list(services) { out, hop in
            out.path(hop.near)
            out.path(hop.far)
            out.number(hop.vlan)
            out.direction(hop.direction)
            out.list(hop.conditions) { $0.condition($1) }
            out.flag(hop.isOpen)
        }
    }
}

extension ByteReader {
    mutating func services() throws(MalformedBytes) -> [ServiceHop] {
        try list { reader throws(MalformedBytes) in
            var hop = ServiceHop(try reader.portPath())
            hop.far = try reader.portPath()
            hop.vlan = try reader.number()
            hop.direction = try reader.direction()
            hop.conditions = try reader.list { reader throws(MalformedBytes) in try reader.condition() }
            hop.isOpen = try reader.flag()
            return hop
        }
    }
}

/// What can be wrong with it.
extension Topology {
    func checkServices(of port: Port, _ found: inout [Problem]) {
        func problem(_ reason: String, _ remedy: String, _ place: Int? = nil) {
            let name = "\(port.path) services" + (place.map { " \($0 + 1)" } ?? "")
            found.append(Problem(name, reason, remedy: remedy))
        }
        if port.kind == .router || port.isMonitor {
            problem("are said of a router's port", "say them of ports of machines")
        }
        if case .peer = port.attachment { problem("are said of a link", "say them of the ports of machines") }
        if case .trunk = port.vlan {
            problem("are said of a trunk", "give each VLAN a port of its own, or have the trunk's machine do it")
        }
        if port.services.count > ServiceHop.mostPerPort {
            problem("are \(port.services.count), \(ServiceHop.mostPerPort) at most", "join what they do in fewer")
        }
        for (place, hop) in port.services.enumerated() {
            if port.services[..<place].contains(where: { $0.isSameService(as: hop) }) {
                problem(
                    "goes through the same ports as one before", "give it a vlan of its own, or make one of both", place
                )
            }
            if hop.vlan > 4094 { problem("has vlan \(hop.vlan)", "use 1 to 4094", place) }
            checkMatch(
                hop.conditions, of: "\(port.path) services \(place + 1)", port.path.device.tenant,
                most: ServiceHop.mostConditions, &found)
            for path in hop.ports {
                guard let service = ports[path] else {
                    problem("goes through \(path), which does not exist", "draw it, or name another", place)
                    continue
                }
                if mirrors.values.contains(where: { $0.target.port == path }) {
                    problem(
                        "goes through \(path), which a mirror sends copies to",
                        "give one of them another port: copies would come back as the port's traffic", place)
                }
                if path == port.path {
                    problem("goes through the port itself", "name the port of the service", place)
                } else if service.kind == .router || service.isMonitor {
                    problem("goes through \(path), a router's port", "name a port of a bridge", place)
                } else if case .peer = service.attachment {
                    problem("goes through \(path), which is a link", "name a port that a machine is at", place)
                } else if !service.services.isEmpty {
                    problem(
                        "goes through \(path), which goes through services itself",
                        "list all services here, in their order", place)
                }
                let uses = ports.sharing(path, hop.vlan)
                let tag = hop.vlan == 0 ? " without a vlan" : " with vlan \(hop.vlan)"
                let bridges = Set(uses.keys.map(\.bridge))
                if bridges.count > 1 {
                    let other = bridges.filter { $0 != port.path.device }.min()?.description ?? "another"
                    problem(
                        "goes through \(path)\(tag), as ports of bridge \(other) do",
                        "give each bridge a vlan of its own: what comes back is told apart by it", place)
                } else if Set(uses.keys.map(\.vlan)).count > 1 {
                    problem(
                        "goes through \(path)\(tag), as ports of another VLAN do",
                        "give each VLAN a vlan of its own there: what comes back is told apart by it", place)
                } else if uses.count > 1 {
                    problem(
                        "goes through \(path)\(tag), where others come back by another port",
                        "give it a vlan of its own, or the same two ports", place)
                }
                if uses.values.reduce(0, +) > ServiceHop.mostSharing {
                    problem(
                        "goes through \(path)\(tag) with more than \(ServiceHop.mostSharing) others",
                        "use more VLANs, or more services", place)
                }
            }
        }
    }
}
