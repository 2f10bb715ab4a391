// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// What a lab has for the world beyond uplinks.
extension LabPlan {
    /// A server somewhere, and routers of others on the way there.
    public struct Outside: Sendable, Equatable {
        /// Addresses of the server.
        public var addresses: [InterfaceAddress] = []
        /// Routers by name.
        public var routers: [String: Router] = [:]

        /// The server's autonomous system (RFC 5398).
        public static let system: UInt32 = 64500
        /// Networks by which server and routers know each other: the server is the last of each, routers are in their order.
        public static let exchange = [
            InterfaceAddress(IPAddress(IPv4Address(bits: 0x647f_0000)), length: 24),
            InterfaceAddress(IPAddress(high: 0xfd00_5e1f_0000_00ff, low: 0, family: .ipv6), length: 64),
        ]

        /// Names of what is there.
        public var names: [String] { ["outside"] + routers.keys.sorted() }

        /// Nothing outside.
        public init() {}
    }

    /// A router of somebody else's.
    public struct Router: Sendable, Equatable {
        /// The program that speaks BGP for it.
        public enum Daemon: String, Sendable, CaseIterable {
            /// BIRD 2.
            case bird
            /// FRRouting.
            case frr
            /// GoBGP, with BIRD to tell the kernel what it decides.
            case gobgp
        }

        /// What speaks for it.
        public var daemon = Daemon.bird
        /// Its autonomous system.
        public var system: UInt32
        /// Its addresses by the uplink on the other end of each cable.
        public var links: [PortPath: [InterfaceAddress]] = [:]

        /// A router without cables.
        public init(system: UInt32) { self.system = system }
    }

    /// What the server is called among machines.
    public static let outside = PortPath(device: DevicePath(tenant: "lab", name: "outside"), name: "server")
}

extension LabPlan.Outside {
    /// The address of a router, or of the server, in the networks between them.
    ///
    /// - Parameter place: of the router among all in order of name; `nil`: the server's.
    public func exchangeAddresses(_ place: Int?) -> [InterfaceAddress] {
        let number = UInt64(place.map { $0 + 1 } ?? 254)
        return Self.exchange.map { network in
            let base = network.address
            return InterfaceAddress(
                base.family == .ipv4
                    ? IPAddress(IPv4Address(bits: UInt32(base.high >> 32) | UInt32(number)))
                    : IPAddress(high: base.high, low: number, family: .ipv6), length: network.length)
        }
    }
}

extension ManifestReader {
    /// `outside` of a lab.
    mutating func readOutside(_ node: Node, _ plan: inout LabPlan) {
        var outside = LabPlan.Outside()
        for field in yaml.entries(node, "lab outside", known: ["address", "routers"]) {
            if field.key == "address" {
                outside.addresses = addresses(field.value, "lab outside")
                continue
            }
            for entry in yaml.entries(field.value, "lab outside") where yaml.name(entry.key, entry.node, "router") {
                if (plan.hosts + plan.fabric).contains(entry.key) || entry.key == "outside" {
                    yaml.mistake(entry.node, entry.key, "is the name of a host or router", "choose another")
                } else if let router = readOutsideRouter(entry.key, entry.value) {
                    outside.routers[entry.key] = router
                }
            }
        }
        plan.outside = outside
    }

    private mutating func readOutsideRouter(_ name: String, _ node: Node) -> LabPlan.Router? {
        var (daemon, system): (LabPlan.Router.Daemon?, UInt32?) = (.bird, nil)
        var links: [PortPath: [InterfaceAddress]] = [:]
        for field in yaml.entries(node, name, known: ["daemon", "as", "links"]) {
            switch field.key {
            case "daemon":
                daemon = yaml.text(field.value, name, "daemon").flatMap { LabPlan.Router.Daemon(rawValue: $0) }
                if daemon == nil { yaml.mistake(field.value, name, "has no such daemon", "use bird, frr or gobgp") }
            case "as":
                system = yaml.text(field.value, name, "as").flatMap { UInt32($0) }.flatMap {
                    BGPSpeaker.isSystem($0) ? $0 : nil
                }
            default:
                for link in yaml.entries(field.value, name) {
                    guard let path = PortPath(link.key), let port = topology.ports[path], port.kind == .router,
                        case .exterior = port.attachment
                    else {
                        yaml.mistake(link.node, name, "\(link.key) is no uplink", "name a router's port that is bound")
                        continue
                    }
                    links[path] = addresses(link.value, name)
                }
            }
        }
        guard let system else {
            yaml.mistake(node, name, "has no autonomous system", "write as: 65100")
            return nil
        }
        var router = LabPlan.Router(system: system)
        router.daemon = daemon ?? .bird
        router.links = links
        return router
    }
}
