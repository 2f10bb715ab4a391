// SPDX-License-Identifier: Apache-2.0
import Wire

/// Translations as bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func translation(_ translation: Translation) {
        list(translation.rules) { out, rule in
            out.text(rule.id)
            out.condition(rule.condition)
            switch rule.action {
            case .destination(let target):
                out.number(UInt8(1))
                out.target(target)
            case .source(let target):
                out.number(UInt8(2))
                out.target(target)
            case .masquerade(let ports):
                out.number(UInt8(3))
                out.optional(ports) { $0.range($1) }
            case .accept: out.number(UInt8(4))
            }
        }
        list(translation.floating) { out, floating in
            out.address(floating.address)
            out.address(floating.target)
            out.optional(floating.port) { $0.text($1) }
        }
    }

    private mutating func target(_ target: TranslationTarget) {
        address(target.first)
        address(target.last)
        optional(target.ports) { $0.range($1) }
    }
}

extension ByteReader {
    mutating func translation() throws(MalformedBytes) -> Translation {
        var translation = Translation()
        translation.rules = try list { reader throws(MalformedBytes) in
            let id = try reader.name()
            let condition = try reader.condition()
            switch try reader.number(UInt8.self) {
            case 1: return TranslationRule(id: id, condition: condition, action: .destination(try reader.target()))
            case 2: return TranslationRule(id: id, condition: condition, action: .source(try reader.target()))
            case 3:
                let ports = try reader.flag() ? try reader.range() : nil
                return TranslationRule(id: id, condition: condition, action: .masquerade(ports))
            case 4: return TranslationRule(id: id, condition: condition, action: .accept)
            case let code: throw MalformedBytes("a translation of kind \(code), which a later version wrote")
            }
        }
        translation.floating = try list { reader throws(MalformedBytes) in
            FloatingAddress(
                try reader.address(), target: try reader.address(), port: try reader.flag() ? try reader.name() : nil)
        }
        return translation
    }

    private mutating func target() throws(MalformedBytes) -> TranslationTarget {
        let target = TranslationTarget(
            try address(), try address(), ports: try flag() ? try range() : nil)
        guard (1...TranslationTarget.addressesPerTarget).contains(target.count) else {
            throw MalformedBytes("addresses to translate to that are none")
        }
        return target
    }
}
