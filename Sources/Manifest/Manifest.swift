// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A manifest that was read and found right: the topology that it draws, and the lab that it may describe.
public struct Manifest: Sendable {
    /// File name as given.
    public var file: String
    /// What it draws. Revision 0, tunnel keys assigned.
    public var topology: Topology
    /// The `lab` part; `nil` when the file has none.
    public var lab: LabPlan?
    /// Tenants that the file draws.
    public var tenants: Set<String> = []
    /// Hosts and zones that the file says something about.
    public var others: Set<ObjectKey> = []
}

/// The `lab` part of a manifest: machines to put behind the ports, and what is expected of them.
public struct LabPlan: Sendable, Equatable {
    /// Hosts to make, in order.
    public var hosts: [String] = []
    /// Routers between hosts; none: hosts are on switches.
    public var fabric: [String] = []
    /// Machines by the port that they are behind.
    public var machines: [PortPath: Machine] = [:]
    /// The world beyond uplinks; `nil`: there is none.
    public var outside: Outside?
    /// Networks outside that ports of bridges lead to.
    public var lans: [String: LAN] = [:]
    /// Who reaches whom.
    public var expectations: [Expectation] = []

    /// Tunnel zones of a lab, at most.
    public static let mostZones = 3
    /// Routers of ``fabric``, at most.
    public static let mostRouters = 4

    /// A lab of nothing.
    public init() {}

    /// A machine: a network namespace with one interface.
    public struct Machine: Sendable, Equatable {
        /// The host that it runs on.
        public var host: String
        /// The host's interface for it.
        public var interface: String
        /// Its MAC.
        public var mac: MACAddress
        /// Its addresses on the untagged network.
        public var addresses: [InterfaceAddress] = []
        /// Its addresses in VLANs, for machines behind trunks.
        public var vlans: [UInt16: [InterfaceAddress]] = [:]
        /// Its default gateways, one a family at most.
        public var gateways: [IPAddress] = []
        /// Whether the topology is told of its MAC and addresses; otherwise they have to be learned.
        public var isDeclared = true
        /// Its second port, where it is a wire between two: what comes by the one goes out of the other.
        public var wire: Wire?

        /// The other end of a wire.
        public struct Wire: Sendable, Equatable {
            /// The port.
            public var port: PortPath
            /// The host's interface for it.
            public var interface: String
        }
        /// The host's interfaces for it.
        public var interfaces: [String] { [interface] + (wire.map { [$0.interface] } ?? []) }
    }
}

/// Something that the lab checks.
public struct Expectation: Sendable, Hashable, CustomStringConvertible {
    /// What is sent.
    public enum Probe: Sendable, Hashable, CustomStringConvertible {
        /// An echo request.
        case icmp
        /// A connection to a port.
        case tcp(UInt16)
        /// A datagram to a port, and one back.
        case udp(UInt16)

        /// As in a manifest.
        public var description: String {
            switch self {
            case .icmp: "icmp"
            case .tcp(let port): "tcp \(port)"
            case .udp(let port): "udp \(port)"
            }
        }

        /// The packet that tries it, as `selvage trace` takes it.
        public func packet(to address: IPAddress) -> String {
            let host = address.family == .ipv6 ? "[\(address)]" : "\(address)"
            return switch self {
            case .icmp: "icmp to \(address)"
            case .tcp(let port): "tcp to \(host):\(port)"
            case .udp(let port): "udp to \(host):\(port)"
            }
        }
    }
    /// Who is to be reached.
    public enum Target: Sendable, Hashable, CustomStringConvertible {
        /// A machine, at its first address.
        case machine(PortPath)
        /// An address.
        case address(IPAddress)

        /// As in a manifest.
        public var description: String {
            switch self {
            case .machine(let path): path.description
            case .address(let address): address.description
            }
        }
    }

    /// Who begins.
    public var from: PortPath
    /// Who is to be reached.
    public var to: Target
    /// With what.
    public var probe: Probe
    /// In which family, where the target has both.
    public var family: AddressFamily?
    /// Whether it must work, or must not.
    public var reaches: Bool
    /// The machine that answers in an address's place, behind a translation.
    public var answerer: PortPath?
    /// The port that the machine listens on, where that is another than the one that is asked.
    public var listening: UInt16?
    /// The address that whoever answers must see.
    public var seenAs: IPAddress?

    /// As in a manifest.
    public var description: String {
        let from = LabPlan.name(of: from)
        return "\(from) \(reaches ? "reaches" : "cannot reach") \(to)"
            + (probe == .icmp ? "" : " \(probe)") + (family.map { $0 == .ipv4 ? " ipv4" : " ipv6" } ?? "")
            + (answerer.map {
                " at \(LabPlan.name(of: $0))" + (listening.map { " \($0)" } ?? "")
            } ?? "")
            + (seenAs.map { " as \($0)" } ?? "")
    }
}

/// Everything that is wrong with a manifest, at once.
public struct ManifestError: Error, Sendable, CustomStringConvertible {
    /// One mistake.
    public struct Item: Sendable, Equatable {
        /// Line, from 1; 0 when the mistake has no place.
        public var line: Int
        /// Column, from 1.
        public var column: Int
        /// The object, by its path.
        public var object: String
        /// What is wrong.
        public var reason: String
        /// What to do.
        public var remedy: String
    }

    /// File name as given.
    public var file: String
    /// The mistakes, in order of place.
    public var items: [Item]

    /// `file:line:column: object: reason`, the remedy beneath, and the count at the end.
    public var description: String {
        var text = ""
        for item in items {
            text += item.line > 0 ? "\(file):\(item.line):\(item.column): " : "\(file): "
            text += item.object.isEmpty ? item.reason : "\(item.object): \(item.reason)"
            text += "\n    \(item.remedy)\n"
        }
        return text + (items.count == 1 ? "1 error." : "\(items.count) errors.")
    }
}

/// Bounds of a manifest.
public enum ManifestLimits {
    /// Bytes that are read at most.
    public static let bytes = 4 << 20
    /// YAML nodes that are looked at, so that aliases of aliases come to an end.
    public static let nodes = 500_000
    /// Mistakes that are told at once.
    public static let mistakes = 50
}
