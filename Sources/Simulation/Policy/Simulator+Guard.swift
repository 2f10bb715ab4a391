// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a machine in security groups may say of itself, asked where its packets come in: whose frames they are, whose
/// addresses, and that it is no router and gives no addresses unless it is let.
extension Simulator {
    /// Whether a packet of a port's machine is what the machine may say. Otherwise it is dropped.
    mutating func passesGuard(_ port: PortRecord, at index: Int32, _ packet: borrowing SimulatedPacket) -> Bool {
        verdict.mask.include(.etherSource)
        verdict.mask.include(.etherType)
        if key.etherSource != port.mac, !isAllowed(port, key.etherSource) { return refuse(.spoofedMAC, index) }
        // Tagged frames are of networks whose addresses the topology does not tell.
        verdict.mask.bits.words[8] |= UInt64(0x1000) << 48
        if key.hasVLAN { return true }
        let hasAddresses = port.addressCount + port.allowedCount > 0
        switch key.etherType {
        case EtherType.arp:
            guard hasAddresses else { return true }
            // ARP becomes no flow. A probe for an address says none of its own (RFC 5227).
            verdict.isCacheable = false
            let sender = key.ipSource
            let isProbe = sender.high == 0
            if key.arpSource != key.etherSource || !isProbe && !owns(port, sender, key.etherSource) {
                return refuse(.spoofedAddress, index)
            }
            return true
        case EtherType.ipv4: return guardIPv4(port, index, hasAddresses)
        case EtherType.ipv6: return guardIPv6(port, index, hasAddresses)
        default: return true
        }
    }

    private mutating func guardIPv4(_ port: PortRecord, _ index: Int32, _ hasAddresses: Bool) -> Bool {
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        let isUDP = key.ipProtocol == IPProtocol.udp && key.ipFragment != FragmentKind.later
        if isUDP {
            verdict.mask.include(.sourcePort)
            if key.sourcePort == 67 { return refuse(.rogueServer, index) }
        }
        guard hasAddresses else { return true }
        if readSource(port) { return true }
        // Who has no address yet asks for one (RFC 2131 section 4.1).
        if isUDP, key.sourcePort == 68 {
            verdict.mask.include(.destinationPort)
            verdict.mask.includeSource(prefix: 32)
            if key.ipSource.high == 0, key.destinationPort == 67 { return true }
        }
        return refuse(.spoofedAddress, index)
    }

    private mutating func guardIPv6(_ port: PortRecord, _ index: Int32, _ hasAddresses: Bool) -> Bool {
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        let isWhole = key.ipFragment != FragmentKind.later
        if key.ipProtocol == IPProtocol.udp, isWhole {
            verdict.mask.include(.sourcePort)
            if key.sourcePort == 547 { return refuse(.rogueServer, index) }
        }
        let isICMP = key.ipProtocol == IPProtocol.icmpv6 && isWhole
        if isICMP {
            verdict.mask.include(.sourcePort)
            // Machines are no routers (RFC 6105).
            if key.sourcePort == UInt16(ICMPv6.routerAdvertisement) || key.sourcePort == 137 {
                return refuse(.rogueServer, index)
            }
        }
        guard hasAddresses else { return true }
        let source = key.ipSource
        if isICMP, key.sourcePort == UInt16(ICMPv6.neighborAdvertisement) {
            verdict.isCacheable = false
            let target = IPAddress(key.ndTarget)
            guard target.v6?.isLinkLocal == true || owns(port, target, key.etherSource) else {
                return refuse(.spoofedAddress, index)
            }
        }
        // Addresses are tried out before they are had (RFC 4862 section 5.4).
        if source.v6?.isLinkLocal == true || isICMP && source.v6?.isUnspecified == true {
            verdict.mask.includeSource(prefix: 128)
            return true
        }
        if readSource(port) { return true }
        // What was told apart above.
        verdict.mask.includeSource(prefix: isICMP && source.high >> 48 == 0 ? 128 : 16)
        return refuse(.spoofedAddress, index)
    }

    /// Whether a packet's source is one that the port's machine may have, read in as many bits as that takes: a flood from
    /// addresses that are others' makes few flows.
    private mutating func readSource(_ port: PortRecord) -> Bool {
        let source = key.ipSource
        let width = source.family.width
        var bits = 0
        func differs(_ address: IPAddress) -> Int {
            address.family == source.family ? address.commonPrefix(source) + 1 : 0
        }
        if key.etherSource == port.mac {
            for offset in 0..<Int(port.addressCount) {
                let address = fabric.addresses[Int(port.addressStart) + offset].address
                if address == source {
                    verdict.mask.includeSource(prefix: width)
                    return true
                }
                bits = max(bits, differs(address))
            }
        }
        for offset in 0..<Int(port.allowedCount) {
            let allowed = fabric.tables.allowed[Int(port.allowedStart) + offset]
            guard allowed.mac ?? port.mac == key.etherSource else { continue }
            if allowed.prefix.contains(source) {
                verdict.mask.includeSource(prefix: max(bits, allowed.prefix.length))
                return true
            }
            bits = max(bits, differs(allowed.prefix.address))
        }
        verdict.mask.includeSource(prefix: rounded(min(bits, width), width))
        return false
    }

    private mutating func isAllowed(_ port: PortRecord, _ mac: MACAddress) -> Bool {
        (0..<Int(port.allowedCount)).contains { fabric.tables.allowed[Int(port.allowedStart) + $0].mac == mac }
    }

    /// Whether a port's machine may send from an address with a MAC.
    private mutating func owns(_ port: PortRecord, _ address: IPAddress, _ mac: MACAddress) -> Bool {
        if mac == port.mac {
            for offset in 0..<Int(port.addressCount)
            where fabric.addresses[Int(port.addressStart) + offset].address == address { return true }
        }
        for offset in 0..<Int(port.allowedCount) {
            let allowed = fabric.tables.allowed[Int(port.allowedStart) + offset]
            if allowed.prefix.contains(address), allowed.mac ?? port.mac == mac { return true }
        }
        return false
    }

    private mutating func refuse(_ reason: DropReason, _ index: Int32) -> Bool {
        drop(reason, at: index)
        return false
    }
}
