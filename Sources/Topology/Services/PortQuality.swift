// SPDX-License-Identifier: Apache-2.0
import Wire

/// How much a port's machine may send and get, and how what it sends is marked.
public struct PortQuality: Sendable, Hashable {
    /// What the machine sends, at most.
    public var egress: RateLimit?
    /// What the machine gets, at most.
    public var ingress: RateLimit?
    /// What the machine may send to other hosts however much others send from its host, bits a second in thousands, headers of
    /// tunnels among them. Where the host's rate is known; see ``Host/rate``.
    public var guarantee: UInt32?
    /// The DSCP of what it sends (RFC 2474), 0 to 63, in the tunnels between hosts too; `nil`: as the machine says, and 0 in
    /// tunnels.
    public var dscp: UInt8?

    /// No limits.
    public init() {}

    /// Whether nothing is said.
    public var isEmpty: Bool { self == PortQuality() }
}

/// A rate that is not exceeded for longer than a burst lasts.
public struct RateLimit: Sendable, Hashable {
    /// Bits a second from the Ethernet header on, in thousands.
    public var kilobits: UInt32
    /// Bytes at once after a pause; `nil`: what the rate lets through in a tenth of a second, and ``usualBurst`` at least.
    public var burst: UInt32?

    /// What rates may be: 64 kbit/s to 400 Gbit/s.
    public static let rates: ClosedRange<UInt32> = 64...400_000_000
    /// What bursts may be, bytes. A sender's largest packet, which is cut to size later, must fit.
    public static let bursts: ClosedRange<UInt32> = 131_072...1_073_741_824

    /// Less than this, and TCP gets half of a low rate: its senders let go of 64 KiB at once, and what a meter does not let
    /// through they send again later and later.
    public static let usualBurst: UInt32 = 1 << 20

    /// A rate with the usual burst.
    public init(kilobits: UInt32, burst: UInt32? = nil) {
        self.kilobits = kilobits
        self.burst = burst
    }

    /// Bytes at once after a pause.
    public var effectiveBurst: UInt32 {
        let usual = UInt64(kilobits) * 1000 / 8 / 10
        return burst ?? UInt32(min(max(usual, UInt64(RateLimit.usualBurst)), UInt64(RateLimit.bursts.upperBound)))
    }
}

/// As people write and read it, the same in manifests, JSON and tables.
extension PortQuality {
    /// What may be said of it.
    public static let fieldNames = ["egress", "egressBurst", "ingress", "ingressBurst", "guarantee", "dscp"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = []
        for (name, limit) in [("egress", egress), ("ingress", ingress)] {
            guard let limit else { continue }
            list.append((name, [PortQuality.text(UInt64(limit.kilobits) * 1000, 1000)]))
            if let burst = limit.burst { list.append((name + "Burst", [PortQuality.text(UInt64(burst), 1024)])) }
        }
        if let guarantee { list.append(("guarantee", [PortQuality.text(UInt64(guarantee) * 1000, 1000)])) }
        if let dscp { list.append(("dscp", ["\(dscp)"])) }
        return list
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        self.init()
        var bursts: [String: UInt32] = [:]
        for (name, values) in fields {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "egress", "ingress", "guarantee":
                let bits = try field.one("bits a second, such as 100M", { PortQuality.number($0, 1000) })
                guard bits % 1000 == 0, let kilobits = UInt32(exactly: bits / 1000) else {
                    throw RuleMistake(
                        field: name, reason: "is \(values[0])", remedy: "use whole thousands of bits, up to 400G")
                }
                switch name {
                case "egress": egress = RateLimit(kilobits: kilobits)
                case "ingress": ingress = RateLimit(kilobits: kilobits)
                default: guarantee = kilobits
                }
            case "egressBurst", "ingressBurst":
                bursts[name] = try field.one("bytes, such as 2M") {
                    PortQuality.number($0, 1024).flatMap { UInt32(exactly: $0) }
                }
            case "dscp": dscp = try field.one("0 to 63") { UInt8($0).flatMap { $0 < 64 ? $0 : nil } }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of quality",
                    remedy: "use \(PortQuality.fieldNames.joined(separator: ", "))")
            }
        }
        for (name, burst) in bursts.sorted(by: { $0.key < $1.key }) {
            let rate = name.dropLast("Burst".count)
            guard (rate == "egress" ? egress : ingress) != nil else {
                throw RuleMistake(
                    field: name, reason: "is there without a rate", remedy: "say \(rate), or leave it out")
            }
            if rate == "egress" { egress?.burst = burst } else { ingress?.burst = burst }
        }
    }

    fileprivate static func number(_ text: String, _ base: UInt64) -> UInt64? {
        let powers: [Character: Int] = ["k": 1, "K": 1, "M": 2, "G": 3]
        let power = text.last.flatMap { powers[$0] }
        guard let number = UInt64(power == nil ? text : String(text.dropLast())) else { return nil }
        var result = number
        for _ in 0..<(power ?? 0) {
            let (next, isOver) = result.multipliedReportingOverflow(by: base)
            if isOver { return nil }
            result = next
        }
        return result
    }

    fileprivate static func text(_ number: UInt64, _ base: UInt64) -> String {
        var (left, signs) = (number, ["G", "M", "k"])
        while left > 0, left % base == 0, !signs.isEmpty {
            left /= base
            signs.removeLast()
        }
        let suffix = ["", "k", "M", "G"][3 - signs.count]
        return "\(left)\(suffix)"
    }
}

