// SPDX-License-Identifier: Apache-2.0
import Wire

/// That a bridge's port leads to VXLAN end points of others (RFC 7348): switches or hosts whose addresses are known, each of which
/// knows this host's. What is for all goes to each of them; where a station is they learn from what it sends, as this host does.
public struct VXLANEnd: Sendable, Hashable {
    /// The network's identifier, 24 bits.
    public var identifier: UInt32
    /// The other end points. They reach each other without us.
    public var remotes: [IPv4Address]
    /// This host's address for them; `nil`: its own for tunnels.
    public var local: IPv4Address?
    /// Who tells of the other end points instead; `nil`: they are known.
    public var speaker: EVPNSpeaker?
    /// UDP port, here and there.
    public var port: UInt16 = VXLAN.port

    /// End points of a network.
    public init(identifier: UInt32, remotes: [IPv4Address]) {
        (self.identifier, self.remotes) = (identifier, remotes.sorted { $0.bits < $1.bits })
    }

    /// Other end points of a network, at most.
    public static let mostRemotes = 256
}

/// As people write and read it, the same in manifests, JSON and tables.
extension VXLANEnd {
    /// What may be said of it.
    public static let fieldNames = ["vni", "vteps", "as", "peers", "local", "udp"]

    /// What is said, field by field.
    public var fields: [(name: String, values: [String])] {
        var list = [("vni", ["\(identifier)"])]
        if speaker == nil || !remotes.isEmpty { list.append(("vteps", remotes.map(\.description))) }
        if let speaker {
            list.append(("as", ["\(speaker.system)"]))
            list.append(("peers", speaker.peers.map(speaker.text)))
        }
        if let local { list.append(("local", ["\(local)"])) }
        if port != VXLAN.port { list.append(("udp", ["\(port)"])) }
        return list.map { (name: $0.0, values: $0.1) }
    }

    /// Reads what ``fields`` writes.
    public init(reading fields: [(name: String, values: [String])]) throws(RuleMistake) {
        self.init(identifier: 0, remotes: [])
        if let said = fields.first(where: { $0.name == "as" }) {
            speaker = EVPNSpeaker(system: try FieldValues(name: "as", values: said.values).system())
        }
        for (name, values) in fields {
            let field = FieldValues(name: name, values: values)
            switch name {
            case "vni":
                identifier = try field.one("1 to 16777215") { UInt32($0).flatMap { 1...0xff_ffff ~= $0 ? $0 : nil } }
            case "vteps":
                var found: Set<IPv4Address> = []
                for value in values {
                    guard let address = IPv4Address(value) else {
                        throw RuleMistake(field: name, reason: "names \(value)", remedy: "use IPv4 addresses")
                    }
                    found.insert(address)
                }
                remotes = found.sorted { $0.bits < $1.bits }
            case "as": break
            case "peers":
                guard let known = speaker else {
                    throw RuleMistake(
                        field: name, reason: "is said, and no system", remedy: "say this host's: as: 65000")
                }
                var found: [EVPNSpeaker.Peer] = []
                for value in values {
                    guard let peer = known.peer(reading: value) else {
                        throw RuleMistake(
                            field: name, reason: "names \(value)",
                            remedy: "use IPv4 addresses, with their system where it is another: 192.0.2.4 as 65004")
                    }
                    if found.contains(where: { $0.address == peer.address }) {
                        throw RuleMistake(
                            field: name, reason: "names \(peer.address) twice", remedy: "leave one of them out")
                    }
                    found.append(peer)
                }
                speaker?.peers = found.sorted { $0.address.bits < $1.address.bits }
            case "local": local = try field.one("an IPv4 address") { IPv4Address($0) }
            case "udp": port = try field.one("1 to 65535") { UInt16($0).flatMap { $0 > 0 ? $0 : nil } }
            default:
                throw RuleMistake(
                    field: name, reason: "is not known of VXLAN end points",
                    remedy: "use \(VXLANEnd.fieldNames.joined(separator: ", "))")
            }
        }
        if identifier == 0 {
            throw RuleMistake(field: "vni", reason: "is not said", remedy: "say the network's identifier: vni: 5000")
        }
    }
}

