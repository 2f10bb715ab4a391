// SPDX-License-Identifier: Apache-2.0
import Wire

/// Networks with addresses to give as people write and read them, the same in manifests, JSON and tables.
extension DHCPSubnet {
    /// What may be said of one.
    public static let fieldNames = [
        "subnet", "range", "hosts", "server", "router", "dns", "domain", "search", "ntp", "mtu", "lease", "routes",
        "bootFile", "bootServer", "options", "stateless",
    ]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list: [(name: String, values: [String])] = [("subnet", [subnet.description])]
        func add(_ name: String, _ values: [String]) { if !values.isEmpty { list.append((name, values)) } }
        add("range", ranges.map(\.description))
        add("hosts", hosts.map(\.description))
        add("server", server.map { ["\($0)"] } ?? [])
        add("router", router.map { ["\($0)"] } ?? [])
        add("dns", nameServers.map(\.description))
        add("domain", domain.map { [$0] } ?? [])
        add("search", search)
        add("ntp", timeServers.map(\.description))
        add("mtu", mtu.map { ["\($0)"] } ?? [])
        if lease != 3600 { add("lease", ["\(lease)"]) }
        add("routes", routes.map(\.description))
        add("bootFile", bootFile.map { [$0] } ?? [])
        add("bootServer", bootServer.map { ["\($0)"] } ?? [])
        add("options", options.sorted { $0.key < $1.key }.map { "\($0.key) \(DHCPSubnet.hex($0.value))" })
        if isStateless { add("stateless", ["true"]) }
        return list
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        "0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Reads what ``fields`` writes.
    ///
    /// - Parameter standard: the network, unless said.
    public init(
        reading fields: [(name: String, values: [String])], standard: Prefix? = nil
    ) throws(RuleMistake) {
        var subnet = standard
        if let own = fields.first(where: { $0.name == "subnet" }) {
            let text = try RuleMistake.one("subnet", own.values)
            guard let read = try? Prefix(parsing: text) else {
                throw RuleMistake(
                    field: "subnet", reason: "is \"\(text)\"", remedy: "write a network such as 10.0.1.0/24")
            }
            subnet = read
        }
        guard let subnet else {
            throw RuleMistake(
                field: "subnet", reason: "is missing", remedy: "write subnet: 10.0.1.0/24, or give the bridge one")
        }
        self.init(subnet)
        for (name, values) in fields where name != "subnet" { try read(FieldValues(name: name, values: values)) }
    }

    private mutating func read(_ field: FieldValues) throws(RuleMistake) {
        switch field.name {
        case "range": ranges = try field.all("10.0.1.100-10.0.1.199", DHCPRange.init)
        case "hosts":
            hosts = try field.all("02:00:00:00:00:01 10.0.1.5, with a name behind it if you like", DHCPHost.init)
        case "server": server = try field.one("10.0.1.2", { IPAddress($0) })
        case "router": router = try field.one("10.0.1.1", { IPAddress($0) })
        case "dns": nameServers = try field.all("10.0.1.53", { IPAddress($0) })
        case "domain": domain = try field.one("example.org", DHCPSubnet.domain)
        case "search": search = try field.all("example.org", DHCPSubnet.domain)
        case "ntp": timeServers = try field.all("10.0.1.123", { IPAddress($0) })
        case "mtu": mtu = try field.one("576 to 9000") { Int($0).flatMap { (576...9000).contains($0) ? $0 : nil } }
        case "lease":
            lease = try field.one("\(DHCPSubnet.leases.lowerBound) to \(DHCPSubnet.leases.upperBound) seconds") {
                UInt32($0)
            }
        case "routes": routes = try field.all("10.9.0.0/16 via 10.0.1.9", DHCPRoute.init)
        case "bootFile": bootFile = try field.one("pxelinux.0") { $0.utf8.count < 128 && !$0.isEmpty ? $0 : nil }
        case "bootServer": bootServer = try field.one("10.0.1.69", { IPAddress($0) })
        case "stateless":
            isStateless = try field.one("true or false") { $0 == "true" ? true : $0 == "false" ? false : nil }
        case "options":
            for (code, value) in try field.all("43 0x0102, or 66 TEXT", DHCPSubnet.option) { options[code] = value }
        default:
            throw RuleMistake(
                field: field.name, reason: "is not known of DHCP",
                remedy: "use \(DHCPSubnet.fieldNames.joined(separator: ", "))")
        }
    }

    /// A name with dots (RFC 1035 section 2.3.1).
    static func domain(_ text: String) -> String? {
        let labels = text.split(separator: ".", omittingEmptySubsequences: false)
        let isName = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count)
                && label.utf8.allSatisfy {
                    (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
                        || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
                }
        }
        return isName && text.utf8.count < 254 ? text : nil
    }

    /// Number and value: hexadecimal behind `0x`, otherwise text.
    private static func option(_ text: String) -> (UInt8, [UInt8])? {
        guard let space = text.firstIndex(of: " "), let code = UInt8(text[..<space]) else { return nil }
        let value = text[text.index(after: space)...]
        guard value.hasPrefix("0x") else { return value.isEmpty ? nil : (code, Array(value.utf8)) }
        let digits = Array(value.utf8.dropFirst(2)).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == value.utf8.count - 2, digits.count % 2 == 0, !digits.isEmpty else { return nil }
        return (code, stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
    }
}

/// The values of a field.
struct FieldValues {
    var name: String
    var values: [String]

    private func read<Value>(_ text: String, _ form: String, _ read: (String) -> Value?) throws(RuleMistake) -> Value {
        guard let value = read(text) else {
            throw RuleMistake(field: name, reason: "is \"\(text)\"", remedy: "write \(form)")
        }
        return value
    }

    func one<Value>(_ form: String, _ read: (String) -> Value?) throws(RuleMistake) -> Value {
        try self.read(try RuleMistake.one(name, values), form, read)
    }

    func all<Value>(_ form: String, _ read: (String) -> Value?) throws(RuleMistake) -> [Value] {
        var list: [Value] = []
        for text in values { list.append(try self.read(text, form, read)) }
        return list
    }
}
