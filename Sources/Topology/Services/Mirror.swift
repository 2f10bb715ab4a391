// SPDX-License-Identifier: Apache-2.0
import Wire

/// Copies of what passes ports and devices of a tenant, for somebody who looks at it: an analyzer at a port, or one outside of
/// the cluster.
public struct Mirror: Sendable, Equatable {
    /// Which way what passes a port goes, as the device sees it.
    public enum Direction: String, Sendable, CaseIterable {
        /// What comes into the device by the port, before anything filters it.
        case `in`
        /// What leaves the device by the port, behind all filters.
        case out
        /// Both.
        case both
    }

    /// Where copies go.
    public enum Target: Sendable, Hashable {
        /// A port of a bridge, whatever filters it.
        case port(PortPath)
        /// A host outside, by GRE with a key (RFC 2784, 2890).
        case gre(IPv4Address, key: UInt32)
        /// A host outside, by ERSPAN type II with a session of 10 bits.
        case erspan(IPv4Address, session: UInt16)

        /// The port; `nil` of a host outside.
        public var port: PortPath? { if case .port(let path) = self { path } else { nil } }
    }

    /// Its name; mirrors have a set of names of their own in a tenant.
    public var path: DevicePath
    /// Whether it copies.
    public var isEnabled = true
    /// Ports as `device/port`, and devices, of which all that comes into them is meant. One that is gone is nothing.
    public var sources: Set<String> = []
    /// Which way, of ports.
    public var direction = Direction.both
    /// Which packets: those that one of these holds for; of none, all.
    public var conditions: [Condition] = []
    /// Where copies go.
    public var target: Target
    /// Bytes of each frame that are copied; `nil`: all.
    public var length: UInt16?
    /// What all copies of one host are together, at most; `nil`: as much as there is.
    public var limit: RateLimit?

    /// ``sources``, at most.
    public static let mostSources = 256
    /// ``conditions``, at most.
    public static let mostConditions = 64
    /// Bounds of ``length``: headers of any packet, and the largest frame there is.
    public static let lengths: ClosedRange<UInt16> = 64...9216
    /// Mirrors of one tenant, at most.
    public static let perTenant = 64

    /// A mirror that copies nothing yet.
    public init(path: DevicePath, target: Target) {
        self.path = path
        self.target = target
    }

    /// The port that a source names; `nil` of a device.
    public func port(of source: String) -> PortPath? {
        source.contains("/") ? PortPath("\(path.tenant)/\(source)") : nil
    }
    /// The device that a source names, or whose port it does.
    public func device(of source: String) -> DevicePath {
        DevicePath(tenant: path.tenant, name: String(source.prefix { $0 != "/" }))
    }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension Mirror {
    /// What may be said of it besides `match`.
    public static let fieldNames = ["enabled", "from", "direction", "to", "length", "limit"]

    /// What is said but conditions, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = []
        if !isEnabled { list.append(("enabled", ["false"])) }
        list.append(("from", sources.sorted()))
        list.append(("direction", [direction.rawValue]))
        list.append(("to", ["\(target)"]))
        if let length { list.append(("length", ["\(length)"])) }
        if let limit { list.append(("limit", [limit.text])) }
        return list
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])], path: DevicePath) throws(RuleMistake) {
        guard let to = fields.first(where: { $0.name == "to" }) else {
            throw RuleMistake(field: "to", reason: "is missing", remedy: "write to: \(Target.forms)")
        }
        let target = try FieldValues(name: "to", values: to.values).one(Target.forms) {
            Target($0, tenant: path.tenant)
        }
        self.init(path: path, target: target)
        for (name, values) in fields where name != "to" {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "enabled": isEnabled = try field.one("true or false") { ["true": true, "false": false][$0] }
            case "from":
                sources = Set(
                    try field.all("a device, or device/port, of the same tenant") { text in
                        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
                        return parts.count <= 2 && parts.allSatisfy { isValidName(String($0)) } ? text : nil
                    })
            case "direction": direction = try field.one("in, out or both", Direction.init(rawValue:))
            case "length": length = try field.one("bytes, such as 128") { UInt16($0) }
            case "limit": limit = try field.one("bits a second, such as 100M", RateLimit.init(text:))
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of mirrors",
                    remedy: "use \((Mirror.fieldNames + ["match"]).joined(separator: ", "))")
            }
        }
    }
}

extension Mirror.Target: CustomStringConvertible {
    static let forms = "bridge/port, gre ADDRESS key NUMBER, or erspan ADDRESS session NUMBER"

    /// `acme/sec/ids`, `gre 203.0.113.9 key 7`, `erspan 203.0.113.9 session 7`.
    public var description: String {
        switch self {
        case .port(let path): path.description
        case .gre(let address, let key): "gre \(address) key \(key)"
        case .erspan(let address, let session): "erspan \(address) session \(session)"
        }
    }

