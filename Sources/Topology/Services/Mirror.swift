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
        /// A host outside that is told of flows, not sent frames: by IPFIX (RFC 7011) over UDP.
        case ipfix(IPAddress, port: UInt16)

        /// Whether flows are told of, not frames sent.
        public var isRecord: Bool { if case .ipfix = self { true } else { false } }
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
    /// Of so many packets one is copied, by chance; `nil`: ``usualSample`` where flows are told of, else all.
    public var sample: UInt32?
    /// Seconds without a packet after which a flow is told of, and seconds after which one is that goes on.
    public var times = RecordTimes()

    /// When flows are told of, seconds.
    public struct RecordTimes: Sendable, Hashable {
        /// After the last packet.
        public var idle: UInt16 = 15
        /// After the first that was not told yet.
        public var active: UInt16 = 60

        /// The usual ones.
        public init() {}

        /// Bounds of both.
        public static let range: ClosedRange<UInt16> = 1...3600
    }

    /// Of so many packets one is looked at, unless said, where flows are told of.
    public static let usualSample: UInt32 = 100
    /// Bounds of ``sample``.
    public static let samples: ClosedRange<UInt32> = 1...1_000_000
    /// ``sample``, or what it is unless said.
    public var effectiveSample: UInt32 { sample ?? (target.isRecord ? Mirror.usualSample : 1) }

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
    public static let fieldNames = [
        "enabled", "from", "direction", "to", "length", "limit", "sample", "idle", "active",
    ]

    /// What is said but conditions, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = []
        if !isEnabled { list.append(("enabled", ["false"])) }
        list.append(("from", sources.sorted()))
        list.append(("direction", [direction.rawValue]))
        list.append(("to", ["\(target)"]))
        if let length { list.append(("length", ["\(length)"])) }
        if let limit { list.append(("limit", [limit.text])) }
        if let sample { list.append(("sample", ["\(sample)"])) }
        let usual = RecordTimes()
        if times.idle != usual.idle { list.append(("idle", ["\(times.idle)"])) }
        if times.active != usual.active { list.append(("active", ["\(times.active)"])) }
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
            case "sample": sample = try field.one("a number: of so many packets one", { UInt32($0) })
            case "idle": times.idle = try field.one("seconds", { UInt16($0) })
            case "active": times.active = try field.one("seconds", { UInt16($0) })
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of mirrors",
                    remedy: "use \((Mirror.fieldNames + ["match"]).joined(separator: ", "))")
            }
        }
    }
}

extension Mirror.Target: CustomStringConvertible {
    static let forms =
        "bridge/port, gre ADDRESS key NUMBER, erspan ADDRESS session NUMBER, or ipfix ADDRESS port NUMBER"

