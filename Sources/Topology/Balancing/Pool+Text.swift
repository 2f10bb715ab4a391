// SPDX-License-Identifier: Apache-2.0
import Wire

/// Pools and virtual addresses as people write and read them, the same in manifests, JSON and tables.
extension PoolMember: CustomStringConvertible {
    /// As in `10.0.1.11 port 8080 weight 2 drain`.
    public var description: String {
        var words = [name]
        if weight != 1 { words.append("weight \(weight)") }
        if state != .up { words.append(state.rawValue) }
        return words.joined(separator: " ")
    }

    /// What tells it from the other members of its pool, as in `10.0.1.11 port 8080`.
    public var name: String { port.map { "\(address) port \($0)" } ?? "\(address)" }

    /// What may be said of a member.
    public static let fields = ["address", "port", "weight", "state"]

    /// Reads a member field by field.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        var address: IPAddress?
        (port, weight, state) = (nil, 1, .up)
        for (name, values) in fields {
            let text = try RuleMistake.one(name, values)
            func bad(_ remedy: String) -> RuleMistake { .init(field: name, reason: "is \"\(text)\"", remedy: remedy) }
            switch name {
            case "address":
                guard let read = IPAddress(text) else { throw bad("write 10.0.1.11 or fd00::11") }
                address = read
            case "port":
                guard let read = UInt16(text), read > 0 else { throw bad("use 1 to 65535") }
                port = read
            case "weight":
                guard let read = UInt16(text), read <= PoolMember.largestWeight else {
                    throw bad("use 0 to \(PoolMember.largestWeight)")
                }
                weight = read
            case "state":
                guard let read = State(rawValue: text) else { throw bad("use up, drain or down") }
                state = read
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of a member",
                    remedy: "use \(PoolMember.fields.joined(separator: ", "))")
            }
        }
        guard let address else {
            throw RuleMistake(field: "address", reason: "is missing", remedy: "write address: 10.0.1.11")
        }
        self.address = address
    }
}

extension VirtualAddress: CustomStringConvertible {
    /// As in `203.0.113.10 tcp 80 443 pool web`.
    public var description: String {
        "\(address) \(IPProtocol.name(of: ipProtocol)) "
            + ports.sorted().map(\.description).joined(separator: " ") + " pool \(pool)"
    }

    /// What may be said of a virtual address.
    public static let fields = ["address", "protocol", "port", "pool"]

    /// Reads a virtual address field by field.
    public init(reading fields: [(name: String, values: [String])], id: String) throws(RuleMistake) {
        var address: IPAddress?
        var pool: String?
        self.id = id
        ipProtocol = IPProtocol.tcp
        ports = []
        for (name, values) in fields {
            func bad(_ text: String, _ remedy: String) -> RuleMistake {
                .init(field: name, reason: "is \"\(text)\"", remedy: remedy)
            }
            switch name {
            case "address":
                let text = try RuleMistake.one(name, values)
                guard let read = IPAddress(text) else { throw bad(text, "write 203.0.113.10 or 2001:db8::10") }
                address = read
            case "protocol":
                let text = try RuleMistake.one(name, values)
                guard let read = IPProtocol.number(text) else { throw bad(text, "use tcp, udp or sctp") }
                ipProtocol = read
            case "port":
                for text in values {
                    guard let range = PortRange(text) else { throw bad(text, "write 80, or 8000-8999") }
                    ports.insert(range)
                }
            case "pool":
                let text = try RuleMistake.one(name, values)
                guard isValidName(text) else { throw bad(text, "use the name of a pool of the tenant") }
                pool = text
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of a virtual address",
                    remedy: "use id, \(VirtualAddress.fields.joined(separator: ", "))")
            }
        }
        guard let address else {
            throw RuleMistake(field: "address", reason: "is missing", remedy: "write address: 203.0.113.10")
        }
        guard let pool else {
            throw RuleMistake(field: "pool", reason: "is missing", remedy: "name the pool that serves it")
        }
        if ports.isEmpty { throw RuleMistake(field: "port", reason: "is missing", remedy: "write port: 80") }
        self.address = address
        self.pool = pool
    }
}

extension Pool {
    /// What a plan tells of it.
    var fields: [(String, String)] {
        [
            ("algorithm", algorithm.rawValue), ("persistence", persistence.map { "\($0) s" } ?? ""),
            ("monitor", monitor?.description ?? ""),
        ]
            + members.map { ("member \($0.name)", "weight \($0.weight) \($0.state.rawValue)") }
    }
}

extension RuleMistake {
    /// The value of a field that takes one.
    static func one(_ field: String, _ values: [String]) throws(RuleMistake) -> String {
        guard values.count == 1 else {
            throw RuleMistake(
                field: field, reason: values.isEmpty ? "is empty" : "has \(values.count) values", remedy: "say one")
        }
        return values[0]
    }
}
