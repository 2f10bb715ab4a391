// SPDX-License-Identifier: Apache-2.0
import Wire

/// What is sent to groups of a bridge goes to the ports whose machines joined them, as they say by IGMP and MLD (RFC 4541),
/// and to multicast routers; what is of the link alone goes to all, as without.
public struct MulticastService: Sendable, Hashable {
    /// Whether machines are asked what they joined, while no router does so.
    public var asks = true
    /// Whether what nobody joined goes to all; otherwise to multicast routers only.
    public var floodsUnknown = false

    /// As most want it.
    public init() {}
}

/// As people write and read it, the same in manifests, JSON and tables.
extension MulticastService {
    /// What may be said of it.
    public static let fieldNames = ["querier", "unknown"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        [("querier", ["\(asks)"]), ("unknown", [floodsUnknown ? "flood" : "drop"])]
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        for (name, values) in fields {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "querier": asks = try field.one("true or false") { ["true": true, "false": false][$0] }
            case "unknown": floodsUnknown = try field.one("drop or flood") { ["flood": true, "drop": false][$0] }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of multicast",
                    remedy: "use \(MulticastService.fieldNames.joined(separator: ", "))")
            }
        }
    }
}

/// As bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func multicast(_ service: MulticastService) {
        number(UInt8(service.asks ? 1 : 0) | (service.floodsUnknown ? 2 : 0))
    }
}

extension ByteReader {
    mutating func multicast() throws(MalformedBytes) -> MulticastService {
        let flags: UInt8 = try number()
        guard flags < 4 else { throw MalformedBytes("multicast of flags \(flags), which a later version knows") }
        var service = MulticastService()
        (service.asks, service.floodsUnknown) = (flags & 1 != 0, flags & 2 != 0)
        return service
    }
}
