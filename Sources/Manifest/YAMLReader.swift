// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// Walks YAML and collects mistakes with their places, so that a reader sees all of them at once.
struct YAMLReader {
    private(set) var mistakes: [ManifestError.Item] = []
    /// Where each object was said, for mistakes that only the whole shows.
    private var places: [String: Mark] = [:]
    /// Values that are looked at at most.
    var nodeLimit = ManifestLimits.nodes
    private var visited = 0

    mutating func mistake(_ node: Node?, _ object: String, _ reason: String, _ remedy: String) {
        let mark = node?.mark
        mistakes.append(
            .init(line: mark?.line ?? 0, column: mark?.column ?? 0, object: object, reason: reason, remedy: remedy))
    }

    /// The line of the first alias of an anchor that is there, too. What merely looks like both, in quotes or comments, is taken
    /// for one: no parser has to agree about where those are.
    private static func lineOfAlias(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        var anchors: Set<ArraySlice<UInt8>> = []
        var aliases: [(name: ArraySlice<UInt8>, line: Int)] = []
        var line = 1
        var at = 0
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            if byte == 10 { line += 1 }
            guard byte == UInt8(ascii: "&") || byte == UInt8(ascii: "*") else { continue }
            let start = at
            while at < bytes.count, isInName(bytes[at]) { at += 1 }
            if at == start { continue }
            if byte == UInt8(ascii: "&") {
                anchors.insert(bytes[start..<at])
            } else {
                aliases.append((bytes[start..<at], line))
            }
        }
        return aliases.first { anchors.contains($0.name) }?.line
    }

    private static func isInName(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == UInt8(ascii: "_")
            || byte == UInt8(ascii: "-")
    }

    mutating func mistake(_ problem: Problem) {
        // "acme/gw route to 10.0.0.0/8" is said where the device is, if the route's own place is not known.
        let device = problem.object.split(separator: " ").first.map(String.init) ?? problem.object
        let mark = places[problem.object] ?? places[device]
        mistakes.append(
            .init(
                line: mark?.line ?? 0, column: mark?.column ?? 0, object: problem.object, reason: problem.reason,
                remedy: problem.remedy))
    }

    mutating func note(_ object: some CustomStringConvertible, at node: Node?) {
        if let mark = node?.mark, places[object.description] == nil { places[object.description] = mark }
    }

    /// Parses a document; a syntax error becomes a mistake.
    mutating func parse(_ text: String) -> Node? {
        // Nested aliases stand for more than a file of any size may say, and the parser itself takes them apart.
        if let line = YAMLReader.lineOfAlias(text) {
            mistakes.append(
                .init(
                    line: line, column: 0, object: "", reason: "aliases of anchors are not taken",
                    remedy: "write out what & and * stand for"))
            return nil
        }
        do {
            guard let node = try Yams.compose(yaml: text) else {
                mistake(
                    nil, "", "the file is empty", "draw at least one tenant; cluster-examples/ has files to begin with")
                return nil
            }
            return node
        } catch let error as YamlError {
            mistakes.append(describe(error, text))
        } catch {
            mistake(nil, "", "not YAML: \(error)", "correct the file")
        }
        return nil
    }

    private func describe(_ error: YamlError, _ text: String) -> ManifestError.Item {
        func item(_ mark: Mark?, _ reason: String, _ remedy: String) -> ManifestError.Item {
            .init(line: mark?.line ?? 0, column: mark?.column ?? 0, object: "", reason: reason, remedy: remedy)
        }
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return item(mark, "not YAML: \(problem)", "check indentation, quotes and braces near this place")
        case .reader(let problem, _, _, _):
            return item(nil, "not YAML: \(problem)", "write the file as UTF-8 text")
        case .duplicatedKeysInMapping(let duplicates, let context):
            // The library says where the mapping begins; the second of the names is what the reader looks for.
            let line = secondLine(of: duplicates.first ?? "", in: text, from: context.mark.line)
            var found = item(
                context.mark, "\(duplicates.joined(separator: ", ")) is there twice",
                "names in one place must differ: rename or join them")
            if let line { (found.line, found.column) = line }
            return found
        default: return item(nil, "not YAML: \(error)", "correct the file")
        }
    }

    private func secondLine(of name: String, in text: String, from first: Int) -> (Int, Int)? {
        var indent: Int?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where index + 1 >= first {
            let body = line.drop { $0 == " " }
            guard body.hasPrefix(name + ":") else { continue }
            let spaces = line.count - body.count
            if indent == spaces { return (index + 1, spaces + 1) }
            if indent == nil { indent = spaces }
        }
        return nil
    }

    /// The entries of a mapping; anything else is a mistake. Keys that are not in `known` are mistakes too.
    mutating func entries(_ node: Node?, _ object: String, known: [String]? = nil) -> [(
        key: String, node: Node, value: Node
    )] {
        guard let node, !isNull(node) else { return [] }
        guard case .mapping(let mapping) = node else {
            mistake(node, object, "a list of \"name: value\" lines belongs here", "write it as a mapping")
            return []
        }
        var result: [(key: String, node: Node, value: Node)] = []
        for (key, value) in mapping {
            guard step(key) else { return result }
            guard let name = key.scalar?.string else {
                mistake(key, object, "a name must be plain text", "use letters, digits, -, _ and .")
                continue
            }
            if let known, !known.contains(name) {
                mistake(key, object, "\"\(name)\" is not known here", suggestion(name, known))
                continue
            }
            result.append((name, key, value))
        }
        return result
    }

    /// The items of a list; a single value counts as a list of one.
    mutating func items(_ node: Node?) -> [Node] {
        guard let node, !isNull(node) else { return [] }
        if case .sequence(let sequence) = node {
            var result: [Node] = []
            for item in sequence {
                guard step(item) else { return result }
                result.append(item)
            }
            return result
        }
        return [node]
    }

    private mutating func step(_ node: Node) -> Bool {
        visited += 1
        if visited == nodeLimit {
            mistake(node, "", "more than \(nodeLimit) values", "split the manifest, and do not nest aliases")
        }
        return visited < nodeLimit
    }

    func isNull(_ node: Node) -> Bool {
        guard case .scalar(let scalar) = node else { return false }
        return scalar.style == .plain && (scalar.string.isEmpty || scalar.string == "~" || scalar.string == "null")
    }

    mutating func text(_ node: Node?, _ object: String, _ what: String) -> String? {
        guard let node else { return nil }
        guard let scalar = node.scalar, !isNull(node) else {
            mistake(node, object, "\(what) must be one value", "write \(what): value")
            return nil
        }
        return scalar.string
    }

    mutating func name(_ text: String, _ node: Node, _ what: String) -> Bool {
        if isValidName(text) { return true }
        mistake(
            node, text, "cannot name a \(what)",
            "use up to 63 letters, digits, -, _ and ., beginning with a letter or digit")
        return false
    }

    mutating func bool(_ node: Node?, _ object: String, _ what: String) -> Bool? {
        guard let text = text(node, object, what) else { return nil }
        switch text {
        case "true", "yes", "on", "up": return true
        case "false", "no", "off", "down": return false
        default:
            mistake(node, object, "\(what) is \"\(text)\"", "write true or false")
            return nil
        }
    }

    mutating func number(_ node: Node?, _ object: String, _ what: String, _ range: ClosedRange<Int>) -> Int? {
        guard let text = text(node, object, what) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            mistake(
                node, object, "\(what) is \"\(text)\"", "use a number from \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return value
    }

    mutating func address(_ node: Node?, _ object: String, _ what: String) -> IPAddress? {
        guard let text = text(node, object, what) else { return nil }
        if let address = IPAddress(text) { return address }
        let remedy = text.contains("/") ? "leave the /length away" : "write an address such as 10.0.0.1 or fd00::1"
        mistake(node, object, "\(what) \"\(text)\" is not an address", remedy)
        return nil
    }

    mutating func interfaceAddress(_ node: Node?, _ object: String, _ what: String) -> InterfaceAddress? {
        guard let text = text(node, object, what) else { return nil }
        do {
            return try InterfaceAddress(parsing: text)
        } catch {
            mistake(node, object, "\(what) \"\(text)\" \(explain(error))", remedy(error, example: "10.0.0.1/24"))
            return nil
        }
    }

    mutating func prefix(_ node: Node?, _ object: String, _ what: String) -> Prefix? {
        guard let text = text(node, object, what) else { return nil }
        do {
            return try Prefix(parsing: text)
        } catch {
            mistake(node, object, "\(what) \"\(text)\" \(explain(error))", remedy(error, example: "10.0.0.0/24"))
            return nil
        }
    }

    private func explain(_ error: PrefixError) -> String {
        switch error {
        case .malformed: "is not an address with a prefix length"
        case .length(let max): "has a prefix length over \(max)"
        case .hostBits(let network): "has bits set past its length: the network is \(network)"
        }
    }

    private func remedy(_ error: PrefixError, example: String) -> String {
        switch error {
        case .malformed: "write it like \(example)"
        case .length(let max): "use a length from 0 to \(max)"
        case .hostBits(let network): "write \(network)"
        }
    }

    mutating func mac(_ node: Node?, _ object: String) -> MACAddress? {
        guard let text = text(node, object, "mac") else { return nil }
        if let mac = MACAddress(text) { return mac }
        mistake(node, object, "mac \"\(text)\" is not a MAC", "write it like 02:00:00:00:00:01")
        return nil
    }

    /// The nearest known word, or all of them.
    func suggestion(_ name: String, _ known: [String]) -> String {
        // A device may be named without its tenant.
        func score(_ candidate: String) -> Int {
            min(distance(name, candidate), distance(name, candidate.split(separator: "/").last.map(String.init) ?? ""))
        }
        if let near = known.min(by: { score($0) < score($1) }), score(near) <= 2 { return "did you mean \(near)?" }
        return "known here: " + known.joined(separator: ", ")
    }

    private func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8.prefix(64))
        let b = Array(b.utf8)
        var row = Array(0...b.count)
        for i in 0..<a.count {
            var previous = row[0]
            row[0] = i + 1
            for j in 0..<b.count {
                let cost = min(row[j + 1] + 1, row[j] + 1, previous + (a[i] == b[j] ? 0 : 1))
                previous = row[j + 1]
                row[j + 1] = cost
            }
        }
        return row[b.count]
    }
}
