// SPDX-License-Identifier: Apache-2.0
import Wire

/// Fragments in translators: later ones follow their packet's first, by its identification.
extension Simulator {
    /// Looks up what a later fragment belongs to, by its packet's first. False when that was never seen.
    mutating func lookUpFragment(_ place: FilterPlace, _ packet: borrowing SimulatedPacket) -> Bool {
        verdict.isCacheable = false
        translating.isAsked = true
        guard let name = fragmentName(packet), let tuple = state.fragment(name, zone: place.device) else {
            return false
        }
        translating.tuple = tuple
        translating.match = state.translation(tuple, zone: place.device)
        return translating.match != nil
    }

    mutating func fragmentName(_ packet: borrowing SimulatedPacket) -> FragmentName? {
        let network = Int(layout.network)
        let count = packet.bytes.byteCount
        guard layout.networkLength > 0, count >= network + 20 else { return nil }
        let bytes = packet.bytes
        func byte(_ at: Int) -> UInt32 { UInt32(bytes.unsafeLoad(fromByteOffset: at, as: UInt8.self)) }
        var id: UInt32?
        if key.etherType == EtherType.ipv4 {
            id = byte(network + 4) << 8 | byte(network + 5)
        } else {
            var at = network + 40
            var next = byte(network + 6)
            while at + 8 <= count, id == nil {
                switch UInt8(next) {
                case IPProtocol.fragment:
                    id = byte(at + 4) << 24 | byte(at + 5) << 16 | byte(at + 6) << 8 | byte(at + 7)
                case 0, 43, 60: (next, at) = (byte(at), at + (Int(byte(at + 1)) + 1) * 8)
                default: return nil
                }
            }
        }
        return id.map {
            FragmentName(source: key.ipSource, destination: key.ipDestination, ipProtocol: key.ipProtocol, id: $0)
        }
    }
}
