// SPDX-License-Identifier: Apache-2.0

/// Messages of IPFIX (RFC 7011): templates, what they say of flows, and how that was come by.
public enum IPFIX {
    /// Numbers of information elements (IANA "IPFIX Information Elements"), with their lengths; 65535 varies.
    public enum Element: UInt16, Sendable, CaseIterable {
        /// Layer 3 bytes that were seen.
        case octetDeltaCount = 1
        /// Packets that were seen.
        case packetDeltaCount = 2
        /// The protocol over IP.
        case protocolIdentifier = 4
        /// TOS or traffic class.
        case ipClassOfService = 5
        /// TCP flags.
        case tcpControlBits = 6
        /// Source port.
        case sourceTransportPort = 7
        /// Source.
        case sourceIPv4Address = 8
        /// Where it came in; 0 of what devices make.
        case ingressInterface = 10
        /// Destination port.
        case destinationTransportPort = 11
        /// Destination.
        case destinationIPv4Address = 12
        /// Where it went out; 0 for nowhere or several.
        case egressInterface = 14
        /// Source.
        case sourceIPv6Address = 27
        /// Destination.
        case destinationIPv6Address = 28
        /// Type and code of ICMP.
        case icmpTypeCodeIPv4 = 32
        /// One in so many packets was looked at.
        case samplingInterval = 34
        /// Source MAC.
        case sourceMacAddress = 56
        /// VLAN; 0: none.
        case vlanId = 58
        /// Destination MAC.
        case destinationMacAddress = 80
        /// Name of a port: of the first such element where it came in, of the second where it went out.
        case interfaceName = 82
        /// What became of it (RFC 7270 section 4.12).
        case forwardingStatus = 89
        /// Why it is told of.
        case flowEndReason = 136
        /// Type and code of ICMPv6.
        case icmpTypeCodeIPv6 = 139
        /// The domain that an option is about.
        case observationDomainId = 149
        /// First packet.
        case flowStartMilliseconds = 152
        /// Last packet.
        case flowEndMilliseconds = 153
        /// Name of the tenant.
        case vrfName = 236
        /// EtherType.
        case ethernetType = 256
        /// Name of the domain: the mirror.
        case observationDomainName = 300
        /// How packets were chosen: 4 is by chance (RFC 5477).
        case selectorAlgorithm = 304
        /// With which probability.
        case samplingProbability = 311

        /// Bytes; `nil` where it varies.
        public var length: UInt16? {
            switch self {
            case .protocolIdentifier, .ipClassOfService, .forwardingStatus, .flowEndReason: 1
            case .tcpControlBits, .sourceTransportPort, .destinationTransportPort, .icmpTypeCodeIPv4,
                .icmpTypeCodeIPv6, .vlanId, .ethernetType, .selectorAlgorithm:
                2
            case .sourceIPv4Address, .destinationIPv4Address, .ingressInterface, .egressInterface, .samplingInterval,
                .observationDomainId:
                4
            case .sourceMacAddress, .destinationMacAddress: 6
            case .octetDeltaCount, .packetDeltaCount, .flowStartMilliseconds, .flowEndMilliseconds,
                .samplingProbability:
                8
            case .sourceIPv6Address, .destinationIPv6Address: 16
            case .interfaceName, .vrfName, .observationDomainName: nil
            }
        }
    }

    /// What records of a kind say, in order.
    public enum Template: UInt16, Sendable, CaseIterable {
        /// Flows of IPv4, IPv6, and what is neither; and how they were come by.
        case ipv4 = 256
        /// Flows of IPv6.
        case ipv6 = 257
        /// Flows of what is no IP.
        case other = 258
        /// An option: how packets of the domain were chosen.
        case sampling = 259

        private static let common: [Element] = [
            .flowStartMilliseconds, .flowEndMilliseconds, .packetDeltaCount, .octetDeltaCount, .ingressInterface,
            .egressInterface, .sourceMacAddress, .destinationMacAddress, .ethernetType, .vlanId, .forwardingStatus,
            .flowEndReason,
        ]
        private static let names: [Element] = [.vrfName, .interfaceName, .interfaceName]
        private static let transport: [Element] = [
            .protocolIdentifier, .ipClassOfService, .sourceTransportPort, .destinationTransportPort, .tcpControlBits,
        ]

