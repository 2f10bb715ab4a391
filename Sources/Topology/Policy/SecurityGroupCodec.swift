// SPDX-License-Identifier: Apache-2.0
import Wire

/// Security groups as bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func securityGroup(_ group: SecurityGroup) {
        path(group.path)
        for rules in [group.inward, group.outward] { list(rules) { $0.securityRule($1) } }
    }

    private mutating func securityRule(_ rule: SecurityRule) {
        text(rule.id)
        optional(rule.ipProtocol) { $0.number($1) }
        list(rule.ports.sorted()) { $0.range($1) }
        optional(rule.icmp) { out, icmp in
            out.number(icmp.type)
            out.optional(icmp.code) { $0.number($1) }
        }
        switch rule.remote {
        case .anyone: number(UInt8(0))
        case .networks(let networks):
            number(UInt8(1))
            list(networks.sorted()) { $0.prefix($1) }
        case .group(let name):
            number(UInt8(2))
            text(name)
        case .addressGroup(let name):
            number(UInt8(3))
            text(name)
        }
    }

    mutating func allowed(_ allowed: AllowedAddress) {
        prefix(allowed.prefix)
        optional(allowed.mac) { $0.number($1.bits) }
    }
}

extension ByteReader {
    mutating func securityGroup() throws(MalformedBytes) -> SecurityGroup {
        var group = SecurityGroup(path: try devicePath())
        group.inward = try list { reader throws(MalformedBytes) in try reader.securityRule() }
        group.outward = try list { reader throws(MalformedBytes) in try reader.securityRule() }
        return group
    }

    private mutating func securityRule() throws(MalformedBytes) -> SecurityRule {
        var rule = SecurityRule(id: try name())
        if try flag() { rule.ipProtocol = try number() }
        rule.ports = Set(try list { reader throws(MalformedBytes) in try reader.range() })
        if try flag() { rule.icmp = ICMPMatch(type: try number(), code: try flag() ? try number() : nil) }
        switch try number(UInt8.self) {
        case 0: rule.remote = .anyone
        case 1: rule.remote = .networks(Set(try list { reader throws(MalformedBytes) in try reader.prefix() }))
        case 2: rule.remote = .group(try name())
        case 3: rule.remote = .addressGroup(try name())
        case let code: throw MalformedBytes("a rule about others of kind \(code), which a later version wrote")
        }
        return rule
    }

    mutating func allowed() throws(MalformedBytes) -> AllowedAddress {
        let prefix = try prefix()
        return AllowedAddress(
            prefix, mac: try flag() ? MACAddress(bits: try number(UInt64.self) & 0xffff_ffff_ffff) : nil)
    }
}
