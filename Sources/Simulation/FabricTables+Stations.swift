// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Where each declared MAC and address is, seen from every bridge of its segment.
extension FabricTables {
    /// A (bridge, VLAN) from which a frame can reach a station.
    private struct Place: Hashable {
        var bridge: Int32
        var vlan: UInt16
    }

    /// Adds what is declared at a bridge port to the tables. A name that is taken stays with who has it.
    mutating func addStation(_ index: Int32) {
        guard let owner = owner(at: index) else { return }
        let mac = ports[Int(owner)].mac
        let names = addresses(of: owner)
        for (place, via) in places(of: index) {
            if station(place.bridge, place.vlan, mac) < 0 {
                stations.insert(
                    .init(hash: Self.hash(place.bridge, mac), vlan: place.vlan, port: via, owner: owner))
            }
            // A router that only answers for an address leaves it to who has it, whichever came first.
            for address in names where declared(place.bridge, place.vlan, address) == nil {
                neighbors.insert(
                    .init(hash: Self.hash(place.bridge, address), vlan: place.vlan, port: via, owner: owner))
            }
            for address in answered(by: owner) {
                answered.insert(
                    .init(hash: Self.hash(place.bridge, address), vlan: place.vlan, port: via, owner: owner))
            }
        }
    }

    /// Takes what was declared at a bridge port out of the tables.
    ///
    /// - Parameter old: the tables when it was declared.
    mutating func removeStation(_ index: Int32, of old: FabricTables) {
        guard let owner = old.owner(at: index) else { return }
        let mac = old.ports[Int(owner)].mac
        for (place, via) in old.places(of: index) {
            stations.remove(Self.hash(place.bridge, mac), place.vlan) { $0.port == via && $0.owner == owner }
            for address in old.addresses(of: owner) {
                neighbors.remove(Self.hash(place.bridge, address), place.vlan) { $0.port == via && $0.owner == owner }
            }
            for address in old.answered(by: owner) {
                answered.remove(Self.hash(place.bridge, address), place.vlan) { $0.port == via && $0.owner == owner }
            }
        }
    }

    /// The port of a bridge that leads to a declared MAC, -1 when it is not declared.
    @inline(__always)
    func station(_ bridge: Int32, _ vlan: UInt16, _ mac: MACAddress) -> Int32 {
        stations.first(Self.hash(bridge, mac), vlan) { slot in
            ports[Int(slot.port)].device == bridge && ports[Int(slot.owner)].mac == mac
        }?.port ?? -1
    }

    /// The declared neighbor of an address: a machine or router that has it, or else a router that answers for it.
    @inline(__always)
    func neighbor(_ bridge: Int32, _ vlan: UInt16, _ address: IPAddress) -> Neighbor? {
        var found = declared(bridge, vlan, address)
        if found == nil, answered.count > 0 {
            found = answered.least(Self.hash(bridge, address), vlan, by: { ports[Int($0.owner)].tag.bits }) { slot in
                ports[Int(slot.port)].device == bridge && isAnswered(address, by: slot.owner)
            }
        }
        guard let found else { return nil }
        return Neighbor(port: found.port, mac: ports[Int(found.owner)].mac, owner: found.owner)
    }

    /// Who has an address.
    @inline(__always)
    private func declared(_ bridge: Int32, _ vlan: UInt16, _ address: IPAddress) -> StationTable.Slot? {
        neighbors.first(Self.hash(bridge, address), vlan) { slot in
            ports[Int(slot.port)].device == bridge && isAddress(address, of: slot.owner)
        }
    }

    @inline(__always)
    private static func hash(_ bridge: Int32, _ mac: MACAddress) -> UInt32 {
        UInt32(
            truncatingIfNeeded: mix(
                mac.bits ^ 0x9e37_79b9_7f4a_7c15, UInt64(UInt32(bitPattern: bridge)) << 16 ^ 0xe703_7ed1_a0b4_28db))
    }

    @inline(__always)
    private static func hash(_ bridge: Int32, _ address: IPAddress) -> UInt32 {
        UInt32(
            truncatingIfNeeded: mix(
                mix(address.high ^ UInt64(UInt32(bitPattern: bridge)), 0x9e37_79b9_7f4a_7c15),
                address.low ^ 0xe703_7ed1_a0b4_28db))
    }