    /// `acme/sec/ids`, `gre 203.0.113.9 key 7`, `erspan 203.0.113.9 session 7`.
    public var description: String {
        switch self {
        case .port(let path): path.description
        case .gre(let address, let key): "gre \(address) key \(key)"
        case .erspan(let address, let session): "erspan \(address) session \(session)"
        case .ipfix(let address, let port): "ipfix \(address) port \(port)"
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
        if words.count == 4, words[0] == "ipfix", words[2] == "port" {
            guard let address = IPAddress(String(words[1])), let port = UInt16(words[3]) else { return nil }
            self = .ipfix(address, port: port)
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
    mutating func direction(_ direction: Mirror.Direction) {
        number(UInt8(Mirror.Direction.allCases.firstIndex(of: direction) ?? 0))
    }

    mutating func mirror(_ mirror: Mirror, format: UInt8) {
        path(mirror.path)
        flag(mirror.isEnabled)
        list(mirror.sources.sorted()) { $0.text($1) }
        direction(mirror.direction)
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
        case .ipfix(let address, let port):
            number(UInt8(3))
            self.address(address)
            number(port)
        }
        number(mirror.length ?? 0)
        number(mirror.limit?.kilobits ?? 0)
        if format > 1 {
            number(mirror.sample ?? 0)
            number(mirror.times.idle)
            number(mirror.times.active)
        }
    }
}

extension ByteReader {
    mutating func direction() throws(MalformedBytes) -> Mirror.Direction {
        let number: UInt8 = try number()
        guard Int(number) < Mirror.Direction.allCases.count else { throw MalformedBytes("direction \(number)") }
        return Mirror.Direction.allCases[Int(number)]
    }

    mutating func mirror(format: UInt8) throws(MalformedBytes) -> Mirror {
        let name = try devicePath()
        let isEnabled = try flag()
        let sources = try list { reader throws(MalformedBytes) in try reader.text() }
        let direction = try direction()
        let conditions = try list { reader throws(MalformedBytes) in try reader.condition() }
        let kind: UInt8 = try number()
        let target: Mirror.Target
        switch kind {
        case 0: target = .port(try portPath())
        case 1: target = .gre(IPv4Address(bits: try number()), key: try number())
        case 2: target = .erspan(IPv4Address(bits: try number()), session: try number())
        case 3 where format > 1: target = .ipfix(try address(), port: try number())
        default: throw MalformedBytes("a mirror to a target of kind \(kind), which a later version knows")
        }
        var mirror = Mirror(path: name, target: target)
        mirror.isEnabled = isEnabled
        mirror.sources = Set(sources)
        mirror.direction = direction
        mirror.conditions = conditions
        let length: UInt16 = try number()
        mirror.length = length == 0 ? nil : length
        let kilobits: UInt32 = try number()
        mirror.limit = kilobits == 0 ? nil : RateLimit(kilobits: kilobits)
        if format > 1 {
            let sample: UInt32 = try number()
            mirror.sample = sample == 0 ? nil : sample
            mirror.times.idle = try number()
            mirror.times.active = try number()
        }
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
        if mirrors.values(of: mirror.path.tenant).count(where: { _ in true }) > Mirror.perTenant {
            problem("is one of more than \(Mirror.perTenant)", "take away those that nobody looks at")
        }
        checkMatch(mirror.conditions, of: name, mirror.path.tenant, most: Mirror.mostConditions, &found)
        if let length = mirror.length, !Mirror.lengths.contains(length) {
            problem(
                "length is \(length)", "use \(Mirror.lengths.lowerBound) to \(Mirror.lengths.upperBound) bytes")
        }
        if let limit = mirror.limit, !RateLimit.rates.contains(limit.kilobits) {
            problem("limit is \(limit.text)", "use 64k to 400G")
        }
        if let sample = mirror.sample, !Mirror.samples.contains(sample) {
            problem("sample is \(sample)", "use 1 to \(Mirror.samples.upperBound): of so many packets one")
        }
        for (name, seconds) in [("idle", mirror.times.idle), ("active", mirror.times.active)]
        where !Mirror.RecordTimes.range.contains(seconds) {
            problem("\(name) is \(seconds)", "use 1 to \(Mirror.RecordTimes.range.upperBound) seconds")
        }
        if mirror.target.isRecord {
            if mirror.length != nil { problem("has a length, but sends no frames", "leave out length") }
        } else if mirror.times != Mirror.RecordTimes() {
            problem("has idle or active, but tells of no flows", "leave them out, or say to: ipfix ADDRESS port NUMBER")
        }
        switch mirror.target {
        case .ipfix(let address, let port):
            let isAll = address == IPAddress(IPv4Address(bits: .max)) || address.high | address.low == 0
            let isHost = !address.isMulticast && !isAll
            if !isHost || port == 0 {
                problem(
                    "tells \(address) port \(port), which is nobody", "name the collector and its port, such as 4739")
            }
        case .port(let path):
            guard let port = ports[path] else {
                problem("goes to port \(path), which does not exist", "draw it, or name another")
                break
            }
            if port.kind == .router || port.isMonitor {
                problem("goes to port \(path) of a router", "name a port of a bridge")
            } else if case .peer = port.attachment {
                problem("goes to port \(path), which is a link", "name a port that a machine is at")
            } else if port.segment != nil {
                problem(
                    "goes to port \(path), which leads to a network outside by one port of several",
                    "name the port of a machine")
            } else if ports.isService(path) {
                problem(
                    "goes to port \(path), which traffic goes through as a service",
                    "name another: copies would come back as somebody's traffic")
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

    /// Conditions of something that looks at packets one by one.
    func checkMatch(
        _ conditions: [Condition], of name: String, _ tenant: String, most: Int, _ found: inout [Problem]
    ) {
        if conditions.count > most {
            found.append(
                Problem(
                    name, "has \(conditions.count) conditions, \(most) at most",
                    remedy: "use networks and ranges, or make several"))
        }
        for (place, condition) in conditions.enumerated() {
            check(condition, "\(name) match \(place + 1)", tenant, &found)
            if condition.readsState {
                found.append(
                    Problem(
                        "\(name) match \(place + 1)", "asks for connections, which filters know",
                        remedy: "leave out state and direction"))
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
