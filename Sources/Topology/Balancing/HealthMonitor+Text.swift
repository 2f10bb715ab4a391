// SPDX-License-Identifier: Apache-2.0
import Wire

/// Monitors as people write and read them, the same in manifests, JSON and tables.
extension HealthMonitor: CustomStringConvertible {
    /// As in `http port 8080 delay 2 timeout 1`.
    public var description: String {
        said.map { $0.name == "type" ? $0.values[0] : "\($0.name) \($0.values.joined(separator: " "))" }
            .joined(separator: " ")
    }

    /// What may be said of a monitor.
    public static let fields = [
        "type", "port", "path", "host", "status", "delay", "timeout", "rise", "fall",
    ]

    /// Reads a monitor field by field.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        self.init(.tcp)
        var hasStatuses = false
        for (name, values) in fields {
            func bad(_ text: String, _ remedy: String) -> RuleMistake {
                .init(field: name, reason: "is \"\(text)\"", remedy: remedy)
            }
            if name == "status" {
                statuses = []
                for text in values {
                    guard let range = HealthMonitor.range(text) else { throw bad(text, "write 200, or 200-299") }
                    statuses.append(range)
                }
                hasStatuses = true
                continue
            }
            let text = try RuleMistake.one(name, values)
            func count() throws(RuleMistake) -> UInt8 {
                guard let read = UInt8(text), HealthMonitor.counts.contains(read) else {
                    throw bad(text, "use \(HealthMonitor.counts.lowerBound) to \(HealthMonitor.counts.upperBound)")
                }
                return read
            }
            func time() throws(RuleMistake) -> UInt32 {
                guard let read = HealthMonitor.milliseconds(text), HealthMonitor.times.contains(read) else {
                    throw bad(text, "use 0.1 to 3600 seconds")
                }
                return read
            }
            switch name {
            case "type":
                guard let read = Kind(rawValue: text) else {
                    throw bad(text, "use \(Kind.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                kind = read
            case "port":
                guard let read = UInt16(text), read > 0 else { throw bad(text, "use 1 to 65535") }
                port = read
            case "path":
                guard HealthMonitor.isPath(text) else { throw bad(text, "write a path such as /healthz") }
                path = text
            case "host":
                guard HealthMonitor.isHostName(text) else { throw bad(text, "write a name such as www.example.com") }
                host = text
            case "delay": delay = try time()
            case "timeout": timeout = try time()
            case "rise": rise = try count()
            case "fall": fall = try count()
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of a monitor",
                    remedy: "use \(HealthMonitor.fields.joined(separator: ", "))")
            }
        }
        if !isHTTP, hasStatuses || path != "/" || host != nil {
            throw RuleMistake(
                field: hasStatuses ? "status" : host != nil ? "host" : "path", reason: "is said of a check by \(kind)",
                remedy: "leave it out, or use type: http")
        }
        if !hasPort, port != nil {
            throw RuleMistake(field: "port", reason: "is said of a check by ping", remedy: "leave it out")
        }
        if timeout > delay {
            // Who says one of them only means that.
            if fields.contains(where: { $0.name == "timeout" }), fields.contains(where: { $0.name == "delay" }) {
                throw RuleMistake(
                    field: "timeout", reason: "is longer than the delay", remedy: "use \(seconds(delay)) or less")
            }
            if fields.contains(where: { $0.name == "timeout" }) { delay = timeout } else { timeout = delay }
        }
    }

    /// What is said of it, in the words that it is read by; what is as usual is left out.
    public var said: [(name: String, values: [String])] {
        let usual = HealthMonitor(kind)
        var list: [(name: String, values: [String])] = [("type", [kind.rawValue])]
        if let port { list.append(("port", ["\(port)"])) }
        if path != usual.path { list.append(("path", [path])) }
        if let host { list.append(("host", [host])) }
        if statuses != usual.statuses { list.append(("status", statuses.map(HealthMonitor.text))) }
        list.append(("delay", [seconds(delay)]))
        list.append(("timeout", [seconds(timeout)]))
        if rise != usual.rise { list.append(("rise", ["\(rise)"])) }
        if fall != usual.fall { list.append(("fall", ["\(fall)"])) }
        return list
    }

    private func seconds(_ milliseconds: UInt32) -> String {
        let rest = milliseconds % 1000
        if rest == 0 { return "\(milliseconds / 1000)" }
        var digits = String(rest)
        digits = String(repeating: "0", count: 3 - digits.count) + digits
        while digits.hasSuffix("0") { digits.removeLast() }
        return "\(milliseconds / 1000).\(digits)"
    }

    /// Reads seconds with up to three decimals.
    private static func milliseconds(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let whole = UInt32(parts[0]), whole <= 3600 else { return nil }
        guard parts.count == 2 else { return whole * 1000 }
        guard (1...3).contains(parts[1].count), let rest = UInt32(parts[1]) else { return nil }
        return whole * 1000 + rest * [100, 10, 1][parts[1].count - 1]
    }

    private static func range(_ text: String) -> ClosedRange<UInt16>? {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let first = UInt16(parts[0]), let last = UInt16(parts[parts.count - 1]),
            100 <= first, first <= last, last <= 599
        else { return nil }
        return first...last
    }

    private static func text(_ range: ClosedRange<UInt16>) -> String {
        range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    }

    /// What can stand in a request's first line.
    static func isPath(_ text: String) -> Bool {
        text.utf8.first == UInt8(ascii: "/") && text.utf8.count <= longestPath
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }

    /// What can stand in a request's `Host`.
    static func isHostName(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                isAlphanumeric($0) || [UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_")].contains($0)
            }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
}