        /// The elements.
        public var elements: [Element] {
            switch self {
            case .ipv4:
                Template.common + [.sourceIPv4Address, .destinationIPv4Address] + Template.transport
                    + [.icmpTypeCodeIPv4] + Template.names
            case .ipv6:
                Template.common + [.sourceIPv6Address, .destinationIPv6Address] + Template.transport
                    + [.icmpTypeCodeIPv6] + Template.names
            case .other: Template.common + Template.names
            case .sampling:
                [
                    .observationDomainId, .observationDomainName, .selectorAlgorithm, .samplingProbability,
                    .samplingInterval,
                ]
            }
        }
        /// Elements that say what an option is about.
        var scopeCount: UInt16 { self == .sampling ? 1 : 0 }
    }

    /// What one record says of a flow.
    public struct Flow: Sendable {
        /// Its header.
        public var key: FlowKey
        /// First and last packet, milliseconds since 1970.
        public var start: UInt64 = 0
        /// See ``start``.
        public var end: UInt64 = 0
        /// Packets and bytes that were seen.
        public var packets: UInt64 = 0
        /// See ``packets``.
        public var bytes: UInt64 = 0
        /// TCP flags.
        public var tcpFlags: UInt16 = 0
        /// Numbers of the ports where it came in and went out; 0: none.
        public var ingress: UInt32 = 0
        /// See ``ingress``.
        public var egress: UInt32 = 0
        /// Their names, and the tenant's.
        public var ingressName = ""
        /// See ``ingressName``.
        public var egressName = ""
        /// See ``ingressName``.
        public var tenant = ""
        /// `forwardingStatus`: 64 forwarded, 128 and more dropped.
        public var status: UInt8 = 64
        /// `flowEndReason`.
        public var reason: UInt8 = 1

        /// A flow of a header.
        public init(key: FlowKey) { self.key = key }

        var template: Template {
            key.etherType == EtherType.ipv4 ? .ipv4 : key.etherType == EtherType.ipv6 ? .ipv6 : .other
        }

        func write(into out: inout [UInt8]) {
            var names = [ingressName, egressName]
            let isICMP = key.ipProtocol == IPProtocol.icmp || key.ipProtocol == IPProtocol.icmpv6
            let isFragment = key.ipFragment == FragmentKind.later
            let (source, destination) = isFragment ? (0, 0) : (key.sourcePort, key.destinationPort)
            for element in template.elements {
                switch element {
                case .flowStartMilliseconds: out.append(network: start)
                case .flowEndMilliseconds: out.append(network: end)
                case .packetDeltaCount: out.append(network: packets)
                case .octetDeltaCount: out.append(network: bytes)
                case .ingressInterface: out.append(network: ingress)
                case .egressInterface: out.append(network: egress)
                case .sourceMacAddress: out.append(mac: key.etherSource)
                case .destinationMacAddress: out.append(mac: key.etherDestination)
                case .ethernetType: out.append(network: key.etherType)
                case .vlanId: out.append(network: key.hasVLAN ? key.vlanTCI & 0x0fff : 0)
                case .forwardingStatus: out.append(status)
                case .flowEndReason: out.append(reason)
                case .sourceIPv4Address: out.append(network: UInt32(truncatingIfNeeded: key.ipSource.high >> 32))
                case .destinationIPv4Address:
                    out.append(network: UInt32(truncatingIfNeeded: key.ipDestination.high >> 32))
                case .sourceIPv6Address:
                    out.append(network: key.ipSource.high)
                    out.append(network: key.ipSource.low)
                case .destinationIPv6Address:
                    out.append(network: key.ipDestination.high)
                    out.append(network: key.ipDestination.low)
                case .protocolIdentifier: out.append(key.ipProtocol)
                case .ipClassOfService: out.append(key.ipTOS)
                case .sourceTransportPort: out.append(network: isICMP ? 0 : source)
                case .destinationTransportPort: out.append(network: isICMP ? 0 : destination)
                case .tcpControlBits: out.append(network: tcpFlags)
                case .icmpTypeCodeIPv4, .icmpTypeCodeIPv6:
                    out.append(network: isICMP ? source << 8 | destination & 0xff : 0)
                case .vrfName: out.append(variable: tenant)
                case .interfaceName: out.append(variable: names.removeFirst())
                // Templates of flows are written above, and have no others.
                default: preconditionFailure("no template of flows has \(element)")
                }
            }
        }
    }