extension PortPath {
    /// The interface on the host that leads to VXLAN end points of others.
    public var vxlanInterface: String {
        let digits = String(stableHash("vxlan \(self)") & 0xff_ffff_ffff, radix: 16)
        return "selx" + String(repeating: "0", count: 10 - digits.count) + digits
    }
}

extension Topology {
    /// This host's address for the end points that a port leads to, said or the first that it has for tunnels.
    public func vxlanLocal(of port: Port) -> IPv4Address? {
        guard let end = port.vxlan, case .exterior(let host, _) = port.attachment else { return nil }
        let own = hosts[host]?.tunnelAddresses ?? [:]
        return end.local ?? own.keys.sorted().lazy.compactMap { own[$0]?.v4 }.first
    }

    /// Bytes of layer 3 that fit through the VXLAN that a port leads to.
    public func vxlanMTU(of port: Port) -> Int? {
        guard port.vxlan != nil, case .exterior(let host, _) = port.attachment else { return nil }
        let own = hosts[host]?.tunnelAddresses ?? [:]
        let local = vxlanLocal(of: port).map { IPAddress($0) }
        let zone = own.keys.sorted().first { own[$0] == local } ?? own.keys.sorted().first { own[$0]?.v4 != nil }
        return (zone.flatMap { zones[$0]?.underlayMTU } ?? 1500) - 20 - 8 - VXLAN.headerLength - 14
    }
}

/// What can be wrong with it.
extension Topology {
    func checkVXLAN(of port: Port, _ found: inout [Problem]) {
        guard let end = port.vxlan else { return }
        func problem(_ reason: String, _ remedy: String) {
            found.append(Problem("\(port.path) vxlan", reason, remedy: remedy))
        }
        guard port.kind == .bridge || end.speaker != nil else {
            return problem("is of a router's port", "put it at a port of a bridge, or say as and peers")
        }
        guard case .exterior(let host, let interface) = port.attachment, interface == port.path.vxlanInterface else {
            return problem("is of a port that is bound otherwise", "say host, and leave interface and peer out")
        }
        checkEVPN(of: port, on: host, problem)
        if end.remotes.isEmpty, end.speaker == nil {
            problem("names no end points", "say vteps: [192.0.2.50], or as and peers")
        }
        if end.remotes.count > VXLANEnd.mostRemotes {
            problem("names \(end.remotes.count) end points", "use \(VXLANEnd.mostRemotes) at most")
        }
        if let local = vxlanLocal(of: port), end.remotes.contains(local) {
            problem("names \(local), which is this host's own address", "name the others only")
        }
        for remote in end.remotes where !remote.isHost { problem("names \(remote), which is no host", "correct it") }
        if let local = end.local, !local.isHost { problem("has local \(local), which is no host", "correct it") }
        if port.kind == .bridge, !port.addresses.isEmpty {
            problem("is of a port with addresses", "a network has no address: remove them")
        }
        // One port of the host's is for one of the two: who reads it can't tell them apart.
        let own = hosts[host]?.tunnelAddresses.keys.contains { zones[$0]?.encapsulation == .vxlan } ?? false
        if own, end.port == VXLAN.port {
            problem(
                "needs UDP port \(end.port) of host \(host), whose tunnels have it",
                "use tunnel: gre, or udp: with another port that the others know")
        }
        if end.local == nil, !(hosts[host]?.tunnelAddresses.values.contains { $0.v4 != nil } ?? false) {
            problem("has no address on host \(host)", "say local, or give the host one for tunnels")
        }
        for other in ports.bound(to: host).values.joined() where other < port.path {
            guard let theirs = ports[other]?.vxlan else { continue }
            if theirs.identifier == end.identifier, theirs.port == end.port {
                problem(
                    "has vni \(end.identifier) on host \(host), as \(other) has", "use another, or one port for both")
            }
        }
    }
}

extension IPv4Address {
    /// Whether it can be the address of one host.
    fileprivate var isHost: Bool { !isMulticast && bits >> 24 != 127 && bits >> 24 != 0 && !isBroadcast }
}