    /// Who is declared at a bridge port: the router port behind a link, else the machine behind the port. A link to another
    /// bridge has none, and what is behind a trunk sits in VLANs that the declaration does not tell: it is learned.
    private func owner(at index: Int32) -> Int32? {
        let port = ports[Int(index)]
        guard !port.isRouter, port.device >= 0, port.vlanKind == .access else { return nil }
        guard port.attachment == .peer else { return index }
        return ports[Int(port.peer)].isRouter ? port.peer : nil
    }

    /// Who is declared on a bridge, and on those that links join to it, as seen from the bridge: each one's VLAN, and its port. Ports of segments, which
    /// nobody is at, are left out.
    func stations(seenFrom bridge: Int32) -> [(vlan: UInt16, owner: Int32)] {
        var found: [(vlan: UInt16, owner: Int32)] = []
        var near: Set<Int32> = [bridge]
        var queue = [bridge]
        while let next = queue.popLast() {
            for index in portsOfBridge[Int(next)] where !ports[Int(index)].isShared {
                if let owner = owner(at: index) {
                    for (place, _) in places(of: index) where place.bridge == bridge {
                        found.append((place.vlan, owner))
                    }
                }
            }
            for link in linksOfBridge[next] ?? [] {
                let far = ports[Int(ports[Int(link)].peer)].device
                if far >= 0, near.insert(far).inserted { queue.append(far) }
            }
        }
        return found
    }

    private func addresses(of owner: Int32) -> [IPAddress] {
        let port = ports[Int(owner)]
        var list = (0..<Int(port.addressCount)).map { addresses[Int(port.addressStart) + $0].address }
        if port.isRouter { list.append(IPAddress(IPv6Address.linkLocal(for: port.mac))) }
        return list
    }

    @inline(__always)
    private func isAddress(_ address: IPAddress, of owner: Int32) -> Bool {
        let port = ports[Int(owner)]
        for offset in 0..<Int(port.addressCount)
        where addresses[Int(port.addressStart) + offset].address == address { return true }
        return port.isRouter && address == IPAddress(IPv6Address.linkLocal(for: port.mac))
    }

    /// What a router port answers for besides its own addresses.
    private func answered(by owner: Int32) -> [IPAddress] {
        let port = ports[Int(owner)]
        guard port.isRouter, let all = answeredByRouter[port.device] else { return [] }
        return all.filter { isOnLink($0, port) }
    }

    private func isAnswered(_ address: IPAddress, by owner: Int32) -> Bool {
        let port = ports[Int(owner)]
        return port.isRouter && answeredByRouter[port.device]?.contains(address) == true && isOnLink(address, port)
    }

    private func isOnLink(_ address: IPAddress, _ port: PortRecord) -> Bool {
        (0..<Int(port.addressCount)).contains { addresses[Int(port.addressStart) + $0].network.contains(address) }
    }

    /// Every (bridge, VLAN) from which a frame can reach a port, with the port that leads towards it.
    private func places(of index: Int32) -> [(place: Place, via: Int32)] {
        let first = Place(bridge: ports[Int(index)].device, vlan: ports[Int(index)].vlan)
        guard linksOfBridge[first.bridge] != nil else { return [(first, index)] }
        var list: [(place: Place, via: Int32)] = []
        var seen: Set<Place> = []
        var queue = [(first, index)]
        while let (place, via) = queue.popLast() {
            guard seen.insert(place).inserted else { continue }
            list.append((place, via))
            for next in linksOfBridge[place.bridge] ?? [] where next != via {
                let link = ports[Int(next)]
                guard carries(link, place.vlan) else { continue }
                let far = ports[Int(link.peer)]
                let tag = link.vlanKind == .trunk && link.vlan != place.vlan ? place.vlan : 0
                let beyond: UInt16
                switch far.vlanKind {
                case .access:
                    guard tag == 0 else { continue }
                    beyond = far.vlan
                case .trunk:
                    beyond = tag == 0 ? far.vlan : tag
                    guard beyond != PortRecord.noVLAN, carries(far, beyond) else { continue }
                }
                queue.append((Place(bridge: far.device, vlan: beyond), link.peer))
            }
        }
        return list
    }

    private func carries(_ port: PortRecord, _ vlan: UInt16) -> Bool {
        guard port.vlanKind == .trunk else { return port.vlan == vlan }
        if port.vlan == vlan { return true }
        if vlan == 0 { return false }
        if port.trunkSet < 0 { return true }
        return trunkSets[Int(port.trunkSet) + Int(vlan) / 64] >> UInt64(vlan % 64) & 1 == 1
    }
}
