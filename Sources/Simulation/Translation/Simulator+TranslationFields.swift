// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What translation writes into the packet in hand, and into its trace.
extension Simulator {
    mutating func setDestination(_ address: IPAddress, port: UInt16?) {
        if key.ipDestination != address {
            (key.words[13], key.words[14]) = (address.high, address.low)
            written.includeDestination(prefix: address.family.width)
            headerChanged()
        }
        guard key.ipFragment != FragmentKind.later, let port else { return }
        if hasPorts, key.destinationPort != port {
            key.destinationPort = port
            written.include(.destinationPort)
            headerChanged()
        } else if isICMP, isReply {
            set(queryID: port)
        }
    }

    mutating func setSource(_ address: IPAddress, port: UInt16?) {
        if key.ipSource != address {
            (key.words[11], key.words[12]) = (address.high, address.low)
            written.includeSource(prefix: address.family.width)
            headerChanged()
        }
        guard key.ipFragment != FragmentKind.later, let port else { return }
        if hasPorts, key.sourcePort != port {
            key.sourcePort = port
            written.include(.sourcePort)
            headerChanged()
        } else if isICMP, !isReply {
            set(queryID: port)
        }
    }

    /// Whether an ICMP packet in hand answers a query: its identifier is then the destination's port, as it were.
    private var isReply: Bool {
        mutating get {
            Self.queryPorts(UInt8(truncatingIfNeeded: key.sourcePort), key.etherType == EtherType.ipv6).map {
                $0.0 == 0
            }
                ?? false
        }
    }

    private mutating func set(queryID id: UInt16) {
        guard id != queryID else { return }
        queryID = id
        var edit = verdict.edit ?? PayloadEdit()
        edit.queryID = id
        verdict.edit = edit
    }

    mutating func noteTranslation(_ text: String, _ place: FilterPlace) {
        noteDevice("nat", fabric.routerPaths[Int(fabric.ports[Int(place.inPort)].device)], text)
    }

    mutating func name(_ address: IPAddress, _ port: UInt16?) -> String {
        guard let port, hasPorts else { return "\(address)" }
        return address.family == .ipv6 ? "[\(address)]:\(port)" : "\(address):\(port)"
    }
}
