// SPDX-License-Identifier: Apache-2.0
import Wire

/// Rules as bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func filters(_ filters: Filters) {
        optional(filters.inbound) { $0.text($1) }
        optional(filters.outbound) { $0.text($1) }
    }

    mutating func chain(_ chain: Chain) {
        path(chain.path)
        list(chain.rules) { out, rule in
            out.text(rule.id)
            out.condition(rule.condition)
            switch rule.action {
            case .accept: out.number(UInt8(1))
            case .drop: out.number(UInt8(2))
            case .reject: out.number(UInt8(3))
            case .return: out.number(UInt8(4))
            case .continue: out.number(UInt8(5))
            case .log: out.number(UInt8(6))
            case .jump(let chain):
                out.number(UInt8(7))
                out.text(chain)
            }
        }
    }

    /// Which fields there are, which of them are inverted, then the fields in order.
    mutating func condition(_ condition: Condition) {
        var body = ByteWriter()
        var present: UInt32 = 0
        var inverted: UInt32 = 0
        var bit: UInt32 = 1
        func field<Value>(_ match: Match<Value>?, _ write: (inout ByteWriter, Value) -> Void) {
            if let match {
                present |= bit
                if match.isInverted { inverted |= bit }
                write(&body, match.value)
            }
            bit <<= 1
        }
        field(condition.inPorts) { $0.list($1.sorted()) { $0.text($1) } }
        field(condition.outPorts) { $0.list($1.sorted()) { $0.text($1) } }
        field(condition.inPortGroup) { $0.text($1) }
        field(condition.outPortGroup) { $0.text($1) }
        field(condition.ingressPortGroup) { $0.text($1) }
        field(condition.traversed) { $0.text($1) }
        field(condition.etherType) { $0.number($1) }
        field(condition.sourceMAC) { $0.mac($1) }
        field(condition.destinationMAC) { $0.mac($1) }
        field(condition.vlan) { $0.number($1) }
        field(condition.ipProtocol) { $0.number($1) }
        field(condition.sources) { $0.list($1.sorted()) { $0.prefix($1) } }
        field(condition.destinations) { $0.list($1.sorted()) { $0.prefix($1) } }
        field(condition.sourceGroup) { $0.text($1) }
        field(condition.destinationGroup) { $0.text($1) }
        field(condition.dscp) { $0.number($1) }
        field(condition.sourcePorts) { $0.ranges($1) }
        field(condition.destinationPorts) { $0.ranges($1) }
        field(condition.icmp) { out, icmp in
            out.number(icmp.type)
            out.optional(icmp.code) { $0.number($1) }
        }
        field(condition.tcpFlags) { out, flags in
            out.number(flags.mask)
            out.number(flags.value)
        }
        field(condition.fragment.map { Match($0) }) { $0.number(FragmentPolicy.allCases.code($1)) }
        field(condition.states.map { Match($0) }) { out, states in
            out.number(states.reduce(UInt8(0)) { $0 | 1 << ConnectionState.allCases.code($1) })
        }
        field(condition.direction.map { Match($0) }) { $0.number(ConnectionDirection.allCases.code($1)) }
        if condition.isInverted { present |= 1 << 31 }
        number(present)
        number(inverted)
        raw(body.bytes)
    }

    private mutating func mac(_ mac: MaskedMAC) {
        number(mac.address.bits)
        number(mac.mask.bits)
    }

    private mutating func ranges(_ ranges: Set<PortRange>) { list(ranges.sorted()) { $0.range($1) } }

    mutating func range(_ range: PortRange) {
        number(range.first)
        number(range.last)
    }

    mutating func optional<Value>(_ value: Value?, _ body: (inout ByteWriter, Value) -> Void) {
        flag(value != nil)
        if let value { body(&self, value) }
    }
}

extension ByteReader {
    mutating func filters() throws(MalformedBytes) -> Filters {
        var filters = Filters()
        filters.inbound = try flag() ? try name() : nil
        filters.outbound = try flag() ? try name() : nil
        return filters
    }

    /// `device/port`.
    mutating func localPort() throws(MalformedBytes) -> String {
        let text = try text()
        guard isLocalPort(text) else { throw MalformedBytes("a name of no port") }
        return text
    }

    mutating func chain() throws(MalformedBytes) -> Chain {
        var chain = Chain(path: try devicePath())
        chain.rules = try list { reader throws(MalformedBytes) in
            let id = try reader.name()
            let condition = try reader.condition()
            let action: Rule.Action
            switch try reader.number(UInt8.self) {
            case 1: action = .accept
            case 2: action = .drop
            case 3: action = .reject
            case 4: action = .return
            case 5: action = .continue
            case 6: action = .log
            case 7: action = .jump(try reader.name())
            case let code: throw MalformedBytes("a rule that does \(code), which a later version wrote")
            }
            return Rule(id: id, condition: condition, action: action)
        }
        return chain
    }

