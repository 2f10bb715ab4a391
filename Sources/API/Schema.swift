// SPDX-License-Identifier: Apache-2.0

/// What JSON may look like, as OpenAPI tells it and as requests are checked.
indirect enum Schema: Sendable {
    /// A text; `values` narrows it, `format` and `pattern` only tell.
    case string(format: String? = nil, values: [String]? = nil, minLength: Int? = nil, pattern: String? = nil)
    /// A whole number.
    case integer(ClosedRange<Int>? = nil)
    /// Any number.
    case number
    /// Yes or no.
    case boolean
    /// Things in order.
    case array(Schema)
    /// Any names with values of one kind.
    case map(Schema)
    /// Named properties.
    case object([Property])
    /// An object that is described once and named from then on.
    case named(String, [Property])
    /// Anything.
    case any

    struct Property: Sendable {
        var name: String
        var schema: Schema
        var isRequired: Bool
        var text: String

        init(_ name: String, _ schema: Schema, required: Bool = false, _ text: String) {
            self.name = name
            self.schema = schema
            isRequired = required
            self.text = text
        }
    }

    /// As OpenAPI 3.1, collecting what is named.
    func json(_ named: inout [String: JSON]) -> JSON {
        switch self {
        case .string(let format, let values, let minLength, let pattern):
            var object: [String: JSON] = ["type": "string"]
            if let format { object["format"] = .string(format) }
            if let values { object["enum"] = .array(values.map(JSON.string)) }
            if let minLength { object["minLength"] = .integer(minLength) }
            if let pattern { object["pattern"] = .string(pattern) }
            return .object(object)
        case .integer(let range):
            var object: [String: JSON] = ["type": "integer"]
            if let range {
                object["minimum"] = .integer(range.lowerBound)
                object["maximum"] = .integer(range.upperBound)
            }
            return .object(object)
        case .number: return ["type": "number"]
        case .boolean: return ["type": "boolean"]
        case .array(let element): return ["type": "array", "items": element.json(&named)]
        case .map(let value): return ["type": "object", "additionalProperties": value.json(&named)]
        case .object(let properties): return Schema.object(properties, &named)
        case .named(let name, let properties):
            if named[name] == nil {
                named[name] = .null
                named[name] = Schema.object(properties, &named)
            }
            return ["$ref": .string("#/components/schemas/\(name)")]
        case .any: return [:]
        }
    }

    private static func object(_ properties: [Property], _ named: inout [String: JSON]) -> JSON {
        var members: [String: JSON] = [:]
        for property in properties {
            var schema = property.schema.json(&named)
            if case .object(var object) = schema {
                object["description"] = .string(property.text)
                schema = .object(object)
            }
            members[property.name] = schema
        }
        var object: [String: JSON] = [
            "type": "object", "properties": .object(members), "additionalProperties": false,
        ]
        let required = properties.filter(\.isRequired).map { JSON.string($0.name) }
        if !required.isEmpty { object["required"] = .array(required) }
        return .object(object)
    }

    /// Why a value is not of this kind; `nil` when it is. A name that is not known is a mistake, not to be passed over.
    func problem(_ value: JSON, at place: String = "") -> String? {
        let here = place.isEmpty ? "the body" : place
        switch (self, value) {
        case (.any, _), (.number, .number), (.number, .integer), (.boolean, .boolean): return nil
        case (.string(_, let values, let minLength, _), .string(let text)):
            if let values, !values.contains(text) {
                return "\(here) is \"\(text)\": use one of \(values.joined(separator: ", "))"
            }
            if let minLength, text.utf8.count < minLength { return "\(here) is too short" }
            return nil
        case (.integer(let range), .integer(let number)):
            if let range, !range.contains(number) {
                return "\(here) is \(number): use \(range.lowerBound) to \(range.upperBound)"
            }
            return nil
        case (.array(let element), .array(let list)):
            for (index, item) in list.enumerated() {
                if let found = element.problem(item, at: "\(place)[\(index)]") { return found }
            }
            return nil
        case (.map(let kind), .object(let members)):
            for (name, item) in members.sorted(by: { $0.key < $1.key }) {
                if let found = kind.problem(item, at: place.isEmpty ? name : "\(place).\(name)") { return found }
            }
            return nil
        case (.object(let properties), .object(let members)), (.named(_, let properties), .object(let members)):
            for name in members.keys.sorted() where !properties.contains(where: { $0.name == name }) {
                let known = properties.map(\.name).joined(separator: ", ")
                return "\(place.isEmpty ? "" : "\(place): ")\"\(name)\" is not known here; there are \(known)"
            }
            for property in properties {
                let path = place.isEmpty ? property.name : "\(place).\(property.name)"
                guard let member = members[property.name] else {
                    if property.isRequired { return "\(path) is missing" }
                    continue
                }
                if let found = property.schema.problem(member, at: path) { return found }
            }
            return nil
        default: return "\(here) is not \(word)"
        }
    }

    /// Why the text of a parameter is not of this kind; `nil` when it is.
    func problem(text: String, at place: String) -> String? {
        let value: JSON? =
            switch self {
            case .boolean: text == "true" ? true : text == "false" ? false : nil
            case .integer: Int(text).map { JSON.integer($0) }
            default: .string(text)
            }
        guard let value else { return "\(place) is \"\(text)\": it is to be \(word)" }
        return problem(value, at: place)
    }

    private var word: String {
        switch self {
        case .string: "a text"
        case .integer: "a whole number"
        case .number: "a number"
        case .boolean: "true or false"
        case .array: "a list"
        case .map, .object, .named: "an object"
        case .any: "anything"
        }
    }
}

/// Any JSON.
enum JSON: Sendable, Codable, Equatable, ExpressibleByStringLiteral, ExpressibleByDictionaryLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral
{
    case null
    case boolean(Bool)
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    init(stringLiteral value: String) { self = .string(value) }
    init(booleanLiteral value: Bool) { self = .boolean(value) }
    init(arrayLiteral elements: JSON...) { self = .array(elements) }
    init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { a, _ in a }))
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else if let value = try? container.decode(Int.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSON].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSON].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .boolean(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

extension Schema {
    /// A name of so many parts: `isValidName`, told as a pattern.
    static func name(_ parts: Int) -> Schema {
        .string(
            pattern: "^" + Array(repeating: "[0-9A-Za-z][0-9A-Za-z._-]{0,62}", count: parts).joined(separator: "/")
                + "$")
    }
    /// What a key or a certificate allows.
    static let role = Schema.string(pattern: "^(viewer|operator|tenant:[0-9A-Za-z][0-9A-Za-z._-]{0,62})$")
    /// Bytes as hexadecimal digits.
    static let hexadecimal = Schema.string(pattern: "^([0-9a-f]{2})+$")
}