    /// Bytes of a message, at most: what any way takes.
    static let mostBytes = 1400

    /// Who tells of one domain, and what was told: messages count what they hold.
    public struct Exporter: Sendable {
        /// The domain's number and name.
        public let domain: UInt32
        /// See ``domain``.
        public let name: String
        /// Of so many packets one is looked at.
        public var sample: UInt32
        private var sequence: UInt32 = 0
        private var nextTemplates: UInt64 = 0

        /// Templates are told again after so many seconds: messages may be lost (RFC 7011 section 8.4).
        private static let refresh: UInt64 = 60

        /// Nothing was told yet.
        public init(domain: UInt32, name: String, sample: UInt32) {
            (self.domain, self.name, self.sample) = (domain, name, sample)
        }

        /// Messages that tell of flows, and of templates where that is due.
        ///
        /// - Parameter now: seconds since 1970.
        public mutating func messages(_ flows: [Flow], now: UInt64) -> [[UInt8]] {
            var messages: [[UInt8]] = []
            if now >= nextTemplates {
                nextTemplates = now + Exporter.refresh
                messages.append(introduction(now))
            }
            for template in [Template.ipv4, .ipv6, .other] {
                var set: [UInt8] = []
                var count: UInt32 = 0
                for flow in flows where flow.template == template {
                    var record: [UInt8] = []
                    flow.write(into: &record)
                    if !set.isEmpty, set.count + record.count + 20 > IPFIX.mostBytes {
                        messages.append(message(now, [(template.rawValue, set)], records: count))
                        (set, count) = ([], 0)
                    }
                    set += record
                    count += 1
                }
                if !set.isEmpty { messages.append(message(now, [(template.rawValue, set)], records: count)) }
            }
            return messages
        }

        private mutating func introduction(_ now: UInt64) -> [UInt8] {
            var templates: [UInt8] = []
            var options: [UInt8] = []
            for template in Template.allCases {
                var text: [UInt8] = []
                text.append(network: template.rawValue)
                text.append(network: UInt16(template.elements.count))
                if template.scopeCount > 0 { text.append(network: template.scopeCount) }
                for element in template.elements {
                    text.append(network: element.rawValue)
                    text.append(network: element.length ?? 0xffff)
                }
                if template.scopeCount > 0 { options += text } else { templates += text }
            }
            var sampling: [UInt8] = []
            sampling.append(network: domain)
            sampling.append(variable: name)
            sampling.append(network: UInt16(4))
            sampling.append(network: (1 / Double(max(1, sample))).bitPattern)
            sampling.append(network: sample)
            return message(now, [(2, templates), (3, options), (Template.sampling.rawValue, sampling)], records: 1)
        }

        private mutating func message(_ now: UInt64, _ sets: [(id: UInt16, bytes: [UInt8])], records: UInt32) -> [UInt8]
        {
            var out: [UInt8] = []
            out.append(network: UInt16(10))
            out.append(network: UInt16(16 + sets.reduce(0) { $0 + 4 + $1.bytes.count }))
            out.append(network: UInt32(truncatingIfNeeded: now))
            out.append(network: sequence)
            out.append(network: domain)
            for set in sets {
                out.append(network: set.id)
                out.append(network: UInt16(4 + set.bytes.count))
                out += set.bytes
            }
            sequence &+= records
            return out
        }
    }
}

extension [UInt8] {
    /// A string of at most 254 bytes with its length (RFC 7011 section 7).
    fileprivate mutating func append(variable text: String) {
        let bytes = text.utf8.prefix(254)
        append(UInt8(bytes.count))
        self += bytes
    }
}