    mutating func condition() throws(MalformedBytes) -> Condition {
        let present: UInt32 = try number()
        let inverted: UInt32 = try number()
        guard present & 0x7fff_ffff < 1 << 23, inverted & ~present == 0 else {
            throw MalformedBytes("a condition with fields that a later version wrote")
        }
        var condition = Condition()
        var bit: UInt32 = 1
        var reader = self
        func field<Value>(
            _ read: (inout ByteReader) throws(MalformedBytes) -> Value
        ) throws(MalformedBytes) -> Match<Value>? {
            defer { bit <<= 1 }
            guard present & bit != 0 else { return nil }
            return Match(try read(&reader), isInverted: inverted & bit != 0)
        }
        func ports(_ reader: inout ByteReader) throws(MalformedBytes) -> Set<String> {
            Set(try reader.list { reader throws(MalformedBytes) in try reader.localPort() })
        }
        func prefixes(_ reader: inout ByteReader) throws(MalformedBytes) -> Set<Prefix> {
            Set(try reader.list { reader throws(MalformedBytes) in try reader.prefix() })
        }
        func name(_ reader: inout ByteReader) throws(MalformedBytes) -> String { try reader.name() }
        condition.inPorts = try field(ports)
        condition.outPorts = try field(ports)
        condition.inPortGroup = try field(name)
        condition.outPortGroup = try field(name)
        condition.ingressPortGroup = try field(name)
        condition.traversed = try field(name)
        condition.etherType = try field { reader throws(MalformedBytes) in try reader.number() }
        condition.sourceMAC = try field { reader throws(MalformedBytes) in try reader.mac() }
        condition.destinationMAC = try field { reader throws(MalformedBytes) in try reader.mac() }
        condition.vlan = try field { reader throws(MalformedBytes) in try reader.number() }
        condition.ipProtocol = try field { reader throws(MalformedBytes) in try reader.number() }
        condition.sources = try field(prefixes)
        condition.destinations = try field(prefixes)
        condition.sourceGroup = try field(name)
        condition.destinationGroup = try field(name)
        condition.dscp = try field { reader throws(MalformedBytes) in try reader.number() }
        condition.sourcePorts = try field { reader throws(MalformedBytes) in try reader.ranges() }
        condition.destinationPorts = try field { reader throws(MalformedBytes) in try reader.ranges() }
        condition.icmp = try field { reader throws(MalformedBytes) in
            ICMPMatch(type: try reader.number(), code: try reader.flag() ? try reader.number() : nil)
        }
        condition.tcpFlags = try field { reader throws(MalformedBytes) in
            FlagsMatch(mask: try reader.number(), value: try reader.number())
        }
        condition.fragment = try field { reader throws(MalformedBytes) in
            try FragmentPolicy.allCases.value(try reader.number())
        }?.value
        condition.states = try field { reader throws(MalformedBytes) in
            let bits: UInt8 = try reader.number()
            guard bits < 1 << 4 else { throw MalformedBytes("a state that a later version wrote") }
            return Set(ConnectionState.allCases.filter { bits >> ConnectionState.allCases.code($0) & 1 == 1 })
        }?.value
        condition.direction = try field { reader throws(MalformedBytes) in
            try ConnectionDirection.allCases.value(try reader.number())
        }?.value
        condition.isInverted = present >> 31 == 1
        self = reader
        return condition
    }

    private mutating func mac() throws(MalformedBytes) -> MaskedMAC {
        let address = MACAddress(bits: try number(UInt64.self) & 0xffff_ffff_ffff)
        return MaskedMAC(address, mask: MACAddress(bits: try number(UInt64.self) & 0xffff_ffff_ffff))
    }

    private mutating func ranges() throws(MalformedBytes) -> Set<PortRange> {
        Set(try list { reader throws(MalformedBytes) in try reader.range() })
    }

    mutating func range() throws(MalformedBytes) -> PortRange {
        let range = PortRange(try number(), try number())
        guard range.first <= range.last else { throw MalformedBytes("a range of ports that ends before it begins") }
        return range
    }
}

extension Array where Element: Equatable {
    /// The place of a case among all, as it is written.
    fileprivate func code(_ value: Element) -> UInt8 { UInt8(firstIndex(of: value) ?? 0) }

    fileprivate func value(_ code: UInt8) throws(MalformedBytes) -> Element {
        guard Int(code) < count else { throw MalformedBytes("a case \(code) that a later version wrote") }
        return self[Int(code)]
    }
}

/// Whether a text is `device/port`.
func isLocalPort(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return parts.count == 2 && parts.allSatisfy { isValidName($0) }
}