extension RateLimit {
    /// A rate as people write it, such as `100M`; its burst apart.
    public var text: String { PortQuality.text(UInt64(kilobits) * 1000, 1000) }

    /// Reads ``text``.
    init?(text: String) {
        guard let bits = PortQuality.number(text, 1000), bits % 1000 == 0, let kilobits = UInt32(exactly: bits / 1000)
        else { return nil }
        self.init(kilobits: kilobits)
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func quality(_ quality: PortQuality) {
        for limit in [quality.egress, quality.ingress] {
            optional(limit) { out, limit in
                out.number(limit.kilobits)
                out.optional(limit.burst) { $0.number($1) }
            }
        }
        optional(quality.dscp) { $0.number($1) }
    }
}

extension ByteReader {
    mutating func quality() throws(MalformedBytes) -> PortQuality {
        var quality = PortQuality()
        quality.egress = try limit()
        quality.ingress = try limit()
        quality.dscp = try flag() ? try number() : nil
        return quality
    }

    private mutating func limit() throws(MalformedBytes) -> RateLimit? {
        guard try flag() else { return nil }
        return RateLimit(kilobits: try number(), burst: try flag() ? try number() : nil)
    }
}

/// What can be wrong with it.
extension Topology {
    func check(_ quality: PortQuality, of port: Port, _ found: inout [Problem]) {
        func problem(_ reason: String, _ remedy: String) {
            found.append(Problem("\(port.path) qos", reason, remedy: remedy))
        }
        if port.kind == .router { problem("is said of a router's port", "say it of the ports of machines") }
        if case .peer = port.attachment { problem("is said of a link", "say it of the ports of machines") }
        for (name, limit) in [("egress", quality.egress), ("ingress", quality.ingress)] {
            guard let limit else { continue }
            if !RateLimit.rates.contains(limit.kilobits) {
                problem("\(name) is \(limit.kilobits) kbit/s", "use 64k to 400G")
            }
            if let burst = limit.burst, !RateLimit.bursts.contains(burst) {
                problem("\(name)Burst is \(burst) bytes", "use 128k to 1G")
            }
        }
        if let guarantee = quality.guarantee {
            if !RateLimit.rates.contains(guarantee) { problem("guarantee is \(guarantee) kbit/s", "use 64k to 400G") }
            if let limit = quality.egress, limit.kilobits < guarantee {
                problem(
                    "guarantee is more than egress",
                    "let it send \(PortQuality.text(UInt64(guarantee) * 1000, 1000)), or promise less")
            }
        }
        if let dscp = quality.dscp, dscp > 63 { problem("dscp is \(dscp)", "use 0 to 63") }
    }
}

/// What hosts promise to machines.
extension Topology {
    /// What a host promises to machines of its own, bits a second in thousands.
    public func promised(by host: String) -> UInt64 {
        var sum: UInt64 = 0
        for path in ports.bound(to: host).values.joined() { sum += UInt64(ports[path]?.quality.guarantee ?? 0) }
        return sum
    }

    /// Hosts whose promises are to be looked at after changes to ports and hosts.
    func checkPromises(of touched: Set<PortPath>, hosts withHosts: Bool, _ found: inout [Problem]) {
        var places: Set<String> = withHosts ? Set(hosts.values.filter { $0.rate != nil }.map(\.name)) : []
        for path in touched {
            if let port = ports[path], port.quality.guarantee != nil, case .exterior(let host, _) = port.attachment {
                places.insert(host)
            }
        }
        for host in places {
            guard let rate = hosts[host]?.rate else { continue }
            if !RateLimit.rates.contains(rate) {
                found.append(Problem(host, "rate is \(rate) kbit/s", remedy: "use 64k to 400G"))
            }
            let most = UInt64(rate) * Host.promisable / 100
            let promised = promised(by: host)
            if promised > most {
                found.append(
                    Problem(
                        host,
                        "promises \(PortQuality.text(promised * 1000, 1000)) to its machines, of \(PortQuality.text(UInt64(rate) * 1000, 1000))",
                        remedy:
                            "leave a tenth to all others: promise \(PortQuality.text(most * 1000, 1000)) at most (guarantee of qos), or move machines"
                    ))
            }
        }
    }
}

extension Host {
    /// How much of its rate a host may promise, of a hundred: the rest is for all others, and the cluster's own words.
    static let promisable: UInt64 = 90

    /// ``rate`` as people write it.
    public var rateText: String? { rate.map { RateLimit(kilobits: $0).text } }

    /// Reads ``rateText``; `nil` when it is none.
    public static func rate(reading text: String) -> UInt32? { RateLimit(text: text)?.kilobits }
}