    /// Reads what ``description`` writes; a port without its tenant is one of `tenant`.
    init?(_ text: String, tenant: String) {
        let words = text.split(separator: " ")
        if words.count == 1 {
            guard let path = PortPath(text) ?? PortPath("\(tenant)/\(text)") else { return nil }
            self = .port(path)
            return
        }
        guard words.count == 4, let address = IPv4Address(String(words[1])) else { return nil }
        switch (words[0], words[2]) {
        case ("gre", "key"):
            guard let key = UInt32(words[3]) else { return nil }
            self = .gre(address, key: key)
        case ("erspan", "session"):
            guard let session = UInt16(words[3]), session < 1024 else { return nil }
            self = .erspan(address, session: session)
        default: return nil
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func mirror(_ mirror: Mirror) {
        path(mirror.path)
        flag(mirror.isEnabled)
        list(mirror.sources.sorted()) { $0.text($1) }
        number(UInt8(Mirror.Direction.allCases.firstIndex(of: mirror.direction) ?? 0))
        list(mirror.conditions) { $0.condition($1) }
        switch mirror.target {
        case .port(let path):
            number(UInt8(0))
            self.path(path)
        case .gre(let address, let key):
            number(UInt8(1))
            number(address.bits)
            number(key)
        case .erspan(let address, let session):
            number(UInt8(2))
            number(address.bits)
            number(session)
        }
        number(mirror.length ?? 0)
        number(mirror.limit?.kilobits ?? 0)
    }
}

extension ByteReader {
    mutating func mirror() throws(MalformedBytes) -> Mirror {
        let name = try devicePath()
        let isEnabled = try flag()
        let sources = try list { reader throws(MalformedBytes) in try reader.text() }
        let direction: UInt8 = try number()
        guard Int(direction) < Mirror.Direction.allCases.count else {
            throw MalformedBytes("a mirror of direction \(direction)")
        }
        let conditions = try list { reader throws(MalformedBytes) in try reader.condition() }
        let kind: UInt8 = try number()
        let target: Mirror.Target
        switch kind {
        case 0: target = .port(try portPath())
        case 1: target = .gre(IPv4Address(bits: try number()), key: try number())
        case 2: target = .erspan(IPv4Address(bits: try number()), session: try number())
        default: throw MalformedBytes("a mirror to a target of kind \(kind), which a later version knows")
        }
        var mirror = Mirror(path: name, target: target)
        mirror.isEnabled = isEnabled
        mirror.sources = Set(sources)
        mirror.direction = Mirror.Direction.allCases[Int(direction)]
        mirror.conditions = conditions
        let length: UInt16 = try number()
        mirror.length = length == 0 ? nil : length
        let kilobits: UInt32 = try number()
        mirror.limit = kilobits == 0 ? nil : RateLimit(kilobits: kilobits)
        return mirror
    }
}

/// What can be wrong with it.
extension Topology {
    func check(_ mirror: Mirror, _ found: inout [Problem]) {
        let name = "mirror \(mirror.path)"
        func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
        if mirror.sources.isEmpty { problem("copies nothing", "say from: [bridge/port]") }
        if mirror.sources.count > Mirror.mostSources {
            problem(
                "has \(mirror.sources.count) sources, \(Mirror.mostSources) at most", "name devices, or make several")
        }
        if mirror.conditions.count > Mirror.mostConditions {
            problem(
                "has \(mirror.conditions.count) conditions, \(Mirror.mostConditions) at most", "make several mirrors")
        }
        if mirrors.values(of: mirror.path.tenant).count(where: { _ in true }) > Mirror.perTenant {
            problem("is one of more than \(Mirror.perTenant)", "take away those that nobody looks at")
        }
        for (place, condition) in mirror.conditions.enumerated() {
            check(condition, "\(name) match \(place + 1)", mirror.path.tenant, &found)
            if condition.readsState {
                found.append(
                    Problem(
                        "\(name) match \(place + 1)", "asks for connections, which filters know",
                        remedy: "leave out state and direction"))
            }
        }
        if let length = mirror.length, !Mirror.lengths.contains(length) {
            problem(
                "length is \(length)", "use \(Mirror.lengths.lowerBound) to \(Mirror.lengths.upperBound) bytes")
        }
        if let limit = mirror.limit, !RateLimit.rates.contains(limit.kilobits) {
            problem("limit is \(limit.text)", "use 64k to 400G")
        }
        switch mirror.target {
        case .port(let path):
            guard let port = ports[path] else {
                problem("goes to port \(path), which does not exist", "draw it, or name another")
                break
            }
            if port.kind == .router || port.isMonitor {
                problem("goes to port \(path) of a router", "name a port of a bridge")
            } else if case .peer = port.attachment {
                problem("goes to port \(path), which is a link", "name a port that a machine is at")
            }
        case .gre(let address, _), .erspan(let address, _):
            if address.isMulticast || address.bits >> 24 == 127 || address.bits >> 24 == 0 || address.bits == .max {
                problem("goes to \(address), which is no host", "name the host that looks at it")
            }
            // Its kernel could not tell what comes back from a tunnel of ours.
            let near = hosts.values.filter { host in
                host.tunnelAddresses.contains { zones[$0.key]?.encapsulation == .gre && $0.value == IPAddress(address) }
            }.map(\.name).sorted().first
            if case .gre = mirror.target, let near {
                problem("goes by gre to \(address), host \(near), which has tunnels by GRE", "use erspan")
            }
        }
    }

    /// Sources of a mirror that are not there.
    public func missingSources(of mirror: Mirror) -> [String] {
        mirror.sources.sorted().filter { source in
            if let port = mirror.port(of: source) { return ports[port] == nil }
            let device = mirror.device(of: source)
            return bridges[device] == nil && routers[device] == nil
        }
    }

    /// Of a mirror that is new or changed, names that stand for nothing are mistakes.
    func checkSources(of mirror: Mirror, _ found: inout [Problem]) {
        for source in missingSources(of: mirror) {
            found.append(
                Problem(
                    "mirror \(mirror.path)", "copies from \(source), which does not exist",
                    remedy: "name a device or device/port of tenant \(mirror.path.tenant)"))
        }
    }
}
